//! Storing messages, each exactly once: one statement and one commit for a batch, and the id of each of its rows.
//!
//! The same statement may run twice when the first outcome is unknown; the unique key keeps it from storing twice. Ids are
//! found by key, never counted from the first one: a duplicate in the batch would shift them all.

use std::collections::HashMap;

use mysql::prelude::Queryable;
use mysql::{Conn, Row, Value};

use super::client::Client;
use super::connection::Connection;
use super::error::Error;
use super::messages::{Statement, execute, fold, message, number};
pub use crate::idempotency_key::IdempotencyKey;
use crate::message::{Message, NewMessage};

const IDS: Statement<'_> =
    Statement::new("ids", "SELECT id, submit_key FROM messages WHERE id >= ? ORDER BY id LIMIT ?");
const TAKE_BACK: Statement<'_> = Statement::new("take_back", "DELETE FROM messages WHERE id = ? AND submit_key = ?");

/// A message to store.
#[derive(Debug)]
pub struct NewRow<'a> {
    /// What tells this submit from all others.
    pub key: IdempotencyKey,
    /// The text.
    pub text: &'a NewMessage,
    /// The key was made here, so that nobody else can have stored a row with it.
    pub key_is_ours: bool,
    /// The stored message is wanted, and not only its id.
    pub full: bool,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored and committed.
    Stored {
        /// Its id.
        id: u64,
        /// The stored message, when it was wanted.
        message: Option<Message>,
    },
    /// Its key had been stored before, with this message.
    Replayed(Message),
    /// Its key had been stored before, with this message, whose text is another one.
    KeyReused(Message),
    /// It is not stored, or nobody knows.
    Failed(Error),
}

impl Outcome {
    /// Why it is not stored, when nobody can say that it is.
    pub fn failure(&self) -> Option<&Error> {
        match self {
            Outcome::Failed(cause) => Some(cause),
            Outcome::Stored { .. } | Outcome::Replayed(_) | Outcome::KeyReused(_) => None,
        }
    }
}

impl Client {
    /// Stores `rows`, whose keys must differ, and says what became of each, in their order.
    pub fn insert(&mut self, rows: &[NewRow<'_>]) -> Vec<Outcome> {
        match self.run(|connection, outcome_unknown| insert(connection, rows, outcome_unknown)) {
            Ok(outcomes) => outcomes,
            // One of them is to blame; the others shall not pay for it.
            Err(Error::Refused(_)) if rows.len() > 1 => self.insert_one_by_one(rows),
            Err(error) => rows.iter().map(|_| Outcome::Failed(error.clone())).collect(),
        }
    }

    fn insert_one_by_one(&mut self, rows: &[NewRow<'_>]) -> Vec<Outcome> {
        let mut outage = None;
        let mut one = |row: &NewRow<'_>| {
            if let Some(error) = &outage {
                return Outcome::Failed(Error::clone(error));
            }
            let outcomes =
                self.run(|connection, outcome_unknown| insert(connection, std::slice::from_ref(row), outcome_unknown));
            match outcomes.map(|mut outcomes| outcomes.pop()) {
                Ok(Some(outcome)) => outcome,
                Ok(None) => Outcome::Failed(Error::Refused("an insert without an outcome".to_owned())),
                Err(error) => {
                    outage = Some(error.clone()).filter(Error::is_outage);
                    Outcome::Failed(error)
                }
            }
        };
        rows.iter().map(&mut one).collect()
    }
}

/// What one statement put into the table.
struct Inserted {
    /// The ids of the rows that it made, as far as they are known.
    ids: Ids,
    /// Rows that it made and whose ids are not known have this one or a larger one.
    rest: Option<u64>,
    /// What is stored is what was sent.
    sound: bool,
}

/// Ids by key.
struct Ids(Vec<(IdempotencyKey, u64)>);

impl Ids {
    /// Rows are inserted in the order of their keys, so that there is little to sort.
    fn of(mut ids: Vec<(IdempotencyKey, u64)>) -> Ids {
        ids.sort_unstable();
        Ids(ids)
    }

