//! The steps of the migration, in words and as statements. Decides nothing and runs nothing.

/// Creates the table; the same file that a database container runs and that people read.
const MESSAGE_SQL: &str = include_str!("../../message.sql");

/// A step of the migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A local time of another program becomes a moment.
    LocalTimeToTimestamp,
    /// A moment, or a UTC time without microseconds, becomes a time in UTC, and new rows get theirs.
    TimeToUtc,
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

/// The columns that a message has beside its id and text, with their types, in the order of `message.sql`.
pub(super) const ADDED: [(&str, &str); 3] =
    [("created_at", "datetime(6)"), ("edited_at", "datetime(6)"), ("submit_key", "binary(16)")];

/// The statements that create the table.
pub(super) fn create_statements() -> Vec<String> {
    statements(MESSAGE_SQL)
}

impl Step {
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Step::LocalTimeToTimestamp | Step::TimeToUtc => "converting the times of the table to UTC",
            Step::AddColumns(_) => "adding columns to the table",
            Step::SetDefault => "setting the default of created_at",
            Step::ConvertEngine => "converting the table to InnoDB",
            Step::AddKey => "adding the unique key of the table",
            Step::WidenId { .. } => "widening the ids of the table",
            Step::WidenMessage => "widening the messages of the table",
            Step::ConvertCharset => "converting the table to utf8mb4",
        }
    }

    pub(super) fn statements(&self) -> Vec<String> {
        let alter = |change: &str| vec![format!("ALTER TABLE messages {change}")];
        match self {
            // The session's zone is UTC otherwise.
            Step::LocalTimeToTimestamp => vec![
                "SET SESSION time_zone = @@GLOBAL.time_zone".to_owned(),
                "ALTER TABLE messages MODIFY created_at TIMESTAMP(6) NULL DEFAULT NULL".to_owned(),
                "SET SESSION time_zone = '+00:00'".to_owned(),
            ],
            Step::TimeToUtc => alter("MODIFY created_at DATETIME(6) NULL DEFAULT (UTC_TIMESTAMP(6))"),
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
