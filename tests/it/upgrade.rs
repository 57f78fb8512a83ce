//! A takeover: the table of another program, the Flask app's for example, is upgraded in place, and that program goes on
//! working. A table that can't be used is refused with the statement that changes that.

use std::sync::{Arc, Mutex};
use std::thread;

use mysql::prelude::Queryable;

use crate::support::service::{program, reach};
use crate::support::{Database, Schema, Service, eventually};

/// A kind of table that the service may find, as docs/operations.md lists it.
pub struct Kind {
    pub name: &'static str,
    /// Statements that make such tables, several of one table separated by `;`.
    tables: &'static [&'static str],
    settings: &'static [(&'static str, &'static str)],
    pub result: Found,
}

/// What the service does with a table.
pub enum Found {
    /// Takes it over. The old message has this time.
    TakenOver { time: Option<&'static str> },
    /// Refuses it, in these words. The statement in the log makes it a table that is taken over.
    Refused(&'static str),
}

const fn taken_over(name: &'static str, tables: &'static [&'static str]) -> Kind {
    Kind { name, tables, settings: &[], result: Found::TakenOver { time: None } }
}

const fn with_time(name: &'static str, time: &'static str, tables: &'static [&'static str]) -> Kind {
    Kind { name, tables, settings: &[], result: Found::TakenOver { time: Some(time) } }
}

const fn refused(name: &'static str, words: &'static str, tables: &'static [&'static str]) -> Kind {
    Kind { name, tables, settings: &[], result: Found::Refused(words) }
}

/// The server's time zone is +09:00.
pub const KINDS: &[Kind] = &[
    taken_over(
        "the Flask app's table, in any character set",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) DEFAULT CHARSET latin1",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) DEFAULT CHARSET utf8mb3",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) DEFAULT CHARSET gbk",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) DEFAULT CHARSET utf16",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT CHARACTER SET latin2) DEFAULT CHARSET utf8mb4",
        ],
    ),
    taken_over(
        "ids of any integer type",
        &[
            "(id TINYINT AUTO_INCREMENT PRIMARY KEY, message TEXT)",
            "(id SMALLINT NOT NULL AUTO_INCREMENT, message TEXT, UNIQUE (id))",
            "(id MEDIUMINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, message TEXT)",
            "(id INT(5) UNSIGNED ZEROFILL AUTO_INCREMENT PRIMARY KEY, message TEXT)",
            "(id BIGINT AUTO_INCREMENT PRIMARY KEY, message TEXT)",
        ],
    ),
    taken_over(
        "messages of any text type",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(255)) DEFAULT CHARSET latin1",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message CHAR(20) NOT NULL)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TINYTEXT)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message MEDIUMTEXT NOT NULL)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message LONGTEXT COMMENT 'TEXT, CHARSET=latin1')",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT COMPRESSED)",
        ],
    ),
    with_time(
        "`created_at` as TIMESTAMP",
        "2026-01-02T03:00:00.000000Z",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at TIMESTAMP NULL DEFAULT CURRENT_TIMESTAMP)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP \
             ON UPDATE CURRENT_TIMESTAMP)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at TIMESTAMP(6) NULL, KEY (created_at))",
        ],
    ),
    with_time(
        "`created_at` as DATETIME, in the time zone of the server",
        "2026-01-02T03:00:00.000000Z",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME DEFAULT CURRENT_TIMESTAMP)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME(3) NOT NULL, KEY (created_at))",
            "(created_at DATETIME(6), id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(9)) ENGINE=MyISAM DEFAULT CHARSET latin1",
        ],
    ),
    taken_over(
        "`created_at` with a zero date",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME NOT NULL DEFAULT 0)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at TIMESTAMP NOT NULL DEFAULT 0)",
        ],
    ),
    with_time(
        "`created_at` as DATETIME with a default in UTC",
        "2026-01-02T12:00:00.000000Z",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME DEFAULT (UTC_TIMESTAMP()))",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME(6) DEFAULT (UTC_TIMESTAMP(6)))",
        ],
    ),
    taken_over(
        "MyISAM and Aria",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) ENGINE=MyISAM DEFAULT CHARSET latin1",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, FULLTEXT (message)) ENGINE=MyISAM",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) ENGINE=Aria",
        ],
    ),
    taken_over(
        "InnoDB in any row format",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) ROW_FORMAT=REDUNDANT DEFAULT CHARSET latin1",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) ROW_FORMAT=COMPACT",
        ],
    ),
    taken_over(
        "columns in another order, names in capitals, more keys",
        &[
            "(MESSAGE TEXT, ID INT NOT NULL AUTO_INCREMENT, UNIQUE `a (key)` (ID))",
            "(`Message` VARCHAR(100), `Id` INT AUTO_INCREMENT PRIMARY KEY, KEY start (`Message`(10)))",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, FULLTEXT (message), UNIQUE (id, message(20)))",
        ],
    ),
    Kind {
        name: "columns of another program that need no value, with `TAKE_OVER=on`",
        tables: &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, author VARCHAR(20) NOT NULL DEFAULT 'x')",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, slug VARCHAR(20) NULL UNIQUE, seen INT DEFAULT 0)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, size INT AS (CHAR_LENGTH(message)) STORED)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, public_id CHAR(36) NOT NULL DEFAULT (UUID()) UNIQUE)",
        ],
        settings: &[("TAKE_OVER", "on")],
        result: Found::TakenOver { time: None },
    },
    taken_over(
        "a takeover that was interrupted",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, edited_at DATETIME(6) NULL) DEFAULT CHARSET latin1",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME(6) NULL, edited_at DATETIME(6) NULL, \
             submit_key BINARY(16) NULL)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME(6) NULL, edited_at DATETIME(6) NULL, \
             submit_key BINARY(16) NULL UNIQUE) DEFAULT CHARSET latin1",
        ],
    ),
    taken_over(
        "ids that foreign keys of other tables refer to",
        &["(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT); \
           CREATE TABLE likes (m INT, CONSTRAINT likes_of FOREIGN KEY (m) REFERENCES messages (id))"],
    ),
    taken_over(
        "triggers",
        &["(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT); \
           CREATE TRIGGER shout BEFORE INSERT ON messages FOR EACH ROW SET NEW.message = NEW.message"],
    ),
    refused(
        "a view",
        "it is a view",
        &["; DROP TABLE messages; CREATE VIEW messages AS SELECT 1 AS id, 'x' AS message"],
    ),
    refused(
        "other columns than `id` and `message`",
        "it has no columns id and message",
        &["(uuid CHAR(36) PRIMARY KEY, body TEXT)", "(id INT AUTO_INCREMENT PRIMARY KEY, content TEXT)"],
    ),
    refused(
        "an id that is no integer",
        "its column id is",
        &["(id CHAR(36) PRIMARY KEY, message TEXT)", "(id DECIMAL(10) PRIMARY KEY, message TEXT)"],
    ),
    refused(
        "an id without a key of its own, or without AUTO_INCREMENT",
        "its column id ",
        &[
            "(id INT NOT NULL, message TEXT)",
            "(id INT PRIMARY KEY, message TEXT)",
            "(id INT NOT NULL AUTO_INCREMENT, message TEXT, part INT DEFAULT 0, PRIMARY KEY (id, part))",
        ],
    ),
    refused(
        "a message that is no text",
        "its column message is",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message BLOB)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message JSON)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message INT)",
        ],
    ),
    refused(
        "`created_at`, `edited_at` or `submit_key` of another type",
        "its column ",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at INT)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATE)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at VARCHAR(30))",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, edited_at TIMESTAMP NULL)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, submit_key CHAR(36))",
        ],
    ),
    refused(
        "another engine",
        "its engine is",
        &["(id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(100)) ENGINE=MEMORY"],
    ),
    refused(
        "partitions",
        "it is partitioned",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) PARTITION BY HASH (id) PARTITIONS 2",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN MAXVALUE)",
        ],
    ),
    refused(
        "system versioning",
        "it keeps old versions",
        &["(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) WITH SYSTEM VERSIONING"],
    ),
    refused(
        "a key that prevents some messages",
        "its key on ",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, UNIQUE same (message(100)))",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(100), KEY (message))",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, author VARCHAR(20) DEFAULT 'x' UNIQUE)",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, rank INT NOT NULL DEFAULT 0, UNIQUE (rank))",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, hash CHAR(32) AS (MD5(message)) STORED UNIQUE)",
        ],
    ),
    refused(
        "`created_at` as DATETIME with values that are no moments",
        "some times in created_at do not exist",
        &[
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME); \
             INSERT INTO messages VALUES (7, 'old é', '2040-01-02 12:00:00')",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME NOT NULL); \
             INSERT INTO messages VALUES (7, 'old é', '1960-00-02 12:00:00')",
            "(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, created_at DATETIME); \
             INSERT INTO messages VALUES (7, 'old é', '2026-02-00 00:00:00')",
        ],
    ),
    refused(
        "messages with the same `submit_key`",
        "some messages have the same submit_key",
        &["(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, submit_key BINARY(16)); \
           INSERT INTO messages VALUES (1, 'x', REPEAT('k', 16)), (7, 'old é', REPEAT('k', 16))"],
    ),
    refused(
        "columns of another program that need a value",
        "its column author needs a value",
        &["(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, author VARCHAR(20) NOT NULL)"],
    ),
    refused(
        "columns of another program, without `TAKE_OVER=on`",
        "it has other columns (author)",
        &["(id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, author VARCHAR(20) DEFAULT 'x')"],
    ),
];

