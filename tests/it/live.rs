//! The live feed: who gets which event, how soon, and at what cost.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use socket2::{Domain, Socket, Type};

use crate::support::client::request;
use crate::support::event_stream::Event;
use crate::support::{Board, Connection, Database, EventStream, Service, Signal, eventually};

const TOKEN: &str = "0123456789abcdef";
const AUTHORIZATION: (&str, &str) = ("Authorization", "Bearer 0123456789abcdef");

fn metric(service: &Service, name: &str) -> u64 {
    let text = service.get("/metrics").text().to_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is missing in {text}"))
}

fn threads(service: &Service) -> usize {
    fs::read_dir(format!("/proc/{}/task", service.pid())).expect("a process").count()
}

/// Inserts so many rows in one statement, `row 1` first.
fn fill(board: &Board, rows: u32) {
    let values: Vec<String> = (1..=rows).map(|row| format!("('row {row}')")).collect();
    board.schema.run(&format!("INSERT INTO messages (message) VALUES {}", values.join(", ")));
}

#[test]
fn a_stream_begins_immediately_and_is_never_buffered() {
    let board = Board::start();
    board.submit("before the stream");
    // What was stored in the moments before the opening may arrive.
    board.schema.run("UPDATE messages SET created_at = created_at - INTERVAL 1 SECOND");
    let mut stream = EventStream::open(&board.service);
    for header in
        ["Content-Type: text/event-stream", "X-Accel-Buffering: no", "Cache-Control: no-store", "X-Request-Id: "]
    {
        assert!(stream.head.contains(header), "{header}: {}", stream.head);
    }
    assert!(!stream.head.contains("Content-Length") && !stream.head.contains("Transfer-Encoding"), "{}", stream.head);
    board.submit("after its beginning");
    assert_eq!(stream.next_text(), "after its beginning");
}

#[test]
fn every_change_reaches_every_stream_once_and_in_order() {
    let board = Board::with(&[("ADMIN_TOKEN", TOKEN)]);
    let replica = Service::start(&board.schema, &[]);
    replica.wait_until_ready();
    let mut streams =
        [EventStream::open(&board.service), EventStream::open(&board.service), EventStream::open(&replica)];
    let id = board.submit("by the form").id();
    let mut expect = |name: &str, id: Option<u64>, check: &dyn Fn(&Event)| {
        for stream in &mut streams {
            let event = stream.next();
            assert_eq!((event.name.as_str(), &event.id), (name, &id.map(|id| id.to_string())), "{event:?}");
            check(&event);
        }
    };
    expect("message", Some(id), &|event| assert_eq!(event.data, board.get(&format!("/messages/{id}")).json()));
    let other = replica.submit("by another replica", &[]).id();
    expect("message", Some(other), &|event| assert_eq!(event.data["message"], "by another replica"));
    board.schema.run("INSERT INTO messages (message) VALUES ('one\\ntwo 🦀')");
    let by_sql = board.schema.rows::<u64>("SELECT MAX(id) FROM messages")[0];
    expect("message", Some(by_sql), &|event| assert_eq!(event.data["message"], "one\ntwo 🦀"));
    board.service.json("PUT", &format!("/messages/{id}"), &[AUTHORIZATION], "edited");
    expect("edit", None, &|event| assert_eq!(event.data, board.get(&format!("/messages/{id}")).json()));
    board.schema.run(&format!("UPDATE messages SET message = 'edited by SQL' WHERE id = {id}"));
    expect("edit", None, &|event| assert_eq!(event.data["message"], "edited by SQL"));
    board.service.ask("DELETE", &format!("/messages/{other}"), &[AUTHORIZATION], b"");
    expect("delete", None, &|event| assert_eq!(event.data, serde_json::json!({ "id": other })));
    board.schema.run(&format!("DELETE FROM messages WHERE id = {by_sql}"));
    expect("delete", None, &|event| assert_eq!(event.data["id"], by_sql));
    fill(&board, 100);
    let texts: Vec<String> = (0..100).map(|_| streams[0].next_text()).collect();
    assert_eq!(texts, (1..=100).map(|row| format!("row {row}")).collect::<Vec<_>>());
}

