//! The database: the only folder that knows SQL and the `mysql` crate.
//!
//! In come texts, keys and ids; out go messages and what became of each text.
//! - Reaching the database: [`account`] holds the login, [`servers`] chooses a server, [`connection`] logs in over a
//!   `socket`, `session` sets the session up, and `pool` shares the connections.
//! - Statements: a [`client`] repeats what may be repeated; [`messages`] and [`insert`] hold the statements of requests,
//!   and [`live_window`] those of the live feed.
//! - The table: `create_table` reads its definition, [`schema`] compares it, and [`migration`] changes it in the
//!   order of `migration_step`.
//! - Watching: the [`supervisor`] starts up and then checks, with `health`, [`version`] and [`write_block`].
//! - Failures: [`error`] and `connect_error` describe them, `error_text` what may be shown, and
//!   `error_class` what follows.
//!
//! Nothing here knows HTTP.

pub mod account;
pub mod client;
mod connect_error;
pub mod connection;
mod create_table;
pub mod error;
mod error_class;
mod error_text;
mod health;
pub mod insert;
pub mod live_window;
pub mod messages;
pub mod migration;
mod migration_step;
mod pool;
pub mod schema;
pub mod servers;
mod session;
mod socket;
pub mod supervisor;
pub mod version;
pub mod write_block;

pub use account::{Account, ClientCertificate, Encryption, SettingNames};
pub use client::{Client, Database, Timeouts};
pub use error::{ConnectError, Error};
pub use insert::{NewRow, Outcome};
pub use servers::{Host, Servers};
