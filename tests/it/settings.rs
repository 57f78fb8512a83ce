//! Settings as an operator meets them: warnings, refusals, and what the scripts set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::service::program;
use crate::support::{Board, Database, Schema, Service};

#[test]
fn a_board_that_make_run_serves_listens_on_loopback_unless_bind_is_set() {
    let target = std::env::temp_dir().join(format!("twotier-run-{}", std::process::id()));
    fs::create_dir_all(target.join("release")).unwrap();
    let binary = target.join("release/twotier");
    fs::write(&binary, "#!/bin/sh\necho \"BIND=$BIND\"\n").unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/run"));
        command.env_remove("BIND").env("CARGO_TARGET_DIR", &target).env("MYSQL_HOST", "db");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&[]), "BIND=127.0.0.1\n");
    assert_eq!(run(&[("BIND", "0.0.0.0")]), "BIND=0.0.0.0\n");
    assert_eq!(run(&[("BIND_FILE", "/run/bind")]), "BIND=\n");
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn a_variable_that_looks_like_a_misspelt_setting_is_a_warning_that_names_both() {
    let board = Board::with(&[("RATELIMIT", "5"), ("MYSQL_PASWORD", "hunter2"), ("MYSQL_ROOT_PASSWORD", "x")]);
    let log = board.service.log();
    for (name, setting) in [("RATELIMIT", "RATE_LIMIT"), ("MYSQL_PASWORD", "MYSQL_PASSWORD")] {
        let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name} in {log}"));
        assert!(line.contains("WARN") && line.contains(&format!("did you mean {setting}?")), "{line}");
    }
    assert!(!log.contains("hunter2") && !log.contains("MYSQL_ROOT"), "{log}");
}

/// What `twotier check` and the log say of a database that can't be used.
fn refused(variables: &[(&str, &str)]) -> [String; 2] {
    let service = Service::run(&[variables, &[("DB_WAIT", "200ms")]].concat());
    assert_eq!(service.wait(), 1, "{}", service.log());
    let mut check = program(variables);
    let output = check.args(["check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let checked = String::from_utf8(output.stdout).unwrap();
    let finding = checked.lines().last().unwrap().strip_prefix("wrong: ").unwrap_or_else(|| panic!("{checked}"));
    [finding.to_owned(), service.log().lines().last().unwrap().to_owned()]
}

fn url(schema: &Schema, user: &str, password: &str, name: &str) -> String {
    format!("mysql://{user}:{password}@127.0.0.1:{}/{name}", schema.database.port())
}

#[test]
fn an_error_of_the_database_names_what_the_user_has_set() {
    let schema = Database::shared().schema();
    let port = schema.database.port().to_string();
    let password = schema.database.admin_password();
    let file = std::env::temp_dir().join(format!("twotier-secret-{}", schema.name));
    fs::write(&file, "\"hunter2\"\n").unwrap();
    let parts =
        [("MYSQL_HOST", "127.0.0.1"), ("MYSQL_PORT", &*port), ("MYSQL_USER", "admin"), ("MYSQL_DB", &*schema.name)];
    let with = |more: &[(&str, &str)]| refused(&[&parts, more].concat());
    for (said, wanted) in [
        (with(&[("MYSQL_PASSWORD", "hunter2")]), "check MYSQL_USER and MYSQL_PASSWORD"),
        (with(&[("MYSQL_PASSWORD", "hunter2 ")]), "MYSQL_PASSWORD; the password begins or ends with white space"),
        (with(&[("MYSQL_PASSWORD", "hunter2\r")]), "carriage return"),
        (
            with(&[("MYSQL_PASSWORD_FILE", file.to_str().unwrap())]),
            "MYSQL_PASSWORD_FILE; the password is enclosed in quotes",
        ),
        (with(&[]), "no password is set"),
        (
            refused(&[("DATABASE_URL", &url(&schema, "admin", "%EF%BB%BFhunter2", &schema.name))]),
            "the password in DATABASE_URL; the password begins with a byte order mark",
        ),
        (refused(&[("DATABASE_URL", &url(&schema, "admin", &password, "no_such"))]), "the database in DATABASE_URL"),
        (refused(&[("DATABASE_URL", "mysql://u:p@127.0.0.1:1/d")]), "the host and the port in DATABASE_URL"),
    ] {
        for said in said {
            assert!(said.contains(wanted) && !said.contains("hunter2"), "{wanted}: {said}");
        }
    }
    fs::remove_file(file).unwrap();
}

#[test]
fn a_host_that_begins_with_a_slash_is_a_unix_socket() {
    let schema = Database::shared().schema();
    let socket: Vec<String> = schema.rows("SELECT @@socket");
    schema.run("GRANT ALL ON *.* TO admin@localhost IDENTIFIED BY 'socket'");
    let variables = [
        ("MYSQL_HOST", &*socket[0]),
        ("MYSQL_USER", "admin"),
        ("MYSQL_PASSWORD", "socket"),
        ("MYSQL_DB", &*schema.name),
    ];
    let by_parts = Service::run(&variables);
    by_parts.wait_until_ready();
    assert_eq!(by_parts.submit("by a socket", &[]).status, 200);
    let encoded = socket[0].replace('/', "%2F");
    for url in [
        format!("mysql://admin:socket@{encoded}/{}", schema.name),
        format!("mysql://admin:socket@localhost/{}?unix_socket={}", schema.name, socket[0]),
    ] {
        let by_url = Service::run(&[("DATABASE_URL", &url)]);
        by_url.wait_until_ready();
        assert_eq!(by_url.get("/messages").messages(), ["by a socket"], "{url}");
    }
    let missing = refused(&[("MYSQL_HOST", "/no/such/socket"), ("MYSQL_USER", "u"), ("MYSQL_DB", "d")]);
    assert!(missing.iter().all(|said| said.contains("MYSQL_HOST")), "{missing:?}");
    assert!(missing[1].contains("/no/such/socket"), "{missing:?}");
}

#[test]
fn a_misspelt_variable_is_named_beside_the_setting_that_is_missing() {
    let output = program(&[("MYSQL_USRE", "board"), ("MYSQL_DB", "board")]).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(words.contains("MYSQL_USER") && words.contains("MYSQL_USRE") && words.contains("warning: "), "{words}");
}
