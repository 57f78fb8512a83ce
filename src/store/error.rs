//! What can go wrong with the database, as callers need to tell it apart, and in words.
//!
//! The texts name settings, because they are read by the operator who can change them. They never quote a message.

use thiserror::Error as ThisError;

pub use super::connect_error::ConnectError;
use super::error_text::words;
use super::write_block::WriteBlock;

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
    /// The server can't do it now: a lock is held for too long, or no space is left.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// No server takes writes now.
    #[error("the database takes no writes: {0}")]
    NotWritable(WriteBlock),
    /// The user may not do it.
    #[error("the user lacks a privilege ({0}): check the grants of the database user")]
    Forbidden(String),
    /// The server's own error; the statement would fail again.
    #[error("the database refused a statement: {0}")]
    Refused(String),
    /// The table is not this service's.
    #[error("{0}")]
    Incompatible(String),
}

impl Error {
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
            Error::NoConnection(cause) => cause.is_permanent(),
            Error::Forbidden(_) | Error::Refused(_) | Error::Incompatible(_) => true,
            Error::Lost(_) | Error::TimedOut | Error::Busy(_) | Error::NotWritable(_) => false,
        }
    }

    /// The cause without names and addresses, for an answer that anybody may read.
    pub fn summary(&self) -> &'static str {
        match self {
            Error::NoConnection(cause) => cause.summary(),
            Error::Lost(_) => "the connection to the database is lost",
            Error::TimedOut => "the database does not answer in time",
            Error::Busy(_) => "the database is busy",
            Error::NotWritable(block) => block.summary(),
            Error::Forbidden(_) | Error::Refused(_) | Error::Incompatible(_) => "the table can't be used",
        }
    }

    /// The cause as a label of metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Error::NoConnection(cause) => cause.label(),
            Error::Lost(_) => "lost",
            Error::TimedOut => "timed_out",
            Error::Busy(_) => "busy",
            Error::NotWritable(_) => "not_writable",
            Error::Forbidden(_) => "forbidden",
            Error::Refused(_) => "refused",
            Error::Incompatible(_) => "incompatible",
        }
    }

    /// All labels of errors that are not about connecting.
    pub const LABELS: [&'static str; 7] =
        ["lost", "timed_out", "busy", "not_writable", "forbidden", "refused", "incompatible"];

    /// An error of the server's that would be the same again.
    pub(super) fn refused(error: &mysql::Error) -> Error {
        match error {
            mysql::Error::MySqlError(server) => match server.code {
                1044 | 1142 | 1143 | 1227 | 1370 => Error::Forbidden(words(error)),
                // The disk or the tablespace is full.
                1021 | 1114 => Error::Busy(words(error)),
                _ => Error::Refused(words(error)),
            },
            error => Error::Refused(words(error)),
        }
    }
}
