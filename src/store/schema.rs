//! The table: created when it is missing, and brought up from the Flask app's shape, step by step and without loss.
//!
//! Each step is chosen by looking at the table, so several replicas may do this at once: who comes second looks again. No
//! statement that changes the table runs when its shape is right. Statements here have no time-out; a large table takes
//! as long as it takes.

use std::collections::HashMap;

use mysql::Row;
use mysql::prelude::Queryable;

use super::client::Client;
use super::connection::Connection;
use super::error::Error;

/// Creates the table; the same file that a database container runs and that people read.
pub const MESSAGE_SQL: &str = include_str!("../../message.sql");

const COLUMNS: &str = "SELECT column_name, column_type, column_default, character_set_name, extra \
    FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'messages' \
    ORDER BY ordinal_position LIMIT 1000";
const UNIQUE_KEYS: &str = "SELECT index_name, GROUP_CONCAT(column_name ORDER BY seq_in_index) \
    FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'messages' AND non_unique = 0 \
    GROUP BY index_name ORDER BY index_name LIMIT 1000";

/// What tells a table that was made or upgraded here, of which this gives the lines that describe it.
const KNOWN: &str = "SHOW CREATE TABLE messages";

/// The table as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaState {
    /// As it should be.
    Current,
    /// Not there.
    Missing,
    /// There, and this has to be done next.
    Needs(Step),
    /// Not a table that this service can use; the words say why.
    Incompatible(String),
}

/// A step of the upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Columns are missing. They begin as NULL, so that old rows keep no time.
    AddColumns(Vec<&'static str>),
    /// New rows, also those of other programs, do not get their time yet.
    SetDefault,
    /// The submit key is not unique yet.
    AddKey,
    /// The text can't be as long as a message may be.
    Widen,
    /// The text can't hold every character yet.
    Convert,
}

struct Column {
    kind: String,
    default: Option<String>,
    charset: Option<String>,
    extra: String,
}

/// Steps that are tried before giving up; far more than there are.
const MAX_STEPS: usize = 50;
/// The added columns and their types, in the order in which they stand in `message.sql`.
const ADDED: [(&str, &str); 3] =
    [("created_at", "datetime(6)"), ("edited_at", "datetime(6)"), ("submit_key", "binary(16)")];

impl Client {
    /// How the table looks.
    pub fn shape(&mut self) -> Result<SchemaState, Error> {
        self.run(|connection, _| if is_known(connection)? { Ok(SchemaState::Current) } else { look(connection) })
    }

    /// Creates or upgrades the table until its shape is right; `report` is told of each step before it is taken.
    pub fn prepare_table(&mut self, report: impl Fn(&str)) -> Result<(), Error> {
        for _ in 0..MAX_STEPS {
            match self.shape()? {
                SchemaState::Current => return Ok(()),
                SchemaState::Incompatible(reason) => return Err(Error::Refused(reason)),
                SchemaState::Missing => {
                    report("creating the table");
                    self.take_step(&statements(MESSAGE_SQL))?;
                }
                SchemaState::Needs(step) => {
                    report(step.describe());
                    self.take_step(&[step.statement()])?;
                }
            }
        }
        Err(Error::Refused("the table messages does not get into shape; is another program changing it?".to_owned()))
    }

