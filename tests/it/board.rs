//! What the contract says of routes, answers, messages and errors.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::{form_value, request};
use crate::support::{Answer, Board, Connection, Service, eventually};

/// Text that breaks programs that do not keep it as it is.
const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "Tom & Jerry &amp; \"quotes\" 'single' `back`",
    "😀👩‍👩‍👧‍👦🏳️‍🌈",
    "مرحبا \u{202e}abc\u{202c} שלום",
    "line one\nline two\n\ttabbed",
    "'); DROP TABLE messages; --",
    "back\\slash \\' \\\\ \\n \\0 %s %d",
    "{{key}} {{messages}} ${x} #{y}",
    "e\u{301} \u{feff}x \u{200b}y",
    "\u{10ffff} \u{fffd} \u{2028}z",
    "a=b&c=d+e%20f",
    "</textarea></li><img src=x onerror=alert(1)>",
];

const JSON: (&str, &str) = ("Content-Type", "application/json");
const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[test]
fn hostile_text_comes_back_byte_for_byte_in_json_and_harmless_in_html() {
    let board = Board::start();
    for text in HOSTILE {
        let answer = board.submit(text);
        assert_eq!((answer.status, answer.json()["message"].as_str()), (200, Some(text)));
        assert_eq!(board.get(&format!("/messages/{}", answer.id())).json()["message"], text);
        let created = board.service.json("POST", "/messages", &[], text);
        assert_eq!((created.status, created.json()["message"].as_str()), (201, Some(text)));
    }
    let want: Vec<&str> = HOSTILE.iter().rev().flat_map(|text| [*text, *text]).collect();
    assert_eq!(board.get("/messages").messages(), want);
    let page = board.get("/");
    let page = page.text();
    for tag in ["<script>", "<img", "</textarea></li>", "alert(1)</script>"] {
        assert!(!page.contains(tag), "{tag}");
    }
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_eq!(board.schema.rows::<String>("SELECT message FROM messages ORDER BY id LIMIT 1"), [HOSTILE[0]]);
}

#[test]
fn a_message_is_trimmed_and_limited_at_and_above_the_limit() {
    let board = Board::with(&[("MAX_MESSAGE_CHARS", "5")]);
    assert_eq!(board.submit(" a\r\nb \n").json()["message"], "a\nb");
    assert_eq!(board.submit("😀😀😀😀😀").status, 200);
    for (text, code) in [
        ("", "empty_message"),
        (" \t\n", "empty_message"),
        ("123456", "message_too_long"),
        ("a\0b", "invalid_message"),
        ("a\u{1b}b", "invalid_message"),
        ("a\u{85}b", "invalid_message"),
    ] {
        let answer = board.submit(text);
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{text:?}");
    }
    assert_eq!(board.get("/messages").messages().len(), 2, "what is refused is not stored");
}

#[test]
fn a_form_is_for_browsers_and_for_programs() {
    let board = Board::start();
    let answer = board.service.submit("from a browser", &[HTML]);
    let id = board.get("/messages?limit=1").json()["messages"][0]["id"].as_u64().unwrap();
    assert_eq!((answer.status, answer.header("Location")), (303, Some(&*format!("./#m{id}"))));
    assert_eq!((answer.header("Cache-Control"), answer.header("Vary")), (Some("no-store"), Some("Accept")));
    let answer = board.submit("from curl");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), serde_json::json!({ "id": answer.id(), "message": "from curl" }));
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let answer = board.service.ask("POST", "/messages", &[form], b"message=from+another+form");
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("Location"), Some(&*format!("./messages/{}", answer.id())));
    assert_eq!(board.get("/messages").messages(), ["from another form", "from curl", "from a browser"]);
}

