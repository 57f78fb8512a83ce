//! Outages: a database that starts late, has other settings, is slow, or is gone.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use socket2::Socket;

use crate::support::service::reach;
use crate::support::{Board, Database, Service, Signal, eventually};

#[test]
fn a_service_started_before_its_database_answers_immediately_and_serves_within_a_second_of_it() {
    let database = Database::private();
    let schema = database.schema();
    database.stop();
    let service = Service::start(&schema, &[]);
    assert_eq!(service.get("/livez").status, 200);
    eventually("the first attempt has failed", || service.log().contains("attempt=1 "));
    let ready = service.get("/readyz");
    assert_eq!((ready.status, ready.text()), (503, "not ready: the database refuses connections\n"));
    for path in ["/", "/messages", "/messages/1"] {
        let answer = service.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"), "{path}");
        assert!(answer.header("Retry-After").is_some(), "{path}");
    }
    assert_eq!(service.submit("x", &[]).status, 503);
    database.start();
    let up = Instant::now();
    eventually("the service is ready", || service.get("/readyz").status == 200);
    assert!(up.elapsed() < Duration::from_secs(1), "{:?} after the database\n{}", up.elapsed(), service.log());
    assert_eq!(service.submit("x", &[]).status, 200);
}

#[test]
fn each_cause_of_a_failed_start_is_logged_in_words_that_name_the_variable_and_ends_with_status_1() {
    let schema = Database::shared().schema();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port().to_string();
    type Cause<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let causes: [Cause<'_>; 6] = [
        (&[("MYSQL_PASSWORD", "wrong")], "access denied", "MYSQL_PASSWORD"),
        (&[("MYSQL_USER", "nobody")], "access denied", "MYSQL_USER"),
        (&[("MYSQL_DB", "no_such_db")], "unknown database", "MYSQL_DB"),
        (&[("MYSQL_HOST", "no-such-host.invalid")], "no address found", "MYSQL_HOST"),
        (&[("MYSQL_PORT", &closed)], "refused", "MYSQL_PORT"),
        (&[("MYSQL_PORT", &silent_port), ("DB_TIMEOUT", "300ms")], "did not answer in time", "DB_TIMEOUT"),
    ];
    for (settings, words, variable) in causes {
        let service = Service::start(&schema, &[&[("DB_WAIT", "500ms")], settings].concat());
        let live = service.get("/livez").status;
        assert_eq!((live, service.wait()), (200, 1), "{settings:?}\n{}", service.log());
        let line = service
            .log()
            .lines()
            .find(|l| l.contains("attempt=1 "))
            .map(str::to_owned)
            .unwrap_or_else(|| panic!("{}", service.log()));
        assert!(line.to_lowercase().contains(words) && line.contains(variable), "{settings:?}: {line}");
        let last = service.log().lines().last().unwrap_or_default().to_owned();
        assert!(last.contains("gave up on the database after") && last.contains(variable), "{last}");
    }
}

#[test]
fn a_check_that_fails_is_logged_without_requests() {
    let board = Board::with(&[("DB_TIMEOUT", "1s")]);
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    eventually("it is logged", || board.service.log().contains("reading messages fails: "));
    holder.query_drop("UNLOCK TABLES").unwrap();
    let log = board.service.log();
    let line = log.lines().find(|line| line.contains("reading messages fails: ")).unwrap();
    assert!(!line.contains("request"), "{line}");
}

#[test]
fn a_statement_that_timed_out_never_leaves_its_answer_to_the_next_request() {
    let board = Board::with(&[("DB_TIMEOUT", "1s")]);
    for text in ["one", "two", "three"] {
        board.submit(text);
    }
    for round in 0..3 {
        // MariaDB and MySQL make readers of a locked table wait.
        let mut holder = board.schema.connect();
        holder.query_drop("LOCK TABLES messages WRITE").unwrap();
        let start = Instant::now();
        // Two at a time: the queue has two leaders, and both connections must time out.
        std::thread::scope(|scope| {
            let asks: Vec<_> = (0..2).map(|_| scope.spawn(|| board.get("/messages/1"))).collect();
            for ask in asks {
                let answer = ask.join().unwrap();
                assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"), "round {round}");
            }
        });
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        holder.query_drop("UNLOCK TABLES").unwrap();
        for _ in 0..4 {
            assert_eq!(board.get("/messages/2").json()["message"], "two");
            assert_eq!(board.get("/messages?before=2").messages(), ["one"]);
            assert_eq!(board.get("/messages").messages(), ["three", "two", "one"]);
        }
    }
}

#[test]
fn a_database_that_begins_to_hang_delays_no_request_that_does_not_need_it() {
    let board = Board::with(&[("DB_TIMEOUT", "4s")]);
    board.submit("x");
    let requests: [&(dyn Fn() -> u16 + Sync); 4] = [
        &|| board.get("/").status,
        &|| board.service.submit("y", &[]).status,
        &|| board.get("/messages/1").status,
        &|| board.get("/messages/1").status,
    ];
    for request in requests {
        // One after the other, so that the queue expects short batches.
        (0..20).for_each(|_| assert_eq!(request(), 200));
    }
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    std::thread::scope(|scope| {
        let hanging = requests.map(|request| {
            let hanging = scope.spawn(request);
            let start = Instant::now();
            (0..10).for_each(|_| assert_eq!(board.get("/livez").status, 200));
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
            hanging
        });
        eventually("it is not ready", || {
            let start = Instant::now();
            let status = board.get("/readyz").status;
            assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
            status == 503
        });
        assert!(hanging.iter().all(|request| !request.is_finished()), "nothing hung");
        holder.query_drop("UNLOCK TABLES").unwrap();
        assert_eq!(hanging.map(|request| request.join().unwrap()), [200; 4]);
    });
}

