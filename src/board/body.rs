//! Reads the text to store from the body of a request: a form, JSON or plain text. No I/O.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::input::{self, Fields};
use super::multipart;
use super::parameters::parameter;
use super::problem::{Problem, excerpt};
use super::submit::Endpoint;
use crate::http::Request;
use crate::http::head::Head;

/// A text to store, and the key that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The text as it was sent.
    pub text: String,
    /// The key as it was sent.
    pub key: Option<String>,
    /// The key came in the form. Then it may have been used for another text: Back, edit, send.
    pub key_in_form: bool,
}

/// The members of a JSON object, in their order; a name may occur twice.
struct Members(Vec<(String, Value)>);

/// The byte order mark of UTF-8, which editors write and RFC 8259 allows to ignore.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the body of a write. The form is lenient, as the app that it replaces was: it ignores unknown fields, and takes the
/// first of two. The API refuses both, because they mean that a text was cut in two.
pub fn submitted(request: &Request, endpoint: Endpoint) -> Result<Submitted, Problem> {
    let key = key_header(&request.head)?;
    let content_type = request.head.value("content-type");
    let media_type = content_type.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let body = request.body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&request.body);
    match (media_type.as_deref(), endpoint) {
        (Some("application/x-www-form-urlencoded"), _) => {
            let fields = input::fields(body).ok_or(Problem::BadRequest(Cow::Borrowed("The form is not UTF-8.")))?;
            from_fields(fields, key, endpoint)
        }
        (Some("multipart/form-data"), _) => {
            let boundary = content_type.and_then(|value| parameter(value, "boundary")).unwrap_or_default();
            from_fields(multipart::fields(&boundary, body)?, key, endpoint)
        }
        (Some("application/json"), Endpoint::Api) => Ok(Submitted { text: from_json(body)?, key, key_in_form: false }),
        (Some("text/plain"), Endpoint::Api) => {
            let charset = content_type.and_then(|value| parameter(value, "charset"));
            let is_utf8 = |charset: &str| ["utf-8", "utf8", "us-ascii"].iter().any(|c| charset.eq_ignore_ascii_case(c));
            if !charset.as_deref().is_none_or(is_utf8) {
                return Err(Problem::UnsupportedMediaType("Send text/plain in UTF-8."));
            }
            let text =
                std::str::from_utf8(body).map_err(|_| Problem::BadRequest(Cow::Borrowed("The text is not UTF-8.")))?;
            Ok(Submitted { text: text.to_owned(), key, key_in_form: false })
        }
        (None, _) if body.is_empty() => Err(missing(endpoint.field())),
        (_, Endpoint::Api) => Err(Problem::UnsupportedMediaType(
            "Send the body as application/json, application/x-www-form-urlencoded, multipart/form-data or text/plain, and \
             name its type in Content-Type.",
        )),
        (_, Endpoint::Form) => Err(Problem::UnsupportedMediaType(
            "Send the form as application/x-www-form-urlencoded or multipart/form-data.",
        )),
    }
}

fn from_fields(mut fields: Fields, header: Option<String>, endpoint: Endpoint) -> Result<Submitted, Problem> {
    if endpoint == Endpoint::Api {
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        check_names(&names, &["message", "key"])?;
    }
    let mut field = |name: &str| fields.iter_mut().find(|(n, _)| n == name).map(|(_, value)| std::mem::take(value));
    let in_form = field("key");
    if header.as_ref().zip(in_form.as_ref()).is_some_and(|(header, in_form)| header != in_form) {
        return Err(Problem::InvalidKey("The header Idempotency-Key and the field key differ. Send one of them."));
    }
    let text = field(endpoint.field()).ok_or_else(|| missing(endpoint.field()))?;
    Ok(Submitted { text, key_in_form: in_form.is_some(), key: in_form.or(header) })
}

/// Every field must be `known`, and sent once; a message must be among them.
fn check_names(names: &[&str], known: &[&str]) -> Result<(), Problem> {
    let unknown = names.iter().find(|name| !known.contains(name)).map(|name| excerpt(name).into_owned());
    if !names.contains(&"message") {
        return Err(Problem::MissingField { name: "message", unknown });
    }
    if let Some(unknown) = unknown {
        return Err(Problem::UnknownField(unknown));
    }
    match known.iter().find(|known| names.iter().filter(|name| name == known).count() > 1) {
        Some(name) => Err(Problem::BadRequest(Cow::Owned(format!("The field {name} is sent twice. Send it once.")))),
        None => Ok(()),
    }
}

