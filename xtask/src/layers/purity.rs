//! Which sources are pure, and what they must not name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::tokens::{Named, paths, test_modules};

/// A directory whose sources are pure but for the files named, each with its reason.
struct Pure {
    directory: &'static str,
    shells: &'static [(&'static str, &'static str)],
}

/// Crates that are pure as a whole.
const PURE: [Pure; 3] = [
    Pure { directory: "crates/bt2c-proto/src", shells: &[] },
    Pure {
        directory: "crates/bt2c-security/src",
        shells: &[
            ("certificate_manager.rs", "makes keys and keeps them in the data directory"),
            ("files.rs", "how the certificate manager reads and writes"),
        ],
    },
    Pure { directory: "crates/bt2c-discovery/src", shells: &[] },
];

/// Crates of a core and a shell. Pure are all files named `core.rs`, all below a directory `core`, and these.
const CORES: [(&str, &[&str]); 2] = [
    ("crates/bt2c-p2p/src", &["manager/contest.rs", "manager/seen.rs", "manager/slots.rs"]),
    (
        "crates/bt2c-sync/src",
        &["chain.rs", "config.rs", "consensus.rs", "event.rs", "import.rs", "pool.rs", "schedule.rs"],
    ),
];

/// What pure code must not name: the start of a path or a word in it, and what that would be.
const FORBIDDEN: [(Rule, &str); 27] = [
    (Rule::Word("tokio"), "a runtime"),
    (Rule::Start("tokio_util::sync"), "a runtime"),
    (Rule::Start("tokio_util::task"), "a runtime"),
    (Rule::Start("tokio_util::time"), "a runtime"),
    (Rule::Word("async"), "a runtime"),
    (Rule::Word("await"), "a runtime"),
    (Rule::Start("std::time::Instant"), "a clock"),
    (Rule::Start("std::time::SystemTime"), "a clock"),
    (Rule::Start("std::time::*"), "a clock"),
    (Rule::Start("Instant::now"), "a clock"),
    (Rule::Start("SystemTime::now"), "a clock"),
    (Rule::Start("rand::rng"), "randomness that nobody handed in"),
    (Rule::Start("rand::random"), "randomness that nobody handed in"),
    (Rule::Word("SysRng"), "randomness that nobody handed in"),
    (Rule::Word("OsRng"), "randomness that nobody handed in"),
    (Rule::Word("ThreadRng"), "randomness that nobody handed in"),
    (Rule::Word("getrandom"), "randomness that nobody handed in"),
    (Rule::Start("std::thread"), "a thread"),
    (Rule::Start("std::fs"), "the file system"),
    (Rule::Start("std::env"), "the environment"),
    (Rule::Start("std::process"), "a process"),
    (Rule::Word("TcpStream"), "a socket"),
    (Rule::Word("TcpListener"), "a socket"),
    (Rule::Word("UdpSocket"), "a socket"),
    (Rule::Word("ToSocketAddrs"), "a name lookup"),
    (Rule::Word("HashMap"), "a map whose order changes from run to run"),
    (Rule::Word("HashSet"), "a set whose order changes from run to run"),
];

