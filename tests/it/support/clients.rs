//! Readers and writers that keep sending requests through a fault; each response and its delay are recorded.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::client::request;
use super::{Answer, Connection, Schema, Service, eventually};

/// The role of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Reader,
    Writer,
    /// Asks whether the process lives.
    Live,
    /// Asks whether it is ready.
    Ready,
}

/// One request and its answer.
#[derive(Debug, Clone)]
struct Exchange {
    role: Role,
    member: usize,
    asked: Instant,
    answered: Instant,
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
    exchanges: Mutex<Vec<Exchange>>,
    over: AtomicBool,
}

/// All exchanges of the crowd, and when the fault was.
pub struct Seen {
    exchanges: Vec<Exchange>,
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
    let crowd = Crowd { service, first, exchanges: Mutex::default(), over: AtomicBool::new(false) };
    let (began, lasted, ended) = thread::scope(|scope| {
        let _over = Over(&crowd.over);
        for member in 0..MEMBERS {
            let crowd = &crowd;
            scope.spawn(move || crowd.ask_on(if member % 2 == 0 { Role::Reader } else { Role::Writer }, member));
        }
        scope.spawn(|| crowd.ask_on(Role::Live, MEMBERS));
        scope.spawn(|| crowd.ask_on(Role::Ready, MEMBERS + 1));
        let start = Instant::now();
        eventually("every client is served", || crowd.each(|exchanges| successes(exchanges, start) >= 3));
        let fault = fault();
        let began = Instant::now();
        eventually("everybody has met the fault", || {
            began.elapsed() >= lasting
                && crowd.each(|exchanges| exchanges.iter().any(|exchange| exchange.asked >= began))
        });
        let lasted = Instant::now();
        end(fault);
        let ended = Instant::now();
        eventually("every client is served again", || crowd.each(|exchanges| successes(exchanges, ended) >= 5));
        (began, lasted, ended)
    });
    Seen { exchanges: crowd.exchanges.into_inner().unwrap(), began, lasted, ended }
}

impl Crowd<'_> {
    fn ask_on(&self, role: Role, member: usize) {
        let mut kept = None;
        for round in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let text = (role == Role::Writer).then(|| format!("{}-{member}-{round}", self.first));
            let asked = Instant::now();
            let answer = self.ask(&mut kept, &self.request(role, member, text.as_deref()));
            let answered = Instant::now();
            if matches!(member % 4, 0 | 1) {
                kept = None;
            }
            let status = answer.as_ref().map(|answer| answer.status);
            let may_come_back = answer.is_some_and(|answer| answer.header("Retry-After").is_some());
            self.exchanges.lock().unwrap().push(Exchange {
                role,
                member,
                asked,
                answered,
                status,
                may_come_back,
                text,
            });
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
    fn request(&self, role: Role, member: usize, text: Option<&str>) -> Vec<u8> {
        let get = |path: &str| request("GET", path, &[], b"");
        match (role, member % 8, text) {
            (Role::Live, ..) => get("/livez"),
            (Role::Ready, ..) => get("/readyz"),
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

    /// Whether `condition` holds for the exchanges of each reader and writer, in their order.
    fn each(&self, condition: impl Fn(&[Exchange]) -> bool) -> bool {
        let exchanges = self.exchanges.lock().unwrap().clone();
        let of = |member| exchanges.iter().filter(|exchange| exchange.member == member).cloned().collect::<Vec<_>>();
        (0..MEMBERS).all(|member| condition(&of(member)))
    }
}

/// Successes without a failure in between, of what was asked since then, up to now.
fn successes(exchanges: &[Exchange], since: Instant) -> usize {
    exchanges.iter().rev().take_while(|exchange| exchange.asked >= since && exchange.is_success()).count()
}

impl Exchange {
    fn is_success(&self) -> bool {
        matches!(self.status, Some(200 | 201))
    }

    fn took(&self) -> Duration {
        self.answered - self.asked
    }
}

impl Seen {
    /// The statuses of these clients during the fault.
    pub fn statuses(&self, role: Role) -> BTreeSet<u16> {
        let during = |exchange: &&Exchange| {
            exchange.role == role && exchange.asked >= self.began && exchange.answered <= self.lasted
        };
        self.exchanges.iter().filter(during).filter_map(|exchange| exchange.status).collect()
    }

    /// Whether any client got this status at any time.
    pub fn any_client_got(&self, status: u16) -> bool {
        self.exchanges.iter().any(|exchange| exchange.status == Some(status))
    }

    /// Checks what holds in every fault: no client hangs or is left without a response, liveness and readiness are not slowed,
    /// and everybody is served again soon. Shows the figures.
    #[track_caller]
    pub fn check(&self, fault: &str, db_timeout: Duration) {
        let slowest =
            |role| self.exchanges.iter().filter(|exchange| exchange.role == role).map(Exchange::took).max().unwrap();
        let (reader, writer) = (self.statuses(Role::Reader), self.statuses(Role::Writer));
        let (live, ready, back) = (self.slow(Role::Live), self.slow(Role::Ready), self.back());
        eprintln!(
            "{fault}: readers {reader:?} in {:.0?} at most, writers {writer:?} in {:.0?} at most; \
             95 % of /livez in {live:.0?}, of /readyz in {ready:.0?}; back after {back:.0?}",
            slowest(Role::Reader),
            slowest(Role::Writer),
        );
        for exchange in &self.exchanges {
            assert!(exchange.status.is_some(), "no answer: {exchange:?}");
            assert!(exchange.status != Some(503) || exchange.may_come_back, "no Retry-After: {exchange:?}");
            assert!(exchange.took() <= db_timeout + Duration::from_secs(1), "{:?} for {exchange:?}", exchange.took());
            assert!(exchange.role != Role::Live || exchange.status == Some(200), "{exchange:?}");
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
        for exchange in &self.exchanges {
            let Some(text) = &exchange.text else { continue };
            let stored = copies.get(text).copied().unwrap_or(0);
            let right = if exchange.is_success() { stored == 1 } else { stored <= 1 };
            assert!(right, "{stored} times in the table: {exchange:?}");
        }
    }

    /// The time under which 95 % of the answers came while the fault was there.
    fn slow(&self, role: Role) -> Duration {
        let during = |exchange: &&Exchange| {
            exchange.role == role && exchange.answered >= self.began && exchange.asked <= self.ended
        };
        let mut times: Vec<Duration> = self.exchanges.iter().filter(during).map(Exchange::took).collect();
        times.sort();
        times[times.len() * 95 / 100]
    }

    /// When the last of them was served, after the fault and after the last failure.
    fn back(&self) -> Duration {
        let served = |member| {
            let asked = |exchange: &&Exchange| exchange.member == member && exchange.asked >= self.ended;
            let mut since = None;
            for exchange in self.exchanges.iter().filter(asked) {
                since = if exchange.is_success() { since.or(Some(exchange.answered)) } else { None };
            }
            since.expect("every client is served in the end") - self.ended
        };
        (0..MEMBERS).map(served).max().unwrap()
    }
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