#[test]
fn a_stream_reports_each_change_since_its_first_byte() {
    let board = Board::start();
    let schema = &board.schema;
    let round = |number: u64| {
        let id = board.submit("first").id();
        let mut session = schema.connect();
        session.query_drop("START TRANSACTION").unwrap();
        session.query_drop("INSERT INTO messages (message) VALUES ('begun before the stream')").unwrap();
        let begun = session.last_insert_id();
        let mut stream = EventStream::open(&board.service);
        session.query_drop("COMMIT").unwrap();
        schema.run(&format!("UPDATE messages SET message = 'edited' WHERE id = {id}"));
        // A message that no read found before its edit is a new one.
        let (mut is_edited, mut is_complete) = (false, false);
        while !is_edited || !is_complete {
            let event = stream.next();
            is_edited |= event.data["id"] == id && event.data["message"] == "edited";
            is_complete |= event.data["id"] == begun;
        }
        schema.run(&format!("DELETE FROM messages WHERE id = {id}"));
        let mut last = EventStream::open(&board.service);
        schema.run(&format!("DELETE FROM messages WHERE id = {begun}"));
        while last.next() != (Event { name: "delete".to_owned(), id: None, data: serde_json::json!({ "id": begun }) }) {
        }
        assert_eq!(metric(&board.service, "twotier_live_events_total{event=\"reset\"}"), 0, "round {number}");
    };
    (0..3).for_each(round);
    // The same while another stream is open.
    let _open = EventStream::open(&board.service);
    (3..10).for_each(round);
}

#[test]
fn a_message_from_the_future_is_no_news() {
    let board = Board::start();
    board.submit("tomorrow");
    board.schema.run("UPDATE messages SET created_at = created_at + INTERVAL 1 DAY");
    let mut streams = [EventStream::open(&board.service), EventStream::open(&board.service)];
    board.submit("today");
    streams.iter_mut().for_each(|stream| assert_eq!(stream.next_text(), "today"));
}

