//! Waiting for sockets with epoll. Any number of threads may wait, and the kernel wakes one of them for an event.
//!
//! Never reads from a socket or writes to one.

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};

/// An epoll instance.
pub(super) struct Poller {
    epoll: OwnedFd,
}

/// A socket that is registered with a [`Poller`], until it is dropped.
pub(super) struct Registered<S: AsFd> {
    socket: S,
    poller: Arc<Poller>,
    mode: Mode,
}

/// When an armed socket reports events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each arming gives one event.
    Oneshot,
    /// Arming gives an event if the socket is ready, and then one whenever more arrives. A thread that reads all that
    /// is there need not arm the socket again.
    Edge,
}

/// Something happened to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    /// The key that the socket was armed with.
    pub(super) key: usize,
    /// The other end has ended its side, or the connection is broken.
    pub(super) read_closed: bool,
}

/// What an armed socket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// Bytes, a new connection, or the end of the stream.
    Read,
    /// Room to write.
    Write,
}

/// The key of a socket that was never armed. The kernel may report an error of it.
const NOT_ARMED: u64 = u64::MAX;
/// Events that a thread takes at most.
const MAX_EVENTS: usize = 128;

impl Poller {
    pub(super) fn new() -> io::Result<Arc<Poller>> {
        Ok(Arc::new(Poller { epoll: epoll::create(CreateFlags::CLOEXEC)? }))
    }

    /// Waits for events, and adds them to `events`. They go to this thread alone.
    pub(super) fn wait(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let end = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        let mut list = [const { MaybeUninit::<epoll::Event>::uninit() }; MAX_EVENTS];
        match epoll::wait(&self.epoll, &mut list, None) {
            Ok((list, _)) => events.extend(list.iter().map(|event| {
                // Copied out of a packed struct.
                let (data, flags) = (event.data, event.flags);
                Event { key: data.u64() as usize, read_closed: flags.intersects(end) }
            })),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

impl<S: AsFd> Registered<S> {
    /// Registers a socket that never blocks. It reports no events until it is armed.
    pub(super) fn new(socket: S, poller: &Arc<Poller>, mode: Mode) -> io::Result<Registered<S>> {
        epoll::add(&poller.epoll, &socket, EventData::new_u64(NOT_ARMED), EventFlags::empty())?;
        Ok(Registered { socket, poller: Arc::clone(poller), mode })
    }

    /// Asks for an event with this key.
    pub(super) fn arm(&self, key: usize, interest: Interest) -> io::Result<()> {
        let what = match interest {
            Interest::Read => EventFlags::IN | EventFlags::RDHUP,
            Interest::Write => EventFlags::OUT,
        };
        let when = match self.mode {
            Mode::Edge => EventFlags::ET,
            Mode::Oneshot => EventFlags::ONESHOT,
        };
        Ok(epoll::modify(&self.poller.epoll, &self.socket, EventData::new_u64(key as u64), what | when)?)
    }
}

impl<S: AsFd> Deref for Registered<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

impl<S: AsFd> Drop for Registered<S> {
    fn drop(&mut self) {
        // It fails only for a socket that is not registered, and then there is nothing to undo.
        let _ = epoll::delete(&self.poller.epoll, &self.socket);
    }
}

/// The bytes that the kernel holds for the other end of a TCP connection: not sent yet, or not acknowledged.
#[allow(unsafe_code)]
pub(super) fn unacknowledged_bytes(socket: impl AsFd) -> io::Result<usize> {
    /// SIOCOUTQ, which has this number on all architectures but MIPS, PowerPC and SPARC.
    const TIOCOUTQ: Opcode = 0x5411;
    // SAFETY: TIOCOUTQ writes one C int to its argument, and does nothing else.
    let bytes = unsafe { ioctl(socket, Getter::<TIOCOUTQ, c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or_default())
}
