//! The access log: one line for each response, which programs can read and clients cannot forge.

use serde_json::Value;

use crate::support::{Board, Signal, eventually};

/// A client that tries to end the field.
const HOSTILE: &str = "a\"b\\c \u{e9}";

/// The line of the request with this id or text in it.
fn line(board: &Board, text: &str) -> String {
    let mut found = None;
    eventually("the request is logged", || {
        found = board.service.access_log().into_iter().find(|line| line.contains(text));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn there_is_none_by_default() {
    let board = Board::with(&[("LOG_LEVEL", "trace")]);
    board.get("/");
    board.service.signal(Signal::TERM);
    assert_eq!(board.service.wait(), 0);
    assert_eq!(board.service.access_log(), Vec::<String>::new());
}

#[test]
fn a_combined_line_has_the_client_the_request_and_the_response() {
    let board = Board::with(&[("ACCESS_LOG", "combined"), ("TRUSTED_PROXIES", "127.0.0.1")]);
    let headers = [("X-Forwarded-For", "192.0.2.7"), ("Referer", "https://example.org/"), ("User-Agent", "a browser")];
    for (method, path, status) in [
        ("GET", "/messages?limit=1", "200 "),
        ("HEAD", "/livez", "200 - "),
        ("GET", "/no-such-page?a=b", "404 "),
        ("DELETE", "/livez", "405 "),
    ] {
        board.service.ask(method, path, &headers, b"");
        let line = line(&board, &format!("\"{method} {path} HTTP/1.1\""));
        let (start, end) = line.split_once(&format!("] \"{method} {path} HTTP/1.1\" {status}")).unwrap_or_else(|| {
            panic!("{line}");
        });
        assert!(start.starts_with("192.0.2.7 - - [") && start.ends_with(" +0000"), "{line}");
        assert!(end.ends_with("\"https://example.org/\" \"a browser\""), "{line}");
    }
}

#[test]
fn no_header_can_forge_a_combined_line() {
    let board = Board::with(&[("ACCESS_LOG", "combined")]);
    board.service.ask("GET", "/livez?forged", &[("User-Agent", HOSTILE), ("Referer", "\" 200 1")], b"");
    let line = line(&board, "/livez?forged");
    assert!(line.ends_with(r#""\" 200 1" "a\"b\\c \xc3\xa9""#), "{line}");
}

#[test]
fn a_json_line_is_one_object_also_for_bytes_that_are_no_request() {
    let board = Board::with(&[("ACCESS_LOG", "json")]);
    let headers = [("X-Request-Id", "find-me"), ("User-Agent", HOSTILE)];
    board.service.ask("GET", "/no-such-page?a=b", &headers, b"");
    board.service.connect().send("no request\r\n\r\n");
    let found: Value = serde_json::from_str(&line(&board, "find-me")).unwrap();
    for (field, want) in [
        ("client", Value::from("127.0.0.1")),
        ("method", "GET".into()),
        ("path", "/no-such-page".into()),
        ("query", "a=b".into()),
        ("protocol", "HTTP/1.1".into()),
        ("route", "-".into()),
        ("status", 404.into()),
        ("user_agent", HOSTILE.into()),
        ("referer", Value::Null),
    ] {
        assert_eq!(found[field], want, "{field}: {found}");
    }
    assert!(found["bytes"].as_u64().is_some() && found["duration_us"].as_u64().is_some(), "{found}");
    assert!(found["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{found}");
    let refused: Value = serde_json::from_str(&line(&board, "\"status\":400")).unwrap();
    assert_eq!((&refused["path"], &refused["status"]), (&"".into(), &400.into()));
}

#[test]
fn a_request_that_never_ends_keeps_its_name_and_its_line() {
    let settings = [("ACCESS_LOG", "combined"), ("TRUSTED_PROXIES", "127.0.0.1"), ("REQUEST_TIMEOUT", "300ms")];
    let board = Board::with(&settings);
    let mut connection = board.service.connect();
    connection.send(
        "POST /messages HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-1\r\nX-Forwarded-For: 192.0.2.7\r\n\
         Accept: text/html\r\nContent-Length: 9\r\n\r\nmess",
    );
    let answer = connection.answer();
    assert_eq!((answer.status, answer.header("X-Request-Id")), (408, Some("mine-1")));
    assert!(answer.header("Content-Type").is_some_and(|value| value.starts_with("text/html")), "{answer:?}");
    let line = line(&board, "\"POST /messages HTTP/1.1\" 408 ");
    assert!(line.starts_with("192.0.2.7 "), "{line}");
}
