//! Every error that a client can get: its status, its code for programs, and what to do about it (RFC 9457).
//!
//! The cause of a 5xx goes to the log alone.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use crate::batch_queue::RejectReason;
use crate::http::RequestError;
use crate::message::InvalidMessage;
use crate::store;

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The text is not a message.
    Message(InvalidMessage),
    /// A field is missing.
    MissingField {
        /// The field.
        name: &'static str,
        /// One that was sent in its place.
        unknown: Option<String>,
    },
    /// The API does not know this field, so it does not know what was meant.
    UnknownField(String),
    /// The body is not a JSON object with a text as its message; the reason says why.
    InvalidJson(Cow<'static, str>),
    /// A query parameter is unknown or malformed; the detail says which.
    InvalidParameter(Cow<'static, str>),
    /// The idempotency key is malformed, or there are two of them.
    InvalidKey(&'static str),
    /// The request or its form is malformed.
    BadRequest(Cow<'static, str>),
    /// No token, or a wrong one.
    Unauthorized {
        /// How long the answer is held back.
        delay: Duration,
    },
    /// No token is set up.
    EditingDisabled,
    /// A write that another site made a browser send; the reason says which, and what would allow it.
    CrossSite(String),
    /// No such path.
    NotFound,
    /// No feed without `PUBLIC_URL`.
    NoFeed,
    /// No message with this id.
    NoMessage(u64),
    /// The path does not take the method; it takes these.
    MethodNotAllowed(&'static str),
    /// The request was incomplete at its deadline.
    RequestTimeout,
    /// The body is too large.
    BodyTooLarge,
    /// The request line is too large.
    TargetTooLong,
    /// Request line and headers are too large.
    HeaderTooLarge,
    /// The body has another type.
    UnsupportedMediaType(&'static str),
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// The key was used for another message.
    KeyReused,
    /// Too many submits; the next one may be sent after these seconds.
    RateLimited(String),
    /// A fault of the service.
    Internal,
    /// A transfer coding other than chunked.
    NotImplemented,
    /// The database cannot be reached, or takes too long.
    DatabaseUnavailable,
    /// Reads work, and writes do not.
    WritesPaused,
    /// Too many requests wait.
    Overloaded,
    /// Too many streams are open.
    TooManyStreams,
    /// The service stops.
    ShuttingDown,
    /// Another version of HTTP.
    VersionNotSupported,
}

/// A problem as `application/problem+json`.
#[derive(Serialize)]
pub(super) struct ProblemJson<'a> {
    /// The status and the code say it all, so no type has a page of its own.
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    request_id: &'a str,
}

/// Characters of a client's text that an error repeats.
const MAX_EXCERPT: usize = 200;
impl Problem {
    /// Too many submits, with this long to wait.
    pub fn rate_limited(wait: Duration) -> Problem {
        Problem::RateLimited((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).to_string())
    }

    /// Status, title and code. The title is the reason phrase of the status, as RFC 9457 asks for where there is no type.
    fn row(&self) -> (u16, &'static str, &'static str) {
        match self {
            Problem::Message(InvalidMessage::Empty) => (400, "Bad Request", "empty_message"),
            Problem::Message(InvalidMessage::TooLong { .. }) => (400, "Bad Request", "message_too_long"),
            Problem::Message(InvalidMessage::ControlCharacter) => (400, "Bad Request", "invalid_message"),
            Problem::MissingField { .. } => (400, "Bad Request", "missing_field"),
            Problem::InvalidJson(_) => (400, "Bad Request", "invalid_json"),
            Problem::InvalidParameter(_) => (400, "Bad Request", "invalid_parameter"),
            Problem::UnknownField(_) => (400, "Bad Request", "bad_request"),
            Problem::InvalidKey(_) => (400, "Bad Request", "invalid_key"),
            Problem::BadRequest(_) => (400, "Bad Request", "bad_request"),
            Problem::Unauthorized { .. } => (401, "Unauthorized", "unauthorized"),
            Problem::EditingDisabled => (403, "Forbidden", "editing_disabled"),
            Problem::CrossSite(_) => (403, "Forbidden", "cross_site"),
            Problem::NotFound | Problem::NoFeed | Problem::NoMessage(_) => (404, "Not Found", "not_found"),
            Problem::MethodNotAllowed(_) => (405, "Method Not Allowed", "method_not_allowed"),
            Problem::RequestTimeout => (408, "Request Timeout", "request_timeout"),
            Problem::BodyTooLarge => (413, "Content Too Large", "body_too_large"),
            Problem::TargetTooLong => (414, "URI Too Long", "header_too_large"),
            Problem::UnsupportedMediaType(_) => (415, "Unsupported Media Type", "unsupported_media_type"),
            Problem::ExpectationFailed => (417, "Expectation Failed", "expectation_failed"),
            Problem::KeyReused => (422, "Unprocessable Content", "key_reused"),
            Problem::RateLimited(_) => (429, "Too Many Requests", "rate_limited"),
            Problem::HeaderTooLarge => (431, "Request Header Fields Too Large", "header_too_large"),
            Problem::Internal => (500, "Internal Server Error", "internal"),
            Problem::NotImplemented => (501, "Not Implemented", "not_implemented"),
            Problem::DatabaseUnavailable => (503, "Service Unavailable", "database_unavailable"),
            Problem::WritesPaused => (503, "Service Unavailable", "database_unavailable"),
            Problem::Overloaded | Problem::TooManyStreams => (503, "Service Unavailable", "overloaded"),
            Problem::ShuttingDown => (503, "Service Unavailable", "shutting_down"),
            Problem::VersionNotSupported => (505, "HTTP Version Not Supported", "http_version_not_supported"),
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.row().0
    }

    /// What is wrong and what to do about it, for programs and their authors.
    pub fn detail(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Problem::Message(invalid) => return Cow::Owned(invalid.to_string()),
            Problem::MissingField { name, unknown } => {
                let sent = unknown.as_ref().map(|unknown| format!(" (there is an unknown field {unknown:?})"));
                let sent = sent.unwrap_or_default();
                return Cow::Owned(format!("The field {name} is missing{sent}. Send the text of the message in it."));
            }
            Problem::UnknownField(name) => {
                return Cow::Owned(format!(
                    "The field {name:?} is unknown. Send the text in the field message; in a form, percent-encode & and = \
                     (curl --data-urlencode)."
                ));
            }
            Problem::InvalidJson(reason) => {
                return Cow::Owned(format!("Send a JSON object like {{\"message\": \"text\"}}: {reason}."));
            }
            Problem::InvalidParameter(detail) | Problem::BadRequest(detail) => return detail.clone(),
            Problem::InvalidKey(detail) | Problem::UnsupportedMediaType(detail) => detail,
            Problem::Unauthorized { .. } => "Send the admin token in the header Authorization: Bearer TOKEN.",
            Problem::EditingDisabled => "Editing and deleting are off. The setting ADMIN_TOKEN turns them on.",
            Problem::CrossSite(reason) => return Cow::Owned(reason.clone()),
            Problem::NotFound => "Nothing exists at this path. Check the URL.",
            Problem::NoFeed => {
                "There is no feed, because it needs the address of the board. The setting PUBLIC_URL turns it on."
            }
            Problem::NoMessage(id) => {
                return Cow::Owned(format!("There is no message with the id {id}. It may have been deleted."));
            }
            Problem::MethodNotAllowed(allow) => return Cow::Owned(format!("Method not allowed; use {allow}.")),
            Problem::RequestTimeout => "The request did not arrive in time. Send it again.",
            Problem::BodyTooLarge => "The body is larger than 64 KiB. Send a shorter message.",
            Problem::TargetTooLong => "The request line is longer than 16 KiB. Shorten the URL.",
            Problem::HeaderTooLarge => {
                "The headers exceed 16 KiB or their number exceeds 100. Send fewer or shorter ones."
            }
            Problem::ExpectationFailed => "The only supported expectation is 100-continue.",
            Problem::KeyReused => {
                "This Idempotency-Key was already used with a different message. Use a new key for a new message."
            }
            Problem::RateLimited(seconds) => {
                return Cow::Owned(format!("You have sent too many messages. Send the next one in {seconds} s."));
            }
            Problem::Internal => "Internal server error. The log of the service has the cause under the request id.",
            Problem::NotImplemented => "The only supported transfer coding is chunked.",
            Problem::DatabaseUnavailable => {
                "The database is unavailable. Try again in a moment. Repeat a write with the same Idempotency-Key; the \
                 message is stored at most once."
            }
            Problem::WritesPaused => "Posting is paused, because the database accepts no writes now. Try again later.",
            Problem::Overloaded => "Too many requests are waiting. Try again in a moment.",
            Problem::TooManyStreams => "Too many streams are open. Try again in a moment, or read /messages meanwhile.",
            Problem::ShuttingDown => "The service is shutting down. Try again in a moment.",
            Problem::VersionNotSupported => "Use HTTP/1.1 or HTTP/1.0.",
        })
    }

    /// Headers that the status calls for.
    pub fn header(&self) -> Option<(&'static str, &str)> {
        match self {
            Problem::RateLimited(seconds) => Some(("Retry-After", seconds)),
            Problem::MethodNotAllowed(allow) => Some(("Allow", allow)),
            Problem::Unauthorized { .. } => Some(("WWW-Authenticate", "Bearer")),
            _ if self.status() == 503 => Some(("Retry-After", "1")),
            _ => None,
        }
    }
}

impl<'a> ProblemJson<'a> {
    /// `problem`, with its `detail`, of the request with this id.
    pub(super) fn new(problem: &Problem, detail: &'a str, request_id: &'a str) -> ProblemJson<'a> {
        let (status, title, code) = problem.row();
        ProblemJson { r#type: "about:blank", title, status, detail, code, request_id }
    }
}

/// As much of a client's text as an error repeats.
pub(super) fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

impl From<InvalidMessage> for Problem {
    fn from(invalid: InvalidMessage) -> Problem {
        Problem::Message(invalid)
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Problem {
        match error {
            RequestError::Malformed(detail) => Problem::BadRequest(Cow::Borrowed(detail)),
            RequestError::TimedOut => Problem::RequestTimeout,
            RequestError::BodyTooLarge => Problem::BodyTooLarge,
            RequestError::TargetTooLong => Problem::TargetTooLong,
            RequestError::HeaderTooLarge => Problem::HeaderTooLarge,
            RequestError::ExpectationFailed => Problem::ExpectationFailed,
            RequestError::UnknownContentCoding => {
                Problem::UnsupportedMediaType("Content-Encoding must be identity: send the body as it is.")
            }
            RequestError::UnknownTransferCoding => Problem::NotImplemented,
            RequestError::UnsupportedVersion => Problem::VersionNotSupported,
            RequestError::Overloaded => Problem::Overloaded,
            RequestError::HandlerDropped => Problem::Internal,
        }
    }
}

impl From<RejectReason> for Problem {
    fn from(reason: RejectReason) -> Problem {
        match reason {
            RejectReason::BackendDown => Problem::DatabaseUnavailable,
            RejectReason::QueueTimeout => Problem::Overloaded,
        }
    }
}

impl From<&store::Error> for Problem {
    fn from(error: &store::Error) -> Problem {
        match error {
            store::Error::NoConnection(_) | store::Error::Lost(_) | store::Error::TimedOut | store::Error::Busy(_) => {
                Problem::DatabaseUnavailable
            }
            store::Error::NotWritable(_) => Problem::WritesPaused,
            store::Error::Forbidden(_) | store::Error::Refused(_) | store::Error::Incompatible(_) => Problem::Internal,
        }
    }
}
