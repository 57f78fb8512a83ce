//! A limit on the bytes that all connections buffer together: incomplete requests and unsent responses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that may be buffered.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    limit: usize,
    held: AtomicUsize,
}

/// The part of a [`MemoryBudget`] that one connection holds. Dropping it frees the bytes.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub(super) fn new(limit: usize) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget { limit, held: AtomicUsize::new(0) })
    }

    /// A reservation of no bytes yet.
    pub(super) fn reservation(self: &Arc<MemoryBudget>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Reservation {
    /// The reserved bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the reservation to `bytes`. Returns false, and changes nothing, when the budget has too little left.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let held = &self.budget.held;
        if bytes <= self.bytes {
            if bytes < self.bytes {
                held.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
            }
        } else {
            let more = bytes - self.bytes;
            if held.fetch_add(more, Ordering::Relaxed) + more > self.budget.limit {
                held.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_never_exceed_the_budget_and_free_their_bytes() {
        let budget = MemoryBudget::new(100);
        let (mut a, mut b) = (budget.reservation(), budget.reservation());
        assert!(a.resize(60));
        assert!(!b.resize(41));
        assert!(b.resize(40));
        assert!(!a.resize(61), "it keeps what it had");
        assert!(a.resize(10));
        assert!(b.resize(90));
        drop((a, b));
        assert!(budget.reservation().resize(100));
    }
}