#[test]
fn the_api_takes_plain_text() {
    let board = Board::with(&[("ADMIN_TOKEN", "s3cret-of-an-admin")]);
    let send = |content_type: &str, body: &[u8]| {
        board.service.ask("POST", "/messages", &[("Content-Type", content_type)], body)
    };
    for (content_type, body, stored) in [
        ("text/plain", &b" a & b=c+%41 {\"message\": 1}\r\n\tx \n"[..], "a & b=c+%41 {\"message\": 1}\n\tx"),
        ("text/plain; charset=utf-8", "é😀".as_bytes(), "é😀"),
        ("Text/Plain;format=flowed; Charset=\"UTF-8\"", "é".as_bytes(), "é"),
        ("text/plain; charset=us-ascii", b"ascii", "ascii"),
        ("text/plain", "\u{feff}after a byte order mark".as_bytes(), "after a byte order mark"),
        ("text/plain", "x\u{feff}y".as_bytes(), "x\u{feff}y"),
    ] {
        let answer = send(content_type, body);
        assert_eq!((answer.status, answer.json()["message"].as_str()), (201, Some(stored)), "{content_type}");
        assert_eq!(answer.header("Location"), Some(&*format!("./messages/{}", answer.id())));
        assert_eq!(board.get(&format!("/messages/{}", answer.id())).json()["message"], stored);
    }
    for (content_type, body, status, code) in [
        ("text/plain", &b""[..], 400, "empty_message"),
        ("text/plain", b" \r\n\t", 400, "empty_message"),
        ("text/plain", b"\xef\xbb\xbf", 400, "empty_message"),
        ("text/plain", b"a\0b", 400, "invalid_message"),
        ("text/plain", b"caf\xe9", 400, "bad_request"),
        ("text/plain; charset=utf-8", b"\xed\xa0\x80", 400, "bad_request"),
        ("text/plain", b"\xff\xfea\0", 400, "bad_request"),
        ("text/plain; charset=iso-8859-1", b"caf\xe9", 415, "unsupported_media_type"),
        ("text/plain; charset=utf-16", b"a\0", 415, "unsupported_media_type"),
        ("text/plainer", b"a", 415, "unsupported_media_type"),
    ] {
        let answer = send(content_type, body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{content_type} {body:?}");
    }
    let again = [("Content-Type", "text/plain"), ("Idempotency-Key", "k")];
    let first = board.service.ask("POST", "/messages", &again, b"once");
    let second = board.service.ask("POST", "/messages", &again, b"once");
    assert_eq!((first.id(), second.header("Idempotency-Replayed")), (second.id(), Some("true")));
    let edit = [("Content-Type", "text/plain"), ("Authorization", "Bearer s3cret-of-an-admin")];
    let edited = board.service.ask("PUT", &format!("/messages/{}", first.id()), &edit, b"edited");
    assert_eq!((edited.status, edited.json()["message"].as_str()), (200, Some("edited")));
    let form = board.service.ask("POST", "/submit", &[("Content-Type", "text/plain")], b"new_message=a");
    assert_eq!((form.status, form.code().as_str()), (415, "unsupported_media_type"));
}

#[test]
fn a_browser_gets_its_form_back_with_the_problem_the_text_and_the_key() {
    let board = Board::with(&[("MAX_MESSAGE_CHARS", "5")]);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let answer = board.service.ask("POST", "/submit", &[form, HTML], b"new_message=%3Ctoo+long%3E&key=my-key");
    assert_eq!(answer.status, 400);
    let page = answer.text();
    assert!(page.contains("The message has 10 characters; the limit is 5. Shorten it by 5."), "{page}");
    assert!(page.contains("\n&lt;too long&gt;</textarea>") && page.contains("value=\"my-key\""), "{page}");
    let missing = board.service.ask("POST", "/submit", &[form, HTML], b"");
    assert_eq!(missing.status, 400);
    assert!(missing.header("Content-Type").is_some_and(|t| t.starts_with("text/html")));
}

#[test]
fn lists_continue_in_both_directions_without_gaps_or_repeats() {
    let board = Board::start();
    board.schema.run("INSERT INTO messages (message) SELECT CONCAT('m', seq) FROM seq_1_to_451");
    board.schema.run("DELETE FROM messages WHERE MOD(id, 5) = 0");
    let all: Vec<String> = board.schema.rows("SELECT message FROM messages ORDER BY id");
    let walk = |first: &str| {
        let (mut found, mut next) = (Vec::new(), Some(first.to_owned()));
        while let Some(path) = next {
            let list = board.get(&path);
            found.extend(list.messages());
            next = list.json()["next"].as_str().map(str::to_owned);
            let link = next.as_ref().map(|next| format!("<{next}>; rel=\"next\""));
            assert_eq!(list.header("Link"), link.as_deref());
            next = next.map(|next| next.strip_prefix('.').unwrap().to_owned());
        }
        found
    };
    for limit in [1, 7, 50, 200] {
        if limit > 1 {
            assert_eq!(walk(&format!("/messages?after=0&limit={limit}")), all, "oldest first, {limit} at a time");
        }
        let newest_first: Vec<String> = all.iter().rev().cloned().collect();
        let found = if limit == 1 {
            board.get("/messages?limit=1").messages()
        } else {
            walk(&format!("/messages?limit={limit}"))
        };
        assert_eq!(found, newest_first[..found.len()], "newest first, {limit} at a time");
        assert!(limit == 1 || found.len() == all.len());
    }
    assert_eq!(board.get("/messages?after=449").messages(), ["m451"]);
    assert_eq!(board.get("/messages?after=451").messages(), [] as [&str; 0]);
    assert_eq!(board.get("/messages?after=451").json()["next"], serde_json::Value::Null);
    assert_eq!(board.get("/messages?after=2&limit=3").messages(), ["m3", "m4", "m6"], "far below the newest");
}

#[test]
fn edits_by_another_program_are_visible_immediately() {
    let board = Board::start();
    for round in 0..200 {
        let text = format!("by SQL {round}");
        board.schema.run(&format!("INSERT INTO messages (message) VALUES ('{text}')"));
        assert_eq!(board.get("/messages?limit=1").messages(), [text.as_str()]);
        if round % 10 == 0 {
            assert!(board.get("/").text().contains(&text));
            board.schema.run(&format!("UPDATE messages SET message = 'changed {round}' WHERE message = '{text}'"));
            assert!(board.get("/").text().contains(&format!("changed {round}")));
        }
    }
    board.schema.run("DELETE FROM messages");
    assert!(board.get("/").text().contains("No messages yet."));
}

#[test]
fn times_are_the_databases_in_utc_also_past_2038_and_none_for_old_rows() {
    let board = Board::start();
    board.schema.run(
        "INSERT INTO messages (message, created_at) VALUES ('future', '2051-02-03 04:05:06.000007'), ('old', NULL)",
    );
    let list = board.get("/messages").json();
    assert_eq!(list["messages"][0]["created_at"], serde_json::Value::Null);
    assert_eq!(list["messages"][1]["created_at"], "2051-02-03T04:05:06.000007Z");
    let id = board.submit("now").id();
    let time = board.get(&format!("/messages/{id}")).json()["created_at"].as_str().unwrap().to_owned();
    let stored: Vec<String> = board
        .schema
        .rows("SELECT DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%s.%fZ') FROM messages WHERE message = 'now'");
    assert_eq!(stored, [time]);
    let late: Vec<u64> = board
        .schema
        .rows("SELECT ABS(TIMESTAMPDIFF(SECOND, created_at, UTC_TIMESTAMP(6))) FROM messages WHERE message = 'now'");
    assert!(late[0] < 10, "in UTC");
}

#[test]
fn editing_needs_the_token() {
    let board = Board::with(&[("ADMIN_TOKEN", "s3cret-of-an-admin"), ("TRUSTED_PROXIES", "127.0.0.1")]);
    let token = ("Authorization", "Bearer s3cret-of-an-admin");
    let id = board.submit("first").id();
    let path = format!("/messages/{id}");
    let mut clients = 0;
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer s3cre",
        "Bearer s3cret-of-an-admin2",
        "Basic s3cret-of-an-admin",
        "s3cret-of-an-admin",
    ] {
        for method in ["PUT", "DELETE"] {
            clients += 1;
            let client = format!("192.0.2.{clients}");
            let headers = [("Authorization", wrong), ("X-Forwarded-For", &client)];
            let answer = board.service.ask(method, &path, &headers, b"");
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{method} {wrong:?}");
            assert_eq!(answer.header("WWW-Authenticate"), Some("Bearer"));
        }
    }
    let edited = board.service.json("PUT", &path, &[token], " second ");
    assert_eq!((edited.status, edited.json()["message"].as_str()), (200, Some("second")));
    assert!(edited.json()["edited_at"].is_string());
    assert_eq!(board.service.json("PUT", &path, &[token], "second").status, 200, "the same text is fine");
    assert_eq!(board.service.json("PUT", &path, &[token], "").code(), "empty_message");
    assert_eq!(board.service.json("PUT", "/messages/999", &[token], "x").status, 404);
    assert!(board.get("/").text().contains("edited "));

    let deleted = board.service.ask("DELETE", &path, &[("authorization", "bearer s3cret-of-an-admin")], b"");
    assert_eq!((deleted.status, deleted.header("Content-Length")), (204, None));
    assert_eq!(board.service.ask("DELETE", &path, &[token], b"").status, 404);
    assert_eq!(board.get(&path).status, 404);
}

