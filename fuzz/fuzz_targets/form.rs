//! Fuzzes what the board reads from a body or a query: forms of both types, JSON, plain text, a window. The first byte
//! chooses one.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use twotier::board::body::{self, Submitted};
use twotier::board::input::{self, MAX_LIMIT};
use twotier::board::submit::Endpoint;
use twotier::http::Request;
use twotier::http::head::Head;
use twotier::message::NewMessage;

const MAX_CHARS: usize = 100;

fn submitted(content_type: &str, body: &[u8]) -> Option<Submitted> {
    let head = format!("POST /messages HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n\r\n");
    let head = Head::parse(head.into_bytes()).expect("a head");
    let request = Request { head, body: body.to_vec(), peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    body::submitted(&request, Endpoint::Api).ok()
}

fn form(body: &[u8]) -> Option<Submitted> {
    submitted("application/x-www-form-urlencoded", body)
}

/// Every byte percent-encoded.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What every message must be, in other words than the code's.
fn check(message: &NewMessage) {
    let text = message.as_str();
    let count = text.chars().count();
    assert!((1..=MAX_CHARS).contains(&count) && text.trim() == text);
    assert!(!text.chars().any(|c| c != '\n' && c != '\t' && c.is_control()), "{text:?}");
    assert_eq!(NewMessage::parse(text, MAX_CHARS).as_ref(), Ok(message), "what is stored may be sent again");
}

fuzz_target!(|data: &[u8]| {
    let Some((first, bytes)) = data.split_first() else { return };
    let sent = match first % 6 {
        0 => form(bytes),
        1 => submitted("application/json", bytes),
        3 => submitted("multipart/form-data; boundary=b", bytes),
        4 => submitted("text/plain", bytes),
        _ => {
            let Ok(query) = std::str::from_utf8(bytes) else { return };
            if let Ok(window) = input::window(query) {
                assert!((1..=MAX_LIMIT).contains(&window.limit));
            }
            return;
        }
    };
    let Some(sent) = sent else { return };
    // A form is never repaired: it contains a replacement character only when it was sent.
    if sent.text.contains('\u{fffd}') && first % 6 == 0 {
        let plain = String::from_utf8_lossy(bytes).to_ascii_uppercase();
        assert!(plain.contains("%EF") || bytes.contains(&0xef), "{:?}", sent.text);
    }
    let again = form(format!("message={}", encoded(&sent.text)).as_bytes()).expect("a form");
    assert_eq!(again.text, sent.text, "every text can be sent as a form");
    if let Ok(message) = NewMessage::parse(&sent.text, MAX_CHARS) {
        check(&message);
    }
    if let Some(key) = &sent.key
        && let Ok(stored) = input::key(key)
    {
        assert!((1..=64).contains(&key.len()) && key.bytes().all(|b| (0x21..=0x7e).contains(&b)), "{key:?}");
        assert_eq!(input::key(key), Ok(stored), "the same key is the same key");
    }
});
