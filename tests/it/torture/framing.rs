//! Where a request ends: lengths, the chunked coding, and the shapes that smuggle one request inside another.

use super::{Case, FORM, answered, form, get, post, refused};

/// Headers of a POST, and its body, that could be read two ways.
const MALFORMED: &[(&str, &str)] = &[
    ("Content-Length: 13\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 13\r\n", "new_message=a"),
    ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Content-Length: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Content-Length: 13\r\nTransfer-Encoding: identity\r\n", "new_message=a"),
    ("Content-Length: 13\r\ntransfer-encoding:\tchunked\r\n", "0\r\n\r\n"),
    ("Content-Length: 13\r\nContent-Length: 13\r\n", "new_message=a"),
    ("Content-Length: 13\r\nContent-Length: 14\r\n", "new_message=ab"),
    ("Content-Length: 0\r\ncontent-length: 13\r\n", "new_message=a"),
    ("Content-Length: +13\r\n", "new_message=a"),
    ("Content-Length: -13\r\n", "new_message=a"),
    ("Content-Length: 13, 13\r\n", "new_message=a"),
    ("Content-Length: 13,14\r\n", "new_message=a"),
    ("Content-Length: 13;\r\n", "new_message=a"),
    ("Content-Length: 0xd\r\n", "new_message=a"),
    ("Content-Length: 0d13\r\n", "new_message=a"),
    ("Content-Length: d\r\n", "new_message=a"),
    ("Content-Length: 1 3\r\n", "new_message=a"),
    ("Content-Length: 13.0\r\n", "new_message=a"),
    ("Content-Length: 1.3e1\r\n", "new_message=a"),
    ("Content-Length: 1_3\r\n", "new_message=a"),
    ("Content-Length: \"13\"\r\n", "new_message=a"),
    ("Content-Length: １３\r\n", "new_message=a"),
    ("Content-Length: thirteen\r\n", "new_message=a"),
    ("Content-Length:\r\n", "new_message=a"),
    ("Content-Length:\r\n 13\r\n", "new_message=a"),
    ("Content-Length : 13\r\n", "new_message=a"),
    ("Content-Length\t: 13\r\n", "new_message=a"),
    ("\u{b}Content-Length: 13\r\n", "new_message=a"),
    ("Content-Length: \u{b}13\r\n", "new_message=a"),
    ("Content-Length: 13\0\r\n", "new_message=a"),
    ("X: a\nContent-Length: 13\r\n", "new_message=a"),
    ("X: a\rContent-Length: 13\r\n", "new_message=a"),
    ("X: a\r\n Content-Length: 13\r\n", "new_message=a"),
    ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding\n : chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n"),
    ("X: a\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
];

/// Transfer codings that are not ours.
const CODINGS: &[&str] = &[
    "gzip",
    "identity",
    "xchunked",
    "chunkedx",
    "\"chunked\"",
    "chunked;q=1",
    "gzip, chunked",
    "chunked, gzip",
    "chunked, chunked",
    "chunked,",
    ",chunked",
    "chun ked",
    "",
];

/// Chunked bodies that could be read two ways.
const MALFORMED_CHUNKS: &[&str] = &[
    "\r\n",
    "g\r\n",
    ";x=y\r\n",
    "+d\r\nnew_message=c\r\n0\r\n\r\n",
    "-d\r\nnew_message=c\r\n0\r\n\r\n",
    "0xd\r\nnew_message=c\r\n0\r\n\r\n",
    " d\r\nnew_message=c\r\n0\r\n\r\n",
    "d d\r\nnew_message=c\r\n0\r\n\r\n",
    "d,d\r\nnew_message=c\r\n0\r\n\r\n",
    "d.0\r\nnew_message=c\r\n0\r\n\r\n",
    "d\nnew_message=c\r\n0\r\n\r\n",
    "d\r\r\nnew_message=c\r\n0\r\n\r\n",
    "d\rx\nnew_message=c\r\n0\r\n\r\n",
    "d\0\r\nnew_message=c\r\n0\r\n\r\n",
    "ｄ\r\nnew_message=c\r\n0\r\n\r\n",
    "d;a\nb\r\nnew_message=c\r\n0\r\n\r\n",
    "d;a\0\r\nnew_message=c\r\n0\r\n\r\n",
    "d;a\rb\r\nnew_message=c\r\n0\r\n\r\n",
    "d\r\nnew_message=cc\r\n0\r\n\r\n",
    "e\r\nnew_message=c\r\n0\r\n\r\n",
    "d\r\nnew_message=c0\r\n\r\n",
    "d\r\nnew_message=c\n0\r\n\r\n",
    "d\r\nnew_message=c\r\n\r\n0\r\n\r\n",
    "d\r\nnew_message=c\r\n0\n\n",
    "d\r\nnew_message=c\r\n0\r\nT: x\n\r\n",
    "d\r\nnew_message=c\r\n0\r\nT\0: x\r\n\r\n",
    "d\r\nnew_message=c\r\n0\r\nno colon\r\n\r\n",
    "d\r\nnew_message=c\r\n0\r\nT : x\r\n\r\n",
    "d\r\nnew_message=c\r\n0\r\nT: x\r\n folded\r\n\r\n",
    "d\r\nnew_message=c\r\n0\r\n: x\r\n\r\n",
    // The last chunk's empty line is missing: the next request must not be read as a trailer.
    "d\r\nnew_message=c\r\n0\r\nGET /livez HTTP/1.1\r\nHost: board.test\r\n\r\n",
];

/// Sizes beyond the limit of a body.
const HUGE_CHUNKS: &[&str] = &[
    "10001\r\n",
    "fffffff\r\n",
    "7fffffff\r\n",
    "80000000\r\n",
    "ffffffff\r\n",
    "100000000\r\n",
    "10000000d\r\nnew_message=c\r\n0\r\n\r\n",
    "7fffffffffffffff\r\n",
    "ffffffffffffffff\r\n",
    "1000000000000000d\r\nnew_message=c\r\n0\r\n\r\n",
    "fffffffffffffffffffffffffffffffffffffffffff\r\n",
];

/// Chunked bodies that are legal, of the message `c`.
const LEGAL_CHUNKS: &[&str] = &[
    "d\r\nnew_message=c\r\n0\r\n\r\n",
    "D\r\nnew_message=c\r\n0\r\n\r\n",
    "000d\r\nnew_message=c\r\n000\r\n\r\n",
    "1\r\nn\r\nc\r\new_message=c\r\n0\r\n\r\n",
    "d;name\r\nnew_message=c\r\n0;last\r\n\r\n",
    "d;name=value;other=\"quoted; text\"\r\nnew_message=c\r\n0\r\n\r\n",
    "d \t; spaced = value\r\nnew_message=c\r\n0\r\n\r\n",
    "d;é\r\nnew_message=c\r\n0\r\n\r\n",
    "d\r\nnew_message=c\r\n0\r\nTrailer: dropped\r\nX:\r\n\r\n",
    "d\r\nnew_message=c\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: gzip\r\nHost: other\r\n\r\n",
];

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        MALFORMED.iter().map(|(headers, body)| refused(post(headers, body), 400, "bad_request")).collect();
    cases.extend(CODINGS.iter().map(|coding| {
        refused(
            post(&format!("Transfer-Encoding: {coding}\r\n"), "d\r\nnew_message=c\r\n0\r\n\r\n"),
            501,
            "not_implemented",
        )
    }));
    cases.extend(MALFORMED_CHUNKS.iter().map(|body| refused(post(CHUNKED, body), 400, "bad_request")));
    cases.extend(HUGE_CHUNKS.iter().map(|body| refused(post(CHUNKED, body), 413, "body_too_large")));
    cases.extend(LEGAL_CHUNKS.iter().map(|body| answered(post(CHUNKED, body), 200, "").stores("c")));
    cases.extend(limits());
    cases.extend(smuggling());
    cases
}

