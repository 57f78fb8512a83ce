//! Storing messages, each exactly once: one statement and one commit for a batch, and the id of each of its rows.
//!
//! The same statement may run twice when the first outcome is unknown; the unique key keeps it from storing twice. Ids are
//! found by key, never counted from the first one: a duplicate in the batch would shift them all.

use std::collections::HashMap;

use mysql::prelude::Queryable;
use mysql::{Row, Value};

use super::client::Client;
use super::connection::{Connection, Statement};
use super::error::Error;
use super::messages::{message, number};
use crate::idempotency_key::IdempotencyKey;
use crate::message::{Message, NewMessage};
use crate::metrics::METRICS;

const IDS: Statement<'_> =
    Statement::new("ids", "SELECT id, submit_key FROM messages WHERE id >= ? ORDER BY id LIMIT ?");
const TAKE_BACK: Statement<'_> = Statement::new("take_back", "DELETE FROM messages WHERE id = ? AND submit_key = ?");
const WARNINGS: &str = "SHOW WARNINGS LIMIT 1024";

/// Warnings of the server after which a stored text may lack characters: truncated, too long, or not in the character set.
const LOSSY: [u16; 6] = [1265, 1300, 1366, 1406, 1977, 3854];

/// A message to store.
#[derive(Debug)]
pub struct NewRow<'a> {
    /// What distinguishes this submit from all others.
    pub key: IdempotencyKey,
    /// The text.
    pub text: &'a NewMessage,
    /// The key was generated here, so that nothing else can have stored a row with it.
    pub key_is_ours: bool,
    /// The response needs the stored message, and not only its id.
    pub full: bool,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored and committed.
    Stored {
        /// Its id.
        id: u64,
        /// The stored message, when the response needs it or the database has changed it.
        message: Option<Message>,
    },
    /// Its key had been stored before, with this message.
    Replayed(Message),
    /// Its key had been stored before, with this message, which has another text.
    KeyReused(Message),
    /// It is not stored, or the outcome is unknown.
    Failed(Error),
}

impl Outcome {
    /// Why it may not be stored.
    pub fn failure(&self) -> Option<&Error> {
        match self {
            Outcome::Failed(cause) => Some(cause),
            Outcome::Stored { .. } | Outcome::Replayed(_) | Outcome::KeyReused(_) => None,
        }
    }
}

/// What one statement put into the table.
struct Inserted {
    /// The ids of the rows that it made, as far as they are known.
    ids: HashMap<IdempotencyKey, u64>,
    /// How many rows it made.
    count: u64,
    /// The rows that it made and whose ids are unknown have this id or a larger one.
    first: Option<u64>,
    /// Every row is either new or a duplicate.
    is_complete: bool,
}

