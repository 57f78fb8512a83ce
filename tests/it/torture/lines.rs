//! Request lines: methods, targets, versions, and what is no request at all.

use super::{Case, answered, form, get, refused};

/// Lines that are no request line, or name no place.
const MALFORMED: &[&str] = &[
    "GET",
    "GET /",
    "GET / ",
    "GET / HTTP/1",
    "GET / HTTP/1.",
    "GET / HTTP/.1",
    "GET / HTTP/11",
    "GET / HTTP/1.1x",
    "GET / HTTP/1.01",
    "GET / HTTP/-1.1",
    "GET / http/1.1",
    "GET / HTTPS/1.1",
    "GET / HTTP /1.1",
    "GET / HTTP/1.1 ",
    "GET / HTTP/1.1 HTTP/1.1",
    "GET  / HTTP/1.1",
    "GET /  HTTP/1.1",
    "GET /a b HTTP/1.1",
    "GET\t/\tHTTP/1.1",
    "GET /\tHTTP/1.1",
    "GET /\rX HTTP/1.1",
    "G@T / HTTP/1.1",
    "G\0T / HTTP/1.1",
    "GET /\0 HTTP/1.1",
    "GET /\u{7f} HTTP/1.1",
    "GET /\u{1b}[2J HTTP/1.1",
    "GET livez HTTP/1.1",
    "GET ?x HTTP/1.1",
    "GET #x HTTP/1.1",
    "GET ../livez HTTP/1.1",
    "GET \\livez HTTP/1.1",
    "GET /livez#x HTTP/1.1",
    "GET * HTTP/1.1",
    "POST * HTTP/1.1",
    "OPTIONS ** HTTP/1.1",
    "GET board.test:80 HTTP/1.1",
    "CONNECT board.test:80 HTTP/1.1",
    "GET ftp://board.test/ HTTP/1.1",
    "GET file:///etc/passwd HTTP/1.1",
    "GET javascript:alert(1) HTTP/1.1",
    "GET http:///livez HTTP/1.1",
    "GET http://?x HTTP/1.1",
    "GET http:// HTTP/1.1",
    "GET https:// HTTP/1.1",
    "GET http:livez HTTP/1.1",
    "GET http:/livez HTTP/1.1",
    "GET httpx://board.test/ HTTP/1.1",
    "GET é/livez HTTP/1.1",
];

