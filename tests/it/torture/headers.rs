//! Headers: their form, their number, `Host`, `Connection` and `Expect`.

use super::{Case, answered, form, get, post, refused};

/// Header lines, with their line ends, that are malformed.
const MALFORMED: &[&str] = &[
    "X: a\0b\r\n",
    "X: a\x01\r\n",
    "X: a\x0b\r\n",
    "X: a\x7f\r\n",
    "X: a\rb\r\n",
    "X: a\r\r\n",
    "X: a\nb: c\r\n",
    "X: a\n",
    "X\0: a\r\n",
    "X Y: a\r\n",
    "X : a\r\n",
    "X\t: a\r\n",
    "X\r\n",
    "X(: a\r\n",
    "\"X\": a\r\n",
    "é: a\r\n",
    ": a\r\n",
    "X: a\r\n folded\r\n",
    "X: a\r\n\tfolded\r\n",
    "X: a\r\n \r\n",
    "Host: other.test\r\n",
    "Host: board.test\r\n",
    "host:\r\n",
];

/// Header lines that are legal and mean nothing here.
const LEGAL: &[&str] = &[
    "X:\r\n",
    "X:a\r\n",
    "X: \t a \t \r\n",
    "X: a\tb\r\n",
    "X: é 😀\r\n",
    "!#$%&'*+-.^_`|~09: a\r\n",
    "X: a\r\nX: a\r\nx: b\r\n",
    "X-Request-Id: <script>\r\n",
    "Cookie: a=b; c=\"d\"\r\n",
    "Range: bytes=0-0\r\n",
    "If-None-Match: *\r\n",
    "TE: trailers, chunked;q=1\r\n",
    "Trailer: Content-Length\r\n",
    "Accept: text/html;q=x,,;\r\n",
    "Accept-Encoding: gzip;q=\r\n",
    "Content-Type: \r\n",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n",
    "X-Forwarded-For: 1, 2, 3, é, ', \"\r\nX-Forwarded-Host: a, b\r\n",
    "X-HTTP-Method-Override: DELETE\r\n",
    "Authorization: Basic eDp5\r\n",
    "Keep-Alive: timeout=99999999999999999999\r\n",
    "Connection: closed\r\n",
    "Connection: x-close\r\n",
    "Connection:\r\n",
    "Connection: keep-alive\r\n",
    "Connection: Host, Content-Length\r\n",
    "Expect: 100-continue\r\n",
];

