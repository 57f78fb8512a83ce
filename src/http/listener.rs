//! The listening socket: how it is opened, how connections are accepted, and how accepting ends without a reset.
//!
//! Never decides what becomes of a connection, nor which one makes room for another.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{error, warn};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use super::limits::{KERNEL_RECEIVE_BUFFER, KERNEL_SEND_BUFFER, KERNEL_UNSENT};
use super::poll::{Interest, Mode, Poller, Registered};

/// The key of the listener's events. Connections have the number of their slot.
pub(super) const LISTENER_KEY: usize = usize::MAX - 1;

/// Where connections come in.
pub(super) struct Listener {
    socket: Mutex<Option<Registered<TcpListener>>>,
}

/// Connections that wait to be accepted; the system may have a lower limit. The standard library's backlog is 128: the
/// 129th of a burst would wait a second for its second attempt.
const BACKLOG: i32 = 4096;

/// Opens a socket that listens on `address`. Connections inherit its options.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait until the system forgets old connections.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // The kernel takes twice as much.
    socket.set_send_buffer_size(KERNEL_SEND_BUFFER / 2)?;
    socket.set_recv_buffer_size(KERNEL_RECEIVE_BUFFER / 2)?;
    socket.set_tcp_notsent_lowat(KERNEL_UNSENT as u32)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Listener {
    /// Registers `listener`, without an interest in its events yet.
    pub(super) fn new(listener: TcpListener, poller: &Arc<Poller>) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        Ok(Listener { socket: Mutex::new(Some(Registered::new(listener, poller, Mode::Oneshot)?)) })
    }

    /// Asks for an event when the next connection can be accepted.
    pub(super) fn arm(&self) {
        if let Some(listener) = &*self.lock() {
            arm(listener);
        }
    }

    /// Gives at most `most` waiting connections to `admit`. When no descriptor is left, `make_room` closes another
    /// connection, or returns false.
    pub(super) fn accept(&self, most: usize, make_room: impl Fn() -> bool, admit: impl Fn(TcpStream, SocketAddr)) {
        if let Some(listener) = &*self.lock()
            && accept(listener, most, make_room, admit)
        {
            arm(listener);
        }
    }

    /// Lets the kernel ignore new connections, while those it has begun to open can still be accepted. A close would
    /// reset them.
    pub(super) fn ignore_new(&self) {
        /// The offset of the TCP flags in a segment, and the two that open a connection.
        const FLAGS: u32 = 13;
        const SYN: u32 = 0x02;
        const ACK: u32 = 0x10;
        /// Classic BPF: load a byte, and with a constant, jump if equal, return a constant.
        const LOAD_BYTE: u16 = 0x30;
        const AND: u16 = 0x54;
        const JUMP_IF_EQUAL: u16 = 0x15;
        const RETURN: u16 = 0x06;
        let drop_syn = [
            SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
            SockFilter::new(AND, 0, 0, SYN | ACK),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
            SockFilter::new(RETURN, 0, 0, 0),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
        ];
        if let Some(listener) = &*self.lock()
            && let Err(error) = SockRef::from(&**listener).attach_filter(&drop_syn)
        {
            warn!("a connection that opens during the stop may be reset: {error}");
        }
    }

    /// Accepts all waiting connections, and ends accepting.
    pub(super) fn close(&self, admit: impl Fn(TcpStream, SocketAddr)) {
        if let Some(listener) = self.lock().take() {
            accept(&listener, usize::MAX, || false, admit);
        }
    }

    /// A panic under this lock leaves nothing half-changed, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, Option<Registered<TcpListener>>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts at most `most` connections. Returns false when the system can accept none for now; the next sweep tries
/// again.
fn accept(
    listener: &TcpListener,
    most: usize,
    make_room: impl Fn() -> bool,
    admit: impl Fn(TcpStream, SocketAddr),
) -> bool {
    for _ in 0..most {
        let error = match listener.accept() {
            Ok((socket, peer)) => {
                admit(socket, peer);
                continue;
            }
            Err(error) => error,
        };
        match (error.kind(), Errno::from_io_error(&error)) {
            (ErrorKind::WouldBlock, _) => break,
            // Without a descriptor the system does not say whether a connection waits.
            (_, Some(Errno::MFILE | Errno::NFILE)) if make_room() => {}
            (_, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                warn!("connections can't be accepted: {error}");
                return false;
            }
            // The client went away before it was accepted, in one of many ways.
            (_, _) => {}
        }
    }
    true
}

fn arm(listener: &Registered<TcpListener>) {
    if let Err(error) = listener.arm(LISTENER_KEY, Interest::Read) {
        error!("the listener can't be waited for: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::net::Ipv4Addr;

    #[test]
    fn a_worker_accepts_a_few_connections_and_a_stop_accepts_all() {
        let socket = listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(socket, &Poller::new().unwrap()).unwrap();
        let waiting: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
        let admitted = Cell::new(0);
        let admit = |_, _| admitted.set(admitted.get() + 1);
        listener.accept(3, || false, admit);
        assert_eq!(admitted.get(), 3);
        listener.close(admit);
        assert_eq!(admitted.get(), waiting.len());
        assert!(TcpStream::connect(address).is_err());
    }
}