/// A schema with such a table and one old message in it, if it has the columns for one.
fn schema_with(database: &Arc<Database>, table: &str, has_time: bool) -> Schema {
    let schema = database.schema();
    let mut connection = schema.connect();
    for (at, statement) in table.split(';').enumerate() {
        let statement = match (at, statement) {
            (0, "") => "CREATE TABLE messages (id INT)".to_owned(),
            (0, columns) => format!("CREATE TABLE messages {columns}"),
            (_, statement) => statement.to_owned(),
        };
        connection.query_drop(&statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let (time, value) = if has_time { (", created_at", ", '2026-01-02 12:00:00'") } else { ("", "") };
    // A table that is refused may have no such columns, or no such value.
    let _ = connection.query_drop(format!("INSERT INTO messages (id, message{time}) VALUES (7, 'old é'{value})"));
    schema
}

fn definition(schema: &Schema) -> String {
    schema.rows::<mysql::Row>("SHOW CREATE TABLE messages")[0].get(1).unwrap()
}

/// What `twotier check` prints, and whether it finds nothing wrong.
fn check(schema: &Schema, settings: &[(&str, &str)]) -> (String, bool) {
    let variables = reach(schema);
    let mut variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    variables.extend(settings);
    let output = program(&variables).arg("check").output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.success())
}

/// Starts the service, which must take the table over and lose nothing.
fn assert_taken_over(schema: &Schema, settings: &[(&str, &str)], time: Option<&str>, table: &str) {
    let service = Service::start(schema, settings);
    service.wait_until_ready();
    let old: Vec<(String, Option<String>)> = schema.rows("SELECT message, edited_at FROM messages");
    if !old.is_empty() {
        let list = service.get("/messages").json();
        assert_eq!(list["messages"][0]["message"], "old é", "{table}");
        assert_eq!(list["messages"][0]["id"], 7, "{table}");
        assert_eq!(list["messages"][0]["created_at"].as_str(), time, "{table}");
    }
    let long = "😀".repeat(2000);
    let first = service.submit(&long, &[("Idempotency-Key", "k")]);
    assert_eq!(first.status, 200, "{table}: {}\n{}", first.text(), service.log());
    assert_eq!(service.submit(&long, &[("Idempotency-Key", "k")]).id(), first.id(), "{table}");
    assert_eq!(service.submit(&long, &[]).status, 200, "{table}: the same text again");
    assert_eq!(service.get(&format!("/messages/{}", first.id())).json()["message"].as_str(), Some(long.as_str()));
    let age = "SELECT MAX(ABS(TIMESTAMPDIFF(SECOND, created_at, UTC_TIMESTAMP()))) FROM messages WHERE submit_key IS NOT NULL";
    assert!(schema.rows::<u64>(age)[0] < 60, "{table}");
    assert!(definition(schema).contains("ENGINE=InnoDB"), "{table}");
    let (report, satisfied) = check(schema, settings);
    assert!(satisfied && report.contains("innodb_flush_log_at_trx_commit"), "{table}: {report}");
    assert!(report.contains("current") || table.contains("FOREIGN KEY"), "{table}: {report}");
}

/// Starts the service, which must refuse the table and leave it as it is, until the statements that it names were run.
fn assert_refused(schema: &Schema, words: &str, table: &str) {
    let mut settings = vec![("DB_WAIT", "200ms")];
    let before = definition(schema);
    // Only the start finds that the rows are in the way, and it may have done some steps by then.
    let by_rows = table.contains("INSERT INTO");
    let (report, satisfied) = check(schema, &[]);
    assert!(satisfied == by_rows && report.contains(words) != by_rows, "{table}: {report}");
    for round in 0.. {
        assert!(round < 4, "{table}: still refused");
        let service = Service::start(schema, &settings);
        eventually("the start ends", || {
            ["database open after", "gave up on the database"].iter().any(|end| service.log().contains(end))
        });
        let log = service.log();
        if log.contains("database open after") {
            break;
        }
        let reason = log.lines().find(|line| line.contains("gave up on the database")).unwrap();
        if round == 0 {
            assert!(reason.contains(words), "{table}: {log}");
            assert!(by_rows || definition(schema) == before, "{table}: the table is changed");
        }
        match reason.split_once("; run: ") {
            Some((_, statement)) => schema.run(statement.trim_end_matches('"')),
            None => {
                assert!(reason.contains("set TAKE_OVER=on"), "{table}: {log}");
                settings.push(("TAKE_OVER", "on"));
            }
        }
    }
    settings.remove(0);
    assert_taken_over(schema, &settings, None, table);
}

#[test]
fn each_kind_of_table_is_taken_over_or_refused_with_the_statement_that_changes_it() {
    let database = Database::private_with("--default-time-zone=+09:00");
    let tables: Vec<(&Kind, &str)> =
        KINDS.iter().flat_map(|kind| kind.tables.iter().map(move |table| (kind, *table))).collect();
    let tables = Mutex::new(tables.into_iter());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((kind, table)) = { tables.lock().unwrap().next() } {
                    let has_time = matches!(kind.result, Found::TakenOver { time: Some(_) });
                    let schema = schema_with(&database, table, has_time);
                    match kind.result {
                        Found::TakenOver { time } => assert_taken_over(&schema, kind.settings, time, table),
                        Found::Refused(words) => assert_refused(&schema, words, table),
                    }
                }
            });
        }
    });
}

