//! Answers: a head that `tiny_http` prints, a body that many answers may share, and the bytes of both on their way out.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;

use tiny_http::{HTTPVersion, Header, StatusCode};

/// An answer that does not know yet which request it goes to; cheap to clone.
#[derive(Debug, Clone)]
pub struct Response {
    status: u16,
    /// What `tiny_http` printed: status line and headers, but for `Content-Length` and the empty line.
    head: Arc<[u8]>,
    /// Lines of this answer alone, each with its CRLF.
    lines: String,
    body: Body,
}

/// The bytes behind the head.
#[derive(Debug, Clone)]
pub enum Body {
    /// None.
    Empty,
    /// One piece, shared by all who get it.
    Whole(Arc<Vec<u8>>),
    /// Two shared pieces with something of this answer alone between them.
    Split {
        /// The shared first piece.
        before: Arc<Vec<u8>>,
        /// What stands between.
        own: String,
        /// The shared last piece.
        after: Arc<Vec<u8>>,
    },
}

/// An answer that is being written.
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
    /// An answer with these headers, which must be ASCII and, as a matter of `tiny_http`'s, neither `Connection` nor
    /// `Content-Length`: the first is the connection's, the second follows from `body`.
    pub fn new(status: u16, headers: &[(&str, &str)], body: Body) -> Response {
        let server = ("Server", env!("CARGO_PKG_NAME"));
        let headers = headers
            .iter()
            .chain([&server])
            // A header that is not ASCII can't be sent; all of ours are, and a test of each route sees them.
            .filter_map(|(name, value)| Header::from_bytes(name.as_bytes(), value.as_bytes()).ok())
            .collect();
        // No body for the printer: bodies are shared, and go out beside the head. Without a length it would go chunked,
        // and so it would beyond its threshold, or for a TE among the headers of the request.
        let mut head = Vec::with_capacity(512);
        let printed = tiny_http::Response::new(StatusCode(status), headers, io::empty(), Some(0), None)
            .with_chunked_threshold(usize::MAX)
            .raw_print(&mut head, HTTPVersion(1, 1), &[], true, None);
        debug_assert!(printed.is_ok(), "a Vec takes all that is written to it");
        let without_length = head.strip_suffix(b"Content-Length: 0\r\n\r\n");
        debug_assert!(without_length.is_some(), "the length is printed last");
        Response { status, head: without_length.unwrap_or_default().into(), lines: String::new(), body }
    }

    /// The same answer with another body, without printing its head again.
    pub fn with_body(mut self, body: Body) -> Response {
        self.body = body;
        self
    }

    /// Adds a header of this answer alone, without printing the others again.
    pub fn with_header(mut self, name: &str, value: &str) -> Response {
        self.lines.push_str(name);
        self.lines.push_str(": ");
        self.lines.push_str(value);
        self.lines.push_str("\r\n");
        self
    }

    /// Puts `text` between the pieces of a spliced body.
    pub fn with_insert(mut self, text: String) -> Response {
        if let Body::Split { own, .. } = &mut self.body {
            *own = text;
        }
        self
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The status code as it stands in the status line.
    pub(super) fn status_text(&self) -> &str {
        self.head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default()
    }

    /// Bytes of the body.
    pub fn body_length(&self) -> usize {
        self.body.len()
    }

    /// The bytes to send: `lines`, each with its CRLF, go in behind the status line, because `tiny_http` drops
    /// `Connection`, and because the rest of the head may be shared. `head_only` leaves the body out.
    pub(super) fn encode(self, lines: &[&str], head_only: bool) -> Encoded {
        let status_line = self.head.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
        let (first, rest) = self.head.split_at(status_line);
        let own: usize = lines.iter().map(|line| line.len()).sum();
        let mut head = Vec::with_capacity(self.head.len() + self.lines.len() + own + MAX_LENGTH_LINES);
        head.extend_from_slice(first);
        lines.iter().for_each(|line| head.extend_from_slice(line.as_bytes()));
        head.extend_from_slice(self.lines.as_bytes());
        head.extend_from_slice(rest);
        // RFC 9110, section 8.6: no Content-Length in a 204.
        let written = match self.status {
            204 => write!(head, "\r\n"),
            _ => write!(head, "Content-Length: {}\r\n\r\n", self.body.len()),
        };
        debug_assert!(written.is_ok(), "a Vec takes all that is written to it");
        let body = if head_only { Body::Empty } else { self.body };
        Encoded { length: head.len() + body.len(), head, body, position: 0 }
    }
}