fn from_json(body: &[u8]) -> Result<String, Problem> {
    let body = std::str::from_utf8(body).map_err(|_| Problem::InvalidJson(Cow::Borrowed("the body is not UTF-8")))?;
    let Members(members) = serde_json::from_str(body)
        .map_err(|error| Problem::InvalidJson(Cow::Owned(excerpt(&error.to_string()).into_owned())))?;
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    check_names(&names, &["message"])?;
    match members.into_iter().next() {
        Some((_, Value::String(text))) => Ok(text),
        Some((_, Value::Null)) | None => Err(missing("message")),
        Some(_) => Err(Problem::InvalidJson(Cow::Borrowed("message is not a string"))),
    }
}

fn missing(name: &'static str) -> Problem {
    Problem::MissingField { name, unknown: None }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

fn key_header(head: &Head) -> Result<Option<String>, Problem> {
    let mut keys = head.values("idempotency-key");
    match (keys.next(), keys.next()) {
        (key, None) => Ok(key.map(str::to_owned)),
        (_, Some(_)) => Err(Problem::InvalidKey("There is more than one header Idempotency-Key. Send one.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn read(headers: &str, body: &[u8], endpoint: Endpoint) -> Result<Submitted, Problem> {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let head = Head::parse(head.into_bytes()).unwrap();
        submitted(&Request { head, body: body.to_vec(), peer: IpAddr::V4(Ipv4Addr::LOCALHOST) }, endpoint)
    }

    const URLENCODED: &str = "Content-Type: application/x-www-form-urlencoded; charset=x\r\n";

    fn form(body: &[u8]) -> Result<String, Problem> {
        read(URLENCODED, body, Endpoint::Form).map(|submitted| submitted.text)
    }

    fn api(content_type: &str, body: &[u8]) -> Result<String, Problem> {
        read(&format!("Content-Type: {content_type}\r\n"), body, Endpoint::Api).map(|submitted| submitted.text)
    }

    fn text(text: &str) -> Result<String, Problem> {
        Ok(text.to_owned())
    }

    #[test]
    fn a_form_gives_its_first_field_of_the_name_and_ignores_others() {
        assert_eq!(form(b"new_message=a+b%26%F0%9F%98%80"), text("a b&😀"));
        assert_eq!(form(b"x=1&new_message=a&new_message=b"), text("a"));
        assert_eq!(form("new_message=é".as_bytes()), text("é"), "raw UTF-8 is taken too");
        assert_eq!(form(b"\xef\xbb\xbfnew_message=a"), text("a"));
        assert_eq!(form(b""), Err(missing("new_message")));
        assert_eq!(form(b"message=a"), Err(missing("new_message")));
    }

    #[test]
    fn a_form_that_is_not_utf_8_is_refused_and_not_repaired() {
        for body in
            [&b"new_message=%ff"[..], b"new_message=%C0%AF", b"new_message=%ED%A0%80", b"new_message=\xff", b"%ff=1"]
        {
            assert!(matches!(form(body), Err(Problem::BadRequest(_))), "{body:?}");
        }
    }

    #[test]
    fn the_api_takes_no_unknown_and_no_second_field() {
        let urlencoded = "application/x-www-form-urlencoded";
        assert_eq!(api(urlencoded, b"message=Fish+%26+chips&key=k"), text("Fish & chips"));
        for (body, named) in [
            (&b"message=Fish & chips"[..], "\" chips\""),
            (b"message=a&x=1", "\"x\""),
            (b"hello", "\"hello\""),
            (b"message=a&message=b", "message is sent twice"),
            (b"new_message=a", "\"new_message\""),
        ] {
            let problem = api(urlencoded, body).unwrap_err();
            assert!(problem.detail().contains(named), "{problem:?}");
        }
        let multipart = b"--b\r\nContent-Disposition: form-data; name=x\r\n\r\na\r\n--b--";
        let problem = api("multipart/form-data; boundary=b", multipart).unwrap_err();
        assert!(problem.detail().contains("\"x\""), "{problem:?}");
    }

    #[test]
    fn multipart_forms_are_taken_by_both_endpoints() {
        let body = |name: &str| {
            let part = |name: &str, text: &str| {
                format!("--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{text}\r\n")
            };
            part(name, "a & b") + &part("key", "k") + "--b--\r\n"
        };
        let headers = "Content-Type: Multipart/Form-Data; boundary=\"b\"\r\n";
        for endpoint in [Endpoint::Form, Endpoint::Api] {
            let submitted = read(headers, body(endpoint.field()).as_bytes(), endpoint);
            let want = Submitted { text: "a & b".to_owned(), key: Some("k".to_owned()), key_in_form: true };
            assert_eq!(submitted, Ok(want), "{endpoint:?}");
        }
    }

    #[test]
    fn json_must_be_an_object_with_nothing_but_a_text() {
        let json = |body: &str| api("Application/JSON;charset=utf-8", body.as_bytes());
        assert_eq!(json(r#" {"message": "a\u0041\ud83d\ude00"}"#), text("aA😀"));
        assert_eq!(json("\u{feff}{\"message\": \"a\"}"), text("a"), "a byte order mark");
        assert_eq!(json("{}"), Err(missing("message")));
        assert_eq!(json(r#"{"message": null}"#), Err(missing("message")));
        let deep = "[".repeat(60_000);
        let deep_member = format!("{{\"message\":{}", "[".repeat(60_000));
        for body in [
            "",
            "{",
            "null",
            "7",
            "\"a\"",
            "[\"a\"]",
            r#"{"message": 7}"#,
            r#"{"message": "\ud800"}"#,
            &deep,
            &deep_member,
            r#"{"message":"a"}x"#,
            "\u{feff}\u{feff}{\"message\": \"a\"}",
        ] {
            match json(body) {
                Err(Problem::InvalidJson(reason)) => {
                    assert!(["Members", "struct", "tuple", "::"].iter().all(|name| !reason.contains(name)), "{reason}");
                }
                other => panic!("{other:?} of {body:.40}"),
            }
        }
        for body in [&b"{\"message\":\"caf\xe9\"}"[..], b"\xff\xfe{\0\"\0", b"{\"message\":\"\xed\xa0\x80\"}"] {
            let problem = api("application/json", body).unwrap_err();
            assert!(problem.detail().contains("not UTF-8"), "{problem:?}");
        }
        let unknown = |name: &str| Err(Problem::UnknownField(name.to_owned()));
        assert_eq!(json(r#"{"message":"a","name":"bob"}"#), unknown("name"));
        assert_eq!(json(r#"{"key":[{"x":1}],"message":"a"}"#), unknown("key"));
        assert!(json(r#"{"message":"a","message":"b"}"#).unwrap_err().detail().contains("twice"));
        assert!(json(r#"{"Message":"a"}"#).unwrap_err().detail().contains("\"Message\""));
    }

    #[test]
    fn plain_text_is_taken_by_the_api_as_it_is() {
        assert_eq!(api("text/plain", b"a & b=c %41\n"), text("a & b=c %41\n"));
        assert_eq!(api("Text/Plain; charset=\"UTF-8\"", "\u{feff}é".as_bytes()), text("é"));
        assert!(matches!(api("text/plain", b"\xff"), Err(Problem::BadRequest(_))));
        assert!(matches!(api("text/plain; charset=latin1", b"a"), Err(Problem::UnsupportedMediaType(_))));
        let form = read("Content-Type: text/plain\r\n", b"new_message=a", Endpoint::Form);
        assert!(matches!(form, Err(Problem::UnsupportedMediaType(_))));
    }

    #[test]
    fn other_types_are_refused() {
        for content_type in ["text/html", "application/xml", "application/jsonp", ""] {
            assert!(matches!(api(content_type, b"x"), Err(Problem::UnsupportedMediaType(_))), "{content_type}");
        }
        assert!(matches!(read("", b"x", Endpoint::Api), Err(Problem::UnsupportedMediaType(_))));
        assert_eq!(read("", b"", Endpoint::Api), Err(missing("message")));
        let json = read("Content-Type: application/json\r\n", b"{}", Endpoint::Form);
        assert!(matches!(json, Err(Problem::UnsupportedMediaType(_))));
    }

    #[test]
    fn a_key_comes_by_header_or_by_field_but_is_one() {
        let with = |headers: &str, body: &[u8]| {
            read(&format!("{URLENCODED}{headers}"), body, Endpoint::Api).map(|s| (s.key, s.key_in_form))
        };
        let key = || Some("k".to_owned());
        assert_eq!(with("", b"message=a"), Ok((None, false)));
        assert_eq!(with("", b"message=a&key=k"), Ok((key(), true)));
        assert_eq!(with("Idempotency-Key: k\r\n", b"message=a"), Ok((key(), false)));
        assert_eq!(with("Idempotency-Key: k\r\n", b"message=a&key=k"), Ok((key(), true)));
        for (headers, body) in [
            ("Idempotency-Key: k\r\n", &b"message=a&key=K"[..]),
            ("Idempotency-Key: k\r\nIdempotency-Key: k\r\n", b"message=a"),
        ] {
            assert!(matches!(with(headers, body), Err(Problem::InvalidKey(_))), "{headers}");
        }
    }
}
