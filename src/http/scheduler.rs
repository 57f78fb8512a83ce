//! Poll permits: which workers may wait for events, and which one continues when one of them blocks.
//!
//! A worker with a permit takes a batch of events and handles them one after the other. That is quick, because it never
//! blocks on a socket, so a few permits are enough: more pollers would wake each other for every event. Before a worker
//! waits for the database it hands its permit to another worker, as Go's scheduler hands off a P before a system call.
//! It keeps the permit when it will be back soon: waking a thread costs more than what waits meanwhile. The sweeper
//! retakes the permit of a worker that overruns.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The permits of all workers.
pub(super) struct PollPermits {
    state: Mutex<State>,
    wake: Condvar,
    /// Permits that exist. Workers that block and workers that help need none.
    total: usize,
    /// Another worker is woken when fewer permits are in use.
    min_held: usize,
}

#[derive(Default)]
struct State {
    /// Permits that workers have, including those of [`State::lent`].
    held: usize,
    /// The workers that block with their permit, and since when.
    lent: Vec<(usize, Instant)>,
    /// A worker is to look for queued work.
    helper_wanted: bool,
}

/// A worker's permit, if it has one.
pub struct PollPermit<'a> {
    permits: &'a PollPermits,
    worker: usize,
    state: PermitState,
    /// The first call of [`PollPermit::enter_blocking`] since the worker last waited for events.
    blocking_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PermitState {
    None,
    Held,
    /// The worker blocks, and another worker may get the permit.
    Lent,
}

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Wait for events and handle them.
    Poll,
    /// Run what is queued: another worker asked for help.
    Help,
}

/// The time that a worker with a permit may block in total before it waits for events again.
const MAX_INLINE_BLOCKING: Duration = Duration::from_millis(1);
/// A permit is retaken from a worker that blocks for this time.
const RETAKE_AFTER: Duration = Duration::from_millis(5);

impl PollPermits {
    /// `total` permits.
    pub(super) fn new(total: usize) -> PollPermits {
        PollPermits { state: Mutex::default(), wake: Condvar::new(), total, min_held: total.saturating_sub(1).max(1) }
    }

