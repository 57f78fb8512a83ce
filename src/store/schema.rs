//! The table as it is: its columns, keys and engine, and what they mean for this service. Never changes it.

use mysql::Row;
use mysql::prelude::Queryable;

use super::connection::Connection;
use super::create_table::{Column, CreateTable, Key};
use super::migration_step::{ADDED, Step, create_statements};

/// What the table is like, compared with what this service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaState {
    /// It has its current shape.
    Current,
    /// It does not exist.
    Missing,
    /// This step of the migration is the next one.
    Needs(Step),
    /// This service can't use it; the text says why, and which statement would change that.
    Incompatible(String),
}

/// A description of the table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Nothing when the table does not exist.
    create: Option<CreateTable>,
    is_view: bool,
}

const CREATE: &str = "SHOW CREATE TABLE messages";
/// Only for a start: see [`super::create_table`].
const TRIGGERS: &str = "SELECT COUNT(*) FROM information_schema.triggers \
    WHERE event_object_schema = DATABASE() AND event_object_table = 'messages' LIMIT 1";

impl SchemaState {
    /// The statements that the next step of the migration would run.
    pub fn statements(&self) -> Vec<String> {
        match self {
            SchemaState::Current | SchemaState::Incompatible(_) => Vec::new(),
            SchemaState::Missing => create_statements(),
            SchemaState::Needs(step) => step.statements(),
        }
    }
}

impl Table {
    pub(super) fn describe(connection: &mut Connection) -> Result<Table, mysql::Error> {
        match connection.conn()?.query_first::<Row, _>(CREATE) {
            Ok(Some(mut row)) => {
                let is_view = row.columns_ref().first().is_some_and(|column| column.name_str() == "View");
                let statement: String = row.take_opt(1).and_then(Result::ok).unwrap_or_default();
                Ok(Table { create: Some(CreateTable::parse(&statement)), is_view })
            }
            Ok(None) => Ok(Table::default()),
            Err(mysql::Error::MySqlError(error)) if error.code == 1146 => Ok(Table::default()),
            Err(error) => Err(error),
        }
    }

    /// Whether the table has triggers, as far as this user may see them.
    pub(super) fn has_triggers(connection: &mut Connection) -> Result<bool, mysql::Error> {
        let unlimited =
            if connection.info.version.is_mariadb() { "SET STATEMENT max_statement_time = 0 FOR " } else { "" };
        let count: Option<u64> = connection.conn()?.query_first(format!("{unlimited}{TRIGGERS}"))?;
        Ok(count.is_some_and(|count| count > 0))
    }

    /// What is to be done with the table. `take_over` accepts columns that are not this service's.
    pub fn state(&self, take_over: bool) -> SchemaState {
        let Some(table) = &self.create else { return SchemaState::Missing };
        if let Some(reason) = self.incompatibility(table, take_over) {
            return SchemaState::Incompatible(format!("the table messages can't be used: {reason}"));
        }
        table.next_step().map_or(SchemaState::Current, SchemaState::Needs)
    }

    /// Whether each row must have a time.
    pub(super) fn needs_time(&self) -> bool {
        let created_at = self.create.as_ref().and_then(|table| table.column("created_at"));
        created_at.is_some_and(|column| column.attributes.contains("not null"))
    }

    /// Whether the engine keeps what it has committed.
    pub fn is_durable(&self) -> bool {
        self.create.as_ref().is_none_or(CreateTable::is_durable)
    }

    /// The name of the engine.
    pub fn engine(&self) -> &str {
        self.create.as_ref().map_or("", |table| &table.engine)
    }

    /// Whether the next row would get no id.
    pub fn is_out_of_ids(&self) -> bool {
        let Some(table) = &self.create else { return false };
        // InnoDB never gives the largest number to a row.
        table.column("id").zip(table.next_id).is_some_and(|(id, next)| next >= max_id(&id.kind))
    }

