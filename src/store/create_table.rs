//! Reads what `SHOW CREATE TABLE` prints: columns, unique keys, engine and the next id of a table.
//!
//! `information_schema` is not asked. MariaDB 10.11 crashes when a time limit or a KILL ends one of its queries that needs a
//! temporary table, and this service describes its table every few seconds.

/// A table as its statement describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CreateTable {
    pub(super) columns: Vec<Column>,
    /// The columns of each unique key, joined by commas.
    pub(super) unique_keys: Vec<String>,
    pub(super) engine: String,
    pub(super) next_id: Option<u64>,
}

/// A column; all texts are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type with its length and sign.
    pub(super) kind: String,
    /// Everything after the type, without quoted texts.
    pub(super) attributes: String,
    /// The character set, of the table if the column has none of its own.
    pub(super) charset: String,
}

impl CreateTable {
    pub(super) fn parse(statement: &str) -> CreateTable {
        let mut table = CreateTable::default();
        for line in statement.lines().skip(1) {
            let line = line.trim_start();
            if let Some(options) = line.strip_prefix(')') {
                table.read_options(&without_quotes(options).to_ascii_lowercase());
                break;
            } else if let Some(rest) = line.strip_prefix('`') {
                table.columns.extend(Column::parse(rest));
            } else if line.starts_with("PRIMARY KEY") || line.starts_with("UNIQUE KEY") {
                table.unique_keys.extend(key_columns(line));
            }
        }
        table
    }

    fn read_options(&mut self, options: &str) {
        let option = |name: &str| {
            let at = options.find(&format!(" {name}="))? + name.len() + 2;
            options[at..].split_ascii_whitespace().next()
        };
        self.engine = option("engine").unwrap_or_default().to_owned();
        self.next_id = option("auto_increment").and_then(|number| number.parse().ok());
        let charset = option("charset").unwrap_or_default();
        self.columns.iter_mut().filter(|column| column.charset.is_empty()).for_each(|column| {
            charset.clone_into(&mut column.charset);
        });
    }
}

impl Column {
    /// Reads a column whose opening back quote is cut off.
    fn parse(line: &str) -> Option<Column> {
        let (name, rest) = line.split_once("` ")?;
        let rest = without_quotes(rest).to_ascii_lowercase();
        let rest = rest.trim_end_matches(',');
        let end = rest.find(' ').unwrap_or(rest.len());
        let (kind, attributes) = rest.split_at(end);
        let unsigned = attributes.starts_with(" unsigned");
        let charset = attributes.split_once(" character set ").map_or("", |(_, rest)| rest);
        Some(Column {
            name: name.to_ascii_lowercase(),
            kind: if unsigned { format!("{kind} unsigned") } else { kind.to_owned() },
            attributes: attributes.to_owned(),
            charset: charset.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

/// The columns in the parentheses of a key.
fn key_columns(line: &str) -> Option<String> {
    // After the key's own name, which may hold parentheses.
    let columns = line.rsplit_once(" (").map(|(_, columns)| columns)?;
    let columns = columns.split_once(')').map_or(columns, |(columns, _)| columns);
    Some(columns.replace('`', "").to_ascii_lowercase())
}

/// The text with an empty text in place of each quoted one; in a quoted text, quotes are doubled or escaped.
fn without_quotes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(c);
        if c == '\'' {
            while let Some(c) = chars.next() {
                match c {
                    '\'' => break,
                    '\\' => drop(chars.next()),
                    _ => {}
                }
            }
            plain.push('\'');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIADB: &str = "CREATE TABLE `messages` (\n  `id` bigint(20) unsigned NOT NULL AUTO_INCREMENT,\n  \
        `message` text CHARACTER SET latin1 COLLATE latin1_swedish_ci DEFAULT NULL COMMENT 'not CHARSET=utf8mb4, ENGINE=x',\n  \
        `created_at` datetime(6) DEFAULT utc_timestamp(6),\n  `edited_at` datetime(6) DEFAULT NULL,\n  \
        `submit_key` binary(16) DEFAULT NULL,\n  `odd` enum('a, b','it''s') NOT NULL DEFAULT 'a, b',\n  \
        PRIMARY KEY (`id`),\n  UNIQUE KEY `a (key)` (`submit_key`),\n  UNIQUE KEY `two` (`id`,`odd`),\n  \
        KEY `plain` (`created_at`)\n) ENGINE=InnoDB AUTO_INCREMENT=8 DEFAULT CHARSET=utf8mb4 \
        COLLATE=utf8mb4_general_ci COMMENT='ENGINE=MyISAM CHARSET=latin1'";

    fn column<'a>(table: &'a CreateTable, name: &str) -> &'a Column {
        table.columns.iter().find(|column| column.name == name).unwrap()
    }

    #[test]
    fn columns_keys_engine_and_the_next_id_are_read() {
        let table = CreateTable::parse(MARIADB);
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["id", "message", "created_at", "edited_at", "submit_key", "odd"]);
        assert_eq!(column(&table, "id").kind, "bigint(20) unsigned");
        assert!(column(&table, "id").attributes.contains("auto_increment"));
        assert_eq!(column(&table, "created_at").kind, "datetime(6)");
        assert!(column(&table, "created_at").attributes.contains("utc_timestamp"));
        assert_eq!(table.unique_keys, ["id", "submit_key", "id,odd"]);
        assert_eq!((table.engine.as_str(), table.next_id), ("innodb", Some(8)));
    }

    #[test]
    fn a_column_has_its_own_character_set_or_that_of_the_table_and_quoted_texts_say_nothing() {
        let table = CreateTable::parse(MARIADB);
        assert_eq!(column(&table, "message").charset, "latin1");
        assert_eq!(column(&table, "odd").charset, "utf8mb4");
        assert!(column(&table, "odd").attributes.contains("not null default ''"));
    }

    #[test]
    fn what_mysql_prints_is_read_as_well() {
        let mysql = "CREATE TABLE `messages` (\n  `id` int NOT NULL AUTO_INCREMENT,\n  `message` text,\n  \
            `created_at` datetime(6) DEFAULT (utc_timestamp(6)),\n  PRIMARY KEY (`id`)\n) ENGINE=InnoDB DEFAULT \
            CHARSET=utf8mb4 COLLATE=utf8mb4_0900_ai_ci";
        let table = CreateTable::parse(mysql);
        assert_eq!(column(&table, "id").kind, "int");
        assert_eq!((column(&table, "message").kind.as_str(), table.next_id), ("text", None));
        assert!(column(&table, "created_at").attributes.contains("utc_timestamp"));
    }
}
