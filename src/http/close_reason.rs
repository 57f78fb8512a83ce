//! Why a connection ended, for the metrics. Decides nothing.

/// Who or what ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The client went away, or the network between.
    Client,
    /// The last answer is out: the client wanted it so, or an error needs it.
    Answered,
    /// It said nothing for too long.
    IdleTimeout,
    /// A request did not arrive whole in time.
    RequestTimeout,
    /// An answer was not taken in time.
    WriteTimeout,
    /// It was idle, and made room for another one.
    Evicted,
    /// It held too much for too long.
    Memory,
    /// The service ends.
    Shutdown,
}

impl CloseReason {
    /// As the metrics call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Answered => "answered",
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::RequestTimeout => "request_timeout",
            CloseReason::WriteTimeout => "write_timeout",
            CloseReason::Evicted => "evicted",
            CloseReason::Memory => "memory",
            CloseReason::Shutdown => "shutdown",
        }
    }
}
