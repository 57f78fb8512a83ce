//! The description of the API, `/openapi.json`, against the service: its routes, limits, errors, examples and responses.

use std::collections::BTreeSet;

use serde_json::Value;
use twotier::board::input::{DEFAULT_LIMIT, MAX_LIMIT};
use twotier::http::head::{MAX_HEAD, MAX_HEADERS};
use twotier::idempotency_key::MAX_KEY;

use crate::support::Board;

const SOURCE: &str = include_str!("../../src/board/openapi.json");

/// The status and the code of each error that is described, like `404 not_found`.
pub fn error_codes() -> Vec<String> {
    let description: Value = serde_json::from_str(SOURCE).expect("JSON, with its placeholders too");
    let responses = object(&description["components"]["responses"]);
    let problems = responses.filter(|(_, response)| response["content"].get("application/problem+json").is_some());
    let codes = problems.flat_map(|(status, response)| {
        let schema = resolve(&description, &response["content"]["application/problem+json"]["schema"]);
        let own = &schema["allOf"][1]["properties"];
        assert_eq!(own["status"]["const"].to_string(), *status);
        let codes: Vec<String> = strings(&own["code"]["enum"]).map(|code| format!("{status} {code}")).collect();
        codes
    });
    codes.collect()
}

/// The routes that are described, like `GET /messages/{id}`.
pub fn routes() -> BTreeSet<String> {
    let description: Value = serde_json::from_str(SOURCE).expect("JSON");
    operations(&description).map(|(path, method, _)| format!("{} {path}", method.to_uppercase())).collect()
}

fn described(board: &Board) -> Value {
    let answer = board.get("/openapi.json");
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    answer.json()
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn strings(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What a `$ref` leads to.
fn resolve<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => description.pointer(&reference[1..]).unwrap_or_else(|| panic!("no {reference}")),
        None => value,
    }
}

/// The operations as path, method and description.
fn operations(description: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let methods = |(path, item)| object(item).filter(|(name, _)| *name != "parameters").map(move |(m, o)| (path, m, o));
    object(&description["paths"]).flat_map(methods)
}

/// The path with values for its parameters.
fn real_path(board: &Board, path: &str) -> String {
    let page = board.get("/");
    let asset = page.text().split("assets/").nth(1).and_then(|rest| rest.split('"').next()).expect("an asset");
    path.replace("{id}", "1").replace("{name}", asset)
}

#[test]
fn each_route_is_described_with_its_methods_and_nothing_else_is() {
    let board = Board::with(&[("ADMIN_TOKEN", "0123456789abcdef")]);
    let description = described(&board);
    // Every route has a series before its first request.
    let metrics = board.get("/metrics");
    let label = |line: &str, name: &str| Some(line.split_once(&format!("{name}=\""))?.1.split('"').next()?.to_owned());
    let lines = metrics.text().lines().filter(|line| line.starts_with("twotier_http_requests_total{"));
    let series: BTreeSet<String> = lines
        .map(|line| format!("{} {}", label(line, "method").unwrap(), label(line, "route").unwrap()))
        .filter(|route| route.contains('/'))
        .collect();
    assert_eq!(routes(), series);

    for (path, item) in object(&description["paths"]) {
        let methods = object(item).map(|(name, _)| name.to_uppercase()).filter(|name| name != "PARAMETERS");
        let head = item.get("get").map(|_| "HEAD".to_owned());
        let described: BTreeSet<String> = methods.chain(head).chain(["OPTIONS".to_owned()]).collect();
        let options = board.service.ask("OPTIONS", &real_path(&board, path), &[], b"");
        let allowed: BTreeSet<String> = options.header("Allow").expect(path).split(", ").map(str::to_owned).collect();
        assert_eq!(described, allowed, "{path}");
    }
}

#[test]
fn each_operation_has_a_name_of_its_own_and_describes_each_response() {
    let description: Value = serde_json::from_str(SOURCE).unwrap();
    let names: Vec<&str> = operations(&description).filter_map(|(_, _, o)| o["operationId"].as_str()).collect();
    assert_eq!(names.len(), operations(&description).count());
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    for (path, method, operation) in operations(&description) {
        assert!(operation["summary"].is_string(), "{method} {path}");
        for (status, response) in object(&operation["responses"]) {
            let response = resolve(&description, response);
            assert!(response["description"].is_string(), "{method} {path}: {status}");
            assert!(response["headers"].get("X-Request-Id").is_some(), "{method} {path}: {status}");
        }
    }
}

