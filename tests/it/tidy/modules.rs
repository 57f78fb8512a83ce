//! Which module may use which module, crate and power.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, sources};
use super::{assert_same, dependencies};

/// Each module below `src` with the modules that it uses. A module uses only what stands above it.
const LAYERS: &[(&str, &[&str])] = &[
    ("retry", &[]),
    ("lifecycle", &[]),
    ("metrics", &["lifecycle"]),
    ("outage_log", &[]),
    ("message", &[]),
    ("idempotency_key", &[]),
    ("line_queue", &["metrics"]),
    ("logging", &["line_queue"]),
    ("batch_queue", &["metrics"]),
    ("http", &["line_queue", "logging", "metrics"]),
    ("store", &["idempotency_key", "lifecycle", "message", "metrics", "outage_log", "retry"]),
    ("page", &["message"]),
    (
        "board",
        &[
            "batch_queue",
            "http",
            "idempotency_key",
            "lifecycle",
            "logging",
            "message",
            "metrics",
            "outage_log",
            "page",
            "store",
        ],
    ),
    ("config", &["http", "logging", "message", "store"]),
    ("check", &["config", "store"]),
    ("app", &["board", "config", "http", "lifecycle", "outage_log", "store"]),
    ("main", &["app", "check", "config", "logging"]),
];

/// Each dependency with the places that may name it.
const CRATES: &[(&str, &[&str])] = &[
    ("governor", &["src/board/rate_limit.rs"]),
    ("httparse", &["src/http/"]),
    ("httpdate", &["src/http/response.rs"]),
    ("ipnet", &["src/board/", "src/config/", "src/http/"]),
    ("log", &["src/"]),
    ("mysql", &["src/store/"]),
    ("percent_encoding", &["src/board/", "src/config/"]),
    ("prometheus", &["src/batch_queue.rs", "src/board/route.rs", "src/metrics.rs", "src/metrics/"]),
    ("rustix", &["src/app.rs", "src/http/", "src/store/connection.rs"]),
    ("serde", &["src/board/", "src/http/access_log.rs", "src/logging.rs"]),
    ("serde_json", &["src/board/", "src/http/access_log.rs", "src/logging.rs"]),
    ("serde_urlencoded", &["src/board/input.rs"]),
    ("sha2", &["src/board/", "src/idempotency_key.rs", "src/page/asset.rs"]),
    ("signal_hook", &["src/app.rs"]),
    ("simplelog", &["src/logging.rs"]),
    ("socket2", &["src/http/", "src/store/"]),
    ("strsim", &["src/config/misspelt.rs", "src/main.rs"]),
    ("thiserror", &["src/store/"]),
    ("time", &["src/http/access_log.rs", "src/logging.rs"]),
    ("tiny_http", &["src/http/", "src/board/route.rs"]),
    ("url", &["src/board/", "src/config/"]),
    ("uuid", &["src/idempotency_key.rs"]),
];

/// What else stands in one place only.
const POWERS: &[(&str, &[&str])] = &[
    ("unsafe", &["src/http/poll.rs", "src/store/connection.rs"]),
    ("env::var", &["src/config/"]),
    ("env::var_os", &["src/config/"]),
    ("env::vars", &["src/config/"]),
    ("env::vars_os", &["src/config/"]),
    ("env::args", &["src/main.rs"]),
    ("env::args_os", &["src/main.rs"]),
    ("process::exit", &[]),
    ("process::abort", &[]),
];

const MAX_FILE_LINES: usize = 300;
const MAX_FUNCTION_LINES: usize = 60;

/// What SQL looks like in a literal, whatever its case.
const SQL: &[&str] = &[
    "select ",
    "insert into",
    "insert ignore",
    "delete from",
    "update messages",
    "create table",
    "alter table",
    "set names",
    "set session",
    "show create",
    "show grants",
];

const HTML: &[&str] =
    &["</", "<!", "<a ", "<p>", "<p ", "<li", "<br", "<div", "<span", "<form", "<input", "<h1", "<h2", "<time"];

