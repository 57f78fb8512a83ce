//! Many clients together: what they cost, and what a batch saves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::support::client::request;
use crate::support::{Board, Connection, Database, Service, Signal};

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// Runs `clients` in a closed loop for a while; each sends what `make` gives, and counts the answers with status 200.
fn closed_loop(service: &Service, clients: usize, time: Duration, make: impl Fn(usize, u64) -> Vec<u8> + Sync) -> u64 {
    let (answered, make) = (AtomicU64::new(0), &make);
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for client in 0..clients {
            let answered = &answered;
            scope.spawn(move || {
                let mut connection = service.connect();
                for round in 0.. {
                    if Instant::now() > end {
                        return;
                    }
                    connection.send(make(client, round));
                    assert_eq!(connection.answer().status, 200);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    answered.into_inner()
}

#[test]
fn many_pages_share_one_select_and_many_messages_one_insert() {
    let database = Database::private();
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    let before = database.count("Com_select");
    let pages = closed_loop(&service, 64, Duration::from_secs(1), |_, _| request("GET", "/", &[], b""));
    let selects = database.count("Com_select") - before;
    assert!(selects * 10 < pages, "{selects} SELECT statements for {pages} pages");

    let before = database.count("Com_insert");
    let stored = closed_loop(&service, 64, Duration::from_secs(1), |client, round| {
        request("POST", "/submit", &[FORM], format!("new_message={client}-{round}").as_bytes())
    });
    let inserts = database.count("Com_insert") - before;
    assert!(inserts * 10 < stored, "{inserts} INSERT statements for {stored} messages");
    let counts: Vec<(u64, u64)> = schema.rows("SELECT COUNT(*), COUNT(DISTINCT message) FROM messages");
    assert_eq!(counts, [(stored, stored)], "each is there once");
}

#[test]
fn five_hundred_connections_at_once_are_answered_within_a_second_in_little_memory() {
    let board = Board::start();
    board.schema.run("INSERT INTO messages (message) SELECT REPEAT('m', 100) FROM seq_1_to_50");
    let start = Instant::now();
    let mut connections: Vec<Connection> = (0..500).map(|_| board.service.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send(request("GET", "/", &[], b"")));
    for connection in &mut connections {
        assert_eq!(connection.answer().status, 200);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let kib = board.service.resident_kib();
    assert!(kib < 20 * 1024, "{kib} KiB");
}

#[test]
fn two_thousand_idle_connections_do_not_slow_the_others() {
    let board = Board::start();
    let idle: Vec<Connection> = (0..2000).map(|_| board.service.connect()).collect();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(board.get("/messages").status, 200);
            start.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[180] < Duration::from_millis(50), "the slowest tenth begins at {:?}", times[180]);
    drop(idle);
}

#[test]
fn every_submit_that_was_answered_before_the_end_is_stored_once() {
    let board = Board::start();
    let (stop, acknowledged) = (AtomicBool::new(false), std::sync::Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for client in 0..64 {
            let (stop, acknowledged, service) = (&stop, &acknowledged, &board.service);
            scope.spawn(move || {
                let Ok(mut connection) = Connection::try_open(service.address) else { return };
                for round in 0.. {
                    let text = format!("{client}-{round}");
                    connection.send(request("POST", "/submit", &[FORM], format!("new_message={text}").as_bytes()));
                    match connection.try_answer(false) {
                        Ok(answer) if answer.status == 200 => {
                            acknowledged.lock().unwrap().push((answer.id(), text));
                            if answer.header("Connection") == Some("close") {
                                return;
                            }
                        }
                        Ok(_) | Err(_) => return,
                    }
                    assert!(!stop.load(Ordering::Relaxed), "the service does not end");
                }
            });
        }
        crate::support::eventually("submits are under way", || acknowledged.lock().unwrap().len() > 500);
        let start = Instant::now();
        board.service.signal(Signal::TERM);
        assert_eq!(board.service.wait(), 0);
        assert!(start.elapsed() < Duration::from_secs(8));
        stop.store(true, Ordering::Relaxed);
    });
    let stored: std::collections::HashMap<u64, String> =
        board.schema.rows::<(u64, String)>("SELECT id, message FROM messages").into_iter().collect();
    for (id, text) in acknowledged.into_inner().unwrap() {
        assert_eq!(stored.get(&id), Some(&text));
    }
    let twice: Vec<String> = board.schema.rows("SELECT message FROM messages GROUP BY message HAVING COUNT(*) > 1");
    assert_eq!(twice, [] as [&str; 0]);
}

#[test]
fn a_read_sees_every_write_that_was_acknowledged_before_it() {
    let board = Board::start();
    let other = Service::start(&board.schema, &[]);
    other.wait_until_ready();
    thread::scope(|scope| {
        for client in 0..16 {
            let (first, second) = if client % 2 == 0 { (&board.service, &other) } else { (&other, &board.service) };
            scope.spawn(move || {
                let (mut writer, mut reader) = (first.connect(), second.connect());
                for round in 0..25 {
                    let text = format!("{client}-{round}");
                    writer.send(request("POST", "/submit", &[FORM], format!("new_message={text}").as_bytes()));
                    assert_eq!(writer.answer().status, 200);
                    reader.send(request("GET", "/messages?limit=200", &[], b""));
                    assert!(reader.answer().messages().contains(&text), "{text} is missing on another replica");
                }
            });
        }
    });
}

#[test]
fn a_request_does_not_wait_for_the_statement_of_another_one_that_arrived_with_it() {
    let board = Board::start();
    let id = board.submit("one").id();
    let mut holder = board.schema.connect();
    holder.query_drop("BEGIN").unwrap();
    let _rows: Vec<u64> = holder.query("SELECT id FROM messages FOR UPDATE").unwrap();
    let (mut writer, mut reader) = (board.service.connect(), board.service.connect());
    for connection in [&mut writer, &mut reader] {
        connection.send(request("GET", "/livez", &[], b""));
        assert_eq!(connection.answer().status, 200);
    }
    // One worker gets the events of both.
    board.service.signal(Signal::STOP);
    writer.send(request("POST", "/submit", &[FORM], b"new_message=two"));
    reader.send(request("GET", &format!("/messages/{id}"), &[], b""));
    let start = Instant::now();
    board.service.signal(Signal::CONT);
    assert_eq!(reader.answer().json()["message"], "one");
    assert!(start.elapsed() < Duration::from_millis(500), "the reader waited {:?} for the writer", start.elapsed());
    assert!(!writer.has_answer(), "the writer still waits");
    holder.query_drop("ROLLBACK").unwrap();
    assert_eq!(writer.answer().status, 200);
}
