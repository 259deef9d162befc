//! `cargo xtask layers`: the architecture, proved from the manifests and the sources.
//!
//! - The six crates stand in one order, and a crate depends only on those below it, tests included. Nothing depends on
//!   `xtask` or `tests`.
//! - No layer turns on the feature `simulation` or `fuzzing` of another: a node cannot be built with switches for its
//!   defences, nor with doors into its cores.
//! - Pure crates, and the cores of the others, name no runtime, clock, thread, file, socket, process, randomness of
//!   their own, or map whose order changes from run to run. Comments, strings and tests may.
//!
//! Sources are read as tokens, not compiled: what a macro from elsewhere expands to is not seen. The lints in
//! `clippy.toml` catch calls in any disguise; this check also catches types and imports.

mod purity;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The crates, bottom to top.
const ORDER: [&str; 6] =
    ["bt2c-proto", "bt2c-security", "bt2c-discovery", "bt2c-p2p", "bt2c-sync", "bt2c-node"];

/// Members that stand above all layers.
const ABOVE: [&str; 3] = ["xtask", "bt2c-tests", "bt2c-fuzz"];

/// Crates that are pure as a whole.
const PURE_CRATES: [&str; 3] = ["bt2c-proto", "bt2c-security", "bt2c-discovery"];

/// What a pure crate must not even depend on, outside its tests.
const RUNTIMES: [&str; 5] = ["tokio", "tokio-rustls", "axum", "ureq", "tracing-subscriber"];

/// Checks everything and prints what does not hold.
///
/// # Errors
/// The number of violations, each of which was printed, or what kept the check from running.
pub fn run(root: &Path) -> Result<()> {
    let metadata = metadata(root)?;
    let mut violations = arrows(&metadata.packages);
    violations.extend(special(&metadata.packages));
    let scanned = purity::check(root, &mut violations)?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    if !violations.is_empty() {
        bail!("the layering does not hold: {} violations", violations.len());
    }
    println!("{} crates in order, {scanned} pure source files", ORDER.len());
    Ok(())
}

/// What `cargo metadata` tells of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    packages: Vec<Package>,
    pub(crate) target_directory: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for an ordinary one.
    kind: Option<String>,
    #[serde(default)]
    features: Vec<String>,
}

/// Asks cargo, without touching a registry.
pub(crate) fn metadata(root: &Path) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("reading what cargo metadata says")
}

/// The features that no node is built with: under one defences can be switched off, under the other cores are open.
const SPECIAL: [&str; 2] = ["simulation", "fuzzing"];

/// Every way in which a node could be built with a special feature.
fn special(packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages.iter().filter(|package| ORDER.contains(&package.name.as_str())) {
        let name = &package.name;
        for special in SPECIAL {
            let takes = |other: &&Dependency| other.features.iter().any(|feature| feature == special);
            for other in package.dependencies.iter().filter(takes) {
                let other = &other.name;
                violations.push(format!("{name} takes {other} with {special}: only what stands above may"));
            }
            let leads = |(feature, others): (&String, &Vec<String>)| {
                feature != special && others.iter().any(|other| other.ends_with(special))
            };
            if package.features.iter().any(leads) {
                violations.push(format!("a feature of {name} other than {special} turns that on"));
            }
        }
    }
    violations
}

