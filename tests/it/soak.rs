//! A mixed load for as long as asked, after which the service must not have grown.
//!
//! `SOAK_MINUTES` says how long, half an hour by default.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::{Connection, Database, Random, Service, Signal, eventually};

/// The part that what follows is compared with.
const FIRST: Duration = Duration::from_secs(60);
/// From one restart of the database to the next: in the first part, so that what a restart costs is in the comparison, and
/// after it.
const FIRST_RESTARTS: Duration = Duration::from_secs(15);
const RESTARTS: Duration = Duration::from_secs(90);
/// How often the memory is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Readers and writers, each with a rest between two requests.
const CLIENTS: u64 = 16;
const REST: Duration = Duration::from_millis(20);
/// Clients that send a byte of their head a second, that say nothing, and that do not read what they asked for.
const DRIPPING: usize = 40;
const IDLE: usize = 40;
const NOT_READING: usize = 10;
/// What may be more at the end than after the first part. Memory: a session with the database has buffers of 4 MiB in
/// each direction, which are used up to their end before they are used again, and the allocator keeps those of a session
/// that has ended for the next one. Descriptors: a lane opens its session with the database when it needs one. Threads: none.
const MORE_KIB: u64 = 8 * 1024;
const MORE_DESCRIPTORS: u64 = 5;
/// What is never exceeded, also under load.
const MOST_KIB: u64 = 64 * 1024;

/// What the service has taken of the system.
#[derive(Debug, Clone, Copy)]
struct Taken {
    kib: u64,
    descriptors: u64,
    threads: u64,
}

struct Load<'a> {
    service: &'a Service,
    database: &'a Database,
    over: AtomicBool,
    answers: Mutex<BTreeMap<u16, u64>>,
    broken: AtomicU64,
    slow: AtomicU64,
    restarts: AtomicU64,
    /// Every ten seconds.
    kib: Mutex<Vec<u64>>,
}

#[test]
#[ignore = "takes half an hour: make soak"]
fn memory_descriptors_and_threads_stay_where_they_were_after_the_first_minute() {
    let minutes: u64 =
        std::env::var("SOAK_MINUTES").map_or(30, |minutes| minutes.parse().expect("a number of minutes"));
    assert!(minutes >= 2, "the first minute is what the others are compared with");
    let database = Database::private();
    let schema = database.schema();
    let service = Service::start(&schema, &[("DB_TIMEOUT", "2s")]);
    service.wait_until_ready();
    let fresh = Taken::by(&service);
    eprintln!("soak: {minutes} min\nfresh: {fresh}");
    let first = live(&service, &database, FIRST, FIRST_RESTARTS);
    eprintln!("after the first minute: {first}");
    let last = live(&service, &database, Duration::from_secs(minutes * 60) - FIRST, RESTARTS);
    eprintln!("after the last: {last}");
    let rows: Vec<u64> = schema.rows("SELECT COUNT(*) FROM messages");
    eprintln!("messages in the table: {}", rows[0]);
    eprintln!("bounds: +{MORE_KIB} KiB, +{MORE_DESCRIPTORS} descriptors, no thread more; {MOST_KIB} KiB at any time");
    assert!(last.kib <= first.kib + MORE_KIB, "memory grows");
    assert!(last.descriptors <= first.descriptors + MORE_DESCRIPTORS, "descriptors are lost");
    assert!(last.threads <= first.threads, "threads are lost");
}

/// Life for a while, and what is taken when all clients have gone.
fn live(service: &Service, database: &Database, time: Duration, restarts: Duration) -> Taken {
    let load = Load {
        service,
        database,
        over: AtomicBool::new(false),
        answers: Mutex::default(),
        broken: AtomicU64::new(0),
        slow: AtomicU64::new(0),
        restarts: AtomicU64::new(0),
        kib: Mutex::default(),
    };
    thread::scope(|scope| {
        // Also when something fails.
        let _over = Over(&load.over);
        for client in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.ask(client));
        }
        scope.spawn(|| load.drip());
        scope.spawn(|| load.keep_silent());
        scope.spawn(|| load.do_not_read());
        let end = Instant::now() + time;
        let mut restart = Instant::now() + restarts / 2;
        while Instant::now() < end {
            assert!(service.exit_status().is_none(), "the service ended");
            if Instant::now() >= restart {
                load.restart_database();
                restart = Instant::now() + restarts;
            }
            let next = end.min(restart).saturating_duration_since(Instant::now());
            thread::sleep(LOOK_EVERY.min(next));
            load.kib.lock().unwrap().push(Taken::by(service).kib);
        }
    });
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let answers = load.answers.into_inner().unwrap();
    let kib = load.kib.into_inner().unwrap();
    eprintln!("{} s: KiB under load, every {} s or sooner: {kib:?}", time.as_secs(), LOOK_EVERY.as_secs());
    eprintln!(
        "answers by status {answers:?}, {} connections ended without one, {} slow clients, {} restarts of the database",
        count(&load.broken),
        count(&load.slow),
        count(&load.restarts),
    );
    assert!(kib.iter().all(|kib| *kib < MOST_KIB), "it takes too much memory");
    assert!(
        answers.keys().all(|status| matches!(status, 200 | 201 | 303 | 400 | 404 | 405 | 413 | 503)),
        "{answers:?}"
    );
    assert!(answers[&200] + answers[&201] > answers.get(&503).copied().unwrap_or(0), "it serves");
    // All clients have closed; the service notices that by itself.
    let mut descriptors = 0;
    eventually("the connections are gone", || {
        let before = std::mem::replace(&mut descriptors, Taken::by(service).descriptors);
        thread::sleep(Duration::from_millis(500));
        before <= descriptors && descriptors < IDLE as u64
    });
    Taken::by(service)
}

