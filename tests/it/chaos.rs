//! Everything dies at random while many write and read, and then the books are compared: what was acknowledged, what is
//! stored, and what was read on the way.
//!
//! `CHAOS_SECONDS` says how long, `CHAOS_SEED` which choices; both have defaults.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Bound;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::client::request;
use crate::support::{
    Answer, Connection, Database, Proxy, Random, Schema, Service, Signal, Trap, eventually, free_port,
};

const WRITERS: usize = 32;
const READERS: usize = 16;
/// How long they may rest between two requests: the books shall be compared, not the machine's speed.
const WRITERS_REST: Duration = Duration::from_millis(40);
const READERS_REST: Duration = Duration::from_millis(100);
/// How long something may live before it is killed.
const LIFE: Duration = Duration::from_millis(4500);
/// How long there may be between two statements that are lost on their way.
const PEACE: Duration = Duration::from_millis(400);
/// As many seconds as there are at most from one kill of the same thing to the next, on average.
const SECONDS_A_KILL: u64 = 6;
/// Acknowledged messages at the end of the board that a read is compared with.
const RECENT: usize = 300;

/// A message's text: its writer, and its number among the messages of that writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Text {
    writer: usize,
    number: u64,
}

/// Everything that was done, counted.
#[derive(Default)]
struct Counts {
    database_kills: AtomicU64,
    service_kills: AtomicU64,
    losses: AtomicU64,
    acknowledged: AtomicU64,
    repeated: AtomicU64,
    replayed: AtomicU64,
    unknown: AtomicU64,
    refused: AtomicU64,
    unsent: AtomicU64,
    reads: AtomicU64,
    messages_read: AtomicU64,
    compared: AtomicU64,
    failed_reads: AtomicU64,
    slowest_millis: AtomicU64,
}

/// What must not happen, with how often it did and the first cases in words.
#[derive(Default)]
struct Wrongs {
    missing: SettingError,
    twice: SettingError,
    never_sent: SettingError,
    missed: SettingError,
    wrong_id: SettingError,
    unexpected: SettingError,
}

#[derive(Default)]
struct SettingError(Mutex<Vec<String>>);

struct World {
    seed: u64,
    /// Between the service and the database.
    proxy: Proxy,
    address: SocketAddr,
    /// How many texts of each writer may have left it.
    sent: Vec<AtomicU64>,
    /// By id; the newest book that readers compare with.
    acknowledged: Mutex<BTreeMap<u64, Text>>,
    /// Time is up: finish what is begun.
    over: AtomicBool,
    /// Something went wrong with the test itself: leave everything.
    broken: AtomicBool,
    counts: Counts,
    wrongs: Wrongs,
}

#[test]
fn nothing_is_lost_and_nothing_is_there_twice_whatever_dies() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seconds = number("CHAOS_SECONDS").unwrap_or(20);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis() as u64 % 1_000_000
    });
    eprintln!("chaos: {seconds} s, CHAOS_SEED={seed}");
    let database = Database::private();
    let schema = database.schema();
    let world = World {
        seed,
        proxy: Proxy::start(&database),
        address: (Ipv4Addr::LOCALHOST, free_port()).into(),
        sent: (0..WRITERS).map(|_| AtomicU64::new(0)).collect(),
        acknowledged: Mutex::default(),
        over: AtomicBool::new(false),
        broken: AtomicBool::new(false),
        counts: Counts::default(),
        wrongs: Wrongs::default(),
    };
    let service = Mutex::new(Some(world.start_service(&schema)));
    let end = Instant::now() + Duration::from_secs(seconds);
    let wanted = seconds.div_ceil(SECONDS_A_KILL);
    let read: Vec<(u64, Text)> = thread::scope(|scope| {
        let ends = Ends(&world);
        for writer in 0..WRITERS {
            let world = &world;
            scope.spawn(move || {
                world.guarded(|| if writer % 2 == 0 { world.write_keyed(writer) } else { world.write(writer) })
            });
        }
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let world = &world;
                scope.spawn(move || world.guarded(|| world.read(reader)))
            })
            .collect();
        scope.spawn(|| world.guarded(|| world.lose_statements()));
        let killers = [
            scope.spawn(|| world.guarded(|| world.kill_databases(&database, end, wanted))),
            scope.spawn(|| world.guarded(|| world.kill_services(&service, &schema, end, wanted))),
        ];
        let killed = killers.map(|killer| killer.join().is_ok());
        assert_eq!(killed, [true; 2], "what was killed came back");
        service.lock().unwrap().as_ref().expect("a service").wait_until_ready();
        world.over.store(true, Ordering::SeqCst);
        let read = readers.into_iter().flat_map(|reader| reader.join().expect("a reader")).collect();
        std::mem::forget(ends);
        read
    });
    world.compare(&schema, &read);
    let report = world.report(read_and_gone(&schema, &read));
    eprintln!("{report}");
    assert!(world.wrongs.all().iter().all(|(_, wrong)| wrong.count() == 0), "see above; CHAOS_SEED={seed}");
    let done = [&world.counts.acknowledged, &world.counts.reads, &world.counts.compared, &world.counts.unknown];
    assert!(done.iter().all(|count| count.load(Ordering::Relaxed) > 0), "nothing was tried");
}