/// Every arrow between members that does not point down.
fn arrows(packages: &[Package]) -> Vec<String> {
    let members: BTreeSet<_> = packages.iter().map(|package| package.name.as_str()).collect();
    let layer = |name: &str| ORDER.iter().position(|layer| *layer == name);
    let mut violations = Vec::new();
    for name in ORDER.iter().filter(|name| !members.contains(**name)) {
        violations.push(format!("{name} is a layer, but no member of the workspace"));
    }
    for package in packages {
        let name = package.name.as_str();
        let own = layer(name);
        if own.is_none() && !ABOVE.contains(&name) {
            violations
                .push(format!("{name} has no place among the layers: give it one in xtask/src/layers.rs"));
        }
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            let kind = dependency.kind.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            if ABOVE.contains(&other) {
                violations.push(format!("{name} depends on {other}{kind}: nothing may"));
            } else if let (Some(own), Some(below)) = (own, layer(other))
                && own <= below
            {
                violations.push(format!("{name} depends on {other}{kind}: dependencies point down only"));
            }
            if PURE_CRATES.contains(&name) && RUNTIMES.contains(&other) && dependency.kind.is_none() {
                violations.push(format!("{name} is pure, but depends on {other}"));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package { name: name.to_owned(), dependencies: Vec::new(), features: BTreeMap::new() }
    }

    /// A workspace of the six layers, each depending on the one below, and whatever else is planted.
    fn violations(planted: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let mut packages: Vec<_> = ORDER.iter().chain(&ABOVE).map(|name| package(name)).collect();
        let below = ORDER.windows(2).map(|pair| (pair[1], pair[0], None));
        for (name, other, kind) in below.chain(planted.iter().copied()) {
            if !packages.iter().any(|package| package.name == name) {
                packages.push(package(name));
            }
            let package = packages.iter_mut().find(|package| package.name == name).unwrap();
            let kind = kind.map(str::to_owned);
            package.dependencies.push(Dependency { name: other.to_owned(), kind, features: Vec::new() });
        }
        arrows(&packages)
    }

    #[test]
    fn arrows_that_point_down_are_no_violation() {
        let planted = [
            ("bt2c-node", "bt2c-proto", None),
            ("xtask", "bt2c-node", None),
            ("bt2c-tests", "bt2c-node", Some("dev")),
            ("bt2c-proto", "serde", None),
            ("bt2c-security", "tokio", Some("dev")),
        ];
        assert_eq!(violations(&planted), Vec::<String>::new());
    }

    #[test]
    fn an_arrow_that_points_up_is_found_also_among_test_dependencies() {
        assert_eq!(
            violations(&[("bt2c-security", "bt2c-discovery", None), ("bt2c-p2p", "bt2c-sync", Some("dev"))]),
            [
                "bt2c-security depends on bt2c-discovery: dependencies point down only",
                "bt2c-p2p depends on bt2c-sync (dev): dependencies point down only",
            ]
        );
    }

    #[test]
    fn nothing_may_depend_on_what_stands_above() {
        assert_eq!(
            violations(&[("bt2c-tests", "xtask", None)]),
            ["bt2c-tests depends on xtask: nothing may"]
        );
        assert_eq!(violations(&[("bt2c-node", "bt2c-tests", None)]).len(), 1);
    }

    #[test]
    fn a_member_without_a_layer_and_a_layer_without_a_member_are_found() {
        assert_eq!(violations(&[("bt2c-extra", "bt2c-proto", None)]).len(), 1);
        assert_eq!(arrows(&[]).len(), 6);
    }

    #[test]
    fn a_runtime_below_a_pure_crate_is_found() {
        let found = violations(&[("bt2c-discovery", "tokio", None), ("bt2c-p2p", "tokio", None)]);
        assert_eq!(found, ["bt2c-discovery is pure, but depends on tokio"]);
    }

    #[test]
    fn a_layer_that_turns_a_special_feature_on_is_found() {
        let with = |name: &str, features: &[&str]| {
            let features = features.iter().map(|feature| (*feature).to_owned()).collect();
            let dependency = Dependency { name: "bt2c-proto".to_owned(), kind: None, features };
            Package { dependencies: vec![dependency], ..package(name) }
        };
        for feature in SPECIAL {
            assert_eq!(special(&[with("xtask", &[feature]), with("bt2c-p2p", &["other"])]).len(), 0);
            assert_eq!(special(&[with("bt2c-node", &[feature])]).len(), 1);
            let forwarding = |from: &str| {
                let features = [(from.to_owned(), vec![format!("bt2c-proto/{feature}")])].into();
                special(&[Package { features, ..package("bt2c-p2p") }]).len()
            };
            assert_eq!((forwarding(feature), forwarding("default")), (0, 1));
        }
    }

    #[test]
    fn this_workspace_holds() {
        run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    }
}
