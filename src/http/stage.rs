//! What a connection is doing, how long it may do it, and whether it may be closed to make room for another one.
//!
//! Never touches a socket.

use std::time::{Duration, Instant};

use super::limits::Limits;

/// The time that a client has to close after it received its last response.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// The rate at which a client must take a response, after the first `request_timeout`.
const MIN_BYTES_PER_SECOND: u32 = 4 * 1024;
/// A new connection without a byte counts as an incomplete request for this time, and as idle after it.
const FIRST_BYTE: Duration = Duration::from_secs(1);
/// A stream whose client takes all may stay open for this time. Clients open another one.
const STREAM: Duration = Duration::from_secs(24 * 60 * 60);
/// A client that took nothing of its response for this time may be closed to make room.
const STALLED: Duration = Duration::from_secs(1);

/// What a connection is doing while no handler has its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No byte has arrived since the connection was accepted.
    New { since: Instant },
    /// No byte of the next request has arrived.
    Idle { since: Instant },
    /// A part of a request has arrived.
    Reading { since: Instant },
    /// A response is being sent.
    Writing { since: Instant, progress: Instant },
    /// A stream is open. `blocked` is when its client last took bytes of those that wait for it.
    Streaming { since: Instant, blocked: Option<Instant> },
    /// The sending side is shut down.
    Closing(Closing),
}

/// A connection whose sending side is shut down. It keeps its slot until the client has the last response, so that what
/// the kernel holds for clients is bounded by the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closing {
    pub(super) since: Instant,
    /// Bytes that were not acknowledged then.
    pub(super) unacknowledged: usize,
    /// Bytes that may still be read and dropped. None when the client has ended its side.
    pub(super) discard: Option<usize>,
}

/// What a connection is doing, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StageName {
    /// Waits for the first byte of a request.
    Idle,
    /// Has a part of a request.
    Reading,
    /// Has a part of a response to send.
    Writing,
    /// Has an open stream.
    Streaming,
    /// Has sent its last response and waits for the client to close.
    Closing,
}

/// Why a connection may be closed to make room for another one, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evictable {
    /// It has nothing to do.
    Idle(Instant),
    /// Its request is incomplete, or its client stopped taking the response.
    Incomplete(Instant),
}

impl Stage {
    /// When it began.
    pub(super) fn since(&self) -> Instant {
        match *self {
            Stage::New { since }
            | Stage::Idle { since }
            | Stage::Reading { since }
            | Stage::Writing { since, .. }
            | Stage::Streaming { since, .. }
            | Stage::Closing(Closing { since, .. }) => since,
        }
    }

    /// Whether no byte of a request has arrived.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Stage::New { .. } | Stage::Idle { .. })
    }

    pub(super) fn name(&self) -> StageName {
        match self {
            Stage::New { .. } | Stage::Idle { .. } => StageName::Idle,
            Stage::Reading { .. } => StageName::Reading,
            Stage::Writing { .. } => StageName::Writing,
            Stage::Streaming { .. } => StageName::Streaming,
            Stage::Closing(_) => StageName::Closing,
        }
    }

    /// When the time of this stage is over, after the socket has taken `sent` bytes of a response.
    pub(super) fn deadline(&self, sent: usize, limits: &Limits) -> Instant {
        match *self {
            Stage::New { since } | Stage::Idle { since } => since + limits.idle_timeout,
            Stage::Reading { since } => since + limits.request_timeout,
            Stage::Writing { since, progress } => since + time_to_send(progress - since, sent, limits.request_timeout),
            Stage::Streaming { since, blocked } => {
                blocked.map_or(since + STREAM, |blocked| blocked + limits.request_timeout)
            }
            Stage::Closing(Closing { since, discard: Some(_), .. }) => since + LINGER,
            // No event reports that all is acknowledged: each sweep asks the kernel.
            Stage::Closing(Closing { since, discard: None, .. }) => since,
        }
    }

    /// Whether the connection may be closed at `now` to make room.
    pub(super) fn evictable(&self, now: Instant) -> Option<Evictable> {
        match *self {
            Stage::New { since } if now < since + FIRST_BYTE => Some(Evictable::Incomplete(since)),
            Stage::New { since } | Stage::Idle { since } | Stage::Closing(Closing { since, .. }) => {
                Some(Evictable::Idle(since))
            }
            Stage::Reading { since } => Some(Evictable::Incomplete(since)),
            Stage::Writing { progress, .. } if now >= progress + STALLED => Some(Evictable::Incomplete(progress)),
            Stage::Writing { .. } | Stage::Streaming { .. } => None,
        }
    }
}

impl Closing {
    /// Whether the client took all, or too little, at `now`, when `left` bytes are not acknowledged yet.
    pub(super) fn is_over(&self, left: usize, now: Instant, limits: &Limits) -> bool {
        let taken = self.unacknowledged.saturating_sub(left);
        left == 0 || now >= self.since + at_minimum_rate(taken).max(limits.request_timeout)
    }
}

impl StageName {
    pub(super) const ALL: [StageName; 5] =
        [StageName::Idle, StageName::Reading, StageName::Writing, StageName::Streaming, StageName::Closing];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            StageName::Idle => "idle",
            StageName::Reading => "reading",
            StageName::Writing => "writing",
            StageName::Streaming => "streaming",
            StageName::Closing => "closing",
        }
    }
}

impl Evictable {
    /// The longer ago, the sooner it is closed.
    pub(super) fn since(self) -> Instant {
        match self {
            Evictable::Idle(since) | Evictable::Incomplete(since) => since,
        }
    }
}

/// The time that a response may take, from its start, when its last `progress` was so long after the start and the
/// client took `sent` bytes. It ends `timeout` after the last progress, and when the average is below the minimum rate.
fn time_to_send(progress: Duration, sent: usize, timeout: Duration) -> Duration {
    (progress + timeout).min(at_minimum_rate(sent).max(timeout))
}

fn at_minimum_rate(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64) / MIN_BYTES_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_extends_the_time_of_a_response_down_to_a_minimum_rate() {
        let seconds = Duration::from_secs;
        let timeout = seconds(10);
        assert_eq!(time_to_send(seconds(0), 0, timeout), seconds(10), "nothing was taken");
        assert_eq!(time_to_send(seconds(5), 300_000, timeout), seconds(15), "the rate is high");
        assert_eq!(time_to_send(seconds(500), 600_000_000, timeout), seconds(510), "and may last");
        assert_eq!(time_to_send(seconds(9), 4096, timeout), seconds(10), "too slow for the first period");
        assert_eq!(time_to_send(seconds(29), 30 * 4096, timeout), seconds(30), "the average falls below the minimum");
    }
}
