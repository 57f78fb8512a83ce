//! Choices that look random and come from a seed, so that a run can be repeated.

use std::ops::Range;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// A source of choices: hashes of the seed and a count.
#[derive(Debug, Clone)]
pub struct Random {
    seed: u64,
    stream: u64,
    count: u64,
}

impl Random {
    /// The choices of one of the streams that share a seed.
    pub fn new(seed: u64, stream: u64) -> Random {
        Random { seed, stream, count: 0 }
    }

    /// A number in `range`, which must not be empty.
    pub fn of(&mut self, range: Range<u64>) -> u64 {
        self.count += 1;
        let hash = Sha256::digest([self.seed, self.stream, self.count].map(u64::to_be_bytes).as_flattened());
        let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        range.start + number % (range.end - range.start)
    }

    /// A time shorter than `longest`.
    pub fn pause(&mut self, longest: Duration) -> Duration {
        longest * self.of(0..1000) as u32 / 1000
    }
}
