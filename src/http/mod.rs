//! HTTP/1.x on plain threads: sockets, limits, parsing and writing.
//!
//! In come connections of clients. Out go complete, checked requests to the [`Handler`], and its responses as bytes.
//! - Waiting: `server` is the event loop on `poll`, `scheduler` decides which worker polls, [`listener`] accepts.
//! - Connections: `connections` is the table of them. A `connection` has one of its `slots`, is in a `stage`, which
//!   decides when it is closed, keeps to the [`limits`] and a share of the `memory_budget`, and ends for a `close_reason`.
//!   `connection/streaming` sends streams, and `connection/closing` ends connections.
//! - Requests: `request_reader` collects bytes, [`head`] and [`chunked`] parse them, `request` is the result, and `error`
//!   is why there is none.
//! - Responses: the `handler` is what is served; a `responder` travels with the request, `response` becomes bytes, and
//!   `access_log` records it. A `stream` is a response without an end.
//!
//! The types of methods, headers and status codes are `tiny_http`'s; its server is not used. Nothing here knows the board
//! or a database.

mod access_log;
pub mod chunked;
mod close_reason;
mod connection;
mod connections;
mod error;
mod handler;
pub mod head;
pub mod limits;
pub mod listener;
mod memory_budget;
mod poll;
mod request;
mod request_reader;
mod responder;
mod response;
mod scheduler;
mod server;
mod slots;
mod stage;
mod stream;

pub use access_log::{AccessLog, AccessLogFormat};
pub use error::RequestError;
pub use handler::Handler;
pub use limits::Limits;
pub use request::{Request, RequestId};
pub use responder::Responder;
pub use response::{Body, Response};
pub use scheduler::PollPermit;
pub use server::Server;
#[cfg(test)]
pub use stream::TestStream;
pub use stream::{Chunk, StreamSender};
