//! The chunked transfer coding of a request body (RFC 9112, section 7.1), decoded as it arrives.
//!
//! Chunk extensions and trailers are read and dropped. Strict where leniency would let two servers disagree on where a
//! request ends: no bare LF, no sign, no space before the size.

use super::error::RequestError;
use super::head::is_token_byte;

/// The longest size line or trailer line.
const MAX_LINE: usize = 1024;
/// The most trailer lines.
const MAX_TRAILERS: usize = 100;
/// Digits of a chunk size; far above any limit, far below an overflow.
const MAX_DIGITS: usize = 8;

/// A body that is being decoded.
#[derive(Debug)]
pub struct Decoder {
    body: Vec<u8>,
    max_body: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Size,
    Data(usize),
    DataEnd,
    Trailer(usize),
}

impl Decoder {
    /// A decoder of a body of at most `max_body` bytes.
    pub fn new(max_body: usize) -> Decoder {
        Decoder { body: Vec::new(), max_body, state: State::Size }
    }

    /// The bytes that what is decoded so far holds in memory.
    pub fn size(&self) -> usize {
        self.body.capacity()
    }

    /// Decodes from the front of `input`. Returns the body when it is complete.
    pub fn feed(&mut self, input: &mut Vec<u8>) -> Result<Option<Vec<u8>>, RequestError> {
        let mut used = 0;
        let is_complete = loop {
            let rest = &input[used..];
            match self.state {
                State::Size => {
                    let Some(line) = line(rest)? else { break false };
                    let size = chunk_size(line)?;
                    used += line.len() + 2;
                    if size > self.max_body - self.body.len() {
                        return Err(RequestError::BodyTooLarge);
                    }
                    self.state = if size == 0 { State::Trailer(0) } else { State::Data(size) };
                }
                State::Data(size) => {
                    let take = size.min(rest.len());
                    self.body.extend_from_slice(&rest[..take]);
                    used += take;
                    if take < size {
                        self.state = State::Data(size - take);
                        break false;
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => {
                    if !b"\r\n".starts_with(&rest[..rest.len().min(2)]) {
                        return Err(RequestError::Malformed("A chunk is longer than its size."));
                    }
                    if rest.len() < 2 {
                        break false;
                    }
                    used += 2;
                    self.state = State::Size;
                }
                State::Trailer(count) => {
                    let Some(line) = line(rest)? else { break false };
                    used += line.len() + 2;
                    if line.is_empty() {
                        break true;
                    }
                    if count == MAX_TRAILERS {
                        return Err(RequestError::HeaderTooLarge);
                    }
                    // A line that is not a header is the next request, after a body without its last empty line.
                    if !is_field(line) {
                        return Err(RequestError::Malformed("A trailer is not a header."));
                    }
                    self.state = State::Trailer(count + 1);
                }
            }
        };
        input.drain(..used);
        Ok(is_complete.then(|| std::mem::take(&mut self.body)))
    }
}

/// The first line of `rest` without its CRLF, or none while it is incomplete.
fn line(rest: &[u8]) -> Result<Option<&[u8]>, RequestError> {
    let window = &rest[..rest.len().min(MAX_LINE)];
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        return if window.len() == MAX_LINE { Err(RequestError::HeaderTooLarge) } else { Ok(None) };
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(RequestError::Malformed("A chunk's line ends without CR."))?;
    if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(RequestError::Malformed("A chunk's line holds a control character."));
    }
    Ok(Some(line))
}

/// Whether `line` has the form of a header: a name, a colon directly after it, a value.
fn is_field(line: &[u8]) -> bool {
    let name = line.iter().position(|b| !is_token_byte(*b));
    name.is_some_and(|end| end > 0 && line[end] == b':')
}

fn chunk_size(line: &[u8]) -> Result<usize, RequestError> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let after = line[digits..].trim_ascii_start();
    if digits == 0 || !(after.is_empty() || after.starts_with(b";")) {
        return Err(RequestError::Malformed("A chunk's size is not a hexadecimal number."));
    }
    if digits > MAX_DIGITS {
        return Err(RequestError::BodyTooLarge);
    }
    Ok(line[..digits].iter().fold(0, |size, digit| size * 16 + char::from(*digit).to_digit(16).unwrap_or(0) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body and the bytes after it, when the body is complete.
    type Decoded = Result<Option<(Vec<u8>, Vec<u8>)>, RequestError>;

    /// Decodes `input` in one piece and byte by byte; both must agree.
    #[track_caller]
    fn decode(input: &[u8]) -> Decoded {
        let mut rest = input.to_vec();
        let decoded = Decoder::new(20).feed(&mut rest).map(|body| body.map(|b| (b, rest)));

        let mut drip = Decoder::new(20);
        let mut buffer = Vec::new();
        let mut dripped = Ok(None);
        for (at, byte) in input.iter().enumerate() {
            buffer.push(*byte);
            match drip.feed(&mut buffer) {
                Ok(None) => {}
                Ok(Some(body)) => {
                    dripped = Ok(Some((body, input[at + 1..].to_vec())));
                    break;
                }
                Err(refusal) => {
                    dripped = Err(refusal);
                    break;
                }
            }
        }
        assert_eq!(decoded, dripped, "{:?}", String::from_utf8_lossy(input));
        decoded
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        let bodies: [(&[u8], &str); 6] = [
            (b"0\r\n\r\n", ""),
            (b"5\r\nhello\r\n0\r\n\r\n", "hello"),
            (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
            (b"A;name=value\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
            (b"a \t; x=\"y\"\r\n0123456789\r\n000\r\n\r\n", "0123456789"),
            (b"1\r\n\n\r\n0\r\nTrailer: dropped\r\nAnother: one\r\n\r\n", "\n"),
        ];
        for (input, want) in bodies {
            assert_eq!(decode(input), Ok(Some((want.as_bytes().to_vec(), vec![]))));
            let next = [input, b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(decode(&next), Ok(Some((want.as_bytes().to_vec(), b"GET / HTTP/1.1\r\n".to_vec()))));
        }
    }

    #[test]
    fn an_unfinished_body_waits() {
        for input in ["", "5", "5\r\nhel", "5\r\nhello", "5\r\nhello\r", "5\r\nhello\r\n0\r\n", "0\r\nA: b\r\n"] {
            assert_eq!(decode(input.as_bytes()), Ok(None), "{input:?}");
        }
    }

    #[test]
    fn anything_that_could_be_read_two_ways_is_malformed() {
        let inputs = [
            "\r\n",
            "g\r\n",
            "+5\r\nhello",
            "-1\r\n",
            "0x5\r\nhello",
            " 5\r\nhello",
            "5\nhello",
            "5\r\nhello0\r\n",
            "5\r\nhello\n0\r\n",
            "5,5\r\n",
            "5 5\r\n",
            "5;a\nb\r\nhello",
            "5;\0\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nno colon\r\n",
            "0\r\nA : b\r\n",
            "0\r\n: b\r\n",
            "0\r\nA: b\r\n folded\r\n",
            "0\r\nGET / HTTP/1.1\r\n",
            "5\rx\nhello\r\n",
        ];
        for input in inputs {
            assert!(matches!(decode(input.as_bytes()), Err(RequestError::Malformed(_))), "{input:?}");
        }
    }

    #[test]
    fn sizes_above_the_limit_are_refused_before_their_bytes_arrive() {
        for input in ["15\r\n", "ffffffff\r\n", "ffffffffffffffff\r\n", "10000000000000000\r\n", "000000000000001\r\n"]
        {
            assert_eq!(decode(input.as_bytes()), Err(RequestError::BodyTooLarge), "{input:?}");
        }
        assert_eq!(decode(b"a\r\n0123456789\r\nb\r\n"), Err(RequestError::BodyTooLarge), "all chunks count together");
    }

    #[test]
    fn endless_lines_and_trailers_are_refused() {
        assert_eq!(decode(&[b"5;".as_slice(), &[b'a'; MAX_LINE]].concat()), Err(RequestError::HeaderTooLarge));
        assert_eq!(
            decode(&[b"0\r\n".as_slice(), &b"A: b\r\n".repeat(101)].concat()),
            Err(RequestError::HeaderTooLarge)
        );
    }
}
