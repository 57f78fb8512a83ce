//! How long to wait before another attempt. Owns no clock and no loop.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Delays that double from the first to the largest, each with jitter.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Delays from `first` to `max`.
    pub fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { next: first, max }
    }
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.next;
        self.next = (delay * 2).min(self.max);
        Some(jitter(delay))
    }
}

/// Between half of `delay` and all of it, so that clients that failed together do not retry together.
pub fn jitter(delay: Duration) -> Duration {
    // The standard library's own source of randomness for hash maps; nothing here must be unpredictable.
    let random = RandomState::new().hash_one(0u8) % 1024;
    delay / 2 + delay / 2 * random as u32 / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn delays_double_up_to_the_largest_and_vary_by_half() {
        let delays: Vec<_> = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).take(9).collect();
        for (delay, full) in delays.iter().zip([100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]) {
            let full = Duration::from_millis(full);
            assert!(*delay >= full / 2 && *delay <= full, "{delay:?} of {full:?}");
        }
    }

    #[test]
    fn clients_that_failed_together_do_not_retry_together() {
        let delays: BTreeSet<_> = (0..50).map(|_| jitter(Duration::from_secs(1))).collect();
        assert!(delays.len() > 40, "{delays:?}");
    }
}