    /// What prevents the use of the table, with the statement that changes it.
    fn incompatibility(&self, table: &CreateTable, take_over: bool) -> Option<String> {
        let alter = |problem: String, change: &str| Some(format!("{problem}; run: ALTER TABLE messages {change}"));
        let rename = |problem: &str| Some(format!("{problem}; run: RENAME TABLE messages TO old_messages"));
        if self.is_view {
            return rename("it is a view");
        }
        let (Some(id), Some(message)) = (table.column("id"), table.column("message")) else {
            return rename("it has no columns id and message");
        };
        if !id.kind.contains("int") {
            return rename(&format!("its column id is {}, not an integer", id.kind));
        }
        // In MariaDB, JSON is a text with a check.
        let kind = if message.attributes.contains("json_valid") { "json" } else { &message.kind };
        if !kind.contains("text") && !kind.contains("char") {
            return rename(&format!("its column message is {kind}, not text"));
        }
        if !table.keys.iter().any(|key| key.is_unique && key.columns == ["id"]) {
            let has_primary = table.keys.iter().any(|key| key.name == "PRIMARY");
            let kind = if has_primary { "UNIQUE" } else { "PRIMARY" };
            return alter("its column id is no key".to_owned(), &format!("ADD {kind} KEY (id)"));
        }
        if !id.attributes.contains("auto_increment") {
            let change = "MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT";
            return alter("its column id has no AUTO_INCREMENT".to_owned(), change);
        }
        let is_time = |kind: &str| kind.starts_with("timestamp") || kind.starts_with("datetime");
        for (name, kind) in &ADDED {
            let Some(column) = table.column(name) else { continue };
            if column.kind != *kind && !(*name == "created_at" && is_time(&column.kind)) {
                let problem = format!("its column {name} is {}, not {kind}", column.kind);
                return alter(problem, &format!("RENAME COLUMN {name} TO old_{name}"));
            }
        }
        if !["innodb", "myisam", "aria"].contains(&table.engine.as_str()) {
            let problem = format!("its engine is {}, which this service does not know", table.engine);
            return alter(problem, "ENGINE = InnoDB");
        }
        if table.is_partitioned {
            return alter("it is partitioned".to_owned(), "REMOVE PARTITIONING");
        }
        if table.is_versioned {
            return alter("it keeps old versions of its rows".to_owned(), "DROP SYSTEM VERSIONING");
        }
        if let Some(key) = table.keys.iter().find(|key| table.is_obstacle(key)) {
            let problem = format!("its key on {} prevents some messages", key.columns.join(", "));
            return alter(problem, &format!("DROP KEY `{}`", key.name));
        }
        table.foreign_columns(take_over)
    }
}

impl CreateTable {
    /// Whether a key prevents a message that another one equals, or a text that is longer than a key can be.
    fn is_obstacle(&self, key: &Key) -> bool {
        let is_distinct = |name: &String| {
            ["id", "submit_key"].contains(&name.as_str()) || self.column(name).is_some_and(Column::may_be_distinct)
        };
        if key.is_unique && !key.columns.iter().any(is_distinct) {
            return true;
        }
        key.columns.iter().any(|name| name == "message")
    }

    fn foreign_columns(&self, take_over: bool) -> Option<String> {
        let foreign: Vec<&Column> = self.columns.iter().filter(|column| !is_own(&column.name)).collect();
        if let Some(column) = foreign.iter().find(|column| column.needs_value()) {
            let name = &column.name;
            let fix = format!("ALTER TABLE messages MODIFY {name} {} NULL", column.kind);
            return Some(format!("its column {name} needs a value in each row; run: {fix}"));
        }
        if foreign.is_empty() || take_over || self.column("submit_key").is_some() {
            return None;
        }
        let names: Vec<&str> = foreign.iter().map(|column| column.name.as_str()).collect();
        Some(format!("it has other columns ({}); set TAKE_OVER=on to use it nevertheless", names.join(", ")))
    }

    fn next_step(&self) -> Option<Step> {
        let created_at = self.column("created_at");
        if let Some(step) = created_at.and_then(|created_at| self.time_step(created_at)) {
            return Some(step);
        }
        let is_missing = |name: &&str| self.column(name).is_none();
        let missing: Vec<_> = ADDED.iter().map(|(name, _)| *name).filter(is_missing).collect();
        if !missing.is_empty() {
            return Some(Step::AddColumns(missing));
        }
        if !created_at.is_some_and(Column::has_utc_default) {
            return Some(Step::SetDefault);
        }
        if !self.is_durable() {
            return Some(Step::ConvertEngine);
        }
        if !self.keys.iter().any(|key| key.is_unique && key.columns == ["submit_key"]) {
            return Some(Step::AddKey);
        }
        let message = self.column("message")?;
        if message.kind.contains("char") || message.kind == "tinytext" {
            return Some(Step::WidenMessage);
        }
        if message.charset != "utf8mb4" {
            return Some(Step::ConvertCharset);
        }
        // The last step, because it is left out where foreign keys prevent it.
        let id = self.column("id").filter(|id| !id.kind.starts_with("bigint"))?;
        Some(Step::WidenId { unsigned: id.kind.contains("unsigned") })
    }

