//! One client's connection: its socket, its unsent bytes, its deadline, and every limit on them.
//!
//! Yields one complete, checked request at a time; later bytes wait until it is answered. Never blocks, and never
//! decides what a response says. `streaming` sends streams, and `closing` is what follows the last response.

mod closing;
mod streaming;

use std::io::{self, Read};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tiny_http::Method;

use super::close_reason::CloseReason;
use super::error::RequestError;
use super::head::{Head, Persistence};
use super::limits::Limits;
use super::memory_budget::Reservation;
use super::poll::{Interest, Registered, unacknowledged_bytes};
use super::request::Request;
use super::request_reader::{Progress, RequestReader};
use super::response::{Encoded, Response};
use super::slots::Slot;
use super::stage::{Closing, Evictable, Stage};
use super::stream::StreamBuffer;

/// The bytes that are read and dropped from a client that has its last response. A close with unread bytes is a reset,
/// and a reset may overtake the response (RFC 9112, section 9.6).
const MAX_DISCARD: usize = 8 * 1024 * 1024;
/// Reads in a row from one client. After them its deadline is checked and other clients are served.
const MAX_READS: usize = 8;

/// A connection. One thread owns it, or the table holds it.
pub(super) struct Connection {
    socket: Registered<TcpStream>,
    peer: IpAddr,
    slot: Slot,
    reservation: Reservation,
    reader: RequestReader,
    unsent: Option<Encoded>,
    /// What a stream sends. Only a stream has one.
    stream: Option<Arc<StreamBuffer>>,
    stage: Stage,
    answer: Answer,
    deadline: Instant,
    close_reason: CloseReason,
    /// What epoll was asked for last.
    armed: Option<Interest>,
    /// All bytes that epoll reported are read.
    drained: bool,
    /// The client has ended its side, or the connection is broken. Then only a read of 0 bytes shows that all is read,
    /// and epoll must be asked again.
    read_closed: bool,
}

/// What the next response must know about its request.
#[derive(Debug, Clone, Copy)]
struct Answer {
    head_only: bool,
    persistence: Persistence,
}

impl Answer {
    /// The last one on its connection, to a request with this head.
    fn last(head: Option<&Head>) -> Answer {
        let head_only = head.is_some_and(|head| head.method == Method::Head);
        Answer { head_only, persistence: Persistence::Close }
    }
}

/// What a connection needs next.
pub(super) enum Next {
    /// A response to this request.
    Request(Box<Request>),
    /// A response to what did not become a request.
    Refuse(RequestError, Option<Box<Head>>),
    /// An event.
    Wait(Interest),
    /// To be dropped.
    Gone,
}

/// What a deadline that has passed means.
pub(super) enum Expiry {
    /// Send 408 and close.
    Refuse,
    /// Close.
    Drop,
}

impl Connection {
    pub(super) fn new(
        socket: Registered<TcpStream>,
        peer: IpAddr,
        slot: Slot,
        reservation: Reservation,
        limits: &Limits,
    ) -> Connection {
        let now = Instant::now();
        Connection {
            socket,
            peer,
            slot,
            reservation,
            reader: RequestReader::default(),
            unsent: None,
            stream: None,
            stage: Stage::New { since: now },
            answer: Answer::last(None),
            deadline: now + limits.idle_timeout,
            close_reason: CloseReason::Client,
            armed: None,
            drained: false,
            read_closed: false,
        }
    }