const HOSTS: &[(&str, bool)] = &[
    ("", true),
    ("a", true),
    ("[::1]:5000", true),
    ("board.test:99999", true),
    ("a b", false),
    ("a/b", false),
    ("a,b", false),
    ("user@a", false),
    ("a\\b", false),
    ("a?b", false),
    ("a#b", false),
    ("é", false),
    ("a\0", false),
];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        MALFORMED.iter().map(|lines| refused(get("/livez", lines), 400, "bad_request")).collect();
    cases.extend(LEGAL.iter().map(|lines| answered(get("/livez", lines), 200, "")));
    for (host, good) in HOSTS {
        let bytes = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
        cases.push(if *good { answered(bytes, 200, "") } else { refused(bytes, 400, "bad_request") });
    }
    cases.push(refused("GET / HTTP/1.1\r\n\r\n", 400, "bad_request"));
    cases.push(refused("GET http://board.test/ HTTP/1.1\r\n\r\n", 400, "bad_request"));
    cases.push(refused("GET / HTTP/1.1\n\n", 400, "bad_request"));
    cases.push(refused("GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "bad_request"));
    cases.push(refused("GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "bad_request"));
    cases.push(refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "bad_request"));
    for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        let line = |name: &str| [b"GET /livez HTTP/1.1\r\nHost: a\r\n", name.as_bytes(), bytes, b"\r\n\r\n"].concat();
        ["X: ", "Cookie: a=", "Referer: ", "User-Agent: "]
            .iter()
            .for_each(|name| cases.push(answered(line(name), 200, "")));
        ["X", "X: \0", "Content-Length: 1"].iter().for_each(|name| cases.push(refused(line(name), 400, "bad_request")));
        cases.push(refused([b"GET /", bytes, b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat(), 400, "bad_request"));
        cases.push(refused([b"GET / HTTP/1.1\r\nHost: ", bytes, b"\r\n\r\n"].concat(), 400, "bad_request"));
    }
    for coding in ["gzip", "br", "identity, deflate", "x\r\nContent-Encoding: identity"] {
        let lines = format!("Content-Encoding: {coding}\r\nContent-Length: 13\r\n");
        cases.push(refused(post(&lines, "new_message=i"), 415, "unsupported_media_type"));
        cases.push(answered(get("/livez", &format!("Content-Encoding: {coding}\r\n")), 200, ""));
    }
    cases.push(
        answered(post("Content-Encoding: Identity\r\nContent-Length: 13\r\n", "new_message=j"), 200, "").stores("j"),
    );
    for value in
        ["close", "Close", "CLOSE ", "keep-alive, close", "close, keep-alive", "x,\tclose", "x\r\nConnection: close"]
    {
        cases.push(Case::of(get("/livez", &format!("Connection: {value}\r\n"))).answer(200, "").closed());
    }
    cases.extend(floods());
    cases.extend(expectations());
    cases
}

fn floods() -> Vec<Case> {
    let lines = |line: &str, n: usize| get("/livez", &line.repeat(n));
    let value = |n: usize| get("/livez", &format!("X: {}\r\n", "v".repeat(n)));
    let name = |n: usize| get("/livez", &format!("{}: v\r\n", "n".repeat(n)));
    let fits = 16 * 1024 - value(0).len();
    vec![
        answered(lines("A: b\r\n", 99), 200, ""),
        refused(lines("A: b\r\n", 100), 431, "header_too_large"),
        refused(lines("A:\r\n", 4000), 431, "header_too_large"),
        refused(lines("A:\r\n", 250_000), 431, "header_too_large"),
        answered(value(fits), 200, ""),
        refused(value(fits + 1), 431, "header_too_large"),
        refused(value(1_000_000), 431, "header_too_large"),
        answered(name(15_000), 200, ""),
        refused(name(20_000), 431, "header_too_large"),
        answered(get("/livez", &format!("X-Request-Id: {}\r\n", "i".repeat(10_000))), 200, ""),
        answered(get("/livez", &format!("Accept: {}\r\n", "text/html,".repeat(1_500))), 200, ""),
        answered(get("/livez", &format!("Connection: {}\r\n", "x,".repeat(7_000))), 200, ""),
        refused(post(&format!("Content-Length: {}\r\n", "9".repeat(10_000)), ""), 413, "body_too_large"),
        answered(post(&format!("Content-Length: {}13\r\n", "0".repeat(10_000)), "new_message=z"), 200, "").stores("z"),
        // Empty lines before a request are skipped, but not without end.
        answered([b"\r\n".repeat(8), get("/livez", "")].concat(), 200, ""),
        refused(b"\r\n".repeat(9), 400, "bad_request"),
        refused(b"\r\n".repeat(20_000), 400, "bad_request"),
    ]
}

fn expectations() -> Vec<Case> {
    let waiting = |headers: &str| post(&format!("Expect: {headers}"), "");
    let mut cases: Vec<Case> =
        ["tea\r\n", "\r\n", "100\r\n", "100-continue, tea\r\n", "100-continue\r\nExpect: tea\r\n"]
            .iter()
            .map(|value| refused(waiting(&format!("{value}Content-Length: 5\r\n")), 417, "expectation_failed"))
            .collect();
    let continue_100 = |name: &str, headers: &str| Case::new(name).send(waiting(headers)).answer(100, "");
    cases.extend([
        continue_100("permission to send a length", "100-continue\r\nContent-Length: 13\r\n")
            .send("new_message=e")
            .answer(200, "")
            .stores("e"),
        continue_100("permission to send chunks", "100-Continue\r\nTransfer-Encoding: chunked\r\n")
            .send("d\r\nnew_message=f\r\n0\r\n\r\n")
            .answer(200, "")
            .stores("f"),
        continue_100("permission, and then not a byte", "100-continue\r\nContent-Length: 13\r\n").silent(),
        continue_100("permission, and then malformed chunks", "100-continue\r\nTransfer-Encoding: chunked\r\n")
            .send("x\r\n")
            .answer(400, "bad_request")
            .closed(),
        Case::of(post("Expect: 100-continue\r\nContent-Length: 13\r\n", "new_message=g")).answer(200, "").stores("g"),
        answered(waiting("100-continue\r\nContent-Length: 0\r\n"), 400, "missing_field"),
        refused(waiting("100-continue\r\nContent-Length: 70000\r\n"), 413, "body_too_large"),
        Case::of(String::from_utf8_lossy(&form("new_message=h")).replacen("1.1\r\n", "1.0\r\nExpect: tea\r\n", 1))
            .answer(200, "")
            .stores("h")
            .closed(),
    ]);
    cases
}
