//! A complete, checked request as a plain value.

use std::net::IpAddr;

use super::head::Head;

/// A request that arrived completely.
#[derive(Debug)]
pub struct Request {
    /// Request line and headers.
    pub head: Head,
    /// The decoded body.
    pub body: Vec<u8>,
    /// The other end of the connection, which may be a proxy.
    pub peer: IpAddr,
}

/// The name of a request in the logs and in the `X-Request-Id` of its response. It is stored as the line of that
/// header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

const NAME: &str = "X-Request-Id: ";
const END: &str = "\r\n";
/// The longest incoming `X-Request-Id` that is kept.
const MAX_REQUEST_ID: usize = 128;

impl RequestId {
    /// The client's own id, if it is short and has only characters that are harmless in a header and in a log.
    pub fn sane(value: &str) -> Option<RequestId> {
        let fits = (1..=MAX_REQUEST_ID).contains(&value.len());
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&b);
        (fits && value.bytes().all(harmless)).then(|| RequestId([NAME, value, END].concat()))
    }

    /// The `number`th request of the process called `process`.
    pub fn numbered(process: u32, number: u64) -> RequestId {
        let mut line = String::with_capacity(NAME.len() + 8 + 1 + 16 + END.len());
        line.push_str(NAME);
        push_hex(&mut line, process.into(), 8);
        line.push('-');
        push_hex(&mut line, number, (64 - number.leading_zeros()).div_ceil(4).max(1));
        line.push_str(END);
        RequestId(line)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0[NAME.len()..self.0.len() - END.len()]
    }

    /// The id as a header, with its CRLF.
    pub fn line(&self) -> &str {
        &self.0
    }
}

/// Appends the last `digits` of `number`. The formatting of the library takes several times as long, for each request.
fn push_hex(text: &mut String, number: u64, digits: u32) {
    let digit = |at: u32| char::from_digit((number >> (4 * at)) as u32 & 0xf, 16);
    text.extend((0..digits).rev().filter_map(digit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_id_is_kept() {
        for id in ["a", "0b9f-77", "trace:1/2+3=_.@", &"x".repeat(128)] {
            assert_eq!(RequestId::sane(id).as_ref().map(RequestId::as_str), Some(id));
        }
        for id in ["", "a b", "a\"b", "é", "a\u{7f}", &"x".repeat(129)] {
            assert_eq!(RequestId::sane(id), None, "{id:?}");
        }
    }

    #[test]
    fn the_id_of_a_request_is_its_process_and_a_number_in_hex() {
        for number in [0, 1, 0xf, 0x10, 0xabc, u64::MAX] {
            let id = RequestId::numbered(0x0012_abcd, number);
            assert_eq!(id.as_str(), format!("0012abcd-{number:x}"));
            assert_eq!(id.line(), format!("X-Request-Id: 0012abcd-{number:x}\r\n"));
        }
    }
}
