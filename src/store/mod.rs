//! The database: the only module that knows SQL and the `mysql` crate.
//!
//! [`servers`] finds a server, [`session`] opens a connection to it, and a [`seat`] keeps one connection and tries again where
//! what `failure` makes of an error allows it. [`messages`] and [`insert`] hold the statements, [`schema`] creates and upgrades
//! the table, [`version`] tells products apart. Nothing here knows HTTP.

pub mod error;
mod failure;
pub mod insert;
pub mod messages;
pub mod schema;
pub mod seat;
pub mod servers;
pub mod session;
pub mod version;

pub use error::{ConnectError, Error};
pub use insert::{Key, NewRow, Outcome};
pub use seat::{Seat, Timeouts};
pub use servers::{Host, Servers};
pub use session::{Account, Encryption};
