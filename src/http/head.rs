//! The head of a request: request line and headers, found, parsed and checked (RFC 9112, sections 2 to 6).
//!
//! `httparse` splits it; this module is strict where it is lenient, and decides how the body is framed. No I/O.

use std::ops::Range;
use std::str::FromStr;

use tiny_http::Method;

use super::error::RequestError;

/// The most bytes of request line and headers together.
pub const MAX_HEAD: usize = 16 * 1024;
/// The most headers.
pub const MAX_HEADERS: usize = 100;

/// The most empty lines before a request line. Some old clients send one after a body.
const MAX_EMPTY_LINES: usize = 8;

/// A well-formed head.
#[derive(Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// How the body is framed.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// What happens to the connection after the response.
    pub persistence: Persistence,
    /// The complete head; the parts are ranges of it.
    text: String,
    path: Part,
    query: Part,
    /// Names and trimmed values.
    headers: Box<[(Part, Part)]>,
}

/// A range of the text of a head. Decoding makes at most three bytes of one.
type Part = Range<u16>;
const _: () = assert!(3 * MAX_HEAD <= u16::MAX as usize);

/// What happens to the connection after the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It is closed.
    Close,
    /// It is kept.
    Keep,
    /// It is kept, and the response must say so to a client of HTTP/1.0.
    KeepAndTell,
}

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes; 0 when there is no body.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// Finds the end of a head in bytes that arrive in pieces. Reads each byte once.
#[derive(Debug, Default)]
pub struct Finder {
    line_start: usize,
    scanned: usize,
    skipped: usize,
}

impl Finder {
    /// The length of the head with its empty line, once `input` holds all of it. Empty lines before the request line
    /// are taken out of `input` (RFC 9112, section 2.2).
    pub fn find(&mut self, input: &mut Vec<u8>) -> Result<Option<usize>, RequestError> {
        let empty_lines = input.chunks_exact(2).take_while(|line| line == b"\r\n").count();
        if empty_lines > 0 {
            self.skipped += empty_lines;
            if self.skipped > MAX_EMPTY_LINES {
                return Err(RequestError::Malformed("There are too many empty lines before the request."));
            }
            input.drain(..empty_lines * 2);
            (self.line_start, self.scanned) = (0, 0);
        }
        // A byte that can't begin a method can't begin a request. TLS on this port is refused now, not after a
        // time-out.
        if let Some(first) = input.first()
            && !(is_token_byte(*first) || *first == b'\r')
        {
            return Err(RequestError::Malformed("This is not an HTTP request."));
        }
        while let Some(at) = input[self.scanned..].iter().position(|b| *b == b'\n').map(|at| at + self.scanned) {
            if at == 0 || input[at - 1] != b'\r' {
                return Err(RequestError::Malformed("A line ends without CR."));
            }
            self.scanned = at + 1;
            if at + 1 > MAX_HEAD {
                break;
            }
            if at - 1 == self.line_start {
                return Ok(Some(at + 1));
            }
            self.line_start = at + 1;
        }
        self.scanned = input.len();
        match input.len() > MAX_HEAD {
            true if self.line_start == 0 => Err(RequestError::TargetTooLong),
            true => Err(RequestError::HeaderTooLarge),
            false => Ok(None),
        }
    }
}