#[test]
fn a_late_response_to_a_read_of_the_latest_reaches_no_client() {
    let board = Board::with(&[("DB_TIMEOUT", "1s")]);
    board.submit("before");
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    assert_eq!(board.get("/messages").status, 503);
    holder.query_drop("INSERT INTO messages (message) VALUES ('meanwhile')").unwrap();
    holder.query_drop("UNLOCK TABLES").unwrap();
    assert_eq!(board.get("/messages").messages(), ["meanwhile", "before"]);
}

#[test]
fn requests_that_wait_for_a_lock_are_503_within_the_time_out_and_so_are_those_queued_after_them() {
    let board = Board::with(&[("DB_TIMEOUT", "3s")]);
    let mut holder = board.schema.connect();
    holder.query_drop("START TRANSACTION").unwrap();
    let key = twotier::idempotency_key::IdempotencyKey::parse("held").unwrap();
    holder
        .exec_drop("INSERT INTO messages (message, submit_key) VALUES ('held', ?)", (key.as_bytes().to_vec(),))
        .unwrap();
    std::thread::scope(|scope| {
        for key in ["held", "innocent 1", "innocent 2"] {
            let service = &board.service;
            scope.spawn(move || {
                let start = Instant::now();
                let answer = service.submit("x", &[("Idempotency-Key", key)]);
                let took = start.elapsed();
                assert!(took < Duration::from_secs(4), "{key}: {} after {took:?}", answer.status);
            });
        }
    });
    holder.query_drop("ROLLBACK").unwrap();
    assert_eq!(board.service.submit("x", &[("Idempotency-Key", "held")]).status, 200);
}

#[test]
fn of_several_causes_the_most_telling_is_named_and_the_pauses_grow() {
    let schema = Database::shared().schema();
    let hosts = format!("127.0.0.1:{},127.0.0.9", schema.database.port());
    let settings = [("MYSQL_HOST", hosts.as_str()), ("MYSQL_PASSWORD", "wrong"), ("DB_WAIT", "2s")];
    let service = Service::start(&schema, &settings);
    assert_eq!(service.wait(), 1);
    assert!(
        service.log().contains("access denied") && !service.log().contains("is the database up"),
        "{}",
        service.log()
    );
    assert!(!service.log().contains("attempt 8 "), "{}", service.log());
}

#[test]
fn connections_that_the_server_closed_overnight_cause_no_error() {
    let board = Board::start();
    board.submit("x");
    board.get("/messages");
    board.get("/messages/1");
    let mut killer = board.schema.connect();
    let idle: Vec<u64> = killer
        .query("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
        .unwrap();
    assert!(!idle.is_empty());
    for id in idle {
        killer.query_drop(format!("KILL {id}")).unwrap();
    }
    assert_eq!(board.submit("y").status, 200);
    assert_eq!(board.get("/messages").messages(), ["y", "x"]);
    assert_eq!(board.get("/messages/1").status, 200);
    assert_eq!(board.get("/readyz").status, 200);
}

#[test]
fn a_signal_while_waiting_for_the_database_ends_the_wait() {
    let schema = Database::shared().schema();
    let service = Service::start(&schema, &[("MYSQL_HOST", "127.0.0.9")]);
    let start = Instant::now();
    service.signal(Signal::TERM);
    assert_eq!(service.wait(), 0);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_check_reports_in_one_sentence_what_is_wrong() {
    let schema = Database::shared().schema();
    let variables = reach(&schema);
    let check = |settings: &[(&str, &str)]| {
        let mut all: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        all.extend(settings);
        let output = crate::support::service::program(&all).arg("check").output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, words) = check(&[]);
    assert!(status == 0 && words.contains("table         missing") && words.ends_with("OK\n"), "{words}");
    assert!(words.contains("durability    innodb_flush_log_at_trx_commit=1"), "{words}");
    assert!(!words.contains(&schema.database.admin_password()), "no secret is shown");
    Service::start(&schema, &[]).wait_until_ready();
    assert!(check(&[]).1.contains("table         current"));
    for (settings, variable) in [
        ([("MYSQL_PASSWORD", "hunter2")], "MYSQL_PASSWORD"),
        ([("MYSQL_HOST", "no-such-host.invalid")], "MYSQL_HOST"),
        ([("MYSQL_HOST", "127.0.0.9")], "MYSQL_PORT"),
        ([("MYSQL_DB", "no_such_db")], "MYSQL_DB"),
    ] {
        let (status, words) = check(&settings);
        let last = words.lines().last().unwrap_or_default();
        assert!(status == 1 && last.starts_with("wrong: ") && last.contains(variable), "{settings:?}: {words}");
        assert!(!words.contains("hunter2"), "no secret is shown");
    }
}

#[test]
fn the_kernel_ends_a_database_connection_whose_server_is_gone_without_a_word() {
    let board = Board::start();
    board.get("/messages");
    let process = pidfd_open(Pid::from_raw(board.service.pid() as i32).unwrap(), PidfdFlags::empty()).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", board.service.pid())).unwrap();
    let sockets = descriptors.filter_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        Some(Socket::from(pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()?))
    });
    let port = board.schema.database.port();
    let to_database =
        |socket: &Socket| socket.peer_addr().is_ok_and(|peer| peer.as_socket().is_some_and(|p| p.port() == port));
    let sockets: Vec<Socket> = sockets.filter(to_database).collect();
    assert!(!sockets.is_empty(), "no connection to the database");
    for socket in sockets {
        assert!(socket.keepalive().unwrap());
        let unacknowledged = socket.tcp_user_timeout().unwrap();
        assert!(unacknowledged.is_some_and(|limit| limit <= Duration::from_secs(60)), "{unacknowledged:?}");
    }
}
