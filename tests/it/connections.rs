//! Limits on connections: how many one client may have, which one is closed when all slots are taken, and what slow
//! clients cost.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::support::client::request;
use crate::support::{Board, Connection, Service, Signal, eventually};

/// Lets this process open as many files as it may.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// A connection from one of the addresses of loopback.
fn connect_from(source: [u8; 4], service: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&service.into(), Duration::from_secs(5))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(socket.into())
}

/// Keeps `count` incomplete requests open from one address. Sends a byte of each once a second, and opens a closed one
/// again.
fn drip(service: SocketAddr, count: usize, opened: &AtomicU64, stop: &AtomicBool) {
    let open = || {
        let mut socket = connect_from([127, 0, 0, 1], service).ok()?;
        socket.set_nonblocking(true).ok()?;
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").ok()?;
        opened.fetch_add(1, Ordering::Relaxed);
        Some(socket)
    };
    let mut sockets: Vec<Option<TcpStream>> = (0..count).map(|_| open()).collect();
    while !stop.load(Ordering::Relaxed) {
        let round = Instant::now();
        for socket in &mut sockets {
            let is_open = |socket: &mut TcpStream| {
                let is_silent =
                    matches!(socket.read(&mut [0; 512]), Err(error) if error.kind() == ErrorKind::WouldBlock);
                is_silent && socket.write_all(b"x").is_ok()
            };
            if !socket.as_mut().is_some_and(is_open) {
                *socket = open();
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
        }
        thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
    }
}

/// Sends a request on a new connection, and returns whether the response is 200.
fn is_served(source: [u8; 4], service: SocketAddr) -> bool {
    let Ok(mut socket) = connect_from(source, service) else { return false };
    let mut response = Vec::new();
    let _ = socket.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let _ = socket.read_to_end(&mut response);
    response.starts_with(b"HTTP/1.1 200 ")
}

/// Lets one address drip, and returns the share of the requests of others, and of other clients at the same address,
/// that are served.
fn served_beside_drips(board: &Board, drips: usize, requests: u32) -> f64 {
    let (opened, stop, service) = (AtomicU64::new(0), AtomicBool::new(false), board.service.address);
    thread::scope(|scope| {
        const THREADS: usize = 4;
        for _ in 0..THREADS {
            scope.spawn(|| drip(service, drips / THREADS, &opened, &stop));
        }
        eventually("all incomplete requests are sent", || opened.load(Ordering::Relaxed) >= drips as u64);
        let start = Instant::now();
        let served = (0..requests).filter(|n| {
            // At a steady rate, so that the attacker can take the slots again.
            thread::sleep((start + Duration::from_millis(5) * *n).saturating_duration_since(Instant::now()));
            is_served([127, 0, 0, 1 + (n % 2) as u8], service)
        });
        let served = served.count();
        stop.store(true, Ordering::Relaxed);
        served as f64 / f64::from(requests)
    })
}

#[test]
fn incomplete_requests_that_take_all_slots_make_room_for_others() {
    let board = Board::with(&[("MAX_CONNECTIONS", "200")]);
    let served = served_beside_drips(&board, 240, 400);
    assert!(served >= 0.99, "{:.1} % are served", served * 100.0);
    let evicted = r#"twotier_http_connections_closed_total{reason="evicted_incomplete"}"#;
    assert!(metric(&board.service, evicted) >= 40.0);
}

#[test]
#[ignore = "opens 11,000 connections: make crowd"]
fn incomplete_requests_that_take_ten_thousand_slots_make_room_for_others() {
    raise_descriptor_limit();
    let board = Board::start();
    let served = served_beside_drips(&board, 11_000, 2000);
    assert!(served >= 0.99, "{:.1} % are served", served * 100.0);
}

fn metric(service: &Service, name: &str) -> f64 {
    let text = service.get("/metrics").text().to_owned();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name} is missing in {text}"))
}

/// An address of this machine that is not loopback. No packet is sent to find it.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket
        .connect("192.0.2.1:9")
        .or_else(|_| socket.connect("10.255.255.255:9"))
        .expect("a network other than loopback");
    socket.local_addr().unwrap().ip()
}