fn limits() -> Vec<Case> {
    const LIMIT: usize = 64 * 1024;
    let body = |n: usize| format!("new_message=l&x={}", "x".repeat(n - 16));
    let declared = |length: &str, method: &str| {
        format!("{method} /submit HTTP/1.1\r\nHost: board.test\r\n{FORM}Content-Length: {length}\r\n\r\n")
    };
    let chunk = |n: usize| format!("{n:x}\r\n{}\r\n", "x".repeat(n));
    let one_by_one: String =
        "new_message=one".bytes().map(|b| format!("1;{}\r\n{}\r\n", "x".repeat(900), char::from(b))).collect();
    let trailers = |n: usize| format!("d\r\nnew_message=t\r\n0\r\n{}\r\n", "T: x\r\n".repeat(n));
    vec![
        answered(form(body(LIMIT)), 200, "").stores("l"),
        refused(form(body(LIMIT + 1)), 413, "body_too_large"),
        refused(form(body(1_000_000)), 413, "body_too_large"),
        refused(declared("65537", "POST"), 413, "body_too_large"),
        refused(declared("4294967296", "POST"), 413, "body_too_large"),
        refused(declared("9223372036854775808", "POST"), 413, "body_too_large"),
        refused(declared("18446744073709551616", "POST"), 413, "body_too_large"),
        refused(declared("99999999999999999999999999", "GET"), 413, "body_too_large"),
        Case::of(declared("65537", "HEAD")).head(413).closed(),
        answered(declared("0", "POST"), 400, "missing_field"),
        answered(post(CHUNKED, "0\r\n\r\n"), 400, "missing_field"),
        answered(post(CHUNKED, [chunk(LIMIT).as_bytes(), b"0\r\n\r\n"].concat()), 400, "missing_field"),
        refused(post(CHUNKED, chunk(0x8000).repeat(3)), 413, "body_too_large"),
        refused(post(CHUNKED, [chunk(LIMIT).as_str(), "1\r\n"].concat()), 413, "body_too_large"),
        answered(post(CHUNKED, [one_by_one.as_str(), "0\r\n\r\n"].concat()), 200, "").stores("one"),
        refused(post(CHUNKED, format!("d;{}", "x".repeat(2000))), 431, "header_too_large"),
        refused(post(CHUNKED, format!("d;{}", "x".repeat(1_000_000))), 431, "header_too_large"),
        refused(post(CHUNKED, format!("0\r\nT: {}", "x".repeat(2000))), 431, "header_too_large"),
        answered(post(CHUNKED, trailers(100)), 200, "").stores("t"),
        refused(post(CHUNKED, trailers(101)), 431, "header_too_large"),
        refused(post(CHUNKED, trailers(100_000)), 431, "header_too_large"),
    ]
}

