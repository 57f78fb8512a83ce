//! The log: what a line looks like, and which events are logged.
//!
//! `text` is `simplelog`'s time and level, then fields in logfmt; `json` is an object for each line. Lines go to stderr
//! through a [`LineQueue`]. Logging never waits.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::kv::{self, Key, Value, VisitSource};
use log::{LevelFilter, Log, Metadata, Record};
use serde::Serializer;
use serde_json::Value as Json;
use simplelog::{Config, ConfigBuilder, FormatItem, LevelPadding, WriteLogger, format_description};
use time::OffsetDateTime;

use crate::line_queue::LineQueue;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, and fields in logfmt.
    Text,
    /// One JSON object.
    Json,
}

/// Lets one event through in each interval and counts the others, for events that clients can cause at any rate.
pub struct LogLimit {
    interval: Duration,
    /// When the last one passed, and how many were suppressed since.
    last: Mutex<(Option<Instant>, u64)>,
}

/// RFC 3339 in UTC, always with milliseconds.
const TIME: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

struct Logger {
    level: LevelFilter,
    queue: LineQueue,
    /// What forms the lines of [`LogFormat::Text`]; none for JSON.
    text: Option<WriteLogger<LineBuffer>>,
}

/// Collects the bytes of one line, and queues it when it is complete.
struct LineBuffer {
    line: Vec<u8>,
    queue: LineQueue,
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

/// Starts to log lines of `level` and above to stderr. Earlier ones are lost.
pub fn start(level: LevelFilter, format: LogFormat) -> io::Result<()> {
    let queue = LineQueue::start("log", io::stderr(), move |lines| report_dropped(format, lines))?;
    log::set_boxed_logger(Box::new(Logger::new(level, format, queue))).map_err(io::Error::other)?;
    log::set_max_level(level);
    // The default hook writes lines of its own to stderr.
    panic::set_hook(Box::new(|panic| log::error!("{panic}")));
    Ok(())
}

fn report_dropped(format: LogFormat, lines: u64) -> Vec<u8> {
    let message = "log lines were dropped, because they were not read fast enough";
    match format {
        LogFormat::Text => format!("{} [WARN ] msg=\"{message}\" lines={lines}\n", now()).into_bytes(),
        LogFormat::Json => json_line("warn", message, vec![("lines".to_owned(), Json::from(lines))]),
    }
}

impl Logger {
    fn new(level: LevelFilter, format: LogFormat, queue: LineQueue) -> Logger {
        let buffer = LineBuffer { line: Vec::new(), queue: queue.clone() };
        let text = (format == LogFormat::Text).then(|| *WriteLogger::new(level, text_config(), buffer));
        Logger { level, queue, text }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(text) = &self.text {
            let fields = logfmt(record);
            let metadata = record.metadata().clone();
            text.log(&Record::builder().metadata(metadata).args(format_args!("{fields}")).build());
        } else {
            let mut fields = JsonFields(Vec::new());
            // This visitor never fails.
            let _ = record.key_values().visit(&mut fields);
            let level = record.level().as_str().to_ascii_lowercase();
            self.queue.send(json_line(&level, &record.args().to_string(), fields.0));
        }
    }

    fn flush(&self) {
        self.queue.flush();
    }
}

impl Write for LineBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        // Fields hold no newline, so one at the end ends the line.
        if self.line.ends_with(b"\n") {
            let line = std::mem::take(&mut self.line);
            self.queue.send(line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text_config() -> Config {
    ConfigBuilder::new()
        .set_time_format_custom(TIME)
        .set_level_padding(LevelPadding::Right)
        .set_target_level(LevelFilter::Off)
        .set_thread_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build()
}

/// A time as RFC 3339 in UTC, with milliseconds.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(TIME).unwrap_or_default()
}

fn now() -> String {
    rfc3339(OffsetDateTime::now_utc())
}

/// The message and the fields of an event in logfmt: `msg="words" key=value`.
fn logfmt(record: &Record<'_>) -> String {
    struct Fields(String);
    impl<'kvs> VisitSource<'kvs> for Fields {
        fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
            self.0.push(' ');
            self.0.push_str(key.as_str());
            self.0.push('=');
            let value = value.to_string();
            let is_plain = |c: char| c > ' ' && !c.is_control() && !matches!(c, '"' | '=' | '\\' | '\u{a0}');
            if !value.is_empty() && value.chars().all(is_plain) {
                self.0.push_str(&value);
            } else {
                push_quoted(&mut self.0, &value);
            }
            Ok(())
        }
    }
    let mut fields = Fields("msg=".to_owned());
    push_quoted(&mut fields.0, record.args());
    // This visitor never fails.
    let _ = record.key_values().visit(&mut fields);
    fields.0
}

/// Writes `value` in quotes, with escapes for what could end them or forge a line.
fn push_quoted(out: &mut String, value: impl Display) {
    out.push('"');
    for c in value.to_string().chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // A String takes all that is written to it.
                let _ = write!(out, "{}", c.escape_default());
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The fields of an event as JSON. Numbers stay numbers.
struct JsonFields(Vec<(String, Json)>);

impl<'kvs> VisitSource<'kvs> for JsonFields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let json = value.to_u64().map_or_else(|| Json::from(value.to_string()), Json::from);
        self.0.push((key.to_string(), json));
        Ok(())
    }
}

