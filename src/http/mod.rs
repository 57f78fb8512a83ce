//! HTTP/1.x on plain threads: sockets, limits, parsing and writing.
//!
//! A request goes from `server` through `connection` to the [`Handler`], and its response goes back through a
//! [`Responder`].
//! `tiny_http` gives the vocabulary of messages; its server is not used. Nothing here knows the board or a database.

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

pub use error::RequestError;
pub use handler::Handler;
pub use limits::Limits;
pub use request::{Request, RequestId};
pub use responder::Responder;
pub use response::{Body, Response};
pub use scheduler::PollPermit;
pub use server::Server;
