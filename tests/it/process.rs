//! The program as an operator meets it: arguments, settings, exit statuses, signals.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::service::program;
use crate::support::{Board, Database, Service, Signal, eventually, signal};

fn run(variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let output = program(variables).args(arguments).output().expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("a status"), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_are_words_and_options() {
    for arguments in
        [&["--help"][..], &["-h"], &["help"], &["help", "check"], &["check", "--help"], &["healthcheck", "-h"]]
    {
        let (status, out, err) = run(&[], arguments);
        assert!(status == 0 && out.contains("twotier healthcheck") && err.is_empty(), "{arguments:?}: {out}{err}");
    }
    for argument in ["--version", "-V", "version"] {
        let version = format!("twotier {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(&[], &[argument]), (0, version, String::new()));
    }
}

#[test]
fn an_unknown_argument_is_named_with_the_nearest_known_one() {
    for (arguments, named) in [
        (&["serve"][..], "unknown argument 'serve'; settings are environment variables"),
        (&["--port", "1"], "unknown argument '--port'; settings are environment variables"),
        (&["healthcheck", "--dead"], "unknown argument '--dead'; settings are environment variables"),
        (&["healthcheck", "--live", "x"], "unknown argument 'x'; settings are environment variables"),
        (&["check", "x"], "unknown argument 'x'; settings are environment variables"),
        (&[""], "unknown argument ''; settings are environment variables"),
        (&["\u{1b}[31m"], "unknown argument '\\u{1b}[31m'; settings are environment variables"),
        (&["chek"], "unknown argument 'chek'; did you mean 'check'?"),
        (&["health-check"], "unknown argument 'health-check'; did you mean 'healthcheck'?"),
        (&["healthcheck", "--liv"], "unknown argument '--liv'; did you mean '--live'?"),
        (&["--versoin"], "unknown argument '--versoin'; did you mean 'version'?"),
        (&["--mysql-password=hunter2"], "unknown argument '--mysql-password'; settings are environment variables"),
        (&["mysql://u:hunter2@h/d"], "unknown argument 'mysql'; settings are environment variables"),
    ] {
        let (status, out, err) = run(&[], arguments);
        assert!(status == 2 && out.is_empty() && err.contains("usage:"), "{arguments:?}: {err}");
        assert!(!err.contains("hunter2"), "{err}");
        assert_eq!(err.lines().next(), Some(format!("error: {named}").as_str()));
    }
}

#[test]
fn wrong_settings_are_reported_together_with_status_2() {
    let (status, _, err) = run(&[("PORT", "http"), ("MAX_CONNECTIONS", "0"), ("MYSQL_USER", "u")], &[]);
    assert_eq!(status, 2);
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(
        lines,
        [
            "error: MYSQL_DB: is missing; set it, or DATABASE_URL=mysql://user:password@host:3306/db",
            "error: PORT=http: expected a port from 0 to 65535",
            "error: MAX_CONNECTIONS=0: expected a number from 1 to 1000000",
        ]
    );
    let (status, _, err) = run(&[("MYSQL_PASSWORD", "hunter2"), ("MYSQL_PASSWORD_FILE", "/x")], &["check"]);
    assert!(
        status == 2 && err.contains("cannot be combined with MYSQL_PASSWORD_FILE") && !err.contains("hunter2"),
        "{err}"
    );
}

#[test]
fn settings_come_from_files_and_from_a_url_too() {
    let schema = Database::shared().schema();
    let path = std::env::temp_dir().join(format!("twotier-password-{}", schema.name));
    let mut file = std::fs::File::create(&path).unwrap();
    writeln!(file, "{}", schema.database.admin_password()).unwrap();
    let port = schema.database.port().to_string();
    let from_file = Service::run(&[
        ("MYSQL_HOST", "127.0.0.1"),
        ("MYSQL_PORT", &port),
        ("MYSQL_USER", "admin"),
        ("MYSQL_PASSWORD_FILE", path.to_str().unwrap()),
        ("MYSQL_DATABASE", &schema.name),
    ]);
    from_file.wait_until_ready();
    std::fs::remove_file(path).unwrap();
    let url = format!("mysql://admin:{}@127.0.0.1:{port}/{}", schema.database.admin_password(), schema.name);
    let from_url = Service::start(&schema, &[("DATABASE_URL", &url), ("LOG_LEVEL", "trace")]);
    from_url.wait_until_ready();
    from_url.submit("x", &[]);
    assert!(!from_url.log().contains(&schema.database.admin_password()), "no secret is logged");
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_variable() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let variables = [("MYSQL_USER", "u"), ("MYSQL_DB", "d"), ("BIND", "127.0.0.1"), ("PORT", port.as_str())];
    let start = Instant::now();
    let (status, _, err) = run(&variables, &[]);
    assert!(status == 1 && err.contains(&format!("PORT={port}: another program listens")), "{err}");
    assert!(start.elapsed() < Duration::from_secs(2), "before anything is waited for");
}

#[test]
fn the_health_check_exits_0_or_1_and_needs_nothing_but_the_port() {
    let board = Board::start();
    let port = board.service.address.port().to_string();
    let ask = |arguments: &[&str], port: &str| run(&[("PORT", port)], arguments).0;
    assert_eq!(ask(&["healthcheck"], &port), 0);
    assert_eq!(ask(&["healthcheck", "--live"], &port), 0);
    let waiting = Service::start(&board.schema, &[("MYSQL_HOST", "127.0.0.9")]);
    let port = waiting.address.port().to_string();
    assert_eq!(ask(&["healthcheck"], &port), 1, "not ready");
    assert_eq!(ask(&["healthcheck", "--live"], &port), 0);
    drop(waiting);
    assert_eq!(ask(&["healthcheck", "--live"], &port), 1, "not there");
    assert_eq!(ask(&["healthcheck"], "http"), 1, "never another status");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    assert_eq!(ask(&["healthcheck"], &silent.local_addr().unwrap().port().to_string()), 1);
    assert!(start.elapsed() < Duration::from_secs(4), "it does not wait for ever");
}

#[test]
fn after_a_signal_it_is_not_ready_still_serves_for_the_delay_and_ends_with_status_0() {
    let board = Board::with(&[("SHUTDOWN_DELAY", "1s")]);
    let mut kept = board.service.connect();
    kept.send(request("GET", "/livez", &[], b""));
    kept.answer();
    let start = Instant::now();
    board.service.signal(Signal::TERM);
    eventually("it is not ready", || board.get("/readyz").status == 503);
    assert_eq!(board.get("/readyz").text(), "not ready: shutting down\n");
    assert_eq!(board.submit("during the delay").status, 200, "new connections are still taken");
    assert_eq!(board.service.wait(), 0);
    assert!(
        start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    kept.assert_closed();
}

#[test]
fn a_request_in_progress_is_finished_and_its_connection_closed() {
    let board = Board::start();
    let mut connection = board.service.connect();
    connection.send("POST /submit HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 18\r\n\r\nnew_");
    board.get("/livez");
    board.service.signal(Signal::INT);
    eventually("accepting has ended", || crate::support::Connection::try_open(board.service.address).is_err());
    connection.send("message=finish");
    let answer = connection.answer();
    assert_eq!((answer.status, answer.header("Connection")), (200, Some("close")));
    assert_eq!(board.service.wait(), 0);
    assert_eq!(board.schema.copies("finish"), 1);
}

#[test]
fn a_signal_is_heard_as_soon_as_the_log_says_that_it_listens() {
    for _ in 0..50 {
        let listens = [("BIND", "127.0.0.1"), ("PORT", "0")];
        // Where a signal is lost it ends by itself, with another status.
        let nowhere = [("MYSQL_HOST", "127.0.0.9"), ("MYSQL_USER", "u"), ("MYSQL_DB", "d"), ("DB_WAIT", "1s")];
        let mut child = program(&listens).envs(nowhere).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains("listens on ")));
        signal(child.id(), Signal::TERM);
        let rest: Vec<_> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest:?}");
    }
}