#[test]
fn modules_use_only_the_layers_below_them() {
    let arrows = arrows(&sources());
    let arrows: BTreeSet<(String, String)> = arrows.into_iter().map(|(from, to)| (top(&from), top(&to))).collect();
    let mut faults = Vec::new();
    for (at, (name, uses)) in LAYERS.iter().enumerate() {
        for used in *uses {
            if !LAYERS[..at].iter().any(|(name, _)| name == used) {
                faults.push(format!("{used} must stand above {name} in LAYERS"));
            }
        }
    }
    for source in sources().iter().filter(|source| !source.module().is_empty()) {
        if !LAYERS.iter().any(|(layer, _)| *layer == source.module()[0]) {
            faults.push(format!("{} has no layer", source.path));
        }
    }
    for (from, to) in arrows.iter().filter(|(from, to)| from != to) {
        if !LAYERS.iter().any(|(layer, uses)| layer == from && uses.contains(&to.as_str())) {
            faults.push(format!("{from} must not use {to}"));
        }
    }
    none(&faults);
}

#[test]
fn no_row_of_these_tables_is_stale() {
    let sources = sources();
    let arrows = arrows(&sources);
    let mut faults = Vec::new();
    for (name, uses) in LAYERS {
        let unused =
            uses.iter().filter(|used| !arrows.iter().any(|(from, to)| top(from) == *name && top(to) == **used));
        faults.extend(unused.map(|used| format!("{name} does not use {used} any more: remove it from LAYERS")));
    }
    for (name, places) in CRATES {
        let is_used = |place: &str| sources.iter().any(|s| s.path.starts_with(place) && uses_crate(s, name));
        let unused = places.iter().filter(|place| !is_used(place));
        faults.extend(unused.map(|place| format!("{place} does not name {name} any more: remove it from CRATES")));
    }
    none(&faults);
}

#[test]
fn no_file_uses_a_file_that_uses_it() {
    let arrows = arrows(&sources());
    let mut faults = Vec::new();
    for group in cycles(&arrows) {
        let files: Vec<&str> = group.split(", ").collect();
        let inside = arrows.iter().filter(|(from, to)| files.contains(&from.as_str()) && files.contains(&to.as_str()));
        let inside: Vec<String> = inside.map(|(from, to)| format!("{from} -> {to}")).collect();
        faults.push(format!("these files use each other: {}", inside.join("; ")));
    }
    none(&faults);
}

#[test]
fn each_crate_is_named_only_where_it_belongs() {
    let names: Vec<String> = CRATES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let wanted: Vec<String> = dependencies().iter().map(|name| name.replace('-', "_")).collect();
    assert_same("CRATES", &names, "Cargo.toml", &wanted);
    let sources = sources();
    let mut faults = Vec::new();
    for (name, places) in CRATES {
        let users = sources.iter().filter(|source| uses_crate(source, name));
        let strangers = users.filter(|user| !places.iter().any(|place| user.path.starts_with(place)));
        faults.extend(strangers.map(|user| format!("{} names {name}", user.path)));
    }
    none(&faults);
}

#[test]
fn each_power_is_used_only_where_it_belongs() {
    let mut faults = Vec::new();
    for source in sources() {
        for (what, places) in POWERS {
            if source.names(what) && !places.iter().any(|place| source.path.starts_with(place)) {
                faults.push(format!("{} names {what}", source.path));
            }
        }
    }
    none(&faults);
}

