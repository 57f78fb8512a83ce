//! Waiting for sockets.
//!
//! - `Poller::add` is unsafe because a source must be deleted from the poller before it is dropped. [`Watched`] owns its
//!   source and does that, so that nobody else can forget it.
//! - `Poller::wait` lets one thread in at a time and makes five system calls of a wait, and `Poller::modify` does not ask for
//!   the end of a stream (EPOLLRDHUP). On Linux [`Sockets`] uses the poller's own descriptor instead: a wait is one system
//!   call, any number of threads may wait, and the kernel wakes one of them for an event.

use std::io;
#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use polling::{Event, PollMode, Poller};

/// All sockets that are waited for.
pub(crate) struct Sockets {
    poller: Poller,
    /// The one thread that may wait.
    #[cfg(not(target_os = "linux"))]
    turn: std::sync::Mutex<()>,
}

/// The key of a socket that was never armed, of which the system may tell an error all the same.
const NOBODY: usize = usize::MAX - 2;
/// Events that a thread takes at once.
const EVENTS: usize = 128;

/// A socket among [`Sockets`]; taken out on drop.
pub(crate) struct Watched<S: AsFd> {
    source: S,
    sockets: Arc<Sockets>,
    mode: PollMode,
}

/// Something has happened to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Happened {
    /// What the socket was armed with.
    pub(crate) key: usize,
    /// No more will come than what is there to be read; or nobody can say.
    pub(crate) ended: bool,
}

/// The bytes that the kernel holds for the other end of a TCP connection: not sent yet, or not acknowledged.
pub(crate) fn unacknowledged_bytes(socket: impl AsFd) -> io::Result<usize> {
    use rustix::ioctl::{Getter, ioctl};
    /// SIOCOUTQ, which is this number on all architectures but MIPS, PowerPC and SPARC.
    const TIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: TIOCOUTQ writes one C int to its argument, and does nothing else.
    let bytes = unsafe { ioctl(socket, Getter::<TIOCOUTQ, std::ffi::c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or_default())
}

/// What a parked socket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// There is something to read, a new connection, or the end of the stream.
    Read,
    /// There is room to write.
    Write,
}

impl Sockets {
    /// None yet.
    pub(crate) fn new() -> io::Result<Arc<Sockets>> {
        Ok(Arc::new(Sockets {
            poller: Poller::new()?,
            #[cfg(not(target_os = "linux"))]
            turn: std::sync::Mutex::new(()),
        }))
    }

    /// Waits for events, no longer than `patience`, and adds them to `events`. They go to this thread alone; any number of
    /// threads may wait.
    #[cfg(target_os = "linux")]
    pub(crate) fn wait(&self, events: &mut Vec<Happened>, patience: Option<Duration>) -> io::Result<()> {
        use rustix::event::{Timespec, epoll};
        let end = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let mut list = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        // What is too long for the system's type is as good as for ever.
        let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
        match epoll::wait(&self.poller, &mut list, patience.as_ref()) {
            Ok((list, _)) => events.extend(list.iter().map(|event| {
                // Copied out of a packed struct.
                let (data, flags) = (event.data, event.flags);
                Happened { key: data.u64() as usize, ended: flags.intersects(end) }
            })),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for events, no longer than `patience`, and adds them to `events`. They go to this thread alone; any number of
    /// threads may wait.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn wait(&self, events: &mut Vec<Happened>, patience: Option<Duration>) -> io::Result<()> {
        use std::sync::{PoisonError, TryLockError};
        let _turn = match (patience, self.turn.try_lock()) {
            (_, Ok(turn)) => turn,
            (_, Err(TryLockError::Poisoned(poisoned))) => poisoned.into_inner(),
            (None, Err(TryLockError::WouldBlock)) => self.turn.lock().unwrap_or_else(PoisonError::into_inner),
            // Whoever waits there is told of whatever happens.
            (Some(_), Err(TryLockError::WouldBlock)) => return Ok(()),
        };
        let mut list = polling::Events::with_capacity(EVENTS.try_into().unwrap_or(std::num::NonZeroUsize::MIN));
        self.poller.wait(&mut list, patience)?;
        events.extend(list.iter().map(|event| Happened { key: event.key, ended: true }));
        Ok(())
    }
}

impl<S: AsFd + AsRawFd> Watched<S> {
    /// Puts `source`, which must not block, among `sockets` without an interest. Each arming gives one event.
    pub(crate) fn once(source: S, sockets: &Arc<Sockets>) -> io::Result<Watched<S>> {
        Watched::new(source, sockets, PollMode::Oneshot)
    }

    /// Puts `source`, which must not block, among `sockets` without an interest. Each arming gives an event, if there is
    /// what it asks for, and then one whenever more of it comes: whoever takes all that is there need not arm it again.
    pub(crate) fn on_change(source: S, sockets: &Arc<Sockets>) -> io::Result<Watched<S>> {
        Watched::new(source, sockets, PollMode::Edge)
    }

    fn new(source: S, sockets: &Arc<Sockets>, mode: PollMode) -> io::Result<Watched<S>> {
        // SAFETY: the source is owned by what is returned, which deletes it from this poller before it drops it.
        unsafe { sockets.poller.add_with_mode(&source, Event::none(NOBODY), mode)? };
        Ok(Watched { source, sockets: Arc::clone(sockets), mode })
    }

    /// Asks for an event called `key`.
    #[cfg(target_os = "linux")]
    pub(crate) fn arm(&self, key: usize, interest: Interest) -> io::Result<()> {
        use rustix::event::epoll::{self, EventData, EventFlags};
        let what = match interest {
            Interest::Read => EventFlags::IN | EventFlags::RDHUP,
            Interest::Write => EventFlags::OUT,
        };
        let when = if self.mode == PollMode::Edge { EventFlags::ET } else { EventFlags::ONESHOT };
        Ok(epoll::modify(&self.sockets.poller, &self.source, EventData::new_u64(key as u64), what | when)?)
    }

    /// Asks for an event called `key`.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn arm(&self, key: usize, interest: Interest) -> io::Result<()> {
        let event = match interest {
            Interest::Read => Event::readable(key),
            Interest::Write => Event::writable(key),
        };
        self.sockets.poller.modify_with_mode(self.source.as_fd(), event, self.mode)
    }
}

impl<S: AsFd> Deref for Watched<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.source
    }
}

impl<S: AsFd> Drop for Watched<S> {
    fn drop(&mut self) {
        // It can only fail for a source that is not in the poller, and then there is nothing to undo.
        let _ = self.sockets.poller.delete(self.source.as_fd());
    }
}
