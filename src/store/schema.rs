//! The table as it is: its columns, keys and engine, and what they mean for this service. Never changes it.

use mysql::prelude::Queryable;

use super::connection::Connection;
use super::migration::Step;

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
    columns: Vec<Column>,
    /// The columns of each unique key, joined by commas.
    unique_keys: Vec<String>,
    engine: String,
    is_view: bool,
    /// The next id, as far as the server reports it.
    next_id: Option<u64>,
    /// Foreign keys of other tables that refer to it.
    references: Vec<String>,
    /// Whether triggers change it, as far as this user may see them.
    pub has_triggers: bool,
}

#[derive(Debug, Clone)]
struct Column {
    name: String,
    /// The type with its length, in lower case.
    kind: String,
    default: Option<String>,
    charset: Option<String>,
    extra: String,
    is_nullable: bool,
}

/// The columns that a message has beside its id and text, with their types, in the order of `message.sql`.
pub(super) const ADDED: [(&str, &str); 3] =
    [("created_at", "datetime(6)"), ("edited_at", "datetime(6)"), ("submit_key", "binary(16)")];

const COLUMNS: &str = "SELECT column_name, column_type, column_default, character_set_name, extra, is_nullable \
    FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'messages' \
    ORDER BY ordinal_position LIMIT 1000";
const UNIQUE_KEYS: &str = "SELECT index_name, GROUP_CONCAT(column_name ORDER BY seq_in_index) \
    FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'messages' AND non_unique = 0 \
    GROUP BY index_name ORDER BY index_name LIMIT 1000";
const TABLE: &str = "SELECT engine, table_type, auto_increment FROM information_schema.tables \
    WHERE table_schema = DATABASE() AND table_name = 'messages' ORDER BY table_name LIMIT 1";
const REFERENCES: &str = "SELECT CONCAT(table_name, '.', constraint_name) FROM information_schema.key_column_usage \
    WHERE referenced_table_schema = DATABASE() AND referenced_table_name = 'messages' \
    ORDER BY table_name, constraint_name LIMIT 100";
const TRIGGERS: &str = "SELECT COUNT(*) FROM information_schema.triggers \
    WHERE event_object_schema = DATABASE() AND event_object_table = 'messages' LIMIT 1";

impl Table {
    /// Reads the description of the table. Without columns it does not exist.
    pub(super) fn describe(connection: &mut Connection) -> Result<Table, mysql::Error> {
        type ColumnRow = (String, String, Option<String>, Option<String>, Option<String>, String);
        let columns: Vec<ColumnRow> = connection.conn()?.query(COLUMNS)?;
        let columns = columns.into_iter().map(|(name, kind, default, charset, extra, nullable)| Column {
            name: name.to_ascii_lowercase(),
            kind: kind.to_ascii_lowercase(),
            default,
            charset,
            extra: extra.unwrap_or_default().to_ascii_lowercase(),
            is_nullable: nullable.eq_ignore_ascii_case("YES"),
        });
        let columns = columns.collect();
        let keys: Vec<(String, String)> = connection.conn()?.query(UNIQUE_KEYS)?;
        let unique_keys = keys.into_iter().map(|(_, columns)| columns.to_ascii_lowercase()).collect();
        let table: Option<(Option<String>, String, Option<u64>)> = connection.conn()?.query_first(TABLE)?;
        let (engine, kind, next_id) = table.unwrap_or_default();
        let references = connection.conn()?.query(REFERENCES)?;
        let triggers: Option<u64> = connection.conn()?.query_first(TRIGGERS)?;
        Ok(Table {
            columns,
            unique_keys,
            engine: engine.unwrap_or_default(),
            is_view: kind.to_ascii_uppercase().contains("VIEW"),
            next_id,
            references,
            has_triggers: triggers.is_some_and(|count| count > 0),
        })
    }

    /// What is to be done with the table. `take_over` accepts columns that are not this service's.
    pub fn state(&self, take_over: bool) -> SchemaState {
        if self.columns.is_empty() {
            return SchemaState::Missing;
        }
        if let Some(reason) = self.incompatibility(take_over) {
            return SchemaState::Incompatible(format!("the table messages can't be used: {reason}"));
        }
        self.next_step().map_or(SchemaState::Current, SchemaState::Needs)
    }

