//! How answers look: JSON for programs, HTML for people, with the headers that each kind always has.

use serde::{Serialize, Serializer};

use super::problem::{Problem, ProblemJson};
use super::representation::Representation;
use crate::http::{Body, Response};
use crate::message::{Message, Timestamp};
use crate::page::{Asset, CONTENT_SECURITY_POLICY, Depth, Pages};

/// What changes from one moment to the next, and has no entity tag.
pub(super) const NO_STORE: (&str, &str) = ("Cache-Control", "no-store");
/// For files whose name changes with their content.
pub(super) const FOR_EVER: (&str, &str) = ("Cache-Control", "public, max-age=31536000, immutable");
/// For files whose name stays the same.
pub(super) const FOR_A_DAY: (&str, &str) = ("Cache-Control", "public, max-age=86400");
/// The same URL has a page for browsers and JSON for programs.
pub(super) const VARY: (&str, &str) = ("Vary", "Accept");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const HTML: [(&str, &str); 3] =
    [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", CONTENT_SECURITY_POLICY), VARY];

/// A text without markup.
pub(super) const PLAIN: &str = "text/plain; charset=utf-8";

/// A stored message, as programs see it.
#[derive(Serialize)]
pub(super) struct MessageJson<'a> {
    id: u64,
    message: &'a str,
    #[serde(serialize_with = "moment")]
    created_at: Option<Timestamp>,
    #[serde(serialize_with = "moment")]
    edited_at: Option<Timestamp>,
}

#[derive(Serialize)]
struct ListJson<'a> {
    messages: Vec<MessageJson<'a>>,
    next: Option<String>,
}

impl<'a> From<&'a Message> for MessageJson<'a> {
    fn from(m: &'a Message) -> MessageJson<'a> {
        MessageJson { id: m.id, message: &m.text, created_at: m.created_at, edited_at: m.edited_at }
    }
}

/// A value as JSON.
pub(super) fn json(status: u16, headers: &[(&str, &str)], value: &impl Serialize) -> Response {
    json_without_value(status, headers).with_body(json_body(value))
}

/// An answer that lacks its value, for many of them: to print a head takes longer than anything else about a small answer.
pub(super) fn json_without_value(status: u16, headers: &[(&str, &str)]) -> Response {
    Response::new(status, &[&[JSON, NO_STORE], headers].concat(), Body::Empty)
}

/// A value for such an answer.
pub(super) fn json_body(value: &impl Serialize) -> Body {
    Body::shared(json_bytes(value))
}

/// A message as JSON; `allow` has its methods.
pub(super) fn message(message: &Message, allow: &str) -> Representation {
    Representation::new(&[JSON, VARY, ("Allow", allow)], json_bytes(&MessageJson::from(message)))
}

/// The page of a message; `allow` has its methods.
pub(super) fn message_page(page: String, allow: &str) -> Representation {
    Representation::new(&[&HTML[..], &[("Allow", allow)]].concat(), page.into_bytes())
}

/// Messages as JSON, and the URL that continues the list, which is a link too (RFC 8288); `allow` has the methods of
/// the list.
pub(super) fn list(messages: &[Message], next: Option<String>, allow: &str) -> Representation {
    let link = next.as_ref().map(|next| format!("<{next}>; rel=\"next\""));
    let mut headers = vec![JSON, ("Allow", allow)];
    headers.extend(link.iter().map(|link| ("Link", link.as_str())));
    Representation::new(
        &headers,
        json_bytes(&ListJson { messages: messages.iter().map(MessageJson::from).collect(), next }),
    )
}

/// The feed.
pub(super) fn feed(xml: String) -> Representation {
    Representation::new(&[("Content-Type", "application/atom+xml; charset=utf-8")], xml.into_bytes())
}

/// A page.
pub(super) fn html(status: u16, headers: &[(&str, &str)], body: Body) -> Response {
    Response::new(status, &[&HTML, &[NO_STORE][..], headers].concat(), body)
}

/// A file that is part of the program.
pub(super) fn file(cache: (&str, &str), content_type: &str, content: &str) -> Response {
    Response::new(200, &[("Content-Type", content_type), cache], Body::shared(content))
}

/// A file that pages load.
pub(super) fn asset(cache: (&str, &str), asset: &Asset) -> Response {
    file(cache, asset.content_type, &asset.content)
}

/// A line of text.
pub(super) fn text(status: u16, headers: &[(&str, &str)], line: &str) -> Response {
    let plain = [("Content-Type", PLAIN), NO_STORE];
    Response::new(status, &[&plain, headers].concat(), Body::shared(format!("{line}\n")))
}

/// An error: a page for a path of this depth where the client prefers one, otherwise `application/problem+json`.
pub(super) fn problem(pages: &Pages, problem: &Problem, page: Option<Depth>, request_id: &str) -> Response {
    let header = problem.header();
    if let Some(depth) = page {
        let (heading, advice) = problem.words();
        let body = Body::shared(pages.error(heading, &advice, depth));
        return html(problem.status(), header.as_slice(), body);
    }
    let headers = [&[("Content-Type", "application/problem+json"), NO_STORE, VARY], header.as_slice()].concat();
    let body = json_body(&ProblemJson::new(problem, &problem.detail(), request_id));
    Response::new(problem.status(), &headers, body)
}

fn json_bytes(value: &impl Serialize) -> Vec<u8> {
    // Our own structs of strings and numbers always serialize.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    // For a reader at a terminal.
    bytes.push(b'\n');
    bytes
}

fn moment<S: Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => serializer.collect_str(moment),
        None => serializer.serialize_none(),
    }
}
