//! The documents against the code: tables in both directions, links, commands, and the names of files and tests.

use std::collections::{BTreeMap, BTreeSet};

use twotier::config::SETTINGS;

use super::markdown::{Document, code};
use super::source::sources;
use super::{assert_same, dependencies, files, read, root};
use crate::openapi::error_codes;
use crate::support::Board;
use crate::upgrade::{Found, KINDS, Kind};

const README_LINES: usize = 150;
/// Settings whose default depends on another one, with the words for it.
const COMPUTED_DEFAULTS: &[(&str, &str)] = &[("MAX_CONNECTIONS_PER_CLIENT", "a tenth")];

fn documents() -> Vec<Document> {
    let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned);
    top.into_iter().chain(files("docs", ".md")).map(|path| Document::read(&path)).collect()
}

/// The settings of a document with their defaults. A row may have several, like its second cell.
fn settings_of(document: &Document) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for table in document.tables("variable") {
        assert_eq!(table.header[1], "default");
        for row in table.rows {
            let (names, defaults) = (code(&row[0]), code(&row[1]));
            for (at, name) in names.iter().enumerate() {
                let default = defaults.get(at).copied().unwrap_or(if defaults.is_empty() { &row[1] } else { "" });
                assert!(settings.insert((*name).to_owned(), default.to_owned()).is_none(), "{name} is there twice");
            }
        }
    }
    settings
}

#[test]
fn the_settings_are_those_of_the_code_with_their_defaults() {
    let computed = |name: &str| COMPUTED_DEFAULTS.iter().find(|(of, _)| *of == name).map(|(_, words)| *words);
    let existing: Vec<String> =
        SETTINGS.iter().map(|setting| row(setting.name, computed(setting.name).unwrap_or(setting.default))).collect();
    let rows = |path: &str| -> Vec<String> {
        let settings = settings_of(&Document::read(path)).into_iter().map(|(name, default)| row(&name, &default));
        settings.collect()
    };
    assert_same("docs/settings.md", &rows("docs/settings.md"), "SETTINGS", &existing);
    let of_readme = rows("README.md");
    let known = existing.iter().filter(|row| of_readme.contains(row));
    assert_same("README.md", &of_readme, "SETTINGS", known);
}

/// The variables of a section of `.env.example` with their values.
fn section_of_env_example(section: &str) -> Vec<String> {
    let text = read(".env.example");
    let lines = text.split(&format!("# == {section}\n")).nth(1).unwrap().lines();
    let lines = lines.take_while(|line| !line.starts_with("# =="));
    let variables = lines
        .map(|line| line.trim_start_matches('#'))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    variables.filter(|line| line.contains('=')).map(str::to_owned).collect()
}

#[test]
fn env_example_lists_every_setting_and_every_variable_of_the_scripts() {
    let settings: Vec<String> = SETTINGS.iter().map(|setting| row(setting.name, setting.default)).collect();
    let listed = section_of_env_example("Settings of the program");
    let listed = listed.iter();
    assert_same(".env.example", listed, "SETTINGS", &settings);

    let described: Vec<String> = settings_of(&Document::read("docs/containers.md")).into_keys().collect();
    let listed = section_of_env_example("Containers and scripts");
    let names: Vec<String> = listed.iter().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    assert_same("docs/containers.md", &described, ".env.example", &names);
}

fn row(name: &str, default: &str) -> String {
    format!("{name}={default}")
}

#[test]
fn each_dependency_has_its_line() {
    let table = Document::read("docs/design.md").table("crate");
    let names: Vec<String> = table.rows.iter().flat_map(|row| code(&row[0])).map(str::to_owned).collect();
    assert_same("docs/design.md", &names, "Cargo.toml", &dependencies());
    assert!(table.rows.iter().all(|row| !row[1].is_empty()));
}

#[test]
fn the_metrics_are_those_of_the_code_with_their_labels() {
    let table = Document::read("docs/operations.md").table("metric");
    let described: BTreeMap<String, Vec<&str>> = table
        .rows
        .iter()
        .map(|row| (code(&row[0])[0].to_owned(), row[1].split(", ").filter(|label| !label.is_empty()).collect()))
        .collect();
    let source = sources().into_iter().find(|source| source.path == "src/metrics.rs").unwrap();
    let is_name = |text: &&String| text.starts_with("twotier_") || text.starts_with("process_");
    let existing = source.strings.iter().filter(is_name);
    assert_same("docs/operations.md", described.keys(), "src/metrics.rs", existing);

    let board = Board::start();
    board.submit("counted");
    board.get("/");
    let text = board.get("/metrics").text().to_owned();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = sample.split_once('{').unwrap_or((sample.split(' ').next().unwrap(), ""));
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let wanted = described.get(family).or_else(|| described.get(name));
        let wanted = wanted.unwrap_or_else(|| panic!("{sample} is not in docs/operations.md"));
        let labels: BTreeSet<&str> = labels.split("=\"").filter_map(|part| part.rsplit(['"', ',']).next()).collect();
        let labels = labels.into_iter().filter(|l| *l != "le" && !l.starts_with('}') && !l.is_empty());
        assert_eq!(labels.collect::<BTreeSet<_>>(), wanted.iter().copied().collect(), "labels of {sample}");
    }
}