#[test]
fn only_the_store_has_sql_and_only_the_page_has_html() {
    let mut faults = Vec::new();
    for source in sources() {
        for literal in &source.strings {
            let lower = literal.to_ascii_lowercase();
            if !source.path.starts_with("src/store/") && SQL.iter().any(|sql| lower.contains(sql)) {
                faults.push(format!("{}: SQL in {literal:?}", source.path));
            }
            if !source.path.starts_with("src/page") && HTML.iter().any(|html| lower.contains(html)) {
                faults.push(format!("{}: HTML in {literal:?}", source.path));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_file_opens_with_what_it_owns_and_stays_small() {
    let mut faults = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            faults.push(format!("{} must open with //!", source.path));
        }
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > MAX_FILE_LINES {
            faults.push(format!("{} has {lines} lines of production code", source.path));
        }
        let long = source.functions().into_iter().filter(|(_, lines)| *lines > MAX_FUNCTION_LINES);
        faults.extend(long.map(|(name, lines)| format!("{}: {name} has {lines} lines", source.path)));
    }
    none(&faults);
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(
        faults.is_empty(),
        "
{}
",
        faults.join(
            "
"
        )
    );
}

fn top(module: &str) -> String {
    module.split("::").next().unwrap_or_default().to_owned()
}

/// Whether a path begins with the crate's name, as in `use log::info` and `mysql::Conn`.
fn uses_crate(source: &Source, name: &str) -> bool {
    let tokens = source.tokens();
    let begins = |at: usize| at == 0 || tokens[at - 1] != "::" && tokens[at - 1] != ".";
    (0..tokens.len().saturating_sub(1)).any(|at| {
        let in_use = at > 0 && tokens[at - 1] == "use" && tokens[at + 1] == ";";
        tokens[at] == name && begins(at) && (tokens[at + 1] == "::" || in_use)
    })
}

/// Which file uses which file, as `http::server` and the like. Declarations and re-exports of a folder's own files do not
/// count: a re-exported name leads to the file that defines it.
fn arrows(sources: &[Source]) -> BTreeSet<(String, String)> {
    let modules: BTreeSet<Vec<String>> = sources.iter().map(Source::module).collect();
    let mut exports: BTreeMap<(Vec<String>, String), Vec<String>> = BTreeMap::new();
    for source in sources {
        for import in imports(&source.tokens()).into_iter().filter(|import| import.exported) {
            if let Some(path) = absolute(&modules, &source.module(), &import.path) {
                exports.insert((source.module(), import.name), path);
            }
        }
    }
    let mut arrows = BTreeSet::new();
    for source in sources {
        let from = source.module();
        let mut paths: Vec<Vec<String>> = Vec::new();
        for import in imports(&source.tokens()) {
            let path = absolute(&modules, &from, &import.path).unwrap_or_default();
            // A folder exports its own files without using them.
            if !(import.exported && path.starts_with(&from)) {
                paths.push(path);
            }
        }
        paths.extend(inline_paths(&source.tokens()).iter().filter_map(|path| absolute(&modules, &from, path)));
        for path in paths {
            let to = owner(&modules, &exports, &path);
            if !to.is_empty() && to != from {
                arrows.insert((from.join("::"), to.join("::")));
            }
        }
    }
    arrows
}

struct Import {
    path: Vec<String>,
    /// The name that it has here.
    name: String,
    exported: bool,
}

/// All names that the `use` declarations bring in.
fn imports(tokens: &[&str]) -> Vec<Import> {
    let mut imports = Vec::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at] == "use") {
        let end = at + tokens[at..].iter().position(|token| *token == ";").unwrap_or(1);
        let exported = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
        tree(&tokens[at + 1..end], &[], exported, &mut imports);
    }
    imports
}

fn tree(tokens: &[&str], prefix: &[String], exported: bool, imports: &mut Vec<Import>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at] {
            "::" => {}
            "{" => {
                let (mut depth, mut start) = (0, at + 1);
                for (end, token) in tokens.iter().enumerate().skip(at) {
                    match *token {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 || depth == 1 && *token == "," {
                        tree(&tokens[start..end], &path, exported, imports);
                        start = end + 1;
                    }
                    if depth == 0 {
                        break;
                    }
                }
                return;
            }
            "as" => {
                let name = tokens.get(at + 1).map_or_else(String::new, |name| (*name).to_owned());
                imports.push(Import { path, name, exported });
                return;
            }
            "self" if at > 0 || !prefix.is_empty() => {}
            word => path.push(word.to_owned()),
        }
        at += 1;
    }
    if !tokens.is_empty() {
        imports.push(Import { name: path.last().cloned().unwrap_or_default(), path, exported });
    }
}