impl Head {
    /// Parses `bytes`, which end with the empty line.
    pub fn parse(bytes: Vec<u8>) -> Result<Head, RequestError> {
        let text = decode(bytes)?;
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut slots);
        match request.parse(text.as_bytes()) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(RequestError::Malformed("The head is incomplete.")),
            Err(error) => return Err(refusal_of(error, text.as_bytes())),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(RequestError::Malformed("The request line is incomplete."));
        };
        let method = Method::from_str(method).map_err(|()| RequestError::Malformed("The method is not ASCII."))?;
        let (path, query) = split_target(target, &method)?;
        let start = text.as_ptr() as usize;
        let part = |slice: &[u8]| {
            let from = slice.as_ptr() as usize - start;
            from as u16..(from + slice.len()) as u16
        };
        let header = |header: &httparse::Header<'_>| (part(header.name.as_bytes()), part(header.value.trim_ascii()));
        let headers = request.headers.iter().map(header).collect();
        let (path, query) = (part(path.as_bytes()), part(query.as_bytes()));
        let mut head = Head {
            method,
            framing: Framing::Length(0),
            expects_continue: false,
            persistence: Persistence::Close,
            text,
            path,
            query,
            headers,
        };
        head.check_host(version)?;
        head.framing = head.find_framing(version)?;
        head.expects_continue = head.find_expectation(version)?;
        head.persistence = head.find_persistence(version);
        Ok(head)
    }

    /// The request line without its CRLF.
    pub(super) fn request_line(&self) -> &str {
        self.text.split_once("\r\n").map_or("", |(line, _)| line)
    }

    /// The path of the target as it was sent, percent-encoded; `*` for the asterisk form.
    pub fn path(&self) -> &str {
        self.part(&self.path)
    }

    /// What followed the first `?` of the target, or an empty text.
    pub fn query(&self) -> &str {
        self.part(&self.query)
    }

    /// The values of the headers called `name`, in their order, trimmed.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.headers.iter().filter(move |(n, _)| self.part(n).eq_ignore_ascii_case(name)).map(|(_, v)| self.part(v))
    }

    /// The value of the first header called `name`.
    pub fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next()
    }

    /// The bytes that it holds in memory, except a few. It holds an unknown method twice.
    pub fn size(&self) -> usize {
        self.text.capacity() + self.method.as_str().len()
    }

    fn part(&self, part: &Part) -> &str {
        &self.text[usize::from(part.start)..usize::from(part.end)]
    }

    /// RFC 9112, section 3.2: one `Host` in HTTP/1.1, never two.
    fn check_host(&self, version: u8) -> Result<(), RequestError> {
        let mut hosts = self.values("host");
        match (hosts.next(), hosts.next()) {
            (Some(host), None) if host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@\\,".contains(&b)) => Ok(()),
            (None, _) if version == 0 => Ok(()),
            (None, _) => Err(RequestError::Malformed("HTTP/1.1 needs a Host header.")),
            (Some(_), Some(_)) => Err(RequestError::Malformed("There is more than one Host header.")),
            (Some(_), None) => Err(RequestError::Malformed("The Host header is not a host.")),
        }
    }

    /// RFC 9112, section 6.3, without the leniencies that request smuggling lives on.
    fn find_framing(&self, version: u8) -> Result<Framing, RequestError> {
        let mut lengths = self.values("content-length");
        let mut codings = self.values("transfer-encoding");
        match (lengths.next(), codings.next()) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(_), Some(_)) => {
                Err(RequestError::Malformed("Content-Length and Transfer-Encoding exclude each other."))
            }
            (Some(length), None) => {
                if lengths.next().is_some() || length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(RequestError::Malformed("Content-Length is not one number."));
                }
                // More digits than fit are a number all the same: a body that is too large.
                Ok(Framing::Length(length.parse().unwrap_or(u64::MAX)))
            }
            (None, Some(_)) if version == 0 => Err(RequestError::Malformed("HTTP/1.0 has no Transfer-Encoding.")),
            (None, Some(coding)) => match codings.next() {
                Some(_) => Err(RequestError::Malformed("There is more than one Transfer-Encoding.")),
                None if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
                None => Err(RequestError::UnknownTransferCoding),
            },
        }
    }

    /// Whether the body is sent as it is (RFC 9110, section 8.4).
    pub(super) fn has_identity_coding(&self) -> bool {
        let mut codings = self.values("content-encoding").flat_map(|value| value.split(','));
        codings.all(|coding| matches!(coding.trim_ascii(), coding if coding.eq_ignore_ascii_case("identity") || coding.is_empty()))
    }

    /// RFC 9110, section 10.1.1; HTTP/1.0 knows no expectations.
    fn find_expectation(&self, version: u8) -> Result<bool, RequestError> {
        let mut expectations = self.values("expect").filter(|_| version == 1).peekable();
        let expects = expectations.peek().is_some();
        match expectations.all(|value| value.eq_ignore_ascii_case("100-continue")) {
            true => Ok(expects),
            false => Err(RequestError::ExpectationFailed),
        }
    }

    /// RFC 9112, section 9.3.
    fn find_persistence(&self, version: u8) -> Persistence {
        let says = |option: &str| {
            self.values("connection").flat_map(|v| v.split(',')).any(|v| v.trim_ascii().eq_ignore_ascii_case(option))
        };
        match (says("close"), version == 1) {
            (true, _) => Persistence::Close,
            (false, true) => Persistence::Keep,
            (false, false) if says("keep-alive") => Persistence::KeepAndTell,
            (false, false) => Persistence::Close,
        }
    }
}