#[test]
fn wrong_tokens_are_slowed_down_for_their_client_alone_and_logged() {
    let settings = [("ADMIN_TOKEN", "s3cret-of-an-admin"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let board = Board::with(&settings);
    let remove = |client: &str, token: &str| {
        let start = Instant::now();
        let headers = [("X-Forwarded-For", client), ("Authorization", token)];
        let status = board.service.ask("DELETE", "/messages/99", &headers, b"").status;
        (status, start.elapsed())
    };
    assert_eq!(remove("192.0.2.1", "Bearer wrong").0, 401);
    // More of them together than there are workers, which must stay free for others.
    thread::scope(|scope| {
        let guesses: Vec<_> = (0..32).map(|_| scope.spawn(|| remove("192.0.2.1", "Bearer wrong"))).collect();
        let (status, took) = remove("192.0.2.2", "Bearer wrong");
        assert!(status == 401 && took < Duration::from_millis(900), "{took:?}");
        let (status, took) = remove("192.0.2.1", "Bearer s3cret-of-an-admin");
        assert!(status == 404 && took < Duration::from_millis(900), "{took:?}");
        assert!(guesses.iter().all(|guess| !guess.is_finished()), "they are still waiting");
        for guess in guesses {
            let (status, took) = guess.join().unwrap();
            assert!(status == 401 && took >= Duration::from_millis(900), "{took:?}");
        }
    });
    let logged = || board.service.log().matches("wrong admin token").count();
    eventually("the wrong token is logged", || logged() > 0);
    assert!(board.service.log().contains("client=192.0.2.1"), "{}", board.service.log());
    assert_eq!(logged(), 1, "once a minute");
}

#[test]
fn allow_names_what_is_possible() {
    let (open, moderated) = (Board::start(), Board::with(&[("ADMIN_TOKEN", "s3cret-of-an-admin")]));
    let [list, item] = ["GET, HEAD, POST, OPTIONS", "GET, HEAD, PUT, DELETE, OPTIONS"];
    for (board, allowed_item) in [(&open, "GET, HEAD, OPTIONS"), (&moderated, item)] {
        let path = format!("/messages/{}", board.submit("x").id());
        for (path, allow) in
            [("/messages", list), ("/messages?before=9", list), ("/messages?after=0", list), (&path, allowed_item)]
        {
            for (method, status) in [("GET", 200), ("HEAD", 200), ("OPTIONS", 204), ("PATCH", 405)] {
                let answer = board.service.ask(method, path, &[], b"");
                assert_eq!((answer.status, answer.header("Allow")), (status, Some(allow)), "{method} {path}");
            }
        }
    }
}

#[test]
fn without_a_token_set_up_editing_is_off() {
    let board = Board::start();
    let id = board.submit("stays").id();
    for method in ["PUT", "DELETE"] {
        let answer = board.service.ask(method, &format!("/messages/{id}"), &[("Authorization", "Bearer x")], b"");
        assert_eq!((answer.status, answer.code().as_str()), (403, "editing_disabled"));
    }
}

#[test]
fn writes_from_other_sites_are_refused() {
    let board = Board::with(&[("ADMIN_TOKEN", "token-of-an-admin"), ("TRUSTED_PROXIES", "127.0.0.0/8, ::1")]);
    let submit = |headers: &[(&str, &str)]| board.service.submit("x", headers).status;
    assert_eq!(submit(&[("Sec-Fetch-Site", "same-origin")]), 200);
    assert_eq!(submit(&[("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(submit(&[("Sec-Fetch-Site", "same-site")]), 403);
    assert_eq!(submit(&[("Origin", "http://board.test")]), 200);
    assert_eq!(submit(&[("Origin", "http://evil.test")]), 403);
    assert_eq!(submit(&[("Origin", "https://public.test"), ("X-Forwarded-Host", "public.test")]), 200);
    for (method, path) in [("POST", "/messages"), ("PUT", "/messages/1"), ("DELETE", "/messages/1")] {
        let headers = [("Sec-Fetch-Site", "cross-site"), ("Authorization", "Bearer token-of-an-admin"), JSON];
        let answer = board.service.ask(method, path, &headers, br#"{"message":"x"}"#);
        assert_eq!((answer.status, answer.code().as_str()), (403, "cross_site"), "{method}");
    }
    let page = board.service.submit("planted text", &[("Sec-Fetch-Site", "cross-site"), HTML]);
    assert!(page.status == 403 && !page.text().contains("planted text"), "it is not put before a person to be sent");
}

#[test]
fn with_a_public_url_being_equal_to_the_host_is_not_enough() {
    let board = Board::with(&[("PUBLIC_URL", "https://board.example.org/board/, http://second.example:8080")]);
    // DNS rebinding: the browser shows a page of evil.test whose name now leads to this machine.
    let rebound = |origin: &str, more: &[(&str, &str)]| {
        let host = origin.split_once("://").unwrap().1;
        let body = "new_message=x";
        let mut head = format!("POST /submit HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n");
        more.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        head.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
        let mut connection = board.service.connect();
        connection.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        connection.answer()
    };
    let refused = rebound("http://evil.test", &[("Sec-Fetch-Site", "same-origin")]);
    assert_eq!((refused.status, refused.code().as_str()), (403, "cross_site"));
    for part in ["http://evil.test", "Host evil.test", "PUBLIC_URL", "https://board.example.org"] {
        assert!(refused.text().contains(part), "{part} in {}", refused.text());
    }
    for origin in ["https://board.example.org", "http://second.example:8080"] {
        assert_eq!(rebound(origin, &[]).status, 200, "{origin}");
    }
    assert_eq!(board.submit("from curl").status, 200);
}

#[test]
fn a_cross_site_refusal_is_explained_in_answer_page_and_log() {
    let board = Board::start();
    let origin = ("Origin", "http://board.lan");
    let explained = ["http://board.lan", "board.test", "PUBLIC_URL=http://board.lan"];
    let (answer, page) = (board.service.submit("x", &[origin]), board.service.submit("x", &[origin, HTML]));
    for text in [answer.text(), page.text()] {
        assert!(explained.iter().all(|part| text.contains(part)), "{text}");
    }
    let logged = || board.service.log().matches("cross-site write refused").count();
    eventually("the refusal is logged", || logged() > 0);
    let line = board.service.log().lines().find(|line| line.contains("cross-site write refused")).unwrap().to_owned();
    assert!(line.contains("INFO") && explained.iter().all(|part| line.contains(part)), "{line}");
    assert_eq!(logged(), 1, "once a minute");
}

#[test]
fn every_answer_carries_the_common_headers() {
    let board = Board::start();
    let id = board.submit("x").id();
    let paths = [
        "/",
        "/messages",
        &format!("/messages/{id}"),
        "/livez",
        "/readyz",
        "/version",
        "/favicon.ico",
        "/nope",
        "/submit",
    ];
    for path in paths {
        let answer = board.service.ask("GET", path, &[("X-Request-Id", "my-id_1")], b"");
        assert_eq!(answer.header("X-Request-Id"), Some("my-id_1"), "{path}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("Referrer-Policy"), Some("same-origin"), "{path}");
        assert_eq!(answer.header("Server"), Some("twotier"), "{path}");
        assert!(answer.header("X-Served-By").is_some_and(|name| !name.is_empty()), "{path}");
        assert!(answer.header("Date").is_some(), "{path}");
    }
    let answer = board.service.ask("GET", "/", &[("X-Request-Id", "no spaces allowed")], b"");
    assert!(answer.header("X-Request-Id").is_some_and(|id| id != "no spaces allowed" && !id.is_empty()));
    let (a, b) = (board.get("/livez"), board.get("/livez"));
    assert_ne!(a.header("X-Request-Id"), b.header("X-Request-Id"));
}

#[test]
fn pages_load_nothing_from_elsewhere_and_allow_nothing_inline() {
    let board = Board::start();
    let page = board.get("/");
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(!policy.contains("unsafe-inline") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.header("Cache-Control"), Some("no-store"));
    let text = page.text();
    assert!(
        !text.contains("http://")
            && !text.contains("https://")
            && !text.contains(" style=")
            && !text.contains(" onclick")
    );
    let assets: Vec<&str> =
        text.split('"').filter_map(|part| part.strip_prefix('.')).filter(|path| path.starts_with("/assets/")).collect();
    assert_eq!(assets.len(), 3);
    for path in assets {
        let asset = board.get(path);
        assert_eq!(asset.status, 200, "{path}");
        assert!(asset.header("Cache-Control").is_some_and(|c| c.contains("immutable")), "{path}");
        assert!(!asset.text().contains("innerHTML") && !asset.text().contains("insertAdjacentHTML"), "{path}");
    }
    assert_eq!(board.get("/assets/style.css").status, 404);
}

#[test]
fn each_page_has_a_key_of_its_own_for_its_form() {
    let board = Board::start();
    let key = || {
        let page = board.get("/");
        let text = page.text();
        text.split_once("name=\"key\" value=\"").unwrap().1.split('"').next().unwrap().to_owned()
    };
    let (first, second) = (key(), key());
    assert_ne!(first, second);
    assert_eq!(first.len(), 36);
    let body = format!("new_message=twice&key={first}");
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for _ in 0..2 {
        assert_eq!(board.service.ask("POST", "/submit", &[form, HTML], body.as_bytes()).status, 303);
    }
    assert_eq!(board.schema.copies("twice"), 1, "a double click is one message");
}

#[test]
fn errors_are_json_for_programs_and_a_page_for_people() {
    let board = Board::start();
    for (method, path, status, code) in [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/messages/999", 404, "not_found"),
        ("GET", "/messages/x", 404, "not_found"),
        ("DELETE", "/", 405, "method_not_allowed"),
        ("GET", "/submit", 405, "method_not_allowed"),
        ("GET", "/?before=x", 400, "invalid_parameter"),
        ("GET", "/messages?limit=0", 400, "invalid_parameter"),
        ("GET", "/messages?before=1&after=1", 400, "invalid_parameter"),
        ("POST", "/messages", 400, "missing_field"),
        ("POST", "/submit", 400, "missing_field"),
    ] {
        let answer = board.service.ask(method, path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert_problem(&answer);
        let page = board.service.ask(method, path, &[HTML], b"");
        assert_eq!((page.status, page.header("Vary")), (status, Some("Accept")), "{method} {path}");
        assert!(page.text().starts_with("<!doctype html>"), "{method} {path}");
    }
    for (body, code, status) in [
        (&b"{"[..], "invalid_json", 400),
        (b"{}", "missing_field", 400),
        (br#"{"message":""}"#, "empty_message", 400),
        (br#"{"message":5}"#, "invalid_json", 400),
    ] {
        let answer = board.service.ask("POST", "/messages", &[JSON], body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{body:?}");
    }
    let answer = board.service.ask("POST", "/submit", &[("Content-Type", "text/html")], b"x");
    assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"));
}

/// An error as RFC 9457 has it, with a code for programs and the id of the request.
#[track_caller]
fn assert_problem(answer: &Answer) {
    assert_eq!(answer.header("Content-Type"), Some("application/problem+json"));
    assert_eq!((answer.header("Vary"), answer.header("Cache-Control")), (Some("Accept"), Some("no-store")));
    let problem = answer.json();
    let members: Vec<&String> = problem.as_object().unwrap().keys().collect();
    assert_eq!(members, ["code", "detail", "request_id", "status", "title", "type"], "{problem}");
    assert_eq!((&problem["type"], &problem["status"]), (&"about:blank".into(), &answer.status.into()));
    assert_eq!(problem["request_id"].as_str(), answer.header("X-Request-Id"));
    assert!(["title", "detail"].iter().all(|member| !problem[member].as_str().unwrap().is_empty()), "{problem}");
}

#[test]
fn every_error_is_a_problem_for_programs_and_a_page_for_people() {
    let board = Board::with(&[("ADMIN_TOKEN", "s3cret-of-an-admin"), ("REQUEST_TIMEOUT", "1s")]);
    let limited = Board::with(&[("RATE_LIMIT", "1")]);
    let without_database =
        Service::run(&[("MYSQL_HOST", "127.0.0.1"), ("MYSQL_PORT", "1"), ("MYSQL_USER", "u"), ("MYSQL_DB", "d")]);
    assert_eq!(limited.submit("the only one of this minute").status, 200);
    assert_eq!(board.service.json("POST", "/messages", &[("Idempotency-Key", "k")], "stored").status, 201);
    let head = |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let text = |headers: &str, text: &str| {
        let length = text.len();
        head("POST /messages", &format!("Content-Type: text/plain\r\nContent-Length: {length}\r\n{headers}")) + text
    };
    let long = "x".repeat(17_000);
    for (service, status, code, request) in [
        (&board.service, 400, "empty_message", text("", " ")),
        (&board.service, 400, "bad_request", head("GET /", "Host: b\r\n")),
        (&board.service, 400, "invalid_parameter", head("GET /messages?x=1", "")),
        (&board.service, 401, "unauthorized", head("DELETE /messages/1", "")),
        (&limited.service, 403, "editing_disabled", head("DELETE /messages/1", "")),
        (&board.service, 403, "cross_site", text("Origin: http://evil.test\r\n", "x")),
        (&board.service, 404, "not_found", head("GET /nope", "")),
        (&board.service, 404, "not_found", head("GET /messages/99", "")),
        (&board.service, 404, "not_found", head("GET /feed.atom", "")),
        (&board.service, 405, "method_not_allowed", head("DELETE /", "")),
        (&board.service, 408, "request_timeout", head("POST /messages", "Content-Length: 9\r\n")),
        (&board.service, 413, "body_too_large", head("POST /messages", "Content-Length: 65537\r\n")),
        (&board.service, 414, "header_too_large", head(&format!("GET /{long}"), "")),
        (&board.service, 415, "unsupported_media_type", text("Content-Encoding: gzip\r\n", "x")),
        (&board.service, 417, "expectation_failed", head("GET /", "Expect: more\r\n")),
        (&board.service, 422, "key_reused", text("Idempotency-Key: k\r\n", "another text")),
        (&limited.service, 429, "rate_limited", text("", "x")),
        (&board.service, 431, "header_too_large", head("GET /", &format!("X: {long}\r\n"))),
        (&board.service, 501, "not_implemented", head("POST /messages", "Transfer-Encoding: gzip\r\n")),
        (&without_database, 503, "database_unavailable", head("GET /messages", "")),
        (&board.service, 505, "http_version_not_supported", head("GET /", "").replace("/1.1", "/2.0")),
    ] {
        let ask = |request: &str| {
            let mut connection = service.connect();
            connection.send(request);
            connection.answer()
        };
        let answer = ask(&request);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{request:.200}");
        assert_problem(&answer);
        let page = ask(&request.replacen("Host: a\r\n", "Host: a\r\nAccept: text/html\r\n", 1));
        assert_eq!((page.status, page.header("Vary")), (status, Some("Accept")), "{request:.200}");
        assert_eq!(page.header("Cache-Control"), Some("no-store"), "{request:.200}");
    }
}

#[test]
fn an_error_says_which_limit_was_met_and_what_is_missing() {
    let board = Board::start();
    let detail = |answer: Answer| answer.json()["detail"].as_str().unwrap().to_owned();
    let large = board.service.ask("POST", "/messages", &[JSON], &vec![b'x'; 64 * 1024 + 1]);
    assert_eq!((large.status, large.code().as_str()), (413, "body_too_large"));
    assert!(detail(large).contains("64 KiB"));
    let (message, path) = (detail(board.get("/messages/99")), detail(board.get("/messages/x")));
    assert!(message.contains("message") && message.contains("99"), "{message}");
    assert!(path.contains("path") && !path.contains("message"), "{path}");
}

#[test]
fn a_problem_names_its_request_wherever_it_comes_from() {
    let board = Board::start();
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let id = ("X-Request-Id", "mine-1");
    let key = ("Idempotency-Key", "k");
    board.service.submit("first", &[key]);
    for answer in [
        board.service.ask("GET", "/messages/99", &[id], b""),
        board.service.submit("second", &[key, id]),
        board.service.ask("POST", "/submit", &[form, id], b"new_message="),
        board.service.ask("POST", "/submit", &[form, id, ("Content-Length", "99999999")], b""),
    ] {
        assert_problem(&answer);
        assert_eq!(answer.json()["request_id"], "mine-1", "{}", answer.text());
    }
    let mut connection = board.service.connect();
    connection.send("no request\r\n\r\n");
    assert_problem(&connection.answer());
}

#[test]
fn counters_start_at_zero_and_count_messages_replays_and_refusals() {
    let board = Board::with(&[("RATE_LIMIT", "3"), ("MAX_MESSAGE_CHARS", "100")]);
    let metric = |name: &str| {
        let metrics = board.get("/metrics");
        let value =
            metrics.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("{name} in {}", metrics.text()))
    };
    let [stored, replays] = ["twotier_messages_stored_total", "twotier_messages_replayed_total"];
    let submits = r#"twotier_http_requests_total{method="POST",route="/submit",status="200"}"#;
    let limited = "twotier_rate_limited_total";
    assert_eq!([stored, replays, limited, submits].map(metric), [0; 4]);
    for (text, status) in [("a", 200), ("b", 200), ("a", 200), ("c", 429)] {
        assert_eq!(board.service.submit(text, &[("Idempotency-Key", text)]).status, status, "{text}");
    }
    assert_eq!([stored, replays, limited, submits].map(metric), [2, 1, 1, 3]);
    let limits = ["twotier_rate_limit_submits_per_minute", "twotier_message_characters_limit"];
    assert_eq!(limits.map(metric), [3, 100]);
}

#[test]
fn head_and_options_work_wherever_get_does() {
    let board = Board::start();
    board.submit("x");
    for path in ["/", "/messages", "/messages/1", "/livez", "/readyz", "/healthz", "/version", "/robots.txt", "/nope"] {
        let get = board.get(path);
        let mut connection = Connection::open(board.service.address);
        connection.send(request("HEAD", path, &[], b""));
        let head = connection.try_answer(true).unwrap();
        assert_eq!((head.status, head.header("Content-Length")), (get.status, get.header("Content-Length")), "{path}");
        connection.send(request("GET", "/livez", &[], b""));
        assert_eq!(connection.answer().text(), "alive\n", "nothing of a body was in the way: {path}");
    }
    let options = board.service.ask("OPTIONS", "/messages", &[], b"");
    assert_eq!((options.status, options.header("Allow")), (204, Some("GET, HEAD, POST, OPTIONS")));
}

#[test]
fn health_keeps_its_old_names_and_the_version_is_reported() {
    let board = Board::start();
    for path in ["/livez", "/health", "/healthz"] {
        assert_eq!((board.get(path).status, board.get(path).text()), (200, "alive\n"), "{path}");
    }
    for path in ["/readyz", "/ready"] {
        assert_eq!((board.get(path).status, board.get(path).text()), (200, "ready\n"), "{path}");
    }
    let version = board.get("/version").json();
    assert_eq!(
        (version["name"].as_str(), version["version"].as_str()),
        (Some("twotier"), Some(env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn the_pages_title_is_a_setting_and_is_escaped() {
    let board = Board::with(&[("PAGE_TITLE", "Class <3 & more")]);
    assert!(board.get("/").text().contains("<title>Class &lt;3 &amp; more</title>"));
}

#[test]
fn a_form_value_may_be_of_any_size_that_fits_the_body() {
    let board = Board::with(&[("MAX_MESSAGE_CHARS", "5000")]);
    let text = "😀".repeat(5000);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let body = format!("new_message={text}");
    let answer = board.service.ask("POST", "/submit", &[form], body.as_bytes());
    assert_eq!((answer.status, answer.json()["message"].as_str()), (200, Some(text.as_str())));
    assert_eq!(board.get(&format!("/messages/{}", answer.id())).json()["message"], text.as_str());
    let encoded = form_value(&text);
    assert!(encoded.len() > 5000 * 12 - 1, "percent-encoded it still fits 64 KiB");
    assert_eq!(board.submit(&text).status, 200);
}

#[test]
fn a_client_above_the_rate_limit_gets_the_time_to_wait() {
    let board = Board::with(&[("RATE_LIMIT", "3"), ("TRUSTED_PROXIES", "127.0.0.1")]);
    let submit = |client: &str, text: &str| board.service.submit(text, &[("X-Forwarded-For", client)]);
    assert_eq!(submit("192.0.2.1", "").status, 400, "what would not be stored does not count");
    for _ in 0..3 {
        assert_eq!(submit("192.0.2.1", "x").status, 200);
    }
    let refused = submit("203.0.113.9, 192.0.2.1", "x");
    assert_eq!((refused.status, refused.code().as_str()), (429, "rate_limited"));
    let wait: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(submit("192.0.2.2", "x").status, 200, "another client is not held up");
    let page = board.service.submit("kept text", &[("X-Forwarded-For", "192.0.2.1"), HTML]);
    assert!(page.status == 429 && page.text().contains("kept text"));
    for path in ["/livez", "/readyz", "/", "/messages"] {
        for _ in 0..5 {
            assert_eq!(board.service.ask("GET", path, &[("X-Forwarded-For", "192.0.2.1")], b"").status, 200, "{path}");
        }
    }
}
