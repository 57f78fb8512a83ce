//! The access log: one line for each response, in Apache's `combined` form or as JSON, and the metrics of requests.
//!
//! A line goes to stdout through a [`LineQueue`], so it never delays a response. Without an access log nothing of a request is
//! copied. A line holds no body and no headers but `Referer` and `User-Agent`.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use log::warn;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tiny_http::Method;

use super::head::Head;
use super::request::RequestId;
use super::response::Response;
use crate::line_queue::LineQueue;
use crate::logging::{LogLimit, rfc3339};
use crate::metrics::METRICS;

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Apache's `combined`: `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`.
    Combined,
    /// One JSON object.
    Json,
}

/// Writes the lines.
#[derive(Clone)]
pub struct AccessLog {
    format: AccessLogFormat,
    queue: LineQueue,
}

/// What access log and metrics need of a request, kept until its response.
#[derive(Debug)]
pub(super) struct AccessRecord {
    /// Its name in the logs and in the response.
    pub(super) id: RequestId,
    /// The route, which is a name from the code.
    pub(super) route: &'static str,
    /// The address of the client, as trusted proxies report it.
    pub(super) client: IpAddr,
    method: &'static str,
    arrived: Instant,
    /// Copied for the access log.
    fields: Option<Box<RequestFields>>,
}

/// What the client sent. All of it is empty when the head could not be parsed.
#[derive(Debug, Default)]
struct RequestFields {
    line: String,
    referer: Option<String>,
    user_agent: Option<String>,
}

/// A line of JSON.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    client: IpAddr,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    protocol: &'a str,
    route: &'a str,
    status: u16,
    bytes: usize,
    duration_us: u64,
    referer: Option<&'a str>,
    user_agent: Option<&'a str>,
    request_id: &'a str,
}

/// The route of a request that has none.
const NO_ROUTE: &str = "-";
/// Apache's `%t`, in UTC.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");
/// Time between two reports of dropped lines.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

impl AccessLog {
    /// Starts to write to stdout.
    pub fn start(format: AccessLogFormat) -> io::Result<AccessLog> {
        let limit = LogLimit::new(REPORT_PAUSE);
        let mut dropped = 0;
        let report = move |lines| {
            dropped += lines;
            if limit.admit().is_some() {
                warn!(lines = dropped; "lines of the access log were dropped, because stdout was not read fast enough");
                dropped = 0;
            }
            Vec::new()
        };
        Ok(AccessLog { format, queue: LineQueue::start("access-log", io::stdout(), report)? })
    }

    /// Waits until all lines are written, for one second at most.
    pub fn flush(&self) {
        self.queue.flush();
    }

    fn write(&self, record: &AccessRecord, fields: &RequestFields, response: &Response, took: Duration) {
        // RFC 9110, section 9.3.2: a response to HEAD has no body.
        let bytes = if record.method == name(&Method::Head) { 0 } else { response.body_length() };
        let arrived = OffsetDateTime::now_utc() - took;
        self.queue.send(match self.format {
            AccessLogFormat::Combined => combined(record, fields, arrived, response.status(), bytes),
            AccessLogFormat::Json => json(record, fields, arrived, took, response.status(), bytes),
        });
    }
}

impl AccessRecord {
    /// A request that arrives now, as `log` needs it. `head` is none when it could not be parsed.
    pub(super) fn new(id: RequestId, head: Option<&Head>, client: IpAddr, log: Option<&AccessLog>) -> AccessRecord {
        AccessRecord {
            id,
            route: NO_ROUTE,
            client,
            method: head.map_or("-", |head| name(&head.method)),
            arrived: Instant::now(),
            fields: log.map(|_| Box::new(head.map(RequestFields::new).unwrap_or_default())),
        }
    }

    /// Counts and logs the request with its response.
    pub(super) fn answered(&self, response: &Response, log: Option<&AccessLog>) {
        let took = self.arrived.elapsed();
        let status = response.status().to_string();
        METRICS.requests.with_label_values(&[self.route, self.method, &status]).inc();
        METRICS.request_seconds.with_label_values(&[self.route]).observe(took.as_secs_f64());
        if let (Some(log), Some(fields)) = (log, &self.fields) {
            log.write(self, fields, response, took);
        }
    }
}

impl RequestFields {
    fn new(head: &Head) -> RequestFields {
        let value = |name| head.value(name).map(str::to_owned);
        RequestFields {
            line: head.request_line().to_owned(),
            referer: value("referer"),
            user_agent: value("user-agent"),
        }
    }
}