impl Client {
    /// Stores `rows`, whose keys must differ, and returns what became of each, in their order.
    pub fn insert(&mut self, rows: &[NewRow<'_>]) -> Vec<Outcome> {
        let outcomes = match self.insert_batch(rows) {
            Ok(outcomes) => outcomes,
            // One of the rows is the cause; the others must not fail with it.
            Err(Error::Refused(_)) if rows.len() > 1 => self.insert_one_by_one(rows),
            Err(error) => rows.iter().map(|_| Outcome::Failed(error.clone())).collect(),
        };
        count(&outcomes);
        outcomes
    }

    fn insert_one_by_one(&mut self, rows: &[NewRow<'_>]) -> Vec<Outcome> {
        let mut outage = None;
        let mut one = |row| {
            let result = outage.clone().map_or_else(|| self.insert_batch(row), Err);
            result.unwrap_or_else(|error| {
                outage = Some(error.clone()).filter(Error::is_outage);
                vec![Outcome::Failed(error)]
            })
        };
        rows.chunks(1).flat_map(&mut one).collect()
    }

    fn insert_batch(&mut self, rows: &[NewRow<'_>]) -> Result<Vec<Outcome>, Error> {
        let reads_back = self.database().reads_back();
        let mut altered = false;
        let outcomes = self.run(|connection, outcome_unknown| {
            let batch = Batch { rows, outcome_unknown, reads_back };
            let (outcomes, was_altered) = batch.insert(connection)?;
            altered = was_altered;
            Ok(outcomes)
        });
        if altered {
            self.database().read_back_from_now("the database has changed a text; is there a trigger?");
        }
        outcomes
    }
}

/// One attempt to store rows.
struct Batch<'a> {
    rows: &'a [NewRow<'a>],
    /// An earlier attempt may have stored them.
    outcome_unknown: bool,
    /// The database is known to change texts.
    reads_back: bool,
}

impl Batch<'_> {
    /// The outcome of each row, and whether the database changed a text.
    fn insert(&self, connection: &mut Connection) -> Result<(Vec<Outcome>, bool), mysql::Error> {
        let inserted = self.run(connection)?;
        let is_lossy = !inserted.is_complete && has_lossy_warning(connection)?;
        let is_unclear = |row: &&NewRow<'_>| {
            row.full || self.reads_back || !inserted.is_complete || !inserted.ids.contains_key(&row.key)
        };
        let unclear: Vec<IdempotencyKey> = self.rows.iter().filter(is_unclear).map(|row| row.key).collect();
        let mut stored = stored(connection, &unclear)?;
        let is_new = |message: &Message| inserted.first.is_some_and(|first| message.id >= first);
        // Otherwise another client stored one of the keys at the same time, and it is not known which.
        let all_are_ours = stored.values().filter(|message| is_new(message)).count() as u64 <= inserted.count;

        let mut altered = false;
        let mut outcomes = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            let id = inserted.ids.get(&row.key).copied();
            let Some(message) = stored.remove(&row.key) else {
                outcomes.push(match id {
                    // It was stored, and may have been deleted since.
                    Some(id) => Outcome::Stored { id, message: None },
                    None => Outcome::Failed(Error::Refused("the row is missing after the insert".to_owned())),
                });
                continue;
            };
            let is_own = row.key_is_ours
                || id.is_some()
                || is_new(&message) && all_are_ours
                || self.outcome_unknown && self.reads_back;
            let is_altered = message.text != row.text.as_str();
            outcomes.push(match (is_altered, is_own) {
                // After an attempt with an unknown outcome, the row is most likely that attempt's.
                (false, _) if id.is_some() || is_new(&message) || self.outcome_unknown => stored_as(row, message),
                (false, _) => Outcome::Replayed(message),
                (true, _) if message.edited_at.is_some() => Outcome::Replayed(message),
                (true, true) if is_lossy => {
                    connection.execute(TAKE_BACK, (message.id, row.key.as_bytes().as_slice()))?;
                    let reason = "the text lost characters and was removed: check the type and the character set of the \
                                  column message";
                    Outcome::Failed(Error::Refused(reason.to_owned()))
                }
                (true, true) => {
                    altered = true;
                    Outcome::Stored { id: message.id, message: Some(message) }
                }
                (true, false) => Outcome::KeyReused(message),
            });
        }
        Ok((outcomes, altered))
    }

    /// Runs the INSERT. Where it can return the ids and keys of its rows, that saves a round trip; otherwise their ids are
    /// read, if all rows are new.
    fn run(&self, connection: &mut Connection) -> Result<Inserted, mysql::Error> {
        let rows = self.rows.len();
        let returning = rows > 1 && connection.info.version.inserts_returning();
        let sql = statement(self.rows) + if returning { " RETURNING id, submit_key" } else { "" };
        let (mut ids, count, first, warnings) = connection.query("insert", |conn| {
            let ids = conn.query_fold(sql, HashMap::with_capacity(rows), |mut ids, mut row: Row| {
                ids.extend(key(row.take(1)).zip(row.take(0)));
                ids
            })?;
            let count = if returning { ids.len() as u64 } else { conn.affected_rows() };
            Ok((ids, count, conn.last_insert_id(), conn.warnings()))
        })?;
        // IGNORE makes a duplicate a warning, and bad values as well.
        let is_complete = count + u64::from(warnings) == rows as u64;
        if !returning && is_complete && count == rows as u64 {
            ids = match self.rows {
                [row] => HashMap::from([(row.key, first)]),
                _ => new_ids(connection, first, rows)?,
            };
        }
        Ok(Inserted { ids, count, first: (!returning && count > 0).then_some(first), is_complete })
    }
}