    /// What works, and should be known all the same.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.has_narrow_id() && !self.references.is_empty() {
            warnings.push(format!(
                "the column id can't be widened to BIGINT, because foreign keys refer to it: {}; drop them, restart this \
                 service, and add them again",
                self.references.join(", ")
            ));
        }
        warnings
    }

    /// Whether the engine keeps what it has committed.
    pub fn is_durable(&self) -> bool {
        self.engine.eq_ignore_ascii_case("innodb")
    }

    /// The name of the engine.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// Whether the next row would get no id.
    pub fn is_out_of_ids(&self) -> bool {
        let Some(id) = self.column("id") else { return false };
        // The largest number itself is never given to a row of InnoDB's.
        self.next_id.is_some_and(|next| next >= max_id(&id.kind))
    }

    fn incompatibility(&self, take_over: bool) -> Option<String> {
        if self.is_view {
            return Some("it is a view; rename the view, or set MYSQL_DB to another database".to_owned());
        }
        let (Some(id), Some(message)) = (self.column("id"), self.column("message")) else {
            return Some(
                "it has no columns id and message; rename it: RENAME TABLE messages TO old_messages".to_owned(),
            );
        };
        if !id.kind.contains("int") {
            return Some(format!("its column id is {}, not an integer", id.kind));
        }
        if !self.unique_keys.iter().any(|key| key == "id") {
            let keyless = "its column id is no key; run: ALTER TABLE messages ADD PRIMARY KEY (id)";
            return Some(keyless.to_owned());
        }
        if !id.extra.contains("auto_increment") {
            let fix = "ALTER TABLE messages MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT";
            return Some(format!("its column id has no AUTO_INCREMENT; run: {fix}"));
        }
        if !message.kind.contains("text") && !message.kind.contains("char") {
            return Some(format!("its column message is {}, not text", message.kind));
        }
        if let Some(created_at) = self.column("created_at")
            && !created_at.kind.starts_with("timestamp")
            && !created_at.kind.starts_with("datetime")
        {
            return Some(format!("its column created_at is {}, not a time", created_at.kind));
        }
        for (name, kind) in &ADDED[1..] {
            if let Some(column) = self.column(name)
                && column.kind != *kind
            {
                return Some(format!("its column {name} is {}, not {kind}", column.kind));
            }
        }
        if !["innodb", "myisam", "aria"].contains(&self.engine.to_ascii_lowercase().as_str()) {
            let fix = "ALTER TABLE messages ENGINE = InnoDB";
            return Some(format!("its engine is {}, which this service does not know; run: {fix}", self.engine));
        }
        self.foreign_columns(take_over)
    }

    fn foreign_columns(&self, take_over: bool) -> Option<String> {
        let is_own = |name: &str| ["id", "message"].contains(&name) || ADDED.iter().any(|(added, _)| *added == name);
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
        Some(format!("it has other columns ({}); set TAKE_OVER=on to use it all the same", names.join(", ")))
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
        if !self.unique_keys.iter().any(|key| key == "submit_key") {
            return Some(Step::AddKey);
        }
        if self.has_narrow_id() && self.references.is_empty() {
            return Some(Step::WidenId { unsigned: self.column("id").is_some_and(|id| id.kind.contains("unsigned")) });
        }
        let message = self.column("message")?;
        if message.kind.contains("char") || message.kind == "tinytext" {
            return Some(Step::WidenMessage);
        }
        (message.charset.as_deref() != Some("utf8mb4")).then_some(Step::ConvertCharset)
    }

    /// A time column that began as another program's is converted by way of TIMESTAMP, which has no zone of its own.
    fn time_step(&self, created_at: &Column) -> Option<Step> {
        if created_at.kind.starts_with("timestamp") {
            return Some(Step::TimestampToUtc);
        }
        let is_own = created_at.has_utc_default() || self.column("submit_key").is_some();
        match (is_own, created_at.kind == "datetime(6)") {
            (true, true) => None,
            (true, false) => Some(Step::WidenTime),
            (false, _) => Some(Step::LocalTimeToTimestamp),
        }
    }

    fn has_narrow_id(&self) -> bool {
        self.column("id").is_some_and(|id| !id.kind.starts_with("bigint"))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Column {
    fn has_utc_default(&self) -> bool {
        self.default.as_deref().is_some_and(|default| default.to_ascii_lowercase().contains("utc_timestamp"))
    }

    /// Whether an INSERT that does not name it fails.
    fn needs_value(&self) -> bool {
        let fills_itself = ["auto_increment", "generated", "default_generated"].iter().any(|e| self.extra.contains(e));
        !self.is_nullable && self.default.is_none() && !fills_itself
    }
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

    fn column(name: &str, kind: &str) -> Column {
        let (kind, extra) = match kind.strip_suffix(" auto_increment") {
            Some(kind) => (kind, "auto_increment"),
            None => (kind, ""),
        };
        Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            default: None,
            charset: Some("utf8mb4".to_owned()),
            extra: extra.to_owned(),
            is_nullable: true,
        }
    }

    fn table(columns: &[(&str, &str)], unique_keys: &[&str]) -> Table {
        Table {
            columns: columns.iter().map(|(name, kind)| column(name, kind)).collect(),
            unique_keys: unique_keys.iter().map(|key| (*key).to_owned()).collect(),
            engine: "InnoDB".to_owned(),
            ..Table::default()
        }
    }

    const ID: (&str, &str) = ("id", "int(11) auto_increment");
    const TEXT: (&str, &str) = ("message", "text");

    fn current() -> Table {
        let added = ADDED.map(|(name, kind)| (name, kind));
        let mut table =
            table(&[&[("id", "bigint(20) unsigned auto_increment"), TEXT], &added[..]].concat(), &["id", "submit_key"]);
        table.columns[2].default = Some("utc_timestamp(6)".to_owned());
        table
    }

    #[test]
    fn each_difference_from_the_current_shape_has_its_step() {
        assert_eq!(current().state(false), SchemaState::Current);
        let step = |change: fn(&mut Table)| {
            let mut table = current();
            change(&mut table);
            table.state(false)
        };
        let needs = |change, step_wanted| assert_eq!(step(change), SchemaState::Needs(step_wanted));
        needs(|t| t.columns[2].default = None, Step::SetDefault);
        needs(|t| t.columns[2].kind = "timestamp".to_owned(), Step::TimestampToUtc);
        needs(|t| t.columns[2].kind = "datetime".to_owned(), Step::WidenTime);
        needs(|t| t.engine = "MyISAM".to_owned(), Step::ConvertEngine);
        needs(|t| drop(t.unique_keys.pop()), Step::AddKey);
        needs(|t| t.columns[0].kind = "int(11)".to_owned(), Step::WidenId { unsigned: false });
        needs(|t| t.columns[0].kind = "mediumint unsigned".to_owned(), Step::WidenId { unsigned: true });
        needs(|t| t.columns[1].kind = "varchar(255)".to_owned(), Step::WidenMessage);
        needs(|t| t.columns[1].charset = Some("latin1".to_owned()), Step::ConvertCharset);
        needs(|t| drop(t.columns.pop()), Step::AddColumns(vec!["submit_key"]));
        assert_eq!(table(&[], &[]).state(false), SchemaState::Missing);
    }

    #[test]
    fn a_time_of_another_program_is_converted_before_columns_are_added() {
        let mut foreign = table(&[ID, TEXT, ("created_at", "datetime")], &["id"]);
        assert_eq!(foreign.state(false), SchemaState::Needs(Step::LocalTimeToTimestamp));
        foreign.columns[2].kind = "timestamp(6)".to_owned();
        assert_eq!(foreign.state(false), SchemaState::Needs(Step::TimestampToUtc));
        foreign.columns[2].kind = "datetime(6)".to_owned();
        foreign.columns[2].default = Some("(utc_timestamp(6))".to_owned());
        assert_eq!(foreign.state(false), SchemaState::Needs(Step::AddColumns(vec!["edited_at", "submit_key"])));
    }

    #[test]
    fn a_table_of_another_kind_is_refused_with_the_statement_that_would_mend_it() {
        let refused = |table: &Table, words: &str| match table.state(false) {
            SchemaState::Incompatible(reason) => assert!(reason.contains(words), "{reason}"),
            state => panic!("{words}: {state:?}"),
        };
        refused(&table(&[("uuid", "char(36)"), TEXT], &["id"]), "RENAME TABLE");
        refused(&table(&[("id", "char(36)"), TEXT], &["id"]), "char(36)");
        refused(&table(&[ID, TEXT], &[]), "ADD PRIMARY KEY (id)");
        refused(&table(&[("id", "int"), TEXT], &["id"]), "AUTO_INCREMENT");
        refused(&table(&[ID, ("message", "blob")], &["id"]), "blob");
        refused(&table(&[ID, TEXT, ("created_at", "int")], &["id"]), "created_at");
        refused(&table(&[ID, TEXT, ("edited_at", "timestamp")], &["id"]), "edited_at");
        refused(&Table { engine: "CSV".to_owned(), ..table(&[ID, TEXT], &["id"]) }, "ENGINE = InnoDB");
        refused(&Table { is_view: true, ..table(&[ID, TEXT], &["id"]) }, "view");
        refused(&table(&[ID, TEXT, ("author", "varchar(20)")], &["id"]), "TAKE_OVER=on");
        let mut needs_value = table(&[ID, TEXT, ("author", "varchar(20)")], &["id"]);
        needs_value.columns[2].is_nullable = false;
        refused(&needs_value, "MODIFY author varchar(20) NULL");
    }

    #[test]
    fn other_columns_are_accepted_on_request_and_in_a_table_that_was_taken_over() {
        let foreign = table(&[ID, TEXT, ("author", "varchar(20)")], &["id"]);
        assert!(matches!(foreign.state(true), SchemaState::Needs(_)));
        let mut taken_over = current();
        taken_over.columns.push(column("author", "varchar(20)"));
        assert_eq!(taken_over.state(false), SchemaState::Current);
    }

    #[test]
    fn an_id_that_foreign_keys_refer_to_is_not_widened_and_they_are_named() {
        let mut table = current();
        table.columns[0].kind = "int(11)".to_owned();
        table.references = vec!["likes.likes_of_message".to_owned()];
        assert_eq!(table.state(false), SchemaState::Current);
        assert!(table.warnings()[0].contains("likes.likes_of_message"), "{:?}", table.warnings());
        assert_eq!(current().warnings(), Vec::<String>::new());
    }

    #[test]
    fn a_table_is_out_of_ids_at_the_largest_number_of_its_type() {
        let out_of_ids = |kind: &str, next_id| {
            let mut table = current();
            (table.columns[0].kind, table.next_id) = (kind.to_owned(), Some(next_id));
            table.is_out_of_ids()
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
