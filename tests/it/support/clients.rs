//! Readers and writers that go on asking through a fault, and what they are told and how soon.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::request;
use super::{Answer, Connection, Schema, Service, eventually};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Reader,
    Writer,
    /// Asks whether the process lives.
    Live,
    /// Asks whether it is ready.
    Ready,
}

/// One request and its answer.
#[derive(Debug, Clone)]
struct Told {
    who: Who,
    member: usize,
    asked: Instant,
    told: Instant,
    /// Nothing when the connection ended without an answer.
    status: Option<u16>,
    may_come_back: bool,
    /// What a writer wrote.
    text: Option<String>,
}

struct Crowd<'a> {
    service: &'a Service,
    /// A message that is there, and what makes this crowd's texts its own.
    first: u64,
    told: Mutex<Vec<Told>>,
    over: AtomicBool,
}

/// All that the crowd was told, and when the fault was.
pub struct Seen {
    told: Vec<Told>,
    began: Instant,
    /// The fault is still there until then.
    lasted: Instant,
    ended: Instant,
}

/// Ends the crowd also when the test fails.
struct Over<'a>(&'a AtomicBool);

/// Half readers and half writers; half of each keep their connection, the others open one for each request.
const MEMBERS: usize = 16;
/// What a member does between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(10);
/// Liveness in the slowest twentieth of its answers. The service promises 100 ms on a machine of its own; here it is a debug
/// build that shares two processors with its clients, with databases and with other tests.
const LIVE: Duration = Duration::from_millis(200);
/// Readiness in the slowest twentieth of its answers.
const READY: Duration = Duration::from_millis(900);
/// How soon after the end of a fault everybody has to be served again.
const BACK: Duration = Duration::from_secs(2);

/// Lets readers and writers ask while `fault` happens, for `lasting` at least and until each of them has had an answer
/// to something asked since; then does `end` with what the fault gave, and waits until everybody is served.
pub fn through<T>(service: &Service, lasting: Duration, fault: impl FnOnce() -> T, end: impl FnOnce(T)) -> Seen {
    let first = service.submit("before the fault", &[]).id();
    let crowd = Crowd { service, first, told: Mutex::default(), over: AtomicBool::new(false) };
    let (began, lasted, ended) = thread::scope(|scope| {
        let _over = Over(&crowd.over);
        for member in 0..MEMBERS {
            let crowd = &crowd;
            scope.spawn(move || crowd.ask_on(if member % 2 == 0 { Who::Reader } else { Who::Writer }, member));
        }
        scope.spawn(|| crowd.ask_on(Who::Live, MEMBERS));
        scope.spawn(|| crowd.ask_on(Who::Ready, MEMBERS + 1));
        let start = Instant::now();
        eventually("everybody is served", || crowd.each(|told| successes(told, start) >= 3));
        let fault = fault();
        let began = Instant::now();
        eventually("everybody has met the fault", || {
            began.elapsed() >= lasting && crowd.each(|told| told.iter().any(|told| told.asked >= began))
        });
        let lasted = Instant::now();
        end(fault);
        let ended = Instant::now();
        eventually("everybody is served again", || crowd.each(|told| successes(told, ended) >= 5));
        (began, lasted, ended)
    });
    Seen { told: crowd.told.into_inner().unwrap(), began, lasted, ended }
}

impl Crowd<'_> {
    fn ask_on(&self, who: Who, member: usize) {
        let mut kept = None;
        for round in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let text = (who == Who::Writer).then(|| format!("{}-{member}-{round}", self.first));
            let asked = Instant::now();
            let answer = self.ask(&mut kept, &self.request(who, member, text.as_deref()));
            let told = Instant::now();
            if matches!(member % 4, 0 | 1) {
                kept = None;
            }
            let status = answer.as_ref().map(|answer| answer.status);
            let may_come_back = answer.is_some_and(|answer| answer.header("Retry-After").is_some());
            self.told.lock().unwrap().push(Told { who, member, asked, told, status, may_come_back, text });
            thread::sleep(PAUSE);
        }
    }

    fn ask(&self, kept: &mut Option<Connection>, request: &[u8]) -> Option<Answer> {
        let mut connection = kept.take().or_else(|| Connection::try_open(self.service.address).ok())?;
        connection.send(request);
        let answer = connection.try_answer(false).ok()?;
        if answer.header("Connection") != Some("close") {
            *kept = Some(connection);
        }
        Some(answer)
    }

    /// All lanes and both forms of a submit.
    fn request(&self, who: Who, member: usize, text: Option<&str>) -> Vec<u8> {
        let get = |path: &str| request("GET", path, &[], b"");
        match (who, member % 8, text) {
            (Who::Live, ..) => get("/livez"),
            (Who::Ready, ..) => get("/readyz"),
            (_, 0, None) => get("/"),
            (_, 2, None) => get("/messages"),
            (_, 4, None) => get(&format!("/messages/{}", self.first)),
            (_, _, None) => get(&format!("/messages?before={}", self.first + 1)),
            (_, 1 | 5, Some(text)) => {
                let json = ("Content-Type", "application/json");
                let body = serde_json::json!({ "message": text }).to_string();
                request("POST", "/messages", &[json, ("Idempotency-Key", text)], body.as_bytes())
            }
            (_, _, Some(text)) => {
                let form = ("Content-Type", "application/x-www-form-urlencoded");
                request("POST", "/submit", &[form], format!("new_message={text}").as_bytes())
            }
        }
    }

    /// Whether `condition` holds for what each reader and writer was told, in its order.
    fn each(&self, condition: impl Fn(&[Told]) -> bool) -> bool {
        let told = self.told.lock().unwrap().clone();
        let of = |member| told.iter().filter(|told| told.member == member).cloned().collect::<Vec<_>>();
        (0..MEMBERS).all(|member| condition(&of(member)))
    }
}

