//! Changes of the table: created when it is missing, and brought up from the Flask app's shape step by step.
//!
//! Each step is chosen by a description of the table, so several replicas may do this at the same time, and an interrupted
//! migration goes on where it stopped. No statement here has a time limit, and none runs when the shape is current.

use log::warn;
use mysql::prelude::Queryable;

use super::client::{Database, failure};
use super::connection::Connection;
use super::error::Error;
use super::schema::{ADDED, SchemaState, Table};

/// Creates the table; the same file that a database container runs and that people read.
const MESSAGE_SQL: &str = include_str!("../../message.sql");

/// A step of the migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A local time of another program becomes a moment.
    LocalTimeToTimestamp,
    /// A moment becomes a time in UTC, and new rows get theirs.
    TimestampToUtc,
    /// The time gets its microseconds.
    WidenTime,
    /// Columns are missing. They begin as NULL, so that old rows keep no time.
    AddColumns(Vec<&'static str>),
    /// New rows, also those of other programs, get their time.
    SetDefault,
    /// A commit must be durable.
    ConvertEngine,
    /// The submit key must be unique.
    AddKey,
    /// The ids of an INT column run out.
    WidenId {
        /// Whether the column holds no negative numbers.
        unsigned: bool,
    },
    /// The text must be able to be as long as a message.
    WidenMessage,
    /// The text must be able to hold every character.
    ConvertCharset,
}

/// Steps that are tried before giving up; far more than there are.
const MAX_STEPS: usize = 50;

/// Creates or changes the table until its shape is current; `report` gets the description of each step before it begins.
pub(super) fn migrate(database: &Database, take_over: bool, report: impl Fn(&'static str)) -> Result<(), Error> {
    let mut connection = database.connect_unlimited()?;
    for _ in 0..MAX_STEPS {
        let table = Table::describe(&mut connection).map_err(|error| failure(&error))?;
        match table.state(take_over) {
            SchemaState::Current => return Ok(()),
            SchemaState::Incompatible(reason) => return Err(Error::Incompatible(reason)),
            SchemaState::Missing => {
                report("creating the table");
                run(&mut connection, &statements(MESSAGE_SQL)).map_err(|error| failure(&error))?;
            }
            SchemaState::Needs(step) => {
                report(step.describe());
                match run(&mut connection, &step.statements()) {
                    Ok(()) => {}
                    Err(mysql::Error::MySqlError(error)) if is_prevented_by_foreign_key(&step, error.code) => {
                        warn!(
                            "the ids stay narrow: {}; drop the foreign key, restart, and add it again",
                            error.message
                        );
                        return Ok(());
                    }
                    Err(error) => return Err(failure(&error)),
                }
            }
        }
    }
    let reason = "the table messages still needs changes after many steps; is another program altering it?";
    Err(Error::Refused(reason.to_owned()))
}

/// Foreign keys of other tables keep the type of the ids; the table can be used all the same.
fn is_prevented_by_foreign_key(step: &Step, code: u16) -> bool {
    matches!(step, Step::WidenId { .. }) && matches!(code, 1025 | 1832 | 1833 | 1834 | 3780)
}

impl SchemaState {
    /// The statements that the next step of the migration would run.
    pub fn statements(&self) -> Vec<String> {
        match self {
            SchemaState::Current | SchemaState::Incompatible(_) => Vec::new(),
            SchemaState::Missing => statements(MESSAGE_SQL),
            SchemaState::Needs(step) => step.statements(),
        }
    }
}

impl Step {
    fn describe(&self) -> &'static str {
        match self {
            Step::LocalTimeToTimestamp | Step::TimestampToUtc => "converting the times of the table to UTC",
            Step::WidenTime => "adding microseconds to the times of the table",
            Step::AddColumns(_) => "adding columns to the table",
            Step::SetDefault => "setting the default of created_at",
            Step::ConvertEngine => "converting the table to InnoDB",
            Step::AddKey => "adding the unique key of the table",
            Step::WidenId { .. } => "widening the ids of the table",
            Step::WidenMessage => "widening the messages of the table",
            Step::ConvertCharset => "converting the table to utf8mb4",
        }
    }

    fn statements(&self) -> Vec<String> {
        let alter = |change: &str| vec![format!("ALTER TABLE messages {change}")];
        match self {
            // The session's zone is UTC otherwise.
            Step::LocalTimeToTimestamp => vec![
                "SET SESSION time_zone = @@GLOBAL.time_zone".to_owned(),
                "ALTER TABLE messages MODIFY created_at TIMESTAMP(6) NULL DEFAULT NULL".to_owned(),
                "SET SESSION time_zone = '+00:00'".to_owned(),
            ],
            Step::TimestampToUtc | Step::WidenTime => {
                alter("MODIFY created_at DATETIME(6) NULL DEFAULT (UTC_TIMESTAMP(6))")
            }
            Step::AddColumns(names) => {
                let added = ADDED.iter().filter(|(name, _)| names.contains(name));
                let columns: Vec<_> = added.map(|(name, kind)| format!("ADD COLUMN {name} {kind} NULL")).collect();
                alter(&columns.join(", "))
            }
            Step::SetDefault => alter("ALTER COLUMN created_at SET DEFAULT (UTC_TIMESTAMP(6))"),
            Step::ConvertEngine => alter("ENGINE = InnoDB"),
            Step::AddKey => alter("ADD UNIQUE KEY submit_key (submit_key)"),
            Step::WidenId { unsigned: true } => alter("MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT"),
            Step::WidenId { unsigned: false } => alter("MODIFY id BIGINT NOT NULL AUTO_INCREMENT"),
            Step::WidenMessage => alter("MODIFY message TEXT NULL"),
            // The server widens the column where the text could outgrow it, so nothing is cut off.
            Step::ConvertCharset => alter("CONVERT TO CHARACTER SET utf8mb4"),
        }
    }
}

fn run(connection: &mut Connection, statements: &[String]) -> Result<(), mysql::Error> {
    for statement in statements {
        match connection.conn()?.query_drop(statement) {
            Ok(()) => {}
            // The table, the column or the key exists: another replica was faster.
            Err(mysql::Error::MySqlError(error)) if matches!(error.code, 1050 | 1060 | 1061) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The statements of `message.sql`, in which no semicolon stands inside a statement.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    code.join("\n").split(';').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_sql_is_split_into_its_statements() {
        let statements = statements(MESSAGE_SQL);
        assert_eq!(statements.len(), 2);
        assert_eq!(statements[0], "SET NAMES utf8mb4");
        assert!(statements[1].starts_with("CREATE TABLE IF NOT EXISTS messages ("), "{}", statements[1]);
        assert!(
            MESSAGE_SQL.lines().find(|line| !line.is_empty() && !line.starts_with("--")) == Some("SET NAMES utf8mb4;")
        );
    }
}