impl World {
    fn start_service(&self, schema: &Schema) -> Service {
        let (port, proxy) = (self.address.port().to_string(), self.proxy.port().to_string());
        Service::start(schema, &[("PORT", &port), ("MYSQL_PORT", &proxy), ("DB_TIMEOUT", "2s")])
    }

    /// Runs a part of the test; a panic in it ends all others.
    fn guarded<T>(&self, run: impl FnOnce() -> T) -> T {
        let ends = Ends(self);
        let result = run();
        std::mem::forget(ends);
        result
    }

    fn kill_databases(&self, database: &Database, end: Instant, wanted: u64) {
        let mut random = Random::new(self.seed, 1000);
        while self.goes_on(end, wanted, &self.counts.database_kills) {
            thread::sleep(random.pause(LIFE));
            let port = database.port();
            database.signal(Signal::KILL);
            add(&self.counts.database_kills, 1);
            eventually("the database is dead", || database.try_connect().is_err());
            database.start();
            assert_eq!(database.port(), port, "the service finds it again");
        }
    }

    fn kill_services(&self, service: &Mutex<Option<Service>>, schema: &Schema, end: Instant, wanted: u64) {
        let mut random = Random::new(self.seed, 1001);
        while self.goes_on(end, wanted, &self.counts.service_kills) {
            thread::sleep(random.pause(LIFE));
            let mut service = service.lock().unwrap();
            // Its owner kills it with -9.
            drop(service.take());
            add(&self.counts.service_kills, 1);
            *service = Some(self.start_service(schema));
        }
    }

    /// Cuts connections to a database that lives, at an INSERT: before it arrives, or before its answer does.
    fn lose_statements(&self) {
        let mut random = Random::new(self.seed, 1002);
        while !self.is_over() {
            thread::sleep(random.pause(PEACE));
            let trap = if random.of(0..3) == 0 { Trap::Lose } else { Trap::LoseAnswer };
            if self.proxy.arm_alone("INSERT IGNORE", trap) {
                add(&self.counts.losses, 1);
            }
        }
    }

    fn goes_on(&self, end: Instant, wanted: u64, kills: &AtomicU64) -> bool {
        !self.broken.load(Ordering::Relaxed) && (Instant::now() < end || kills.load(Ordering::Relaxed) < wanted)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.broken.load(Ordering::Relaxed)
    }

    /// Writes one text after the other, with a rest between them, until it is over.
    fn write_each(&self, writer: usize, mut send: impl FnMut(Text, &mut Random)) {
        let mut random = Random::new(self.seed, writer as u64);
        for number in (0..).take_while(|_| !self.is_over()) {
            send(Text { writer, number }, &mut random);
            thread::sleep(random.pause(WRITERS_REST));
        }
    }

    /// Each attempt is a message of its own: a writer without keys never repeats one.
    fn write(&self, writer: usize) {
        let mut kept = None;
        self.write_each(writer, |text, _| {
            if let Some(id) = self.submit(&mut kept, text, None) {
                self.acknowledge(id, text);
            }
        });
    }

