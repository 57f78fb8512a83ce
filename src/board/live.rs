//! The live feed: every open stream, and the thread that tells them what changed.
//!
//! One thread for all streams. While a stream is open it reads the newest rows five times a second and compares them with the
//! rows that it read before; otherwise it sends no statement. A failed read ends no stream: the next one that succeeds
//! finds all changes.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error};

use super::live_events as events;
use super::live_window::{Changes, MAX_ROWS, Window};
use super::problem::Problem;
use super::responses::NO_STORE;
use crate::http::{Body, Chunk, Responder, Response, StreamSender};
use crate::metrics::METRICS;
use crate::store::{Client, Database, Error};

/// All streams.
pub struct LiveFeed {
    /// Streams that may be open.
    max_streams: usize,
    arrivals: Mutex<Arrivals>,
    arrived: Condvar,
    /// The streams that got what happened since they were opened.
    streams: Mutex<Vec<StreamSender>>,
}

/// The streams that the thread has not taken over yet.
#[derive(Default)]
struct Arrivals {
    list: Vec<Arrival>,
    /// All open streams, as of the last tick.
    open: usize,
    has_ended: bool,
}

/// A new stream.
struct Arrival {
    stream: StreamSender,
    /// What the client sent as `Last-Event-ID`.
    last: LastEventId,
    since: Instant,
}

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastEventId {
    /// With what happens from now on.
    None,
    /// After this message.
    Message(u64),
    /// After something that this service did not send.
    Unknown,
}

/// Time between two reads, which is how late an event may be.
const TICK: Duration = Duration::from_millis(200);
/// The same after a failed read.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Time between two comments that keep proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

impl LiveFeed {
    /// A feed of up to `max_streams` streams.
    pub(super) fn new(max_streams: usize) -> Arc<LiveFeed> {
        METRICS.live_streams_limit.set(max_streams as i64);
        Arc::new(LiveFeed {
            max_streams,
            arrivals: Mutex::default(),
            arrived: Condvar::new(),
            streams: Mutex::default(),
        })
    }

    /// Starts the thread. `wake` is called after it has returned its connection to `database`.
    pub fn start(self: &Arc<Self>, database: Arc<Database>, wake: impl Fn() + Send + 'static) -> io::Result<()> {
        let feed = Arc::clone(self);
        let run = move || feed.run(&database, &wake);
        thread::Builder::new().name("live".to_owned()).spawn(run).map(drop)
    }

    /// Ends all streams, and tells their clients to open another one.
    pub fn end(&self) {
        let mut arrivals = self.lock();
        arrivals.has_ended = true;
        let list = std::mem::take(&mut arrivals.list);
        drop(arrivals);
        let streams = std::mem::take(&mut *lock(&self.streams));
        for stream in list.into_iter().map(|arrival| arrival.stream).chain(streams) {
            send(&stream, &events::goodbye());
        }
    }

    /// Takes a place for one more stream. It must be used for [`LiveFeed::open`].
    pub(super) fn admit(&self) -> Result<(), Problem> {
        let mut arrivals = self.lock();
        if arrivals.has_ended {
            return Err(Problem::ShuttingDown);
        }
        if arrivals.open >= self.max_streams {
            return Err(Problem::TooManyStreams);
        }
        arrivals.open += 1;
        Ok(())
    }

    /// Opens a stream for the request of `responder`, in a place that was taken.
    pub(super) fn open(&self, responder: Responder, last: LastEventId) {
        let since = Instant::now();
        let headers = [("Content-Type", "text/event-stream"), NO_STORE, ("X-Accel-Buffering", "no")];
        let stream = responder.stream(Response::new(200, &headers, Body::whole(events::hello())));
        let mut arrivals = self.lock();
        match stream {
            Some(stream) if arrivals.has_ended => {
                drop(arrivals);
                send(&stream, &events::goodbye());
            }
            Some(stream) => {
                arrivals.list.push(Arrival { stream, last, since });
                METRICS.live_streams.set(arrivals.open as i64);
                drop(arrivals);
                self.arrived.notify_one();
            }
            None => arrivals.open -= 1,
        }
    }

    fn run(&self, database: &Arc<Database>, wake: &impl Fn()) {
        let mut window = None;
        let mut heartbeat = Instant::now();
        loop {
            if self.wait_for_streams() {
                window = None;
            }
            let began = Instant::now();
            let tick = catch_unwind(AssertUnwindSafe(|| self.tick(database, &mut window)));
            wake();
            let pause = match tick {
                Ok(Ok(())) => TICK,
                Ok(Err(cause)) => {
                    debug!("the live feed can't read: {cause}");
                    PAUSE_AFTER_FAILURE
                }
                Err(_) => {
                    error!("a tick of the live feed panicked");
                    PAUSE_AFTER_FAILURE
                }
            };
            METRICS.live_ticks.with_label_values(&[if pause == TICK { "ok" } else { "failed" }]).inc();
            if heartbeat.elapsed() >= HEARTBEAT {
                heartbeat = Instant::now();
                self.send_heartbeat();
            }
            self.forget_closed();
            thread::sleep(pause.saturating_sub(began.elapsed()));
        }
    }

    /// Waits until a stream is open. Returns whether there was none.
    fn wait_for_streams(&self) -> bool {
        let mut arrivals = self.lock();
        let had_none = arrivals.list.is_empty() && lock(&self.streams).is_empty();
        while arrivals.list.is_empty() && lock(&self.streams).is_empty() {
            arrivals = self.arrived.wait(arrivals).unwrap_or_else(PoisonError::into_inner);
        }
        had_none
    }

