//! A client of the database: one slot of the pool, the deadlines, and what is repeated when a statement fails.
//!
//! After any error that is not the server's own error packet, the connection never serves again: its response may still be
//! on the way, and the next client would read it. The crate's pool is not used. It opens connections while it holds its
//! lock, so all leaders would wait one after the other for a server that hangs; and it knows one address only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, warn};

use super::connect_error::Cause;
use super::connection::Connection;
use super::driver_error::{ErrorClass, words};
use super::error::Error;
use super::pool::Pool;
use super::servers::Servers;
use super::session::SessionLimits;
use crate::metrics::METRICS;
use crate::retry::jitter;

/// The database: its servers, and the connections to them.
pub struct Database {
    servers: Arc<Servers>,
    /// DB_TIMEOUT: for a connect, over all servers and addresses together, and for a statement, with the connect that it may
    /// need.
    timeout: Duration,
    pool: Pool,
    /// Rows are read back after each insert, because the database may change a text.
    read_back: AtomicBool,
    /// A client has found the database unavailable since the last check.
    failed: Mutex<bool>,
    has_failed: Condvar,
}

/// One slot of the pool, held until the client is dropped.
pub struct Client {
    database: Arc<Database>,
    connection: Option<Connection>,
    /// When the current work must be complete.
    deadline: Option<Instant>,
}

/// The first pause before a statement is repeated.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The time that a request may take in addition to that of its statement.
const QUEUE_ALLOWANCE: Duration = Duration::from_secs(1);
/// The part of it that is left for the socket's coarse time-out and for the reply.
const REPLY_ALLOWANCE: Duration = Duration::from_millis(100);
/// Attempts at a statement that met a lock or a server that takes no writes.
const MAX_ATTEMPTS: u32 = 6;

impl Database {
    /// A database on `servers` with up to `connections` connections, none of them open yet. `timeout` is DB_TIMEOUT.
    pub fn new(servers: Arc<Servers>, timeout: Duration, connections: usize) -> Arc<Database> {
        let labels = Error::LABELS.into_iter().chain(Cause::labels());
        labels.for_each(|label| drop(METRICS.database_errors.with_label_values(&[label])));
        Cause::labels().for_each(|label| drop(METRICS.database_connects.with_label_values(&[label])));
        let repeated = ErrorClass::REPEATED.map(ErrorClass::label);
        repeated.into_iter().for_each(|label| drop(METRICS.database_retries.with_label_values(&[label])));
        Arc::new(Database {
            servers,
            timeout,
            pool: Pool::new(connections),
            read_back: false.into(),
            failed: Mutex::default(),
            has_failed: Condvar::new(),
        })
    }

    /// The servers.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// How long a request may wait in a queue; the rest of the time-out and the allowance is for its statement.
    pub fn max_queue_wait(&self) -> Duration {
        max_queue_wait(self.timeout)
    }

    /// A client, if a slot is free.
    pub fn try_client(self: &Arc<Database>) -> Option<Client> {
        self.pool.take_slot(self.servers.generation()).then(|| Client::new(self))
    }

    /// Whether [`Database::try_client`] would return a client.
    pub fn has_free_slot(&self) -> bool {
        self.pool.has_free_slot(self.servers.generation())
    }

    /// A client as soon as a slot is free, within the time-out of a statement.
    pub fn client(self: &Arc<Database>) -> Result<Client, Error> {
        if self.pool.wait_for_slot(|| self.servers.generation(), self.timeout) {
            return Ok(Client::new(self));
        }
        Err(Error::Busy("no connection of DB_CONNECTIONS became free".to_owned()))
    }

    /// A connection without limits for statements that may take as long as they need.
    pub(super) fn connect_unlimited(&self) -> Result<Connection, Error> {
        self.servers.connect(self.timeout, None).map_err(Error::NoConnection)
    }

    /// Waits until a client finds the database unavailable, for `limit` at most.
    pub(super) fn wait_for_failure(&self, limit: Duration) {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.has_failed.wait_timeout_while(failed, limit, |failed| !*failed);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }

    fn report_failure(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.has_failed.notify_all();
    }

    /// Housekeeping, to be called about once a second.
    pub(super) fn maintain(&self) {
        self.pool.maintain();
    }

    /// Whether texts must be read back after an insert.
    pub(super) fn reads_back(&self) -> bool {
        self.read_back.load(Ordering::Relaxed)
    }