    /// Each message is repeated with its key until it is acknowledged, and some once more.
    fn write_keyed(&self, writer: usize) {
        let mut kept = None;
        self.write_each(writer, |text, random| {
            let key = format!("{}-{writer}-{}", self.seed, text.number);
            let id = loop {
                match self.submit(&mut kept, text, Some(&key)) {
                    Some(id) => break id,
                    None if self.broken.load(Ordering::Relaxed) => return,
                    None => add(&self.counts.repeated, 1),
                }
                thread::sleep(random.pause(WRITERS_REST));
            };
            self.acknowledge(id, text);
            if random.of(0..8) == 0
                && let Some(again) = self.submit(&mut kept, text, Some(&key))
            {
                add(&self.counts.replayed, 1);
                if again != id {
                    self.wrongs.wrong_id.note(format!("{text} was answered {id}, and {again} when it was repeated"));
                }
            }
        });
    }

    /// The id, when it is acknowledged.
    fn submit(&self, kept: &mut Option<Connection>, text: Text, key: Option<&str>) -> Option<u64> {
        let Some(connection) = self.connection(kept) else {
            add(&self.counts.unsent, 1);
            return None;
        };
        self.sent[text.writer].fetch_max(text.number + 1, Ordering::SeqCst);
        let key = key.map(|key| ("Idempotency-Key", key));
        let bytes = match text.number % 2 {
            0 => {
                let body = serde_json::json!({ "message": text.to_string() }).to_string();
                let headers = [&[("Content-Type", "application/json")], key.as_slice()].concat();
                request("POST", "/messages", &headers, body.as_bytes())
            }
            _ => {
                let form = ("Content-Type", "application/x-www-form-urlencoded");
                let body = format!("new_message={}", text.to_string().replace(' ', "+"));
                request("POST", "/submit", &[&[form], key.as_slice()].concat(), body.as_bytes())
            }
        };
        let answer = match self.exchange(kept, connection, &bytes) {
            Some(answer) => answer,
            None => {
                add(&self.counts.unknown, 1);
                return None;
            }
        };
        match answer.status {
            200 | 201 => {
                if answer.json()["message"] != text.to_string() {
                    self.wrongs.wrong_id.note(format!("{text} was answered {:?}", answer.text()));
                }
                Some(answer.id())
            }
            503 => {
                add(&self.counts.refused, 1);
                None
            }
            status => {
                self.wrongs.unexpected.note(format!("{text} was answered {status}: {:?}", answer.text()));
                None
            }
        }
    }

    fn acknowledge(&self, id: u64, text: Text) {
        add(&self.counts.acknowledged, 1);
        let before = self.acknowledged.lock().unwrap().insert(id, text);
        if let Some(before) = before {
            self.wrongs.wrong_id.note(format!("{id} was answered for {before} and for {text}"));
        }
    }

    /// Reads windows of the board, and compares each with what was acknowledged before it asked.
    fn read(&self, reader: usize) -> HashMap<u64, Text> {
        let mut random = Random::new(self.seed, 100 + reader as u64);
        let (mut kept, mut read) = (None, HashMap::new());
        while !self.is_over() {
            thread::sleep(random.pause(READERS_REST));
            let limit = [20, 60, 200][random.of(0..3) as usize];
            // Before the request: whatever is in here now has to be in the answer, if it lies in the answer's window.
            let known = self.known(&mut random);
            let (Some((&first, _)), Some((&last, _))) = (known.first_key_value(), known.last_key_value()) else {
                continue;
            };
            let some = random.of(first..last + 1);
            let path = match random.of(0..4) {
                0 => format!("/messages?limit={limit}"),
                1 => format!("/messages?limit={limit}&after={some}"),
                2 => format!("/messages?limit={limit}&before={some}"),
                _ => format!("/messages/{}", known.range(some..).next().map_or(last, |(id, _)| *id)),
            };
            let Some(connection) = self.connection(&mut kept) else {
                add(&self.counts.failed_reads, 1);
                continue;
            };
            match self.exchange(&mut kept, connection, &request("GET", &path, &[], b"")) {
                Some(answer) if answer.status == 200 => {
                    add(&self.counts.reads, 1);
                    self.check_read(&path, &answer, &known, &mut read);
                }
                Some(answer) if answer.status == 404 => {
                    self.wrongs.missed.note(format!("{path}: not found, but it was acknowledged"));
                }
                Some(answer) if answer.status != 503 => {
                    self.wrongs.unexpected.note(format!("{path}: {} {:?}", answer.status, answer.text()));
                }
                Some(_) | None => add(&self.counts.failed_reads, 1),
            }
        }
        read
    }