/// The head as text. A header that is never read may hold any bytes (RFC 9110, section 5.5), such as another
/// application's cookie. Bytes that are not UTF-8 become U+FFFD, which no header that is read accepts.
fn decode(bytes: Vec<u8>) -> Result<String, RequestError> {
    String::from_utf8(bytes).or_else(|error| {
        let bytes = error.as_bytes();
        let first_line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
        match std::str::from_utf8(first_line) {
            Ok(_) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            Err(_) => Err(RequestError::Malformed("The request line is not UTF-8.")),
        }
    })
}

/// RFC 9110, section 5.6.2: what a method or a header's name is made of.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn refusal_of(error: httparse::Error, bytes: &[u8]) -> RequestError {
    match error {
        httparse::Error::TooManyHeaders => RequestError::HeaderTooLarge,
        httparse::Error::Version if names_another_version(bytes) => RequestError::UnsupportedVersion,
        httparse::Error::Version => RequestError::Malformed("The request line names no HTTP version."),
        httparse::Error::HeaderName => RequestError::Malformed("A header's name is malformed."),
        httparse::Error::HeaderValue => RequestError::Malformed("A header's value is malformed."),
        httparse::Error::NewLine => RequestError::Malformed("A line end is malformed."),
        httparse::Error::Token => RequestError::Malformed("The request line is malformed."),
        httparse::Error::Status => RequestError::Malformed("This is not a request."),
    }
}