fn combined(
    record: &AccessRecord,
    fields: &RequestFields,
    arrived: OffsetDateTime,
    status: u16,
    bytes: usize,
) -> Vec<u8> {
    let time = arrived.format(TIME).unwrap_or_default();
    let mut line = format!("{} - - [{time}] ", record.client);
    push_quoted(&mut line, Some(&fields.line).filter(|line| !line.is_empty()));
    // A String takes all that is written to it.
    let _ = match bytes {
        0 => write!(line, " {status} - "),
        _ => write!(line, " {status} {bytes} "),
    };
    push_quoted(&mut line, fields.referer.as_ref());
    line.push(' ');
    push_quoted(&mut line, fields.user_agent.as_ref());
    line.push('\n');
    line.into_bytes()
}

fn json(
    record: &AccessRecord,
    fields: &RequestFields,
    arrived: OffsetDateTime,
    took: Duration,
    status: u16,
    bytes: usize,
) -> Vec<u8> {
    let mut words = fields.line.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (method, target, protocol) = (word(), word(), word());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let object = JsonLine {
        time: rfc3339(arrived),
        client: record.client,
        method,
        path,
        query,
        protocol,
        route: record.route,
        status,
        bytes,
        duration_us: took.as_micros() as u64,
        referer: fields.referer.as_deref(),
        user_agent: fields.user_agent.as_deref(),
        request_id: record.id.as_str(),
    };
    // Strings and numbers always serialize, and JSON escapes what could forge a line.
    let mut line = serde_json::to_vec(&object).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Appends `value` in quotes, or `"-"`. Escapes as Apache does: what could end the quotes or the line, and all bytes that
/// are not printable ASCII.
fn push_quoted(line: &mut String, value: Option<&String>) {
    line.push('"');
    for byte in value.map_or("-", String::as_str).bytes() {
        match byte {
            b'\'' => line.push('\''),
            _ => line.extend(byte.escape_ascii().map(char::from)),
        }
    }
    line.push('"');
}

/// The label of a method. Unknown methods share one, because clients may invent any number of them.
fn name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AccessRecord {
        AccessRecord::new(RequestId::numbered(1, 2), None, [192, 0, 2, 7].into(), None)
    }

    fn line(format: AccessLogFormat, fields: &RequestFields, bytes: usize) -> String {
        let arrived = OffsetDateTime::from_unix_timestamp(1_795_640_707).unwrap();
        let line = match format {
            AccessLogFormat::Combined => combined(&record(), fields, arrived, 200, bytes),
            AccessLogFormat::Json => json(&record(), fields, arrived, Duration::from_micros(846), 200, bytes),
        };
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_combined_line_is_apaches_and_escapes_what_could_forge_one() {
        let fields = RequestFields {
            line: "GET /a\"b\\?x=%0a HTTP/1.1".to_owned(),
            referer: None,
            user_agent: Some("it's a\" 200 1\t\"\\\r\n\u{1b}é\u{7f}".to_owned()),
        };
        let start = "192.0.2.7 - - [25/Nov/2026:21:05:07 +0000] ";
        assert_eq!(
            line(AccessLogFormat::Combined, &fields, 23),
            format!(
                "{start}\"GET /a\\\"b\\\\?x=%0a HTTP/1.1\" 200 23 \"-\" \
                 \"it's a\\\" 200 1\\t\\\"\\\\\\r\\n\\x1b\\xc3\\xa9\\x7f\"\n"
            )
        );
        let none = RequestFields::default();
        assert_eq!(line(AccessLogFormat::Combined, &none, 0), format!("{start}\"-\" 200 - \"-\" \"-\"\n"));
    }

    #[test]
    fn a_json_line_is_one_object() {
        let fields = RequestFields {
            line: "GET /messages?limit=1?x HTTP/1.1".to_owned(),
            referer: Some("https://a.example/".to_owned()),
            user_agent: Some("a\"\n{".to_owned()),
        };
        let line = line(AccessLogFormat::Json, &fields, 23);
        assert_eq!(line.bytes().filter(|byte| *byte < b' ').count(), 1, "the line's end");
        let want = serde_json::json!({
            "time": "2026-11-25T21:05:07.000Z", "client": "192.0.2.7", "method": "GET", "path": "/messages",
            "query": "limit=1?x", "protocol": "HTTP/1.1", "route": "-", "status": 200, "bytes": 23, "duration_us": 846,
            "referer": "https://a.example/", "user_agent": "a\"\n{", "request_id": "00000001-2",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), want);
    }
}
