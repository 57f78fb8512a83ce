//! twotier: a public message board, one small service on plain threads in front of MySQL or MariaDB.
//!
//! # The life of a request
//!
//! 1. [`http`]: `listener` accepts a connection, which gets a slot in the table of `http::connections`.
//! 2. `http::server` is the event loop: a worker with a poll permit (`http::scheduler`) waits in `http::poll`, and handles
//!    the events itself.
//! 3. `http::connection` reads; `http::request_reader` turns the bytes into one complete, checked request.
//! 4. The server hands the request and its `http::responder` to the [`board`], its `http::handler`.
//! 5. `board::route` finds the route, `board::input` and `board::body` read what was sent, and [`message`] and
//!    [`idempotency_key`] check it.
//! 6. The board answers immediately, or pushes a job to a [`batch_queue`]: `board::latest`, `board::submit` or
//!    `board::point`.
//! 7. A worker that finds a batch ready becomes its leader, hands its poll permit over, and runs one statement for the
//!    batch.
//! 8. [`store`]: `client` sends the statements of `messages` and `insert`, and repeats them where that is safe.
//! 9. `board::responses`, `board::representation`, `board::problem` and [`page`] turn each outcome into JSON or HTML.
//! 10. `http::response` encodes it, `http::connection` writes it, and [`metrics`] and [`logging`] record it.
//!
//! # Modules
//!
//! | module | owns |
//! |---|---|
//! | [`message`] | what a message is, which text may become one, and how its times are written in JSON and HTML |
//! | [`idempotency_key`] | what makes a repeated post the same post |
//! | [`metrics`] | all metrics, in one table |
//! | [`line_queue`] | lines on their way to stderr and stdout, without blocking |
//! | [`logging`] | the log: the form of its lines |
//! | [`outage_log`] | the log of an outage: its beginning, a count, its end |
//! | [`retry`] | delays between attempts |
//! | [`lifecycle`] | whether the service is starting, serving or stopping |
//! | [`batch_queue`] | group commit: a queue, and the thread that runs a batch; `board::queues` sets the sizes |
//! | [`http`] | sockets, limits, parsing and writing |
//! | [`store`] | SQL, the takeover of a table, the checks of the database, and what its errors mean |
//! | [`page`] | HTML from `templates/`, and the feed. The script there makes the same cards, and shows times in the reader's zone |
//! | [`board`] | what each request means |
//! | [`config`] | settings from the environment, and their defaults |
//! | [`check`] | `twotier check` and `twotier healthcheck` |
//! | [`app`] | start and stop |
//!
//! `docs/design.md` explains the threads, group commit, and how each message is stored exactly once. The items are public for
//! the tests and the fuzz targets; no other crate uses them.

pub mod app;
pub mod batch_queue;
pub mod board;
pub mod check;
pub mod config;
pub mod http;
pub mod idempotency_key;
pub mod lifecycle;
pub mod line_queue;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod outage_log;
pub mod page;
pub mod retry;
pub mod store;