    /// Some acknowledged messages, without a gap in what is known of them: the newest, or any.
    fn known(&self, random: &mut Random) -> BTreeMap<u64, Text> {
        let acknowledged = self.acknowledged.lock().unwrap();
        let from = match (random.of(0..2), acknowledged.last_key_value()) {
            (1, Some((&last, _))) => random.of(0..last),
            _ => acknowledged.keys().rev().nth(RECENT).copied().unwrap_or(0),
        };
        acknowledged.range(from..).take(RECENT).map(|(id, text)| (*id, *text)).collect()
    }

    fn check_read(&self, path: &str, answer: &Answer, known: &BTreeMap<u64, Text>, read: &mut HashMap<u64, Text>) {
        let body = answer.json();
        let single = [body.clone()];
        let list = body["messages"].as_array().map_or(&single[..], Vec::as_slice);
        let mut found = BTreeMap::new();
        for message in list {
            let (id, words) = (message["id"].as_u64().expect("an id"), message["message"].as_str().expect("a text"));
            match Text::parse(words) {
                Some(text) if text.number < self.sent[text.writer].load(Ordering::SeqCst) => {
                    found.insert(id, text);
                }
                _ => self.wrongs.never_sent.note(format!("{path} has {id}: {words:?}")),
            }
        }
        if found.len() != list.len() {
            self.wrongs.twice.note(format!("{path} has {} messages and {} ids", list.len(), found.len()));
        }
        add(&self.counts.messages_read, found.len() as u64);
        let ends = body["messages"].is_null() || body["next"].is_null();
        for (id, text) in known.range(window(path, &found, ends)) {
            add(&self.counts.compared, 1);
            match found.get(id) {
                Some(there) if there == text => {}
                Some(other) => self.wrongs.wrong_id.note(format!("{path}: {id} is {other}, acknowledged was {text}")),
                None => self.wrongs.missed.note(format!("{path}: {id} is missing, {text} was acknowledged")),
            }
        }
        read.extend(found);
    }

    fn connection(&self, kept: &mut Option<Connection>) -> Option<Connection> {
        kept.take().or_else(|| Connection::try_open(self.address).ok())
    }

    /// The answer, if the connection lasts so long; it is kept for the next request then.
    fn exchange(&self, kept: &mut Option<Connection>, mut connection: Connection, bytes: &[u8]) -> Option<Answer> {
        let start = Instant::now();
        connection.send(bytes);
        let answer = connection.try_answer(false);
        self.counts.slowest_millis.fetch_max(start.elapsed().as_millis() as u64, Ordering::Relaxed);
        match answer {
            Ok(answer) => {
                *kept = Some(connection).filter(|_| answer.header("Connection") != Some("close"));
                Some(answer)
            }
            Err(error) => {
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                    self.wrongs.unexpected.note(format!("no answer and no end in {:?}", start.elapsed()));
                }
                None
            }
        }
    }

    /// Compares the books with the table.
    fn compare(&self, schema: &Schema, read: &[(u64, Text)]) {
        let rows: Vec<(u64, String)> = schema.rows("SELECT id, message FROM messages");
        let mut ids: HashMap<Text, Vec<u64>> = HashMap::new();
        for (id, words) in rows {
            match Text::parse(&words) {
                Some(text) if text.number < self.sent[text.writer].load(Ordering::SeqCst) => {
                    ids.entry(text).or_default().push(id);
                }
                _ => self.wrongs.never_sent.note(format!("the table has {id}: {words:?}")),
            }
        }
        for (text, ids) in ids.iter().filter(|(_, ids)| ids.len() > 1) {
            self.wrongs.twice.note(format!("{text} is stored as {ids:?}"));
        }
        for (id, text) in self.acknowledged.lock().unwrap().iter() {
            match ids.get(text) {
                None => self.wrongs.missing.note(format!("{text} was acknowledged as {id}")),
                Some(ids) if ids.contains(id) => {}
                Some(ids) => self.wrongs.wrong_id.note(format!("{text} was answered {id} and is stored as {ids:?}")),
            }
        }
        assert!(!read.is_empty(), "no read has returned a message");
    }

    fn report(&self, gone: usize) -> String {
        let c = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        let mut lines = vec![
            format!(
                "killed with -9: the database {} times, the service {} times; {} INSERTs or their answers lost on the way",
                c(&counts.database_kills),
                c(&counts.service_kills),
                c(&counts.losses),
            ),
            format!(
                "submits: {} acknowledged, {} without an answer, {} refused with 503, {} not sent (connection refused); \
                 {} repeats with the same key, {} after the acknowledgement",
                c(&counts.acknowledged),
                c(&counts.unknown),
                c(&counts.refused),
                c(&counts.unsent),
                c(&counts.repeated),
                c(&counts.replayed),
            ),
            format!(
                "reads: {} answered with {} messages, {} not answered; {} acknowledged messages looked for in them",
                c(&counts.reads),
                c(&counts.messages_read),
                c(&counts.failed_reads),
                c(&counts.compared),
            ),
            format!("slowest answer or end: {} ms", c(&counts.slowest_millis)),
            format!("read, then lost by a crash of the database before its writer had a response (allowed): {gone}"),
        ];
        for (what, wrong) in self.wrongs.all() {
            lines.push(format!("{what}: {}", wrong.count()));
            lines.extend(wrong.0.lock().unwrap().iter().take(5).map(|case| format!("    {case}")));
        }
        lines.join("\n")
    }
}

