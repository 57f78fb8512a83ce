//! A drop-in for the Flask app: its table is upgraded in place, and it goes on working.

use std::thread;

use mysql::prelude::Queryable;

use crate::support::{Database, Schema, Service};

/// The table as that app makes it, in this character set, with these rows.
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

/// What that app does for a form, and what it reads for its page.
fn as_flask_does(schema: &Schema, text: Option<&str>) -> Vec<Option<String>> {
    let mut connection = schema.connect();
    connection.exec_drop("INSERT INTO messages (message) VALUES (?)", (text,)).expect("the app can still insert");
    connection.query("SELECT message FROM messages").expect("the app can still read")
}

#[test]
fn the_flask_apps_table_is_upgraded_by_two_replicas_at_once_and_nothing_is_lost() {
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
fn a_short_column_is_widened() {
    let schema = Database::shared().schema();
    schema
        .run("CREATE TABLE messages (id INT AUTO_INCREMENT PRIMARY KEY, message VARCHAR(255)) DEFAULT CHARSET=latin1");
    schema.run("INSERT INTO messages (message) VALUES ('old é')");
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    let long = "😀".repeat(2000);
    assert_eq!(service.submit(&long, &[]).status, 200);
    assert_eq!(service.get("/messages").messages(), [long.as_str(), "old é"]);
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
fn a_table_of_another_program_is_left_alone_and_named() {
    let schema = Database::shared().schema();
    schema.run("CREATE TABLE messages (uuid CHAR(36) PRIMARY KEY, body TEXT)");
    let service = Service::start(&schema, &[("DB_WAIT", "1s")]);
    assert_eq!(service.wait(), 1);
    assert!(service.log().contains("it has no columns id and message"), "{}", service.log());
    assert_eq!(
        schema.rows::<String>(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY 1"
        ),
        ["body", "uuid"]
    );
}

#[test]
fn a_view_in_the_tables_place_is_left_alone_and_said_in_words() {
    let schema = Database::shared().schema();
    schema.run("CREATE VIEW messages AS SELECT 1 AS id, 'text' AS message");
    let service = Service::start(&schema, &[("DB_WAIT", "1s")]);
    assert_eq!(service.wait(), 1);
    assert!(service.log().contains("it is a view"), "{}", service.log());
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