impl Load<'_> {
    fn ask(&self, client: u64) {
        let mut random = Random::new(7, client);
        let mut kept = None;
        for round in 0u64.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let bytes = bytes(&mut random, client, round);
            let connection = kept.take().or_else(|| Connection::try_open(self.service.address).ok());
            let Some(mut connection) = connection else { continue };
            connection.send(&bytes);
            match connection.try_answer(false) {
                Ok(answer) => {
                    *self.answers.lock().unwrap().entry(answer.status).or_default() += 1;
                    // Every other client opens a connection for each request.
                    kept = Some(connection)
                        .filter(|_| client.is_multiple_of(2) && answer.header("Connection") != Some("close"));
                }
                Err(_) => {
                    self.broken.fetch_add(1, Ordering::Relaxed);
                }
            }
            thread::sleep(random.pause(REST));
        }
    }

    fn restart_database(&self) {
        if self.restarts.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            self.database.signal(Signal::KILL);
            eventually("the database is dead", || self.database.try_connect().is_err());
        } else {
            self.database.stop();
        }
        self.database.start();
    }

    /// Heads that take for ever.
    fn drip(&self) {
        self.hold(DRIPPING, b"GET / HTTP/1.1\r\nHost: a\r\nX: ", |socket| socket.write_all(b"x").is_ok());
    }

    fn keep_silent(&self) {
        self.hold(IDLE, b"", |socket| !matches!(socket.read(&mut [0]), Ok(0)));
    }

    /// Responses that are never read.
    fn do_not_read(&self) {
        let asks = request("GET", "/messages?limit=200", &[], b"").repeat(50);
        self.hold(NOT_READING, &asks, |socket| {
            socket.write_all(b"").is_ok() && matches!(socket.take_error(), Ok(None))
        });
    }

    /// Keeps so many connections that have sent `first`, and does `then` with each once a second; those that have ended
    /// are opened anew.
    fn hold(&self, count: usize, first: &[u8], mut then: impl FnMut(&mut TcpStream) -> bool) {
        let mut held: Vec<TcpStream> = Vec::new();
        while !self.over.load(Ordering::Relaxed) {
            while held.len() < count
                && let Ok(connection) = Connection::try_open(self.service.address)
            {
                let mut socket = connection.socket;
                // A client that does not read cannot write everything either.
                let _ = socket.set_nonblocking(true).and_then(|()| socket.write_all(first));
                self.slow.fetch_add(1, Ordering::Relaxed);
                held.push(socket);
            }
            thread::sleep(Duration::from_secs(1));
            held.retain_mut(&mut then);
        }
    }
}

/// Something that a client may send: mostly sense, some nonsense.
fn bytes(random: &mut Random, client: u64, round: u64) -> Vec<u8> {
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let json = ("Content-Type", "application/json");
    let get = |path: &str| request("GET", path, &[("Accept", "text/html")], b"");
    let text = format!("{client}-{round} {}", "text ".repeat(random.of(0..20) as usize));
    match random.of(0..20) {
        0..5 => get("/"),
        5..8 => get("/messages?limit=50"),
        8 => get(&format!("/messages?before={}&limit=200", random.of(1..5000))),
        9 => get("/messages?after=1&limit=20"),
        10 => get(&format!("/messages/{}", random.of(1..5000))),
        11 => get("/readyz"),
        12..16 => request("POST", "/submit", &[form], format!("new_message={text}").as_bytes()),
        16 | 17 => {
            let key = format!("{client}-{round}");
            let body = serde_json::json!({ "message": text }).to_string();
            request("POST", "/messages", &[json, ("Idempotency-Key", &key)], body.as_bytes())
        }
        18 => vec![
            get("/nowhere"),
            get("/messages?limit=0"),
            request("DELETE", "/", &[], b""),
            request("POST", "/messages", &[json], b"{\"message\": "),
            request("POST", "/submit", &[form], b"new_message="),
        ]
        .swap_remove(random.of(0..5) as usize),
        _ => vec![
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            b"GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(),
            b"POST /submit HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n".to_vec(),
        ]
        .swap_remove(random.of(0..3) as usize),
    }
}

impl Taken {
    fn by(service: &Service) -> Taken {
        let process = format!("/proc/{}", service.pid());
        let count = |what: &str| fs::read_dir(format!("{process}/{what}")).expect("a process").count() as u64;
        Taken { kib: service.resident_kib(), descriptors: count("fd"), threads: count("task") }
    }
}

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB, {} descriptors, {} threads", self.kib, self.descriptors, self.threads)
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
