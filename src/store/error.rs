//! What can go wrong with the database, as far as callers must distinguish it, and in words.
//!
//! The texts name settings, because an operator can change them. They never quote a message.

use thiserror::Error as ThisError;

use super::connect_error::ConnectError;
use super::driver_error::{ErrorClass, words};

/// Why a statement has no result.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum Error {
    /// No server gave a connection.
    #[error("{0}")]
    NoConnection(ConnectError),
    /// The connection broke, and a second one as well.
    #[error("the connection to the database was lost: {0}")]
    Lost(String),
    /// The server took longer than a statement may take.
    #[error("the database did not answer within DB_TIMEOUT")]
    TimedOut,
    /// The server can't run the statement now: a lock is held for too long, or no space is left.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// No server takes writes now.
    #[error("the database takes no writes: {0}")]
    NotWritable(WriteBlock),
    /// The user lacks a privilege.
    #[error("the user lacks a privilege ({0}): check the grants of the database user")]
    Forbidden(String),
    /// The server's own error; the statement would fail again.
    #[error("the database refused a statement: {0}")]
    Refused(String),
    /// The table is not this service's.
    #[error("{0}")]
    Incompatible(String),
}

/// Why writes can't work while reads do.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum WriteBlock {
    /// The server is read-only.
    #[error("the database server is read-only")]
    ReadOnly,
    /// The server is a Galera node outside the primary component.
    #[error("this node has lost its cluster")]
    LostCluster,
    /// The user may not write; the text is the server's.
    #[error("the user lacks a privilege ({0}): check the grants of the database user")]
    MissingPrivilege(String),
    /// The table can't store messages safely; the text says why.
    #[error("{0}")]
    Table(String),
    /// The table has no ids left.
    #[error("the table messages has no ids left: widen its column id to BIGINT UNSIGNED")]
    NoIdsLeft,
}

impl Error {
    /// The labels of all errors that are not about connecting.
    pub const LABELS: [&'static str; 7] =
        ["lost", "timed_out", "busy", "not_writable", "forbidden", "refused", "incompatible"];

    /// Whether requests that are queued for the same server should fail now, instead of waiting for the same failure.
    pub fn is_outage(&self) -> bool {
        match self {
            Error::NoConnection(_) | Error::Lost(_) | Error::TimedOut | Error::Busy(_) | Error::NotWritable(_) => true,
            Error::Forbidden(_) | Error::Refused(_) | Error::Incompatible(_) => false,
        }
    }

    /// Whether it lasts until an operator changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Error::NoConnection(error) => error.cause.is_permanent(),
            other => !other.is_outage(),
        }
    }

    /// The cause as a label of metrics.
    pub fn label(&self) -> &'static str {
        self.row().0
    }

    /// The cause without names and addresses, for a public response.
    pub fn summary(&self) -> &'static str {
        self.row().1
    }

    fn row(&self) -> (&'static str, &'static str) {
        const UNUSABLE: &str = "the table can't be used";
        match self {
            Error::NoConnection(error) => (error.cause.label(), error.cause.summary()),
            Error::Lost(_) => ("lost", "the connection to the database is lost"),
            Error::TimedOut => ("timed_out", "the database does not answer in time"),
            Error::Busy(_) => ("busy", "the database is busy"),
            Error::NotWritable(block) => ("not_writable", block.summary()),
            Error::Forbidden(_) => ("forbidden", UNUSABLE),
            Error::Refused(_) => ("refused", UNUSABLE),
            Error::Incompatible(_) => ("incompatible", UNUSABLE),
        }
    }

    /// What a statement has failed with when it is not repeated.
    pub(super) fn of_driver(error: &mysql::Error) -> Error {
        let words = words(error);
        match (ErrorClass::new(error), error) {
            (ErrorClass::TimedOut, _) => Error::TimedOut,
            (ErrorClass::Lost | ErrorClass::NotTheProtocol, _) => Error::Lost(words),
            (ErrorClass::Conflict | ErrorClass::LockWait, _) => Error::Busy(words),
            (ErrorClass::ReadOnly, _) => Error::NotWritable(WriteBlock::ReadOnly),
            (ErrorClass::LostCluster, _) => Error::NotWritable(WriteBlock::LostCluster),
            (ErrorClass::Refused, mysql::Error::MySqlError(server)) => match server.code {
                1044 | 1142 | 1143 | 1227 | 1370 => Error::Forbidden(words),
                // The disk or the tablespace is full, or the account has used up its statements of this hour.
                1021 | 1114 | 1226 => Error::Busy(words),
                _ => Error::Refused(words),
            },
            (ErrorClass::Refused, _) => Error::Refused(words),
        }
    }
}

impl WriteBlock {
    /// The reason as a label of metrics.
    pub fn label(&self) -> &'static str {
        self.row().0
    }

    /// The reason without names and addresses, for a public response.
    pub fn summary(&self) -> &'static str {
        self.row().1
    }

    fn row(&self) -> (&'static str, &'static str) {
        match self {
            WriteBlock::ReadOnly => ("read_only", "the database server is read-only"),
            WriteBlock::LostCluster => ("lost_cluster", "this node has lost its cluster"),
            WriteBlock::MissingPrivilege(_) => ("missing_privilege", "the database user may not write"),
            WriteBlock::Table(_) => ("table", "the table can't store messages safely"),
            WriteBlock::NoIdsLeft => ("no_ids_left", "the table has no ids left"),
        }
    }
}
