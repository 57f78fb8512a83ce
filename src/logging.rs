//! Where log lines go: to stderr, by one thread, so that a slow reader of the log never holds up a request.
//!
//! `simplelog` forms the lines for people; for programs there is one JSON object an event. When the queue is full lines are
//! counted and dropped, and the count is logged later.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{panic, thread};

use log::kv::{self, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use serde::Serializer;
use serde_json::Value as Json;
use simplelog::{ConfigBuilder, LevelPadding, WriteLogger};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::metrics::METRICS;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people: time, level, words, and the fields behind them.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// JsonLogger that may wait for the log's reader.
const QUEUE_LINES: usize = 8192;
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The width of a number among the fields for people, so that they stand below each other.
const NUMBER_WIDTH: usize = 6;

/// Lets one event through in each interval and counts the others, for events that clients can cause at any rate.
pub struct LogLimit {
    interval: Duration,
    /// When the last one passed, and how many were suppressed since.
    last: Mutex<(Option<Instant>, u64)>,
}

enum Entry {
    Line(Vec<u8>),
    /// Tells the sender that all before it is written.
    Flush(SyncSender<()>),
}

/// Appends the fields to the words, escapes what could forge a line, and leaves the rest to `simplelog`.
struct TextLogger {
    inner: Box<WriteLogger<Queue>>,
    entries: Sender<Entry>,
}

/// `simplelog` has no JSON.
struct JsonLogger {
    level: LevelFilter,
    queue: Queue,
}

/// Cuts what is written into lines, and queues them.
#[derive(Clone)]
struct Queue {
    line: Vec<u8>,
    entries: Sender<Entry>,
    counts: Arc<Counts>,
}

/// A bounded channel makes room for all the lines that it may ever hold when it is made; so they are counted instead.
#[derive(Default)]
struct Counts {
    /// JsonLogger in the channel.
    waiting: AtomicUsize,
    /// JsonLogger that did not get into it, since that was last logged.
    dropped: AtomicU64,
}

impl LogLimit {
    /// Lets one event through in each `interval`.
    pub fn new(interval: Duration) -> LogLimit {
        LogLimit { interval, last: Mutex::new((None, 0)) }
    }

    /// `Some` when this event may be logged, with the number of those suppressed since the last one.
    pub fn admit(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_some_and(|at| at.elapsed() < self.interval) {
            last.1 += 1;
            return None;
        }
        let suppressed = last.1;
        *last = (Some(Instant::now()), 0);
        Some(suppressed)
    }
}

/// Starts logging lines of `level` and above to stderr. JsonLogger before it are lost.
pub fn start(level: LevelFilter, form: LogFormat) -> io::Result<()> {
    let (entries, received) = channel();
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&received, &counted, form, io::stderr()))?;
    let queue = Queue { line: Vec::new(), entries: entries.clone(), counts };
    let logger: Box<dyn Log> = match form {
        LogFormat::Text => {
            let config = ConfigBuilder::new()
                .set_time_format_rfc3339()
                .set_level_padding(LevelPadding::Right)
                .set_target_level(LevelFilter::Off)
                .set_thread_level(LevelFilter::Off)
                .set_location_level(LevelFilter::Off)
                .build();
            Box::new(TextLogger { inner: WriteLogger::new(level, config, queue), entries })
        }
        LogFormat::Json => Box::new(JsonLogger { level, queue }),
    };
    log::set_boxed_logger(logger).map_err(io::Error::other)?;
    log::set_max_level(level);
    // Otherwise it would write lines of its own to stderr.
    panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}

fn write_lines(entries: &Receiver<Entry>, counts: &Counts, form: LogFormat, mut out: impl Write) {
    for entry in entries {
        // A log that can't be written can't be complained about either.
        match entry {
            Entry::Line(line) => {
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                drop(out.write_all(&line));
            }
            Entry::Flush(done) => drop(done.try_send(())),
        }
        let lost = counts.dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let words = format!("{lost} lines of this log were dropped, because they were not read fast enough");
            let line = match form {
                LogFormat::Text => words.into_bytes(),
                LogFormat::Json => object("warn", &words, Vec::new()),
            };
            drop(out.write_all(&[line.as_slice(), b"\n"].concat()));
        }
    }
}

impl Log for TextLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = escape(&with_fields(record));
        let metadata = record.metadata().clone();
        self.inner.log(&Record::builder().metadata(metadata).args(format_args!("{text}")).build());
    }

    fn flush(&self) {
        flush(&self.entries);
    }
}

impl Log for JsonLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut fields = Vec::new();
        // What is visited fails never.
        let _ = record.key_values().visit(&mut Collect(&mut fields));
        let level = record.level().as_str().to_ascii_lowercase();
        let mut queue = self.queue.clone();
        let _ = queue.write_all(&[object(&level, &record.args().to_string(), fields).as_slice(), b"\n"].concat());
    }

    fn flush(&self) {
        flush(&self.queue.entries);
    }
}

