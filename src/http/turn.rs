//! Turns: which of the workers listen, and how one that is about to block leaves its place and its events to another.
//!
//! A worker that listens takes a batch of events and handles them one by one, which is quick, because nothing it does blocks;
//! so a few listeners are enough, and they seldom have to be woken. Before a worker does block it passes its turn.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Workers that listen at the same time. One that stands by spares the other the waking of a third when it has to block;
/// more of them would take each other's events, and the batches would be smaller.
const LISTENERS: usize = 2;

/// Who listens, and what those who had to stop left behind.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Default)]
struct State {
    listeners: usize,
    left: VecDeque<usize>,
}

/// A worker's turn: its events that are not handled yet, until it passes them on.
pub struct Turn<'a> {
    turns: &'a Turns,
    events: VecDeque<usize>,
    passed: bool,
}

impl Turns {
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
        wait: impl FnOnce(&mut VecDeque<usize>) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
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
        let needed = state.listeners == 0 || !state.left.is_empty();
        drop(state);
        if needed {
            self.turns.free.notify_one();
        }
    }

    fn retake(&mut self) {
        let mut state = self.turns.lock();
        while state.listeners >= LISTENERS {
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

    fn next(turn: &mut Turn<'_>, more: &[usize]) -> Option<usize> {
        turn.next(|events| {
            events.extend(more);
            Ok::<_, ()>(())
        })
        .unwrap()
    }

    #[test]
    fn events_that_were_taken_are_left_to_the_next_who_listens() {
        let turns = Turns::default();
        let mut first = turns.take();
        assert_eq!(next(&mut first, &[1, 2, 3]), Some(1));
        first.pass();
        let mut second = turns.take();
        assert_eq!(next(&mut second, &[]), Some(2));
        assert_eq!(next(&mut first, &[4]), Some(4), "back after it has blocked, it has what is new");
        assert_eq!(next(&mut second, &[]), Some(3));
        assert_eq!(next(&mut second, &[]), None);
    }

    #[test]
    fn a_worker_without_a_turn_gets_one_when_the_last_listener_passes_or_leaves_events() {
        let turns = Turns::default();
        let mut listeners: Vec<_> = (0..LISTENERS).map(|_| turns.take()).collect();
        thread::scope(|scope| {
            let (sender, received) = channel();
            let turns = &turns;
            scope.spawn(move || {
                let mut turn = turns.take();
                sender.send(next(&mut turn, &[])).unwrap();
            });
            assert_eq!(next(&mut listeners[0], &[7, 8]), Some(7));
            listeners[0].pass();
            assert_eq!(received.recv(), Ok(Some(8)));
        });
    }
}
