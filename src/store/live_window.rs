//! The statements of the live feed: the newest rows without their texts, and the texts of some of them.

use mysql::{Params, Row, Value};

use super::client::Client;
use super::connection::Statement;
use super::error::Error;
use super::messages::{number, read};
use crate::message::Message;

/// A row of the table, as far as the live feed compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRow {
    /// The id of the message.
    pub id: u64,
    /// A hash of its text and the time of its last edit: it also differs after an edit that leaves the time as it was.
    pub fingerprint: u64,
    /// Microseconds since it was stored, by the clock of the database; negative when the time is in the future. None for a
    /// row older than the column.
    pub age: Option<i64>,
}

const WINDOW: Statement<'_> = Statement::new(
    "live_window",
    "SELECT id, CRC32(CONCAT_WS(' ', edited_at, message)), TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) \
     FROM messages ORDER BY id DESC LIMIT ?",
);
/// Ids in one statement. The statement is always the same, so that it is prepared once.
const TEXTS: usize = 16;
const BY_IDS: Statement<'_> = Statement::new(
    "live_texts",
    "SELECT id, message, created_at, edited_at FROM messages \
     WHERE id IN (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ORDER BY id LIMIT 16",
);

impl Client {
    /// The newest `limit` rows, newest first.
    pub fn live_window(&mut self, limit: usize) -> Result<Vec<LiveRow>, Error> {
        self.run(|connection, _| {
            connection.fold(WINDOW, (limit as u64,), Vec::new(), |rows, row| rows.push(live_row(row)))
        })
    }

    /// Those of the messages with these ids that exist, in the order of `ids`, which must ascend.
    pub fn by_ids(&mut self, ids: &[u64]) -> Result<Vec<Message>, Error> {
        self.run(|connection, _| {
            let mut messages = Vec::with_capacity(ids.len());
            for chunk in ids.chunks(TEXTS) {
                messages.extend(read(connection, BY_IDS, Params::Positional(padded(chunk)))?);
            }
            Ok(messages)
        })
    }
}

/// As many values as the statement has places. A repeated id selects no other row, not even in a table that has a row 0.
fn padded(ids: &[u64]) -> Vec<Value> {
    ids.iter().chain(ids.last().into_iter().cycle()).take(TEXTS).map(|id| Value::UInt(*id)).collect()
}

fn live_row(mut row: Row) -> LiveRow {
    let age = match row.take(2) {
        Some(Value::Int(micros)) => Some(micros),
        Some(Value::UInt(micros)) => i64::try_from(micros).ok(),
        Some(_) | None => None,
    };
    LiveRow { id: number(row.take(0)), fingerprint: number(row.take(1)), age }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_of_a_few_ids_selects_no_other_row() {
        let want: Vec<Value> = [3, 7].into_iter().chain([7; TEXTS - 2]).map(Value::UInt).collect();
        assert_eq!(padded(&[3, 7]), want);
        assert_eq!(padded(&[9; TEXTS]), [const { Value::UInt(9) }; TEXTS]);
    }
}