/// One request inside another's body or after it: each is read once, where the framing says, or not at all.
fn smuggling() -> Vec<Case> {
    let inner = form("new_message=smuggled");
    let inside = |outer: &str| [outer.as_bytes(), &inner].concat();
    let length = inner.len();
    let chunk = [format!("{length:x}\r\n").as_bytes(), &inner, b"\r\n0\r\n\r\n"].concat();
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let two = format!("Content-Length: {length}\r\nContent-Length: 0\r\n");
    let own = |headers: &str, body: &[u8]| Case::of(post(headers, body));
    vec![
        own(both, &chunk).answer(400, "bad_request").closed(),
        own(both, &inside("0\r\n\r\n")).answer(400, "bad_request").closed(),
        own(&two, &inner).answer(400, "bad_request").closed(),
        own("Transfer-Encoding: xchunked\r\n", &inside("0\r\n\r\n")).answer(501, "not_implemented").closed(),
        own("Transfer-Encoding:chunked\r\nContent-Length:0\r\n", &inner).answer(400, "bad_request").closed(),
        own("X: y\r\n\tTransfer-Encoding: chunked\r\n", &inside("0\r\n\r\n")).answer(400, "bad_request").closed(),
        own("Content-Length: 4\r\n", &inside("0\r\n\r\n").split_off(1))
            .answer(400, "missing_field")
            .answer(200, "")
            .stores("smuggled"),
        // As a body it is a body.
        Case::of(get("/livez", &format!("Content-Length: {length}\r\n"))).send(inner.clone()).answer(200, "").kept(),
        Case::of(get("/livez", CHUNKED)).send(chunk.clone()).answer(200, "").kept(),
        own(&format!("Content-Length: {length}\r\n"), &inner).answer(400, "missing_field").kept(),
        own(CHUNKED, &chunk).answer(400, "missing_field").kept(),
        Case::of("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .send(chunk)
            .answer(404, "not_found")
            .kept(),
        // After a request it is the next one; after a refused one it is discarded.
        own("Content-Length: 13\r\n", &inside("new_message=1"))
            .answer(200, "")
            .stores("1")
            .answer(200, "")
            .stores("smuggled"),
        own("Content-Length: 013\r\n", &inside("new_message=2"))
            .answer(200, "")
            .stores("2")
            .answer(200, "")
            .stores("smuggled"),
        own("Content-Length: 13\r\nConnection: close\r\n", &inside("new_message=3"))
            .answer(200, "")
            .stores("3")
            .closed(),
        own("Content-Length: 70000\r\n", &inner).answer(413, "body_too_large").closed(),
        own("Content-Length: 13\r\n", b"new_message=4ODD")
            .answer(200, "")
            .stores("4")
            .send(get("/livez", ""))
            .answer(405, "method_not_allowed"),
        own("Content-Length: 5\r\n", b"new_message=5")
            .answer(400, "missing_field")
            .send(get("/x", ""))
            .answer(400, "bad_request")
            .closed(),
        // Names that look like the header and are others.
        own("Content_Length: 13\r\nX-Content-Length: 13\r\nXTransfer-Encoding: chunked\r\n", b"")
            .answer(400, "missing_field")
            .kept(),
    ]
}
