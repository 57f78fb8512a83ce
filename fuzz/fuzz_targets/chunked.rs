//! Fuzzes the chunked decoder. The first byte says in which pieces the others arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twotier::http::RequestError;
use twotier::http::chunked::Decoder;

/// Small, so that the fuzzer meets it.
const LIMIT: usize = 300;

/// The body and the bytes behind it, or nothing while it is not whole.
type Decoded = Result<Option<(Vec<u8>, Vec<u8>)>, RequestError>;

fn decode(bytes: &[u8], piece: usize) -> Decoded {
    let (mut decoder, mut input) = (Decoder::new(LIMIT), Vec::new());
    let mut pieces = bytes.chunks(piece);
    loop {
        input.extend_from_slice(pieces.next().unwrap_or_default());
        let body = decoder.feed(&mut input)?;
        // A growing vector doubles.
        assert!(decoder.size() <= 2 * LIMIT, "{} bytes are held", decoder.size());
        if let Some(body) = body {
            input.extend(pieces.flatten());
            return Ok(Some((body, input)));
        }
        if pieces.len() == 0 {
            return Ok(None);
        }
    }
}

fn encode(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let piece = usize::from(*first).max(1);
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, piece), "in pieces of {piece}");
    if let Ok(Some((body, behind))) = whole {
        assert!(body.len() <= LIMIT && bytes.ends_with(&behind));
        let used = &bytes[..bytes.len() - behind.len()];
        assert!(used.ends_with(b"\r\n\r\n"), "it ends with the empty line behind the trailers");
        // One byte less is not whole, so the end is in one place.
        assert_eq!(decode(&used[..used.len() - 1], piece), Ok(None));
        assert_eq!(decode(&encode(&body, piece), 1), Ok(Some((body, vec![]))));
    }
    // Whatever the bytes are, as a body they survive the coding, or are too many.
    let coded = decode(&encode(bytes, piece), piece);
    match bytes.len() <= LIMIT {
        true => assert_eq!(coded, Ok(Some((bytes.to_vec(), vec![])))),
        false => assert_eq!(coded, Err(RequestError::BodyTooLarge)),
    }
});
