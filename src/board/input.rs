//! Reads query parameters, keys and `Accept` strictly. No I/O.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::live::LastEventId;
use super::problem::{Problem, excerpt};
use crate::http::head::Head;
use crate::idempotency_key::{IdempotencyKey, MAX_KEY};

/// Messages in a page or a list when nothing else is asked for.
pub const DEFAULT_LIMIT: usize = 50;
/// The most messages in a list.
pub const MAX_LIMIT: usize = 200;

/// The query parameters of a [`Window`].
pub const WINDOW_PARAMETERS: &[&str] = &["before", "after", "limit"];

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

pub(super) type Fields = Vec<(String, String)>;

/// Reads `before`, `after` and `limit`, and refuses all other parameters.
pub fn window(query: &str) -> Result<Window, Problem> {
    let fields = parameters(query, WINDOW_PARAMETERS)?;
    let start = start(&fields)?;
    let limit = number(&fields, "limit")?.unwrap_or(DEFAULT_LIMIT as u64);
    let limit = usize::try_from(limit).ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    Ok(Window { start, limit: limit.ok_or_else(|| invalid("limit must be one integer from 1 to 200."))? })
}

/// Reads `before` and `after` of a page, and ignores unknown parameters: mail programs and social networks add some to links.
pub fn page_start(query: &str) -> Result<Start, Problem> {
    // What is not UTF-8 becomes U+FFFD, and is no number.
    let fields: Fields = serde_urlencoded::from_str(query).unwrap_or_default();
    start(&fields)
}

fn start(fields: &Fields) -> Result<Start, Problem> {
    match (number(fields, "before")?, number(fields, "after")?) {
        (None, None) => Ok(Start::Newest),
        (Some(id), None) => Ok(Start::Before(id)),
        (None, Some(id)) => Ok(Start::After(id)),
        (Some(_), Some(_)) => Err(invalid("before and after must not both be set.")),
    }
}

/// The parameters of a query, of which all must be `known`.
pub(super) fn parameters(query: &str, known: &[&str]) -> Result<Fields, Problem> {
    let fields = fields(query.as_bytes()).ok_or_else(|| invalid("The query is not UTF-8."))?;
    match fields.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        None => Ok(fields),
        Some((name, _)) => {
            let name = excerpt(name);
            let detail = match known {
                [] => format!("The query parameter {name:?} is unknown; there are none here."),
                known => format!("The query parameter {name:?} is unknown; use {}.", known.join(", ")),
            };
            Err(Problem::InvalidParameter(Cow::Owned(detail)))
        }
    }
}

/// The stored form of a key that a client chose.
pub fn key(chosen: &str) -> Result<IdempotencyKey, Problem> {
    const { assert!(MAX_KEY == 64) };
    IdempotencyKey::parse(chosen).ok_or(Problem::InvalidKey("A key must be 1 to 64 visible ASCII characters."))
}

/// Whether `Accept` prefers `text/html` to JSON, by quality values (RFC 9110, section 12.5.1). A client that does not name
/// HTML gets JSON, as programs that accept anything expect. Without a name of JSON its quality is that of a wildcard.
pub fn prefers_html(head: &Head) -> bool {
    let (mut html, mut json, mut application, mut any) = (0, None, None, None);
    for range in head.values("accept").flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let quality =
            parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q="))).map_or(1000, thousandths);
        match media_type.as_str() {
            "text/html" => html = html.max(quality),
            "application/json" | "application/problem+json" => json = json.max(Some(quality)),
            "application/*" => application = application.max(Some(quality)),
            "*/*" => any = any.max(Some(quality)),
            _ => {}
        }
    }
    html > 0 && html >= json.or(application).or(any).unwrap_or(0)
}

/// A quality value in thousandths; 0 when it is malformed.
fn thousandths(quality: &str) -> u32 {
    let (whole, decimals) = quality.split_once('.').unwrap_or((quality, ""));
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return 0;
    }
    format!("{whole}{decimals:0<3}").parse::<u32>().map_or(0, |value| value.min(1000))
}

