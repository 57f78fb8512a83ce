//! The events of the live feed as bytes (HTML, section 9.2: server-sent events). No I/O.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use super::live_window::Changes;
use super::responses::MessageJson;
use crate::http::Chunk;
use crate::message::Message;
use crate::metrics::METRICS;

/// Bytes of events that one tick sends to a stream. They must fit the bound of a stream that still has as many to send.
const MAX_BYTES: usize = 128 * 1024;

/// What changed between two reads.
pub(super) struct Changed {
    /// New messages, and after them edits and deletions.
    pub(super) chunk: Chunk,
    /// Where the edits begin.
    pub(super) edits: usize,
}

/// The newest messages, oldest first. All streams that resume share them, each from its own position to the end, so clients
/// that do not read hold them once.
pub(super) struct Replay {
    pub(super) chunk: Chunk,
    /// The id and the beginning of each message.
    positions: Vec<(u64, usize)>,
    last_left_out: Option<u64>,
}

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

/// What changed, with the texts of what still exists. None when it is more than a stream takes.
pub(super) fn changes(changes: &Changes, texts: &[Message]) -> Option<Changed> {
    let mut text = String::new();
    for message in changes.added.iter().filter_map(|id| find(texts, *id)) {
        push_message(&mut text, message);
    }
    let edits = text.len();
    for message in changes.edited.iter().filter_map(|id| find(texts, *id)) {
        push(&mut text, "edit", None, &MessageJson::from(message));
    }
    for id in &changes.deleted {
        push(&mut text, "delete", None, &DeletedJson { id: *id });
    }
    if text.len() > MAX_BYTES {
        return None;
    }
    count("message", changes.added.len());
    count("edit", changes.edited.len());
    count("delete", changes.deleted.len());
    Some(Changed { chunk: chunk(&text), edits })
}

impl Replay {
    /// The events of these messages, of which the oldest are left out when they are more than a stream takes.
    pub(super) fn new(messages: &[Message]) -> Replay {
        let mut text = String::new();
        let mut positions = Vec::with_capacity(messages.len());
        for message in messages {
            positions.push((message.id, text.len()));
            push_message(&mut text, message);
        }
        let excess = text.len().saturating_sub(MAX_BYTES);
        let left_out = positions.partition_point(|(_, position)| *position < excess);
        let start = positions.get(left_out).map_or(text.len(), |(_, position)| *position);
        let last_left_out = positions.drain(..left_out).next_back().map(|(id, _)| id);
        positions.iter_mut().for_each(|(_, position)| *position -= start);
        Replay { chunk: chunk(&text[start..]), positions, last_left_out }
    }

    /// Where the messages from this id on begin. None when some of them are left out.
    pub(super) fn position(&self, first: u64) -> Option<usize> {
        if self.last_left_out.is_some_and(|id| id >= first) {
            return None;
        }
        let at = self.positions.partition_point(|(id, _)| *id < first);
        Some(self.positions.get(at).map_or(self.chunk.len(), |(_, position)| *position))
    }
}

fn push_message(text: &mut String, message: &Message) {
    push(text, "message", Some(message.id), &MessageJson::from(message));
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

    fn message(id: u64, text: &str) -> Message {
        Message { id, text: text.to_owned(), created_at: None, edited_at: None }
    }

    fn text(chunk: &[u8]) -> &str {
        std::str::from_utf8(chunk).unwrap()
    }

    #[test]
    fn a_text_of_several_lines_is_one_line_of_an_event() {
        let want = "event: message\nid: 7\ndata: {\"id\":7,\"message\":\"a\\nb\\r\u{2028}\\\"\",\"created_at\":null,\
                    \"edited_at\":null}\n\n";
        assert_eq!(text(&Replay::new(&[message(7, "a\nb\r\u{2028}\"")]).chunk), want);
    }

    #[test]
    fn streams_that_resume_share_one_chunk_of_bounded_size() {
        let long = "\u{1}".repeat(5000);
        let texts: Vec<Message> = (1..=10).map(|id| message(2 * id, &long)).collect();
        let replay = Replay::new(&texts);
        assert!(replay.chunk.len() <= MAX_BYTES);
        let ids = |first| {
            let events = text(&replay.chunk[replay.position(first)?..]);
            Some(events.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect::<Vec<u64>>())
        };
        assert_eq!(ids(14), Some(vec![14, 16, 18, 20]));
        assert_eq!(ids(13), ids(14), "a message that was deleted meanwhile");
        assert_eq!(ids(12), None, "more than a stream takes");
        assert_eq!(ids(21), Some(vec![]));
        assert_eq!(Replay::new(&[]).position(0), Some(0));
    }

    #[test]
    fn edits_and_deletions_are_the_end_of_what_changed() {
        let all = Changes { added: vec![1, 2], edited: vec![3], deleted: vec![4] };
        let changed = changes(&all, &[message(1, "new"), message(3, "edited")]).unwrap();
        let names = |events: &[u8]| -> Vec<String> {
            text(events).lines().filter_map(|line| line.strip_prefix("event: ")).map(str::to_owned).collect()
        };
        assert_eq!(names(&changed.chunk), ["message", "edit", "delete"]);
        assert_eq!(names(&changed.chunk[changed.edits..]), ["edit", "delete"]);
        let long = "x".repeat(MAX_BYTES);
        assert!(changes(&all, &[message(1, &long)]).is_none(), "more than a stream takes");
    }
}
