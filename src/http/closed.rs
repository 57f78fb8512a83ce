//! Why a connection ended, for the metrics. Decides nothing.

/// Who or what ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
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

impl Closed {
    /// As the metrics call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Closed::Client => "client",
            Closed::Answered => "answered",
            Closed::IdleTimeout => "idle_timeout",
            Closed::RequestTimeout => "request_timeout",
            Closed::WriteTimeout => "write_timeout",
            Closed::Evicted => "evicted",
            Closed::Memory => "memory",
            Closed::Shutdown => "shutdown",
        }
    }
}
