//! A complete, checked request as a plain value.

use std::net::IpAddr;

use super::head::Head;

/// A request that arrived whole.
#[derive(Debug)]
pub struct Request {
    /// Request line and headers.
    pub head: Head,
    /// The decoded body.
    pub body: Vec<u8>,
    /// The other end of the connection, which may be a proxy.
    pub peer: IpAddr,
}

/// The name that a request has in the logs and in its answer's `X-Request-Id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

/// The longest incoming `X-Request-Id` that is kept.
const MAX_REQUEST_ID: usize = 128;

impl RequestId {
    /// The client's own, when it is sane: short, and of characters that can do no harm in a header or a log.
    pub fn sane(value: &str) -> Option<RequestId> {
        let fits = (1..=MAX_REQUEST_ID).contains(&value.len());
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&b);
        (fits && value.bytes().all(harmless)).then(|| RequestId(value.to_owned()))
    }

    /// The `number`th request of the process called `process`.
    pub fn numbered(process: u32, number: u64) -> RequestId {
        RequestId(format!("{process:08x}-{number:x}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_id_is_kept() {
        for id in ["a", "0b9f-77", "trace:1/2+3=_.@", &"x".repeat(128)] {
            assert_eq!(RequestId::sane(id).map(|id| id.0).as_deref(), Some(id));
        }
        for id in ["", "a b", "a\"b", "é", "a\u{7f}", &"x".repeat(129)] {
            assert_eq!(RequestId::sane(id), None, "{id:?}");
        }
    }
}
