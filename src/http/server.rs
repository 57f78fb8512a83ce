//! The server: the event loop of all connections, which every worker may run.
//!
//! A worker that polls handles the events that it gets: a request passes from no thread to another before its handler.
//! Workers never block on a socket; a connection that can't continue rests in the table until its next event. One more
//! thread, the sweeper, checks deadlines. The server does not know what a request means.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error};

use super::access_log::{AccessLog, AccessRecord};
use super::close_reason::CloseReason;
use super::connection::{Connection, Expiry, Next};
use super::connections::ConnectionTable;
use super::error::RequestError;
use super::handler::Handler;
use super::head::Head;
use super::limits::{Limits, MAX_BUFFERED_BYTES, OVERFLOW_SLOTS};
use super::listener::{LISTENER_KEY, Listener};
use super::memory_budget::MemoryBudget;
use super::poll::{Event, Interest, Mode, Poller, Registered};
use super::request::RequestId;
use super::responder::{Responder, ResponseSink};
use super::response::Response;
use super::scheduler::{PollPermits, Task};
use super::slots::{NotAdmitted, SlotLimits, Slots};
use super::stage::StageName;
use super::stream::{StreamBuffer, StreamSink};
use crate::metrics::METRICS;

/// How often deadlines are checked, which is how late a time-out may be.
const SWEEP_INTERVAL: Duration = Duration::from_millis(200);
/// The size of a worker's read buffer.
const SCRATCH: usize = 16 * 1024;
/// Connections that a worker accepts at most before it handles other events.
const MAX_ACCEPTS: usize = 64;
/// The time that idle connections have, after accepting has ended, to send one more request.
const IDLE_AFTER_CLOSE: Duration = Duration::from_secs(1);

/// All connections.
pub struct Server {
    poller: Arc<Poller>,
    permits: PollPermits,
    handler: Box<dyn Handler>,
    limits: Limits,
    /// Header lines of every response, each with its CRLF.
    common: String,
    access_log: Option<AccessLog>,
    listener: Listener,
    slots: Arc<Slots>,
    table: ConnectionTable,
    budget: Arc<MemoryBudget>,
    /// Every response closes its connection.
    stopping: AtomicBool,
    /// Set when accepting has ended: from then on idle connections are closed.
    close_idle_at: OnceLock<Instant>,
    process: u32,
    requests: AtomicU64,
}