/// Waits, for a moment, until what was logged so far is written.
fn flush(entries: &Sender<Entry>) {
    let (done, written) = sync_channel(1);
    if entries.send(Entry::Flush(done)).is_ok() {
        let _ = written.recv_timeout(LAST_LINES);
    }
}

/// The fields of an event as JSON: numbers stay numbers.
struct Collect<'a>(&'a mut Vec<(String, Json)>);

impl<'kvs> VisitSource<'kvs> for Collect<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let json = value.to_u64().map_or_else(|| Json::from(value.to_string()), Json::from);
        self.0.push((key.to_string(), json));
        Ok(())
    }
}

/// The fields of an event behind its words.
struct Append<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Append<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        // A String takes all that is written to it.
        let _ = match value.to_u64() {
            Some(number) => write!(self.0, " {key}={number:<NUMBER_WIDTH$}"),
            None => write!(self.0, " {key}={value}"),
        };
        Ok(())
    }
}

fn with_fields(record: &Record<'_>) -> String {
    let mut text = record.args().to_string();
    let _ = record.key_values().visit(&mut Append(&mut text));
    text
}

/// An event as one line of JSON, without its end.
fn object(level: &str, message: &str, fields: Vec<(String, Json)>) -> Vec<u8> {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
    let first = [("time", now.as_str()), ("level", level), ("message", message)];
    let first = first.map(|(name, text)| (name.to_owned(), Json::from(text)));
    let mut object = Vec::new();
    // Strings and numbers always serialize, and JSON escapes what could forge a line.
    let _ = serde_json::Serializer::new(&mut object).collect_map(first.into_iter().chain(fields));
    object
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        // What was escaped holds no newline, so one at the end ends the line.
        if self.line.ends_with(b"\n") {
            let line = Entry::Line(std::mem::take(&mut self.line));
            if self.counts.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE_LINES {
                // Without the thread that writes there is nobody to tell.
                let _ = self.entries.send(line);
            } else {
                self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                METRICS.log_lines_dropped.inc();
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
    fn one_event_passes_in_each_interval_and_the_others_are_counted() {
        let limit = LogLimit::new(Duration::from_secs(3600));
        assert_eq!([limit.admit(), limit.admit(), limit.admit()], [Some(0), None, None]);
        limit.last.lock().unwrap().0 = None;
        assert_eq!([limit.admit(), limit.admit()], [Some(2), None]);
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(escape("a\r\nb\u{1b}[0m\u{85}é"), "a\\r\\nb\\u{1b}[0m\\u{85}é");
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_never_time() {
        let (entries, received) = channel();
        let mut queue = Queue { line: Vec::new(), entries, counts: Arc::default() };
        let counts = Arc::clone(&queue.counts);
        for _ in 0..QUEUE_LINES + 3 {
            queue.write_all(b"a ").unwrap();
            queue.write_all(b"line\n").unwrap();
        }
        drop(queue);
        let mut out = Vec::new();
        write_lines(&received, &counts, LogFormat::Text, &mut out);
        assert_eq!(counts.waiting.load(Ordering::Relaxed), 0, "there is room again");
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("a line\n").count(), QUEUE_LINES, "{out}");
        assert!(out.contains("3 lines of this log were dropped"), "{out}");
    }

    fn record<'a, const N: usize>(fields: &'a [(&'a str, Value<'a>); N], args: std::fmt::Arguments<'a>) -> Record<'a> {
        Record::builder().level(log::Level::Debug).key_values(fields).args(args).build()
    }

    #[test]
    fn fields_stand_behind_the_words_for_people() {
        let fields = [("status", Value::from(200)), ("route", Value::from("/")), ("us", Value::from(12u64))];
        let line = with_fields(&record(&fields, format_args!("request")));
        assert_eq!(line, "request status=200    route=/ us=12    ");
    }

    #[test]
    fn an_event_is_one_object_whose_numbers_are_numbers_and_whose_text_cannot_forge_another() {
        let (entries, received) = channel();
        let queue = Queue { line: Vec::new(), entries, counts: Arc::default() };
        let lines = JsonLogger { level: LevelFilter::Debug, queue };
        let fields = [("status", Value::from(200)), ("request_id", Value::from("a\"\n{"))];
        lines.log(&record(&fields, format_args!("two\nlines\u{1b}")));
        let Ok(Entry::Line(line)) = received.try_recv() else { panic!("no line") };
        assert_eq!(line.iter().filter(|b| **b < b' ').count(), 1, "the line's end");
        let object: Json = serde_json::from_slice(&line).unwrap();
        assert_eq!((&object["level"], &object["message"]), (&"debug".into(), &"two\nlines\u{1b}".into()));
        assert_eq!((&object["status"], &object["request_id"]), (&200.into(), &"a\"\n{".into()));
        assert!(object["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{object}");
    }
}
