//! Unusual, broken or hostile databases: what is stored, what is refused, and what the log reports.

use mysql::prelude::Queryable;

use crate::support::client::request;
use crate::support::service::{program, reach};
use crate::support::{Board, Database, Schema, Service, Signal, eventually};

/// A user that is not an administrator, for whom the server runs `init_connect`.
fn plain_user(schema: &Schema, privileges: &str) -> String {
    let user = format!("u_{}", schema.name);
    schema.run(&format!("CREATE USER {user}@'127.0.0.1' IDENTIFIED BY 'secret'"));
    schema.run(&format!("GRANT {privileges} ON {}.* TO {user}@'127.0.0.1'", schema.name));
    user
}

fn start_as(schema: &Schema, user: &str, settings: &[(&str, &str)]) -> Service {
    let account = [("MYSQL_USER", user), ("MYSQL_PASSWORD", "secret")];
    let service = Service::start(schema, &[&account[..], settings].concat());
    service.wait_until_ready();
    service
}

/// A text with every character before a quote and before a backslash whose UTF-8 form ends with another byte, and with the
/// lead bytes of all multi-byte character sets among them.
fn hostile_text() -> String {
    let mut text = String::new();
    for last in 0..64u32 {
        for c in [0x80 + last, 0x20c0 + last, 0x8140 + last, 0xfe00 + last].into_iter().filter_map(char::from_u32) {
            if !c.is_control() {
                text.extend([c, '\'', c, '\\', '\'']);
            }
        }
    }
    text.push_str("€\\',0x00),((select 1),0x01)#");
    text
}

