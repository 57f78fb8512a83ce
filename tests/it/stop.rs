//! What a stop costs the clients: nothing, when they obey `Connection: close`.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::{Board, Connection, Service, Signal, eventually};

/// Asks again and again until connections are refused; returns the failures. A client closes its
/// connection and opens another one.
fn ask_until_refused(service: &Service, number: usize, answered: &AtomicU64) -> Vec<String> {
    let mut failures = Vec::new();
    let mut kept = None;
    for round in 0.. {
        let mut connection = match kept.take().map_or_else(|| Connection::try_open(service.address), Ok) {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
            Err(error) => {
                failures.push(format!("connect: {error}"));
                break;
            }
        };
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        connection.send(match number % 3 {
            0 => request("GET", "/messages", &[], b""),
            1 => request("POST", "/submit", &[form], format!("new_message={number}-{round}").as_bytes()),
            _ => request("GET", "/livez", &[], b""),
        });
        match connection.try_answer(false) {
            Ok(answer) => {
                answered.fetch_add(1, Ordering::Relaxed);
                if !matches!(answer.status, 200 | 503) {
                    failures.push(answer.status.to_string());
                }
                if answer.header("Connection") != Some("close") {
                    kept = Some(connection);
                }
            }
            Err(error) => failures.push(format!("request {round} of client {number}: {error}")),
        }
    }
    failures
}

/// Twenty stops, four at a time, each under 24 busy clients.
fn stop_under_load(delay: &str) {
    let board = Board::start();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| stop_once_under_load(&board, delay)));
        }
    });
}

fn stop_once_under_load(board: &Board, delay: &str) {
    let service = &Service::start(&board.schema, &[("SHUTDOWN_DELAY", delay)]);
    service.wait_until_ready();
    let answered = &AtomicU64::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..24).map(|number| scope.spawn(move || ask_until_refused(service, number, answered))).collect();
        eventually("all are busy", || answered.load(Ordering::Relaxed) > 200);
        service.signal(Signal::TERM);
        for client in clients {
            assert_eq!(client.join().unwrap(), [] as [String; 0]);
        }
    });
    assert_eq!(service.wait(), 0);
}

#[test]
fn a_stop_leaves_no_request_without_a_response() {
    stop_under_load("0s");
}

#[test]
fn a_stop_with_a_delay_leaves_no_request_without_a_response() {
    stop_under_load("200ms");
}

#[test]
fn every_response_after_the_signal_closes_its_connection() {
    let board = Board::with(&[("SHUTDOWN_DELAY", "5s")]);
    let mut kept = board.service.connect();
    kept.send(request("GET", "/livez", &[], b""));
    assert_eq!(kept.answer().header("Connection"), None);
    board.service.signal(Signal::TERM);
    eventually("it is not ready", || board.get("/readyz").status == 503);
    kept.send(request("GET", "/livez", &[], b""));
    assert_eq!(kept.answer().header("Connection"), Some("close"));
    kept.assert_closed();
}

#[test]
fn an_idle_connection_may_send_a_request_for_a_second_after_accepting_has_ended() {
    let board = Board::start();
    let connect = || {
        let mut connection = board.service.connect();
        connection.send(request("GET", "/livez", &[], b""));
        assert_eq!(connection.answer().status, 200);
        connection
    };
    let (mut late, mut silent, mut new) = (connect(), connect(), board.service.connect());
    let start = Instant::now();
    board.service.signal(Signal::TERM);
    eventually("accepting has ended", || Connection::try_open(board.service.address).is_err());
    late.send(request("GET", "/livez", &[], b""));
    assert_eq!(late.answer().header("Connection"), Some("close"));
    silent.assert_closed();
    new.assert_closed();
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(board.service.wait(), 0);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
