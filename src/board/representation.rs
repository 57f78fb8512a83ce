//! Responses that a client may hold already: their entity tags, and 304 in place of them (RFC 9110, sections 8.8.3 and
//! 13.1.2). Never decides what a body says.
//!
//! A tag is a hash of the body. So it is strong, the same on each replica, and different for JSON and HTML of one URL.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::http::head::Head;
use crate::http::{Body, Response};

/// A successful response with its entity tag. Many requests may share it, so that its body is hashed once.
pub(super) struct Representation {
    complete: Response,
    not_modified: Response,
    tag: EntityTag,
}

/// The beginning of a cryptographic hash: people write the bodies, and must not find two with one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntityTag(u128);

/// What a client holds, as `If-None-Match` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeldTags {
    /// Some representation.
    Any,
    /// Those with these tags.
    These(Vec<EntityTag>),
}

/// It may be stored, and must be validated before each use (RFC 9111, section 5.2.2.4).
const NO_CACHE: (&str, &str) = ("Cache-Control", "no-cache");
/// Tags of a client that are compared. More are ignored, because they wait in a queue whose bytes are counted.
const MAX_HELD_TAGS: usize = 16;
/// Hexadecimal digits of a tag.
const DIGITS: usize = 32;

impl Representation {
    /// A response of status 200. Its headers must name neither `Cache-Control` nor `ETag`.
    pub(super) fn new(headers: &[(&str, &str)], body: Vec<u8>) -> Representation {
        let tag = EntityTag::of(&body);
        let text = tag.to_string();
        let validators = [NO_CACHE, ("ETag", &text)];
        // RFC 9110, section 15.4.5: what the complete response says about caching.
        let vary: Vec<(&str, &str)> = headers.iter().copied().filter(|(name, _)| *name == "Vary").collect();
        Representation {
            complete: Response::new(200, &[headers, &validators].concat(), Body::shared(body)),
            not_modified: Response::new(304, &[&vary[..], &validators].concat(), Body::Empty),
            tag,
        }
    }

    /// The complete response, or 304 for a client that holds it.
    pub(super) fn response(&self, held: &HeldTags) -> Response {
        let is_held = match held {
            HeldTags::Any => true,
            HeldTags::These(tags) => tags.contains(&self.tag),
        };
        if is_held { self.not_modified.clone() } else { self.complete.clone() }
    }
}

impl HeldTags {
    /// A client that holds nothing.
    pub(super) const NONE: HeldTags = HeldTags::These(Vec::new());

    /// Reads all `If-None-Match` of a request. What is malformed, or no tag of this service, matches nothing.
    pub(super) fn of(head: &Head) -> HeldTags {
        let mut tags = Vec::new();
        for value in head.values("if-none-match") {
            if value == "*" {
                return HeldTags::Any;
            }
            tags.extend(opaque_tags(value).filter_map(EntityTag::parse).take(MAX_HELD_TAGS - tags.len()));
        }
        HeldTags::These(tags)
    }
}

impl EntityTag {
    fn of(body: &[u8]) -> EntityTag {
        let hash = Sha256::digest(body);
        EntityTag(hash.iter().take(DIGITS / 2).fold(0, |tag, byte| tag << 8 | u128::from(*byte)))
    }

    /// The tag in the one way to write it, without its quotes.
    fn parse(opaque: &str) -> Option<EntityTag> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let is_tag = opaque.len() == DIGITS && opaque.bytes().all(is_digit);
        u128::from_str_radix(opaque, 16).ok().filter(|_| is_tag).map(EntityTag)
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{:0DIGITS$x}\"", self.0)
    }
}

/// The tags of a list without their quotes. The comparison is weak: a proxy that compresses makes a tag weak.
fn opaque_tags(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    // Unlike a quoted string, a tag has no escapes.
    let items = list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    items.filter_map(|item| {
        let item = item.trim_matches([' ', '\t']);
        item.strip_prefix("W/").unwrap_or(item).strip_prefix('"')?.strip_suffix('"')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(headers: &[&str]) -> HeldTags {
        let lines: String = headers.iter().map(|value| format!("If-None-Match: {value}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        HeldTags::of(&Head::parse(head.into_bytes()).unwrap())
    }

    fn body() -> Representation {
        Representation::new(&[("Content-Type", "a/b"), ("Vary", "Accept")], b"body".to_vec())
    }

    const A: &str = "\"000102030405060708090a0b0c0d0e0f\"";

    #[test]
    fn a_tag_is_found_wherever_it_stands_in_a_list_and_compared_weakly() {
        let tag = EntityTag(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        assert_eq!(tag.to_string(), A);
        let weak = format!("W/{A}");
        for headers in [
            &[A][..],
            &[&weak],
            &[" ", &format!("\t{weak} ")],
            &["\"x\"", A],
            &[&format!("\"x\",{A}")],
            &[&format!(",, W/\"a,b\" ,\t{weak} , \"é\"")],
            &[&format!("\"back\\\", {A}")],
            &[&format!("unquoted, {A}")],
        ] {
            assert_eq!(held(headers), HeldTags::These(vec![tag]), "{headers:?}");
        }
        assert_eq!(held(&[A, A]), HeldTags::These(vec![tag, tag]));
    }

    #[test]
    fn what_is_malformed_or_of_another_service_matches_nothing() {
        let hex = A.trim_matches('"');
        for value in [
            "",
            "\"",
            "\"\"",
            hex,
            &format!("\"{hex}"),
            &format!("{hex}\""),
            &format!("w/{A}"),
            &format!("W/ {A}"),
            &format!("\"+{}\"", &hex[1..]),
            &A.to_uppercase(),
            &format!("\"{hex}0\""),
            &format!("{A}x"),
            &format!("{A} {A}"),
            &format!("\"x, {A}"),
            &format!("*{A}"),
            "**",
            "\"*\"",
            "*, \"x\"",
        ] {
            assert_eq!(held(&[value]), HeldTags::NONE, "{value}");
        }
        assert_eq!(held(&[]), HeldTags::NONE);
        assert_eq!(held(&["\"x\"", "*"]), HeldTags::Any);
    }

    #[test]
    fn no_more_tags_are_kept_than_the_queue_counts() {
        let many = vec![A; 100].join(",");
        let HeldTags::These(tags) = held(&[&many, &many]) else { panic!() };
        assert_eq!(tags.len(), MAX_HELD_TAGS);
    }

    #[test]
    fn a_client_that_holds_the_body_gets_304() {
        let same = HeldTags::These(vec![EntityTag(1), body().tag]);
        assert_eq!(body().response(&same).status(), 304);
        assert_eq!(body().response(&HeldTags::Any).status(), 304);
        for other in [HeldTags::NONE, HeldTags::These(vec![EntityTag::of(b"other")])] {
            let response = body().response(&other);
            assert_eq!((response.status(), response.body_length()), (200, 4));
        }
    }
}
