//! What requests say: query parameters, forms, JSON and idempotency keys, read strictly. No I/O.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use serde::Deserialize;

use super::problem::Problem;
use crate::http::Request;
use crate::http::head::Head;
use crate::idempotency_key::{IdempotencyKey, MAX_KEY};

/// Messages in a page or a list when nothing else is asked for.
pub const DEFAULT_LIMIT: usize = 50;
/// The most messages in a list.
pub const MAX_LIMIT: usize = 200;

/// Where in the board to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// From where.
    pub start: Start,
    /// How many messages at most.
    pub limit: usize,
}

/// Where a read begins, and in which direction it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the newest, newest first.
    Newest,
    /// Below this id, newest first.
    Before(u64),
    /// Above this id, oldest first.
    After(u64),
}

/// A text that somebody wants stored, and the key that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The text as it was sent.
    pub text: String,
    /// The key as it was sent.
    pub key: Option<String>,
}

#[derive(Deserialize)]
struct MessageBody {
    message: Option<String>,
}

type Fields = Vec<(String, String)>;

/// Reads `before`, `after` and `limit`. Other parameters are none of our business.
pub fn window(query: &str) -> Result<Window, Problem> {
    let fields = fields(query.as_bytes()).ok_or(Problem::InvalidParameter(Cow::Borrowed("The query is not UTF-8.")))?;
    let before = number(&fields, "before", "before must be one whole number, like before=42.")?;
    let after = number(&fields, "after", "after must be one whole number, like after=42.")?;
    let limit = number(&fields, "limit", LIMIT_WORDS)?.unwrap_or(DEFAULT_LIMIT as u64);
    let limit = usize::try_from(limit).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    let start = match (before, after) {
        (None, None) => Start::Newest,
        (Some(id), None) => Start::Before(id),
        (None, Some(id)) => Start::After(id),
        (Some(_), Some(_)) => {
            return Err(Problem::InvalidParameter(Cow::Borrowed(
                "The parameters before and after must not both be set.",
            )));
        }
    };
    Ok(Window { start, limit: limit.ok_or(Problem::InvalidParameter(Cow::Borrowed(LIMIT_WORDS)))? })
}

const LIMIT_WORDS: &str = "limit must be one whole number from 1 to 200.";

/// The text in the form field `name`, or in the JSON member `message` where `json` says that JSON is taken too.
pub fn submitted(request: &Request, name: &'static str, json: bool) -> Result<Submitted, Problem> {
    let header = key_header(&request.head)?;
    let media_type = request.head.value("content-type").map(|v| v.split(';').next().unwrap_or_default().trim());
    let is = |name: &str| media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case(name));
    if is("application/x-www-form-urlencoded") {
        let mut fields = fields(&request.body).ok_or(Problem::BadRequest(Cow::Borrowed("The form is not UTF-8.")))?;
        let mut field = |name: &str| fields.iter_mut().find(|(n, _)| n == name).map(|(_, value)| std::mem::take(value));
        let key = match (header, field("key")) {
            (Some(header), Some(field)) if header != field => {
                return Err(Problem::InvalidKey("The header's key and the form's key differ."));
            }
            (header, field) => header.or(field),
        };
        return Ok(Submitted { text: field(name).ok_or(Problem::MissingField(name))?, key });
    }
    if json && is("application/json") {
        let body: MessageBody =
            serde_json::from_slice(&request.body).map_err(|e| Problem::InvalidJson(e.to_string().into()))?;
        return Ok(Submitted { text: body.message.ok_or(Problem::MissingField("message"))?, key: header });
    }
    match (media_type, json) {
        (None, _) if request.body.is_empty() => Err(Problem::MissingField(name)),
        (_, true) => Err(Problem::UnsupportedMediaType(
            "The body has to be application/json or application/x-www-form-urlencoded.",
        )),
        (_, false) => Err(Problem::UnsupportedMediaType("The body has to be application/x-www-form-urlencoded.")),
    }
}

