//! HTTP/1.x on plain threads: sockets, limits, parsing and writing.
//!
//! In come connections of clients. Out go complete, checked requests to the [`Service`], and its responses as bytes.
//! - Waiting: `server` is the event loop, `scheduler` decides which worker polls, `listener` accepts.
//! - Connections: `connections` is the table of them; a `connection` has one slot there, `limits` and a share of the
//!   `memory_budget`, and ends for a `close_reason`.
//! - Requests: `request_reader` collects bytes, `head` and `chunked` parse them, `request` is the result.
//! - Responses: a `responder` travels with the request; `response` turns the answer into bytes, and `access_log` records it.
//!
//! The types of methods, headers and status codes are `tiny_http`'s; its server is not used. Nothing here knows the board
//! or a database.

mod access_log;
pub mod chunked;
mod close_reason;
mod connection;
mod connections;
pub mod head;
pub mod limits;
pub mod listener;
pub mod memory_budget;
pub mod request;
mod request_reader;
pub mod responder;
pub mod response;
pub mod scheduler;
pub mod server;

pub use limits::Limits;
pub use request::Request;
pub use responder::Responder;
pub use response::{Body, Response};
pub use scheduler::PollPermit;
pub use server::Server;

use head::Head;
use request::RequestId;

/// What the server serves.
pub trait Service: Send + Sync {
    /// Answers `request`, now or later, on this thread or another. Never blocks; what does is left for [`run_queued`],
    /// which this thread calls next.
    ///
    /// [`run_queued`]: Service::run_queued
    fn respond(&self, request: Request, responder: Responder);

    /// Does what requests have left to do, if nobody does it yet. It may block, and leaves `turn` before it does.
    /// Called by the thread that has brought requests, and by those whom it calls.
    fn run_queued(&self, turn: &mut PollPermit<'_>);

    /// The answer to what did not become a request. `head` is there when it arrived whole.
    fn refuse(&self, refusal: RequestError, head: Option<&Head>, id: &RequestId) -> Response;
}

/// Why a request is not taken. The connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// Not a well-formed request; the text says what is wrong with it.
    Malformed(&'static str),
    /// It did not arrive whole in time.
    TimedOut,
    /// The declared or the decoded body is larger than the limit.
    BodyTooLarge,
    /// The request line alone is larger than the limit for the head.
    TargetTooLong,
    /// Request line and headers are larger than the limit, or there are too many headers.
    HeaderTooLarge,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// A `Content-Encoding` other than `identity`.
    UnknownContentCoding,
    /// A transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion,
    /// No room for the connection.
    Overloaded,
    /// Its handler went away without an answer.
    HandlerDropped,
}