/// The message after which a stream continues.
pub(super) fn last_event_id(head: &Head) -> LastEventId {
    match head.value("last-event-id").map(str::trim) {
        None | Some("") => LastEventId::None,
        Some(id) => id.parse().map_or(LastEventId::Unknown, LastEventId::Message),
    }
}

/// Fields of a form or a query; nothing when their percent-decoded bytes are not UTF-8, which the crate would turn into
/// replacement characters without an error.
pub(super) fn fields(encoded: &[u8]) -> Option<Fields> {
    if encoded.contains(&b'%') {
        percent_decode(encoded).decode_utf8().ok()?;
    } else {
        std::str::from_utf8(encoded).ok()?;
    }
    serde_urlencoded::from_bytes(encoded).ok()
}

fn number(fields: &Fields, name: &str) -> Result<Option<u64>, Problem> {
    let mut values = fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value);
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) if value.bytes().all(|b| b.is_ascii_digit()) => value.parse().ok(),
        (Some(_), _) => None,
    };
    match value {
        Some(value) => Ok(Some(value)),
        None => Err(Problem::InvalidParameter(Cow::Owned(format!("{name} must be one integer, like {name}=42.")))),
    }
}

fn invalid(detail: &'static str) -> Problem {
    Problem::InvalidParameter(Cow::Borrowed(detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_read_from_the_query() {
        let at = |start, limit| Ok(Window { start, limit });
        assert_eq!(window(""), at(Start::Newest, DEFAULT_LIMIT));
        assert_eq!(window("&limit=200&"), at(Start::Newest, 200));
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
            "page=2",
            "limit=1&Limit=2",
            "utm_source=x",
        ] {
            assert!(matches!(window(query), Err(Problem::InvalidParameter(_))), "{query}");
        }
        let Err(Problem::InvalidParameter(detail)) = window("page=2") else { panic!() };
        assert!(detail.contains("\"page\"") && detail.contains("before, after, limit"), "{detail}");
    }

    #[test]
    fn a_page_ignores_the_parameters_that_it_does_not_know() {
        for (query, start) in [
            ("", Start::Newest),
            ("before=7", Start::Before(7)),
            ("after=0", Start::After(0)),
            ("utm_source=x&before=7&%ff=%ff", Start::Before(7)),
            ("limit=x", Start::Newest),
        ] {
            assert_eq!(page_start(query), Ok(start), "{query}");
        }
        for query in ["before=1&after=1", "after=x", "before=x", "before=", "before=1&before=2", "before=%ff"] {
            assert!(matches!(page_start(query), Err(Problem::InvalidParameter(_))), "{query}");
        }
    }

    #[test]
    fn a_malformed_key_is_refused() {
        for malformed in ["", "a b", &"k".repeat(65)] {
            assert!(matches!(key(malformed), Err(Problem::InvalidKey(_))), "{malformed:?}");
        }
    }

    #[test]
    fn a_client_that_names_html_and_does_not_prefer_json_gets_html() {
        let prefers = |value: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: {value}\r\n\r\n");
            prefers_html(&Head::parse(head.into_bytes()).unwrap())
        };
        for value in [
            "text/html",
            "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
            "Text/HTML;Q=0.1",
            "text/html;charset=utf-8; q=0.5, */*;q=0.4",
            "text/html, */*",
            "text/html;q=0.5, */*, application/*;q=0.4",
            "text/html;q=0.5, */*, application/json;q=0.5",
            "application/json;q=0.2, text/html;q=0.21",
            "application/json, text/html",
        ] {
            assert!(prefers(value), "{value}");
        }
        for value in [
            "*/*",
            "application/json",
            "text/*",
            "text/html;q=0",
            "text/html;q=0.000",
            "text/html;q=2",
            "text/html;q=0.1234",
            "text/htmlx",
            "application/json, text/html;q=0.9",
            "text/html;q=0.5, application/problem+json;q=0.6",
            "text/html;q=0.5, */*",
            "text/html;q=0.5, application/*;q=0.6, */*;q=0.1",
            "",
        ] {
            assert!(!prefers(value), "{value}");
        }
    }
}
