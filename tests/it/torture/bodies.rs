//! Bodies: forms, JSON, idempotency keys, and what is neither.

use super::{Case, FORM, JSON, answered, form, post};

/// Bytes of a form that are not UTF-8.
const NOT_UTF_8: &[&[u8]] = &[
    b"new_message=%ff",
    b"new_message=\xff",
    b"new_message=%C0%AF",
    b"new_message=%C0%80",
    b"new_message=%E0%80%AF",
    b"new_message=%F0%80%80%AF",
    b"new_message=%F8%88%80%80%80",
    b"new_message=%ED%A0%80",
    b"new_message=%ED%A0%BD%ED%B8%80",
    b"new_message=%F4%90%80%80",
    b"new_message=%E2%82",
    b"new_message=%E2%82&x=%AC",
    b"new_message=\xe2%82\xff",
    b"new_message=%80",
    b"%ff=1&new_message=a",
    b"new_message=a&x=%fe",
    b"new_message=\xc3\x28",
];

/// Forms and what is wrong with them.
const BAD_FORMS: &[(&[u8], &str)] = &[
    (b"x", "missing_field"),
    (b"=", "missing_field"),
    (b"&&&&", "missing_field"),
    (b"message=a", "missing_field"),
    (b"New_Message=a", "missing_field"),
    (b"new_message[]=a", "missing_field"),
    (b"new%5Fmessage%3Da", "missing_field"),
    (b"{\"new_message\": \"a\"}", "missing_field"),
    (b"new_message", "empty_message"),
    (b"new_message=", "empty_message"),
    (b"new_message=+%20%09%0a%0d%0a", "empty_message"),
    (b"new_message=%C2%A0%E3%80%80", "empty_message"),
    (b"new_message=&new_message=a", "empty_message"),
    (b"new_message=a%00b", "invalid_message"),
    (b"new_message=a\0b", "invalid_message"),
    (b"new_message=a%1b%5b2J", "invalid_message"),
    (b"new_message=a%0db", "invalid_message"),
    (b"new_message=a%7fb", "invalid_message"),
    (b"new_message=a%C2%85b", "invalid_message"),
    (b"new_message=a&key=", "invalid_key"),
    (b"new_message=a&key=a+b", "invalid_key"),
    (b"new_message=a&key=%C3%A9", "invalid_key"),
    (b"new_message=a&key=k%00", "invalid_key"),
];

/// Forms and the message that they hold.
const GOOD_FORMS: &[(&str, &str)] = &[
    ("new_message=a+b%2Bc", "a b+c"),
    ("new_message=%F0%9F%98%80", "😀"),
    ("new_message=😀é", "😀é"),
    ("%6eew_message=n", "n"),
    ("new_message=100%", "100%"),
    ("new_message=%zz%4", "%zz%4"),
    ("new_message=a=b==", "a=b=="),
    ("new_message=a;b", "a;b"),
    ("new_message=%26%3D", "&="),
    ("new_message=first&new_message=second", "first"),
    ("&&x&new_message=m&&", "m"),
    ("_charset_=iso-8859-1&new_message=u", "u"),
    ("new_message=a%0D%0Ab", "a\nb"),
    ("new_message=%EF%BB%BFbom", "\u{feff}bom"),
    ("new_message=%F4%8F%BF%BF", "\u{10ffff}"),
    ("new_message='); DROP TABLE messages; -- %5C", "'); DROP TABLE messages; -- \\"),
];

const BAD_JSON: &[(&[u8], &str)] = &[
    (b"", "invalid_json"),
    (b" ", "invalid_json"),
    (b"{", "invalid_json"),
    (b"[]", "invalid_json"),
    (b"null", "invalid_json"),
    (b"7", "invalid_json"),
    (b"1e999999999", "invalid_json"),
    (b"\"message\"", "invalid_json"),
    (b"{\"message\": \"a\"}}", "invalid_json"),
    (b"{\"message\": \"a\"} x", "invalid_json"),
    (b"{\"message\": \"a\",}", "invalid_json"),
    (b"{message: \"a\"}", "invalid_json"),
    (b"{'message': 'a'}", "invalid_json"),
    (b"{\"message\": 7}", "invalid_json"),
    (b"{\"message\": [\"a\"]}", "invalid_json"),
    (b"{\"message\": {\"a\": 1}}", "invalid_json"),
    (b"{\"message\": true}", "invalid_json"),
    (b"{\"message\": \"a\", \"message\": \"b\"}", "bad_request"),
    (b"{\"message\": \"\\ud800\"}", "invalid_json"),
    (b"{\"message\": \"\\udc00\\ud800\"}", "invalid_json"),
    (b"{\"message\": \"\\u00\"}", "invalid_json"),
    (b"{\"message\": \"\\x41\"}", "invalid_json"),
    (b"{\"message\": \"a\nb\"}", "invalid_json"),
    (b"{\"message\": \"\xff\"}", "invalid_json"),
    (b"{\"message\": \"\xc0\xaf\"}", "invalid_json"),
    (b"{\"message\": \"\xed\xa0\x80\"}", "invalid_json"),
    (b"\xff\xfe{\0\"\0", "invalid_json"),
    (b"/* */{\"message\": \"a\"}", "invalid_json"),
    (b"{\"message\": NaN}", "invalid_json"),
    (b"message=a", "invalid_json"),
    (b"{}", "missing_field"),
    (b"{\"message\": null}", "missing_field"),
    (b"{\"Message\": \"a\"}", "missing_field"),
    (b"{\"message \": \"a\"}", "missing_field"),
    (b"{\"message\": \"p\", \"__proto__\": {\"message\": 7}}", "bad_request"),
    (b"{\"other\": [1, {\"message\": \"inner\"}], \"message\": \"outer\"}", "bad_request"),
    (b"{\"message\": \"\"}", "empty_message"),
    (b"{\"message\": \" \\n\\u3000\"}", "empty_message"),
    (b"{\"message\": \"a\\u0000b\"}", "invalid_message"),
    (b"{\"message\": \"a\\u007f\"}", "invalid_message"),
];

