//! Turns: which of the workers listen, and how one that is about to block leaves its place and its events to another.
//!
//! A worker that listens takes a batch of events and handles them one by one, which is quick, because nothing it does blocks;
//! so a few listeners are enough, and they seldom have to be woken. Before a worker does block it passes its turn.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::system::Happened;

/// Who listens, and what those who had to stop left behind.
pub(super) struct Turns {
    state: Mutex<State>,
    free: Condvar,
    /// Workers that listen at least; another one is woken when there are fewer. One processor is left for a leader: more
    /// listeners than that take each other's events, and the batches get smaller.
    least: usize,
}

#[derive(Default)]
struct State {
    listeners: usize,
    left: VecDeque<Happened>,
}

/// A worker's turn: its events that are not handled yet, until it passes them on.
pub struct Turn<'a> {
    turns: &'a Turns,
    events: VecDeque<Happened>,
    passed: bool,
}

impl Turns {
    /// Turns for workers on so many processors.
    pub(super) fn new(processors: usize) -> Turns {
        Turns { state: Mutex::default(), free: Condvar::new(), least: processors.saturating_sub(1).max(1) }
    }

    /// Workers that listen at most: one stands by, so that passing a turn seldom has to wake somebody.
    fn most(&self) -> usize {
        self.least + 1
    }

    /// A worker's turn, as soon as there is one.
    pub(super) fn take(&self) -> Turn<'_> {
        let mut turn = Turn { turns: self, events: VecDeque::new(), passed: true };
        turn.retake();
        turn
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// The next event that is here; when none is, `wait` brings more.
    pub(super) fn next<E>(
        &mut self,
        wait: impl FnOnce(&mut VecDeque<Happened>) -> Result<(), E>,
    ) -> Result<Option<Happened>, E> {
        if self.passed {
            self.retake();
        }
        if self.events.is_empty() {
            wait(&mut self.events)?;
        }
        Ok(self.events.pop_front())
    }

    /// To be called before anything that blocks: another worker listens instead, and has the events that were taken.
    pub fn pass(&mut self) {
        if self.passed {
            return;
        }
        self.passed = true;
        let mut state = self.turns.lock();
        state.listeners -= 1;
        state.left.append(&mut self.events);
        let needed = state.listeners < self.turns.least || !state.left.is_empty();
        drop(state);
        if needed {
            self.turns.free.notify_one();
        }
    }

    fn retake(&mut self) {
        let mut state = self.turns.lock();
        while state.listeners >= self.turns.most() {
            state = self.turns.free.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.listeners += 1;
        self.events.append(&mut state.left);
        self.passed = false;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.pass();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    fn next(turn: &mut Turn<'_>, more: &[usize]) -> Option<usize> {
        turn.next(|events| {
            events.extend(more.iter().map(|key| Happened { key: *key, ended: false }));
            Ok::<_, ()>(())
        })
        .unwrap()
        .map(|event| event.key)
    }

    #[test]
    fn events_that_were_taken_are_left_to_the_next_who_listens() {
        let turns = Turns::new(2);
        let mut first = turns.take();
        assert_eq!(next(&mut first, &[1, 2, 3]), Some(1));
        first.pass();
        let mut second = turns.take();
        assert_eq!(next(&mut second, &[]), Some(2));
        assert_eq!(next(&mut first, &[4]), Some(4), "back after it has blocked, it has what is new");
        assert_eq!(next(&mut second, &[]), Some(3));
        assert_eq!(next(&mut second, &[]), None);
    }

    /// What a worker that waits for a turn gets as its first event, when `pass` has happened.
    fn first_event_of_another(turns: &Turns, pass: impl FnOnce()) -> Option<usize> {
        thread::scope(|scope| {
            let (sender, received) = channel();
            scope.spawn(move || {
                let mut turn = turns.take();
                sender.send(next(&mut turn, &[9])).unwrap();
            });
            assert!(received.recv_timeout(Duration::from_millis(50)).is_err(), "there are listeners enough");
            pass();
            received.recv_timeout(Duration::from_secs(20)).expect("a turn")
        })
    }

    #[test]
    fn a_worker_without_a_turn_gets_one_when_events_are_left() {
        let turns = Turns::new(2);
        let (mut first, _second) = (turns.take(), turns.take());
        assert_eq!(next(&mut first, &[7, 8]), Some(7));
        assert_eq!(first_event_of_another(&turns, || first.pass()), Some(8));
    }

    #[test]
    fn a_worker_without_a_turn_gets_one_when_too_few_listen() {
        let turns = Turns::new(2);
        let (mut first, mut second) = (turns.take(), turns.take());
        let pass = || {
            first.pass();
            second.pass();
        };
        assert_eq!(first_event_of_another(&turns, pass), Some(9));
    }
}
