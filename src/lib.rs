//! twotier: a two-tier message board, one small service on plain threads in front of MySQL.
//!
//! A request goes socket → [`http`] (hub, connection) → [`board`] (route, plan) → [`lane`] → [`store`], and its answer
//! goes back through the responder that travels with it. The modules, in reading order:
//!
//! | module | owns |
//! |---|---|
//! | [`message`] | what a message is |
//! | [`key`] | what makes a repeated submit the same submit |
//! | [`metrics`] | what is counted |
//! | `system` | what libraries leave unsafe: sockets, memory |
//! | [`http`] | sockets, limits, parsing, writing |
//! | [`lane`] | doing what is queued in batches |
//! | [`store`] | SQL, and what a database error means |
//! | [`page`] | HTML |
//! | [`board`] | what each request means |
//! | [`config`] | the environment |
//! | [`retry`] | how long to wait before another attempt |
//! | [`logging`] | where log lines go |
//! | [`phase`] | where the service is in its life |
//! | [`opening`] | waiting for the database, and for its table's shape |
//! | [`service`] | starting and stopping |
//! | [`check`] | `twotier check` and `twotier healthcheck` |
//!
//! What is absent on purpose: no thread waits for another thread's result, nothing is cached between two statements, no
//! state outlives the process but in the database, and no async runtime.

pub mod board;
pub mod check;
pub mod config;
pub mod http;
pub mod key;
pub mod lane;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod opening;
pub mod page;
pub mod phase;
pub mod retry;
pub mod service;
pub mod store;
mod system;