/// The ids that an answer would have to show, if they exist: from one end of what was asked for to the other, or to where
/// the answer stops although there is more.
fn window(path: &str, found: &BTreeMap<u64, Text>, ends: bool) -> (Bound<u64>, Bound<u64>) {
    let number = |name: &str| path.split_once(name).and_then(|(_, rest)| rest.parse().ok());
    let (first, last) = (found.keys().next().copied(), found.keys().next_back().copied());
    if let Some(after) = number("after=") {
        let to = if ends { Bound::Unbounded } else { last.map_or(Bound::Unbounded, Bound::Included) };
        return (Bound::Excluded(after), to);
    }
    if let Some(id) = number("/messages/") {
        return (Bound::Included(id), Bound::Included(id));
    }
    let from = if ends { Bound::Unbounded } else { first.map_or(Bound::Unbounded, Bound::Included) };
    (from, number("before=").map_or(Bound::Unbounded, Bound::Excluded))
}

/// The number of messages that were read once and cannot be read any more. A database shows a commit to other sessions
/// a moment before it is durable; its writer gets the response after that.
fn read_and_gone(schema: &Schema, read: &[(u64, Text)]) -> usize {
    let rows: Vec<(u64, String)> = schema.rows("SELECT id, message FROM messages");
    let rows: HashMap<u64, String> = rows.into_iter().collect();
    let read: HashMap<&(u64, Text), ()> = read.iter().map(|pair| (pair, ())).collect();
    read.keys().filter(|(id, text)| rows.get(id) != Some(&text.to_string())).count()
}

fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}

impl Text {
    fn parse(words: &str) -> Option<Text> {
        let (writer, number) = words.strip_prefix("writer ")?.split_once(" message ")?;
        let text = Text { writer: writer.parse().ok()?, number: number.parse().ok()? };
        (text.writer < WRITERS && text.to_string() == words).then_some(text)
    }
}

impl Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer {} message {}", self.writer, self.number)
    }
}

impl Wrongs {
    fn all(&self) -> [(&'static str, &SettingError); 6] {
        [
            ("acknowledged but missing", &self.missing),
            ("stored or shown twice", &self.twice),
            ("read although never sent", &self.never_sent),
            ("reads that miss what was acknowledged before", &self.missed),
            ("ids answered that are not the row's", &self.wrong_id),
            ("answers that are neither a success nor 503, or no answer at all", &self.unexpected),
        ]
    }
}

impl SettingError {
    fn note(&self, case: String) {
        self.0.lock().unwrap().push(case);
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Ends all parts of the test, when it is dropped by a panic.
struct Ends<'a>(&'a World);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.broken.store(true, Ordering::SeqCst);
    }
}
