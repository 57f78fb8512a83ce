//! Where log lines go: to stderr, by one thread, so that a slow reader of the log never holds up a request.
//!
//! `simplelog` forms the lines. When the queue is full lines are counted and dropped, and the count is logged later.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};

/// Lines that may wait for the log's reader.
const QUEUE_LINES: usize = 8192;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

enum Entry {
    Line(Vec<u8>),
    /// Tells the sender that all before it is written.
    Flush(SyncSender<()>),
}

/// Escapes what could forge a line, and leaves the rest to `simplelog`.
struct Escaping {
    inner: Box<WriteLogger<Queue>>,
    entries: SyncSender<Entry>,
}

/// Cuts what `simplelog` writes into lines, and queues them.
struct Queue {
    line: Vec<u8>,
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// Starts logging lines of `level` and above to stderr. Lines before it are lost.
pub fn start(level: LevelFilter) -> io::Result<()> {
    let (entries, received) = sync_channel(QUEUE_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&dropped);
    thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(&received, &counted, io::stderr()))?;
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_level_padding(LevelPadding::Right)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    let queue = Queue { line: Vec::new(), entries: entries.clone(), dropped };
    let logger = Escaping { inner: WriteLogger::new(level, config, queue), entries };
    log::set_boxed_logger(Box::new(logger)).map_err(io::Error::other)?;
    log::set_max_level(level);
    Ok(())
}

fn write_lines(entries: &Receiver<Entry>, dropped: &AtomicU64, mut out: impl Write) {
    for entry in entries {
        // A log that can't be written can't be complained about either.
        match entry {
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::Flush(done) => drop(done.try_send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{lost} lines of this log were dropped, because they were not read fast enough");
        }
    }
}

impl Log for Escaping {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let metadata = record.metadata().clone();
        self.inner.log(&Record::builder().metadata(metadata).args(format_args!("{}", escape(&text))).build());
    }

    /// Waits, for a moment, until what was logged so far is written.
    fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.entries.try_send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        // The escaped text holds no newline, so one at the end ends the line.
        if self.line.ends_with(b"\n") {
            let line = Entry::Line(std::mem::take(&mut self.line));
            if let Err(TrySendError::Full(_)) = self.entries.try_send(line) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(escape("a\r\nb\u{1b}[0m\u{85}é"), "a\\r\\nb\\u{1b}[0m\\u{85}é");
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_never_time() {
        let (entries, received) = sync_channel(2);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut queue = Queue { line: Vec::new(), entries, dropped: Arc::clone(&dropped) };
        for _ in 0..5 {
            queue.write_all(b"a ").unwrap();
            queue.write_all(b"line\n").unwrap();
        }
        drop(queue);
        let mut out = Vec::new();
        write_lines(&received, &dropped, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("a line\n").count(), 2, "{out}");
        assert!(out.contains("3 lines of this log were dropped"), "{out}");
    }
}