    /// Sends what changed since the last tick, and to new streams what they missed.
    fn tick(&self, database: &Arc<Database>, before: &mut Option<Window>) -> Result<(), Error> {
        let mut client = database.client()?;
        client.start_deadline(Duration::ZERO);
        let arrivals = std::mem::take(&mut self.lock().list);
        let read = read(&mut client, before.as_ref(), &arrivals);
        drop(client);
        let (window, changed, missed) = match read {
            Ok(read) => read,
            Err(cause) => {
                self.return_arrivals(arrivals);
                return Err(cause);
            }
        };
        *before = Some(window);
        let mut streams = lock(&self.streams);
        streams.iter().for_each(|stream| send(stream, &changed));
        for (arrival, missed) in arrivals.into_iter().zip(&missed) {
            send(&arrival.stream, missed);
            streams.push(arrival.stream);
        }
        drop(streams);
        if self.lock().has_ended {
            self.end();
        }
        Ok(())
    }

    fn return_arrivals(&self, mut list: Vec<Arrival>) {
        let mut arrivals = self.lock();
        list.append(&mut arrivals.list);
        arrivals.list = list;
        let has_ended = arrivals.has_ended;
        drop(arrivals);
        if has_ended {
            self.end();
        }
    }

    fn send_heartbeat(&self) {
        let heartbeat = events::heartbeat();
        self.lock().list.iter().for_each(|arrival| send(&arrival.stream, &heartbeat));
        lock(&self.streams).iter().for_each(|stream| send(stream, &heartbeat));
    }

    fn forget_closed(&self) {
        let mut arrivals = self.lock();
        let mut streams = lock(&self.streams);
        let all = arrivals.list.len() + streams.len();
        arrivals.list.retain(|arrival| arrival.stream.is_open());
        streams.retain(StreamSender::is_open);
        arrivals.open = arrivals.open.saturating_sub(all - arrivals.list.len() - streams.len());
        METRICS.live_streams.set(arrivals.open as i64);
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        lock(&self.arrivals)
    }
}

/// Reads the next window. Returns it with what changed, and with what each of `arrivals` missed.
fn read(
    client: &mut Client,
    before: Option<&Window>,
    arrivals: &[Arrival],
) -> Result<(Window, Chunk, Vec<Chunk>), Error> {
    let window = read_window(client, before)?;
    let changes = match before {
        // More happened than a window holds.
        Some(before) if !window.reaches(before.mark()) => None,
        Some(before) => Some(before.changes(&window)).filter(Changes::is_small),
        None => Some(Changes::default()),
    };
    let missed: Vec<Option<Vec<u64>>> =
        arrivals.iter().map(|arrival| arrival.missed(&window, changes.as_ref())).collect();
    let mut ids: Vec<u64> =
        changes.iter().flat_map(Changes::with_text).chain(missed.iter().flatten().flatten().copied()).collect();
    ids.sort_unstable();
    ids.dedup();
    let texts = client.by_ids(&ids)?;
    let changed = changes.map_or_else(events::reset, |changes| events::changes(&changes, &texts));
    let mut replays: Vec<(&Option<Vec<u64>>, Chunk)> = Vec::new();
    let mut chunks = Vec::with_capacity(missed.len());
    for missed in &missed {
        // Clients that reconnect together missed the same.
        let known = replays.iter().rev().find(|(known, _)| *known == missed).map(|(_, chunk)| Arc::clone(chunk));
        let chunk = known.unwrap_or_else(|| {
            let chunk = missed.as_ref().map_or_else(events::reset, |ids| events::messages(ids, &texts));
            replays.push((missed, Arc::clone(&chunk)));
            chunk
        });
        chunks.push(chunk);
    }
    Ok((window, changed, chunks))
}

fn read_window(client: &mut Client, before: Option<&Window>) -> Result<Window, Error> {
    let expected = before.map_or(super::live_window::MIN_ROWS, Window::expected_rows);
    let rows = client.live_window(expected)?;
    let window = Window::new(&rows, expected, before, Instant::now());
    if before.is_none_or(|before| window.reaches(before.mark())) {
        return Ok(window);
    }
    let rows = client.live_window(MAX_ROWS)?;
    let window = Window::new(&rows, MAX_ROWS, before, Instant::now());
    // The clients load all messages now, so that the next window need not reach as far down as this one.
    let is_complete = before.is_none_or(|before| window.reaches(before.mark()));
    Ok(if is_complete { window } else { Window::new(&rows, MAX_ROWS, None, Instant::now()) })
}

impl Arrival {
    /// The ids of the messages that the client has not got, or None when they are unknown or too many.
    fn missed(&self, window: &Window, changes: Option<&Changes>) -> Option<Vec<u64>> {
        let ids = match self.last {
            LastEventId::None => window.since(self.since.elapsed(), changes.map_or(&[], |changes| &changes.added)),
            LastEventId::Message(id) => window.after(id)?,
            LastEventId::Unknown => return None,
        };
        (ids.len() <= events::MAX_MESSAGES).then_some(ids)
    }
}

/// Sends, and counts the client that is dropped because it is too slow.
fn send(stream: &StreamSender, chunk: &Chunk) {
    if !stream.send(chunk) {
        METRICS.live_streams_dropped.inc();
    }
}

/// A panic under these locks leaves nothing half-changed, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
