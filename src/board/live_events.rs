//! The events of the live feed as bytes (HTML, section 9.2: server-sent events). No I/O.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use super::live_window::Changes;
use super::responses::MessageJson;
use crate::http::Chunk;
use crate::message::Message;
use crate::metrics::METRICS;

/// Messages that are sent at once. When there are more, the client must load them.
pub(super) const MAX_MESSAGES: usize = 200;
/// Bytes of events that are sent at once. They must fit the bound of a stream that still has as many to send.
const MAX_BYTES: usize = 128 * 1024;

#[derive(Serialize)]
struct DeletedJson {
    id: u64,
}

/// The beginning of each stream: the client opens another one after two seconds.
pub(super) fn hello() -> &'static str {
    "retry: 2000\n: connected\n\n"
}

/// The end of a stream: another replica is probably there already.
pub(super) fn goodbye() -> Chunk {
    chunk("retry: 1000\n\n")
}

/// A comment, which clients ignore.
pub(super) fn heartbeat() -> Chunk {
    chunk(": heartbeat\n\n")
}

/// The client must load the messages again.
pub(super) fn reset() -> Chunk {
    count("reset", 1);
    chunk("event: reset\ndata: {}\n\n")
}

/// What changed, with the texts of what still exists.
pub(super) fn changes(changes: &Changes, texts: &[Message]) -> Chunk {
    let mut text = String::new();
    for id in &changes.deleted {
        push(&mut text, "delete", None, &DeletedJson { id: *id });
    }
    for message in changes.edited.iter().filter_map(|id| find(texts, *id)) {
        push(&mut text, "edit", None, &MessageJson::from(message));
    }
    push_messages(&mut text, &changes.added, texts);
    if text.len() > MAX_BYTES {
        return reset();
    }
    count("delete", changes.deleted.len());
    count("edit", changes.edited.len());
    count("message", changes.added.len());
    chunk(&text)
}

/// The messages with these ids, as far as they still exist.
pub(super) fn messages(ids: &[u64], texts: &[Message]) -> Chunk {
    let mut text = String::new();
    push_messages(&mut text, ids, texts);
    if text.len() > MAX_BYTES { reset() } else { chunk(&text) }
}

fn push_messages(text: &mut String, ids: &[u64], texts: &[Message]) {
    for message in ids.iter().filter_map(|id| find(texts, *id)) {
        push(text, "message", Some(message.id), &MessageJson::from(message));
    }
}

fn push(text: &mut String, event: &str, id: Option<u64>, value: &impl Serialize) {
    // Strings and numbers always serialize, and JSON has no line break here.
    let data = serde_json::to_string(value).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let written = write!(text, "event: {event}\n{id}data: {data}\n\n");
    debug_assert!(written.is_ok(), "a String takes all that is written to it");
}

fn find(texts: &[Message], id: u64) -> Option<&Message> {
    texts.binary_search_by_key(&id, |message| message.id).ok().map(|at| &texts[at])
}

fn count(event: &str, number: usize) {
    METRICS.live_events.with_label_values(&[event]).inc_by(number as u64);
}

fn chunk(text: &str) -> Chunk {
    Arc::from(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_several_lines_is_one_line_of_an_event() {
        let text = "a\nb\r\u{2028}\"".to_owned();
        let message = Message { id: 7, text, created_at: None, edited_at: None };
        let sent = messages(&[6, 7], &[message]);
        let want = "event: message\nid: 7\ndata: {\"id\":7,\"message\":\"a\\nb\\r\u{2028}\\\"\",\"created_at\":null,\
                    \"edited_at\":null}\n\n";
        assert_eq!(String::from_utf8_lossy(&sent), want);
    }

    #[test]
    fn more_than_a_stream_can_take_becomes_a_reset() {
        let message = |id| Message { id, text: "\u{1}".repeat(5000), created_at: None, edited_at: None };
        let texts: Vec<Message> = (1..10).map(message).collect();
        let ids: Vec<u64> = (1..10).collect();
        assert!(messages(&ids, &texts).starts_with(b"event: reset\n"));
        assert!(messages(&ids[..2], &texts).starts_with(b"event: message\n"));
    }
}
