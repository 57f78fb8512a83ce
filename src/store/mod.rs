//! The database: the only module that knows SQL and the `mysql` crate.
//!
//! [`servers`] finds a server, [`connection`] opens a connection to it, and a [`client`] keeps one connection and tries again where
//! what `error_class` makes of an error allows it. [`messages`] and [`insert`] hold the statements, [`schema`] creates and upgrades
//! the table, [`version`] tells products apart. Nothing here knows HTTP.

pub mod client;
pub mod connection;
pub mod error;
mod error_class;
pub mod insert;
pub mod messages;
pub mod schema;
pub mod servers;
pub mod supervisor;
pub mod version;

pub use client::{Client, Timeouts};
pub use connection::{Account, ClientCertificate, Encryption};
pub use error::{ConnectError, Error};
pub use insert::{NewRow, Outcome};
pub use servers::{Host, Servers};
