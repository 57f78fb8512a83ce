//! The examples of the documents that call the service: each is run, and must print what the document prints.

use std::collections::BTreeSet;
use std::process::Command;

use super::markdown::Document;
use crate::openapi::routes;
use crate::support::Board;

const TOKEN: &str = "0123456789abcdef";

/// A command of a document and what it prints there.
struct Example {
    command: String,
    printed: Vec<String>,
}

/// The `$ curl` commands of a document, in their order.
fn examples(document: &Document) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut is_ours = false;
    for block in document.text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    is_ours = command.starts_with("curl ");
                    if is_ours {
                        examples.push(Example { command: command.to_owned(), printed: Vec::new() });
                    }
                }
                None if is_ours => examples.last_mut().unwrap().printed.push(line.trim_end().to_owned()),
                None => {}
            }
        }
        is_ours = false;
    }
    examples
}

#[test]
fn every_curl_example_prints_what_its_document_prints() {
    for path in ["README.md", "docs/api.md"] {
        let examples = examples(&Document::read(path));
        assert!(!examples.is_empty(), "no examples in {path}");
        let board = Board::with(&[("ADMIN_TOKEN", TOKEN), ("PUBLIC_URL", "http://localhost:5000/")]);
        for example in examples {
            let command = example.command.replace("localhost:5000", &board.service.address.to_string());
            let output = Command::new("bash")
                .args(["-c", &command.replacen("curl ", "curl --silent --show-error ", 1)])
                .env("ADMIN_TOKEN", TOKEN)
                .output()
                .expect("bash and curl, which run the examples");
            assert!(output.status.success(), "{path}: {command}: {}", String::from_utf8_lossy(&output.stderr));
            let printed = String::from_utf8(output.stdout).expect("UTF-8");
            assert_eq!(
                comparable(printed.lines()),
                comparable(example.printed.iter().map(String::as_str)),
                "{path}: {command}"
            );
        }
    }
}

#[test]
fn every_route_has_a_curl_example() {
    let shown: BTreeSet<String> = examples(&Document::read("docs/api.md")).iter().map(route).collect();
    let missing: Vec<String> = routes().into_iter().filter(|route| !shown.contains(route)).collect();
    assert!(missing.is_empty(), "docs/api.md has no curl for {missing:?}");
}

/// The route of an example, like `GET /messages/{id}`.
fn route(example: &Example) -> String {
    let after = |name: &str| example.command.split_once(name).map(|(_, rest)| rest);
    let sends_body = ["--json", "--data"].iter().any(|option| example.command.contains(option));
    let method =
        after("-X ").and_then(|rest| rest.split(' ').next()).unwrap_or(if sends_body { "POST" } else { "GET" });
    let path = after("localhost:5000").and_then(|rest| rest.split([' ', '\'', '"', '?']).next()).unwrap_or_default();
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "messages", _] => format!("{method} /messages/{{id}}"),
        ["", "assets", _] => format!("{method} /assets/{{name}}"),
        _ => format!("{method} {path}"),
    }
}

/// The lines without what differs from run to run: times, the names of requests and of the machine; headers in any order.
fn comparable<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> =
        lines.map(str::trim_end).filter(|line| !line.is_empty()).map(without_variables).collect();
    lines.sort();
    lines
}

fn without_variables(line: &str) -> String {
    for name in ["X-Request-Id", "X-Served-By", "Date"] {
        if line.starts_with(&format!("{name}: ")) {
            return name.to_owned();
        }
    }
    ["\"created_at\":\"", "\"edited_at\":\"", "\"request_id\":\""].iter().fold(line.to_owned(), |line, name| {
        let mut parts = line.split(name);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, rest| text + name + rest.split_once('"').map_or(rest, |(_, after)| after))
    })
}