#[test]
fn the_limits_are_those_of_the_code_and_of_the_settings() {
    let board = Board::with(&[("MAX_MESSAGE_CHARS", "123")]);
    let description = described(&board);
    let components = &description["components"];
    assert_eq!(components["schemas"]["MessageText"]["maxLength"], 123);
    assert_eq!(components["schemas"]["Key"]["pattern"], format!("^[!-~]{{1,{MAX_KEY}}}$"));
    let limit = &components["parameters"]["limit"]["schema"];
    assert_eq!((&limit["minimum"], &limit["maximum"]), (&1.into(), &MAX_LIMIT.into()));
    assert_eq!(limit["default"], DEFAULT_LIMIT);
    assert_eq!(components["schemas"]["MessageList"]["properties"]["messages"]["maxItems"], MAX_LIMIT);
    let large = &components["responses"]["431"]["description"];
    let head = format!("larger than {} KiB, or there are more than {MAX_HEADERS} headers", MAX_HEAD / 1024);
    assert!(large.as_str().unwrap().contains(&head), "{large}");
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(board.get("/openapi.json").text().find("{{"), None, "a placeholder is left");
}

#[test]
fn each_read_responds_as_described() {
    let board = Board::with(&[("PUBLIC_URL", "https://board.example/")]);
    assert_eq!(board.service.json("POST", "/messages", &[], "the first").status, 201);
    let description = described(&board);
    for (path, _, operation) in
        operations(&description).filter(|(path, method, _)| *method == "get" && *path != "/events")
    {
        for accept in ["*/*", "text/html"] {
            let answer = board.service.ask("GET", &real_path(&board, path), &[("Accept", accept)], b"");
            let response = resolve(&description, &operation["responses"][answer.status.to_string()]);
            assert_eq!((answer.status, response.is_null()), (200, false), "{path}");
            let sent = answer.header("Content-Type").and_then(|value| value.split(';').next()).expect("a type");
            assert!(response["content"].get(sent).is_some(), "{path}: {sent}");
            for (name, header) in object(&response["headers"]) {
                let is_required = resolve(&description, header)["required"] == true;
                assert!(!is_required || answer.header(name).is_some(), "{path} has no {name}");
            }
        }
    }
}

#[test]
fn each_example_has_the_shape_of_its_schema() {
    let description = described(&Board::start());
    let mut count = 0;
    let mut nodes = vec![&description];
    while let Some(node) = nodes.pop() {
        if let (Some(schema), Some(example)) = (node.get("schema"), node.get("example")) {
            check(&description, schema, example);
            count += 1;
        }
        nodes.extend(object(node).map(|(_, member)| member));
        nodes.extend(node.as_array().into_iter().flatten());
    }
    assert!(count > 40, "{count} examples");
}

/// Fails when `value` has not the shape of `schema`. Patterns and formats are left to `scripts/test-api`.
#[track_caller]
fn check(description: &Value, schema: &Value, value: &Value) {
    let schema = resolve(description, schema);
    let fail = |rule: &str| panic!("{rule} of {schema} is not kept by {value}");
    strings(&schema["required"]).for_each(|name| assert!(value.get(name).is_some(), "no {name} in {value}"));
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(description, part, value);
    }
    for (name, member) in object(value) {
        match schema["properties"].get(name) {
            Some(schema) => check(description, schema, member),
            None if schema["additionalProperties"] == false => fail("additionalProperties"),
            None => {}
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(description, &schema["items"], item);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds: Vec<&str> = strings(&schema["type"]).chain(schema["type"].as_str()).collect();
    let above = |limit: &Value, size: u64| limit.as_u64().is_some_and(|limit| size > limit);
    let size = value.as_u64().or(value.as_str().map(|text| text.chars().count() as u64)).unwrap_or_default();
    match () {
        () if !kinds.is_empty() && !kinds.contains(&kind) => fail("type"),
        () if schema.get("const").is_some_and(|only| only != value) => fail("const"),
        () if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) => fail("enum"),
        () if above(&schema["maximum"], size) || above(&schema["maxLength"], size) => fail("maximum"),
        () if schema["minimum"].as_u64().is_some_and(|limit| size < limit) => fail("minimum"),
        () => {}
    }
}