    /// A time column that began as another program's is converted by way of TIMESTAMP, which has no zone of its own.
    fn time_step(&self, created_at: &Column) -> Option<Step> {
        let is_moment = created_at.kind.starts_with("timestamp");
        let is_own = created_at.has_utc_default() || self.column("submit_key").is_some();
        if !is_moment && !is_own {
            return Some(Step::LocalTimeToTimestamp);
        }
        (created_at.kind != "datetime(6)").then_some(Step::TimeToUtc)
    }

    fn is_durable(&self) -> bool {
        self.engine == "innodb"
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Column {
    fn has_utc_default(&self) -> bool {
        self.attributes.contains("utc_timestamp")
    }

    /// Whether it is another program's, and may differ in each row that does not name it.
    fn may_be_distinct(&self) -> bool {
        let is_computed = ["generated", " as ("].iter().any(|word| self.attributes.contains(word));
        let default = self.attributes.split_once("default ").map_or("", |(_, default)| default);
        let is_constant = default.starts_with(|c: char| c == '\'' || c == '-' || c.is_ascii_digit());
        !is_own(&self.name) && !is_computed && !is_constant && !default.starts_with("current_timestamp")
    }

    /// Whether an INSERT that does not name it fails.
    fn needs_value(&self) -> bool {
        let fills_itself = ["default", "auto_increment", "generated", " as ("];
        self.attributes.contains("not null") && !fills_itself.iter().any(|word| self.attributes.contains(word))
    }
}

fn is_own(name: &str) -> bool {
    ["id", "message"].contains(&name) || ADDED.iter().any(|(added, _)| *added == name)
}

/// The largest number of an integer type.
fn max_id(kind: &str) -> u64 {
    let bytes: u32 = [("tinyint", 1), ("smallint", 2), ("mediumint", 3), ("bigint", 8)]
        .into_iter()
        .find(|(name, _)| kind.starts_with(name))
        .map_or(4, |(_, bytes)| bytes);
    let signed = !kind.contains("unsigned");
    u64::MAX >> (64 - bytes * 8 + u32::from(signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: &str = "CREATE TABLE `messages` (\n  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,\n  \
        `message` text NOT NULL,\n  `created_at` datetime(6) DEFAULT utc_timestamp(6),\n  \
        `edited_at` datetime(6) DEFAULT NULL,\n  `submit_key` binary(16) DEFAULT NULL,\n  PRIMARY KEY (`id`),\n  \
        UNIQUE KEY `submit_key` (`submit_key`)\n) ENGINE=InnoDB AUTO_INCREMENT=8 DEFAULT CHARSET=utf8mb4";
    const FLASK: &str = "CREATE TABLE `messages` (\n  `id` int(11) NOT NULL AUTO_INCREMENT,\n  `message` text DEFAULT NULL,\n  \
        PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT CHARSET=latin1";

    fn table(statement: &str) -> Table {
        Table { create: Some(CreateTable::parse(statement)), is_view: false }
    }

    /// The state of `statement` with `part` replaced by `other`.
    #[track_caller]
    fn state(statement: &str, part: &str, other: &str) -> SchemaState {
        assert!(statement.contains(part), "{part}");
        table(&statement.replace(part, other)).state(false)
    }

    #[test]
    fn each_difference_from_the_current_shape_has_its_step() {
        assert_eq!(table(CURRENT).state(false), SchemaState::Current);
        let mysql = CURRENT.replace("bigint(20)", "bigint").replace("utc_timestamp(6)", "(utc_timestamp(6))");
        assert_eq!(table(&mysql).state(false), SchemaState::Current);
        for (part, other, step) in [
            ("DEFAULT utc_timestamp(6)", "DEFAULT NULL", Step::SetDefault),
            ("`created_at` datetime(6)", "`created_at` timestamp NULL", Step::TimeToUtc),
            ("`created_at` datetime(6)", "`created_at` datetime", Step::TimeToUtc),
            ("ENGINE=InnoDB", "ENGINE=MyISAM", Step::ConvertEngine),
            ("UNIQUE KEY", "KEY", Step::AddKey),
            ("bigint(20) unsigned", "int(11)", Step::WidenId { unsigned: false }),
            ("bigint(20) unsigned", "mediumint unsigned", Step::WidenId { unsigned: true }),
            ("text NOT NULL", "varchar(255) NOT NULL", Step::WidenMessage),
            ("text NOT NULL", "text CHARACTER SET latin1 NOT NULL", Step::ConvertCharset),
            ("CHARSET=utf8mb4", "CHARSET=utf8mb3 COMMENT='CHARSET=utf8mb4'", Step::ConvertCharset),
            ("  `submit_key` binary(16) DEFAULT NULL,\n", "", Step::AddColumns(vec!["submit_key"])),
        ] {
            assert_eq!(state(CURRENT, part, other), SchemaState::Needs(step), "{other}");
        }
        let added = vec!["created_at", "edited_at", "submit_key"];
        assert_eq!(table(FLASK).state(false), SchemaState::Needs(Step::AddColumns(added)));
        assert_eq!(Table::default().state(false), SchemaState::Missing);
    }

    #[test]
    fn a_time_of_another_program_is_converted_before_columns_are_added() {
        let with_time = |time: &str| state(FLASK, "  PRIMARY", &format!("  `created_at` {time},\n  PRIMARY"));
        assert_eq!(with_time("datetime DEFAULT current_timestamp()"), SchemaState::Needs(Step::LocalTimeToTimestamp));
        assert_eq!(with_time("timestamp(6) NULL DEFAULT NULL"), SchemaState::Needs(Step::TimeToUtc));
        let added = Step::AddColumns(vec!["edited_at", "submit_key"]);
        assert_eq!(with_time("datetime(6) DEFAULT (utc_timestamp(6))"), SchemaState::Needs(added));
    }

    #[test]
    fn a_table_of_another_kind_is_refused_with_the_statement_that_changes_it() {
        for (part, other, words) in [
            ("`id` int(11)", "`uuid` char(36)", "RENAME TABLE"),
            ("`id` int(11)", "`id` char(36)", "char(36)"),
            ("PRIMARY KEY", "KEY `k`", "ADD PRIMARY KEY (id)"),
            (" AUTO_INCREMENT", "", "AUTO_INCREMENT"),
            ("`message` text", "`message` blob", "blob"),
            ("  PRIMARY", "  `created_at` int(11),\n  PRIMARY", "created_at"),
            ("  PRIMARY", "  `edited_at` timestamp NULL,\n  PRIMARY", "edited_at"),
            ("  PRIMARY", "  `author` varchar(20) DEFAULT NULL,\n  PRIMARY", "TAKE_OVER=on"),
            ("  PRIMARY", "  `author` varchar(20) NOT NULL,\n  PRIMARY", "MODIFY author varchar(20) NULL"),
            ("ENGINE=InnoDB", "ENGINE=CSV", "ENGINE = InnoDB"),
            ("latin1", "latin1\n PARTITION BY HASH (`id`)", "REMOVE PARTITIONING"),
            ("latin1", "latin1 WITH SYSTEM VERSIONING", "DROP SYSTEM VERSIONING"),
            ("KEY (`id`)", "KEY (`id`),\n  UNIQUE KEY `same` (`message`(100))", "DROP KEY `same`"),
            ("KEY (`id`)", "KEY (`id`),\n  KEY `all` (`message`)", "DROP KEY `all`"),
        ] {
            match state(FLASK, part, other) {
                SchemaState::Incompatible(reason) => assert!(reason.contains(words), "{reason}"),
                state => panic!("{other}: {state:?}"),
            }
        }
        let view = Table { is_view: true, ..table("CREATE VIEW `messages` AS select 1 AS `id`") };
        assert!(matches!(view.state(false), SchemaState::Incompatible(reason) if reason.contains("view")));
    }

    #[test]
    fn other_columns_are_accepted_on_request_and_in_a_table_that_was_taken_over() {
        let author =
            |statement: &str| table(&statement.replace("  PRIMARY", "  `author` text DEFAULT NULL,\n  PRIMARY"));
        assert!(matches!(author(FLASK).state(true), SchemaState::Needs(_)));
        assert_eq!(author(CURRENT).state(false), SchemaState::Current);
    }

    #[test]
    fn a_table_is_out_of_ids_at_the_largest_number_of_its_type() {
        let out_of_ids = |kind: &str, next: u64| {
            let statement = CURRENT.replace("bigint(20) unsigned", kind).replace("MENT=8", &format!("MENT={next}"));
            table(&statement).is_out_of_ids()
        };
        for (kind, max) in [
            ("tinyint(4)", 127),
            ("int(11)", 2_147_483_647),
            ("int unsigned", 4_294_967_295),
            ("bigint(20)", i64::MAX as u64),
            ("bigint unsigned", u64::MAX),
        ] {
            assert!(out_of_ids(kind, max) && !out_of_ids(kind, max - 1), "{kind}");
        }
    }
}
