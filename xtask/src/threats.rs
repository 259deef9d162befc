//! The page of threats names what shows each defence, and what it names exists.
//!
//! The last column of the tables in `docs/threat-model.md` that have a column *shown by* holds names in backticks: of a test
//! function, of a scenario as `simulate NAME`, or of a step as `ci STEP`. A row names one at least, unless it says "not yet".

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result, ensure};
use clap::{Arg, CommandFactory};

use crate::{Xtask, simulate};

const PAGE: &str = "docs/threat-model.md";

/// Checks the page.
///
/// # Errors
/// Every name that stands for nothing and every row without one, or what kept us from reading the page or the sources.
pub(crate) fn run(root: &Path) -> Result<()> {
    let page = fs::read_to_string(root.join(PAGE)).with_context(|| format!("reading {PAGE}"))?;
    let mut tests = BTreeSet::new();
    for directory in ["crates", "tests", "xtask"] {
        collect(&root.join(directory), &mut tests)?;
    }
    let rows = rows(&page);
    ensure!(!rows.is_empty(), "{PAGE} shows nothing");
    let missing = missing(&rows, |name| exists(name, &tests));
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    Ok(())
}

/// A row of a table: the number of its line, all of it, and its last cell.
type Row<'a> = (usize, &'a str, &'a str);

/// The rows of all tables whose last column is *shown by*.
fn rows(page: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut counts = false;
    for (index, text) in page.lines().enumerate() {
        let Some(cells) = text.strip_prefix('|').and_then(|text| text.strip_suffix('|')) else {
            counts = false;
            continue;
        };
        let last = cells.rsplit('|').next().unwrap_or(cells).trim();
        match last {
            "shown by" => counts = true,
            _ if last.starts_with("---") || !counts => {}
            shown_by => rows.push((index + 1, text, shown_by)),
        }
    }
    rows
}

/// What does not hold of these rows, one line each.
fn missing(rows: &[Row<'_>], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut missing = Vec::new();
    for (line, text, shown_by) in rows {
        // Between two backticks is every second piece.
        let mut names = shown_by.split('`').skip(1).step_by(2).peekable();
        if names.peek().is_none() && !text.to_lowercase().contains("not yet") {
            missing.push(format!("{PAGE}:{line}: names nothing, nor says \"not yet\""));
        }
        let unknown = names.filter(|name| !exists(name));
        missing.extend(unknown.map(|name| format!("{PAGE}:{line}: there is no `{name}`")));
    }
    missing
}

fn exists(name: &str, tests: &BTreeSet<String>) -> bool {
    match name.split_once(' ') {
        Some(("simulate", scenario)) => simulate::scenario(scenario).is_some(),
        Some(("ci", step)) => is_step(step),
        Some(_) => false,
        None => tests.contains(name),
    }
}

/// Whether `cargo xtask ci --skip` knows that step.
fn is_step(name: &str) -> bool {
    let xtask = Xtask::command();
    let ci = xtask.find_subcommand("ci").expect("there is such a command");
    let steps = ci.get_arguments().flat_map(Arg::get_possible_values);
    steps.into_iter().any(|step| step.get_name() == name)
}

/// Adds the names of all tests in the Rust files below a directory.
fn collect(directory: &Path, names: &mut BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            names.extend(tests_of(&source).map(str::to_owned));
        }
    }
    Ok(())
}

/// The names of the functions that follow a test attribute.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    source.lines().filter_map(move |line| {
        let line = line.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let (before, after) = line.split_once("fn ")?;
        let name = after.split(['(', '<']).next().filter(|_| before.is_empty() || before == "async ")?;
        std::mem::take(&mut is_test).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "| attack | shown by |\n| --- | --- |\n";

    fn found(page: &str) -> Vec<String> {
        let tests = BTreeSet::from(["it_holds".to_owned()]);
        missing(&rows(page), |name| exists(name, &tests))
    }

    #[test]
    fn the_threat_model_names_what_exists() {
        run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    }

    #[test]
    fn names_that_exist_and_rows_that_say_not_yet_are_no_fault() {
        let rows = "| a | `it_holds`, `simulate smoke`, `ci fuzz` |\n| b, not yet: all of it | |\n";
        assert_eq!(found(&format!("{HEAD}{rows}")), [""; 0]);
        assert_eq!(found("| who | can |\n| --- | --- |\n| a peer | `anything` |\n"), [""; 0]);
    }

    #[test]
    fn names_of_nothing_and_rows_without_names_are_found() {
        for name in ["it_broke", "simulate nothing", "ci nothing", "run it_holds"] {
            let missing = found(&format!("{HEAD}| a | `it_holds`, `{name}` |\n"));
            assert_eq!(missing, [format!("{PAGE}:3: there is no `{name}`")]);
        }
        assert_eq!(found(&format!("{HEAD}| a | words |\n")).len(), 1);
    }

    #[test]
    fn only_functions_with_a_test_attribute_count() {
        let source = "#[tokio::test]\n#[cfg(unix)]\nasync fn one() {}\nfn two() {}\n #[test]\n fn three() {}";
        assert_eq!(tests_of(source).collect::<Vec<_>>(), ["one", "three"]);
    }
}
