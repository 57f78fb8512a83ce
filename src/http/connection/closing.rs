//! The end of a connection: its sending side is shut down, and the client may take what it has not got yet.

use std::io::{self, Read};
use std::net::Shutdown;
use std::time::Instant;

use super::{Connection, MAX_READS, Next};
use crate::http::poll::{Interest, unacknowledged_bytes};
use crate::http::stage::{Closing, LINGER, Stage};

impl Connection {
    /// Shuts down the sending side, and lets the client end its own, if it has not done so.
    pub(super) fn close(&mut self, discard: Option<usize>) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)?;
        let unacknowledged = unacknowledged_bytes(&*self.socket)?;
        self.stage = Stage::Closing(Closing { since: Instant::now(), unacknowledged, discard });
        Ok(())
    }

    /// The client sends no more. It may still read what the kernel holds for it.
    pub(super) fn end_of_stream(&mut self) -> Next {
        let is_over = self.is_delivered() || self.close(None).is_err();
        if is_over { Next::Gone } else { Next::Wait(Interest::Read) }
    }

    pub(super) fn discard(&mut self, mut closing: Closing, scratch: &mut [u8]) -> Next {
        for _ in 0..MAX_READS {
            match (&*self.socket).read(scratch) {
                Ok(0) if closing.discard.is_some() => {
                    closing.discard = None;
                    break;
                }
                Ok(n) => match closing.discard.and_then(|left| left.checked_sub(n)) {
                    Some(left) => closing.discard = Some(left),
                    None => return Next::Gone,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.drained = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::Gone,
            }
        }
        self.stage = Stage::Closing(closing);
        let is_over = Instant::now() >= closing.since + LINGER || closing.discard.is_none();
        if is_over && self.is_delivered() { Next::Gone } else { Next::Wait(Interest::Read) }
    }
}
