//! Responses: a head, a body that many responses may share, and the bytes of both while they are sent.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::SystemTime;

use tiny_http::{Header, StatusCode};

/// A response that does not depend on the connection yet. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Response {
    status: StatusCode,
    /// Status line and headers that several responses may share.
    head: Arc<[u8]>,
    /// Header lines of this response alone, each with its CRLF.
    lines: String,
    body: Body,
}

/// The bytes after the head.
#[derive(Debug, Clone)]
pub enum Body {
    /// No bytes.
    Empty,
    /// One shared piece.
    Shared(Arc<Vec<u8>>),
    /// Two shared pieces, and between them text of this response alone.
    Split {
        /// The shared first piece.
        before: Arc<Vec<u8>>,
        /// The text between them.
        own: String,
        /// The shared last piece.
        after: Arc<Vec<u8>>,
    },
}

/// A response that is being sent.
#[derive(Debug)]
pub(super) struct Encoded {
    head: Vec<u8>,
    body: Body,
    position: usize,
    length: usize,
}

/// Room for `Content-Length`, however large the body, and for the empty line.
const MAX_LENGTH_LINES: usize = 40;

impl Response {
    /// A response with these headers, without `Connection` and `Content-Length`: the first is the connection's, and the
    /// second follows from `body`. A header that is not ASCII is left out.
    pub fn new(status: u16, headers: &[(&str, &str)], body: Body) -> Response {
        let status = StatusCode(status);
        let date = httpdate::fmt_http_date(SystemTime::now());
        let mut head = format!("HTTP/1.1 {} {}\r\n", status.0, status.default_reason_phrase());
        for (name, value) in [("Server", env!("CARGO_PKG_NAME")), ("Date", &date)].iter().chain(headers) {
            if let Ok(header) = Header::from_bytes(*name, *value) {
                push_line(&mut head, header.field.as_str().as_str(), header.value.as_str());
            }
        }
        Response { status, head: head.into_bytes().into(), lines: String::new(), body }
    }

    /// The same response with another body. Its head is not formatted again.
    pub fn with_body(mut self, body: Body) -> Response {
        self.body = body;
        self
    }

    /// Adds a header to this response alone. The head is not formatted again.
    pub fn with_header(mut self, name: &str, value: &str) -> Response {
        push_line(&mut self.lines, name, value);
        self
    }

    /// Puts `text` between the pieces of a split body.
    pub fn with_insert(mut self, text: String) -> Response {
        if let Body::Split { own, .. } = &mut self.body {
            *own = text;
        }
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status.0
    }

    /// Bytes of the body.
    pub fn body_length(&self) -> usize {
        self.body.len()
    }

    /// The bytes that begin a stream, with more header `lines`. Its length is unknown, so its end is that of the connection.
    pub(super) fn encode_stream(self, lines: &[&str], head_only: bool) -> Encoded {
        let mut head = self.head(lines);
        head.extend_from_slice(b"\r\n");
        let body = if head_only { Body::Empty } else { self.body };
        Encoded { length: head.len() + body.len(), head, body, position: 0 }
    }

    /// The bytes to send, with more header `lines`, each with its CRLF. `head_only` leaves the body out.
    pub(super) fn encode(self, lines: &[&str], head_only: bool) -> Encoded {
        let mut head = self.head(lines);
        // RFC 9110, section 8.6: no Content-Length in a 204, and in a 304 only that of the response that it stands for.
        let written = match self.status() {
            204 | 304 => write!(head, "\r\n"),
            _ => write!(head, "Content-Length: {}\r\n\r\n", self.body.len()),
        };
        debug_assert!(written.is_ok(), "a Vec takes all that is written to it");
        let body = if head_only { Body::Empty } else { self.body };
        Encoded { length: head.len() + body.len(), head, body, position: 0 }
    }
}

impl Response {
    /// Status line and headers, without those of the length and without the empty line.
    fn head(&self, lines: &[&str]) -> Vec<u8> {
        let own: usize = lines.iter().map(|line| line.len()).sum();
        let mut head = Vec::with_capacity(self.head.len() + self.lines.len() + own + MAX_LENGTH_LINES);
        head.extend_from_slice(&self.head);
        head.extend_from_slice(self.lines.as_bytes());
        lines.iter().for_each(|line| head.extend_from_slice(line.as_bytes()));
        head
    }
}

fn push_line(lines: &mut String, name: &str, value: &str) {
    [name, ": ", value, "\r\n"].iter().for_each(|part| lines.push_str(part));
}

