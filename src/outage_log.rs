//! The log of an outage: its first error, a count every ten seconds, and its end. Never a line for each request.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{error, info};

/// The outages of what the database is needed for.
#[derive(Debug)]
pub struct Outages {
    /// Reading messages.
    pub reads: OutageLog,
    /// Storing, editing and deleting messages.
    pub writes: OutageLog,
}

/// The log of one activity, which works or fails.
#[derive(Debug)]
pub struct OutageLog {
    activity: &'static str,
    /// An outage has begun and its end is not logged yet; so that a success costs nothing otherwise.
    is_open: AtomicBool,
    outage: Mutex<Option<Outage>>,
}

#[derive(Debug)]
struct Outage {
    began: Instant,
    last_failure: Instant,
    last_cause: String,
    /// When it has worked since the last failure.
    worked: Option<Instant>,
    /// Labels of the causes that were logged.
    causes: BTreeSet<&'static str>,
    failed: u64,
    failed_since_report: u64,
    /// The first of the requests that failed since the last report.
    request_ids: Vec<String>,
    reported: Instant,
}

/// Time between two counts.
const REPORT_PAUSE: Duration = Duration::from_secs(10);
/// Names of requests on one line.
const MAX_LOGGED_IDS: usize = 20;
/// An outage is over when it has worked and nothing has failed for so long.
const QUIET: Duration = Duration::from_secs(1);

impl Default for Outages {
    fn default() -> Outages {
        Outages { reads: OutageLog::new("reading messages"), writes: OutageLog::new("storing messages") }
    }
}

impl Outages {
    /// Logs what is due; to be called about once a second.
    pub fn tick(&self) {
        self.reads.tick(Instant::now());
        self.writes.tick(Instant::now());
    }
}

impl OutageLog {
    fn new(activity: &'static str) -> OutageLog {
        OutageLog { activity, is_open: AtomicBool::new(false), outage: Mutex::new(None) }
    }

    /// Records that these requests failed for `cause`, which metrics call `label`.
    pub fn fail(&self, label: &'static str, cause: &impl fmt::Display, request_ids: &[&str]) {
        let requests = request_ids.len();
        let now = Instant::now();
        self.is_open.store(true, Ordering::Relaxed);
        let mut outage = self.lock();
        let outage = outage.get_or_insert_with(|| Outage::new(now));
        outage.add(request_ids);
        outage.last_failure = now;
        outage.worked = None;
        if outage.causes.insert(label) {
            match requests {
                // It was a check of the service's own.
                0 => error!("{} fails: {cause}", self.activity),
                _ => {
                    let ids = join(request_ids, requests);
                    error!(requests = requests, request_ids = ids; "{} fails: {cause}", self.activity);
                }
            }
            outage.restart_report();
        }
        outage.last_cause = cause.to_string();
        self.report(outage, now);
    }

    /// Records that these requests failed too, in an outage that is open.
    pub fn count(&self, request_ids: &[&str]) {
        if let Some(outage) = &mut *self.lock() {
            outage.add(request_ids);
        }
    }

    /// Records that it works.
    pub fn succeed(&self) {
        if self.is_open.load(Ordering::Relaxed)
            && let Some(outage) = &mut *self.lock()
        {
            outage.worked.get_or_insert_with(Instant::now);
        }
    }

    fn tick(&self, now: Instant) {
        let mut state = self.lock();
        let Some(outage) = &mut *state else { return };
        self.report(outage, now);
        if let Some(worked) = outage.worked
            && now.saturating_duration_since(outage.last_failure) >= QUIET
        {
            let lasted = worked.duration_since(outage.began);
            let failed = outage.failed;
            info!(requests = failed; "{} works again after {:.1} s", self.activity, lasted.as_secs_f64());
            *state = None;
            self.is_open.store(false, Ordering::Relaxed);
        }
    }

    fn report(&self, outage: &mut Outage, now: Instant) {
        if outage.failed_since_report > 0 && now.saturating_duration_since(outage.reported) >= REPORT_PAUSE {
            let failed = outage.failed_since_report;
            let ids = join(&outage.request_ids, failed as usize);
            error!(requests = failed, request_ids = ids; "{} still fails: {}", self.activity, outage.last_cause);
            outage.restart_report();
            outage.reported = now;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Outage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outage {
    fn new(now: Instant) -> Outage {
        Outage {
            began: now,
            last_failure: now,
            last_cause: String::new(),
            worked: None,
            causes: BTreeSet::new(),
            failed: 0,
            failed_since_report: 0,
            request_ids: Vec::new(),
            reported: now,
        }
    }

    fn add(&mut self, request_ids: &[&str]) {
        self.failed += request_ids.len() as u64;
        self.failed_since_report += request_ids.len() as u64;
        let room = MAX_LOGGED_IDS - self.request_ids.len();
        self.request_ids.extend(request_ids.iter().take(room).map(|id| (*id).to_owned()));
    }

    fn restart_report(&mut self) {
        self.failed_since_report = 0;
        self.request_ids.clear();
    }
}

/// The first names of so many requests, and the number of the others.
fn join(request_ids: &[impl AsRef<str>], requests: usize) -> String {
    let shown: Vec<&str> = request_ids.iter().take(MAX_LOGGED_IDS).map(AsRef::as_ref).collect();
    match requests - shown.len() {
        0 => shown.join(" "),
        others => format!("{} and {others} more", shown.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_over_when_it_worked_and_nothing_has_failed_for_a_while() {
        let log = OutageLog::new("reading messages");
        let is_open = || log.lock().is_some();
        log.succeed();
        assert!(!is_open(), "a success alone is no outage");
        log.fail("timed_out", &"the database did not answer", &["a-1", "a-2", "a-3"]);
        log.tick(Instant::now() + QUIET);
        assert!(is_open(), "silence is no success");
        log.succeed();
        log.fail("timed_out", &"the database did not answer", &["a-4"]);
        log.tick(Instant::now() + QUIET);
        assert!(is_open(), "it failed after the success");
        log.succeed();
        log.tick(Instant::now());
        assert!(is_open(), "too early");
        log.tick(Instant::now() + QUIET);
        assert!(!is_open());
    }

    #[test]
    fn failures_are_counted_between_two_reports() {
        let log = OutageLog::new("storing messages");
        (0..5).for_each(|_| log.fail("busy", &"the table is full", &["a-1", "a-2"]));
        let counts = || log.lock().as_ref().map(|outage| (outage.failed, outage.failed_since_report));
        assert_eq!(counts(), Some((10, 8)), "the first line has its own");
        let ids = |log: &OutageLog| log.lock().as_ref().map(|outage| outage.request_ids.len());
        assert_eq!(ids(&log), Some(8), "they are named in the next line");
        log.count(&["b-1"; 30]);
        assert_eq!(ids(&log), Some(MAX_LOGGED_IDS), "as many as fit");
        log.tick(Instant::now());
        assert_eq!(counts(), Some((40, 38)), "no line yet");
        log.tick(Instant::now() + REPORT_PAUSE);
        assert_eq!((counts(), ids(&log)), (Some((40, 0)), Some(0)));
    }

    #[test]
    fn a_line_names_as_many_requests_as_fit() {
        assert_eq!(join(&[] as &[&str], 0), "");
        assert_eq!(join(&["a-1", "a-2"], 2), "a-1 a-2");
        let joined = join(&["a-1"; MAX_LOGGED_IDS + 3], MAX_LOGGED_IDS + 3);
        assert_eq!(joined.matches("a-1").count(), MAX_LOGGED_IDS);
        assert!(joined.ends_with(" and 3 more"), "{joined}");
    }
}