#[test]
fn every_character_set_and_every_sql_mode_of_a_server_stores_a_text_as_it_was_sent() {
    let database = Database::private();
    let schema = database.schema();
    let user = plain_user(&schema, "ALL PRIVILEGES");
    let mut admin = database.connect();
    let charsets: Vec<(String, String, String, u32)> = admin.query("SHOW CHARACTER SET").unwrap();
    // The server does not allow these for a client.
    let charsets = charsets
        .into_iter()
        .map(|row| row.0)
        .filter(|name| !name.starts_with("utf16") && name != "ucs2" && name != "utf32");
    let modes = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,IGNORE_SPACE,HIGH_NOT_PRECEDENCE,PAD_CHAR_TO_FULL_LENGTH,\
        NO_UNSIGNED_SUBTRACTION,REAL_AS_FLOAT,NO_AUTO_VALUE_ON_ZERO,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,\
        STRICT_TRANS_TABLES,ORACLE,";
    let modes: Vec<String> = modes.split(',').map(|mode| format!("SET sql_mode = '{mode}'")).collect();
    let defaults = [
        "SET autocommit = 0",
        "SET time_zone = '+09:00'",
        "SET unique_checks = 0",
        "SET tx_isolation = 'READ-UNCOMMITTED'",
    ];
    let inits = charsets.map(|name| format!("SET NAMES {name}")).chain(modes).chain(defaults.map(str::to_owned));
    schema.run("CREATE TABLE secrets (v TEXT)");
    let text = hostile_text();
    for init in inits {
        admin.query_drop(format!("SET GLOBAL init_connect = \"{init}\"")).unwrap();
        let service = start_as(&schema, &user, &[]);
        let answer = service.json("POST", "/messages", &[], &text);
        assert_eq!(answer.status, 201, "{init}: {}", service.log());
        assert_eq!(answer.json()["message"].as_str(), Some(text.as_str()), "{init}");
        let stored =
            format!("SELECT COUNT(*) FROM messages WHERE id = {} AND HEX(message) = '{}'", answer.id(), hex(&text));
        assert_eq!(schema.rows::<u64>(&stored), [1], "{init}");
        assert!(!service.log().contains("select 1"), "no text in the log");
        service.signal(Signal::KILL);
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn a_server_that_ignores_the_clients_character_set_is_no_danger() {
    let database = Database::private_with("--character-set-server=gbk --skip-character-set-client-handshake");
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    let text = hostile_text();
    let answer = service.json("POST", "/messages", &[("Idempotency-Key", "k")], &text);
    assert_eq!((answer.status, answer.json()["message"].as_str()), (201, Some(text.as_str())));
    assert_eq!(schema.rows::<u64>("SELECT COUNT(*) FROM messages"), [1]);
}

#[test]
fn a_held_table_never_costs_more_statements_on_the_server_than_there_are_connections() {
    let board = Board::with(&[("DB_TIMEOUT", "1s"), ("DB_CONNECTIONS", "3")]);
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let mut watcher = board.schema.database.connect();
    let count = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND command <> 'Sleep'",
        board.schema.name
    );
    for round in 0..8 {
        std::thread::scope(|scope| {
            for path in ["/", "/messages/1", "/messages/2"] {
                let board = &board;
                scope.spawn(move || assert_eq!(board.get(path).status, 503, "{path}"));
            }
            scope.spawn(|| assert_eq!(board.submit("x").status, 503));
        });
        let statements: Option<u64> = watcher.query_first(&count).unwrap();
        assert!(statements.is_some_and(|count| count <= 3), "round {round}: {statements:?}");
    }
    assert_eq!(board.get("/readyz").status, 503);
    holder.query_drop("UNLOCK TABLES").unwrap();
    eventually("it is served again", || board.get("/").status == 200 && board.submit("y").status == 200);
}

#[test]
fn an_outage_is_a_few_lines_of_the_log_however_many_requests_fail() {
    let database = Database::private();
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    database.stop();
    let mut client = service.connect();
    for _ in 0..2000 {
        client.send(request("GET", "/", &[], b""));
        assert_eq!(client.answer().status, 503);
        client.send(request(
            "POST",
            "/submit",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            b"new_message=x",
        ));
        assert_eq!(client.answer().status, 503);
    }
    database.start();
    eventually("both ends are logged", || {
        let _ = service.submit("y", &[]);
        service.log().matches("works again after").count() == 2
    });
    let lines = service.log().lines().count();
    assert!(lines < 30, "{lines} lines:\n{}", service.log());
    assert_eq!(
        service.log().matches("reading messages fails").count()
            + service.log().matches("storing messages fails").count(),
        service.log().matches(" fails: ").count()
    );
}

#[test]
fn a_table_without_ids_left_is_reported_and_reads_continue() {
    let board = Board::start();
    board.submit("before");
    board.schema.run("ALTER TABLE messages AUTO_INCREMENT = 18446744073709551615");
    eventually("writes are paused", || board.get("/readyz").text() == "ready, read-only: the table has no ids left\n");
    let answer = board.submit("after");
    assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"));
    assert_eq!(board.get("/messages").messages(), ["before"]);
    assert!(board.service.log().contains("has no ids left"), "{}", board.service.log());
    let metrics = board.get("/metrics");
    for line in ["twotier_ready 1", "twotier_database_writable 0", r#"twotier_not_ready_info{reason="no_ids_left"} 1"#]
    {
        assert!(metrics.text().contains(line), "{line}");
    }
}

#[test]
fn replays_do_not_use_up_the_ids_of_a_table_that_was_taken_over() {
    let schema = Database::shared().schema();
    schema.run("CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT)");
    schema.run("INSERT INTO messages (id, message) VALUES (2147483646, 'nearly the last')");
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    for _ in 0..5 {
        let answer = service.json("POST", "/messages", &[("Idempotency-Key", "k")], "again");
        assert_eq!(answer.status, 201);
    }
    assert_eq!(service.submit("beyond", &[]).status, 200);
    assert_eq!(service.get("/messages").messages(), ["beyond", "again", "nearly the last"]);
}

#[test]
fn a_trigger_may_change_a_text_and_a_fresh_key_is_never_called_reused() {
    let board = Board::start();
    board.schema.run(
        "CREATE TRIGGER filter BEFORE INSERT ON messages FOR EACH ROW SET NEW.message = REPLACE(NEW.message, 'damn', '****')",
    );
    for key in [None, Some("a"), Some("b")] {
        let headers = key.map(|key| ("Idempotency-Key", key));
        let answer = board.service.json("POST", "/messages", headers.as_slice(), "well damn");
        assert_eq!((answer.status, answer.json()["message"].as_str()), (201, Some("well ****")), "{key:?}");
    }
    let answer = board.service.submit("oh damn", &[("Idempotency-Key", "c")]);
    assert_eq!((answer.status, answer.json()["message"].as_str()), (200, Some("oh ****")), "as it is stored");
    assert_eq!(board.get("/messages").messages(), ["oh ****", "well ****", "well ****", "well ****"]);
    assert!(board.service.log().contains("trigger"), "{}", board.service.log());
}

#[test]
fn a_text_that_the_column_cannot_hold_is_removed_and_the_cause_is_logged() {
    for (change, text) in
        [("MODIFY message VARCHAR(10)", "longer than ten"), ("CONVERT TO CHARACTER SET latin1", "emoji 😀")]
    {
        let board = Board::start();
        board.submit("fits");
        board.schema.run(&format!("ALTER TABLE messages {change}"));
        for key in [None, Some("fresh")] {
            let headers = key.map(|key| ("Idempotency-Key", key));
            let answer = board.service.json("POST", "/messages", headers.as_slice(), text);
            assert!([500, 503].contains(&answer.status), "{change} {key:?}: {}", answer.status);
            assert!(!answer.text().contains("key_reused"), "{change} {key:?}");
        }
        assert_eq!(board.get("/messages").messages(), ["fits"], "{change}");
        eventually("the cause is logged", || {
            ["column message", "was changed"].iter().any(|words| board.service.log().contains(words))
        });
    }
}

#[test]
fn each_cause_of_unsafe_writes_pauses_them_with_its_reason_and_reads_continue() {
    let changes = [
        ("ALTER TABLE messages DROP KEY submit_key", "ALTER TABLE messages ADD UNIQUE KEY submit_key (submit_key)"),
        ("ALTER TABLE messages ENGINE = MyISAM", "ALTER TABLE messages ENGINE = InnoDB"),
        (
            "ALTER TABLE messages CONVERT TO CHARACTER SET latin1",
            "ALTER TABLE messages CONVERT TO CHARACTER SET utf8mb4",
        ),
    ];
    for (change, undo) in changes {
        let board = Board::start();
        board.submit("before");
        board.schema.run(change);
        let paused = "ready, read-only: the table can't store messages safely\n";
        eventually("writes are paused", || board.get("/readyz").text() == paused);
        assert_eq!(board.submit("x").status, 503, "{change}");
        assert_eq!(board.get("/messages").messages(), ["before"]);
        board.schema.run(undo);
        eventually("writes go on", || board.get("/readyz").text() == "ready\n");
        assert_eq!(board.submit("after").status, 200, "{change}");
    }
}

#[test]
fn a_user_that_may_not_write_is_read_only_with_that_reason() {
    let schema = Database::shared().schema();
    Service::start(&schema, &[]).wait_until_ready();
    let user = plain_user(&schema, "SELECT");
    let service = start_as(&schema, &user, &[]);
    eventually("writes are paused", || {
        service.get("/readyz").text() == "ready, read-only: the database user may not write\n"
    });
    assert_eq!(service.submit("x", &[]).status, 503);
    assert!(service.log().contains("check the grants of the database user"), "{}", service.log());
    schema.run(&format!("DROP USER {user}@'127.0.0.1'"));
}

#[test]
fn a_rotated_password_file_is_read_again_without_a_restart() {
    let schema = Database::shared().schema();
    let user = plain_user(&schema, "ALL PRIVILEGES");
    let file = std::env::temp_dir().join(format!("twotier-password-{}", schema.name));
    std::fs::write(&file, "secret\n").unwrap();
    let mut variables = reach(&schema);
    variables.retain(|(name, _)| name != "MYSQL_PASSWORD" && name != "MYSQL_USER");
    let mut variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    variables.extend([("MYSQL_USER", user.as_str()), ("MYSQL_PASSWORD_FILE", file.to_str().unwrap())]);
    let service = Service::run(&variables);
    service.wait_until_ready();
    schema.run(&format!("ALTER USER {user}@'127.0.0.1' IDENTIFIED BY 'rotated'"));
    std::fs::write(&file, "rotated\n").unwrap();
    let sessions: Vec<u64> =
        schema.rows(&format!("SELECT id FROM information_schema.processlist WHERE user = '{user}'"));
    sessions.iter().for_each(|id| schema.run(&format!("KILL {id}")));
    assert_eq!(service.submit("after the rotation", &[]).status, 200, "{}", service.log());
    std::fs::remove_file(file).unwrap();
    schema.run(&format!("DROP USER {user}@'127.0.0.1'"));
}

#[test]
fn tables_of_engines_that_lose_commits_are_converted_when_they_are_taken_over() {
    for engine in ["MyISAM", "Aria"] {
        let schema = Database::shared().schema();
        schema.run(&format!(
            "CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT) ENGINE = {engine} DEFAULT CHARSET = latin1"
        ));
        schema.run("INSERT INTO messages (message) VALUES ('old é')");
        let variables = reach(&schema);
        let check = || {
            let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            String::from_utf8(program(&variables).arg("check").output().unwrap().stdout).unwrap()
        };
        assert!(!check().contains("a commit is on disk"), "{engine}");
        let engine_now =
            "SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'messages'";
        assert_eq!(schema.rows::<String>(engine_now), [engine], "the check changes nothing");
        let service = Service::start(&schema, &[]);
        service.wait_until_ready();
        assert_eq!(schema.rows::<String>(engine_now), ["InnoDB"]);
        assert_eq!(service.get("/messages").messages(), ["old é"]);
        assert!(check().contains("a commit is on disk"), "{engine}");
    }
}

#[test]
fn a_table_with_columns_of_another_program_is_taken_over_only_on_request() {
    let schema = Database::shared().schema();
    schema
        .run("CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, author VARCHAR(20) DEFAULT 'x')");
    let refused = Service::start(&schema, &[("DB_WAIT", "500ms")]);
    assert_eq!(refused.wait(), 1);
    assert!(refused.log().contains("author") && refused.log().contains("TAKE_OVER=on"), "{}", refused.log());
    let service = Service::start(&schema, &[("TAKE_OVER", "on")]);
    service.wait_until_ready();
    assert_eq!(service.submit("x", &[]).status, 200);
    drop(service);
    let again = Service::start(&schema, &[]);
    again.wait_until_ready();
    assert_eq!(schema.rows::<String>("SELECT author FROM messages"), ["x"], "what was taken over once stays so");
}

#[test]
fn foreign_keys_that_keep_the_ids_narrow_are_named_and_the_board_works() {
    let schema = Database::shared().schema();
    schema.run("CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT)");
    schema.run("CREATE TABLE likes (m INT, CONSTRAINT likes_of FOREIGN KEY (m) REFERENCES messages (id))");
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    assert!(service.log().contains("'likes_of'"), "{}", service.log());
    assert_eq!(service.submit("x", &[]).status, 200);
}

#[test]
fn one_connection_serves_every_route() {
    let board = Board::with(&[("DB_CONNECTIONS", "1"), ("ADMIN_TOKEN", "a-long-enough-token")]);
    let id = board.submit("x").id();
    let token = ("Authorization", "Bearer a-long-enough-token");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    for path in ["/", "/messages", "/messages/1", "/messages?after=0", "/?before=9", "/readyz"] {
                        assert_eq!(board.get(path).status, 200, "{path}");
                    }
                    assert_eq!(board.submit("y").status, 200);
                }
            });
        }
    });
    assert_eq!(board.service.json("PUT", &format!("/messages/{id}"), &[token], "edited").status, 200);
    assert_eq!(board.service.ask("DELETE", &format!("/messages/{id}"), &[token], b"").status, 204);
    let sessions = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}'", board.schema.name);
    let mut admin = board.schema.database.connect();
    assert_eq!(admin.query_first::<u64, _>(sessions).unwrap(), Some(1));
}