/// Successes without a failure in between, of what was asked since then, up to now.
fn successes(told: &[Told], since: Instant) -> usize {
    told.iter().rev().take_while(|told| told.asked >= since && told.is_success()).count()
}

impl Told {
    fn is_success(&self) -> bool {
        matches!(self.status, Some(200 | 201))
    }

    fn took(&self) -> Duration {
        self.told - self.asked
    }
}

impl Seen {
    /// What they were told while the fault was there.
    pub fn statuses(&self, who: Who) -> BTreeSet<u16> {
        let during = |told: &&Told| told.who == who && told.asked >= self.began && told.told <= self.lasted;
        self.told.iter().filter(during).filter_map(|told| told.status).collect()
    }

    /// Whether anybody was told this at any time.
    pub fn anybody_was_told(&self, status: u16) -> bool {
        self.told.iter().any(|told| told.status == Some(status))
    }

    /// Checks what holds in every fault: nobody hangs or is left without an answer, liveness and readiness are not slowed,
    /// and everybody is served again soon. Shows the figures.
    #[track_caller]
    pub fn check(&self, fault: &str, db_timeout: Duration) {
        let slowest = |who| self.told.iter().filter(|told| told.who == who).map(Told::took).max().unwrap();
        let (reader, writer) = (self.statuses(Who::Reader), self.statuses(Who::Writer));
        let (live, ready, back) = (self.slow(Who::Live), self.slow(Who::Ready), self.back());
        eprintln!(
            "{fault}: readers {reader:?} in {:.0?} at most, writers {writer:?} in {:.0?} at most; \
             95 % of /livez in {live:.0?}, of /readyz in {ready:.0?}; back after {back:.0?}",
            slowest(Who::Reader),
            slowest(Who::Writer),
        );
        for told in &self.told {
            assert!(told.status.is_some(), "no answer: {told:?}");
            assert!(told.status != Some(503) || told.may_come_back, "no Retry-After: {told:?}");
            assert!(told.took() <= db_timeout + Duration::from_secs(1), "{:?} for {told:?}", told.took());
            assert!(told.who != Who::Live || told.status == Some(200), "{told:?}");
        }
        assert!(live < LIVE, "liveness takes {live:?}");
        assert!(ready < READY, "readiness takes {ready:?}");
        assert!(back < BACK, "back after {back:?}");
    }

    /// Checks that what was acknowledged is stored once, and everything else once at most.
    #[track_caller]
    pub fn check_stored(&self, schema: &Schema) {
        let rows: Vec<(String, u64)> = schema.rows("SELECT message, COUNT(*) FROM messages GROUP BY message");
        let copies: HashMap<String, u64> = rows.into_iter().collect();
        for told in &self.told {
            let Some(text) = &told.text else { continue };
            let stored = copies.get(text).copied().unwrap_or(0);
            let right = if told.is_success() { stored == 1 } else { stored <= 1 };
            assert!(right, "{stored} times in the table: {told:?}");
        }
    }

    /// The time under which 95 % of the answers came while the fault was there.
    fn slow(&self, who: Who) -> Duration {
        let during = |told: &&Told| told.who == who && told.told >= self.began && told.asked <= self.ended;
        let mut times: Vec<Duration> = self.told.iter().filter(during).map(Told::took).collect();
        times.sort();
        times[times.len() * 95 / 100]
    }

    /// When the last of them was served, after the fault and after the last failure.
    fn back(&self) -> Duration {
        let served = |member| {
            let asked = |told: &&Told| told.member == member && told.asked >= self.ended;
            let mut since = None;
            for told in self.told.iter().filter(asked) {
                since = if told.is_success() { since.or(Some(told.told)) } else { None };
            }
            since.expect("everybody is served in the end") - self.ended
        };
        (0..MEMBERS).map(served).max().unwrap()
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
