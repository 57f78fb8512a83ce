//! A connection whose response is a stream. Never ends a stream by itself, unless its client is gone or too slow.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Connection, MAX_DISCARD, MAX_READS, Next};
use crate::http::close_reason::CloseReason;
use crate::http::head::Persistence;
use crate::http::poll::Interest;
use crate::http::response::Response;
use crate::http::stage::Stage;
use crate::http::stream::{StreamBuffer, StreamEnd};

/// How long the network of a client may be silent after bytes were sent to it. A quiet stream sends some by heartbeats.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

impl Connection {
    /// Sends the head and the body of `response` as the beginning of a stream, and returns the buffer of what follows. There
    /// is no buffer for a HEAD request, whose response is complete.
    pub(in crate::http) fn send_stream(
        &mut self,
        response: Response,
        lines: [&str; 2],
    ) -> (Next, Option<Arc<StreamBuffer>>) {
        self.answer.persistence = Persistence::Close;
        let [common, id] = lines;
        let encoded = response.encode_stream(&[common, id, "Connection: close\r\n"], self.answer.head_only);
        if self.answer.head_only {
            return (self.begin(encoded), None);
        }
        self.reader.clear();
        // Otherwise the kernel keeps the stream of a client that vanished for a quarter of an hour.
        let _ = SockRef::from(&*self.socket).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        let stream = StreamBuffer::new(encoded.into_bytes().into());
        self.stream = Some(Arc::clone(&stream));
        self.stage = Stage::Streaming { since: Instant::now(), blocked: None };
        (self.flush_stream(), Some(stream))
    }

    /// Sends as much of the stream as the socket takes now.
    pub(in crate::http) fn flush_stream(&mut self) -> Next {
        let (Some(stream), Stage::Streaming { since, blocked }) = (&self.stream, self.stage) else { return Next::Gone };
        if stream.end() == Some(StreamEnd::Overrun) {
            self.set_close_reason(CloseReason::WriteTimeout);
            return Next::Gone;
        }
        let (taken, result) = stream.write_to(&*self.socket);
        match result {
            Ok(()) if stream.end().is_some() => {
                self.stream = None;
                self.set_close_reason(CloseReason::Answered);
                self.close(Some(MAX_DISCARD)).map_or(Next::Gone, |()| Next::Wait(Interest::Read))
            }
            Ok(()) => {
                self.stage = Stage::Streaming { since, blocked: None };
                Next::Wait(Interest::Read)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let blocked = blocked.filter(|_| taken == 0).unwrap_or_else(Instant::now);
                self.stage = Stage::Streaming { since, blocked: Some(blocked) };
                Next::Wait(Interest::Write)
            }
            Err(_) => Next::Gone,
        }
    }

    /// Whether `stream` is sent on this connection.
    pub(in crate::http) fn has_stream(&self, stream: &Arc<StreamBuffer>) -> bool {
        self.stream.as_ref().is_some_and(|own| Arc::ptr_eq(own, stream))
    }

    /// What it waits for, when it waited for `interest` before another thread may have sent on its stream.
    pub(in crate::http) fn interest(&self, interest: Interest) -> Interest {
        match &self.stream {
            Some(stream) if !stream.is_empty() || stream.end().is_some() => Interest::Write,
            Some(_) | None => interest,
        }
    }

    /// Sends on the stream, and drops what the client sends.
    pub(super) fn advance_stream(&mut self, scratch: &mut [u8]) -> Next {
        let next = self.flush_stream();
        if self.stream.is_none() || matches!(next, Next::Gone) {
            return next;
        }
        for _ in 0..MAX_READS {
            match (&*self.socket).read(scratch) {
                Ok(0) => return Next::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.drained = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::Gone,
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;
    use crate::http::limits::Limits;
    use crate::http::memory_budget::MemoryBudget;
    use crate::http::poll::{Mode, Poller, Registered};
    use crate::http::response::Body;
    use crate::http::slots::{SlotLimits, Slots};

    #[test]
    fn the_kernel_ends_the_stream_of_a_client_that_vanished() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        let socket = Registered::new(socket, &Poller::new().unwrap(), Mode::Edge).unwrap();
        let slots = Slots::new(SlotLimits { connections: 1, overflow: 0, per_client: 1, exempt: Vec::new() });
        let Ok(slot) = slots.admit(peer.ip()) else { panic!("there is one slot") };
        let limits = Limits {
            listeners: 1,
            max_connections: 1,
            max_connections_per_client: 1,
            exempt_clients: Vec::new(),
            request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        };
        let reservation = MemoryBudget::new(1000).reservation();
        let mut connection = Connection::new(socket, peer.ip(), slot, reservation, &limits);
        let (_, stream) = connection.send_stream(Response::new(200, &[], Body::Empty), ["", ""]);
        assert!(stream.is_some());
        let timeout = SockRef::from(&*connection.socket).tcp_user_timeout().unwrap();
        assert_eq!(timeout, Some(UNACKNOWLEDGED));
    }
}
