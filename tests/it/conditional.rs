//! Entity tags: what they follow, and 304 for a client that holds a response already.

use serde_json::json;

use crate::support::client::request;
use crate::support::{Answer, Board};

const TOKEN: &str = "0123456789abcdef";
const AUTHORIZATION: (&str, &str) = ("Authorization", "Bearer 0123456789abcdef");

#[track_caller]
fn tag(answer: &Answer) -> String {
    assert_eq!(answer.status, 200);
    let tag = answer.header("ETag").unwrap_or_else(|| panic!("no tag in {:?}", answer.headers));
    let opaque = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("a strong tag");
    assert!(!opaque.is_empty() && opaque.bytes().all(|b| b.is_ascii_alphanumeric()), "{tag}");
    tag.to_owned()
}

/// The answer to a client that holds what `tags` name.
fn again(board: &Board, path: &str, tags: &str) -> Answer {
    board.service.ask("GET", path, &[("If-None-Match", tags)], b"")
}

#[test]
fn what_a_client_holds_is_not_sent_again() {
    let board = Board::start();
    let id = board.submit("first").id();
    board.submit("second");
    let item = format!("/messages/{id}");
    for path in ["/messages", "/messages?limit=1", "/messages?before=99", "/messages?after=0&limit=1", &item] {
        let complete = board.get(path);
        let held = tag(&complete);
        assert_eq!(tag(&board.get(path)), held, "{path} is the same as long as nothing changes");
        assert_eq!(complete.header("Cache-Control"), Some("no-cache"), "{path}");
        for tags in [held.clone(), format!("W/{held}"), format!("\"x\", {held}"), "*".to_owned()] {
            for method in ["GET", "HEAD"] {
                let mut connection = board.service.connect();
                connection.send(request(method, path, &[("If-None-Match", &tags)], b""));
                let answer = connection.try_answer(method == "HEAD").unwrap();
                assert_eq!(answer.status, 304, "{method} {path} {tags}");
                for header in ["ETag", "Cache-Control", "Vary"] {
                    assert_eq!(answer.header(header), complete.header(header), "{header} of {path}");
                }
                for header in ["Content-Length", "Content-Type"] {
                    assert_eq!(answer.header(header), None, "{header} of {path}");
                }
                connection.send(request("GET", "/livez", &[], b""));
                assert_eq!(connection.answer().text(), "alive\n", "no body was in the way: {method} {path}");
            }
        }
        for tags in ["", "\"x\"", held.trim_matches('"'), &held.to_uppercase(), "\"*\""] {
            assert_eq!(again(&board, path, tags).body, complete.body, "{path} {tags:?}");
        }
        let two_lines = [("If-None-Match", "\"x\""), ("If-None-Match", held.as_str())];
        assert_eq!(board.service.ask("GET", path, &two_lines, b"").status, 304, "{path}");
    }
}

#[test]
fn the_page_and_the_json_of_a_message_have_different_tags() {
    let board = Board::with(&[("ADMIN_TOKEN", TOKEN)]);
    let path = format!("/messages/{}", board.submit("first").id());
    let get =
        |accept: &str, tags: &str| board.service.ask("GET", &path, &[("Accept", accept), ("If-None-Match", tags)], b"");
    let (json, page) = (get("application/json", ""), get("text/html", ""));
    assert!(page.text().starts_with("<!doctype html>"));
    assert_ne!(tag(&json), tag(&page));
    for (accept, own, other) in [("application/json", tag(&json), tag(&page)), ("text/html", tag(&page), tag(&json))] {
        let held = get(accept, &own);
        assert_eq!((held.status, held.header("Vary"), held.header("ETag")), (304, Some("Accept"), Some(own.as_str())));
        let sent = get(accept, &other);
        assert_eq!(
            (sent.status, sent.header("Vary"), sent.header("Cache-Control")),
            (200, Some("Accept"), Some("no-cache"))
        );
        assert_eq!(sent.header("Allow"), Some("GET, HEAD, PUT, DELETE, OPTIONS"));
        assert_eq!(get(accept, &format!("{other}, {own}")).status, 304, "a cache that keeps both");
    }
    assert_eq!(board.service.json("PUT", &path, &[AUTHORIZATION], "second").status, 200);
    assert!(get("text/html", &tag(&page)).text().contains("second"));
}

#[test]
fn each_change_of_a_message_changes_its_tag_and_that_of_its_lists() {
    let board = Board::with(&[("ADMIN_TOKEN", TOKEN)]);
    let id = board.submit("first").id();
    let item = format!("/messages/{id}");
    let mut held = (tag(&board.get(&item)), tag(&board.get("/messages")));
    let changes: [&dyn Fn(); 3] = [
        &|| assert_eq!(board.service.json("PUT", &item, &[AUTHORIZATION], "second").status, 200),
        &|| assert_eq!(board.service.json("PUT", &item, &[AUTHORIZATION], "second").status, 200, "a new time"),
        &|| board.schema.run("UPDATE messages SET message = 'by SQL'"),
    ];
    for change in changes {
        change();
        let answers = (again(&board, &item, &held.0), again(&board, "/messages", &held.1));
        let new = (tag(&answers.0), tag(&answers.1));
        assert!(new.0 != held.0 && new.1 != held.1, "{}", answers.0.text());
        held = new;
    }
    assert_ne!(held.0, held.1, "each URL has a tag of its own");
    board.submit("another one");
    assert_eq!(again(&board, &item, &held.0).status, 304);
    assert_eq!(again(&board, "/messages", &held.1).messages(), ["another one", "by SQL"]);
    assert_eq!(board.service.ask("DELETE", &item, &[AUTHORIZATION], b"").status, 204);
    for tags in [held.0.as_str(), "*"] {
        assert_eq!(again(&board, &item, tags).status, 404, "what does not exist is not held");
    }
}

#[test]
fn nothing_else_has_a_tag_or_heeds_one() {
    let board = Board::with(&[("ADMIN_TOKEN", TOKEN)]);
    let any = ("If-None-Match", "*");
    let created = board.service.json("POST", "/messages", &[any], "x");
    let item = format!("/messages/{}", created.id());
    assert_eq!((created.status, created.header("ETag")), (201, None));
    // The stored text may differ from the one that was sent (RFC 9110, section 9.3.4).
    let replaced = board.service.json("PUT", &item, &[any, AUTHORIZATION], " y ");
    assert_eq!((replaced.status, replaced.header("ETag")), (200, None));
    assert_eq!(replaced.json()["message"], json!("y"));
    for (path, status) in [("/", 200), ("/?before=2", 200), ("/readyz", 200), ("/version", 200), ("/nope", 404)] {
        let answer = board.service.ask("GET", path, &[any], b"");
        assert_eq!((answer.status, answer.header("ETag")), (status, None), "{path}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{path}");
    }
}

#[test]
fn replicas_give_the_same_tag() {
    let board = Board::start();
    let replica = crate::support::Service::start(&board.schema, &[("PAGE_TITLE", "Another title")]);
    replica.wait_until_ready();
    board.submit("x");
    assert_eq!(tag(&board.get("/messages")), tag(&replica.get("/messages")));
}
