//! The database: the only folder that knows SQL and the `mysql` crate.
//!
//! In come texts, keys and ids; out go messages, and the outcome of each text.
//! - Reaching the database: [`account`] holds the login, [`servers`] chooses a server, [`connection`] logs in, [`session`]
//!   sets the session up, and `pool` shares the connections.
//! - Statements: a [`client`] repeats what may be repeated; [`messages`] and [`insert`] hold the statements of requests,
//!   and [`live_window`] those of the live feed.
//! - The table: `create_table` reads its definition, [`schema`] decides what to do with it, and [`migration`] creates it or
//!   takes over another program's, by the steps of `migration_step`.
//! - Watching: the [`supervisor`] starts up and then checks, with the statements of `health`.
//! - Failures: [`error`] and [`connect_error`] describe them, and `driver_error` what an error of the crate means.
//!
//! Nothing here knows HTTP.

pub mod account;
pub mod client;
pub mod connect_error;
pub mod connection;
mod create_table;
mod driver_error;
pub mod error;
mod health;
pub mod insert;
pub mod live_window;
pub mod messages;
pub mod migration;
mod migration_step;
mod pool;
pub mod schema;
pub mod servers;
pub mod session;
pub mod supervisor;

pub use account::{Account, ClientCertificate, Encryption, SettingNames};
pub use client::{Client, Database};
pub use connect_error::ConnectError;
pub use error::Error;
pub use insert::{NewRow, Outcome};
pub use servers::{Host, Servers};
