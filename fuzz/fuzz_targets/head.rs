//! Fuzzes the head of a request. The first byte says in which pieces the others arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use twotier::http::RequestError;
use twotier::http::head::{Finder, Framing, Head, MAX_HEAD, MAX_HEADERS};

/// The head with its empty line and the bytes behind it, or nothing while it is not whole.
type Found = Result<Option<(Vec<u8>, Vec<u8>)>, RequestError>;

fn find(bytes: &[u8], piece: usize) -> Found {
    let (mut finder, mut input) = (Finder::default(), Vec::new());
    let mut pieces = bytes.chunks(piece);
    loop {
        input.extend_from_slice(pieces.next().unwrap_or_default());
        if let Some(length) = finder.find(&mut input)? {
            let mut behind = input.split_off(length);
            behind.extend(pieces.flatten());
            return Ok(Some((input, behind)));
        }
        if pieces.len() == 0 {
            return Ok(None);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let whole = find(bytes, bytes.len().max(1));
    let pieces = find(bytes, usize::from(*first).max(1));
    match (&whole, &pieces) {
        // Which limit is met first may depend on the pieces; whether it is refused may not.
        (Err(_), Err(_)) => return,
        _ => assert_eq!(whole, pieces, "in pieces of {first}"),
    }
    let Ok(Some((head, _))) = whole else { return };
    assert!(head.len() <= MAX_HEAD && head.ends_with(b"\r\n\r\n"));
    assert!(head.iter().enumerate().all(|(at, byte)| *byte != b'\n' || head[at - 1] == b'\r'), "a bare line feed");
    let Ok(parsed) = Head::parse(head.clone()) else { return };

    // Looked at by other means than the parser's: a request that is taken is framed in one way.
    let text = String::from_utf8_lossy(&head);
    let (line, headers) = text.split_once("\r\n").expect("a request line");
    let words: Vec<&str> = line.split(' ').collect();
    assert!(matches!(words[..], [_, _, "HTTP/1.0" | "HTTP/1.1"]), "{line:?}");
    assert_eq!(parsed.method.as_str(), words[0]);
    assert!(parsed.path() == "*" || parsed.path().starts_with('/'), "{:?}", parsed.path());
    assert!(words[1].contains(parsed.path()));
    assert!(words[1].ends_with(parsed.query()));
    let lines: Vec<&str> = headers.strip_suffix("\r\n\r\n").map_or_else(Vec::new, |all| all.split("\r\n").collect());
    assert!(lines.len() <= MAX_HEADERS);
    let named = |name: &str| -> Vec<&str> {
        let fields = lines.iter().map(|line| line.split_once(':').expect("a colon in each header"));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_matches([' ', '\t'])).collect()
    };
    let (lengths, codings, hosts) = (named("content-length"), named("transfer-encoding"), named("host"));
    assert!(lines.iter().all(|line| !line.starts_with([' ', '\t']) && !line.contains(['\0', '\r', '\n'])));
    assert!(hosts.len() == 1 || hosts.is_empty() && words[2] == "HTTP/1.0");
    match parsed.framing {
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1 && codings[0].eq_ignore_ascii_case("chunked"));
        }
        Framing::Length(_) if lengths.is_empty() => assert_eq!((parsed.framing, codings.len()), (Framing::Length(0), 0)),
        Framing::Length(length) => {
            assert!(lengths.len() == 1 && codings.is_empty());
            assert!(lengths[0].bytes().all(|b| b.is_ascii_digit()));
            let digits = lengths[0].trim_start_matches('0');
            let fits = length.to_string() == digits || length == 0 && digits.is_empty();
            assert!(fits || length == u64::MAX && digits.len() >= 20, "{length} of {digits}");
        }
    }
    for name in ["host", "content-length", "transfer-encoding"] {
        assert_eq!(parsed.values(name).collect::<Vec<_>>(), named(name));
    }
});