#[test]
fn a_start_needs_no_more_than_one_connection_whether_the_table_exists_or_not() {
    let schema = Database::shared().schema();
    let user = plain_user(&schema, "ALL PRIVILEGES");
    schema.run(&format!("ALTER USER {user}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1"));
    for settings in [&[][..], &[("DB_CONNECTIONS", "1")], &[]] {
        let service = start_as(&schema, &user, settings);
        assert_eq!(service.submit("x", &[]).status, 200, "{settings:?}");
        drop(service);
        let sessions = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{user}'");
        eventually("the connection is closed", || schema.rows::<u64>(&sessions) == [0]);
    }
    schema.run(&format!("DROP USER {user}@'127.0.0.1'"));
}

#[test]
fn a_server_that_grants_fewer_connections_is_used_with_those_and_that_is_logged_once() {
    let schema = Database::shared().schema();
    let user = plain_user(&schema, "ALL PRIVILEGES");
    schema.run(&format!("ALTER USER {user}@'127.0.0.1' WITH MAX_USER_CONNECTIONS 2"));
    let service = start_as(&schema, &user, &[]);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..30 {
                    assert_eq!(service.get("/messages/999999").status, 404);
                    assert_eq!(service.get("/").status, 200);
                    assert_eq!(service.submit("x", &[]).status, 200);
                }
            });
        }
    });
    let said = service.log().matches("database connections: ").count();
    assert!((1..=2).contains(&said), "{}", service.log());
    assert!(service.log().contains("max_user_connections"), "{}", service.log());
    schema.run(&format!("DROP USER {user}@'127.0.0.1'"));
}

#[test]
fn an_account_with_its_hourly_limit_used_up_is_busy_and_the_log_names_the_limit() {
    // Two of the limits that small plans have; the others end a login.
    for (limit, resource) in
        [("MAX_QUERIES_PER_HOUR 60", "max_queries_per_hour"), ("MAX_UPDATES_PER_HOUR 3", "max_updates_per_hour")]
    {
        let schema = Database::shared().schema();
        Service::start(&schema, &[]).wait_until_ready();
        let user = plain_user(&schema, "ALL PRIVILEGES");
        schema.run(&format!("ALTER USER {user}@'127.0.0.1' WITH {limit}"));
        let service = start_as(&schema, &user, &[]);
        let mut answer = service.submit("x", &[]);
        for _ in 0..100 {
            if answer.status != 200 {
                break;
            }
            answer = service.submit("x", &[]);
        }
        assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"), "{limit}");
        eventually("the limit is named", || service.log().contains(resource));
        schema.run(&format!("DROP USER {user}@'127.0.0.1'"));
    }
}
