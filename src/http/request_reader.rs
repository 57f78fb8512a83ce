//! What a client has sent and nobody has taken: bytes, and of the request that they begin its head, its body so far.
//!
//! Yields one complete, checked request at a time; bytes behind it wait. Holds no more than a head and a body may have,
//! and what a read brings beyond them. Never touches a socket.

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

/// A request whose head is here.
struct Incoming {
    head: Head,
    framing: Body,
}

enum Body {
    Length(usize),
    Chunked(Decoder),
}

/// What the bytes amount to.
pub(super) enum Progress {
    /// More of them are needed.
    More,
    /// More of them are needed, and the client waits to be asked for them.
    Continue,
    /// A request: its head, and its decoded body.
    Whole(Head, Vec<u8>),
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

    /// Whether the head of a request is here, and its body is not yet.
    pub(super) fn is_amid_request(&self) -> bool {
        self.incoming.is_some()
    }

    /// The bytes that it holds in memory; what it holds for nothing it gives back.
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

    /// Drops all that is here.
    pub(super) fn forget(&mut self) {
        *self = RequestReader::default();
    }

    /// Goes on as far as the bytes allow. A refusal has the head when that is here.
    pub(super) fn next(&mut self) -> Result<Progress, (RequestError, Option<Box<Head>>)> {
        let Some(mut incoming) = self.incoming.take() else { return self.begin() };
        let body = match &mut incoming.framing {
            Body::Length(0) => Some(Vec::new()),
            Body::Length(length) if self.input.len() < *length => None,
            Body::Length(length) => {
                let behind = self.input.split_off(*length);
                Some(std::mem::replace(&mut self.input, behind))
            }
            Body::Chunked(decoder) => match decoder.feed(&mut self.input) {
                Ok(body) => body,
                Err(refusal) => return Err((refusal, Some(Box::new(incoming.head)))),
            },
        };
        match body {
            Some(body) => Ok(Progress::Whole(incoming.head, body)),
            None => {
                self.incoming = Some(incoming);
                Ok(Progress::More)
            }
        }
    }

    fn begin(&mut self) -> Result<Progress, (RequestError, Option<Box<Head>>)> {
        let Some(length) = self.finder.find(&mut self.input).map_err(|refusal| (refusal, None))? else {
            return Ok(Progress::More);
        };
        let head = match self.input.len() == length {
            true => std::mem::take(&mut self.input),
            // What is behind it may be much more, and goes sooner than the head.
            false => self.input.drain(..length).collect(),
        };
        let head = Head::parse(head).map_err(|refusal| (refusal, None))?;
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

    fn bodies(intake: &mut RequestReader) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        while let Ok(Progress::Whole(_, body)) = intake.next() {
            bodies.push(body);
        }
        bodies
    }

    const CHUNKED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    const SIZED: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nyou";

    #[test]
    fn requests_come_whole_and_in_order_however_the_bytes_arrive() {
        let bytes = [CHUNKED, SIZED, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        for step in [1, 7, 64, bytes.len()] {
            let mut intake = RequestReader::default();
            let mut all = Vec::new();
            for piece in bytes.chunks(step) {
                intake.add(piece);
                all.extend(bodies(&mut intake));
            }
            assert_eq!(all, [&b"hi"[..], b"you", b""], "{step} at a time");
            assert!(intake.is_empty() && !intake.is_amid_request());
            assert_eq!(intake.size(), 0, "it holds nothing for nobody");
        }
    }

    #[test]
    fn who_waits_to_be_asked_for_the_body_is_asked_once() {
        let mut intake = RequestReader::default();
        intake.add(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
        assert!(matches!(intake.next(), Ok(Progress::Continue)));
        assert!(intake.is_amid_request());
        assert!(matches!(intake.next(), Ok(Progress::More)));
        intake.add(b"you");
        assert_eq!(bodies(&mut intake), [b"you"]);
    }

    #[test]
    fn a_body_beyond_the_limit_is_refused_with_its_head_and_before_it_comes() {
        let mut intake = RequestReader::default();
        intake.add(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", MAX_BODY + 1).as_bytes());
        assert!(matches!(intake.next(), Err((RequestError::BodyTooLarge, Some(_)))));
    }

    #[test]
    fn what_is_forgotten_is_neither_held_nor_taken_for_a_request() {
        let mut intake = RequestReader::default();
        intake.add(&SIZED[..SIZED.len() - 1]);
        assert!(matches!(intake.next(), Ok(Progress::More)));
        assert!(intake.size() >= SIZED.len() - 1);
        intake.forget();
        assert_eq!(intake.size(), 0);
        intake.add(b"u");
        assert!(matches!(intake.next(), Ok(Progress::More)));
    }
}
