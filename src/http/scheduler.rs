//! PollPermits: which of the workers listen, and who listens instead of one that blocks.
//!
//! A worker that listens takes a batch of events and handles them one by one, which is quick, because nothing of it
//! blocks. So a few listeners are enough; more of them would wake each other for every event. Who then has to block
//! gives its turn to another worker, unless it will listen again in a moment: a thread that is woken costs more than
//! what waits meanwhile. Who is found to be late after all, at a look at the deadlines, loses its turn, and then nobody
//! keeps one for a while.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Who has a turn.
pub(super) struct PollPermits {
    state: Mutex<State>,
    wake: Condvar,
    /// Workers that have a turn at most. Those who block and those who are called need workers beyond them.
    most: usize,
    /// Another worker is woken when fewer have one.
    least: usize,
}

#[derive(Default)]
struct State {
    /// PollPermits that workers have, those included who are away for a moment.
    taken: usize,
    /// The workers that are away for a moment, and since when they have done what blocks.
    away: Vec<(usize, Instant)>,
    /// Workers that are away for too long and not back yet.
    late: usize,
    /// When somebody was last found to be late, or came back late.
    last_late: Option<Instant>,
    /// A worker was called and has not come yet.
    called: bool,
}

/// A worker's turn, when it has one.
pub struct PollPermit<'a> {
    turns: &'a PollPermits,
    worker: usize,
    standing: Standing,
    /// Since when the worker has done what blocks instead of listening.
    busy_since: Option<Instant>,
}

/// How a worker stands to its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Without,
    Here,
    RejectReason,
}

/// What a worker has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// To wait for events and to handle them.
    Listen,
    /// To look for what is left to do, as another one has called.
    Help,
}

/// How long a worker with a turn may stay away from listening, all together: what others may wait for it, while to wake
/// a thread for each batch would cost everybody more. Quick reads and quick disks are below it.
const MOMENT: Duration = Duration::from_millis(1);
/// Who is away for so long is late: nothing that was expected to be short takes so long on a busy machine.
const LATE: Duration = Duration::from_millis(5);
/// How long turns are given away before anything that blocks, after somebody who was late is back.
const DISTRUST: Duration = Duration::from_secs(1);

impl PollPermits {
    /// PollPermits for `most` workers.
    pub(super) fn new(most: usize) -> PollPermits {
        PollPermits { state: Mutex::default(), wake: Condvar::new(), most, least: most.saturating_sub(1).max(1) }
    }