/// An event as one line of JSON.
fn json_line(level: &str, message: &str, fields: Vec<(String, Json)>) -> Vec<u8> {
    let now = now();
    let first = [("time", now.as_str()), ("level", level), ("message", message)];
    let first = first.map(|(name, text)| (name.to_owned(), Json::from(text)));
    let mut line = Vec::new();
    // Strings and numbers always serialize, and JSON escapes what could forge a line.
    let _ = serde_json::Serializer::new(&mut line).collect_map(first.into_iter().chain(fields));
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a, const N: usize>(fields: &'a [(&'a str, Value<'a>); N], args: std::fmt::Arguments<'a>) -> Record<'a> {
        Record::builder().level(log::Level::Debug).key_values(fields).args(args).build()
    }

    /// What is written when this event is logged.
    fn logged(format: LogFormat, record: &Record<'_>) -> String {
        let (read, write) = io::pipe().unwrap();
        let queue = LineQueue::start("test", write, move |lines| report_dropped(format, lines)).unwrap();
        let logger = Logger::new(LevelFilter::Debug, format, queue);
        logger.log(record);
        drop(logger);
        io::read_to_string(read).unwrap()
    }

    #[test]
    fn one_event_passes_in_each_interval_and_the_others_are_counted() {
        let limit = LogLimit::new(Duration::from_secs(3600));
        assert_eq!([limit.admit(), limit.admit(), limit.admit()], [Some(0), None, None]);
        limit.last.lock().unwrap().0 = None;
        assert_eq!([limit.admit(), limit.admit()], [Some(2), None]);
    }

    #[test]
    fn dropped_lines_are_reported_in_the_form_of_the_log() {
        let text = String::from_utf8(report_dropped(LogFormat::Text, 3)).unwrap();
        assert!(text.contains(" [WARN ] msg=\"log lines were dropped") && text.ends_with("lines=3\n"), "{text}");
        let json: Json = serde_json::from_slice(&report_dropped(LogFormat::Json, 3)).unwrap();
        assert_eq!((&json["level"], &json["lines"]), (&"warn".into(), &3.into()));
    }

    #[test]
    fn a_line_of_text_has_time_level_and_fields_and_cannot_be_forged() {
        let fields = [
            ("status", Value::from(200)),
            ("route", Value::from("/messages/{id}")),
            ("empty", Value::from("")),
            ("words", Value::from("a=\"b\"\r\n c\\")),
            ("line", Value::from("a\u{2028}b\u{85}")),
        ];
        let line = logged(LogFormat::Text, &record(&fields, format_args!("two\r\nlines\u{1b}[0m \"é\"")));
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == "2026-11-25T13:33:10.888Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!(
            rest,
            "[DEBUG] msg=\"two\\r\\nlines\\u{1b}[0m \\\"é\\\"\" status=200 route=/messages/{id} empty=\"\" \
             words=\"a=\\\"b\\\"\\r\\n c\\\\\" line=\"a\u{2028}b\\u{85}\"\n"
        );
    }

    #[test]
    fn an_event_is_one_object_whose_numbers_are_numbers_and_whose_text_cannot_forge_another() {
        let fields = [("status", Value::from(200)), ("request_id", Value::from("a\"\n{"))];
        let line = logged(LogFormat::Json, &record(&fields, format_args!("two\nlines\u{1b}")));
        assert_eq!(line.bytes().filter(|b| *b < b' ').count(), 1, "the line's end");
        let object: Json = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["level"], &object["message"]), (&"debug".into(), &"two\nlines\u{1b}".into()));
        assert_eq!((&object["status"], &object["request_id"]), (&200.into(), &"a\"\n{".into()));
        assert!(object["time"].as_str().is_some_and(|time| time.len() == 24 && time.ends_with('Z')), "{object}");
    }
}
