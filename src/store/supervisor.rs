//! The supervisor of the database: waits for it at start-up, migrates the table, and checks both from then on.
//!
//! One thread. It retries transient failures, and gives up after DB_WAIT, or earlier after a failure that only an operator can
//! fix. It answers no request: it writes its findings to the [`Lifecycle`].

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, info, warn};

use super::client::{Client, Database};
use super::error::{Error, WriteBlock};
use super::migration;
use super::schema::{SchemaState, Table};
use crate::lifecycle::{Lifecycle, Reason};
use crate::outage_log::Outages;
use crate::retry::Backoff;

/// What the supervisor works on.
pub struct Supervisor {
    /// The database.
    pub database: Arc<Database>,
    /// Receives the findings.
    pub lifecycle: Arc<Lifecycle>,
    /// The log of outages, which it closes.
    pub outages: Arc<Outages>,
    /// How long to try at start-up; `None` for ever.
    pub wait: Option<Duration>,
    /// Whether a table with columns of another program may be taken over.
    pub take_over: bool,
}

/// Delays between attempts at start-up.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(1);
/// How long a failure is retried that only an operator can fix: a database container creates users and databases late.
const PERMANENT_CAUSE_WAIT: Duration = Duration::from_secs(30);
/// Time between two log lines of the same cause.
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// Time between two checks of reads.
const CHECK_PAUSE: Duration = Duration::from_secs(1);
/// The same while the database is unavailable.
const MIN_CHECK_PAUSE: Duration = Duration::from_millis(200);
/// Checks of reads for one check of writes; while writes are blocked they are checked each time.
const CHECKS_FOR_WRITES: u32 = 5;

impl Supervisor {
    /// Starts the supervisor in a thread of its own, and another one that keeps the servers' names resolved. `give_up` gets the
    /// reason when there will be no other attempt. `wake` is called after the supervisor has returned its connection.
    pub fn start(
        self,
        give_up: impl FnOnce(String) + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<()> {
        let run = move || {
            let reason = catch_unwind(AssertUnwindSafe(|| self.run(&wake)));
            give_up(reason.unwrap_or_else(|_| "the supervisor of the database panicked".to_owned()));
        };
        thread::Builder::new().name("database".to_owned()).spawn(run).map(drop)
    }

    /// Returns only the reason why it gave up.
    fn run(&self, wake: &impl Fn()) -> String {
        if let Err(reason) = self.open() {
            return reason;
        }
        self.lifecycle.set_serving();
        let database = Arc::clone(&self.database);
        let resolver = thread::Builder::new().name("resolver".to_owned());
        if let Err(error) = resolver.spawn(move || database.servers().keep_resolved()) {
            error!("the names of the database's servers will not be resolved again: {error}");
        }
        self.watch(wake)
    }

    fn open(&self) -> Result<(), String> {
        let start = Instant::now();
        let mut permanent_since = None;
        let mut delays = Backoff::new(FIRST_DELAY, MAX_DELAY);
        let mut logged: Option<(&'static str, Instant)> = None;
        for attempt in 1u64.. {
            let error = match self.try_open(start) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.lifecycle.set_waiting_for(reason(&error));
            let since = permanent_since.filter(|_| error.is_permanent()).unwrap_or_else(Instant::now);
            permanent_since = error.is_permanent().then_some(since);
            let is_hopeless = permanent_since.is_some_and(|since| since.elapsed() >= PERMANENT_CAUSE_WAIT);
            if is_hopeless || self.wait.is_some_and(|wait| start.elapsed() >= wait) {
                return Err(format!("gave up on the database after {attempt} attempts: {error}"));
            }
            let left = self.wait.map_or(MAX_DELAY, |wait| wait.saturating_sub(start.elapsed()));
            let delay = delays.next().unwrap_or(MAX_DELAY).min(left);
            if logged.is_none_or(|(cause, at)| cause != error.label() || at.elapsed() >= LOG_PAUSE) {
                warn!(attempt = attempt, delay_ms = delay.as_millis() as u64; "the database is not available: {error}");
                logged = Some((error.label(), Instant::now()));
            }
            thread::sleep(delay);
        }
        Ok(())
    }

    fn try_open(&self, start: Instant) -> Result<(), Error> {
        self.database.servers().resolve().map_err(Error::NoConnection)?;
        let mut client = self.client()?;
        let (version, server, table) = client.run(|connection, _| {
            Ok((connection.info.version.clone(), connection.server.clone(), Table::describe(connection)?))
        })?;
        version.check()?;
        if table.state(self.take_over) != SchemaState::Current {
            // The migration needs a connection without limits, which may be the only one that there may be.
            client.reconnect();
            drop(client);
            migration::migrate(&self.database, self.take_over, |step| {
                info!("{step}");
                self.lifecycle.set_waiting_for(Reason { text: step, label: "migrating" });
            })?;
            client = self.client()?;
        }
        if client.has_triggers()? {
            self.database.read_back_from_now("the table has triggers, which may change a text");
        }
        let database = self.database.servers().database();
        info!("database open after {} ms: {database} on {server}, {}", start.elapsed().as_millis(), version.text);
        Ok(())
    }

    fn watch(&self, wake: &impl Fn()) -> ! {
        let mut block: Option<WriteBlock> = None;
        let mut round = 0u32;
        loop {
            self.database.maintain();
            self.outages.tick();
            self.lifecycle.begin_check();
            let mut client = self.client();
            let reads = client.as_mut().map_err(|error| error.clone()).and_then(|client| client.check_reads());
            self.lifecycle.finish_check(reads.as_ref().map(drop).map_err(reason));
            match &reads {
                Ok(()) => self.outages.reads.succeed(),
                Err(error) => self.outages.reads.fail(error.label(), error, &[]),
            }
            if let (Ok(client), Ok(())) = (&mut client, &reads)
                && (block.is_some() || round.is_multiple_of(CHECKS_FOR_WRITES))
            {
                if block.is_some() {
                    // Another server may take writes by now.
                    client.reconnect();
                }
                if let Ok(found) = client.write_block(self.take_over) {
                    self.set_write_block(&mut block, found);
                }
            }
            drop(client);
            wake();
            round = round.wrapping_add(1);
            thread::sleep(MIN_CHECK_PAUSE);
            if reads.is_ok() {
                // Requests that fail are a reason to check now.
                self.database.wait_for_failure(CHECK_PAUSE - MIN_CHECK_PAUSE);
            }
        }
    }

    fn client(&self) -> Result<Client, Error> {
        let mut client = self.database.client()?;
        client.start_deadline(Duration::ZERO);
        Ok(client)
    }

    fn set_write_block(&self, block: &mut Option<WriteBlock>, found: Option<WriteBlock>) {
        if *block != found {
            match &found {
                Some(block) => error!("writes are paused: {block}"),
                None => info!("writes work again"),
            }
            self.lifecycle
                .set_write_block(found.as_ref().map(|block| Reason { text: block.summary(), label: block.label() }));
        }
        if found.is_none() {
            self.outages.writes.succeed();
        }
        *block = found;
    }
}

fn reason(error: &Error) -> Reason {
    Reason { text: error.summary(), label: error.label() }
}
