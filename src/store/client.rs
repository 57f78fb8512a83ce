//! A client: one connection to the database, for one leader of a lane, and what is done when a statement fails.
//!
//! After any error that is not the server's own error packet the connection never serves again: its answer may still be
//! in the pipe, and the next client would read it. The crate's pool is not used: it opens connections while it holds its
//! lock, so that all leaders would wait in a row for a server that hangs, and it knows one address.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::error::{Error, words};
use super::error_class::ErrorClass;
use super::servers::Servers;
use crate::metrics::METRICS;
use crate::retry::jitter;
use log::{info, warn};

/// How long the database may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection, over all servers and addresses together.
    pub connect: Duration,
    /// For a statement, with the connection that has to be opened for it; none for those that may take as long as they need.
    pub statement: Option<Duration>,
}

/// A connection that is opened when it is needed and kept while it is sound.
pub struct Client {
    servers: Arc<Servers>,
    timeouts: Timeouts,
    connection: Option<Connection>,
    /// When the work that has begun has to be done.
    end: Option<Instant>,
}

/// The first pause between attempts at a statement that met a lock.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// What a request may wait beyond the time of a statement.
const WAITING: Duration = Duration::from_secs(1);
/// Attempts at a statement that met a lock or a server that takes no writes.
const MAX_ATTEMPTS: u32 = 6;

impl Timeouts {
    /// How long somebody may wait before work for him begins; the rest of the statement's time and a second is for it.
    pub fn max_queue_wait(&self) -> Duration {
        self.statement.map_or(Duration::MAX, |statement| (statement / 2).max(WAITING))
    }

    /// Seconds that a statement may wait for a row lock: less than the shortest time it may have, because a statement whose
    /// client gave up goes on waiting, and keeps the locks it has.
    pub(super) fn lock_wait(&self) -> Option<u64> {
        let shortest = |statement: Duration| statement.min((statement + WAITING).saturating_sub(self.max_queue_wait()));
        self.statement.map(|statement| (shortest(statement).as_secs_f64().ceil() as u64).saturating_sub(1).max(1))
    }
}

impl Client {
    /// A client without a connection yet.
    pub fn new(servers: Arc<Servers>, timeouts: Timeouts) -> Client {
        Client { servers, timeouts, connection: None, end: None }
    }

    /// Gives the client up, and its connection to the client that needs one next: a login less for the first who asks.
    pub fn leave(self) {
        if let Some(connection) = self.connection.filter(|connection| connection.generation().is_some()) {
            self.servers.keep_spare(connection);
        }
    }

    /// Begins work for whoever has `waited` so long already: all statements until the next beginning have the time of one
    /// statement together, and less after a long wait, so that everybody is answered within that time and a second.
    pub fn begin(&mut self, waited: Duration) {
        let time = self.timeouts.statement.map(|statement| statement.min((statement + WAITING).saturating_sub(waited)));
        self.end = time.map(|time| Instant::now() + time);
    }

    /// Runs `statements`, again where that is safe and has a chance: they must mean the same when they are run twice.
    /// They are told whether an earlier attempt may have succeeded outcome_unknown. All of it, the connection that may have to be
    /// opened too, is over when the time of the work is, or without a beginning of it, that of one statement.
    pub(super) fn run<T>(
        &mut self,
        mut statements: impl FnMut(&mut Connection, bool) -> Result<T, mysql::Error>,
    ) -> Result<T, Error> {
        let end = self.end.or_else(|| self.timeouts.statement.map(|statement| Instant::now() + statement));
        let mut outcome_unknown = false;
        for attempt in 1.. {
            // That says nothing of the server, and the connection is as sound as it was.
            if end.is_some_and(|end| Instant::now() >= end) {
                return Err(Error::Busy("no time is left for the statement".to_owned()));
            }
            let mut connection = self.connection(end)?;
            let server = connection.server;
            let error = match statements(&mut connection, outcome_unknown) {
                Ok(result) => {
                    self.connection = Some(connection);
                    return Ok(result);
                }
                Err(error) => error,
            };
            let failure = ErrorClass::of(&error);
            let hopeless =
                attempt >= MAX_ATTEMPTS || end.is_some_and(|end| Instant::now() + self.needs(failure) >= end);
            match failure {
                ErrorClass::Refused => {
                    self.connection = Some(connection);
                    return Err(Error::refused(&error));
                }
                ErrorClass::TimedOut => {
                    self.servers.avoid(server);
                    return Err(Error::TimedOut);
                }
                ErrorClass::Lost if outcome_unknown || hopeless => {
                    self.servers.avoid(server);
                    return Err(Error::Lost(words(&error)));
                }
                ErrorClass::Lost => {
                    outcome_unknown = true;
                    count_retry(failure);
                    info!("the connection to {server} is lost ({}); trying once more", words(&error));
                }
                ErrorClass::Transient | ErrorClass::LockWait => {
                    self.connection = Some(connection);
                    if hopeless {
                        return Err(Error::Busy(words(&error)));
                    }
                    count_retry(failure);
                    warn!("trying a statement again after: {}", words(&error));
                    thread::sleep(jitter(FIRST_PAUSE * attempt));
                }
                ErrorClass::WrongServer => {
                    self.servers.avoid(server);
                    if hopeless {
                        return Err(Error::Busy(words(&error)));
                    }
                    count_retry(failure);
                    warn!("{server} is not the one to talk to ({}); trying the next server", words(&error));
                    thread::sleep(jitter(FIRST_PAUSE * attempt));
                }
            }
        }
        Err(Error::TimedOut)
    }

    /// The connection that is there, if it is still one with the right server, or a new one.
    fn connection(&mut self, end: Option<Instant>) -> Result<Connection, Error> {
        let kept = self.connection.take().or_else(|| self.servers.take_spare());
        let kept = kept.filter(|kept| kept.generation().is_some_and(|g| self.servers.is_current(g)));
        let mut connection = match kept {
            Some(kept) => kept,
            None => {
                let left = end.map_or(self.timeouts.connect, |end| end.saturating_duration_since(Instant::now()));
                let limit = left.min(self.timeouts.connect);
                self.servers.connect(limit, self.timeouts.lock_wait()).map_err(Error::NoSession)?
            }
        };
        connection.begin(end);
        Ok(connection)
    }

    /// What has to be left of a statement's time for another attempt.
    fn needs(&self, failure: ErrorClass) -> Duration {
        match failure {
            // It may wait for the lock as long again; given up earlier, it would go on waiting without us.
            ErrorClass::LockWait => Duration::from_secs(self.timeouts.lock_wait().unwrap_or(0)),
            ErrorClass::Transient
            | ErrorClass::WrongServer
            | ErrorClass::Lost
            | ErrorClass::TimedOut
            | ErrorClass::Refused => Duration::ZERO,
        }
    }
}

fn count_retry(failure: ErrorClass) {
    METRICS.database_retries.with_label_values(&[failure.name()]).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_given_up_before_the_statement_is() {
        let wait =
            |ms: u64| Timeouts { connect: Duration::ZERO, statement: Some(Duration::from_millis(ms)) }.lock_wait();
        assert_eq!(wait(5000), Some(3));
        assert_eq!(wait(10_000), Some(5));
        assert_eq!(wait(2500), Some(2));
        assert_eq!(wait(1000), Some(1), "the database counts in whole seconds");
        assert_eq!(Timeouts { connect: Duration::ZERO, statement: None }.lock_wait(), None);
    }
}
