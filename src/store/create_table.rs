//! Reads what `SHOW CREATE TABLE` prints: the columns, the keys and the options of a table.
//!
//! `information_schema` is not asked. MariaDB 10.11 crashes when a time limit or a KILL ends one of its queries that needs a
//! temporary table, and this service describes its table every few seconds.

/// A table as its statement describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CreateTable {
    pub(super) columns: Vec<Column>,
    pub(super) keys: Vec<Key>,
    pub(super) engine: String,
    pub(super) next_id: Option<u64>,
    pub(super) is_partitioned: bool,
    /// Old versions of its rows are kept (MariaDB).
    pub(super) is_versioned: bool,
}

/// A key that is not a full-text one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) name: String,
    /// Its columns, each with the length of its prefix if it has one: `message(10)`.
    pub(super) columns: Vec<String>,
    pub(super) is_unique: bool,
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
        let mut lines = statement.lines().skip(1).map(str::trim_start);
        for line in lines.by_ref() {
            if let Some(options) = line.strip_prefix(')') {
                table.read_options(&without_quotes(options).to_ascii_lowercase());
                break;
            } else if let Some(rest) = line.strip_prefix('`') {
                table.columns.extend(Column::parse(rest));
            } else {
                table.keys.extend(Key::parse(line));
            }
        }
        table.is_partitioned = lines.any(|line| line.trim_start_matches("/*!50100 ").starts_with("PARTITION BY"));
        table
    }

    fn read_options(&mut self, options: &str) {
        let option = |name: &str| {
            let at = options.find(&format!(" {name}="))? + name.len() + 2;
            options[at..].split_ascii_whitespace().next()
        };
        self.engine = option("engine").unwrap_or_default().to_owned();
        self.next_id = option("auto_increment").and_then(|number| number.parse().ok());
        self.is_versioned = options.contains("with system versioning");
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

impl Key {
    fn parse(line: &str) -> Option<Key> {
        let is_primary = line.starts_with("PRIMARY KEY");
        let is_unique = is_primary || line.starts_with("UNIQUE KEY");
        if !is_unique && !line.starts_with("KEY") {
            return None;
        }
        let (name, rest) = match line.strip_prefix("PRIMARY KEY (") {
            Some(rest) => ("PRIMARY", rest),
            None => line.split_once('`')?.1.split_once("` (")?,
        };
        let mut depth = 0;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth < 0
        })?;
        let columns = rest[..end].replace('`', "").to_ascii_lowercase();
        Some(Key { name: name.to_owned(), columns: columns.split(',').map(str::to_owned).collect(), is_unique })
    }
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
        KEY `plain` (`created_at`,`message`(10)) USING BTREE COMMENT 'a) b',\n  FULLTEXT KEY `words` (`message`)\n) ENGINE=InnoDB AUTO_INCREMENT=8 DEFAULT CHARSET=utf8mb4 \
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
        let keys: Vec<String> =
            table.keys.iter().map(|key| format!("{} {} {}", key.name, key.columns.join("+"), key.is_unique)).collect();
        assert_eq!(
            keys,
            ["PRIMARY id true", "a (key) submit_key true", "two id+odd true", "plain created_at+message(10) false"]
        );
        assert_eq!((table.engine.as_str(), table.next_id), ("innodb", Some(8)));
        assert!(!table.is_partitioned && !table.is_versioned);
    }

    #[test]
    fn a_column_has_its_own_character_set_or_that_of_the_table_and_quoted_texts_are_ignored() {
        let table = CreateTable::parse(MARIADB);
        assert_eq!(column(&table, "message").charset, "latin1");
        assert_eq!(column(&table, "odd").charset, "utf8mb4");
        assert!(column(&table, "odd").attributes.contains("not null default ''"));
    }

    #[test]
    fn partitions_and_versions_are_recognised_in_the_options_alone() {
        let table =
            |end: &str| CreateTable::parse(&format!("CREATE TABLE `messages` (\n  `id` int\n) ENGINE=InnoDB{end}"));
        for end in ["\n PARTITION BY RANGE (`id`)\n(PARTITION `p` ...)", "\n/*!50100 PARTITION BY HASH (`id`) */"] {
            assert!(table(end).is_partitioned, "{end}");
        }
        assert!(table(" DEFAULT CHARSET=utf8mb4 WITH SYSTEM VERSIONING").is_versioned);
        let comment = table(" COMMENT='WITH SYSTEM VERSIONING PARTITION BY'");
        assert!(!comment.is_partitioned && !comment.is_versioned);
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
