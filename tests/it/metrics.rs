//! What is counted: that it is right, that Prometheus takes it, and that reading it needs no database.

use std::io::{self, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use mysql::prelude::Queryable;

use crate::support::client::Connection;
use crate::support::{Board, Database, Service, eventually, free_port};

/// The value of the metric whose line begins with `name`, labels and all, asked for over this connection; none for what has
/// never happened.
fn seen(connection: &mut Connection, name: &str) -> Option<f64> {
    connection.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = connection.answer();
    assert_eq!(answer.status, 200);
    let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().expect("a number"))
}

/// The value of a metric that has to be there.
#[track_caller]
fn value(service: &Service, name: &str) -> f64 {
    seen(&mut service.connect(), name).unwrap_or_else(|| panic!("there is no {name}"))
}

/// The name of the count of connections that have ended for this reason.
fn closed(reason: &str) -> String {
    format!(r#"twotier_http_connections_closed_total{{reason="{reason}"}}"#)
}

/// Whether a program is there; says so when not.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        // Not by a macro, whose output is shown only when a test fails.
        let _ = writeln!(io::stderr(), "SKIPPED: {program} is not installed; Debian has it in the package prometheus.");
    }
    there
}

#[test]
fn requests_are_counted_by_route_and_never_by_what_a_client_invents() {
    let board = Board::start();
    board.submit("one");
    board.get("/messages/1");
    board.get("/messages/2");
    board.get("/messages/987654321");
    board.get("/nobody/knows?this=1");
    board.service.ask("BREW", "/", &[], b"");
    board.service.connect().send("no request\r\n\r\n");
    let count = |labels: &str| value(&board.service, &format!("twotier_http_requests_total{{{labels}}}"));
    assert_eq!(count(r#"method="POST",route="/submit",status="200""#), 1.0);
    assert_eq!(count(r#"method="GET",route="/messages/{id}",status="200""#), 1.0);
    assert_eq!(count(r#"method="GET",route="/messages/{id}",status="404""#), 2.0);
    assert_eq!(count(r#"method="GET",route="-",status="404""#), 1.0);
    assert_eq!(count(r#"method="other",route="-",status="405""#), 1.0);
    let malformed = r#"twotier_http_requests_total{method="-",route="-",status="400"}"#;
    eventually("the malformed one is counted", || seen(&mut board.service.connect(), malformed) == Some(1.0));
    assert_eq!(value(&board.service, r#"twotier_http_request_duration_seconds_count{route="/submit"}"#), 1.0);
    let text = board.get("/metrics").text().to_owned();
    for foreign in ["nobody", "BREW", "987654321"] {
        assert!(!text.contains(foreign), "{text}");
    }
}

#[test]
fn batch_queues_statements_and_connections_are_counted() {
    let board = Board::start();
    let mut kept = board.service.connect();
    kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    kept.answer();
    board.submit("one");
    let value = |name: &str| value(&board.service, name);
    assert_eq!(value(r#"twotier_batch_queue_batch_requests_count{queue="latest"}"#), 1.0);
    assert_eq!(value(r#"twotier_batch_queue_batch_requests_sum{queue="insert"}"#), 1.0);
    assert_eq!(value(r#"twotier_database_statement_duration_seconds_count{statement="newest"}"#), 1.0);
    assert_eq!(value(r#"twotier_database_statement_duration_seconds_count{statement="insert"}"#), 1.0);
    let sessions = value("twotier_database_connections");
    assert!((1.0..=5.0).contains(&sessions), "shared by all queues: {sessions}");
    assert!(value("twotier_http_connections_limit") == 10_000.0);
    eventually("the idle one is seen", || value(r#"twotier_http_connections{state="idle"}"#) >= 1.0);
    assert_eq!(value(r#"twotier_batch_queue_waiting_requests{queue="latest"}"#), 0.0);
    assert_eq!(value(r#"twotier_batch_queue_rejected_requests_total{queue="latest",reason="full"}"#), 0.0);
    assert!(value("process_start_time_seconds") > 1.7e9);
}

#[test]
fn connections_that_clients_and_last_answers_end_are_counted() {
    let board = Board::start();
    // Kept, so that the askers' own ends are not among what is counted.
    let mut asking = board.service.connect();
    let before = seen(&mut asking, &closed("client"));
    drop(board.service.connect());
    eventually("the client's end", || seen(&mut asking, &closed("client")) > before);
    let mut last = board.service.connect();
    last.send("GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    last.answer();
    eventually("an answer that was the last", || seen(&mut asking, &closed("answered")) == Some(1.0));
}

#[test]
fn connections_that_take_too_long_are_counted() {
    let board = Board::with(&[("IDLE_TIMEOUT", "300ms"), ("REQUEST_TIMEOUT", "300ms")]);
    let _idle = board.service.connect();
    let mut slow = board.service.connect();
    slow.send("GET / HT");
    for reason in ["idle_timeout", "request_timeout"] {
        eventually(reason, || seen(&mut board.service.connect(), &closed(reason)).is_some());
    }
}

#[test]
fn connections_that_make_room_and_those_that_are_refused_are_counted() {
    let board = Board::with(&[("MAX_CONNECTIONS", "4")]);
    let idle: Vec<_> = (0..6).map(|_| board.service.connect()).collect();
    let evicted = |reason| seen(&mut board.service.connect(), &closed(reason)).unwrap();
    eventually("some made room", || evicted("evicted") + evicted("evicted_incomplete") >= 2.0);
    drop(idle);
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let mut busy: Vec<Connection> = Vec::new();
    eventually("all slots are taken", || {
        // One whose request is not read yet may be closed for the next.
        busy.push(board.service.connect());
        busy.last_mut().unwrap().send("GET /messages HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = board.get("/livez");
        answer.status == 503
    });
    holder.query_drop("UNLOCK TABLES").unwrap();
    let served = busy.iter_mut().filter_map(|connection| connection.try_answer(false).ok());
    assert_eq!(served.filter(|answer| answer.status == 200).count(), 4, "requests in progress are answered");
    assert!(value(&board.service, r#"twotier_http_connections_refused_total{reason="full"}"#) >= 1.0);
}

#[test]
fn jobs_that_are_not_tried_are_counted() {
    let board = Board::with(&[("DB_TIMEOUT", "1s"), ("QUEUE_REQUESTS", "3")]);
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let mut waiting: Vec<_> = (0..8).map(|_| board.service.connect()).collect();
    let (first, others) = waiting.split_first_mut().unwrap();
    let ask = |connection: &mut Connection| connection.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    ask(first);
    let led = r#"twotier_batch_queue_batch_requests_count{queue="latest"}"#;
    eventually("the first one is led", || value(&board.service, led) == 1.0);
    others.iter_mut().for_each(ask);
    let statuses: Vec<_> = waiting.iter_mut().map(|connection| connection.answer().status).collect();
    holder.query_drop("UNLOCK TABLES").unwrap();
    assert_eq!(statuses, [503; 8]);
    for reason in ["full", "backend_down"] {
        let name = format!(r#"twotier_batch_queue_rejected_requests_total{{queue="latest",reason="{reason}"}}"#);
        assert!(value(&board.service, &name) >= 1.0, "{reason}");
    }
    assert_eq!(
        value(&board.service, r#"twotier_batch_queue_rejected_requests_total{queue="latest",reason="queue_timeout"}"#),
        0.0
    );
    assert_eq!(value(&board.service, r#"twotier_batch_queue_waiting_requests{queue="latest"}"#), 0.0);
}

#[test]
fn reading_the_metrics_needs_no_database_and_is_quick() {
    let database = Database::private();
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    database.stop();
    let mut connection = service.connect();
    let quickest = (0..50)
        .map(|_| {
            let start = Instant::now();
            assert!(seen(&mut connection, "process_start_time_seconds").is_some());
            start.elapsed()
        })
        .min();
    // A build for tests on a busy machine is many times slower than the one that is used.
    assert!(quickest.is_some_and(|quickest| quickest.as_millis() < 20), "{quickest:?}");
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    if !is_there("promtool") {
        return;
    }
    let board = Board::start();
    board.submit("one");
    board.get("/");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&board.get("/metrics").body).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn prometheus_scrapes_it() {
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    if !is_there("prometheus") {
        return;
    }
    let board = Board::start();
    let port = free_port();
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    let dir = env::temp_dir().join(format!("twotier-prometheus-{}-{port}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let config = format!(
        "scrape_configs:\n  - job_name: twotier\n    scrape_interval: 500ms\n    scrape_timeout: 500ms\n    \
         static_configs:\n      - targets: ['{}']\n",
        board.service.address
    );
    fs::write(dir.join("prometheus.yml"), config).unwrap();
    let prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let prometheus = Killed(prometheus);
    let query = |expression: &str| {
        let Ok(mut connection) = Connection::try_open(([127, 0, 0, 1], port).into()) else { return String::new() };
        let expression = crate::support::client::form_value(expression);
        connection.send(format!("GET /api/v1/query?query={expression} HTTP/1.1\r\nHost: a\r\n\r\n"));
        connection
            .try_answer(false)
            .map(|answer| String::from_utf8_lossy(&answer.body).into_owned())
            .unwrap_or_default()
    };
    eventually("the service is up, as Prometheus sees it", || query("up == 1").contains(r#""value":"#));
    let build = query("twotier_build_info");
    assert!(build.contains(&format!(r#""version":"{}""#, env!("CARGO_PKG_VERSION"))), "{build}");
    drop(prometheus);
    fs::remove_dir_all(dir).unwrap();
}
