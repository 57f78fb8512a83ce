//! Why a request is refused.

/// Why a request is refused. The connection is closed after the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// It is not a well-formed request; the text says why.
    Malformed(&'static str),
    /// It did not arrive completely in time.
    TimedOut,
    /// The declared or the decoded body is larger than the limit.
    BodyTooLarge,
    /// The request line alone is larger than the limit of the head.
    TargetTooLong,
    /// Request line and headers are larger than the limit, or there are too many headers.
    HeaderTooLarge,
    /// It has an `Expect` other than `100-continue`.
    ExpectationFailed,
    /// It has a `Content-Encoding` other than `identity`.
    UnknownContentCoding,
    /// It has a transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// Its version is neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion,
    /// Too many connections are open.
    Overloaded,
    /// Its handler ended without a response.
    HandlerDropped,
}
