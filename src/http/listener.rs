//! The listener: the listening socket, and how connections are accepted, also while no descriptor is left for them.
//!
//! Never decides what becomes of a connection, nor which one has to make room.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{error, warn};
use rustix::io::Errno;

use crate::metrics::METRICS;
use crate::system::{Interest, Sockets, Watched};

/// The listener's key among the sockets; connections have their place's number.
pub(super) const LISTENER_KEY: usize = usize::MAX - 1;

/// Where connections come in.
pub(super) struct Listener {
    listener: Mutex<Option<Watched<TcpListener>>>,
    /// Given up for a moment to accept, and close, a connection when no other descriptor is left.
    reserve: Mutex<Option<File>>,
}

/// Connections accepted in a row before the worker lets others at the listener.
const ACCEPTS: usize = 64;
/// The answer when there is no descriptor for anything else.
const NO_DESCRIPTOR: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

impl Listener {
    /// A listener at `listener`; when it is listened at, one of those who wait for `sockets` is told of its connections.
    pub(super) fn open(listener: TcpListener, sockets: &Arc<Sockets>) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let listener = Watched::once(listener, sockets)?;
        Ok(Listener { listener: Mutex::new(Some(listener)), reserve: Mutex::new(open_reserve()) })
    }

    /// Ends accepting; connections that nobody has accepted are reset by the system.
    pub(super) fn close(&self) {
        drop(lock(&self.listener).take());
    }

    /// Asks to be told of the next connection.
    pub(super) fn listen(&self) {
        if let Some(listener) = &*lock(&self.listener) {
            arm(listener);
        }
    }

    /// Gives what waits at the listener to `admit`. Where no descriptor is left for it, `make_room` closes another connection,
    /// or says that there is none that it may close.
    pub(super) fn accept(&self, make_room: impl Fn() -> bool, admit: impl Fn(TcpStream, SocketAddr)) {
        let guard = lock(&self.listener);
        let Some(listener) = &*guard else { return };
        for _ in 0..ACCEPTS {
            let error = match listener.accept() {
                Ok((socket, peer)) => {
                    admit(socket, peer);
                    continue;
                }
                Err(error) => error,
            };
            match (error.kind(), Errno::from_io_error(&error)) {
                (ErrorKind::WouldBlock, _) => break,
                (_, Some(Errno::MFILE | Errno::NFILE)) => {
                    match self.accept_without_descriptor(listener, &error, &make_room, &admit) {
                        Ok(()) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        // The next look at the deadlines listens again.
                        Err(_) => return,
                    }
                }
                (_, Some(Errno::NOBUFS | Errno::NOMEM)) => {
                    warn!("connections can't be accepted: {error}");
                    return;
                }
                // The client went away before it was accepted, in one of many ways.
                (_, _) => {}
            }
        }
        arm(listener);
    }

    /// No descriptor is left: accepts with the reserve's. Another connection makes room for the new one; when none does the
    /// new one is told so, instead of waiting in silence. `WouldBlock` when nobody waits, of which the system says nothing
    /// while there is no descriptor.
    fn accept_without_descriptor(
        &self,
        listener: &TcpListener,
        cause: &io::Error,
        make_room: impl Fn() -> bool,
        admit: impl Fn(TcpStream, SocketAddr),
    ) -> io::Result<()> {
        let mut reserve = lock(&self.reserve);
        if reserve.is_none() {
            // Somebody else took its descriptor meanwhile.
            make_room();
        }
        drop(reserve.take());
        let accepted = listener.accept();
        if accepted.is_ok() && make_room() {
            *reserve = open_reserve();
            drop(reserve);
            return accepted.map(|(socket, peer)| admit(socket, peer));
        }
        let told = accepted.map(|(mut socket, _)| {
            warn!("a connection can't be accepted: {cause}");
            METRICS.connections_refused.with_label_values(&["no_descriptor"]).inc();
            let _ = socket.set_nonblocking(true);
            let _ = socket.write_all(NO_DESCRIPTOR);
            // What is unread when it is closed would reset the connection, and the answer might be lost.
            let _ = socket.read(&mut [0; 4096]);
        });
        *reserve = open_reserve();
        told
    }
}

fn arm(listener: &Watched<TcpListener>) {
    if let Err(error) = listener.arm(LISTENER_KEY, Interest::Read) {
        error!("the listener can't be waited for: {error}");
    }
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// A panic under one of the listener's locks leaves nothing half-changed behind, so poison says nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
