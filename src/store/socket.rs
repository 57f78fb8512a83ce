//! The socket of a connection of the `mysql` crate: its time-outs, and whether input has arrived.
//!
//! The crate sets the time-outs of a socket once, before the login, and lends no more than the raw descriptor.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use mysql::Conn;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

/// Limits how long one read or write may block. The least limit is a millisecond, because zero means no limit.
pub(super) fn set_timeouts(conn: &Conn, limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.map(|limit| limit.max(Duration::from_millis(1)));
    let descriptor = descriptor(conn);
    let socket = SockRef::from(&descriptor);
    socket.set_read_timeout(limit)?;
    socket.set_write_timeout(limit)
}

/// Whether bytes can be read, or the other end has closed the connection.
pub(super) fn has_input(conn: &Conn) -> bool {
    let descriptor = descriptor(conn);
    let mut sockets = [PollFd::new(&descriptor, PollFlags::IN)];
    let immediately = Timespec { tv_sec: 0, tv_nsec: 0 };
    // An error means that nothing can be said of the socket, so it counts as closed.
    poll(&mut sockets, Some(&immediately)).map_or(true, |ready| ready > 0)
}

fn descriptor(conn: &Conn) -> BorrowedFd<'_> {
    // SAFETY: `conn` owns the descriptor and keeps it open as long as the returned borrow of `conn` lasts.
    unsafe { BorrowedFd::borrow_raw(conn.as_raw_fd()) }
}