/// The stored form of a key that a client chose.
pub fn key(chosen: &str) -> Result<IdempotencyKey, Problem> {
    const { assert!(MAX_KEY == 64) };
    IdempotencyKey::parse(chosen).ok_or(Problem::InvalidKey("A key is 1 to 64 visible ASCII characters."))
}

/// Whether `Accept` names `text/html`.
pub fn accepts_html(head: &Head) -> bool {
    head.values("accept").flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let html = parts.next().is_some_and(|media_type| media_type.eq_ignore_ascii_case("text/html"));
        html && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

fn key_header(head: &Head) -> Result<Option<String>, Problem> {
    let mut keys = head.values("idempotency-key");
    match (keys.next(), keys.next()) {
        (key, None) => Ok(key.map(str::to_owned)),
        (_, Some(_)) => Err(Problem::InvalidKey("There is more than one Idempotency-Key.")),
    }
}

/// Fields of a form or a query; nothing when their percent-decoded bytes are not UTF-8, which the crate would turn into
/// replacement characters without a word.
fn fields(encoded: &[u8]) -> Option<Fields> {
    match encoded.contains(&b'%') {
        true => drop(percent_decode(encoded).decode_utf8().ok()?),
        false => drop(std::str::from_utf8(encoded).ok()?),
    }
    serde_urlencoded::from_bytes(encoded).ok()
}

fn number(fields: &Fields, name: &str, words: &'static str) -> Result<Option<u64>, Problem> {
    let mut values = fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.bytes().all(|b| b.is_ascii_digit()) => {
            value.parse().map(Some).map_err(|_| Problem::InvalidParameter(Cow::Borrowed(words)))
        }
        (Some(_), _) => Err(Problem::InvalidParameter(Cow::Borrowed(words))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn request(headers: &str, body: &[u8]) -> Request {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let head = Head::parse(head.into_bytes()).unwrap();
        Request { head, body: body.to_vec(), peer: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }

    fn form(body: &[u8]) -> Result<Submitted, Problem> {
        submitted(
            &request("Content-Type: application/x-www-form-urlencoded; charset=x\r\n", body),
            "new_message",
            false,
        )
    }

    fn json(body: &str) -> Result<Submitted, Problem> {
        submitted(&request("Content-Type: Application/JSON\r\n", body.as_bytes()), "message", true)
    }

    fn text(text: &str) -> Result<Submitted, Problem> {
        Ok(Submitted { text: text.to_owned(), key: None })
    }

    #[test]
    fn a_window_is_read_from_the_query() {
        let at = |start, limit| Ok(Window { start, limit });
        assert_eq!(window(""), at(Start::Newest, DEFAULT_LIMIT));
        assert_eq!(window("limit=200&other=1"), at(Start::Newest, 200));
        assert_eq!(window("before=7"), at(Start::Before(7), DEFAULT_LIMIT));
        assert_eq!(window("after=0&limit=1"), at(Start::After(0), 1));
        assert_eq!(window("%61fter=18446744073709551615"), at(Start::After(u64::MAX), DEFAULT_LIMIT));
        for query in [
            "limit=0",
            "limit=201",
            "limit=",
            "limit=x",
            "limit=1&limit=1",
            "before=-1",
            "before=+1",
            "before=%FF",
            "before=1.5",
            "before=18446744073709551616",
            "before=1&after=1",
            "after",
            "before=１",
        ] {
            assert!(matches!(window(query), Err(Problem::InvalidParameter(_))), "{query}");
        }
    }

    #[test]
    fn a_form_gives_its_first_field_of_the_name() {
        assert_eq!(form(b"new_message=a+b%26%F0%9F%98%80"), text("a b&😀"));
        assert_eq!(form(b"x=1&new_message=a&new_message=b"), text("a"));
        assert_eq!(form("new_message=é".as_bytes()), text("é"), "raw UTF-8 is taken too");
        assert_eq!(form(b""), Err(Problem::MissingField("new_message")));
        assert_eq!(form(b"message=a"), Err(Problem::MissingField("new_message")));
    }

    #[test]
    fn a_form_that_is_not_utf_8_is_refused_and_not_mended() {
        for body in
            [&b"new_message=%ff"[..], b"new_message=%C0%AF", b"new_message=%ED%A0%80", b"new_message=\xff", b"%ff=1"]
        {
            assert!(matches!(form(body), Err(Problem::BadRequest(_))), "{body:?}");
        }
    }

    #[test]
    fn json_has_to_be_an_object_with_a_text() {
        assert_eq!(json(r#"{"message": "a\u0041\ud83d\ude00", "other": [1]}"#), text("aA😀"));
        assert_eq!(json("{}"), Err(Problem::MissingField("message")));
        assert_eq!(json(r#"{"message": null}"#), Err(Problem::MissingField("message")));
        let deep = "[".repeat(60_000);
        for body in [
            "",
            "{",
            "null",
            "7",
            "\"a\"",
            r#"{"message": 7}"#,
            r#"{"message": "\ud800"}"#,
            &deep,
            r#"{"message":"a"}x"#,
        ] {
            assert!(matches!(json(body), Err(Problem::InvalidJson(_))), "{body:.40}");
        }
    }

    #[test]
    fn other_types_are_refused() {
        let typed = |headers: &str| submitted(&request(headers, b"x"), "message", true);
        assert!(matches!(typed("Content-Type: multipart/form-data\r\n"), Err(Problem::UnsupportedMediaType(_))));
        assert!(matches!(typed("Content-Type: text/plain\r\n"), Err(Problem::UnsupportedMediaType(_))));
        assert!(matches!(typed(""), Err(Problem::UnsupportedMediaType(_))));
        assert_eq!(submitted(&request("", b""), "message", true), Err(Problem::MissingField("message")));
        let json_form = submitted(&request("Content-Type: application/json\r\n", b"{}"), "new_message", false);
        assert!(matches!(json_form, Err(Problem::UnsupportedMediaType(_))));
    }

    #[test]
    fn a_key_comes_by_header_or_by_field_but_is_one() {
        let with = |headers: &str, body: &[u8]| {
            let headers = format!("Content-Type: application/x-www-form-urlencoded\r\n{headers}");
            submitted(&request(&headers, body), "message", true).map(|s| s.key)
        };
        assert_eq!(with("", b"message=a"), Ok(None));
        assert_eq!(with("", b"message=a&key=k"), Ok(Some("k".to_owned())));
        assert_eq!(with("Idempotency-Key: k\r\n", b"message=a"), Ok(Some("k".to_owned())));
        assert_eq!(with("Idempotency-Key: k\r\n", b"message=a&key=k"), Ok(Some("k".to_owned())));
        for (headers, body) in [
            ("Idempotency-Key: k\r\n", &b"message=a&key=K"[..]),
            ("Idempotency-Key: k\r\nIdempotency-Key: k\r\n", b"message=a"),
        ] {
            assert!(matches!(with(headers, body), Err(Problem::InvalidKey(_))), "{headers}");
        }
        for malformed in ["", "a b", &"k".repeat(65)] {
            assert!(matches!(key(malformed), Err(Problem::InvalidKey(_))), "{malformed:?}");
        }
    }

    #[test]
    fn only_a_client_that_names_html_gets_html() {
        let accepts = |value: &str| accepts_html(&request(&format!("Accept: {value}\r\n"), b"").head);
        for value in
            ["text/html", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "application/json, Text/HTML;q=0.1"]
        {
            assert!(accepts(value), "{value}");
        }
        for value in ["*/*", "application/json", "text/*", "text/html;q=0", "text/htmlx", ""] {
            assert!(!accepts(value), "{value}");
        }
    }
}