/// Bytes that can't begin a request: refused immediately, without waiting for more.
const FOREIGN: &[(&str, &[u8])] = &[
    ("TLS 1.2 client hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("TLS alert", b"\x15\x03\x01\x00\x02\x02\x28"),
    ("SSL 2 client hello", b"\x80\x2e\x01\x00\x02"),
    ("SOCKS 4", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00"),
    ("SOCKS 5", b"\x05\x01\x00"),
    ("remote desktop", b"\x03\x00\x00\x13\x0e\xe0\x00\x00"),
    ("PROXY protocol 2", b"\r\n\r\n\x00\r\nQUIT\n"),
    ("a byte-order mark", b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("NUL", b"\0"),
    ("0xff", b"\xff"),
    ("a bare line feed", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a space first", b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a tab first", b"\tGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("JSON", b"{\"jsonrpc\": \"2.0\"}"),
    ("a URL", b"/livez"),
    ("a colon", b": x\r\n\r\n"),
];

/// What may still become a request: there is no response before it is complete.
pub const UNFINISHED: &[&str] = &[
    "",
    "G",
    "\r",
    "\r\n\r\n\r\n",
    "SSH-2.0-OpenSSH_9.9\r\n",
    "EHLO mail.test\r\nQUIT\r\n",
    "*1\r\n$4\r\nPING\r\n",
    "GET /\r\n",
    "GET /livez HTTP/1.1",
    "GET /livez HTTP/1.1\r\nHost: board.test\r\n",
    "GET /livez HTTP/1.1\r\nHost: board.test\r\n\r",
];

/// Targets that name the liveness route.
const LIVE: &[&str] = &[
    "/livez",
    "/livez?",
    "/livez??",
    "/livez?a=b?c",
    "/livez?%ff",
    "/livez?é",
    "/livez?x=/../../etc/passwd",
    "/%6civez",
    "/%6C%69%76%65%7A",
    "/health",
    "/healthz",
    "http://board.test/livez",
    "http://other.test:80/livez?x",
    "HTTP://BOARD.TEST/livez",
    "https://board.test/livez",
    "http://user:password@board.test/livez",
    "http://[::1]:5000/livez",
];

/// Paths that are nowhere, however they are written.
const NOWHERE: &[&str] = &[
    "/x",
    "//",
    "//livez",
    "/livez/",
    "/livez;x",
    "/livez%20",
    "/livez%00",
    "/livez%0d%0a",
    "/livez%23",
    "/livez%3f",
    "/LIVEZ",
    "/./livez",
    "/../livez",
    "/x/../livez",
    "/%2e%2e/livez",
    "/..%2flivez",
    "/..%5clivez",
    "/%252e%252e/livez",
    "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/..%c0%af..%c0%afetc/passwd",
    "/%c0%ae%c0%ae/etc/passwd",
    "/assets/../livez",
    "/assets/%2e%2e/%2e%2e/Cargo.toml",
    "/assets/",
    "/assets/app.js",
    "/.git/config",
    "/%",
    "/%6",
    "/%zz",
    "/%ff",
    "/é",
    "/%u006civez",
    "/messages/",
    "/messages/0",
    "/messages/07",
    "/messages/+7",
    "/messages/-1",
    "/messages/7.0",
    "/messages/7/",
    "/messages/0x7",
    "/messages/%EF%BC%97",
    "/messages/18446744073709551616",
    "/messages/18446744073709551615",
    "/messages/99999999999999999999999999999999",
    "http://board.test//livez",
];

const NOT_ALLOWED: &[&str] = &[
    "get /livez",
    "Get /livez",
    "head /livez",
    "POST /livez",
    "POST /",
    "PUT /messages",
    "PATCH /messages/1",
    "POST /messages/1",
    "GET /submit",
    "DELETE /submit",
    "TRACE /",
    "CONNECT /",
    "PROPFIND /",
    "BREW /",
    "GETGET /",
    "!#$%&'*+-.^_`|~ /",
];

/// Wrong for the page as well.
const QUERIES: &[&str] = &[
    "before=-1",
    "before=+1",
    "before=%201",
    "before=%001",
    "before=18446744073709551616",
    "before=1&after=1",
    "before=%EF%BC%91",
    "before=1'%20OR%20'1'='1",
];

/// Wrong for the list; the page does not know these parameters and ignores them.
const LIST_QUERIES: &[&str] = &[
    "limit=0",
    "limit=201",
    "limit=1e2",
    "limit=%31%30%30%30",
    "limit=",
    "limit",
    "limit=1&limit=1",
    "x=%ff",
    "%c0%af=1",
    "page=2",
    "before=1&utm_source=x",
];

pub fn cases() -> Vec<Case> {
    let whole = |line: &str| format!("{line}\r\nHost: board.test\r\n\r\n").into_bytes();
    let mut cases: Vec<Case> = MALFORMED.iter().map(|line| refused(whole(line), 400, "bad_request")).collect();
    cases.extend(FOREIGN.iter().map(|(name, bytes)| Case::new(*name).send(*bytes).answer(400, "bad_request").closed()));
    cases.extend(UNFINISHED.iter().map(|bytes| Case::new(format!("unfinished: {bytes:?}")).send(*bytes).silent()));
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        cases.push(refused(whole(&format!("GET / {version}")), 505, "http_version_not_supported"));
    }
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    cases.push(refused(preface, 505, "http_version_not_supported"));
    let proxied = "PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    cases.push(refused(proxied, 400, "bad_request"));

    cases.extend(LIVE.iter().map(|target| answered(get(target, ""), 200, "")));
    cases.extend(NOWHERE.iter().map(|target| answered(get(target, ""), 404, "not_found")));
    cases
        .extend(NOT_ALLOWED.iter().map(|line| answered(whole(&format!("{line} HTTP/1.1")), 405, "method_not_allowed")));
    for path in ["/messages", "/"] {
        cases.extend(QUERIES.iter().map(|q| answered(get(&format!("{path}?{q}"), ""), 400, "invalid_parameter")));
    }
    for query in LIST_QUERIES {
        cases.push(answered(get(&format!("/messages?{query}"), ""), 400, "invalid_parameter"));
        cases.push(answered(get(&format!("/?{query}"), ""), 200, ""));
    }
    for target in ["/messages/1?x=1", "/version?x"] {
        cases.push(answered(get(target, ""), 400, "invalid_parameter"));
    }
    for target in [
        "/messages?after=0&limit=200",
        "/messages?before=18446744073709551615",
        "/?before=1",
        "/messages?%61fter=7",
        "http://board.test",
        "http://board.test?x",
    ] {
        cases.push(answered(get(target, ""), 200, ""));
    }
    cases.push(answered(whole(&format!("{} / HTTP/1.1", "M".repeat(10_000))), 405, "method_not_allowed"));
    cases.extend(heads_and_options());
    cases.extend(long_lines());
    cases.extend(versions());
    cases
}

fn heads_and_options() -> Vec<Case> {
    let whole = |line: &str| format!("{line} HTTP/1.1\r\nHost: board.test\r\n\r\n").into_bytes();
    let mut cases = Vec::new();
    for (path, status) in [
        ("/", 200),
        ("/messages", 200),
        ("/livez", 200),
        ("/readyz", 200),
        ("/favicon.ico", 200),
        ("/x", 404),
        ("/submit", 405),
        ("/messages?limit=0", 400),
    ] {
        cases.push(Case::of(whole(&format!("HEAD {path}"))).head(status).kept());
    }
    for path in ["*", "/", "/submit", "/messages", "/messages/1", "/livez", "http://board.test/submit"] {
        cases.push(answered(whole(&format!("OPTIONS {path}")), 204, ""));
    }
    cases.push(answered(whole("OPTIONS /x"), 404, "not_found"));
    cases.push(Case::of(whole("HEAD /livez").repeat(3)).head(200).head(200).head(200).kept());
    // A body that belongs to a request that could do without.
    let body = form("new_message=x");
    for method in ["OPTIONS", "GET", "DELETE"] {
        let bytes = String::from_utf8_lossy(&body).replacen("POST", method, 1);
        let (status, code) = if method == "OPTIONS" { (204, "") } else { (405, "method_not_allowed") };
        cases.push(answered(bytes, status, code));
    }
    cases
}

fn long_lines() -> Vec<Case> {
    const LIMIT: usize = 16 * 1024;
    let rest = get("/livez?", "").len();
    let query = |n: usize| get(&format!("/livez?{}", "q".repeat(n)), "");
    let pairs = |n: usize| get(&format!("/messages?{}", "a=b&".repeat(n)), "");
    vec![
        answered(query(LIMIT - rest), 200, ""),
        refused(query(LIMIT - rest + 1), 431, "header_too_large"),
        refused(query(20_000), 414, "header_too_large"),
        refused(query(1_000_000), 414, "header_too_large"),
        refused("A".repeat(20_000), 414, "header_too_large"),
        answered(pairs(4000), 400, "invalid_parameter"),
        answered(get(&format!("/{}", "a/".repeat(8000)), ""), 404, "not_found"),
        answered(get(&format!("/{}", "%2e%2e%2f".repeat(1500)), ""), 404, "not_found"),
    ]
}

fn versions() -> Vec<Case> {
    let old = |headers: &str| format!("GET /livez HTTP/1.0\r\n{headers}\r\n").into_bytes();
    vec![
        Case::of(old("")).answer(200, "").closed(),
        Case::of(old("Host: board.test\r\n")).answer(200, "").closed(),
        Case::of(old("Connection: keep-alive, close\r\n")).answer(200, "").closed(),
        Case::of(old("Connection: Keep-Alive\r\n")).answer(200, "").kept(),
        Case::of(old("Connection: keep-alive\r\n").repeat(2)).answer(200, "").answer(200, "").kept(),
        refused(old("Host: a\r\nHost: b\r\n"), 400, "bad_request"),
        refused(old("Transfer-Encoding: chunked\r\n"), 400, "bad_request"),
        // What comes after a request that ends the connection is not read.
        Case::of([old(""), form("new_message=behind")].concat()).answer(200, "").closed(),
    ]
}
