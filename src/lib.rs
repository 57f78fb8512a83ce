//! twotier: a two-tier message board, one small service on plain threads in front of MySQL.
//!
//! A request goes socket → [`http`] (server, connection) → [`board`] (route, plan) → [`batch_queue`] → [`store`], and its answer
//! goes back through the responder that travels with it. The modules, in reading order:
//!
//! | module | owns |
//! |---|---|
//! | [`message`] | what a message is |
//! | [`idempotency_key`] | what makes a repeated submit the same submit |
//! | [`metrics`] | what is counted |
//! | [`http`] | sockets, limits, parsing, writing |
//! | [`batch_queue`] | doing what is queued in batches |
//! | [`store`] | SQL, and what a database error means |
//! | [`page`] | HTML |
//! | [`board`] | what each request means |
//! | [`config`] | the environment |
//! | [`retry`] | how long to wait before another attempt |
//! | [`logging`] | where log lines go |
//! | [`lifecycle`] | where the service is in its life |
//! | `store::supervisor` | waiting for the database, and for its table's shape |
//! | [`app`] | starting and stopping |
//! | [`check`] | `twotier check` and `twotier healthcheck` |
//!
//! What is absent on purpose: no thread waits for another thread's result, nothing is cached between two statements, no
//! state outlives the process but in the database, and no async runtime.

pub mod app;
pub mod batch_queue;
pub mod board;
pub mod check;
pub mod config;
pub mod http;
pub mod idempotency_key;
pub mod lifecycle;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod outage_log;
pub mod page;
pub mod retry;
pub mod store;