#[test]
fn a_second_signal_ends_the_process_immediately() {
    let board = Board::with(&[("SHUTDOWN_DELAY", "1m")]);
    board.service.signal(Signal::TERM);
    eventually("it is stopping", || board.service.log().contains("stopping"));
    board.service.signal(Signal::TERM);
    let start = Instant::now();
    assert_eq!(board.service.wait(), 1);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_wait_that_ends_while_it_is_stopping_is_no_second_signal() {
    let schema = Database::shared().schema();
    let settings = [("MYSQL_HOST", "127.0.0.9"), ("DB_WAIT", "500ms"), ("SHUTDOWN_DELAY", "1s")];
    let service = Service::start(&schema, &settings);
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0, "{}", service.log());
}

#[test]
fn a_client_that_never_finishes_does_not_outlast_the_grace_period() {
    let board = Board::with(&[("SHUTDOWN_GRACE", "500ms")]);
    let mut connection = board.service.connect();
    connection.send("GET / HTTP/1.1\r\nHost");
    board.get("/livez");
    let start = Instant::now();
    board.service.signal(Signal::TERM);
    assert_eq!(board.service.wait(), 0);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn no_log_holds_what_people_write_or_a_secret() {
    let board = Board::with(&[("LOG_LEVEL", "trace"), ("ACCESS_LOG", "json"), ("ADMIN_TOKEN", "t0ken-of-an-admin")]);
    board
        .service
        .submit("a private text", &[("X-Request-Id", "find-me"), ("Authorization", "Bearer t0ken-of-an-admin")]);
    board.service.connect().send("no request\r\n\r\n");
    eventually("the requests are logged", || {
        board.service.access_log().iter().any(|line| line.contains("find-me"))
            && board.service.log().contains("refused")
    });
    let logs = board.service.log() + &board.service.access_log().join("\n");
    for secret in ["private", "t0ken-of-an-admin", &board.schema.database.admin_password()] {
        assert!(!logs.contains(secret), "{logs}");
    }
}

#[test]
fn the_log_can_be_json_with_a_line_for_each_event() {
    let board = Board::with(&[("LOG_LEVEL", "debug"), ("LOG_FORMAT", "json")]);
    board.service.connect().send("no request\r\n\r\n");
    let events = || {
        let parse =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        board.service.log().lines().map(parse).collect::<Vec<_>>()
    };
    let refused = |event: &serde_json::Value| event["message"].as_str().is_some_and(|text| text.contains("refused"));
    eventually("the request is logged", || events().iter().any(refused));
    let events = events();
    let event = events.iter().find(|event| refused(event)).unwrap();
    assert_eq!(event["level"], "debug");
    assert!(event["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{event}");
    assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
}

#[test]
fn connections_that_do_not_fit_the_descriptor_limit_are_taken_off_with_a_warning() {
    let schema = Database::shared().schema();
    let service = Service::run_with_descriptor_limit(500, &schema, &[("MAX_CONNECTIONS", "1000")]);
    service.wait_until_ready();
    eventually("the warning", || service.log().contains("MAX_CONNECTIONS=1000 does not fit"));
}