    /// From now on, texts are read back after each insert, for this `reason`.
    pub(super) fn read_back_from_now(&self, reason: &str) {
        if !self.read_back.swap(true, Ordering::Relaxed) {
            warn!("messages are read back after they were stored: {reason}");
        }
    }

    /// How long the server may go on with an abandoned statement.
    fn abandoned_limit(&self) -> Duration {
        // Its own limit counts from the start of the statement, and lock waits are shorter.
        self.timeout + QUEUE_ALLOWANCE
    }
}

impl Client {
    fn new(database: &Arc<Database>) -> Client {
        Client { database: Arc::clone(database), connection: None, deadline: None }
    }

    /// Starts the deadline for one batch. All statements until the next call share the time of one statement, reduced by the
    /// time above the allowance that the first request has `waited`.
    pub fn start_deadline(&mut self, waited: Duration) {
        let statement = self.database.timeout;
        let time = statement.min((statement + QUEUE_ALLOWANCE).saturating_sub(waited + REPLY_ALLOWANCE));
        self.deadline = Some(Instant::now() + time);
    }

    /// Closes the connection, so that the next statement selects a server that takes writes.
    pub(super) fn reconnect(&mut self) {
        drop(self.connection.take());
        self.database.pool.close_idle();
    }

    /// The database of this client.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Runs `statements`, again where that is safe and may succeed: they must mean the same when they run twice. Their
    /// argument is true when an earlier attempt may have succeeded although its response was lost. All of it, a connect
    /// included, ends with the deadline.
    pub(super) fn run<T>(
        &mut self,
        mut statements: impl FnMut(&mut Connection, bool) -> Result<T, mysql::Error>,
    ) -> Result<T, Error> {
        let result = self.attempt(&mut statements);
        if let Err(error) = &result {
            METRICS.database_errors.with_label_values(&[error.label()]).inc();
            if error.is_outage() {
                self.database.report_failure();
            }
        }
        result
    }

    fn attempt<T>(
        &mut self,
        statements: &mut impl FnMut(&mut Connection, bool) -> Result<T, mysql::Error>,
    ) -> Result<T, Error> {
        let deadline = self.deadline.unwrap_or_else(|| Instant::now() + self.database.timeout);
        let (mut attempt, mut outcome_unknown, mut lost_at) = (0, false, None);
        loop {
            attempt += 1;
            if Instant::now() >= deadline {
                return Err(Error::Busy("no time is left for the statement".to_owned()));
            }
            let mut connection = self.connection(deadline, lost_at)?;
            let error = match statements(&mut connection, outcome_unknown) {
                Ok(result) => {
                    self.connection = Some(connection);
                    return Ok(result);
                }
                Err(error) => error,
            };
            let class = ErrorClass::new(&error);
            let has_time = Instant::now() + self.least_time(class) < deadline;
            let pause = pause_before_repeat(class, attempt, outcome_unknown).filter(|_| has_time);
            if matches!(class, ErrorClass::Lost | ErrorClass::NotTheProtocol) {
                outcome_unknown = true;
                lost_at = Some(Instant::now());
            }
            let server = connection.server.clone();
            self.release(connection, class, &error);
            let Some(pause) = pause else {
                if class == ErrorClass::Lost {
                    self.database.servers.mark_failed(&server);
                }
                return Err(Error::of_driver(&error));
            };
            METRICS.database_retries.with_label_values(&[class.label()]).inc();
            debug!("repeating a statement after: {}", words(&error));
            thread::sleep(pause);
        }
    }

    /// The open connection, if it still leads to the right server, or another one. After a lost connection it must be younger
    /// than `lost_at`: another leader may have returned a dead one to the pool since.
    fn connection(&mut self, deadline: Instant, lost_at: Option<Instant>) -> Result<Connection, Error> {
        let Database { servers, pool, timeout, .. } = &*self.database;
        let generation = servers.generation();
        let kept = self.connection.take().filter(|kept| kept.generation == generation);
        let mut connection = match kept.or_else(|| pool.take_idle(generation, lost_at)) {
            Some(connection) => connection,
            None => {
                let limit = deadline.saturating_duration_since(Instant::now()).min(*timeout);
                let limits = SessionLimits { lock_wait: lock_wait(*timeout), statement: *timeout };
                match servers.connect(limit, Some(limits)) {
                    Err(error) if error.cause == Cause::TooManyConnections => {
                        let left = deadline.saturating_duration_since(Instant::now());
                        pool.share_connections(&error, servers.open_connections(), generation, left)
                            .ok_or(Error::NoConnection(error))?
                    }
                    connected => connected.map_err(Error::NoConnection)?,
                }
            }
        };
        connection.set_deadline(Some(deadline));
        Ok(connection)
    }