    /// The place of a worker that has no turn yet.
    pub(super) fn join(&self, worker: usize) -> PollPermit<'_> {
        PollPermit { turns: self, worker, standing: Standing::Without, busy_since: None }
    }

    /// Takes the turns of those who are late. Has to be called from time to time by somebody who
    /// has no turn himself.
    pub(super) fn withdraw_late(&self) {
        let mut state = self.lock();
        let all = state.away.len();
        state.away.retain(|(_, since)| since.elapsed() < LATE);
        let late = all - state.away.len();
        state.taken -= late;
        state.late += late;
        if late > 0 {
            state.last_late = Some(Instant::now());
        }
        drop(state);
        (0..late).for_each(|_| self.wake.notify_one());
    }

    /// Wakes a worker to look for work that is left to do. One is enough: it calls the next, if there is more.
    pub(super) fn wake(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.called, true) {
            drop(state);
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PollPermit<'_> {
    /// What the worker does next; without a turn it rests until there is one, or somebody calls.
    pub(super) fn take(&mut self) -> Task {
        self.come_back();
        self.busy_since = None;
        if self.standing == Standing::Here {
            return Task::Listen;
        }
        let mut state = self.turns.lock();
        while !state.called && state.taken >= self.turns.most {
            state = self.turns.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.called {
            state.called = false;
            return Task::Help;
        }
        state.taken += 1;
        self.standing = Standing::Here;
        Task::Listen
    }

    /// Calls another worker to look for what is left to do. One is enough: it calls the next, if there is more.
    pub fn call(&self) {
        self.turns.wake();
    }

    /// To be called before anything that blocks, and that is `expected` to last so long.
    pub fn leave(&mut self, expected: Duration) {
        if self.standing != Standing::Here {
            return;
        }
        let now = Instant::now();
        let since = *self.busy_since.get_or_insert(now);
        let mut state = self.turns.lock();
        let is_trusted = state.late == 0 && state.last_late.is_none_or(|late| now.duration_since(late) >= DISTRUST);
        if is_trusted && now.duration_since(since).saturating_add(expected) < MOMENT {
            state.away.push((self.worker, since));
            self.standing = Standing::RejectReason;
            return;
        }
        state.taken -= 1;
        self.standing = Standing::Without;
        let needed = state.taken < self.turns.least;
        drop(state);
        if needed {
            self.turns.wake.notify_one();
        }
    }

    /// To be called after what blocked.
    pub fn come_back(&mut self) {
        if self.standing != Standing::RejectReason {
            return;
        }
        let mut state = self.turns.lock();
        let place = state.away.iter().position(|(worker, _)| *worker == self.worker);
        self.standing = match place.map(|place| state.away.swap_remove(place)) {
            Some(_) => Standing::Here,
            None => {
                state.late -= 1;
                state.last_late = Some(Instant::now());
                Standing::Without
            }
        };
    }
}

impl Drop for PollPermit<'_> {
    fn drop(&mut self) {
        self.come_back();
        self.leave(Duration::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    /// Enough for a busy machine, and only waited for when a test fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// What one more worker is told to do, as soon as it is. It never gives its turn back.
    fn another(turns: &Arc<PollPermits>) -> Receiver<Task> {
        let (sender, received) = channel();
        let turns = Arc::clone(turns);
        thread::spawn(move || {
            let mut turn = turns.join(99);
            let _ = sender.send(turn.take());
            std::mem::forget(turn);
        });
        received
    }

    fn listener(turns: &Arc<PollPermits>) -> PollPermit<'_> {
        let mut first = turns.join(1);
        assert_eq!(first.take(), Task::Listen);
        first
    }

    fn rests(received: &Receiver<Task>) -> bool {
        received.recv_timeout(Duration::from_millis(50)).is_err()
    }

    #[test]
    fn a_worker_without_a_turn_gets_that_of_one_who_blocks_for_long() {
        let turns = Arc::new(PollPermits::new(1));
        let mut first = listener(&turns);
        assert_eq!(first.take(), Task::Listen, "it keeps its turn");
        let other = another(&turns);
        assert!(rests(&other), "there are listeners enough");
        first.leave(MOMENT);
        assert_eq!(other.recv_timeout(PATIENCE), Ok(Task::Listen));
        first.come_back();
        assert_eq!(first.standing, Standing::Without);
    }

    #[test]
    fn a_worker_that_is_back_in_a_moment_keeps_its_turn() {
        let turns = Arc::new(PollPermits::new(1));
        let mut first = listener(&turns);
        let other = another(&turns);
        first.leave(Duration::ZERO);
        first.come_back();
        turns.withdraw_late();
        assert!(rests(&other));
        assert_eq!(first.take(), Task::Listen);
        drop(first);
        assert_eq!(other.recv_timeout(PATIENCE), Ok(Task::Listen));
    }

    #[test]
    fn a_worker_that_is_not_back_in_time_loses_its_turn_and_then_nobody_keeps_one() {
        let turns = Arc::new(PollPermits::new(1));
        let mut first = listener(&turns);
        let other = another(&turns);
        first.leave(Duration::ZERO);
        assert!(rests(&other));
        turns.withdraw_late();
        assert_eq!(other.recv_timeout(PATIENCE), Ok(Task::Listen));

        let keeps = |turn: &mut PollPermit<'_>| {
            turns.lock().taken += 1;
            (turn.standing, turn.busy_since) = (Standing::Here, None);
            turn.leave(Duration::ZERO);
            turn.standing == Standing::RejectReason
        };
        let mut second = turns.join(2);
        let long_ago = || turns.lock().last_late = Instant::now().checked_sub(DISTRUST);
        long_ago();
        assert!(!keeps(&mut second), "nobody while one is late");
        first.come_back();
        assert_eq!(first.standing, Standing::Without);
        assert!(!keeps(&mut second), "nor right after that");
        long_ago();
        assert!(keeps(&mut second), "but then again");
    }

    #[test]
    fn many_short_absences_are_a_long_one() {
        let turns = Arc::new(PollPermits::new(1));
        let mut first = listener(&turns);
        let other = another(&turns);
        let end = Instant::now() + PATIENCE;
        while first.standing == Standing::Here && Instant::now() < end {
            first.leave(Duration::ZERO);
            first.come_back();
        }
        assert_eq!(first.standing, Standing::Without);
        assert_eq!(other.recv_timeout(PATIENCE), Ok(Task::Listen));
    }

    #[test]
    fn a_worker_that_rests_comes_when_it_is_called() {
        let turns = Arc::new(PollPermits::new(1));
        let first = listener(&turns);
        first.call();
        first.call();
        assert_eq!(another(&turns).recv_timeout(PATIENCE), Ok(Task::Help), "a call that nobody heard waits");
        let other = another(&turns);
        assert!(rests(&other), "and it is one call");
        first.call();
        assert_eq!(other.recv_timeout(PATIENCE), Ok(Task::Help));
    }

    #[test]
    fn another_worker_is_woken_only_when_too_few_listen() {
        let turns = Arc::new(PollPermits::new(3));
        let mut all = [1, 2, 3].map(|worker| turns.join(worker));
        all.iter_mut().for_each(|turn| assert_eq!(turn.take(), Task::Listen));
        let other = another(&turns);
        assert!(rests(&other));
        all[0].leave(MOMENT);
        assert!(rests(&other));
        all[1].leave(MOMENT);
        assert_eq!(other.recv_timeout(PATIENCE), Ok(Task::Listen));
    }
}
