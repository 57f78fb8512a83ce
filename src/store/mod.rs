//! The database: the only folder that knows SQL and the `mysql` crate.
//!
//! In come texts, keys and ids; out go messages and what became of each text. [`servers`] chooses a server, [`connection`]
//! logs in and `session` sets the session up, `pool` shares the connections, and a [`client`] repeats what may be repeated.
//! [`messages`] and [`insert`] hold the statements of requests; [`schema`] describes the table, [`migration`] changes it,
//! `health` checks it, and the [`supervisor`] does all three in time. Nothing here knows HTTP.

pub mod client;
mod connect_error;
pub mod connection;
mod create_table;
pub mod error;
mod error_class;
mod health;
pub mod insert;
pub mod messages;
pub mod migration;
mod pool;
pub mod schema;
pub mod servers;
mod session;
mod socket;
pub mod supervisor;
pub mod version;
pub mod write_block;

pub use client::{Client, Database, Timeouts};
pub use connection::{Account, ClientCertificate, Encryption};
pub use error::{ConnectError, Error};
pub use insert::{NewRow, Outcome};
pub use servers::{Host, Servers};
