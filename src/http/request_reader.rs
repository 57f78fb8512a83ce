//! The bytes of one client that are not a complete request yet: unparsed bytes, a parsed head, a part of a body.
//!
//! Yields one complete, checked request at a time; the bytes after it wait. Holds at most a head, a body and the bytes
//! of one read. Never touches a socket.

use super::chunked::Decoder;
use super::error::RequestError;
use super::head::{Finder, Framing, Head};

/// The bytes of one client.
#[derive(Default)]
pub(super) struct RequestReader {
    input: Vec<u8>,
    finder: Finder,
    incoming: Option<Incoming>,
}

/// A request whose head has arrived.
struct Incoming {
    head: Head,
    framing: Body,
}

enum Body {
    Length(usize),
    Chunked(Decoder),
}

/// What the bytes that have arrived are.
pub(super) enum Progress {
    /// Incomplete.
    Incomplete,
    /// Incomplete, and the client waits for `100 Continue`.
    Continue,
    /// A request: its head and its decoded body.
    Request(Head, Vec<u8>),
}

/// The largest body.
const MAX_BODY: usize = 64 * 1024;

impl RequestReader {
    /// Adds what was read.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Whether no bytes wait.
    pub(super) fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// Whether the head of a request has arrived and its body has not.
    pub(super) fn is_amid_request(&self) -> bool {
        self.incoming.is_some()
    }

    /// The bytes that it holds in memory. Frees an empty buffer.
    pub(super) fn size(&mut self) -> usize {
        if self.input.is_empty() && self.incoming.is_none() {
            self.input = Vec::new();
        }
        let incoming = match &self.incoming {
            Some(Incoming { framing: Body::Chunked(decoder), head }) => head.size() + decoder.size(),
            Some(Incoming { framing: Body::Length(_), head }) => head.size(),
            None => 0,
        };
        self.input.capacity() + incoming
    }

    /// Drops all bytes, and returns the head of a request whose body is incomplete.
    pub(super) fn clear(&mut self) -> Option<Box<Head>> {
        std::mem::take(self).incoming.map(|incoming| Box::new(incoming.head))
    }

    /// Parses as far as the bytes allow. An error comes with the head, if that has arrived.
    pub(super) fn next(&mut self) -> Result<Progress, (RequestError, Option<Box<Head>>)> {
        let Some(mut incoming) = self.incoming.take() else { return self.begin() };
        let body = match &mut incoming.framing {
            Body::Length(0) => Some(Vec::new()),
            Body::Length(length) if self.input.len() < *length => None,
            Body::Length(length) => {
                let rest = self.input.split_off(*length);
                Some(std::mem::replace(&mut self.input, rest))
            }
            Body::Chunked(decoder) => match decoder.feed(&mut self.input) {
                Ok(body) => body,
                Err(error) => return Err((error, Some(Box::new(incoming.head)))),
            },
        };
        match body {
            Some(body) => Ok(Progress::Request(incoming.head, body)),
            None => {
                self.incoming = Some(incoming);
                Ok(Progress::Incomplete)
            }
        }
    }

    fn begin(&mut self) -> Result<Progress, (RequestError, Option<Box<Head>>)> {
        let Some(length) = self.finder.find(&mut self.input).map_err(|error| (error, None))? else {
            return Ok(Progress::Incomplete);
        };
        let head = match self.input.len() == length {
            true => std::mem::take(&mut self.input),
            // The bytes after it may be many more, and are freed sooner than the head.
            false => self.input.drain(..length).collect(),
        };
        let head = Head::parse(head).map_err(|error| (error, None))?;
        self.finder = Finder::default();
        if head.framing != Framing::Length(0) && !head.has_identity_coding() {
            return Err((RequestError::UnknownContentCoding, Some(Box::new(head))));
        }
        let framing = match head.framing {
            Framing::Length(length) if length > MAX_BODY as u64 => {
                return Err((RequestError::BodyTooLarge, Some(Box::new(head))));
            }
            Framing::Length(length) => Body::Length(length as usize),
            Framing::Chunked => Body::Chunked(Decoder::new(MAX_BODY)),
        };
        let expects_continue = head.expects_continue && head.framing != Framing::Length(0);
        self.incoming = Some(Incoming { head, framing });
        match expects_continue && self.input.is_empty() {
            true => Ok(Progress::Continue),
            false => self.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tiny_http::Method;

    fn bodies(reader: &mut RequestReader) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        while let Ok(Progress::Request(_, body)) = reader.next() {
            bodies.push(body);
        }
        bodies
    }

    const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    const SIZED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nyou";

    #[test]
    fn requests_are_complete_and_in_order_however_the_bytes_arrive() {
        let bytes = [CHUNKED, SIZED, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        for step in [1, 7, 64, bytes.len()] {
            let mut reader = RequestReader::default();
            let mut all = Vec::new();
            for piece in bytes.chunks(step) {
                reader.add(piece);
                all.extend(bodies(&mut reader));
            }
            assert_eq!(all, [&b"hi"[..], b"you", b""], "{step} at a time");
            assert!(reader.is_empty() && !reader.is_amid_request());
            assert_eq!(reader.size(), 0, "an empty reader holds no memory");
        }
    }

    #[test]
    fn a_client_that_waits_for_100_continue_gets_it_once() {
        let mut reader = RequestReader::default();
        reader.add(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
        assert!(matches!(reader.next(), Ok(Progress::Continue)));
        assert!(reader.is_amid_request());
        assert!(matches!(reader.next(), Ok(Progress::Incomplete)));
        reader.add(b"you");
        assert_eq!(bodies(&mut reader), [b"you"]);
    }

    #[test]
    fn a_body_above_the_limit_is_refused_with_its_head_before_it_arrives() {
        let mut reader = RequestReader::default();
        reader.add(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1).as_bytes());
        assert!(matches!(reader.next(), Err((RequestError::BodyTooLarge, Some(_)))));
    }

    #[test]
    fn cleared_bytes_are_neither_held_nor_parsed() {
        let mut reader = RequestReader::default();
        reader.add(&SIZED[..SIZED.len() - 1]);
        assert!(matches!(reader.next(), Ok(Progress::Incomplete)));
        assert!(reader.size() >= SIZED.len() - 1);
        assert!(reader.clear().is_some_and(|head| head.method == Method::Post));
        assert_eq!(reader.size(), 0);
        reader.add(b"u");
        assert!(matches!(reader.next(), Ok(Progress::Incomplete)));
        assert!(reader.clear().is_none());
    }
}