impl Body {
    /// A body of one piece.
    pub fn shared(bytes: impl Into<Vec<u8>>) -> Body {
        Body::Shared(Arc::new(bytes.into()))
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    fn parts(&self) -> [&[u8]; 3] {
        match self {
            Body::Empty => [&[], &[], &[]],
            Body::Shared(bytes) => [bytes, &[], &[]],
            Body::Split { before, own, after } => [before, own.as_bytes(), after],
        }
    }
}

impl Encoded {
    /// `HTTP/1.1 100 Continue`, which has neither headers nor a body.
    pub(super) fn continue_100() -> Encoded {
        let head = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        Encoded { length: head.len(), head, body: Body::Empty, position: 0 }
    }

    /// All bytes in one piece.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.body.parts().iter().for_each(|part| self.head.extend_from_slice(part));
        self.head
    }

    /// The bytes that it holds in memory: all of them until the last one is sent.
    pub(super) fn size(&self) -> usize {
        self.length
    }

    /// The bytes that the socket has taken.
    pub(super) fn sent(&self) -> usize {
        self.position
    }

    /// Writes until all is written. Fails with `WouldBlock` when the socket takes no more.
    pub(super) fn write_to(&mut self, mut socket: impl Write) -> io::Result<()> {
        while self.position < self.length {
            let [a, b, c] = self.body.parts();
            let mut skip = self.position;
            let mut slices = [IoSlice::new(&[]); 4];
            let mut used = 0;
            for part in [self.head.as_slice(), a, b, c] {
                if skip < part.len() {
                    slices[used] = IoSlice::new(&part[skip..]);
                    used += 1;
                    skip = 0;
                } else {
                    skip -= part.len();
                }
            }
            match socket.write_vectored(&slices[..used]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.position += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes at a time, as a slow client's socket does.
    struct Trickle(Vec<u8>);

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(7);
            self.0.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn print(reply: Response, lines: &[&str], head_only: bool) -> String {
        let mut wire = reply.encode(lines, head_only);
        let length = wire.size();
        let mut out = Trickle(Vec::new());
        wire.write_to(&mut out).unwrap();
        assert_eq!((out.0.len(), wire.position), (length, length));
        String::from_utf8(out.0).unwrap()
    }

    /// Takes so many bytes and no more.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(std::mem::take(&mut self.0));
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_half_written_answer_holds_all_of_its_bytes() {
        let mut wire = Response::new(200, &[], Body::shared(vec![b'x'; 1000])).encode(&[], false);
        let size = wire.size();
        assert!(size > 1000);
        let written = wire.write_to(Full(50));
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!((wire.position, wire.size()), (50, size));
    }

    #[test]
    fn a_head_has_the_status_the_date_and_all_headers() {
        let reply = Response::new(200, &[("Content-Type", "text/plain")], Body::shared("hello")).with_header("A", "b");
        let out = print(reply, &["Connection: close\r\n"], false);
        let mut lines = out.split("\r\n").filter(|line| !line.starts_with("Date: "));
        let want =
            "HTTP/1.1 200 OK|Server: twotier|Content-Type: text/plain|A: b|Connection: close|Content-Length: 5||hello";
        assert!(want.split('|').eq(&mut lines), "{out}");
        let date = out.split("\r\n").find_map(|line| line.strip_prefix("Date: ")).unwrap();
        assert!(httpdate::parse_http_date(date).is_ok_and(|date| date.elapsed().unwrap().as_secs() < 10), "{date}");
    }

    #[test]
    fn a_spliced_body_is_sent_in_order_with_its_complete_length() {
        let part = |text: &str| Arc::new(text.as_bytes().to_vec());
        let body = Body::Split { before: part("before "), own: "own".to_owned(), after: part(" after") };
        let out = print(Response::new(200, &[], body), &[], false);
        assert!(out.contains("Content-Length: 16\r\n") && out.ends_with("\r\n\r\nbefore own after"), "{out}");
    }

    #[test]
    fn head_has_the_length_of_the_body_that_it_leaves_out() {
        let out = print(Response::new(200, &[], Body::shared("hello")), &[], true);
        assert!(out.contains("Content-Length: 5\r\n") && out.ends_with("\r\n\r\n"), "{out}");
    }

    #[test]
    fn a_204_and_a_304_have_no_length() {
        for status in [204, 304] {
            let out = print(Response::new(status, &[("Allow", "GET")], Body::Empty), &[], false);
            assert!(
                !out.contains("Content-Length") && out.contains("Allow: GET\r\n") && out.ends_with("\r\n\r\n"),
                "{out}"
            );
        }
    }

    #[test]
    fn a_large_body_is_not_chunked() {
        let out = print(Response::new(200, &[], Body::shared(vec![b'x'; 100_000])), &[], false);
        assert!(out.contains("Content-Length: 100000\r\n") && !out.contains("Transfer-Encoding"));
    }
}