/// The Flask app's table in this character set, with this number of rows.
fn flask_table(charset: &str, rows: u32) -> Schema {
    let schema = Database::shared().schema();
    schema.run(&format!(
        "CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) DEFAULT CHARSET={charset}"
    ));
    schema.run("INSERT INTO messages (message) VALUES ('old é'), (NULL), ('')");
    if rows > 0 {
        schema.run(&format!("INSERT INTO messages (message) SELECT CONCAT('row ', seq, ' äöü') FROM seq_1_to_{rows}"));
    }
    schema
}

/// What the Flask app does for a form, and what it reads for its page.
fn as_flask_does(schema: &Schema, text: Option<&str>) -> Vec<Option<String>> {
    let mut connection = schema.connect();
    connection.exec_drop("INSERT INTO messages (message) VALUES (?)", (text,)).expect("the app can still insert");
    connection.query("SELECT message FROM messages").expect("the app can still read")
}

#[test]
fn the_flask_apps_table_is_upgraded_by_two_replicas_at_the_same_time_and_nothing_is_lost() {
    for charset in ["latin1", "utf8mb3", "utf8mb4"] {
        let schema = flask_table(charset, 20_000);
        let before: Vec<(u64, Option<String>)> = schema.rows("SELECT id, message FROM messages ORDER BY id");
        let services: Vec<Service> = thread::scope(|scope| {
            let starts: Vec<_> = (0..2).map(|_| scope.spawn(|| Service::start(&schema, &[]))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        services.iter().for_each(Service::wait_until_ready);
        let after: Vec<(u64, Option<String>)> = schema.rows("SELECT id, message FROM messages ORDER BY id");
        assert_eq!(before, after, "{charset}");

        let oldest = services[0].get("/messages?after=0&limit=3").json();
        let texts: Vec<&str> = (0..3).map(|at| oldest["messages"][at]["message"].as_str().unwrap()).collect();
        assert_eq!(texts, ["old é", "", ""], "a NULL reads as an empty string");
        assert_eq!(oldest["messages"][0]["created_at"], serde_json::Value::Null, "old rows have no time");

        assert_eq!(services[1].submit("new 😀", &[]).status, 200, "{charset}");
        let read = as_flask_does(&schema, Some("from the other app"));
        assert_eq!(read.len(), before.len() + 2);
        as_flask_does(&schema, None);
        let newest = services[0].get("/messages?limit=3").json();
        assert_eq!(newest["messages"][0]["message"], "");
        assert_eq!(newest["messages"][1]["message"], "from the other app");
        assert!(newest["messages"][1]["created_at"].is_string(), "its new rows get their time");
        assert_eq!(newest["messages"][2]["message"], "new 😀");
    }
}

#[test]
fn every_half_done_upgrade_is_finished() {
    let steps = [
        "ALTER TABLE messages ADD COLUMN edited_at DATETIME(6) NULL",
        "ALTER TABLE messages ADD COLUMN created_at DATETIME(6) NULL, ADD COLUMN submit_key BINARY(16) NULL",
        "ALTER TABLE messages ALTER COLUMN created_at SET DEFAULT (UTC_TIMESTAMP(6))",
        "ALTER TABLE messages ADD UNIQUE KEY another_name (submit_key)",
    ];
    for done in 0..=steps.len() {
        let schema = flask_table("latin1", 0);
        steps[..done].iter().for_each(|step| schema.run(step));
        let service = Service::start(&schema, &[]);
        service.wait_until_ready();
        let id = service.submit("😀", &[]).id();
        let shown = service.get(&format!("/messages/{id}")).json();
        assert!(shown["created_at"].is_string() && shown["message"] == "😀", "after {done} steps: {shown}");
    }
}

#[test]
fn a_long_latin1_text_loses_nothing_when_it_grows() {
    let schema = flask_table("latin1", 0);
    schema.run("INSERT INTO messages (message) VALUES (REPEAT('é', 65535))");
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    assert_eq!(
        service.get("/messages?limit=1").messages(),
        ["é".repeat(65535)],
        "old rows are shown whatever their length"
    );
}

#[test]
fn a_limit_of_the_server_on_statements_does_not_stop_a_takeover() {
    let database = Database::private();
    let schema = database.schema();
    schema.run("CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) DEFAULT CHARSET latin1");
    schema.run("INSERT INTO messages (message) SELECT REPEAT('x', 1000) FROM seq_1_to_20000");
    schema.run("SET GLOBAL max_statement_time = 0.02");
    let service = Service::start(&schema, &[("DB_WAIT", "15s")]);
    service.wait_until_ready();
    assert!(!service.log().contains("not available"), "it was done at the first attempt:\n{}", service.log());
    assert_eq!(service.get("/messages?after=0&limit=1").messages(), ["x".repeat(1000)]);
}

#[test]
fn no_ddl_runs_when_the_shape_is_right() {
    let database = Database::private();
    let schema = database.schema();
    Service::start(&schema, &[]).wait_until_ready();
    let count = || database.count("Com_alter_table") + database.count("Com_create_table");
    let before = count();
    Service::start(&schema, &[]).wait_until_ready();
    assert_eq!(count(), before);
}

#[test]
fn message_sql_can_be_run_again_and_again_by_hand_or_by_a_container() {
    let schema = Database::shared().schema();
    let sql = include_str!("../../message.sql");
    let mut connection = schema.connect();
    for _ in 0..2 {
        // As a client does: statement by statement, comments and all.
        for statement in sql.split(";\n").filter(|statement| statement.contains("SET") || statement.contains("CREATE"))
        {
            connection.query_drop(statement).expect(statement);
        }
    }
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    assert_eq!(service.submit("x", &[]).status, 200);
    assert!(!service.log().contains("to the table"), "nothing was left to do:\n{}", service.log());
}

#[test]
fn once_the_table_is_there_four_rights_are_enough() {
    let schema = Database::shared().schema();
    let user = format!("least_{}", schema.name);
    let mut admin = schema.connect();
    let mut grant = |rights: &str| {
        admin
            .query_drop(format!("GRANT {rights} ON {}.* TO {user}@'127.0.0.1' IDENTIFIED BY 'l'", schema.name))
            .unwrap();
    };
    let settings = [
        ("MYSQL_USER", user.as_str()),
        ("MYSQL_PASSWORD", "l"),
        ("ADMIN_TOKEN", "token-of-an-admin"),
        ("DB_WAIT", "500ms"),
    ];
    grant("SELECT, INSERT, UPDATE, DELETE");
    let refused = Service::start(&schema, &settings);
    assert_eq!(refused.wait(), 1);
    assert!(
        refused.log().contains("the user lacks a privilege")
            && refused.log().contains("the grants of the database user"),
        "{}",
        refused.log()
    );

    schema.run(include_str!("../../message.sql").split(";\n").find(|s| s.contains("CREATE TABLE")).unwrap());
    let service = Service::start(&schema, &settings);
    service.wait_until_ready();
    let token = ("Authorization", "Bearer token-of-an-admin");
    let id = service.submit("by a small account", &[("Idempotency-Key", "k")]).id();
    assert_eq!(service.submit("by a small account", &[("Idempotency-Key", "k")]).id(), id);
    assert_eq!(service.json("PUT", &format!("/messages/{id}"), &[token], "edited").status, 200);
    assert_eq!(service.get("/messages").messages(), ["edited"]);
    assert_eq!(service.ask("DELETE", &format!("/messages/{id}"), &[token], b"").status, 204);
    schema.run(&format!("DROP USER {user}@'127.0.0.1'"));
}
