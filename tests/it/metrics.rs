//! What is counted: that it is right, that Prometheus takes it, and that reading it needs no database.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use crate::support::client::Connection;
use crate::support::{Board, Service, eventually, free_port};

/// The value of the metric whose line begins with `name`, labels and all; 0 when there is none.
fn value(service: &Service, name: &str) -> f64 {
    let answer = service.get("/metrics");
    assert_eq!(answer.status, 200);
    let line = answer.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Whether a program is there; says so when not.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        eprintln!("SKIPPED: {program} is not installed; Debian has it in the package prometheus.");
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
    eventually("the malformed one is counted", || count(r#"method="-",route="-",status="400""#) == 1.0);
    assert_eq!(value(&board.service, r#"twotier_http_request_duration_seconds_count{route="/submit"}"#), 1.0);
    let text = board.get("/metrics").text().to_owned();
    for foreign in ["nobody", "BREW", "987654321"] {
        assert!(!text.contains(foreign), "{text}");
    }
}

#[test]
fn lanes_statements_and_connections_are_counted() {
    let board = Board::start();
    let mut kept = board.service.connect();
    kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    kept.answer();
    board.submit("one");
    let value = |name: &str| value(&board.service, name);
    assert_eq!(value(r#"twotier_lane_batch_jobs_count{lane="newest"}"#), 1.0);
    assert_eq!(value(r#"twotier_lane_batch_jobs_sum{lane="submit"}"#), 1.0);
    assert_eq!(value(r#"twotier_database_statement_duration_seconds_count{statement="newest"}"#), 1.0);
    assert_eq!(value(r#"twotier_database_statement_duration_seconds_count{statement="insert"}"#), 1.0);
    assert!(value("twotier_database_sessions") >= 2.0, "one for reading, one for writing");
    assert!(value(r#"twotier_http_connections{state="open"}"#) >= 2.0, "the kept one and the one that asks");
    eventually("the idle one is seen", || value(r#"twotier_http_connections{state="idle"}"#) >= 1.0);
    assert_eq!(value(r#"twotier_lane_waiting_jobs{lane="newest"}"#), 0.0);
    assert_eq!(value(r#"twotier_lane_rejected_jobs_total{lane="newest",reason="full"}"#), 0.0);
    assert!(value("process_start_time_seconds") > 1.7e9);
}

#[test]
fn connections_are_counted_by_who_ended_them() {
    let board = Board::with(&[("IDLE_TIMEOUT", "300ms"), ("REQUEST_TIMEOUT", "300ms"), ("MAX_CONNECTIONS", "20")]);
    let closed =
        |reason: &str| value(&board.service, &format!(r#"twotier_http_connections_closed_total{{reason="{reason}"}}"#));
    let connect = |bytes: &str| {
        let mut connection: Connection = board.service.connect();
        connection.send(bytes);
        connection
    };
    let before = closed("client");
    drop(connect("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"));
    eventually("the client's end", || closed("client") > before);
    connect("GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").answer();
    eventually("an answer that was the last", || closed("answered") >= 1.0);
    let _idle = connect("");
    eventually("an idle connection's end", || closed("idle_timeout") >= 1.0);
    let _slow = connect("GET / HT");
    eventually("a slow request's end", || closed("request_timeout") >= 1.0);
    let _crowd: Vec<_> = (0..21).map(|_| connect("")).collect();
    eventually("one that made room", || closed("evicted") >= 1.0);
}

#[test]
fn reading_the_metrics_needs_no_database_and_less_than_a_millisecond() {
    let board = Board::start();
    let mut connection = board.service.connect();
    board.get("/");
    let statements =
        || value(&board.service, r#"twotier_database_statement_duration_seconds_count{statement="newest"}"#);
    let before = statements();
    let quickest = (0..50)
        .map(|_| {
            let start = Instant::now();
            connection.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
            connection.answer();
            start.elapsed()
        })
        .min();
    assert_eq!(statements(), before);
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