/// All paths that the code names outside of `use`, like `crate::metrics::METRICS`.
fn inline_paths(tokens: &[&str]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at + 1 < tokens.len() {
        if tokens[at] == "use" {
            at += tokens[at..].iter().position(|token| *token == ";").unwrap_or(1);
        } else if tokens[at + 1] == "::" {
            let mut path = vec![tokens[at].to_owned()];
            while tokens.get(at + 1) == Some(&"::") && at + 2 < tokens.len() {
                path.push(tokens[at + 2].to_owned());
                at += 2;
            }
            paths.push(path);
        }
        at += 1;
    }
    paths
}

/// The path from the root of the crate, or nothing for other crates and for types.
fn absolute(modules: &BTreeSet<Vec<String>>, from: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = from.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" | "twotier" => (base, rest) = (Vec::new(), &path[1..]),
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|word| word == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        child => {
            base.push(child.to_owned());
            if !modules.contains(&base) {
                return None;
            }
            rest = &path[1..];
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// The module that defines what a path from the root names.
fn owner(
    modules: &BTreeSet<Vec<String>>,
    exports: &BTreeMap<(Vec<String>, String), Vec<String>>,
    path: &[String],
) -> Vec<String> {
    let length = (0..=path.len()).rev().find(|length| modules.contains(&path[..*length])).unwrap_or_default();
    let (module, rest) = path.split_at(length);
    match rest.first().and_then(|name| exports.get(&(module.to_vec(), name.clone()))) {
        Some(exported) if exported != path => owner(modules, exports, &[exported.clone(), rest[1..].to_vec()].concat()),
        Some(_) | None => module.to_vec(),
    }
}

/// The groups of files that use each other, directly or through others.
fn cycles(arrows: &BTreeSet<(String, String)>) -> Vec<String> {
    let mut reached = arrows.clone();
    loop {
        let further = reached.iter().flat_map(|(from, to)| {
            arrows.iter().filter(move |(next, _)| next == to).map(|(_, end)| (from.clone(), end.clone()))
        });
        let further: Vec<(String, String)> = further.filter(|arrow| !reached.contains(arrow)).collect();
        if further.is_empty() {
            break;
        }
        reached.extend(further);
    }
    let mutual = reached.iter().filter(|(from, to)| from <= to && reached.contains(&(to.clone(), from.clone())));
    let mut groups: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for (from, to) in mutual {
        let first = groups.iter().find(|(_, group)| group.contains(from)).map_or(from, |(first, _)| *first);
        groups.entry(first).or_default().extend([from, to]);
    }
    groups.values().map(|group| group.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")).collect()
}

#[test]
fn arrows_are_found_through_super_re_exports_and_inline_paths() {
    let sources = [
        Source::new("src/lib.rs", "pub mod a; mod b;"),
        Source::new("src/a/mod.rs", "mod x; mod y; pub use x::{X, X2 as Z}; pub struct A; fn f() { y::g() }"),
        Source::new("src/a/x.rs", "use super::A; #[cfg(test)] use crate::b::B; fn f() { crate::b::B::new() }"),
        Source::new("src/a/y.rs", "use {super::Z, std::fmt}; use super::x as other;"),
        Source::new("src/b.rs", "fn f(x: crate::a::X) { String::new() }"),
    ];
    let found: Vec<String> = arrows(&sources).iter().map(|(from, to)| format!("{from} -> {to}")).collect();
    assert_eq!(found, ["a -> a::y", "a::x -> a", "a::x -> b", "a::y -> a::x", "b -> a::x"]);
    assert_eq!(cycles(&arrows(&sources)), ["a, a::x, a::y, b"]);
}
