//! Why a connection ended, for the metrics. Decides nothing.

use crate::metrics::METRICS;

/// What ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The client went away, or the network failed.
    Client,
    /// The last response is sent: the client wanted it so, or an error required it.
    Answered,
    /// No request arrived within the idle time-out.
    IdleTimeout,
    /// A request did not arrive completely in time.
    RequestTimeout,
    /// The client did not take a response, or took it too slowly.
    WriteTimeout,
    /// It was idle and made room for another connection.
    Evicted,
    /// Its request was incomplete and it made room for another connection.
    EvictedIncomplete,
    /// It held too much memory for too long.
    Memory,
    /// The service stops.
    Shutdown,
}

impl CloseReason {
    /// All of them.
    const ALL: [CloseReason; 9] = [
        CloseReason::Client,
        CloseReason::Answered,
        CloseReason::IdleTimeout,
        CloseReason::RequestTimeout,
        CloseReason::WriteTimeout,
        CloseReason::Evicted,
        CloseReason::EvictedIncomplete,
        CloseReason::Memory,
        CloseReason::Shutdown,
    ];

    /// Counts a connection that ended for this reason.
    pub(super) fn count(self) {
        METRICS.connections_closed.with_label_values(&[self.name()]).inc();
    }

    /// Lets all reasons be counted from 0.
    pub(super) fn init_counters() {
        for reason in CloseReason::ALL {
            METRICS.connections_closed.with_label_values(&[reason.name()]);
        }
    }

    fn name(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Answered => "answered",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::RequestTimeout => "request_timeout",
            CloseReason::WriteTimeout => "write_timeout",
            CloseReason::Evicted => "evicted",
            CloseReason::EvictedIncomplete => "evicted_incomplete",
            CloseReason::Memory => "memory",
            CloseReason::Shutdown => "shutdown",
        }
    }
}