    /// Sends, reads into `scratch` and parses, as far as this is possible without blocking.
    pub(super) fn advance(&mut self, scratch: &mut [u8]) -> Next {
        // Until the next read.
        self.drained = false;
        if self.unsent.is_some() {
            match self.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait(Interest::Write),
                Err(_) => return Next::Gone,
            }
        }
        match self.stage {
            Stage::Closing(closing) => return self.discard(closing, scratch),
            Stage::Streaming { .. } => return self.advance_stream(scratch),
            // A client that always has more to read is never at rest long enough for the sweep.
            Stage::Reading { .. } if Instant::now() >= self.deadline => {
                let head = self.abandon(CloseReason::RequestTimeout);
                return Next::Refuse(RequestError::TimedOut, head);
            }
            Stage::New { .. } | Stage::Idle { .. } | Stage::Reading { .. } | Stage::Writing { .. } => {}
        }
        for _ in 0..MAX_READS {
            if let Some(next) = self.parse() {
                return next;
            }
            match (&*self.socket).read(scratch) {
                Ok(0) => return self.end_of_stream(),
                Ok(n) => {
                    self.drained = n < scratch.len() && !self.read_closed;
                    self.reader.add(&scratch[..n]);
                    if self.stage.is_idle() {
                        self.stage = Stage::Reading { since: Instant::now() };
                    }
                    if n < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.drained = true;
                    return Next::Wait(Interest::Read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::Gone,
            }
        }
        self.parse().unwrap_or(Next::Wait(Interest::Read))
    }

    /// Sends as much as the socket takes of the response to the request that [`Connection::advance`] yielded, with more
    /// header `lines`. `keep` is false when the service is stopping. Returns what the connection needs next. That is
    /// never a request: the thread that gets the next event parses the bytes that follow.
    pub(super) fn send(&mut self, response: Response, lines: [&str; 2], keep: bool) -> Next {
        if !keep {
            self.answer.persistence = Persistence::Close;
        }
        let connection = match self.answer.persistence {
            Persistence::Close => "Connection: close\r\n",
            Persistence::Keep => "",
            Persistence::KeepAndTell => "Connection: keep-alive\r\n",
        };
        let [common, id] = lines;
        self.begin(response.encode(&[common, id, connection], self.answer.head_only))
    }

    /// Starts to send a response.
    fn begin(&mut self, encoded: Encoded) -> Next {
        self.unsent = Some(encoded);
        let now = Instant::now();
        self.stage = Stage::Writing { since: now, progress: now };
        match self.flush() {
            Ok(()) if self.reader.is_empty() => Next::Wait(Interest::Read),
            Ok(()) => Next::Wait(Interest::Write),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait(Interest::Write),
            Err(_) => Next::Gone,
        }
    }

    /// Reserves memory for the bytes that it holds. Returns false when the budget has too little left.
    pub(super) fn reserve_memory(&mut self) -> bool {
        let unsent = self.unsent.as_ref().map_or(0, Encoded::size);
        self.reservation.resize(self.reader.size() + unsent)
    }

    /// How much of the budget it holds and for how long. The highest score is closed first.
    pub(super) fn memory_score(&self, now: Instant) -> u128 {
        self.reservation.bytes() as u128 * now.saturating_duration_since(self.stage.since()).as_micros()
    }

    /// Sets the deadline, and asks for an event unless that was done before and no event was missed.
    pub(super) fn park(&mut self, interest: Interest, missed_event: bool, limits: &Limits) -> io::Result<()> {
        let sent = self.unsent.as_ref().map_or(0, Encoded::sent);
        self.deadline = self.stage.deadline(sent, limits);
        if let Stage::Closing(Closing { discard: None, .. }) = self.stage {
            return Ok(());
        }
        match interest {
            Interest::Read if self.armed == Some(interest) && self.drained && !missed_event => Ok(()),
            Interest::Read | Interest::Write => self.arm(interest),
        }
    }

    /// The address of the other end.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// The number of its slot.
    pub(super) fn index(&self) -> usize {
        self.slot.index()
    }

    /// Asks for an event.
    pub(super) fn arm(&mut self, interest: Interest) -> io::Result<()> {
        self.armed = Some(interest);
        self.socket.arm(self.slot.index(), interest)
    }

    /// The client will send no more than the bytes that can be read now.
    pub(super) fn set_read_closed(&mut self) {
        self.read_closed = true;
    }

    /// What it is doing.
    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Whether it may be closed at `now` to make room.
    pub(super) fn evictable(&self, now: Instant) -> Option<Evictable> {
        self.stage.evictable(now).filter(|_| !self.slot.is_overflow())
    }

    /// What must happen now, when the deadline has passed at `now`.
    pub(super) fn expired(&mut self, now: Instant, limits: &Limits) -> Option<Expiry> {
        if now < self.deadline {
            return None;
        }
        match self.stage {
            Stage::Closing(closing) => {
                let left = unacknowledged_bytes(&*self.socket).unwrap_or_default();
                return closing.is_over(left, now, limits).then_some(Expiry::Drop);
            }
            Stage::Reading { .. } => return Some(Expiry::Refuse),
            Stage::New { .. } | Stage::Idle { .. } => self.set_close_reason(CloseReason::IdleTimeout),
            Stage::Writing { .. } | Stage::Streaming { blocked: Some(_), .. } => {
                self.set_close_reason(CloseReason::WriteTimeout);
            }
            Stage::Streaming { blocked: None, .. } => self.set_close_reason(CloseReason::Answered),
        }
        Some(Expiry::Drop)
    }

    /// Drops the part of a request that has arrived, and returns its head. The next response is the last one.
    pub(super) fn abandon(&mut self, reason: CloseReason) -> Option<Box<Head>> {
        let head = self.reader.clear();
        self.answer = Answer::last(head.as_deref());
        self.set_close_reason(reason);
        head
    }

    /// Sets the reason that is counted when the connection is dropped.
    pub(super) fn set_close_reason(&mut self, reason: CloseReason) {
        self.close_reason = reason;
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(unsent) = &mut self.unsent else { return Ok(()) };
        let before = unsent.sent();
        let written = unsent.write_to(&*self.socket);
        if let Stage::Writing { progress, .. } = &mut self.stage
            && unsent.sent() > before
        {
            *progress = Instant::now();
        }
        written?;
        self.unsent = None;
        if self.reader.is_amid_request() {
            // It was `100 Continue`.
            return Ok(());
        }
        let since = Instant::now();
        if self.answer.persistence == Persistence::Close {
            self.reader.clear();
            self.close(Some(MAX_DISCARD))?;
            if self.close_reason == CloseReason::Client {
                self.set_close_reason(CloseReason::Answered);
            }
        } else if self.reader.is_empty() {
            self.stage = Stage::Idle { since };
        } else {
            self.stage = Stage::Reading { since };
        }
        Ok(())
    }

    /// Whether the client has received all that was sent.
    fn is_delivered(&self) -> bool {
        unacknowledged_bytes(&*self.socket).map_or(true, |bytes| bytes == 0)
    }

    /// What the bytes that have arrived amount to, or nothing while more of them are needed.
    fn parse(&mut self) -> Option<Next> {
        match self.reader.next() {
            Ok(Progress::Incomplete) => None,
            Ok(Progress::Continue) => {
                self.unsent = Some(Encoded::continue_100());
                match self.flush() {
                    Ok(()) => None,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Next::Wait(Interest::Write)),
                    Err(_) => Some(Next::Gone),
                }
            }
            Ok(Progress::Request(head, body)) => {
                self.answer = Answer { head_only: head.method == Method::Head, persistence: head.persistence };
                Some(Next::Request(Box::new(Request { head, body, peer: self.peer })))
            }
            Err((error, head)) => {
                self.answer = Answer::last(head.as_deref());
                Some(Next::Refuse(error, head))
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close_reason.count();
        // Otherwise the kernel would hold the bytes for minutes, for a client without a slot. A reset frees them.
        if self.close_reason != CloseReason::Shutdown && (self.unsent.is_some() || !self.is_delivered()) {
            let _ = SockRef::from(&*self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}
