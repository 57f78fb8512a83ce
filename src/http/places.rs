//! The places that connections have in the server: who has none is not there, and who is gone has given its own back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places, numbered from 0.
pub(super) struct Places {
    state: Mutex<State>,
    total: usize,
}

struct State {
    /// Places that were given back; the one that was used last is the first to be used again.
    returned: Vec<usize>,
    /// Nobody ever had this place or one behind it.
    fresh: usize,
    /// Called once, when the last lease is given back.
    on_empty: Option<Box<dyn FnOnce() + Send>>,
}

/// A connection's place; given back on drop.
pub(super) struct Lease {
    place: usize,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(total: usize) -> Arc<Places> {
        let state = State { returned: Vec::new(), fresh: 0, on_empty: None };
        Arc::new(Places { state: Mutex::new(state), total })
    }

    /// A place, if one is left.
    pub(super) fn lease(self: &Arc<Places>) -> Option<Lease> {
        let mut state = self.lock();
        let fresh = state.fresh;
        let place = match state.returned.pop() {
            Some(place) => place,
            None if fresh < self.total => {
                state.fresh += 1;
                fresh
            }
            None => return None,
        };
        drop(state);
        Some(Lease { place, places: Arc::clone(self) })
    }

    /// Places that are left.
    pub(super) fn left(&self) -> usize {
        let state = self.lock();
        self.total - state.taken()
    }

    /// Calls `call` as soon as nobody has a place.
    pub(super) fn when_empty(&self, call: Box<dyn FnOnce() + Send>) {
        let mut state = self.lock();
        if state.taken() == 0 {
            drop(state);
            call();
        } else {
            state.on_empty = Some(call);
        }
    }

    fn give_back(&self, place: usize) {
        let mut state = self.lock();
        state.returned.push(place);
        let call = if state.taken() == 0 { state.on_empty.take() } else { None };
        drop(state);
        if let Some(call) = call {
            call();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn taken(&self) -> usize {
        self.fresh - self.returned.len()
    }
}

impl Lease {
    pub(super) fn place(&self) -> usize {
        self.place
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.places.give_back(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_place_is_had_by_one_and_given_back() {
        let places = Places::new(2);
        let (a, b) = (places.lease().unwrap(), places.lease().unwrap());
        assert_ne!(a.place(), b.place());
        assert!(places.lease().is_none());
        drop(a);
        assert_eq!(places.left(), 1);
        drop(b);
        assert_eq!(places.left(), 2);
    }

    #[test]
    fn the_end_of_the_last_one_is_told_once() {
        let places = Places::new(2);
        let calls = Arc::new(AtomicU32::new(0));
        let count = || {
            let calls = Arc::clone(&calls);
            Box::new(move || {
                calls.fetch_add(1, Ordering::Relaxed);
            })
        };
        places.when_empty(count());
        assert_eq!(calls.load(Ordering::Relaxed), 1, "at once when nobody is there");
        let (a, b) = (places.lease(), places.lease());
        places.when_empty(count());
        drop(a);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        drop(b);
        drop(places.lease());
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