fn stored_as(row: &NewRow<'_>, message: Message) -> Outcome {
    Outcome::Stored { id: message.id, message: row.full.then_some(message) }
}

fn count(outcomes: &[Outcome]) {
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count() as u64;
    METRICS.messages_stored.inc_by(count(|outcome| matches!(outcome, Outcome::Stored { .. })));
    METRICS.messages_replayed.inc_by(count(|outcome| matches!(outcome, Outcome::Replayed(_))));
}

fn has_lossy_warning(connection: &mut Connection) -> Result<bool, mysql::Error> {
    let warnings: Vec<(String, u16, String)> = connection.conn()?.query(WARNINGS)?;
    Ok(warnings.iter().any(|(_, code, _)| LOSSY.contains(code)))
}

/// The keys and ids of the `count` rows from `first` on; rows of other writers may be among them, and ours after them.
fn new_ids(
    connection: &mut Connection,
    first: u64,
    count: usize,
) -> Result<HashMap<IdempotencyKey, u64>, mysql::Error> {
    connection.fold(IDS, (first, count as u64), HashMap::with_capacity(count), |ids, mut row| {
        ids.extend(key(row.take(1)).zip(Some(number(row.take(0)))));
    })
}

/// The stored messages with these keys.
fn stored(
    connection: &mut Connection,
    keys: &[IdempotencyKey],
) -> Result<HashMap<IdempotencyKey, Message>, mysql::Error> {
    let Some(last) = keys.last() else { return Ok(HashMap::new()) };
    // Filled up to a power of two with a repeated key, so that a few prepared statements serve all sizes.
    let placeholders = keys.len().next_power_of_two();
    let filled = keys.iter().chain(std::iter::repeat(last)).take(placeholders);
    let params: Vec<Value> = filled.map(|key| Value::Bytes(key.as_bytes().to_vec())).collect();
    let select = format!(
        "SELECT id, message, created_at, edited_at, submit_key FROM messages WHERE submit_key IN (?{}) \
         ORDER BY id LIMIT {placeholders}",
        ", ?".repeat(placeholders - 1)
    );
    let select = Statement::new("by_key", &select);
    connection.fold(select, params, HashMap::with_capacity(keys.len()), |stored, mut row| {
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

/// The insert as text: a prepared one would be another statement for each size of a batch. Texts and keys are written in
/// hexadecimal, which no character set and no SQL mode of a server reads in another way.
fn statement(rows: &[NewRow<'_>]) -> String {
    let texts: usize = rows.iter().map(|row| row.text.as_str().len() * 2 + 64).sum();
    let mut sql = String::with_capacity(64 + texts);
    sql.push_str("INSERT IGNORE INTO messages (message, submit_key) VALUES ");
    for (at, row) in rows.iter().enumerate() {
        sql.push_str(if at == 0 { "(_utf8mb4 X'" } else { ",(_utf8mb4 X'" });
        push_hex(&mut sql, row.text.as_str());
        sql.push_str("',X'");
        row.key.push_hex(&mut sql);
        sql.push_str("')");
    }
    sql
}

fn push_hex(sql: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in text.bytes() {
        sql.push(char::from(DIGITS[usize::from(byte >> 4)]));
        sql.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_text_stands_in_the_statement_as_it_is() {
        let text = NewMessage::parse("é'\\\"; -- 😀", 100).unwrap();
        let key = IdempotencyKey::from_bytes(&[0xab; 16]).unwrap();
        let rows = [NewRow { key, text: &text, key_is_ours: true, full: false }];
        let hex = "ab".repeat(16);
        let head = "INSERT IGNORE INTO messages (message, submit_key) VALUES";
        let text = "c3a9275c223b202d2d20f09f9880";
        assert_eq!(statement(&rows), format!("{head} (_utf8mb4 X'{text}',X'{hex}')"));
    }
}