#[test]
fn one_client_may_have_a_tenth_of_the_connections_and_at_least_16() {
    let address = own_address();
    let limited = |settings: &[(&str, &str)]| {
        let board = Board::with(&[&[("BIND", "0.0.0.0")], settings].concat());
        let service = SocketAddr::new(address, board.service.address.port());
        let mut connections: Vec<Connection> = Vec::new();
        while connections.len() < 60 {
            let mut connection = Connection::open(service);
            connection.send(request("GET", "/livez", &[], b""));
            let answer = connection.answer();
            if answer.status != 200 {
                assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
                assert!(answer.header("Retry-After").is_some() && answer.header("Connection") == Some("close"));
                break;
            }
            connections.push(connection);
        }
        assert_eq!(board.get("/livez").status, 200, "loopback has no limit");
        let refused = metric(&board.service, r#"twotier_http_connections_refused_total{reason="client_limit"}"#);
        let count = connections.len();
        assert_eq!(refused, if count < 60 { 1.0 } else { 0.0 });
        connections.pop();
        eventually("there is room again", || {
            let mut connection = Connection::open(service);
            connection.send(request("GET", "/livez", &[], b""));
            connection.answer().status == 200
        });
        count
    };
    assert_eq!(limited(&[("MAX_CONNECTIONS", "300")]), 30);
    assert_eq!(limited(&[("MAX_CONNECTIONS", "100")]), 16);
    assert_eq!(limited(&[("MAX_CONNECTIONS_PER_CLIENT", "5")]), 5);
    assert_eq!(limited(&[("MAX_CONNECTIONS_PER_CLIENT", "5"), ("TRUSTED_PROXIES", &address.to_string())]), 60);
}

/// A connection whose buffers on this side are small, so that what is not read stays at the service.
fn connect_with_small_buffers(service: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&service.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.into()
}

/// 50 messages of 2000 quotes, which are 590 KiB as a page.
fn fill_with_large_messages(board: &Board) {
    board.schema.run("INSERT INTO messages (message) SELECT REPEAT('\"', 2000) FROM seq_1_to_50");
}

#[test]
fn a_client_that_reads_slowly_gets_the_complete_response_and_one_that_stops_is_closed() {
    // The page takes eight times as long as the time-out.
    let board = Board::with(&[("REQUEST_TIMEOUT", "400ms")]);
    fill_with_large_messages(&board);
    let whole = board.get("/").body.len();
    assert!(whole > 590_000);
    let ask = || {
        let mut socket = connect_with_small_buffers(board.service.address);
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        socket
    };
    let (mut slow, mut stopped) = (ask(), ask());
    let (mut read, mut piece, start) = (0, vec![0; 2048], Instant::now());
    loop {
        match slow.read(&mut piece).unwrap_or_else(|error| panic!("{error} after {read} of {whole} bytes")) {
            0 => break,
            n => read += n,
        }
        thread::sleep(
            (start + Duration::from_secs(1) * read as u32 / 190_000).saturating_duration_since(Instant::now()),
        );
    }
    assert!(read > whole, "{read} of {whole} bytes and the head");
    assert!(start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
    let mut rest = Vec::new();
    let _ = stopped.read_to_end(&mut rest);
    assert!(rest.len() < whole, "it was closed");
    assert_eq!(metric(&board.service, r#"twotier_http_connections_closed_total{reason="write_timeout"}"#), 1.0);
}

#[test]
fn a_response_to_bytes_that_are_not_read_arrives_before_the_reset() {
    const MANY: usize = 5_000_000;
    let board = Board::start();
    let junk = |first: &[u8]| [first, &vec![b'x'; MANY]].concat();
    let cases: [(&str, Vec<u8>, u16); 5] = [
        ("an endless header", junk(b"GET / HTTP/1.1\r\nHost: a\r\nX: "), 431),
        ("an endless target", junk(b"GET /"), 414),
        ("an unread body", junk(b"POST /submit HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n"), 413),
        ("bytes that are not HTTP", junk(b"\x16\x03\x01"), 400),
        ("a broken line", junk(b"GET / HTTP/1.1\r\nHost: a\n"), 400),
    ];
    for (name, bytes, status) in cases {
        for _ in 0..5 {
            let mut connection = board.service.connect();
            connection.socket.write_all(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            let answer = connection.try_answer(false).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((answer.status, answer.header("Connection")), (status, Some("close")), "{name}");
            connection.assert_closed();
        }
    }
}

#[test]
fn the_kernel_holds_little_for_a_client_that_does_not_read() {
    let board = Board::start();
    fill_with_large_messages(&board);
    let mut silent = connect_with_small_buffers(board.service.address);
    silent.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    eventually("the kernel takes no more", || {
        metric(&board.service, r#"twotier_http_connections{state="writing"}"#) == 1.0
    });
    board.service.signal(Signal::KILL);
    board.service.wait();
    // What arrives now was in the kernel: its buffer for sending, and the client's for receiving.
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    assert!((1..160 * 1024).contains(&rest.len()), "{} of 590 KiB", rest.len());
}

#[test]
fn a_connection_keeps_its_slot_until_its_client_has_the_response_or_stops_to_take_it() {
    let board = Board::with(&[("REQUEST_TIMEOUT", "1s")]);
    fill_with_large_messages(&board);
    let get = |path: &str, rest: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n{rest}\r\n");
    // Small enough for the kernel to hold all of it.
    let list = "/messages?limit=20";
    let cases = [
        ("the last response", get(list, "Connection: close\r\n"), false),
        ("the client ends its side", get(list, ""), true),
        ("the client ends its side within a page", get("/", ""), true),
    ];
    for (name, bytes, ends) in &cases {
        let mut silent = connect_with_small_buffers(board.service.address);
        silent.write_all(bytes.as_bytes()).unwrap();
        if *ends {
            silent.shutdown(Shutdown::Write).unwrap();
        }
        let socket = socket2::SockRef::from(&silent);
        eventually(name, || {
            // A reset is an error of the socket, and nothing that would have to be read.
            socket.take_error().unwrap().is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
        });
    }
}

#[test]
fn connections_are_counted_in_one_state_each() {
    let board = Board::start();
    fill_with_large_messages(&board);
    let state = |name: &str| metric(&board.service, &format!("twotier_http_connections{{state=\"{name}\"}}"));
    let names = ["idle", "reading", "handling", "writing", "closing"];
    let connect = |bytes: &[u8]| {
        let mut socket = connect_with_small_buffers(board.service.address);
        socket.write_all(bytes).unwrap();
        socket
    };
    let _idle = [connect(b""), connect(b"")];
    let _reading = connect(b"GET / HT");
    let _writing = connect(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // The one that asks for the metrics may be in any state, and it may be a moment ago that they were counted.
    eventually("each is counted in its state", || {
        state("idle") >= 2.0 && state("reading") >= 1.0 && state("writing") == 1.0
    });
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let _handling = connect(b"GET /messages HTTP/1.1\r\nHost: a\r\n\r\n");
    let _closing = connect(b"no request\r\n\r\n");
    eventually("the states add up", || {
        let counts = names.map(state);
        counts[2] >= 1.0 && counts[4] >= 1.0 && (6.0..=8.0).contains(&counts.iter().sum())
    });
    holder.query_drop("UNLOCK TABLES").unwrap();
}

#[test]
fn the_connection_that_holds_most_memory_for_longest_is_closed_first() {
    let board = Board::start();
    fill_with_large_messages(&board);
    let reset = |socket: &TcpStream| socket2::SockRef::from(socket).take_error().unwrap().is_some();
    // 590 KiB each: 55 of them are the 32 MiB that all connections may hold.
    let silent: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut socket = connect_with_small_buffers(board.service.address);
            socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            eventually("the response has begun", || socket.peek(&mut [0]).is_ok() || reset(&socket));
            socket
        })
        .collect();
    let closed = || metric(&board.service, r#"twotier_http_connections_closed_total{reason="memory"}"#);
    eventually("those above the limit are closed", || closed() >= 25.0);
    assert!(closed() <= 40.0, "{} are closed", closed());
    eventually("the first ones", || silent[..20].iter().all(reset));
    assert!(!silent[79..].iter().any(reset), "the last one stays");
    assert_eq!(board.get("/livez").status, 200);
}

#[test]
fn many_connections_above_the_limit_are_refused_at_the_same_time() {
    let board = Board::with(&[("MAX_CONNECTIONS", "2")]);
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let mut busy: Vec<Connection> = Vec::new();
    eventually("all slots are taken", || {
        busy.push(board.service.connect());
        busy.last_mut().unwrap().send("GET /messages HTTP/1.1\r\nHost: a\r\n\r\n");
        board.get("/livez").status == 503
    });
    // None of these closes its connection, so each keeps its slot for a second.
    let mut refused: Vec<Connection> = (0..64).map(|_| board.service.connect()).collect();
    let told = refused.iter_mut().filter_map(|connection| connection.try_answer(false).ok());
    assert!(told.filter(|answer| answer.status == 503).count() >= 56, "a few slots may still be in use");
    holder.query_drop("UNLOCK TABLES").unwrap();
}