    /// What becomes of a connection after a failed statement.
    fn release(&mut self, mut connection: Connection, class: ErrorClass, error: &mysql::Error) {
        let is_sound = matches!(error, mysql::Error::MySqlError(_));
        let server = connection.server.clone();
        match class {
            ErrorClass::Refused | ErrorClass::Conflict | ErrorClass::LockWait => self.connection = Some(connection),
            ErrorClass::TimedOut if is_sound => self.connection = Some(connection),
            ErrorClass::TimedOut => {
                self.database.servers.give_up(&server);
                self.database.pool.abandon(connection, self.database.abandoned_limit());
            }
            // Most likely the server is gone, and the second attempt must not meet another dead connection.
            ErrorClass::Lost | ErrorClass::NotTheProtocol => {
                connection.stop_counting();
                self.database.pool.close_idle();
            }
            ErrorClass::ReadOnly | ErrorClass::LostCluster => self.database.servers.mark_failed(&server),
        }
    }

    /// What must be left of a statement's time for another attempt.
    fn least_time(&self, class: ErrorClass) -> Duration {
        // The next attempt may wait for the lock as long again, and goes on waiting when it is abandoned.
        let waits_again = class == ErrorClass::LockWait;
        if waits_again { Duration::from_secs(lock_wait(self.database.timeout)) } else { Duration::ZERO }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.database.pool.return_idle(connection);
        }
        self.database.pool.return_slot();
    }
}

fn max_queue_wait(timeout: Duration) -> Duration {
    (timeout / 2).max(QUEUE_ALLOWANCE)
}

/// Seconds that a statement may wait for a lock. It is less than the shortest time of a statement, because an abandoned
/// statement goes on waiting, and keeps its locks.
fn lock_wait(timeout: Duration) -> u64 {
    let shortest = timeout.min((timeout + QUEUE_ALLOWANCE).saturating_sub(max_queue_wait(timeout)));
    (shortest.as_secs_f64().ceil() as u64).saturating_sub(1).max(1)
}

/// How long to wait before a statement is repeated; `None` when it must not be. A time-out is never repeated, a lost
/// connection once, and a lock or a wrong server a few times.
fn pause_before_repeat(class: ErrorClass, attempt: u32, outcome_unknown: bool) -> Option<Duration> {
    match class {
        ErrorClass::Refused | ErrorClass::TimedOut => None,
        ErrorClass::Lost | ErrorClass::NotTheProtocol => (!outcome_unknown).then_some(Duration::ZERO),
        ErrorClass::Conflict | ErrorClass::LockWait | ErrorClass::ReadOnly | ErrorClass::LostCluster => {
            (attempt < MAX_ATTEMPTS).then(|| jitter(FIRST_PAUSE * attempt))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_before_the_statement_is() {
        let wait = |ms| lock_wait(Duration::from_millis(ms));
        assert_eq!(wait(5000), 3);
        assert_eq!(wait(10_000), 5);
        assert_eq!(wait(2500), 2);
        assert_eq!(wait(1000), 1, "the database counts in whole seconds");
    }

    #[test]
    fn what_is_repeated_depends_on_the_class_and_the_attempt() {
        let repeats = |class, attempt, outcome_unknown| pause_before_repeat(class, attempt, outcome_unknown).is_some();
        use ErrorClass::{Conflict, LockWait, Lost, LostCluster, NotTheProtocol, ReadOnly, Refused, TimedOut};
        assert!(ErrorClass::REPEATED.iter().all(|class| repeats(*class, 1, false)));
        for class in [Conflict, LockWait, ReadOnly, LostCluster] {
            assert!(repeats(class, 1, true) && repeats(class, MAX_ATTEMPTS - 1, false), "{class:?}");
            assert!(!repeats(class, MAX_ATTEMPTS, false), "{class:?}");
        }
        for class in [Lost, NotTheProtocol] {
            assert!(repeats(class, 1, false) && !repeats(class, 2, true), "{class:?}: once");
        }
        for class in [TimedOut, Refused] {
            assert!(!repeats(class, 1, false), "{class:?}");
        }
    }
}
