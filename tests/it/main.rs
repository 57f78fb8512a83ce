//! Black-box tests: the built program, over a real port, in front of a real database.
#![allow(unreachable_pub, reason = "a test program has no users")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panic"
)]

mod access_log;
mod board;
mod broken_databases;
mod chaos;
mod conditional;
mod connections;
mod documented_clients;
mod encryption;
mod faults;
mod feed;
mod galera;
mod hostile;
mod live;
mod load;
mod lost_replies;
mod metrics;
mod once;
mod openapi;
mod outage;
mod pages;
mod process;
mod properties;
mod protocol;
mod settings;
mod soak;
mod stop;
mod support;
mod tidy;
mod torture;
mod upgrade;
