//! Where the service is in its life: starting, serving or stopping; and what is known of its database meanwhile.
//!
//! Written by the threads that start, supervise and stop the service, read by those that answer requests. Decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The state, shared by all threads.
#[derive(Debug)]
pub struct Lifecycle {
    serving: AtomicBool,
    stopping: AtomicBool,
    writable: AtomicBool,
    database: Mutex<Condition>,
    changed: Condvar,
}

/// A reason in words, and as a label of metrics. It names no host and no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The words.
    pub text: &'static str,
    /// The label.
    pub label: &'static str,
}

/// Whether requests can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// They can.
    Ready,
    /// Reads can; writes can't, for this reason.
    ReadOnly(Reason),
    /// They can't, for this reason.
    NotReady(Reason),
}

/// What is known of the database.
#[derive(Debug)]
struct Condition {
    /// Why reads do not work, as of the last check.
    failure: Option<Reason>,
    /// When the check began that has not ended yet.
    checking_since: Option<Instant>,
    write_block: Option<Reason>,
}

/// A check of the database that takes longer counts as failed: probes want an answer within a second.
const CHECK_LIMIT: Duration = Duration::from_millis(800);
const STARTING: Reason = Reason { text: "waiting for the database", label: "starting" };
const STOPPING: Reason = Reason { text: "shutting down", label: "stopping" };
const SLOW: Reason = Reason { text: "the database does not answer in time", label: "timed_out" };

impl Default for Lifecycle {
    fn default() -> Lifecycle {
        Lifecycle {
            serving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            writable: AtomicBool::new(true),
            database: Mutex::new(Condition { failure: Some(STARTING), checking_since: None, write_block: None }),
            changed: Condvar::new(),
        }
    }
}

impl Lifecycle {
    /// The table exists in its current shape: requests may use the database.
    pub fn set_serving(&self) {
        self.serving.store(true, Ordering::Release);
        self.finish_check(Ok(()));
    }

    /// The service is going to stop.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Start-up waits for this.
    pub fn set_waiting_for(&self, reason: Reason) {
        self.lock().failure = Some(reason);
        self.changed.notify_all();
    }

    /// Waits until the first attempt to reach the database has ended, or `limit` has passed.
    pub fn wait_for_first_attempt(&self, limit: Duration) {
        let starting = |condition: &mut Condition| condition.failure == Some(STARTING);
        drop(self.changed.wait_timeout_while(self.lock(), limit, starting));
    }

    /// A check of the database begins.
    pub fn begin_check(&self) {
        self.lock().checking_since = Some(Instant::now());
    }

    /// A check of the database has ended, and found that reads work or why they do not.
    pub fn finish_check(&self, result: Result<(), Reason>) {
        let mut condition = self.lock();
        condition.checking_since = None;
        condition.failure = result.err();
        self.changed.notify_all();
    }

    /// Sets why writes do not work, or that they do.
    pub fn set_write_block(&self, block: Option<Reason>) {
        self.lock().write_block = block;
        self.writable.store(block.is_none(), Ordering::Release);
    }

    /// Whether requests may use the database.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Whether the service is going to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether writes may be tried.
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire)
    }

    /// Whether requests can be served now.
    pub fn readiness(&self) -> Readiness {
        if self.is_stopping() {
            return Readiness::NotReady(STOPPING);
        }
        let condition = self.lock();
        let is_slow = self.is_serving() && condition.checking_since.is_some_and(|since| since.elapsed() > CHECK_LIMIT);
        match (condition.failure, condition.write_block) {
            (Some(failure), _) => Readiness::NotReady(failure),
            (None, _) if is_slow => Readiness::NotReady(SLOW),
            (None, Some(block)) => Readiness::ReadOnly(block),
            (None, None) => Readiness::Ready,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Condition> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURE: Reason = Reason { text: "the database refuses connections", label: "refused" };
    const BLOCK: Reason = Reason { text: "the database server is read-only", label: "read_only" };

    #[test]
    fn readiness_follows_the_last_check_and_a_stop_wins() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.readiness(), Readiness::NotReady(STARTING));
        lifecycle.set_serving();
        assert_eq!(lifecycle.readiness(), Readiness::Ready);
        lifecycle.set_write_block(Some(BLOCK));
        assert_eq!(lifecycle.readiness(), Readiness::ReadOnly(BLOCK));
        assert!(!lifecycle.is_writable());
        lifecycle.finish_check(Err(FAILURE));
        assert_eq!(lifecycle.readiness(), Readiness::NotReady(FAILURE));
        lifecycle.finish_check(Ok(()));
        lifecycle.set_write_block(None);
        assert_eq!(lifecycle.readiness(), Readiness::Ready);
        lifecycle.set_stopping();
        assert_eq!(lifecycle.readiness(), Readiness::NotReady(STOPPING));
    }

    #[test]
    fn the_wait_for_the_first_attempt_ends_with_it_or_at_its_limit() {
        let began = Instant::now();
        Lifecycle::default().wait_for_first_attempt(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
        for end in [Lifecycle::set_serving, |lifecycle: &Lifecycle| lifecycle.set_waiting_for(FAILURE)] {
            let lifecycle = Lifecycle::default();
            std::thread::scope(|threads| {
                threads.spawn(|| end(&lifecycle));
                lifecycle.wait_for_first_attempt(Duration::from_secs(60));
            });
            assert_ne!(lifecycle.readiness(), Readiness::NotReady(STARTING));
        }
    }

    #[test]
    fn a_check_that_does_not_end_counts_as_failed() {
        let lifecycle = Lifecycle::default();
        lifecycle.set_serving();
        lifecycle.begin_check();
        assert_eq!(lifecycle.readiness(), Readiness::Ready, "it may still end in time");
        lifecycle.lock().checking_since = Instant::now().checked_sub(CHECK_LIMIT * 2);
        assert_eq!(lifecycle.readiness(), Readiness::NotReady(SLOW));
        lifecycle.finish_check(Ok(()));
        assert_eq!(lifecycle.readiness(), Readiness::Ready);
    }
}