/// Whether the request line is complete, and its version well-formed but not supported.
fn names_another_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (Some(_), Some(_), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return false;
    };
    matches!(version.strip_prefix(b"HTTP/"), Some([major, b'.', minor]) if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Path and query of an origin-form, absolute-form or asterisk-form target (RFC 9112, section 3.2), as parts of it.
fn split_target<'a>(target: &'a str, method: &Method) -> Result<(&'a str, &'a str), RequestError> {
    if target == "*" {
        return match method {
            Method::Options => Ok((target, &target[1..])),
            _ => Err(RequestError::Malformed("The target * is for OPTIONS.")),
        };
    }
    let origin = match target.get(..8).filter(|_| !target.starts_with('/')).map(str::to_ascii_lowercase) {
        None => target,
        Some(start) => {
            let scheme = if start.starts_with("http://") { 7 } else { 8 };
            if scheme == 8 && start != "https://" {
                return Err(RequestError::Malformed("The target is neither a path nor a URL."));
            }
            let (before, after) = target.split_at(scheme);
            // A URL without a path has that of the root, and a slash of its own to show for it.
            let root = &before[scheme - 1..];
            match after.find(['/', '?', '#']).unwrap_or(after.len()) {
                0 => return Err(RequestError::Malformed("The target's URL has no host.")),
                at => match after.as_bytes().get(at) {
                    Some(b'?') => return Ok((root, &after[at + 1..])),
                    Some(_) => &after[at..],
                    None => root,
                },
            }
        }
    };
    if !origin.starts_with('/') || origin.contains('#') {
        return Err(RequestError::Malformed("The target is neither a path nor a URL."));
    }
    Ok(origin.split_once('?').unwrap_or((origin, &origin[origin.len()..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Result<Head, RequestError> {
        let mut input = head.as_bytes().to_vec();
        let length = Finder::default().find(&mut input)?.expect("a whole head");
        assert_eq!(length, input.len(), "{head:?}");
        Head::parse(input)
    }

    fn with(headers: &str) -> Result<Head, RequestError> {
        parse(&format!("POST /submit HTTP/1.1\r\nHost: a\r\n{headers}\r\n"))
    }

    #[track_caller]
    fn malformed(got: Result<Head, RequestError>, what: &str) {
        assert!(matches!(got, Err(RequestError::Malformed(_))), "{what:?}: {got:?}");
    }

    #[test]
    fn the_end_is_found_however_the_bytes_arrive() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let (mut finder, mut input) = (Finder::default(), Vec::new());
        for (at, byte) in head.iter().enumerate() {
            input.push(*byte);
            let want = (at + 1 == head.len()).then_some(head.len());
            assert_eq!(finder.find(&mut input), Ok(want));
        }
        let mut more = [b"\r\n\r\n".as_slice(), head, b"GET /next"].concat();
        assert_eq!(Finder::default().find(&mut more), Ok(Some(head.len())));
        assert!(more.starts_with(b"GET / "), "empty lines before a request are skipped");
        let mut finder = Finder::default();
        let endless = (0..100).map(|_| finder.find(&mut b"\r\n".to_vec())).find(Result::is_err);
        assert!(matches!(endless, Some(Err(RequestError::Malformed(_)))), "but not without end");
    }

    #[test]
    fn a_head_that_never_ends_is_refused_at_the_limit() {
        let find = |head: Vec<u8>| Finder::default().find(&mut head.clone());
        assert_eq!(find([b"GET /".as_slice(), &vec![b'a'; MAX_HEAD]].concat()), Err(RequestError::TargetTooLong));
        assert_eq!(
            find([b"GET / HTTP/1.1\r\nA: ".as_slice(), &vec![b'a'; MAX_HEAD]].concat()),
            Err(RequestError::HeaderTooLarge)
        );
        let lines = [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(MAX_HEAD), b"\r\n"].concat();
        assert_eq!(find(lines), Err(RequestError::HeaderTooLarge));
    }

    #[test]
    fn exactly_the_limit_of_headers_is_taken() {
        let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(n - 1));
        assert!(parse(&head(MAX_HEADERS)).is_ok());
        assert_eq!(parse(&head(MAX_HEADERS + 1)).unwrap_err(), RequestError::HeaderTooLarge);
    }

    #[test]
    fn targets_come_in_three_forms() {
        let target = |t: &str| {
            parse(&format!("GET {t} HTTP/1.1\r\nHost: a\r\n\r\n")).map(|h| (h.path().to_owned(), h.query().to_owned()))
        };
        let split = |path: &str, query: &str| Ok((path.to_owned(), query.to_owned()));
        assert_eq!(target("/"), split("/", ""));
        assert_eq!(target("/a?b=c?d"), split("/a", "b=c?d"));
        assert_eq!(target("http://host:80/a?b"), split("/a", "b"));
        assert_eq!(target("HTTPS://host?b"), split("/", "b"));
        assert_eq!(target("http://host"), split("/", ""));
        assert_eq!(target("//host/a"), split("//host/a", ""));
        assert!(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
        for bad in [
            "*",
            "a",
            "host:80",
            "ftp://host/",
            "http:///a",
            "/a#b",
            "http://",
            "https://",
            "http://a#b",
            "httpx://host/a",
        ] {
            assert!(matches!(target(bad), Err(RequestError::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn http_1_1_needs_one_host() {
        malformed(parse("GET / HTTP/1.1\r\n\r\n"), "none");
        malformed(parse("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), "two");
        malformed(parse("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), "a space");
        malformed(parse("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), "a slash");
        assert!(parse("GET / HTTP/1.0\r\n\r\n").is_ok());
    }

    #[test]
    fn only_two_versions_are_spoken() {
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0"] {
            assert_eq!(
                parse(&format!("GET / {version}\r\nHost: a\r\n\r\n")).unwrap_err(),
                RequestError::UnsupportedVersion
            );
        }
        for line in [
            "GET /",
            "GET / HTTP/1",
            "GET / http/1.1",
            "GET / HTTP/1.1x",
            "GET  / HTTP/1.1",
            "GET / HTTP/11",
            "GET /  HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET / HTTP/1.1 HTTP/2.0",
        ] {
            malformed(parse(&format!("{line}\r\nHost: a\r\n\r\n")), line);
        }
    }

    #[test]
    fn a_body_is_framed_in_one_way_or_the_request_is_malformed() {
        assert_eq!(with("").unwrap().framing, Framing::Length(0));
        assert_eq!(with("Content-Length: 5\r\n").unwrap().framing, Framing::Length(5));
        assert_eq!(with("content-length:  0005 \r\n").unwrap().framing, Framing::Length(5));
        assert_eq!(with("Content-Length: 99999999999999999999\r\n").unwrap().framing, Framing::Length(u64::MAX));
        assert_eq!(with("Transfer-Encoding: Chunked\r\n").unwrap().framing, Framing::Chunked);
        assert_eq!(with("Transfer-Encoding: gzip\r\n").unwrap_err(), RequestError::UnknownTransferCoding);
        assert_eq!(with("Transfer-Encoding: gzip, chunked\r\n").unwrap_err(), RequestError::UnknownTransferCoding);
        let shapes = [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length:\r\n",
            "Content-Length : 5\r\n",
            " Content-Length: 5\r\n",
            "X: y\r\n Content-Length: 5\r\n",
            "X: y\r\n\tfolded\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding : chunked\r\n",
            "X: a\0b\r\n",
            "X: a\rb\r\n",
            "X: a\nY: b\r\n",
            ": empty\r\n",
            "no colon\r\n",
        ];
        for shape in shapes {
            malformed(with(shape), shape);
        }
        malformed(parse("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), "HTTP/1.0");
    }

    #[test]
    fn header_values_hold_any_bytes_and_what_is_not_utf_8_equals_no_text() {
        assert_eq!(with("X: \u{e9}\u{1f600}\r\n").unwrap().value("x"), Some("\u{e9}\u{1f600}"));
        let bytes = |line: &[u8]| Head::parse([b"GET / HTTP/1.1\r\nHost: a\r\n", line, b"\r\nY: z\r\n\r\n"].concat());
        let head = bytes(b"X: caf\xe9").unwrap();
        assert_eq!((head.value("x"), head.value("y")), (Some("caf\u{fffd}"), Some("z")));
        assert!(
            bytes(&[b"X: ".as_slice(), &vec![b'\xff'; MAX_HEAD - 100]].concat()).is_ok(),
            "the parts fit their type"
        );
        malformed(bytes(b"X\xff: y"), "a name");
        malformed(bytes(b"Content-Length: 1\xff"), "a length");
        malformed(Head::parse(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n".to_vec()), "a host");
        malformed(Head::parse(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()), "a target");
    }

    #[test]
    fn only_the_identity_coding_is_known() {
        for (line, is_identity) in [
            ("", true),
            ("Content-Encoding: identity\r\n", true),
            ("Content-Encoding: Identity\r\nContent-Encoding:\r\n", true),
            ("Content-Encoding: gzip\r\n", false),
            ("Content-Encoding: identity, br\r\n", false),
        ] {
            assert_eq!(with(line).unwrap().has_identity_coding(), is_identity, "{line:?}");
        }
    }

    #[test]
    fn a_connection_is_kept_as_version_and_header_say() {
        let persistence = |head: &str| parse(head).unwrap().persistence;
        assert_eq!(persistence("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Persistence::Keep);
        assert_eq!(persistence("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"), Persistence::Close);
        assert_eq!(persistence("GET / HTTP/1.0\r\n\r\n"), Persistence::Close);
        assert_eq!(persistence("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), Persistence::KeepAndTell);
        assert_eq!(persistence("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"), Persistence::Close);
    }

    #[test]
    fn only_one_expectation_is_known() {
        assert!(with("Expect: 100-Continue\r\n").unwrap().expects_continue);
        assert!(!with("").unwrap().expects_continue);
        for other in ["Expect: tea\r\n", "Expect: 100-continue\r\nExpect: tea\r\n", "Expect: 100-continue, tea\r\n"] {
            assert_eq!(with(other).unwrap_err(), RequestError::ExpectationFailed, "{other:?}");
        }
        assert!(!parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").unwrap().expects_continue);
    }

    #[test]
    fn bytes_that_cannot_be_http_are_refused_immediately() {
        for start in ["\x16\x03\x01", " GET /", "\n", "\0", "{"] {
            let got = Finder::default().find(&mut start.as_bytes().to_vec());
            assert!(matches!(got, Err(RequestError::Malformed(_))), "{start:?}");
        }
    }
}