#[derive(Debug, Clone, Copy)]
enum Rule {
    /// The path starts with these segments.
    Start(&'static str),
    /// One of the path's segments is this word.
    Word(&'static str),
}

impl Rule {
    fn matches(self, path: &[String]) -> bool {
        match self {
            Self::Word(word) => path.iter().any(|segment| segment == word),
            Self::Start(start) => {
                let start: Vec<_> = start.split("::").collect();
                path.len() >= start.len()
                    && path.iter().zip(start).all(|(segment, expected)| segment == expected)
            }
        }
    }
}

/// Adds what is found in the sources to the violations, and says how many files were read.
pub(super) fn check(root: &Path, violations: &mut Vec<String>) -> Result<usize> {
    let mut scanned = 0;
    for file in pure_files(root)? {
        let source = fs::read_to_string(root.join(&file)).with_context(|| file.display().to_string())?;
        violations.extend(offences(&file.display().to_string(), &source));
        scanned += 1;
    }
    Ok(scanned)
}

/// What a pure source names and must not, one line each.
fn offences(file: &str, source: &str) -> Vec<String> {
    let describe = |Named { line, path }: Named| {
        let (_, what) = FORBIDDEN.iter().find(|(rule, _)| rule.matches(&path))?;
        Some(format!("{file}:{line}: `{}` is {what}; this is a pure source", path.join("::")))
    };
    paths(source).into_iter().filter_map(describe).collect()
}

fn pure_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pure = Vec::new();
    for Pure { directory, shells } in PURE {
        let shells: Vec<_> = shells.iter().map(|(file, _)| Path::new(directory).join(file)).collect();
        exist(root, &shells)?;
        pure.extend(sources(root, Path::new(directory))?.into_iter().filter(|file| !shells.contains(file)));
    }
    for (directory, named) in CORES {
        let named: Vec<_> = named.iter().map(|file| Path::new(directory).join(file)).collect();
        exist(root, &named)?;
        let in_core = |file: &PathBuf| {
            let inside = file.strip_prefix(directory).unwrap_or(file);
            inside.ends_with("core.rs") || inside.components().any(|part| part.as_os_str() == "core")
        };
        let found = sources(root, Path::new(directory))?
            .into_iter()
            .filter(|file| in_core(file) || named.contains(file));
        let found: Vec<_> = found.collect();
        ensure!(
            !found.is_empty(),
            "{directory} has no core: the table in xtask/src/layers/purity.rs is out of date"
        );
        pure.extend(found);
    }
    Ok(pure)
}

fn exist(root: &Path, files: &[PathBuf]) -> Result<()> {
    for file in files {
        let file = file.display();
        ensure!(root.join(file.to_string()).exists(), "{file} is gone: correct xtask/src/layers/purity.rs");
    }
    Ok(())
}

/// All sources below a directory, in order, without those that exist in tests only.
fn sources(root: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(root.join(directory)).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let path = directory.join(entry?.file_name());
        if root.join(&path).is_dir() {
            files.extend(sources(root, &path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    let mut tests = Vec::new();
    for file in &files {
        let source = fs::read_to_string(root.join(file))?;
        let home = module_directory(file);
        tests.extend(test_modules(&source).into_iter().map(|name| home.join(name)));
    }
    // `tests.rs`, and whatever that file keeps below `tests/`.
    files.retain(|file| {
        !tests.iter().any(|test| *file == test.with_extension("rs") || file.starts_with(test))
    });
    files.sort();
    Ok(files)
}

/// Where the modules are that a file declares.
fn module_directory(file: &Path) -> PathBuf {
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|root| file.ends_with(root));
    if is_root { file.parent().unwrap_or(file).to_owned() } else { file.with_extension("") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_violation_of_each_kind_is_found_where_it_is() {
        for planted in [
            "use tokio::sync::mpsc;",
            "use tokio_util::{codec::Decoder, sync::CancellationToken};",
            "async fn f() {}",
            "use std::time::{Duration, Instant};",
            "let t = std::time::SystemTime::now();",
            "use std::time::*;",
            "let x = rand::rng();",
            "use std::{collections::BTreeMap, thread};",
            "std::fs::read(path)",
            "let s: std::net::TcpStream;",
            "use std::collections::HashMap;",
            "use std::collections::{BTreeSet, hash_map::Entry, HashSet};",
        ] {
            let found = offences("core.rs", &format!("//! Pure.\n\n{planted}\n"));
            assert_eq!(found.len(), 1, "{planted}: {found:?}");
            assert!(found[0].starts_with("core.rs:3: `"), "{found:?}");
        }
    }

    #[test]
    fn what_pure_code_may_name_is_not_taken_for_a_violation() {
        let source = "
            //! No tokio, no std::fs.
            use std::{collections::BTreeMap, net::{IpAddr, SocketAddr}, time::Duration};
            use tokio_util::codec::{Decoder, Encoder};
            use rand::{RngExt, SeedableRng, seq::index};
            impl Clock for Ticks { type Instant = Duration; }
            const VERSION: &str = env!(\"CARGO_PKG_VERSION\");
            #[cfg(test)]
            mod tests { use std::fs; }
        ";
        assert_eq!(offences("core.rs", source), Vec::<String>::new());
    }

    #[test]
    fn shells_and_tests_are_left_out_and_cores_are_not() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let files: Vec<_> =
            pure_files(&root).unwrap().iter().map(|file| file.display().to_string()).collect();
        let has = |file: &str| files.iter().any(|path| path == file);
        assert!(has("crates/bt2c-p2p/src/manager/core.rs") && has("crates/bt2c-sync/src/core.rs"));
        assert!(has("crates/bt2c-sync/src/core/fetch.rs") && has("crates/bt2c-discovery/src/dial.rs"));
        assert!(!has("crates/bt2c-p2p/src/manager/actor.rs"));
        assert!(!has("crates/bt2c-security/src/certificate_manager.rs"));
        assert!(
            !has("crates/bt2c-discovery/src/discovery/model.rs")
                && !has("crates/bt2c-sync/src/core/tests.rs")
        );
    }
}
