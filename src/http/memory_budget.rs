//! A bound on the bytes that all connections hold together: requests half read and answers half sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that may be held.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    held: AtomicUsize,
}

/// What one connection holds of a [`MemoryBudget`]; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget { limit, held: AtomicUsize::new(0) })
    }

    /// A share that holds nothing yet.
    pub fn share(self: &Arc<MemoryBudget>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Reservation {
    /// Bytes that are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes this share `bytes` large. False, and unchanged, when it would grow beyond the budget.
    pub fn resize(&mut self, bytes: usize) -> bool {
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
    fn shares_never_exceed_the_budget_and_give_back_what_they_held() {
        let budget = MemoryBudget::new(100);
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.resize(60));
        assert!(!b.resize(41));
        assert!(b.resize(40));
        assert!(!a.resize(61), "it keeps what it had");
        assert!(a.resize(10));
        assert!(b.resize(90));
        drop((a, b));
        assert!(budget.share().resize(100));
    }
}