#[test]
fn the_error_codes_are_those_of_the_code_with_their_status() {
    let table = Document::read("docs/api.md").table("status");
    let mut described = Vec::new();
    for row in &table.rows {
        for status in row[0].split(", ") {
            described
                .extend(code(row[1].split(", with").next().unwrap()).iter().map(|code| format!("{status} {code}")));
        }
    }
    // Rows like (404, "Not Found", "not_found").
    let problems = read("src/board/problem.rs");
    let rows = problems.split('(').filter_map(|rest| rest.split(')').next()?.strip_suffix('"'));
    let rows = rows.filter(|row| row.len() > 5 && row[..3].parse::<u16>().is_ok() && row[3..].starts_with(", \""));
    let existing: Vec<String> = rows.map(|row| format!("{} {}", &row[..3], row.rsplit('"').next().unwrap())).collect();
    assert_same("docs/api.md", &described, "src/board/problem.rs", &existing);
    assert_same("src/board/openapi.json", &error_codes(), "src/board/problem.rs", &existing);
}

#[test]
fn the_readme_is_short_and_leads_to_every_document() {
    let readme = Document::read("README.md");
    assert!(readme.text.lines().count() <= README_LINES, "{} lines", readme.text.lines().count());
    for document in documents().iter().filter(|document| document.path != "README.md") {
        let linked = readme.links().iter().any(|link| link.split('#').next() == Some(document.path.as_str()));
        assert!(linked, "the README has no link to {}", document.path);
    }
}

#[test]
fn every_link_leads_somewhere() {
    for document in documents() {
        let folder = document.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in document.links() {
            let (path, anchor) = link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = match (path, path.strip_prefix("../")) {
                ("", _) => document.path.clone(),
                (_, Some(above)) => above.to_owned(),
                (_, None) if folder.is_empty() => path.to_owned(),
                (_, None) => format!("{folder}/{path}"),
            };
            assert!(root().join(&target).is_file(), "{}: {link}: no file {target}", document.path);
            if let Some(anchor) = anchor {
                let anchors = Document::read(&target).anchors();
                assert!(anchors.iter().any(|a| a == anchor), "{}: {link}: no heading in {anchors:?}", document.path);
            }
        }
    }
}

#[test]
fn every_make_target_and_every_file_that_a_document_names_exists() {
    let makefile = read("Makefile");
    let is_target = |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")));
    for document in documents() {
        for code in document.code() {
            for (at, _) in code.match_indices("make ") {
                let mut arguments =
                    code[at + 5..].split_whitespace().take_while(|word| !word.starts_with(['#', '&', '|', ';']));
                let target = arguments.find(|word| !word.starts_with('-') && !word.contains('='));
                let name: String =
                    target.unwrap_or_default().chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                assert!(name.is_empty() || is_target(&name), "{}: make {name}", document.path);
            }
            let words = code.split_whitespace().map(|word| word.trim_end_matches([',', '.', ';', ':', ')']));
            for path in words
                .filter(|word| ["src/", "tests/", "scripts/", "docs/", "fuzz/"].iter().any(|top| word.starts_with(top)))
            {
                let generated = ["fuzz/artifacts", "fuzz/found"].iter().any(|made| path.starts_with(made));
                assert!(generated || root().join(path).exists(), "{}: there is no {path}", document.path);
            }
        }
    }
}

#[test]
fn every_promise_of_security_md_names_tests_that_exist() {
    let tests: BTreeSet<String> = files("src", ".rs")
        .into_iter()
        .chain(files("tests", ".rs"))
        .flat_map(|path| test_names(&read(&path)))
        .collect();
    for row in Document::read("SECURITY.md").table("threat").rows {
        assert!(!code(&row[2]).is_empty(), "no test holds the promise against {}", row[0]);
        let missing: Vec<&str> = code(&row[2]).into_iter().filter(|name| !tests.contains(*name)).collect();
        assert!(missing.is_empty(), "SECURITY.md names {missing:?}, which are no tests");
    }
}

