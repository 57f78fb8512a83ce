//! Supervisor the database: finding the server, and waiting until the table has its shape.
//!
//! Tries again, less and less often, whatever may pass by itself; gives up after the time that is set, or what only a person
//! can change. Answers nobody: what it waits for is in the lifecycle.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::schema::SchemaState;
use super::{Client, ConnectError, Error, Servers, Timeouts};
use crate::lifecycle::Lifecycle;
use crate::retry::Backoff;

/// The opening of the database, which lasts until the table has its shape.
pub struct Supervisor {
    /// What is opened.
    pub servers: Arc<Servers>,
    /// What it waits for is said here, and in the end that it is open.
    pub lifecycle: Arc<Lifecycle>,
    /// How long a connection and a statement may take.
    pub timeouts: Timeouts,
    /// How long to try; without it for ever.
    pub wait: Option<Duration>,
    /// Told after each attempt; nobody needs to hear it.
    pub tried: Sender<()>,
}

/// Delays between attempts.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// How long what only a person can change is tried again: a database container creates users and databases late.
const PERSONS_WAIT: Duration = Duration::from_secs(30);
/// How often, during a delay, a port that was closed is looked at; and how long one look may take.
const KNOCK: Duration = Duration::from_millis(200);

impl Supervisor {
    /// Opens the database in a thread of its own, which then keeps the servers' names resolved. `give_up` is told why there
    /// will be no other attempt.
    pub fn start(self, give_up: impl FnOnce(String) + Send + 'static) -> io::Result<()> {
        let run = move || {
            let reason = catch_unwind(AssertUnwindSafe(|| self.run()));
            give_up(reason.unwrap_or_else(|_| "opening the database met a panic".to_owned()));
        };
        thread::Builder::new().name("database".to_owned()).spawn(run).map(drop)
    }

    /// Comes back only to say why it gave up.
    fn run(&self) -> String {
        let start = Instant::now();
        let mut needs_a_person_since = None;
        let mut delays = Backoff::new(FIRST_DELAY, MAX_DELAY);
        for attempt in 1u64.. {
            let error = match self.open() {
                Ok(()) => break,
                Err(error) => error,
            };
            self.lifecycle.set_waiting_for(error.summary());
            let _ = self.tried.send(());
            let since = needs_a_person_since.filter(|_| error.is_permanent()).unwrap_or_else(Instant::now);
            needs_a_person_since = error.is_permanent().then_some(since);
            let hopeless = needs_a_person_since.is_some_and(|since| since.elapsed() >= PERSONS_WAIT);
            if hopeless || self.wait.is_some_and(|wait| start.elapsed() >= wait) {
                warn!("attempt {attempt} to open the database failed: {error}");
                return format!("gave up after {attempt} attempts: {error}");
            }
            let left = self.wait.map_or(MAX_DELAY, |wait| wait.saturating_sub(start.elapsed()));
            let delay = delays.next().unwrap_or(MAX_DELAY).min(left);
            warn!("attempt {attempt} to open the database failed: {error}; next in {} ms", delay.as_millis());
            self.pause(delay, &error);
        }
        self.lifecycle.set_open();
        let _ = self.tried.send(());
        info!("open after {} ms", start.elapsed().as_millis());
        self.servers.keep_resolved()
    }

    fn open(&self) -> Result<(), Error> {
        self.servers.resolve().map_err(Error::NoSession)?;
        let mut client = Client::new(Arc::clone(&self.servers), self.timeouts);
        let version = client.version()?;
        if !version.supported {
            let words = "twotier runs on MySQL 8.0.13 or newer and MariaDB 10.5 or newer";
            return Err(Error::Refused(format!("the server is {}; {words}", version.text)));
        }
        if client.shape()? == SchemaState::Current {
            client.leave();
            return Ok(());
        }
        let patient = Timeouts { statement: None, ..self.timeouts };
        Client::new(Arc::clone(&self.servers), patient).prepare_table(|step| {
            info!("{step}");
            self.lifecycle.set_waiting_for(step);
        })
    }

    /// Waits for `delay`, or less when a port that was closed opens, because then the database has just come up.
    fn pause(&self, delay: Duration, error: &Error) {
        let end = Instant::now() + delay;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(KNOCK));
            let opens = match error {
                Error::NoSession(ConnectError::Refused { .. }) => self.servers.listens(KNOCK),
                Error::NoSession(ConnectError::NameNotFound { .. }) => self.servers.resolve().is_ok(),
                _ => false,
            };
            if opens {
                return;
            }
        }
    }
}
