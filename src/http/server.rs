//! The server: all connections, and equal workers that wait for them and for the listener.
//!
//! A worker that listens takes events and handles them itself: there is no hand-over between threads on the way of a
//! request. Workers never block on a socket; what can't go on is parked until its event. One more thread looks at the
//! deadlines. The server knows nothing of what a request means.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error};

use super::access_log::AccessRecord;
use super::close_reason::CloseReason;
use super::connection::{Connection, Expiry, Next};
use super::head::Head;
use super::listener::{LISTENER_KEY, Listener};
use super::memory_budget::MemoryBudget;
use super::parking::{Parking, Spot};
use super::places::Places;
use super::request::RequestId;
use super::responder::Responder;
use super::response::Response;
use super::scheduler::{PollPermits, Task};
use super::{RequestError, Service};
use crate::metrics::METRICS;
use crate::system::{Happened, Interest, Sockets, Watched};

/// What connections may take, and how long.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Workers that wait for sockets at once, at most. As many as may block have to be left beside them.
    pub listeners: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// For a whole request to arrive.
    pub request_timeout: Duration,
    /// For a kept connection to say nothing.
    pub idle_timeout: Duration,
    /// For an answer to be taken.
    pub write_timeout: Duration,
}

/// Places beyond [`Limits::max_connections`], for connections that are told 503 and closed.
pub const SPARE_PLACES: usize = 64;
/// What all connections together may hold of half-read requests and half-sent answers; beyond it the one that holds the
/// most for the longest is closed.
pub const HELD_BYTES: usize = 32 * 1024 * 1024;
/// How often the deadlines are looked at, which is how late a time-out may be.
const SWEEP: Duration = Duration::from_millis(200);
/// A worker's buffer for what it reads.
const SCRATCH: usize = 16 * 1024;

/// All connections.
pub struct Server {
    itself: Weak<Server>,
    sockets: Arc<Sockets>,
    turns: PollPermits,
    service: Box<dyn Service>,
    limits: Limits,
    /// Lines that every answer has, each with its CRLF.
    common: String,
    listener: Listener,
    parking: Parking,
    places: Arc<Places>,
    budget: Arc<MemoryBudget>,
    closing: AtomicBool,
    process: u32,
    requests: AtomicU64,
}

impl Server {
    /// A server that listens on `listener` and serves `service`; `common` are headers that every answer has.
    pub fn new(
        listener: TcpListener,
        service: Box<dyn Service>,
        limits: Limits,
        common: &[(&str, &str)],
    ) -> io::Result<Arc<Server>> {
        let sockets = Sockets::new()?;
        let listener = Listener::open(listener, &sockets)?;
        let total = limits.max_connections + SPARE_PLACES;
        Ok(Arc::new_cyclic(|itself| Server {
            itself: Weak::clone(itself),
            sockets,
            turns: PollPermits::new(limits.listeners),
            service,
            limits,
            common: common.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect(),
            listener,
            parking: Parking::new(total),
            places: Places::new(total),
            budget: MemoryBudget::new(HELD_BYTES),
            closing: AtomicBool::new(false),
            process: RandomState::new().hash_one(0u8) as u32,
            requests: AtomicU64::new(0),
        }))
    }