/// The functions that follow a `#[test]`, also inside of `proptest!`.
fn test_names(text: &str) -> Vec<String> {
    let after = text.split("#[test]").skip(1).filter_map(|rest| rest.split_once("fn "));
    after.map(|(_, rest)| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn the_version_is_in_the_changelog() {
    assert!(read("CHANGELOG.md").contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_tour_of_the_code_names_every_module_and_no_other() {
    let sources = sources();
    let modules: BTreeSet<String> = sources.iter().map(|source| source.module().join("::")).collect();
    let tour: String = read("src/lib.rs").lines().filter_map(|line| line.strip_prefix("//!")).collect();
    let named: BTreeSet<&str> = code(&tour).into_iter().map(|name| name.trim_end_matches(']')).collect();
    for module in modules.iter().filter(|module| !module.contains("::") && !module.is_empty() && *module != "main") {
        assert!(named.contains(module.as_str()), "src/lib.rs does not name {module}");
    }
    for name in named.iter().filter(|name| name.contains("::")) {
        assert!(modules.contains(*name), "src/lib.rs names {name}, which is no module");
    }
}

#[test]
fn the_head_of_each_folder_names_its_files() {
    let mut missing = Vec::new();
    for source in sources().iter().filter(|source| source.path.ends_with("/mod.rs")) {
        let head: String = source.text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        let named: Vec<&str> = code(&head).into_iter().map(|name| name.trim_end_matches(']')).collect();
        let folder = source.path.trim_end_matches("mod.rs");
        let names = sources()
            .into_iter()
            .filter_map(|file| Some(file.path.strip_prefix(folder)?.strip_suffix(".rs")?.to_owned()));
        missing.extend(
            names.filter(|name| name != "mod" && !named.contains(&name.as_str())).map(|name| format!("{folder}{name}")),
        );
    }
    assert_eq!(missing, [""; 0], "not named in the mod.rs of the folder");
}

#[test]
fn the_parameters_of_database_url_are_those_of_the_code() {
    let table = Document::read("docs/settings.md").table("parameter");
    let described: Vec<String> =
        table.rows.iter().flat_map(|row| code(&row[0])).map(|name| name.replace('-', "")).collect();
    let source = sources().into_iter().find(|source| source.path == "src/config/database_url.rs").unwrap();
    let ignored = source.text.split("const IGNORED").nth(1).unwrap().split('"').nth(1).unwrap().replace('\\', "");
    let acted_on = source.text.split("match plain.as_str() {").nth(1).unwrap().split("\n        };").next().unwrap();
    // The patterns of the match are the names; what stands to the right of the arrows are values.
    let patterns =
        acted_on.lines().filter(|line| line.starts_with("            \"")).map(|line| line.split("=>").next().unwrap());
    let names = patterns.flat_map(|line| line.split('"').skip(1).step_by(2)).chain(ignored.split_whitespace());
    let existing: BTreeSet<String> = names.map(str::to_owned).collect();
    assert_same("docs/settings.md", &described, "src/config/database_url.rs", &existing);
}

#[test]
fn the_kinds_of_tables_are_those_that_the_tests_of_the_takeover_try() {
    let table = Document::read("docs/operations.md").table("table");
    let described: Vec<String> = table.rows.iter().map(|row| format!("{}: {}", row[0], first_words(&row[1]))).collect();
    let result = |kind: &Kind| if matches!(kind.result, Found::Refused(_)) { "refused" } else { "taken over" };
    let tried: Vec<String> = KINDS.iter().map(|kind| format!("{}: {}", kind.name, result(kind))).collect();
    assert_same("docs/operations.md", &described, "tests/it/upgrade.rs", &tried);
}

#[test]
fn the_kinds_of_dumps_are_those_that_the_tests_of_the_import_try() {
    let table = Document::read("docs/backup.md").table("dump");
    let described: Vec<String> = table
        .rows
        .iter()
        .flat_map(|row| row[0].split("; ").map(|dump| format!("{dump}: {}", first_words(&row[1]))))
        .collect();
    // Each kind is a line like `yield "name", dump, …`; a name that is made of parts counts up to the first of them.
    let mut tried = Vec::new();
    let mut result = "";
    for line in read("scripts/test-import").lines() {
        result = match line {
            "def kinds(board):" | "def moments():" => "imported",
            "def refusals(board):" => "refused",
            _ => result,
        };
        let name = line.trim_start().strip_prefix("yield ").map(|rest| rest.trim_start_matches('f'));
        if let Some(name) = name.and_then(|name| name.strip_prefix('"')).and_then(|name| name.split('"').next()) {
            tried.push(format!("{}: {result}", name.split(" {").next().unwrap_or_default()));
        }
    }
    assert!(tried.len() > 50, "{tried:?}");
    assert_same("docs/backup.md", &described, "scripts/test-import", &tried);
}

/// What a cell says before its first punctuation.
fn first_words(cell: &str) -> &str {
    cell.split([':', ',', '.']).next().unwrap_or_default()
}