#[test]
fn an_event_arrives_within_a_second() {
    let board = Board::start();
    let mut stream = EventStream::open(&board.service);
    board.submit("the first one");
    stream.next_text();
    let start = Instant::now();
    board.submit("soon");
    assert_eq!(stream.next_text(), "soon");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_row_that_takes_the_place_of_a_deleted_one_is_not_new() {
    let board = Board::start();
    fill(&board, 250);
    // What was stored in the moments before the opening may arrive.
    board.schema.run("UPDATE messages SET created_at = created_at - INTERVAL 1 SECOND");
    let mut stream = EventStream::open(&board.service);
    board.submit("the stream has its first window");
    stream.next_text();
    board.schema.run("DELETE FROM messages WHERE message IN ('row 250', 'row 249')");
    assert_eq!([stream.next().name, stream.next().name], ["delete", "delete"]);
    board.submit("next");
    assert_eq!(stream.next_text(), "next");
}

#[test]
fn an_id_that_becomes_visible_after_a_larger_one_arrives() {
    let board = Board::start();
    let mut stream = EventStream::open(&board.service);
    let mut session = board.schema.connect();
    session.query_drop("START TRANSACTION").unwrap();
    session.query_drop("INSERT INTO messages (message) VALUES ('early id, late commit')").unwrap();
    let late = session.last_insert_id();
    let id = board.submit("late id, early commit").id();
    assert!(late < id);
    assert_eq!(stream.next_text(), "late id, early commit");
    let mut resumed = EventStream::with(&board.service, &[("Last-Event-ID", &id.to_string())]);
    session.query_drop("COMMIT").unwrap();
    assert_eq!(stream.next_text(), "early id, late commit");
    assert_eq!(resumed.next_text(), "early id, late commit", "the larger id was the last one");
    let mut resumed = EventStream::with(&board.service, &[("Last-Event-ID", &id.to_string())]);
    assert_eq!(resumed.next_text(), "early id, late commit", "it may have been missed");
}

#[test]
fn a_client_resumes_after_the_last_message_that_it_got() {
    let board = Board::start();
    let last = board.submit("got").id();
    // Rows that were stored shortly before the last one may arrive again.
    board.schema.run("UPDATE messages SET created_at = created_at - INTERVAL 1 MINUTE");
    let missed: Vec<String> = (0..120).map(|number| format!("missed {number}")).collect();
    let values: Vec<String> = missed.iter().map(|text| format!("('{text}')")).collect();
    board.schema.run(&format!("INSERT INTO messages (message) VALUES {}", values.join(", ")));
    let mut stream = EventStream::with(&board.service, &[("Last-Event-ID", &last.to_string())]);
    let got: Vec<String> = (0..120).map(|_| stream.next_text()).collect();
    assert_eq!(got, missed);
    board.submit("and on");
    assert_eq!(stream.next_text(), "and on");
}

#[test]
fn a_client_that_missed_too_much_loads_the_messages_again() {
    let board = Board::start();
    let last = board.submit("got").id();
    fill(&board, 250);
    for last in [last.to_string(), "18446744073709551615".to_owned(), "x".to_owned()] {
        let mut stream = EventStream::with(&board.service, &[("Last-Event-ID", &last)]);
        assert_eq!(stream.next(), Event { name: "reset".to_owned(), id: None, data: serde_json::json!({}) }, "{last}");
        board.submit("and on");
        assert_eq!(stream.next_text(), "and on");
    }
}

#[test]
fn a_client_of_a_busy_board_gets_only_the_few_messages_that_it_missed() {
    let board = Board::start();
    let mut stream = EventStream::open(&board.service);
    for _ in 0..3 {
        fill(&board, 100);
        (0..100).for_each(|_| drop(stream.next_text()));
    }
    let last = board.submit("got").id();
    assert_eq!(stream.next_text(), "got");
    drop(stream);
    (1..=3).for_each(|number| drop(board.submit(&format!("missed {number}"))));
    let mut stream = EventStream::with(&board.service, &[("Last-Event-ID", &last.to_string())]);
    assert_eq!([stream.next_text(), stream.next_text(), stream.next_text()], ["missed 1", "missed 2", "missed 3"]);
    // A service that was just started does not know what was visible before, and repeats messages.
    let replica = Service::start(&board.schema, &[]);
    replica.wait_until_ready();
    let mut stream = EventStream::with(&replica, &[("Last-Event-ID", &last.to_string())]);
    while stream.next_text() != "missed 3" {}
}

#[test]
fn clients_that_resume_and_do_not_read_hold_their_messages_once() {
    let board = Board::with(&[("MAX_CONNECTIONS", "1000")]);
    let values = vec!["(REPEAT('x', 450), UTC_TIMESTAMP() - INTERVAL 1 MINUTE)"; 200].join(", ");
    board.schema.run(&format!("INSERT INTO messages (message, created_at) VALUES {values}"));
    let ids = board.schema.rows::<u64>("SELECT id FROM messages ORDER BY id LIMIT 60");
    let ticks = || metric(&board.service, "twotier_live_ticks_total{result=\"ok\"}");
    let _reader = EventStream::open(&board.service);
    let before = board.service.resident_kib();
    let mut connections = Vec::new();
    for _ in 0..5 {
        for last in &ids {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            // Otherwise the kernel takes much of what the service sends.
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&board.service.address.into()).unwrap();
            (&socket).write_all(&request("GET", "/events", &[("Last-Event-ID", &last.to_string())], b"")).unwrap();
            connections.push(socket);
        }
        let sent = connections.len() as u64;
        eventually("all streams are open", || metric(&board.service, "twotier_live_streams ") == sent + 1);
        let read = ticks() + 2;
        eventually("they have their messages", || ticks() >= read);
    }
    assert_eq!(metric(&board.service, "twotier_live_events_total{event=\"reset\"}"), 0);
    let grown = board.service.resident_kib().saturating_sub(before);
    // Each of them has about 100 KiB to take.
    assert!(grown < 12 * 1024, "{grown} KiB for {} streams", connections.len());
}