const GOOD_JSON: &[(&str, &str)] = &[
    (r#"{"message":"a"}"#, "a"),
    (" \n\t{ \"message\" : \"b\" }\r\n", "b"),
    (r#"{"message": "\ud83d\ude00\u00e9\/\\\""}"#, "😀é/\\\""),
    (r#"{"message": "é😀"}"#, "é😀"),
    (r#"{"m\u0065ssage": "escaped name"}"#, "escaped name"),
    ("\u{feff}{\"message\": \"marked\"}", "marked"),
];

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = NOT_UTF_8.iter().map(|body| answered(form(body), 400, "bad_request")).collect();
    cases.extend(BAD_FORMS.iter().map(|(body, code)| answered(form(body), 400, code)));
    cases.extend(GOOD_FORMS.iter().map(|(body, text)| answered(form(body), 200, "").stores(*text)));
    cases.extend(BAD_JSON.iter().map(|(body, code)| answered(json(body), 400, code)));
    cases.extend(GOOD_JSON.iter().map(|(body, text)| answered(json(body.as_bytes()), 201, "").stores(*text)));
    cases.extend(sizes());
    cases.extend(types());
    cases.extend(keys_and_rights());
    cases
}

fn json(body: &[u8]) -> Vec<u8> {
    typed("/messages", JSON, body)
}

fn typed(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\n{content_type}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn sizes() -> Vec<Case> {
    let fields = |n: usize| format!("new_message=many{}", "&a".repeat(n));
    let nested = |n: usize| format!(r#"{{"x": {}{}, "message": "deep"}}"#, "[".repeat(n), "]".repeat(n));
    let objects = format!(r#"{}7{}"#, r#"{"message":"#.repeat(5000), "}".repeat(5000));
    vec![
        answered(form(fields(32_000)), 200, "").stores("many"),
        Case::new("100,000 form fields").send(form(fields(100_000))).answer(413, "body_too_large").closed(),
        answered(form("&".repeat(64 * 1024)), 400, "missing_field"),
        answered(form("=".repeat(64 * 1024)), 400, "missing_field"),
        answered(form("%".repeat(64 * 1024)), 400, "missing_field"),
        answered(form(format!("new_message={}", "a".repeat(2001))), 400, "message_too_long"),
        answered(form(format!("new_message={}", "%F0%9F%98%80".repeat(2001))), 400, "message_too_long"),
        answered(form(format!("new_message={}", "%F0%9F%98%80".repeat(2000))), 200, "").stores("😀".repeat(2000)),
        answered(form(format!("new_message={}p", "+".repeat(60_000))), 200, "").stores("p"),
        answered(form(format!("new_message={}", "%0d%0a".repeat(10_000))), 400, "empty_message"),
        answered(form(format!("new_message=a&key={}", "k".repeat(65))), 400, "invalid_key"),
        answered(form(format!("new_message=k64&key={}", "k".repeat(64))), 200, "").stores("k64"),
        answered(json("[".repeat(60_000).as_bytes()), 400, "invalid_json"),
        answered(json(r#"{"a":"#.repeat(10_000).as_bytes()), 400, "invalid_json"),
        answered(json(objects.as_bytes()), 400, "invalid_json"),
        answered(json(nested(30_000).as_bytes()), 400, "invalid_json"),
        answered(
            json(format!(r#"{{"message": {}{}}}"#, "[".repeat(30_000), "]".repeat(30_000)).as_bytes()),
            400,
            "invalid_json",
        ),
        answered(json(format!(r#"{{"message": "{}"}}"#, "\\u0061".repeat(2001)).as_bytes()), 400, "message_too_long"),
        answered(
            json(format!(r#"{{"x": {}, "message": "number"}}"#, "9".repeat(60_000)).as_bytes()),
            400,
            "invalid_json",
        ),
    ]
}

fn types() -> Vec<Case> {
    let multipart = "Content-Type: multipart/form-data; boundary=b\r\n";
    let part = b"--b\r\nContent-Disposition: form-data; name=\"new_message\"\r\n\r\na\r\n--b--\r\n";
    let unsupported = [
        ("/submit", JSON),
        ("/submit", "Content-Type: text/plain\r\n"),
        ("/submit", ""),
        ("/messages", ""),
        ("/messages", "Content-Type: application/jsonp\r\n"),
        ("/messages", "Content-Type: application/json, text/plain\r\n"),
        ("/messages", "Content-Type: ;\r\n"),
    ];
    let mut cases: Vec<Case> = unsupported
        .iter()
        .map(|(path, content_type)| answered(typed(path, content_type, part), 415, "unsupported_media_type"))
        .collect();
    let form_type = |parameters: &str| format!("Content-Type: Application/X-WWW-Form-Urlencoded{parameters}\r\n");
    cases.extend([
        answered(typed("/submit", &form_type("; charset=utf-8"), b"new_message=t1"), 200, "").stores("t1"),
        answered(typed("/submit", &form_type(" ; charset=utf-7"), b"new_message=t2"), 200, "").stores("t2"),
        answered(typed("/messages", &form_type(";"), b"message=t3"), 201, "").stores("t3"),
        answered(
            typed("/messages", "Content-Type: APPLICATION/JSON;charset=utf-16\r\n", b"{\"message\": \"t4\"}"),
            201,
            "",
        )
        .stores("t4"),
        answered(typed("/messages", FORM, b"new_message=a"), 400, "missing_field"),
        answered(typed("/messages", FORM, b"message=Fish & chips"), 400, "bad_request"),
        answered(typed("/submit", multipart, part), 200, "").stores("a"),
        answered(typed("/messages", multipart, part), 400, "missing_field"),
        answered(typed("/submit", multipart, &part[..part.len() - 9]), 400, "bad_request"),
        answered(typed("/submit", "Content-Type: multipart/form-data\r\n", part), 400, "bad_request"),
        answered(typed("/messages", "Content-Type: text/plain\r\n", b"plain & simple\n"), 201, "")
            .stores("plain & simple"),
        answered(typed("/messages", "Content-Type: text/plain\r\n", b"\xff"), 400, "bad_request"),
    ]);
    cases
}

fn keys_and_rights() -> Vec<Case> {
    let keyed = |headers: &str| post(&format!("{headers}Content-Length: 13\r\n"), "new_message=a");
    let edit = |method: &str, headers: &str| {
        format!("{method} /messages/1 HTTP/1.1\r\nHost: a\r\n{JSON}{headers}Content-Length: 2\r\n\r\n{{}}")
    };
    let html = "Accept: text/html\r\n";
    let mut cases: Vec<Case> = ["", "a b", "é", "a\tb", "k".repeat(65).as_str()]
        .iter()
        .map(|key| answered(keyed(&format!("Idempotency-Key: {key}\r\n")), 400, "invalid_key"))
        .collect();
    cases.extend([
        answered(keyed("Idempotency-Key: a\r\nIdempotency-Key: a\r\n"), 400, "invalid_key"),
        answered(post("Idempotency-Key: a\r\nContent-Length: 19\r\n", "new_message=a&key=b"), 400, "invalid_key"),
        answered(keyed("Idempotency-Key: torture\r\n"), 200, "").stores("a"),
        answered(keyed("Idempotency-Key: torture\r\n"), 200, ""),
        answered(post("Idempotency-Key: torture\r\nContent-Length: 13\r\n", "new_message=b"), 422, "key_reused"),
        answered(keyed("Sec-Fetch-Site: cross-site\r\n"), 403, "cross_site"),
        answered(keyed("Origin: null\r\n"), 403, "cross_site"),
        answered(keyed("Origin: http://board.test.evil.test\r\n"), 403, "cross_site"),
        answered(edit("PUT", ""), 401, "unauthorized"),
        answered(edit("PUT", "Authorization: Bearer\r\n"), 401, "unauthorized"),
        answered(edit("PUT", "Authorization: Bearer t0ken-of-an-admin2\r\n"), 401, "unauthorized"),
        answered(edit("DELETE", "Authorization: Basic t0ken-of-an-admin\r\n"), 401, "unauthorized"),
        answered(edit("PUT", "Authorization: Bearer t0ken-of-an-admin\r\n"), 400, "missing_field"),
        answered(format!("GET /x HTTP/1.1\r\nHost: a\r\n{html}\r\n"), 404, "page"),
        answered(post(&format!("{html}Content-Length: 12\r\n"), "new_message="), 400, "page"),
        answered(post(&format!("{html}Content-Length: 13\r\n"), "new_message=r"), 303, "").stores("r"),
        Case::of(post(&format!("{html}Content-Length: 70000\r\n"), "")).answer(413, "page").closed(),
        Case::of(post(&format!("{html}Content-Length: 5, 5\r\n"), "hello")).answer(400, "bad_request").closed(),
    ]);
    cases
}