    /// The state of a worker that has no permit yet.
    pub(super) fn join(&self, worker: usize) -> PollPermit<'_> {
        PollPermit { permits: self, worker, state: PermitState::None, blocking_since: None }
    }

    /// Retakes the permits of workers that block for too long. The sweeper calls it, which has no permit.
    pub(super) fn retake(&self) {
        let mut state = self.lock();
        let all = state.lent.len();
        state.lent.retain(|(_, since)| since.elapsed() < RETAKE_AFTER);
        let retaken = all - state.lent.len();
        state.held -= retaken;
        drop(state);
        (0..retaken).for_each(|_| self.wake.notify_one());
    }

    /// Wakes a worker to run what is queued. One is enough: it wakes the next one when there is more.
    pub(super) fn wake_helper(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.helper_wanted, true) {
            drop(state);
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollPermit<'_> {
    /// What the worker does next. Waits for a permit or a call for help when the worker has no permit.
    pub(super) fn next_task(&mut self) -> Task {
        self.exit_blocking();
        self.blocking_since = None;
        if self.state == PermitState::Held {
            return Task::Poll;
        }
        let mut state = self.permits.lock();
        while !state.helper_wanted && state.held >= self.permits.total {
            state = self.permits.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.helper_wanted {
            state.helper_wanted = false;
            return Task::Help;
        }
        state.held += 1;
        self.state = PermitState::Held;
        Task::Poll
    }

    /// Wakes another worker to run what is queued.
    pub fn wake_helper(&self) {
        self.permits.wake_helper();
    }

    /// Call it before anything that blocks, which is `expected` to take so long.
    pub fn enter_blocking(&mut self, expected: Duration) {
        if self.state != PermitState::Held {
            return;
        }
        let now = Instant::now();
        let since = *self.blocking_since.get_or_insert(now);
        let is_short = now.duration_since(since).saturating_add(expected) < MAX_INLINE_BLOCKING;
        let mut state = self.permits.lock();
        if is_short {
            state.lent.push((self.worker, since));
            self.state = PermitState::Lent;
            return;
        }
        state.held -= 1;
        self.state = PermitState::None;
        let is_needed = state.held < self.permits.min_held;
        drop(state);
        if is_needed {
            self.permits.wake.notify_one();
        }
    }

    /// Call it after a batch that blocked.
    pub fn exit_blocking(&mut self) {
        if self.state != PermitState::Lent {
            return;
        }
        let mut state = self.permits.lock();
        let at = state.lent.iter().position(|(worker, _)| *worker == self.worker);
        self.state = match at.map(|at| state.lent.swap_remove(at)) {
            Some(_) => PermitState::Held,
            None => PermitState::None,
        };
    }
}

impl Drop for PollPermit<'_> {
    fn drop(&mut self) {
        self.exit_blocking();
        self.enter_blocking(Duration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    /// Enough for a busy machine. A test waits for it only when it fails.
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// The task of one more worker, which never returns its permit.
    fn another(permits: &Arc<PollPermits>) -> Receiver<Task> {
        let (sender, received) = channel();
        let permits = Arc::clone(permits);
        thread::spawn(move || {
            let mut permit = permits.join(99);
            let _ = sender.send(permit.next_task());
            std::mem::forget(permit);
        });
        received
    }

    fn poller(permits: &Arc<PollPermits>) -> PollPermit<'_> {
        let mut first = permits.join(1);
        assert_eq!(first.next_task(), Task::Poll);
        first
    }

    fn waits(received: &Receiver<Task>) -> bool {
        received.recv_timeout(Duration::from_millis(50)).is_err()
    }

    #[test]
    fn a_worker_that_blocks_hands_its_permit_to_another_one() {
        for expected in [MAX_INLINE_BLOCKING, Duration::MAX] {
            let permits = Arc::new(PollPermits::new(1));
            let mut first = poller(&permits);
            assert_eq!(first.next_task(), Task::Poll, "it keeps its permit");
            let other = another(&permits);
            assert!(waits(&other), "all permits are held");
            first.enter_blocking(expected);
            assert_eq!(other.recv_timeout(TIMEOUT), Ok(Task::Poll));
            first.exit_blocking();
            assert_eq!(first.state, PermitState::None);
        }
    }

    #[test]
    fn a_worker_that_blocks_for_a_moment_keeps_its_permit() {
        let permits = Arc::new(PollPermits::new(1));
        let mut first = poller(&permits);
        let other = another(&permits);
        first.enter_blocking(Duration::ZERO);
        first.exit_blocking();
        permits.retake();
        assert!(waits(&other));
        assert_eq!(first.next_task(), Task::Poll);
        drop(first);
        assert_eq!(other.recv_timeout(TIMEOUT), Ok(Task::Poll));
    }

    #[test]
    fn the_permit_of_a_worker_that_overruns_is_retaken() {
        let permits = Arc::new(PollPermits::new(1));
        let mut first = poller(&permits);
        let other = another(&permits);
        first.enter_blocking(Duration::ZERO);
        permits.retake();
        assert!(waits(&other), "it is not late yet");
        permits.lock().lent[0].1 -= RETAKE_AFTER;
        permits.retake();
        assert_eq!(other.recv_timeout(TIMEOUT), Ok(Task::Poll));
        first.exit_blocking();
        assert_eq!(first.state, PermitState::None);
        assert_eq!(permits.lock().held, 1);
    }

    #[test]
    fn many_short_batches_are_a_long_one() {
        let permits = Arc::new(PollPermits::new(1));
        let mut first = poller(&permits);
        let other = another(&permits);
        let end = Instant::now() + TIMEOUT;
        while first.state == PermitState::Held && Instant::now() < end {
            first.enter_blocking(Duration::ZERO);
            first.exit_blocking();
        }
        assert_eq!(first.state, PermitState::None);
        assert_eq!(other.recv_timeout(TIMEOUT), Ok(Task::Poll));
    }

    #[test]
    fn one_waiting_worker_comes_to_help() {
        let permits = Arc::new(PollPermits::new(1));
        let first = poller(&permits);
        first.wake_helper();
        first.wake_helper();
        assert_eq!(another(&permits).recv_timeout(TIMEOUT), Ok(Task::Help), "the call waits for a worker");
        let other = another(&permits);
        assert!(waits(&other), "two calls are one");
        first.wake_helper();
        assert_eq!(other.recv_timeout(TIMEOUT), Ok(Task::Help));
    }

    #[test]
    fn another_worker_is_woken_only_when_too_few_poll() {
        let permits = Arc::new(PollPermits::new(3));
        let mut all = [1, 2, 3].map(|worker| permits.join(worker));
        all.iter_mut().for_each(|permit| assert_eq!(permit.next_task(), Task::Poll));
        let other = another(&permits);
        assert!(waits(&other));
        all[0].enter_blocking(Duration::MAX);
        assert!(waits(&other));
        all[1].enter_blocking(Duration::MAX);
        assert_eq!(other.recv_timeout(TIMEOUT), Ok(Task::Poll));
    }
}
