//! Order, time limits, and what many or endless clients cost; and each defect of `tiny_http`'s server, which ours must
//! not have. What single requests are answered is in the torture table.

use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::support::client::request;
use crate::support::{Board, Connection, Service, eventually};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";

fn post(headers: &str, body: &str) -> String {
    format!("POST /submit HTTP/1.1\r\nHost: a\r\n{FORM}{headers}\r\n{body}")
}

/// Sends bytes on a connection of their own, and expects one answer with this status and code and a closed connection.
#[track_caller]
fn refused(service: &Service, bytes: &[u8], status: u16, code: &str) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let mut connection = service.connect();
    connection.send(bytes);
    let answer = connection.try_answer(false).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{shown:?}");
    assert_eq!(answer.header("Connection"), Some("close"), "{shown:?}");
    connection.assert_closed();
    assert_eq!(service.get("/livez").status, 200, "after {shown:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let board = Board::start();
    let mut connection = board.service.connect();
    let mut bytes = Vec::new();
    for round in 0..200 {
        bytes.extend(request("GET", "/livez", &[("X-Request-Id", &format!("live-{round}"))], b""));
        bytes.extend(request("GET", "/messages", &[("X-Request-Id", &format!("list-{round}"))], b""));
        bytes.extend_from_slice(
            post(&format!("X-Request-Id: post-{round}\r\nContent-Length: 13\r\n"), "new_message=x").as_bytes(),
        );
    }
    let mut sender = connection.socket.try_clone().unwrap();
    let writer = thread::spawn(move || std::io::Write::write_all(&mut sender, &bytes).unwrap());
    for round in 0..200 {
        for (kind, status) in [("live", 200), ("list", 200), ("post", 200)] {
            let answer = connection.answer();
            assert_eq!(answer.status, status);
            assert_eq!(answer.header("X-Request-Id"), Some(&*format!("{kind}-{round}")));
            if kind == "list" {
                assert_eq!(answer.messages().len(), round.min(50), "each sees what was acknowledged before it");
            }
        }
    }
    writer.join().unwrap();
}

#[test]
fn a_client_that_ends_its_side_with_its_request_is_answered_and_closed_immediately() {
    let board = Board::start();
    for path in ["/livez", "/", "/messages/1"] {
        for _ in 0..50 {
            let mut connection = board.service.connect();
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            connection.socket.shutdown(Shutdown::Write).unwrap();
            assert!(matches!(connection.answer().status, 200 | 404));
            // Long before the time that an idle connection has.
            connection.assert_closed();
        }
    }
}

#[test]
fn requests_that_come_while_one_is_answered_are_answered_next() {
    let board = Board::start();
    let mut connections: Vec<_> = (0..8).map(|_| board.service.connect()).collect();
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..200 {
        // In two parts, so that the second comes at any time: while the first is read, waits for the database or is
        // sent.
        connections.iter_mut().for_each(|connection| connection.send(request));
        connections.iter_mut().for_each(|connection| connection.send(request));
        for connection in &mut connections {
            assert_eq!([connection.answer().status, connection.answer().status], [200, 200]);
        }
    }
}

