//! HTTP/1.x on plain threads: sockets, limits, parsing and writing.
//!
//! A request goes [`hub`] → [`connection`] → [`Service`], and its answer goes back through a [`Responder`]. The messages'
//! vocabulary is `tiny_http`'s; its server is not used. Nothing here knows the board or a database.

mod access;
pub mod budget;
pub mod chunked;
mod closed;
pub mod connection;
mod door;
pub mod head;
pub mod hub;
mod intake;
mod parking;
mod places;
pub mod reply;
pub mod request;
pub mod responder;
pub mod turn;

pub use hub::{Hub, Limits};
pub use reply::{Body, Reply};
pub use request::Request;
pub use responder::Responder;
pub use turn::Turn;

use head::Head;

/// What the hub serves.
pub trait Service: Send + Sync {
    /// Answers `request`, now or later, on this thread or another. Never blocks; what does is left for [`settle`], which this
    /// thread calls next.
    ///
    /// [`settle`]: Service::settle
    fn respond(&self, request: Request, responder: Responder);

    /// Does what requests have left to do, if nobody does it yet. It may block, and leaves `turn` before it does. Called by
    /// the thread that has brought requests, and by those whom it calls.
    fn settle(&self, turn: &mut Turn<'_>);

    /// The answer to what did not become a request. `head` is there when it arrived whole.
    fn refuse(&self, refusal: Refusal, head: Option<&Head>) -> Reply;
}

/// Why a request is not taken. The connection is closed after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
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
    /// A transfer coding other than `chunked`.
    UnknownTransferCoding,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    UnsupportedVersion,
    /// No room for the connection.
    Overloaded,
    /// Its handler went away without an answer.
    Unanswered,
}