    fn take_step(&mut self, statements: &[String]) -> Result<(), Error> {
        self.run(|connection, _| {
            for statement in statements {
                match connection.next()?.query_drop(statement) {
                    Ok(()) => {}
                    // The table, the column or the key is there: another replica was faster.
                    Err(mysql::Error::MySqlError(error)) if matches!(error.code, 1050 | 1060 | 1061) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }
}

impl Step {
    fn describe(&self) -> &'static str {
        match self {
            Step::AddColumns(_) => "adding columns to the table",
            Step::SetDefault => "having new rows get their time",
            Step::AddKey => "adding the submit key to the table",
            Step::Widen => "making room for long messages",
            Step::Convert => "converting the table to utf8mb4",
        }
    }

    fn statement(&self) -> String {
        match self {
            Step::AddColumns(names) => {
                let added = ADDED.iter().filter(|(name, _)| names.contains(name));
                let columns: Vec<_> = added.map(|(name, kind)| format!("ADD COLUMN {name} {kind} NULL")).collect();
                format!("ALTER TABLE messages {}", columns.join(", "))
            }
            Step::SetDefault => {
                "ALTER TABLE messages ALTER COLUMN created_at SET DEFAULT (UTC_TIMESTAMP(6))".to_owned()
            }
            Step::AddKey => "ALTER TABLE messages ADD UNIQUE KEY submit_key (submit_key)".to_owned(),
            Step::Widen => "ALTER TABLE messages MODIFY message TEXT NULL".to_owned(),
            // It widens the column where the text could grow beyond it, so that nothing is cut.
            Step::Convert => "ALTER TABLE messages CONVERT TO CHARACTER SET utf8mb4".to_owned(),
        }
    }
}

/// Whether the server describes the table in the very words that it has for one of ours: nearly every start finds one, and
/// the closer look takes the server ten times as long.
fn is_known(connection: &mut Connection) -> Result<bool, mysql::Error> {
    match connection.next()?.query_first::<Row, _>(KNOWN) {
        // A view is described in other columns.
        Ok(row) => {
            let description = row.and_then(|mut row| row.take_opt::<String, _>(1)?.ok());
            Ok(description.is_some_and(|description| describes_ours(&description)))
        }
        // It is not there, or may not be described; the closer look tells.
        Err(mysql::Error::MySqlError(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn describes_ours(description: &str) -> bool {
    let lines: Vec<&str> = description.lines().map(|line| line.trim().trim_end_matches(',')).collect();
    let any = |known: &[&str]| known.iter().any(|known| lines.contains(known));
    any(&[
        "`id` bigint unsigned NOT NULL AUTO_INCREMENT",
        "`id` bigint(20) unsigned NOT NULL AUTO_INCREMENT",
        "`id` int NOT NULL AUTO_INCREMENT",
        "`id` int(11) NOT NULL AUTO_INCREMENT",
    ]) && any(&["`message` text NOT NULL", "`message` text", "`message` text DEFAULT NULL"])
        && any(&[
            "`created_at` datetime(6) DEFAULT (utc_timestamp(6))",
            "`created_at` datetime(6) DEFAULT utc_timestamp(6)",
        ])
        && any(&["`edited_at` datetime(6) DEFAULT NULL"])
        && any(&["`submit_key` binary(16) DEFAULT NULL"])
        && any(&["PRIMARY KEY (`id`)"])
        && any(&["UNIQUE KEY `submit_key` (`submit_key`)"])
        && lines.last().is_some_and(|last| {
            // A comment, which may say anything, is what is quoted.
            let options = last.split('\'').next().unwrap_or_default();
            options.starts_with(") ") && options.split(' ').any(|option| option == "CHARSET=utf8mb4")
        })
}

/// Looks at the table closely.
fn look(connection: &mut Connection) -> Result<SchemaState, mysql::Error> {
    type Description = (String, String, Option<String>, Option<String>, Option<String>);
    let columns: Vec<Description> = connection.next()?.query(COLUMNS)?;
    let columns: HashMap<String, Column> = columns
        .into_iter()
        .map(|(name, kind, default, charset, extra)| {
            let extra = extra.unwrap_or_default().to_ascii_lowercase();
            (name.to_ascii_lowercase(), Column { kind: kind.to_ascii_lowercase(), default, charset, extra })
        })
        .collect();
    let keys: Vec<(String, String)> = connection.next()?.query(UNIQUE_KEYS)?;
    let keys: Vec<String> = keys.into_iter().map(|(_, columns)| columns.to_ascii_lowercase()).collect();
    Ok(judge(&columns, &keys))
}

fn judge(columns: &HashMap<String, Column>, unique_keys: &[String]) -> SchemaState {
    if columns.is_empty() {
        return SchemaState::Missing;
    }
    let foreign = |name: &str, found: &str, want: &str| {
        SchemaState::Incompatible(format!(
            "the table messages is not one of ours: its column {name} is {found}, and should be {want}"
        ))
    };
    let (Some(id), Some(message)) = (columns.get("id"), columns.get("message")) else {
        return SchemaState::Incompatible(
            "the table messages is not one of ours: it has no columns id and message".to_owned(),
        );
    };
    if !id.kind.contains("int") || !unique_keys.iter().any(|key| key == "id") {
        return foreign("id", &id.kind, "an integer and a unique key");
    }
    if !id.extra.contains("auto_increment") {
        return foreign("id", "without AUTO_INCREMENT", "with it");
    }
    if !message.kind.contains("text") && !message.kind.contains("char") {
        return foreign("message", &message.kind, "text");
    }
    for (name, kind) in ADDED {
        if let Some(column) = columns.get(name)
            && column.kind != kind
        {
            return foreign(name, &column.kind, kind);
        }
    }
    let missing: Vec<_> = ADDED.iter().map(|(name, _)| *name).filter(|name| !columns.contains_key(*name)).collect();
    if !missing.is_empty() {
        return SchemaState::Needs(Step::AddColumns(missing));
    }
    let default = columns.get("created_at").and_then(|column| column.default.as_deref());
    if !default.is_some_and(|default| default.to_ascii_lowercase().contains("utc_timestamp")) {
        return SchemaState::Needs(Step::SetDefault);
    }
    if !unique_keys.iter().any(|key| key == "submit_key") {
        return SchemaState::Needs(Step::AddKey);
    }
    if message.kind.contains("char") || message.kind == "tinytext" {
        return SchemaState::Needs(Step::Widen);
    }
    if message.charset.as_deref() != Some("utf8mb4") {
        return SchemaState::Needs(Step::Convert);
    }
    SchemaState::Current
}

/// The statements of an SQL file of ours: no semicolon stands inside one.
fn statements(sql: &str) -> Vec<String> {
    let code: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    code.join("\n").split(';').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

/// What a look at the server's settings and at our rights says, for a person.
#[derive(Debug, Clone)]
pub struct Grants {
    /// `SHOW GRANTS`, a line each.
    pub lines: Vec<String>,
    /// `innodb_flush_log_at_trx_commit`.
    pub flush_log: String,
}

impl Client {
    /// The rights of this user, and whether commits are durable.
    pub fn grants(&mut self) -> Result<Grants, Error> {
        self.run(|connection, _| {
            let lines = connection.next()?.query("SHOW GRANTS")?;
            let flush_log: Option<String> =
                connection.next()?.query_first("SELECT @@innodb_flush_log_at_trx_commit LIMIT 1")?;
            Ok(Grants { lines, flush_log: flush_log.unwrap_or_default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_sql_is_split_into_what_it_says() {
        let statements = statements(MESSAGE_SQL);
        assert_eq!(statements.len(), 2);
        assert_eq!(statements[0], "SET NAMES utf8mb4");
        assert!(statements[1].starts_with("CREATE TABLE IF NOT EXISTS messages ("), "{}", statements[1]);
        assert!(
            MESSAGE_SQL.lines().find(|line| !line.is_empty() && !line.starts_with("--")) == Some("SET NAMES utf8mb4;")
        );
    }

    #[test]
    fn a_table_of_ours_is_known_by_its_description_and_no_other_is() {
        let ours = |id: &str, message: &str, default: &str, charset: &str| {
            format!(
                "CREATE TABLE `messages` (\n  `id` {id} NOT NULL AUTO_INCREMENT,\n  `message` {message},\n  \
                 `created_at` datetime(6) DEFAULT {default},\n  `edited_at` datetime(6) DEFAULT NULL,\n  \
                 `submit_key` binary(16) DEFAULT NULL,\n  PRIMARY KEY (`id`),\n  \
                 UNIQUE KEY `submit_key` (`submit_key`)\n) ENGINE=InnoDB AUTO_INCREMENT=8 DEFAULT CHARSET={charset}"
            )
        };
        let mariadb =
            ours("bigint(20) unsigned", "text NOT NULL", "utc_timestamp(6)", "utf8mb4 COLLATE=utf8mb4_general_ci");
        let mysql = ours("int", "text", "(utc_timestamp(6))", "utf8mb4 COLLATE=utf8mb4_0900_ai_ci");
        assert!(describes_ours(&mariadb) && describes_ours(&mysql));
        assert!(describes_ours(&mysql.replace("UNIQUE", "KEY `mine` (`created_at`),\n  UNIQUE")), "an index more");
        for line in mariadb.lines().skip(1) {
            assert!(!describes_ours(&mariadb.replace(line, "")), "without {line}");
        }
        for (part, other) in [
            ("text NOT NULL", "varchar(255) NOT NULL"),
            ("text NOT NULL", "text CHARACTER SET latin1 NOT NULL"),
            ("CHARSET=utf8mb4", "CHARSET=latin1"),
            ("CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci", "CHARSET=latin1 COMMENT='was DEFAULT CHARSET=utf8mb4'"),
            ("CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci", "CHARSET=latin1 COMMENT='was CHARSET=utf8mb4 '"),
            ("utc_timestamp(6)", "current_timestamp(6)"),
            ("datetime(6) DEFAULT NULL", "datetime DEFAULT NULL"),
            ("UNIQUE KEY", "KEY"),
            ("(`submit_key`)", "(`submit_key`,`id`)"),
        ] {
            assert!(!describes_ours(&mariadb.replace(part, other)), "{part} -> {other}");
        }
    }

    #[test]
    fn a_table_of_somebody_else_is_left_alone() {
        let columns = |list: &[(&str, &str)]| -> HashMap<String, Column> {
            let column = |kind: &str| Column {
                kind: kind.trim_end_matches(" auto_increment").to_owned(),
                default: None,
                charset: Some("utf8mb4".to_owned()),
                extra: kind.to_owned(),
            };
            list.iter().map(|(name, kind)| ((*name).to_owned(), column(kind))).collect()
        };
        let id = ["id".to_owned()];
        let foreign = |list: &[(&str, &str)], keys: &[String]| {
            matches!(judge(&columns(list), keys), SchemaState::Incompatible(_))
        };
        let number = ("id", "int(11) auto_increment");
        assert!(foreign(&[("uuid", "char(36)"), ("message", "text")], &id));
        assert!(foreign(&[("id", "char(36)"), ("message", "text")], &id));
        assert!(foreign(&[number, ("message", "text")], &[]), "an id that is not unique");
        assert!(foreign(&[("id", "int"), ("message", "text")], &id), "an id that nobody counts up");
        assert!(foreign(&[number, ("message", "blob")], &id));
        assert!(foreign(&[number, ("message", "text"), ("created_at", "timestamp")], &id));
        assert!(!foreign(&[number, ("message", "varchar(255)")], &id));
        assert_eq!(judge(&HashMap::new(), &[]), SchemaState::Missing);
    }
}