#[test]
fn time_limits_end_what_takes_too_long() {
    let board = Board::with(&[("REQUEST_TIMEOUT", "400ms"), ("IDLE_TIMEOUT", "1s")]);
    let start = Instant::now();
    let mut drip = board.service.connect();
    drip.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let mut idle = board.service.connect();
    idle.send(request("GET", "/livez", &[], b""));
    idle.answer();
    let answer = drip.answer();
    assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"));
    assert!(start.elapsed() >= Duration::from_millis(400) && start.elapsed() < Duration::from_millis(1500));
    drip.assert_closed();
    idle.assert_closed();
    assert!(
        start.elapsed() >= Duration::from_secs(1) && start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_connection_that_says_nothing_is_closed_also_when_it_is_the_first() {
    for _ in 0..5 {
        let board = Board::with(&[("IDLE_TIMEOUT", "300ms")]);
        let start = Instant::now();
        board.service.connect().assert_closed();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[test]
fn empty_lines_without_end_are_refused() {
    let board = Board::start();
    refused(&board.service, &b"\r\n".repeat(10_000), 400, "bad_request");
    let mut connection = board.service.connect();
    connection.send("\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.answer().status, 200, "a few are not");
}

#[test]
fn readers_are_not_cut_off_because_others_do_not_read() {
    let board = Board::with(&[("REQUEST_TIMEOUT", "30s")]);
    // A list of many megabytes, of which the system's buffers take a part.
    board.schema.run("ALTER TABLE messages MODIFY message MEDIUMTEXT");
    board.schema.run("INSERT INTO messages (message) SELECT REPEAT('x', 60000) FROM seq_1_to_200");
    let list = || request("GET", "/messages?limit=200", &[], b"");
    let silent: Vec<Connection> = (0..6)
        .map(|_| {
            let mut connection = board.service.connect();
            connection.send(list());
            connection
        })
        .collect();
    for _ in 0..3 {
        let mut reader = board.service.connect();
        reader.send(list());
        assert!(reader.answer().body.len() > 12_000_000);
    }
    drop(silent);
}

#[test]
fn a_declared_body_of_a_quadrillion_bytes_is_refused_and_costs_nothing() {
    let board = Board::start();
    let before = board.service.resident_kib();
    for method in ["GET", "POST"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000000\r\n\r\n");
        refused(&board.service, head.as_bytes(), 413, "body_too_large");
    }
    assert!(board.service.resident_kib() < before + 1024);
}

#[test]
fn bursts_of_connections_that_stay_open_are_all_answered() {
    let board = Board::start();
    for burst in [8, 16, 64, 500] {
        let start = Instant::now();
        let mut connections: Vec<Connection> = (0..burst).map(|_| board.service.connect()).collect();
        for connection in &mut connections {
            connection.send(request("GET", "/", &[], b""));
        }
        for connection in &mut connections {
            assert_eq!(connection.answer().status, 200);
        }
        assert!(start.elapsed() < Duration::from_secs(1), "{burst} took {:?}", start.elapsed());
    }
}

#[test]
fn header_bytes_without_end_are_refused_at_the_limit() {
    let board = Board::start();
    let before = board.service.resident_kib();
    let mut connection = board.service.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 && std::io::Write::write_all(&mut connection.socket, &[b'x'; 65536]).is_ok() {
        sent += 65536;
    }
    assert!(sent < 16 * 1024 * 1024, "it reads no further than what it discards");
    assert!(board.service.resident_kib() < before + 2048);
}

#[test]
fn without_descriptors_the_longest_idle_connection_makes_room_and_accepting_goes_on() {
    let board = Board::start();
    let mut connections: Vec<Connection> = Vec::new();
    for _ in 0..60 {
        let mut connection = board.service.connect();
        connection.send(request("GET", "/livez", &[], b""));
        connection.answer();
        connections.push(connection);
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", board.service.pid())).unwrap().count();
    let limit = format!("--nofile={open}:{open}");
    let pid = board.service.pid().to_string();
    let lowered = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
    assert!(lowered.success());
    for _ in 0..30 {
        let mut connection = board.service.connect();
        connection.send(request("GET", "/livez", &[], b""));
        assert_eq!(connection.answer().status, 200);
        connections.push(connection);
    }
    connections[0].assert_closed();
    connections.last_mut().unwrap().send(request("GET", "/livez", &[], b""));
    assert_eq!(connections.last_mut().unwrap().answer().status, 200, "the newest is kept");
    drop(connections);
    assert_eq!(board.get("/messages").status, 200);
}

#[test]
fn when_all_slots_are_taken_the_longest_idle_goes_first_and_then_the_slowest_incomplete_request() {
    let board = Board::with(&[("MAX_CONNECTIONS", "10")]);
    let mut connections: Vec<Connection> = (0..10).map(|_| board.service.connect()).collect();
    for number in [3, 7] {
        connections[number].send(request("GET", "/livez", &[], b""));
        assert_eq!(connections[number].answer().status, 200);
    }
    let asks = |connections: &mut [Connection], number: usize| {
        connections[number].send("GET /livez HTTP/1.1\r\n");
    };
    [4, 0, 1, 2, 5, 6, 8, 9].into_iter().for_each(|number| asks(&mut connections, number));
    for number in [3, 7, 4, 0] {
        let mut one_more = board.service.connect();
        one_more.send(request("GET", "/livez", &[("Connection", "close")], b""));
        assert_eq!(one_more.answer().status, 200);
        connections[number].assert_closed();
        // Takes the slot again, for longer than the others.
        one_more.assert_closed();
        connections.push(board.service.connect());
        let last = connections.len() - 1;
        asks(&mut connections, last);
    }
    connections[9].send("Host: a\r\n\r\n");
    assert_eq!(connections[9].answer().status, 200, "the others stay");
}

#[test]
fn when_all_slots_have_a_request_in_progress_a_new_connection_gets_503() {
    let board = Board::with(&[("MAX_CONNECTIONS", "10")]);
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let mut busy: Vec<Connection> = Vec::new();
    eventually("all slots are taken", || {
        // One whose request is not read yet may be closed for the next.
        busy.push(board.service.connect());
        busy.last_mut().unwrap().send("GET /messages HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = board.get("/livez");
        answer.status == 503 && answer.code() == "overloaded" && answer.header("Retry-After").is_some()
    });
    holder.query_drop("UNLOCK TABLES").unwrap();
    let served = busy.iter_mut().filter_map(|connection| connection.try_answer(false).ok());
    assert_eq!(served.filter(|answer| answer.status == 200).count(), 10, "requests in progress are answered");
}

#[test]
fn a_client_that_pipelines_and_never_reads_is_bounded_and_then_closed() {
    let board = Board::with(&[("REQUEST_TIMEOUT", "1s")]);
    board.schema.run("INSERT INTO messages (message) SELECT REPEAT('x', 2000) FROM seq_1_to_50");
    let before = board.service.resident_kib();
    let mut connection = board.service.connect();
    connection.socket.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let requests = request("GET", "/", &[], b"").repeat(1000);
    let mut sent = 0;
    while sent < 400_000_000 && std::io::Write::write_all(&mut connection.socket, &requests).is_ok() {
        sent += requests.len();
    }
    assert!(sent < 100_000_000, "it is not read on without end");
    assert!(board.service.resident_kib() < before + 8 * 1024, "{} KiB after {before}", board.service.resident_kib());
    assert_eq!(board.get("/livez").status, 200);
    eventually("the connection is closed", || std::io::Write::write_all(&mut connection.socket, &requests).is_err());
}

#[test]
fn half_read_requests_take_no_more_memory_than_their_bytes() {
    let board = Board::start();
    let before = board.service.resident_kib();
    // One read of the service's: a short head, and what comes of a long body.
    let half = post("Content-Length: 60000\r\n", &"x".repeat(16_000));
    let mut clients: Vec<Connection> = (0..1000).map(|_| board.service.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(half.as_bytes()));
    // They are all read by the time that a later one is answered, as nothing else is going on.
    eventually("all are read", || board.service.resident_kib() > before + 14 * 1024);
    assert_eq!(board.get("/livez").status, 200);
    let grown = board.service.resident_kib() - before;
    assert!(grown < 24 * 1024, "{grown} KiB for 1000 times 16 KB");
}

#[test]
fn the_answer_to_an_unread_body_is_not_lost() {
    let board = Board::start();
    for _ in 0..20 {
        let mut connection = board.service.connect();
        let mut sender = connection.socket.try_clone().unwrap();
        let writer = thread::spawn(move || {
            let head = post("Content-Length: 200000\r\n", "");
            let _ = std::io::Write::write_all(&mut sender, head.as_bytes());
            let _ = std::io::Write::write_all(&mut sender, &[b'x'; 200_000]);
        });
        assert_eq!(connection.answer().status, 413);
        writer.join().unwrap();
    }
}
