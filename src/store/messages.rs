//! Reading, editing and deleting messages: the statements, and the mapping of their rows.

use mysql::{Params, Row, Value};

use super::client::Client;
use super::connection::{Connection, Statement};
use super::error::Error;
use crate::message::{Message, NewMessage, Timestamp};

const NEWEST: Statement<'_> =
    Statement::new("newest", "SELECT id, message, created_at, edited_at FROM messages ORDER BY id DESC LIMIT ?");
const BEFORE: Statement<'_> = Statement::new(
    "before",
    "SELECT id, message, created_at, edited_at FROM messages WHERE id < ? ORDER BY id DESC LIMIT ?",
);
const AFTER: Statement<'_> =
    Statement::new("after", "SELECT id, message, created_at, edited_at FROM messages WHERE id > ? ORDER BY id LIMIT ?");
const BY_ID: Statement<'_> =
    Statement::new("by_id", "SELECT id, message, created_at, edited_at FROM messages WHERE id = ? ORDER BY id LIMIT 1");
const REPLACE: Statement<'_> =
    Statement::new("replace", "UPDATE messages SET message = ?, edited_at = UTC_TIMESTAMP(6) WHERE id = ?");
const REMOVE: Statement<'_> = Statement::new("remove", "DELETE FROM messages WHERE id = ?");

impl Client {
    /// The newest `limit` messages, newest first.
    pub fn newest(&mut self, limit: usize) -> Result<Vec<Message>, Error> {
        self.run(|connection, _| read(connection, NEWEST, (limit as u64,)))
    }

    /// The newest `limit` messages with an id below `id`, newest first.
    pub fn before(&mut self, id: u64, limit: usize) -> Result<Vec<Message>, Error> {
        self.run(|connection, _| read(connection, BEFORE, (id, limit as u64)))
    }

    /// The oldest `limit` messages with an id above `id`, oldest first.
    pub fn after(&mut self, id: u64, limit: usize) -> Result<Vec<Message>, Error> {
        self.run(|connection, _| read(connection, AFTER, (id, limit as u64)))
    }

    /// The message with this id.
    pub fn by_id(&mut self, id: u64) -> Result<Option<Message>, Error> {
        self.run(|connection, _| Ok(read(connection, BY_ID, (id,))?.pop()))
    }

    /// Gives the message with this id another text. Nothing when there is none.
    pub fn replace(&mut self, id: u64, text: &NewMessage) -> Result<Option<Message>, Error> {
        self.run(|connection, _| {
            connection.execute(REPLACE, (text.as_str(), id))?;
            Ok(read(connection, BY_ID, (id,))?.pop())
        })
    }

    /// Deletes the message with this id. False when there was none.
    pub fn remove(&mut self, id: u64) -> Result<bool, Error> {
        // An attempt whose reply was lost may have deleted it.
        self.run(|connection, outcome_unknown| {
            connection.execute(REMOVE, (id,)).map(|affected| affected > 0 || outcome_unknown)
        })
    }
}

/// Runs a prepared statement that selects id, message, created_at and edited_at.
pub(super) fn read(
    connection: &mut Connection,
    statement: Statement<'_>,
    params: impl Into<Params>,
) -> Result<Vec<Message>, mysql::Error> {
    connection.fold(statement, params, Vec::new(), |messages, row| messages.push(message(row)))
}

pub(super) fn message(mut row: Row) -> Message {
    Message {
        id: number(row.take(0)),
        text: text(row.take(1)),
        created_at: row.take(2).and_then(timestamp),
        edited_at: row.take(3).and_then(timestamp),
    }
}

/// An id, which is signed in a table that began as another program's.
pub(super) fn number(value: Option<Value>) -> u64 {
    match value {
        Some(Value::UInt(id)) => id,
        Some(Value::Int(id)) => u64::try_from(id).unwrap_or(0),
        Some(_) | None => 0,
    }
}

fn text(value: Option<Value>) -> String {
    match value {
        // Used without a copy. The database has checked it, because the column has a character set.
        Some(Value::Bytes(bytes)) => {
            String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
        }
        Some(_) | None => String::new(),
    }
}

fn timestamp(value: Value) -> Option<Timestamp> {
    match value {
        // Another program's way to store no time, or no complete date.
        Value::Date(_, 0, ..) | Value::Date(_, _, 0, ..) => None,
        Value::Date(year, month, day, hour, minute, second, microsecond) => {
            Some(Timestamp { year, month, day, hour, minute, second, microsecond })
        }
        _ => None,
    }
}
