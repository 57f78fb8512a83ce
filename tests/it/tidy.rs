//! The repository's own rules: who may name what, and that the README says what the code says.

use std::fs;
use std::path::{Path, PathBuf};

use twotier::config::SETTINGS;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join("src"), &mut found);
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// Lines of a table in the README whose first cell is a name in backticks.
fn table_rows(readme: &str) -> Vec<Vec<String>> {
    let rows = readme.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

#[test]
fn the_readmes_settings_are_those_of_the_code() {
    let readme = read("README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with("Settings")).unwrap();
    let rows = table_rows(section);
    for setting in SETTINGS {
        let row = rows.iter().find(|row| row[0].contains(&format!("`{}`", setting.name)));
        let row = row.unwrap_or_else(|| panic!("{} is not in the README's table", setting.name));
        if !setting.default.is_empty() {
            assert!(
                row[1].contains(&format!("`{}`", setting.default)),
                "{}'s default is {}",
                setting.name,
                setting.default
            );
        }
    }
    let names = rows.iter().flat_map(|row| row[0].split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    let screaming = |name: &String| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    for name in names.filter(screaming) {
        assert!(SETTINGS.iter().any(|setting| setting.name == name), "{name} is in the README and not in the code");
    }
}

#[test]
fn every_dependency_earns_its_place_in_the_readme() {
    let (manifest, readme) = (read("Cargo.toml"), read("README.md"));
    let section = manifest.split("[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    for name in section.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name) {
        assert!(readme.contains(&format!("| `{name}` |")), "{name} has no line in the README");
    }
}

#[test]
fn the_version_is_in_the_changelog() {
    assert!(read("CHANGELOG.md").contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn modules_keep_to_their_own() {
    let only = |what: &str, places: &[&str]| {
        for (name, source) in sources() {
            let code = source.split("#[cfg(test)]").next().unwrap();
            let uses = code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(what));
            assert!(!uses || places.iter().any(|place| name.starts_with(place)), "{name} names {what}");
        }
    };
    only("mysql::", &["src/store/"]);
    only("SELECT ", &["src/store/"]);
    only("tiny_http", &["src/http/", "src/board/route.rs"]);
    only("epoll::", &["src/http/poll.rs"]);
    only("httparse", &["src/http/"]);
    only("env::var", &["src/config/"]);
    only("env::args", &["src/main.rs"]);
    only("<p", &["src/page.rs"]);
    only("unsafe ", &["src/http/poll.rs", "src/store/socket.rs"]);
    only("crate::board", &["src/board/", "src/app.rs"]);
    only("crate::config", &["src/config/", "src/app.rs", "src/check.rs"]);
    only("process::exit", &[]);
}

#[test]
fn every_file_opens_with_what_it_owns() {
    for (name, source) in sources() {
        assert!(source.starts_with("//! "), "{name}");
    }
}
