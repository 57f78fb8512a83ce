//! What the server's connections may take, and how long.

use std::time::Duration;

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limits that are settings.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Workers that wait for events at the same time. The others may block.
    pub listeners: usize,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Connections of one client: an IPv4 address, or an IPv6 /64. A /56 may have four times as many.
    pub max_connections_per_client: usize,
    /// Networks that have no limit as clients: trusted proxies. Loopback has none either.
    pub exempt_clients: Vec<IpNet>,
    /// The time for a request to arrive completely, and for a client to take some of a response.
    pub request_timeout: Duration,
    /// The time that a connection may be idle.
    pub idle_timeout: Duration,
}

/// Slots above [`Limits::max_connections`], for connections that get a 503 and are closed.
pub(super) const OVERFLOW_SLOTS: usize = 64;
/// Bytes of incomplete requests and unsent responses of all connections. Above it the connection that has held most for
/// longest is closed.
pub(super) const MAX_BUFFERED_BYTES: usize = 32 * 1024 * 1024;
/// The most that the kernel buffers to send on one connection. It bounds what slow clients cost: by itself the kernel
/// buffers megabytes for each. Below 96 KiB a large response on loopback waits 40 ms for each acknowledgement.
pub(super) const KERNEL_SEND_BUFFER: usize = 128 * 1024;
/// A socket takes no more bytes while so many can't be sent, because the client does not read or the network is slow.
pub(super) const KERNEL_UNSENT: usize = 16 * 1024;
/// The most that the kernel buffers of what one client sends.
pub(super) const KERNEL_RECEIVE_BUFFER: usize = 64 * 1024;
/// Bytes of a stream that its client has not taken. Above it the client is dropped. The bytes of an event are shared by all
/// streams, also by those that resume, so slow clients do not multiply them.
pub(super) const MAX_STREAM_UNSENT: usize = 256 * 1024;
/// Descriptors for everything but clients: the listener, epoll, the database, the log.
const OTHER_DESCRIPTORS: usize = 32;

/// Raises the limit of open files as far as allowed. Returns it when fewer connections than `wanted` fit it, and the
/// number of those that do.
pub fn raise_descriptor_limit(wanted: usize) -> (usize, Option<usize>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return (wanted, None) };
    let fits = limit.saturating_sub(OVERFLOW_SLOTS + OTHER_DESCRIPTORS).max(1);
    if fits < wanted { (fits, Some(limit)) } else { (wanted, None) }
}