impl Server {
    /// A server that listens on `listener` and passes requests to `handler`. `common` are headers of every response.
    /// Without an `access_log` requests are only counted.
    pub fn new(
        listener: TcpListener,
        handler: Box<dyn Handler>,
        limits: Limits,
        common: &[(&str, &str)],
        access_log: Option<AccessLog>,
    ) -> io::Result<Arc<Server>> {
        let poller = Poller::new()?;
        let listener = Listener::new(listener, &poller)?;
        let slots = Slots::new(SlotLimits {
            connections: limits.max_connections,
            overflow: OVERFLOW_SLOTS,
            per_client: limits.max_connections_per_client,
            exempt: limits.exempt_clients.clone(),
        });
        CloseReason::init_counters();
        METRICS.connections_limit.set(limits.max_connections as i64);
        METRICS.connections_per_client_limit.set(limits.max_connections_per_client as i64);
        Ok(Arc::new(Server {
            poller,
            permits: PollPermits::new(limits.listeners),
            handler,
            limits,
            common: common.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect(),
            access_log,
            listener,
            table: ConnectionTable::new(Arc::clone(&slots)),
            slots,
            budget: MemoryBudget::new(MAX_BUFFERED_BYTES),
            stopping: AtomicBool::new(false),
            close_idle_at: OnceLock::new(),
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

    /// Begins to accept connections, and starts the thread that checks their deadlines.
    pub fn open(self: &Arc<Server>) -> io::Result<()> {
        let server = Arc::clone(self);
        thread::Builder::new().name("sweeper".to_owned()).spawn(move || server.keep_sweeping())?;
        self.listener.arm();
        Ok(())
    }

    /// From now on every response says that its connection is closed, and closes it.
    pub fn announce_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Lets the kernel ignore new connections. Those that it has begun to open are still accepted until
    /// [`Server::close`].
    pub fn ignore_new_connections(&self) {
        self.listener.ignore_new();
    }

    /// Ends accepting, after the connections that wait for it. Connections end after their next response, idle ones a
    /// second later at the latest. Calls `on_empty` when the last connection is closed.
    pub fn close(&self, on_empty: impl FnOnce() + Send + 'static) {
        self.announce_stop();
        self.listener.close(|socket, peer| self.admit(socket, peer));
        let _ = self.close_idle_at.set(Instant::now() + IDLE_AFTER_CLOSE);
        self.slots.when_empty(Box::new(on_empty));
    }

    /// Wakes a worker to run what is queued.
    pub fn wake_worker(&self) {
        self.permits.wake_helper();
    }

    fn work(self: &Arc<Self>, number: usize) {
        let mut scratch = Vec::new();
        let mut events = Vec::new();
        let mut permit = self.permits.join(number);
        loop {
            match permit.next_task() {
                Task::Poll => self.poll(&mut events, &mut scratch),
                Task::Help => {}
            }
            catch_panic(|| self.handler.run_queued(&mut permit));
        }
    }

    /// Waits for events and handles them. All their requests share the next batches.
    fn poll(self: &Arc<Self>, events: &mut Vec<Event>, scratch: &mut Vec<u8>) {
        if let Err(error) = self.poller.wait(events) {
            error!("waiting for sockets failed: {error}");
            thread::sleep(SWEEP_INTERVAL);
        }
        // Most workers of a quiet service never need the buffer.
        scratch.resize(SCRATCH, 0);
        for event in events.drain(..) {
            catch_panic(|| self.event(event, scratch));
        }
    }

    fn event(self: &Arc<Self>, event: Event, scratch: &mut [u8]) {
        if event.key == LISTENER_KEY {
            // A request that has arrived on a new connection is read before later connections can evict it.
            let most = MAX_ACCEPTS.min(self.limits.max_connections / 4).max(1);
            return self.listener.accept(most, || self.table.evict(), |socket, peer| self.admit(socket, peer));
        }
        // Another worker has it, or the event is of a connection that is closed.
        let Some(mut connection) = self.table.take(event.key) else { return };
        if event.read_closed {
            connection.set_read_closed();
        }
        self.drive(connection, scratch);
    }

    fn drive(self: &Arc<Self>, mut connection: Box<Connection>, scratch: &mut [u8]) {
        match connection.advance(scratch) {
            Next::Request(request) => {
                let access = self.record(Some(&request.head), connection.peer());
                let sink = Arc::clone(self) as Arc<dyn ResponseSink>;
                self.handler.respond(*request, Responder::new(sink, connection, access));
            }
            Next::Refuse(error, head) => self.refuse(connection, error, head.as_deref()),
            Next::Wait(interest) => self.park(connection, interest),
            Next::Gone => {}
        }
    }

    fn park(&self, mut connection: Box<Connection>, interest: Interest) {
        while !connection.reserve_memory() {
            // Unless it has the highest score itself.
            if !self.table.evict_heaviest(connection.memory_score(Instant::now())) {
                debug!("a connection to {} is closed: it holds too much memory", connection.peer());
                connection.set_close_reason(CloseReason::Memory);
                return;
            }
        }
        // Armed and stored under one lock, so that the event finds the connection.
        let mut entry = self.table.entry(connection.index());
        let missed_event = std::mem::take(&mut entry.missed_event);
        if connection.stage().is_idle() && self.close_idle_at.get().is_some_and(|at| Instant::now() >= *at) {
            connection.set_close_reason(CloseReason::Shutdown);
            // Dropping it frees the slot, which another thread may then use.
            drop(entry);
        } else if connection.park(connection.interest(interest), missed_event, &self.limits).is_ok() {
            entry.connection = Some(connection);
        }
    }

    fn admit(&self, socket: TcpStream, peer: SocketAddr) {
        // A client of IPv4 on a socket of both families.
        let client = peer.ip().to_canonical();
        let (slot, refused) = match self.table.admit(client) {
            Ok(slot) => (Some(slot), false),
            Err(reason) => {
                let reason = match reason {
                    NotAdmitted::ClientLimit => "client_limit",
                    NotAdmitted::Full => "full",
                };
                METRICS.connections_refused.with_label_values(&[reason]).inc();
                (self.slots.admit_overflow(), true)
            }
        };
        let Some(slot) = slot else { return };
        if socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).is_err() {
            return;
        }
        let Ok(socket) = Registered::new(socket, &self.poller, Mode::Edge) else { return };
        let mut connection = Box::new(Connection::new(socket, client, slot, self.budget.reservation(), &self.limits));
        if refused {
            connection.abandon(CloseReason::Answered);
            self.refuse(connection, RequestError::Overloaded, None);
        } else {
            self.park(connection, Interest::Read);
        }
    }

    fn keep_sweeping(&self) {
        loop {
            thread::sleep(SWEEP_INTERVAL);
            catch_panic(|| {
                self.permits.retake();
                self.sweep();
            });
        }
    }

    fn sweep(&self) {
        // Also when an earlier attempt to accept failed, or met a panic.
        self.listener.arm();
        let now = Instant::now();
        let close_idle = self.close_idle_at.get().is_some_and(|at| now >= *at);
        let mut stages = [0; StageName::ALL.len()];
        for mut entry in self.table.entries() {
            let Some(connection) = &mut entry.connection else { continue };
            stages[connection.stage().name() as usize] += 1;
            match connection.expired(now, &self.limits) {
                None if close_idle && connection.stage().is_idle() => {
                    // A worker checks once more whether a request has arrived, and then closes it.
                    let _ = connection.arm(Interest::Write);
                }
                None => {}
                Some(Expiry::Drop) => {
                    let expired = entry.connection.take();
                    drop(entry);
                    drop(expired);
                }
                Some(Expiry::Refuse) => {
                    let Some(mut connection) = entry.connection.take() else { continue };
                    drop(entry);
                    let head = connection.abandon(CloseReason::RequestTimeout);
                    self.refuse(connection, RequestError::TimedOut, head.as_deref());
                }
            }
        }
        self.count_stages(&stages);
    }

    fn count_stages(&self, stages: &[usize]) {
        let set = |state: &str, count: usize| METRICS.connections.with_label_values(&[state]).set(count as i64);
        StageName::ALL.iter().zip(stages).for_each(|(stage, count)| set(stage.as_str(), *count));
        // The others are with a handler, or a worker has them for a moment.
        set("handling", self.slots.len().saturating_sub(stages.iter().sum()));
    }

    fn refuse(&self, connection: Box<Connection>, error: RequestError, head: Option<&Head>) {
        let access = self.record(head, connection.peer());
        let response = self.handler.refuse(error, head, &access.id);
        debug!(request_id = access.id.as_str(); "refused: {error:?}");
        self.finish(connection, response, &access);
    }

    fn record(&self, head: Option<&Head>, peer: IpAddr) -> AccessRecord {
        let sent = head.and_then(|head| head.value("x-request-id")).and_then(RequestId::sane);
        let number = || RequestId::numbered(self.process, self.requests.fetch_add(1, Ordering::Relaxed));
        let client = head.map_or(peer, |head| self.handler.client(head, peer));
        AccessRecord::new(sent.unwrap_or_else(number), head, client, self.access_log.as_ref())
    }
}

impl ResponseSink for Server {
    fn finish(&self, mut connection: Box<Connection>, response: Response, access: &AccessRecord) {
        access.answered(&response, self.access_log.as_ref());
        let keep = !self.stopping.load(Ordering::SeqCst);
        match connection.send(response, [&self.common, access.id.line()], keep) {
            Next::Wait(interest) => self.park(connection, interest),
            Next::Request(_) | Next::Refuse(..) | Next::Gone => {}
        }
    }

    fn open_stream(
        &self,
        mut connection: Box<Connection>,
        response: Response,
        access: &AccessRecord,
    ) -> Option<(usize, Arc<StreamBuffer>)> {
        access.answered(&response, self.access_log.as_ref());
        let index = connection.index();
        let (next, stream) = connection.send_stream(response, [&self.common, access.id.line()]);
        if let Next::Wait(interest) = next {
            self.park(connection, interest);
        }
        stream.map(|stream| (index, stream))
    }

    fn handler_dropped(&self, id: &RequestId) -> Response {
        self.handler.refuse(RequestError::HandlerDropped, None, id)
    }
}

impl StreamSink for Server {
    fn flush(&self, index: usize, stream: &Arc<StreamBuffer>) {
        // A thread that works on the connection finds the bytes when it stores the connection.
        let taken = self.table.entry(index).connection.take_if(|connection| connection.has_stream(stream));
        let Some(mut connection) = taken else { return };
        if let Next::Wait(interest) = connection.flush_stream() {
            self.park(connection, interest);
        }
    }
}

/// A panic costs one connection, and not the thread.
fn catch_panic(task: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(task)).is_err() {
        error!("a worker panicked; its task is dropped and the worker continues");
    }
}
