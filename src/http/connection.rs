//! One client's connection: its socket, its unsent bytes, its deadline, and every limit on them.
//!
//! Yields one complete, checked request at a time; bytes behind it wait until it is answered. Never blocks, and never
//! decides what an answer says.

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tiny_http::Method;

use super::close_reason::CloseReason;
use super::head::{Head, Persistence};
use super::memory_budget::Reservation;
use super::places::Lease;
use super::request::Request;
use super::request_reader::{Progress, RequestReader};
use super::response::{Encoded, Response};
use super::{Limits, RequestError};
use crate::metrics::METRICS;
use crate::system::{Interest, Watched};

/// What is still read, and dropped, of a client that has its last answer.
pub const MAX_DISCARD: usize = 256 * 1024;
/// Reads in a row from a client that does not end; then its deadline is looked at, and the other clients have their turn.
const MAX_READS: usize = 8;
/// How long a client may take to close after its last answer.
pub const LINGER: Duration = Duration::from_secs(1);

/// A connection, owned by one thread at a time or parked in the server.
pub struct Connection {
    socket: Watched<TcpStream>,
    peer: IpAddr,
    /// The place in the server; given back when the connection is dropped.
    pub(super) lease: Lease,
    share: Reservation,
    intake: RequestReader,
    wire: Option<Encoded>,
    stage: Stage,
    answer: Answer,
    deadline: Instant,
    closed: CloseReason,
    /// What the system was last asked to tell.
    armed: Option<Interest>,
    /// Nothing that the system has told of is unread.
    drained: bool,
    /// The client sends nothing more, or may not: then nothing but reading to the end shows whether all is read, and the
    /// system has to be asked to tell of it once more.
    ended: bool,
}

/// What a connection is doing while no handler has its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing of a request is here.
    Idle(Instant),
    /// A part of a request is here, since then.
    Receiving(Instant),
    /// An answer is on its way, since then; the connection is kept or not.
    Sending(Instant),
    /// The last answer is out and the sending side is shut; so much may still be discarded.
    Lingering(usize),
}

/// What the next answer has to know of its request.
#[derive(Debug, Clone, Copy)]
struct Answer {
    head_only: bool,
    persistence: Persistence,
}

impl Answer {
    /// The last one on its connection.
    const LAST: Answer = Answer { head_only: false, persistence: Persistence::Close };
}

/// What a connection needs next.
pub(super) enum Next {
    /// An answer to this.
    Request(Box<Request>),
    /// An answer to what did not become a request.
    Refuse(RequestError, Option<Box<Head>>),
    /// An event.
    Wait(Interest),
    /// To be dropped.
    Gone,
}

/// What a deadline that has passed means.
pub(super) enum Expiry {
    /// Say 408 and close.
    Refuse,
    /// Close.
    Drop,
}

impl Connection {
    pub(super) fn new(
        socket: Watched<TcpStream>,
        peer: IpAddr,
        lease: Lease,
        share: Reservation,
        limits: &Limits,
    ) -> Connection {
        let now = Instant::now();
        METRICS.connections.with_label_values(&["open"]).inc();
        Connection {
            socket,
            peer,
            lease,
            share,
            intake: RequestReader::default(),
            wire: None,
            stage: Stage::Idle(now),
            answer: Answer::LAST,
            deadline: now + limits.idle_timeout,
            closed: CloseReason::Client,
            armed: None,
            drained: false,
            ended: false,
        }
    }