    /// Starts `workers` threads, which live as long as the process. Connections are not accepted yet.
    pub fn start(self: &Arc<Server>, workers: usize) -> io::Result<()> {
        for number in 0..workers {
            let server = Arc::clone(self);
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || server.work(number))?;
        }
        Ok(())
    }

    /// Begins to accept connections, and starts the thread that looks at their deadlines.
    pub fn open(self: &Arc<Server>) -> io::Result<()> {
        let server = Arc::clone(self);
        thread::Builder::new().name("deadlines".to_owned()).spawn(move || server.keep_deadlines())?;
        self.listener.listen();
        Ok(())
    }

    /// Ends accepting, lets idle connections go and the others after their next answer, and calls `on_empty` when the
    /// last one is gone.
    pub fn close(&self, on_empty: impl FnOnce() + Send + 'static) {
        self.closing.store(true, Ordering::SeqCst);
        self.listener.close();
        self.places.when_empty(Box::new(on_empty));
        for spot in self.parking.spots() {
            if let Some(connection) = &mut spot.lock().connection
                && connection.idle_since().is_some()
            {
                // A worker looks once more for a request that is just arriving.
                let _ = connection.arm(Interest::Write);
            }
        }
    }

    /// Wakes a worker to run what is queued.
    pub fn wake_worker(&self) {
        self.turns.wake();
    }

    /// What is served.
    pub fn service(&self) -> &dyn Service {
        &*self.service
    }

    /// Sends `reply` on a connection whose request it answers.
    pub(super) fn finish(&self, mut connection: Box<Connection>, reply: Response, access: &AccessRecord) {
        access.answered(&reply);
        let keep = !self.closing.load(Ordering::SeqCst);
        match connection.send(reply, [&self.common, access.id.line()], keep) {
            Next::Wait(interest) => self.park(connection, interest),
            Next::Request(_) | Next::Refuse(..) | Next::Gone => {}
        }
    }

    fn work(&self, number: usize) {
        let mut scratch = Vec::new();
        let mut events = Vec::new();
        let mut turn = self.turns.join(number);
        loop {
            match turn.take() {
                Task::Listen => self.listen(&mut events, &mut scratch),
                Task::Help => {}
            }
            survive(|| self.service.run_queued(&mut turn));
        }
    }

    /// Waits, and handles what happens, and what has happened meanwhile: all of it shares the batches that are led next.
    fn listen(&self, events: &mut Vec<Happened>, scratch: &mut Vec<u8>) {
        for patience in [None, Some(Duration::ZERO)] {
            if let Err(error) = self.sockets.wait(events, patience) {
                error!("waiting for sockets failed: {error}");
                thread::sleep(SWEEP);
            }
            // Most workers of a quiet service never need one.
            scratch.resize(SCRATCH, 0);
            for event in events.drain(..) {
                survive(|| self.event(event, scratch));
            }
        }
    }

    fn keep_deadlines(&self) {
        loop {
            thread::sleep(SWEEP);
            survive(|| {
                self.turns.withdraw_late();
                self.sweep();
            });
        }
    }

    fn event(&self, event: Happened, scratch: &mut [u8]) {
        if event.key == LISTENER_KEY {
            return self.accept();
        }
        // Another worker has it; or the event is that of a connection that is gone.
        let Some(mut connection) = self.parking.take(event.key) else { return };
        if event.ended {
            connection.hear_end();
        }
        self.drive(connection, scratch);
    }

    fn drive(&self, mut connection: Box<Connection>, scratch: &mut [u8]) {
        match connection.advance(scratch) {
            Next::Request(request) => {
                let access = self.access(Some(&request.head), connection.peer());
                let Some(server) = self.itself.upgrade() else { return };
                self.service.respond(*request, Responder::new(server, connection, access));
            }
            Next::Refuse(refusal, head) => {
                let access = self.access(head.as_deref(), connection.peer());
                let reply = self.service.refuse(refusal, head.as_deref(), &access.id);
                debug!(request_id = access.id.as_str(); "refused: {refusal:?}");
                self.finish(connection, reply, &access);
            }
            Next::Wait(interest) => self.park(connection, interest),
            Next::Gone => {}
        }
    }

    fn park(&self, mut connection: Box<Connection>, interest: Interest) {
        while !connection.charge() {
            // Unless it is the heaviest itself.
            if !self.evict_heaviest(connection.burden(Instant::now())) {
                debug!("a connection to {} is closed: no room for what it holds", connection.peer());
                connection.end(CloseReason::Memory);
                return;
            }
        }
        // Armed and put down under one lock: the event finds the connection, and `close` finds what it has to end.
        let mut parked = self.parking.at(connection.lease.place()).lock();
        let missed = std::mem::take(&mut parked.missed);
        if self.closing.load(Ordering::SeqCst) && connection.idle_since().is_some() {
            connection.end(CloseReason::Shutdown);
        } else if connection.park(interest, missed, &self.limits).is_ok() {
            parked.connection = Some(connection);
        }
    }

    /// Closes the parked connection that weighs most on the budget, if it weighs more than this.
    fn evict_heaviest(&self, than: u128) -> bool {
        let now = Instant::now();
        let burden = |spot: &Spot| spot.lock().connection.as_ref().map_or(0, |connection| connection.burden(now));
        let Some((heaviest, spot)) = self.parking.spots().map(|spot| (burden(spot), spot)).max_by_key(|h| h.0) else {
            return false;
        };
        if heaviest <= than {
            return false;
        }
        if let Some(mut connection) = spot.lock().connection.take_if(|connection| connection.burden(now) > than) {
            connection.end(CloseReason::Memory);
            debug!("a connection to {} is closed: it holds too much for too long", connection.peer());
        }
        true
    }

    fn accept(&self) {
        self.listener.accept(|| self.evict_longest_idle(), |socket, peer| self.admit(socket, peer));
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr) {
        let full = self.places.left() <= SPARE_PLACES && !self.evict_longest_idle();
        let Some(lease) = self.places.lease() else {
            METRICS.connections_refused.with_label_values(&["no_place"]).inc();
            return;
        };
        if socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).is_err() {
            return;
        }
        let Ok(socket) = Watched::on_change(socket, &self.sockets) else { return };
        let peer = canonical(peer.ip());
        let mut connection = Box::new(Connection::new(socket, peer, lease, self.budget.share(), &self.limits));
        if full {
            METRICS.connections_refused.with_label_values(&["full"]).inc();
            connection.abandon(CloseReason::Answered);
            let access = self.access(None, peer);
            self.finish(connection, self.service.refuse(RequestError::Overloaded, None, &access.id), &access);
        } else {
            self.park(connection, Interest::Read);
        }
    }

    fn evict_longest_idle(&self) -> bool {
        let idle = |spot: &Spot| spot.lock().connection.as_ref().and_then(|c| c.idle_since());
        let longest = self.parking.spots().filter_map(|spot| idle(spot).map(|since| (since, spot))).min_by_key(|l| l.0);
        let Some((_, spot)) = longest else { return false };
        // Unless it has become busy meanwhile, and then another look would find another one.
        if let Some(mut longest) = spot.lock().connection.take_if(|connection| connection.idle_since().is_some()) {
            longest.end(CloseReason::Evicted);
        }
        true
    }

    fn sweep(&self) {
        // Also when an earlier attempt to accept failed, or met a panic.
        self.listener.listen();
        let mut idle = 0;
        let now = Instant::now();
        for spot in self.parking.spots() {
            let mut parked = spot.lock();
            idle += i64::from(parked.connection.as_ref().is_some_and(|connection| connection.idle_since().is_some()));
            match parked.connection.as_mut().and_then(|connection| connection.expired(now)) {
                None => {}
                Some(Expiry::Drop) => drop(parked.connection.take()),
                Some(Expiry::Refuse) => {
                    let Some(mut connection) = parked.connection.take() else { continue };
                    drop(parked);
                    connection.abandon(CloseReason::RequestTimeout);
                    let access = self.access(None, connection.peer());
                    self.finish(connection, self.service.refuse(RequestError::TimedOut, None, &access.id), &access);
                }
            }
        }
        METRICS.connections.with_label_values(&["idle"]).set(idle);
    }

    fn access(&self, head: Option<&Head>, peer: IpAddr) -> AccessRecord {
        let sent = head.and_then(|head| head.value("x-request-id")).and_then(RequestId::sane);
        let number = || RequestId::numbered(self.process, self.requests.fetch_add(1, Ordering::Relaxed));
        AccessRecord::new(sent.unwrap_or_else(number), head.map(|head| &head.method), peer)
    }
}

/// A panic costs the connection that it met, and not the thread.
fn survive(task: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(task)).is_err() {
        error!("a worker met a panic; what it was doing is given up and the worker goes on");
    }
}

/// An IPv4 client of a socket that takes both families has its IPv4 address.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}
