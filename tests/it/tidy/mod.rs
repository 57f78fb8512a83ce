//! The repository's own rules: which module may use which, and that the documents say what the code says.

mod documents;
mod examples;
mod markdown;
mod modules;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file, by its path below the top.
#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of all files below a folder whose names end like this, sorted.
fn files(folder: &str, end: &str) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let mut names: Vec<String> = found.iter().map(name).filter(|name| name.ends_with(end)).collect();
    names.sort();
    names
}

/// The names of the dependencies, without those of tests alone.
fn dependencies() -> Vec<String> {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.to_owned()).collect()
}

/// Fails with what is only in one of two sets.
#[track_caller]
fn assert_same<'a>(
    document: &str,
    described: impl IntoIterator<Item = &'a String>,
    code: &str,
    existing: impl IntoIterator<Item = &'a String>,
) {
    let (described, existing): (BTreeSet<&String>, BTreeSet<&String>) =
        (described.into_iter().collect(), existing.into_iter().collect());
    let stale: Vec<_> = described.difference(&existing).collect();
    let missing: Vec<_> = existing.difference(&described).collect();
    assert!(stale.is_empty() && missing.is_empty(), "only in {document}: {stale:?}; only in {code}: {missing:?}");
}