#[test]
fn what_was_stored_while_there_was_no_stream_is_no_reason_for_a_reset() {
    let board = Board::start();
    let mut stream = EventStream::open(&board.service);
    board.submit("the stream has its first window");
    stream.next_text();
    drop(stream);
    eventually("the feed rests", || metric(&board.service, "twotier_live_streams ") == 0);
    fill(&board, 1985);
    let mut stream = EventStream::open(&board.service);
    fill(&board, 30);
    assert_eq!(stream.next_text(), "row 1");
}

#[test]
fn more_messages_than_a_stream_reports_are_a_reset() {
    let board = Board::start();
    let mut stream = EventStream::open(&board.service);
    board.submit("the stream has its first window");
    stream.next_text();
    fill(&board, 5000);
    assert_eq!(stream.next().name, "reset");
    board.submit("and on");
    assert_eq!(stream.next_text(), "and on");
}

#[test]
fn a_slow_reader_is_dropped_and_the_others_get_all() {
    let board = Board::start();
    let slow = EventStream::open(&board.service);
    let mut reader = EventStream::open(&board.service);
    let text = "🦀".repeat(2000);
    let dropped = || metric(&board.service, "twotier_live_streams_dropped_total");
    let mut sent = 0;
    eventually("the slow reader is dropped", || {
        sent += 1;
        board.submit(&format!("{sent} {}", &text[..text.len() - 40]));
        assert!(reader.next_text().starts_with(&format!("{sent} ")));
        dropped() == 1
    });
    eventually("its connection is closed", || metric(&board.service, "twotier_live_streams ") == 1);
    drop(slow);
}

#[test]
fn a_stop_ends_the_streams_and_has_the_clients_reconnect() {
    let board = Board::start();
    let mut streams = [EventStream::open(&board.service), EventStream::open(&board.service)];
    board.submit("the last one");
    assert_eq!(streams[0].next_text(), "the last one");
    assert_eq!(streams[1].next_text(), "the last one");
    board.service.signal(Signal::TERM);
    for stream in &mut streams {
        assert_eq!(stream.rest(), "retry: 1000\n\n");
    }
    drop(streams);
    assert_eq!(board.service.wait(), 0);
}

#[test]
fn a_stop_ends_new_streams_while_the_database_hangs() {
    let board = Board::with(&[("DB_TIMEOUT", "15s")]);
    let mut first = EventStream::open(&board.service);
    let mut holder = board.schema.connect();
    let mut new = EventStream::open(&board.service);
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() AND info LIKE '%CRC32%'";
    eventually("a read waits for the table", || board.schema.rows::<u64>(waiting)[0] > 0);
    let start = Instant::now();
    board.service.signal(Signal::TERM);
    assert_eq!([first.rest(), new.rest()], ["retry: 1000\n\n"; 2]);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    holder.query_drop("UNLOCK TABLES").unwrap();
}

#[test]
fn an_outage_of_the_database_ends_no_stream_and_loses_no_message() {
    let database = Database::private();
    let board = Board { service: Service::start(&database.schema(), &[]), schema: database.schema() };
    board.service.wait_until_ready();
    let mut stream = EventStream::open(&board.service);
    board.submit("before");
    assert_eq!(stream.next_text(), "before");
    database.stop();
    eventually("the outage is noticed", || board.get("/messages").status == 503);
    let failed = || metric(&board.service, "twotier_live_ticks_total{result=\"failed\"}");
    eventually("a read fails", || failed() > 0);
    database.start();
    eventually("the database is back", || board.submit("after").status == 200);
    assert_eq!(stream.next_text(), "after");
}

