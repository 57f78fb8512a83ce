//! What can be wrong with a request or its treatment, as the client is told: a status, a code for programs, and words.

use std::borrow::Cow;
use std::time::Duration;

use crate::batch_queue::RejectReason;
use crate::http::RequestError;
use crate::message::InvalidMessage;
use crate::store;

/// An answer that is an error. What it says is for the client; the cause of a 5xx goes to the log alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The text is not a message.
    Message(InvalidMessage),
    /// A field is not there.
    MissingField(&'static str),
    /// The body is not the JSON that is expected.
    InvalidJson(String),
    /// A query parameter is malformed; the words say which.
    InvalidParameter(&'static str),
    /// The idempotency key is malformed, or there are two of them.
    InvalidKey(&'static str),
    /// The request or its form is malformed.
    BadRequest(&'static str),
    /// No token, or a wrong one.
    Unauthorized,
    /// No token is set up.
    EditingDisabled,
    /// A write that another site made a browser send.
    CrossSite,
    /// Nothing there.
    NotFound,
    /// Not with this method; with these.
    MethodNotAllowed(&'static str),
    /// Not whole in time.
    RequestTimeout,
    /// The body is too large.
    BodyTooLarge,
    /// The request line is too large.
    TargetTooLong,
    /// Request line and headers are too large.
    HeaderTooLarge,
    /// A body of another type.
    UnsupportedMediaType(&'static str),
    /// An unknown expectation.
    ExpectationFailed,
    /// The key was used for another message.
    KeyReused,
    /// Too many submits; the next one may be sent after these seconds.
    RateLimited(String),
    /// A fault of ours.
    Internal,
    /// A transfer coding that we do not know.
    NotImplemented,
    /// No database.
    DatabaseUnavailable,
    /// Reads work, and writes do not.
    WritesPaused,
    /// Too much at once.
    Overloaded,
    /// Ending before the database was there.
    ShuttingDown,
    /// Another version of HTTP.
    VersionNotSupported,
}

impl Problem {
    /// Too many submits, with this long to wait.
    pub fn rate_limited(wait: Duration) -> Problem {
        Problem::RateLimited((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).to_string())
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        match self {
            Problem::Message(_)
            | Problem::MissingField(_)
            | Problem::InvalidJson(_)
            | Problem::InvalidParameter(_)
            | Problem::InvalidKey(_)
            | Problem::BadRequest(_) => 400,
            Problem::Unauthorized => 401,
            Problem::EditingDisabled | Problem::CrossSite => 403,
            Problem::NotFound => 404,
            Problem::MethodNotAllowed(_) => 405,
            Problem::RequestTimeout => 408,
            Problem::BodyTooLarge => 413,
            Problem::TargetTooLong => 414,
            Problem::UnsupportedMediaType(_) => 415,
            Problem::ExpectationFailed => 417,
            Problem::KeyReused => 422,
            Problem::RateLimited(_) => 429,
            Problem::HeaderTooLarge => 431,
            Problem::Internal => 500,
            Problem::NotImplemented => 501,
            Problem::DatabaseUnavailable | Problem::WritesPaused | Problem::Overloaded | Problem::ShuttingDown => 503,
            Problem::VersionNotSupported => 505,
        }
    }

    /// The code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::Message(InvalidMessage::Empty) => "empty_message",
            Problem::Message(InvalidMessage::TooLong(_)) => "message_too_long",
            Problem::Message(InvalidMessage::ControlCharacter) => "invalid_message",
            Problem::MissingField(_) => "missing_field",
            Problem::InvalidJson(_) => "invalid_json",
            Problem::InvalidParameter(_) => "invalid_parameter",
            Problem::InvalidKey(_) => "invalid_key",
            Problem::BadRequest(_) => "bad_request",
            Problem::Unauthorized => "unauthorized",
            Problem::EditingDisabled => "editing_disabled",
            Problem::CrossSite => "cross_site",
            Problem::NotFound => "not_found",
            Problem::MethodNotAllowed(_) => "method_not_allowed",
            Problem::RequestTimeout => "request_timeout",
            Problem::BodyTooLarge => "body_too_large",
            Problem::TargetTooLong | Problem::HeaderTooLarge => "header_too_large",
            Problem::UnsupportedMediaType(_) => "unsupported_media_type",
            Problem::ExpectationFailed => "expectation_failed",
            Problem::KeyReused => "key_reused",
            Problem::RateLimited(_) => "rate_limited",
            Problem::Internal => "internal",
            Problem::NotImplemented => "not_implemented",
            Problem::DatabaseUnavailable | Problem::WritesPaused => "database_unavailable",
            Problem::Overloaded => "overloaded",
            Problem::ShuttingDown => "shutting_down",
            Problem::VersionNotSupported => "http_version_not_supported",
        }
    }

    /// The words, for people.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Problem::Message(invalid) => Cow::Owned(invalid.to_string()),
            Problem::MissingField(name) => Cow::Owned(format!("The field {name} is missing.")),
            Problem::InvalidJson(reason) => Cow::Owned(format!("The body is not the JSON that is expected: {reason}.")),
            Problem::InvalidParameter(words)
            | Problem::InvalidKey(words)
            | Problem::BadRequest(words)
            | Problem::UnsupportedMediaType(words) => Cow::Borrowed(words),
            Problem::Unauthorized => Cow::Borrowed("This needs the admin token as a bearer token."),
            Problem::EditingDisabled => Cow::Borrowed("Editing and deleting are not turned on."),
            Problem::CrossSite => Cow::Borrowed("Writing from another site is refused."),
            Problem::NotFound => Cow::Borrowed("There is nothing here."),
            Problem::MethodNotAllowed(allow) => Cow::Owned(format!("This takes only {allow}.")),
            Problem::RequestTimeout => Cow::Borrowed("The request did not arrive in time."),
            Problem::BodyTooLarge => Cow::Borrowed("The body is larger than 64 KiB, the limit."),
            Problem::TargetTooLong => Cow::Borrowed("The request line is too long."),
            Problem::HeaderTooLarge => Cow::Borrowed("The headers are too large, or too many."),
            Problem::ExpectationFailed => Cow::Borrowed("The only expectation that can be met is 100-continue."),
            Problem::KeyReused => {
                Cow::Borrowed("This key was used for another message already; a new message needs a new key.")
            }
            Problem::RateLimited(seconds) => {
                Cow::Owned(format!("You have sent too many messages. Send the next one in {seconds} s."))
            }
            Problem::Internal => Cow::Borrowed("Something went wrong here."),
            Problem::NotImplemented => Cow::Borrowed("The only transfer coding that is understood is chunked."),
            Problem::DatabaseUnavailable => {
                Cow::Borrowed("The database is not available. Try again; with the same key nothing is stored twice.")
            }
            Problem::WritesPaused => {
                Cow::Borrowed("Posting is paused, because the database takes no writes now. Try again later.")
            }
            Problem::Overloaded => Cow::Borrowed("Too many requests are waiting. Try again."),
            Problem::ShuttingDown => Cow::Borrowed("The service is shutting down. Try again."),
            Problem::VersionNotSupported => Cow::Borrowed("This is an HTTP/1.1 server."),
        }
    }

    /// Headers that the status calls for.
    pub fn header(&self) -> Option<(&'static str, &str)> {
        match self {
            Problem::RateLimited(seconds) => Some(("Retry-After", seconds)),
            Problem::MethodNotAllowed(allow) => Some(("Allow", allow)),
            Problem::Unauthorized => Some(("WWW-Authenticate", "Bearer")),
            _ if self.status() == 503 => Some(("Retry-After", "1")),
            _ => None,
        }
    }
}

impl From<InvalidMessage> for Problem {
    fn from(invalid: InvalidMessage) -> Problem {
        Problem::Message(invalid)
    }
}

impl From<RequestError> for Problem {
    fn from(refusal: RequestError) -> Problem {
        match refusal {
            RequestError::Malformed(words) => Problem::BadRequest(words),
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
    fn from(why: RejectReason) -> Problem {
        match why {
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