impl Body {
    /// A body of one piece.
    pub fn whole(bytes: impl Into<Vec<u8>>) -> Body {
        Body::Whole(Arc::new(bytes.into()))
    }

    fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    fn parts(&self) -> [&[u8]; 3] {
        match self {
            Body::Empty => [&[], &[], &[]],
            Body::Whole(bytes) => [bytes, &[], &[]],
            Body::Split { before, own, after } => [before, own.as_bytes(), after],
        }
    }
}

impl Encoded {
    /// `HTTP/1.1 100 Continue`, which `tiny_http` would give a date and a length.
    pub(super) fn continue_100() -> Encoded {
        let head = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        Encoded { length: head.len(), head, body: Body::Empty, position: 0 }
    }

    /// The bytes that it holds, all of them until the last one is written.
    pub(super) fn size(&self) -> usize {
        self.length
    }

    /// The bytes that the socket has taken.
    pub(super) fn sent(&self) -> usize {
        self.position
    }

    /// Writes until all is written or the socket blocks, which is the error `WouldBlock`.
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
        let mut wire = Response::new(200, &[], Body::whole(vec![b'x'; 1000])).encode(&[], false);
        let size = wire.size();
        assert!(size > 1000);
        let written = wire.write_to(Full(50));
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!((wire.position, wire.size()), (50, size));
    }

    #[test]
    fn own_lines_stand_behind_the_status_line() {
        let reply = Response::new(200, &[("Content-Type", "text/plain")], Body::whole("hello")).with_header("A", "b");
        let out = print(reply, &["Connection: close\r\n"], false);
        assert!(out.starts_with("HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n"), "{out}");
        assert!(out.contains("\r\nServer: twotier\r\n") && out.contains("\r\nDate: "), "{out}");
        assert!(out.contains("\r\nContent-Length: 5\r\n") && out.ends_with("\r\n\r\nhello"), "{out}");
    }

    #[test]
    fn a_spliced_body_is_sent_in_order_and_counted_whole() {
        let part = |text: &str| Arc::new(text.as_bytes().to_vec());
        let body = Body::Split { before: part("before "), own: "own".to_owned(), after: part(" after") };
        let out = print(Response::new(200, &[], body), &[], false);
        assert!(out.contains("Content-Length: 16\r\n") && out.ends_with("\r\n\r\nbefore own after"), "{out}");
    }

    #[test]
    fn head_has_the_length_of_the_body_that_it_leaves_out() {
        let out = print(Response::new(200, &[], Body::whole("hello")), &[], true);
        assert!(out.contains("Content-Length: 5\r\n") && out.ends_with("\r\n\r\n"), "{out}");
    }

    #[test]
    fn a_204_has_no_length() {
        let out = print(Response::new(204, &[("Allow", "GET")], Body::Empty), &[], false);
        assert!(
            !out.contains("Content-Length") && out.contains("Allow: GET\r\n") && out.ends_with("\r\n\r\n"),
            "{out}"
        );
    }

    #[test]
    fn a_large_body_is_not_chunked() {
        let out = print(Response::new(200, &[], Body::whole(vec![b'x'; 100_000])), &[], false);
        assert!(out.contains("Content-Length: 100000\r\n") && !out.contains("Transfer-Encoding"));
    }
}