#[test]
fn half_of_the_connections_may_be_streams() {
    let board = Board::with(&[("MAX_CONNECTIONS", "8")]);
    let streams: Vec<EventStream> = (0..4).map(|_| EventStream::open(&board.service)).collect();
    let refused = board.get("/events");
    assert_eq!((refused.status, refused.code()), (503, "overloaded".to_owned()));
    assert!(refused.header("Retry-After").is_some());
    drop(streams);
    eventually("their places are free", || {
        EventStream::send(&board.service, &request("GET", "/events", &[], b"")).head.starts_with("HTTP/1.1 200 ")
    });
}

#[test]
fn streams_are_never_closed_to_make_room() {
    let board = Board::with(&[("MAX_CONNECTIONS", "8")]);
    let mut streams: Vec<EventStream> = (0..4).map(|_| EventStream::open(&board.service)).collect();
    let idle: Vec<Connection> = (0..40).map(|_| board.service.connect()).collect();
    drop(idle);
    eventually("there is room", || board.submit("still here").status == 200);
    streams.iter_mut().for_each(|stream| assert_eq!(stream.next_text(), "still here"));
}

#[test]
fn one_connection_to_the_database_is_enough() {
    let board = Board::with(&[("DB_CONNECTIONS", "1")]);
    let mut stream = EventStream::open(&board.service);
    for number in 0..20 {
        let text = format!("message {number}");
        assert_eq!(board.submit(&text).status, 200);
        assert_eq!(stream.next_text(), text);
    }
}

#[test]
fn streams_cost_no_thread_and_share_one_statement() {
    let database = Database::private();
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    let reads = || metric(&service, "twotier_database_statement_duration_seconds_count{statement=\"check_reads\"}");
    let ticks = || metric(&service, "twotier_live_ticks_total{result=\"ok\"}");
    eventually("the first check", || service.get("/metrics").text().contains("statement=\"check_reads\""));
    // Statements of the server, for each check that the service makes by itself.
    let statements = || {
        let (from, before) = (reads(), database.count("Com_stmt_execute"));
        eventually("some seconds pass", || reads() >= from + 3);
        (database.count("Com_stmt_execute") - before, reads() - from)
    };
    let (executed, checks) = statements();
    assert!(executed <= checks + 1, "{executed} statements without a stream");
    assert_eq!(ticks(), 0);
    let before = threads(&service);
    let streams: Vec<EventStream> = (0..50).map(|_| EventStream::open(&service)).collect();
    let (executed, checks) = statements();
    assert!((checks..=checks * 7).contains(&executed), "{executed} statements with 50 streams during {checks} checks");
    assert!(ticks() > 5);
    assert_eq!(threads(&service), before);
    drop(streams);
    eventually("no stream is open", || metric(&service, "twotier_live_streams ") == 0);
    let (executed, checks) = statements();
    assert!(executed <= checks + 2, "{executed} statements after the last stream");
}

#[test]
fn head_and_http_1_0_are_served() {
    let board = Board::start();
    let mut head = EventStream::send(&board.service, &request("HEAD", "/events", &[], b""));
    assert!(head.head.contains("text/event-stream") && head.head.contains("Connection: close"), "{}", head.head);
    assert_eq!(head.rest(), "");
    let mut old = EventStream::send(&board.service, b"GET /events HTTP/1.0\r\n\r\n");
    assert!(old.head.starts_with("HTTP/1.1 200 "), "{}", old.head);
    board.submit("for the old one");
    assert_eq!(old.next_text(), "for the old one");
    assert_eq!(board.service.ask("POST", "/events", &[], b"x").header("Allow"), Some("GET, HEAD, OPTIONS"));
    assert_eq!(board.get("/events?x=1").code(), "invalid_parameter");
}