    fn get(&self, key: IdempotencyKey) -> Option<u64> {
        self.0.binary_search_by_key(&key, |(key, _)| *key).ok().map(|at| self.0[at].1)
    }
}

fn insert(
    connection: &mut Connection,
    rows: &[NewRow<'_>],
    outcome_unknown: bool,
) -> Result<Vec<Outcome>, mysql::Error> {
    let Inserted { ids, rest, sound } = match rows {
        [_, _, ..] if connection.inserts_returning()? => insert_returning(connection, rows)?,
        _ => insert_plainly(connection, rows)?,
    };
    let unclear: Vec<IdempotencyKey> =
        rows.iter().filter(|row| row.full || !sound || ids.get(row.key).is_none()).map(|row| row.key).collect();
    let mut stored = stored(connection, &unclear)?;

    rows.iter()
        .map(|row| {
            let Some(message) = stored.remove(&row.key) else {
                return Ok(match ids.get(row.key) {
                    // Deleted since, when it was looked for: it was stored all the same.
                    Some(id) => Outcome::Stored { id, message: None },
                    None => Outcome::Failed(Error::Refused("the row is not there after the insert".to_owned())),
                });
            };
            let same = message.text == row.text.as_str();
            let new = ids.get(row.key).is_some() || rest.is_some_and(|first| message.id >= first);
            // After an attempt with an unknown outcome, the row that is there is most likely that attempt's.
            if same && (new || outcome_unknown) {
                return Ok(Outcome::Stored { id: message.id, message: row.full.then_some(message) });
            }
            if same || message.edited_at.is_some() {
                return Ok(Outcome::Replayed(message));
            }
            // With a key that a client chose it may be somebody else's row, which came in at the same time.
            if row.key_is_ours {
                execute(connection, TAKE_BACK, (message.id, row.key.as_bytes().as_slice()))?;
                let reason = "the database stored another text than it was sent; it was taken back".to_owned();
                return Ok(Outcome::Failed(Error::Refused(reason)));
            }
            Ok(Outcome::KeyReused(message))
        })
        .collect()
}

/// Inserts `rows` where an INSERT gives back the ids and keys of the rows that it made, which spares the question for them.
fn insert_returning(connection: &mut Connection, rows: &[NewRow<'_>]) -> Result<Inserted, mysql::Error> {
    let mut sql = statement(rows, connection.no_backslash_escape);
    sql.push_str(" RETURNING id, submit_key");
    connection.ask("insert", |connection| {
        let ids = connection.query_fold(sql, Vec::with_capacity(rows.len()), |mut ids, mut row: Row| {
            ids.extend(key(row.take(1)).zip(row.take(0)));
            ids
        })?;
        let sound = is_sound(ids.len() as u64, connection, rows);
        Ok(Inserted { ids: Ids::of(ids), rest: None, sound })
    })
}

/// Inserts `rows`, and asks for their ids if all of them are new.
fn insert_plainly(connection: &mut Connection, rows: &[NewRow<'_>]) -> Result<Inserted, mysql::Error> {
    let sql = statement(rows, connection.no_backslash_escape);
    let (inserted, first, sound) = connection.ask("insert", |connection| {
        connection.query_drop(sql)?;
        let inserted = connection.affected_rows();
        Ok((inserted, connection.last_insert_id(), is_sound(inserted, connection, rows)))
    })?;
    let all_new = sound && inserted == rows.len() as u64;
    let ids = match rows {
        [row] if all_new => vec![(row.key, first)],
        _ if all_new => new_ids(connection, first, rows.len())?,
        _ => Vec::new(),
    };
    Ok(Inserted { ids: Ids::of(ids), rest: Some(first).filter(|_| inserted > 0), sound })
}

/// Whether the rows that were not `inserted` are there already, and nothing else is wrong. IGNORE makes a duplicate a
/// warning, and bad data too: then what is stored has to be compared with what was sent.
fn is_sound(inserted: u64, connection: &Conn, rows: &[NewRow<'_>]) -> bool {
    inserted + u64::from(connection.warnings()) == rows.len() as u64
}

/// The keys and ids of the `count` rows from `first` on; other writers' rows may be among them, and ours behind them.
fn new_ids(connection: &mut Connection, first: u64, count: usize) -> Result<Vec<(IdempotencyKey, u64)>, mysql::Error> {
    fold(connection, IDS, (first, count as u64), Vec::with_capacity(count), |ids, mut row| {
        if let Some(key) = key(row.take(1)) {
            ids.push((key, number(row.take(0))));
        }
    })
}

/// The stored messages with these keys.
fn stored(
    connection: &mut Connection,
    keys: &[IdempotencyKey],
) -> Result<HashMap<IdempotencyKey, Message>, mysql::Error> {
    let Some(last) = keys.last() else { return Ok(HashMap::new()) };
    // Filled up to a power of two with a repeated key, so that a few prepared statements serve all sizes.
    let places = keys.len().next_power_of_two();
    let filled = keys.iter().chain(std::iter::repeat(last)).take(places);
    let params: Vec<Value> = filled.map(|key| Value::Bytes(key.as_bytes().to_vec())).collect();
    let select = format!(
        "SELECT id, message, created_at, edited_at, submit_key FROM messages WHERE submit_key IN (?{}) \
         ORDER BY id LIMIT {places}",
        ", ?".repeat(places - 1)
    );
    let select = Statement::new("by_key", &select);
    fold(connection, select, params, HashMap::with_capacity(keys.len()), |stored, mut row| {
        if let Some(key) = key(row.take(4)) {
            stored.insert(key, message(row));
        }
    })
}

fn key(value: Option<Value>) -> Option<IdempotencyKey> {
    match value {
        Some(Value::Bytes(bytes)) => IdempotencyKey::from_bytes(&bytes),
        Some(_) | None => None,
    }
}

/// The insert as text: a prepared one would be another statement for each size of a batch.
fn statement(rows: &[NewRow<'_>], no_backslash_escape: bool) -> String {
    let text: usize = rows.iter().map(|row| row.text.as_str().len() + 48).sum();
    let mut sql = String::with_capacity(64 + text);
    sql.push_str("INSERT IGNORE INTO messages (message, submit_key) VALUES ");
    for (at, row) in rows.iter().enumerate() {
        sql.push_str(if at == 0 { "('" } else { ",('" });
        for c in row.text.as_str().chars() {
            match c {
                '\'' => sql.push_str("''"),
                '\\' if !no_backslash_escape => sql.push_str("\\\\"),
                c => sql.push(c),
            }
        }
        sql.push_str("',X'");
        row.key.push_hex(&mut sql);
        sql.push_str("')");
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_the_session_reads_it() {
        let text = NewMessage::parse("it's a \\ \"test\"; -- 😀", 100).unwrap();
        let key = IdempotencyKey::from_bytes(&[0xab; 16]).unwrap();
        let rows = [NewRow { key, text: &text, key_is_ours: true, full: false }];
        let hex = "ab".repeat(16);
        let head = "INSERT IGNORE INTO messages (message, submit_key) VALUES";
        let want = format!("{head} ('it''s a \\\\ \"test\"; -- 😀',X'{hex}')");
        assert_eq!(statement(&rows, false), want);
        assert_eq!(statement(&rows, true), want.replace("\\\\", "\\"));
    }
}