    /// Goes on as far as it can without blocking: sends, reads into `scratch`, and parses.
    pub(super) fn advance(&mut self, scratch: &mut [u8]) -> Next {
        // Until it is read from, which may be another time.
        self.drained = false;
        if self.wire.is_some() {
            match self.flush() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait(Interest::Write),
                Err(_) => return Next::Gone,
            }
        }
        match self.stage {
            Stage::Lingering(left) => return self.discard(left, scratch),
            // A client that always has more to read is never parked long enough to be found by the server.
            Stage::Receiving(_) if Instant::now() >= self.deadline => {
                self.abandon(CloseReason::RequestTimeout);
                return Next::Refuse(RequestError::TimedOut, None);
            }
            Stage::Receiving(_) | Stage::Idle(_) | Stage::Sending(_) => {}
        }
        for _ in 0..MAX_READS {
            if let Some(next) = self.parse() {
                return next;
            }
            match (&*self.socket).read(scratch) {
                Ok(0) => return Next::Gone,
                Ok(n) => {
                    self.drained = n < scratch.len() && !self.ended;
                    self.intake.add(&scratch[..n]);
                    if matches!(self.stage, Stage::Idle(_)) {
                        self.stage = Stage::Receiving(Instant::now());
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
        // Others have their turn before this one goes on.
        self.parse().unwrap_or(Next::Wait(Interest::Read))
    }

    /// Takes the answer to the request that [`Connection::advance`] yielded, and sends what the socket takes of it, with the
    /// lines that all answers have and the one that names its request.
    /// `keep` is false when the service is ending. Gives what the connection needs next, which is never a request: the
    /// bytes behind this one are left to the thread that gets its event.
    pub(super) fn send(&mut self, reply: Response, [common, id]: [&str; 2], keep: bool) -> Next {
        if !keep {
            self.answer.persistence = Persistence::Close;
        }
        let connection = match self.answer.persistence {
            Persistence::Close => "Connection: close\r\n",
            Persistence::Keep => "",
            Persistence::KeepAndTell => "Connection: keep-alive\r\n",
        };
        self.wire = Some(reply.encode(&[common, id, connection], self.answer.head_only));
        self.stage = Stage::Sending(Instant::now());
        match self.flush() {
            Ok(()) if self.intake.is_empty() => Next::Wait(Interest::Read),
            Ok(()) => Next::Wait(Interest::Write),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Next::Wait(Interest::Write),
            Err(_) => Next::Gone,
        }
    }

    /// Takes what it holds from the budget of all connections. False when there is not enough left of it.
    pub(super) fn charge(&mut self) -> bool {
        let outgoing = self.wire.as_ref().map_or(0, Encoded::size);
        self.share.resize(self.intake.size() + outgoing)
    }

    /// How much it holds of the budget and for how long: what makes room first is what is largest here.
    pub(super) fn burden(&self, now: Instant) -> u128 {
        let since = match self.stage {
            Stage::Idle(since) | Stage::Receiving(since) | Stage::Sending(since) => since,
            Stage::Lingering(_) => now,
        };
        self.share.bytes() as u128 * now.saturating_duration_since(since).as_micros()
    }

    /// Sets the deadline, and arms the socket unless it is and no event of it was `missed`.
    pub(super) fn park(&mut self, interest: Interest, missed: bool, limits: &Limits) -> io::Result<()> {
        self.deadline = match self.stage {
            Stage::Idle(since) => since + limits.idle_timeout,
            Stage::Receiving(since) => since + limits.request_timeout,
            Stage::Sending(since) => since + limits.write_timeout,
            // Set once, when lingering began.
            Stage::Lingering(_) => self.deadline,
        };
        match interest {
            Interest::Read if self.armed == Some(interest) && self.drained && !missed => Ok(()),
            Interest::Read | Interest::Write => self.arm(interest),
        }
    }

    /// The other end.
    pub(super) fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Asks for an event.
    pub(super) fn arm(&mut self, interest: Interest) -> io::Result<()> {
        self.armed = Some(interest);
        self.socket.arm(self.lease.place(), interest)
    }

    /// The system has told that the client sends nothing more than what is there to be read.
    pub(super) fn hear_end(&mut self) {
        self.ended = true;
    }

    /// When nothing of a request is here: since when.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Idle(since) => Some(since),
            Stage::Receiving(_) | Stage::Sending(_) | Stage::Lingering(_) => None,
        }
    }

    /// What to do now when the deadline has passed at `now`.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Expiry> {
        if now < self.deadline {
            return None;
        }
        match self.stage {
            Stage::Receiving(_) => return Some(Expiry::Refuse),
            Stage::Idle(_) => self.end(CloseReason::IdleTimeout),
            Stage::Sending(_) => self.end(CloseReason::WriteTimeout),
            Stage::Lingering(_) => {}
        }
        Some(Expiry::Drop)
    }

    /// Gives up what may have arrived of a request, for this reason: what is sent next is the last answer.
    pub(super) fn abandon(&mut self, reason: CloseReason) {
        self.intake.forget();
        self.answer = Answer::LAST;
        self.end(reason);
    }

    /// It is about to be dropped, and for this reason.
    pub(super) fn end(&mut self, reason: CloseReason) {
        self.closed = reason;
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        wire.write_to(&*self.socket)?;
        self.wire = None;
        if self.intake.is_amid_request() {
            // It was `100 Continue`.
            return Ok(());
        }
        let now = Instant::now();
        if self.answer.persistence != Persistence::Close {
            self.stage = if self.intake.is_empty() { Stage::Idle(now) } else { Stage::Receiving(now) };
        } else {
            // Closing at once would reset the connection if the client still sends, and the reset may overtake the answer
            // (RFC 9112, section 9.6).
            self.socket.shutdown(Shutdown::Write)?;
            self.intake.forget();
            self.stage = Stage::Lingering(MAX_DISCARD);
            if self.closed == CloseReason::Client {
                self.end(CloseReason::Answered);
            }
            self.deadline = now + LINGER;
        }
        Ok(())
    }

    fn discard(&mut self, mut left: usize, scratch: &mut [u8]) -> Next {
        loop {
            match (&*self.socket).read(scratch) {
                Ok(0) => return Next::Gone,
                Ok(n) if n >= left => return Next::Gone,
                Ok(n) => left -= n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::Gone,
            }
        }
        self.drained = true;
        self.stage = Stage::Lingering(left);
        Next::Wait(Interest::Read)
    }

    /// What the bytes that are here amount to; nothing while more of them are needed.
    fn parse(&mut self) -> Option<Next> {
        match self.intake.next() {
            Ok(Progress::More) => None,
            Ok(Progress::Continue) => {
                self.wire = Some(Encoded::continue_100());
                match self.flush() {
                    Ok(()) => None,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Next::Wait(Interest::Write)),
                    Err(_) => Some(Next::Gone),
                }
            }
            Ok(Progress::Whole(head, body)) => {
                self.answer = Answer { head_only: head.method == Method::Head, persistence: head.persistence };
                Some(Next::Request(Box::new(Request { head, body, peer: self.peer })))
            }
            Err((refusal, head)) => {
                let head_only = head.as_ref().is_some_and(|head| head.method == Method::Head);
                self.answer = Answer { head_only, ..Answer::LAST };
                Some(Next::Refuse(refusal, head))
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        METRICS.connections.with_label_values(&["open"]).dec();
        METRICS.connections_closed.with_label_values(&[self.closed.name()]).inc();
    }
}
