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
    /// Places that were taken for streams that are not opened yet.
    opening: usize,
    /// All places that are taken, as of the last tick.
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

/// When the last heartbeat was sent.
struct Heartbeat(Instant);

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
/// The longest time between two comments, which keep proxies from closing a quiet stream.
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
        arrivals.opening += 1;
        arrivals.open += 1;
        Ok(())
    }

    /// Opens a stream for the request of `responder`, in a place that was taken.
    pub(super) fn open(&self, responder: Responder, last: LastEventId) {
        let since = Instant::now();
        let headers = [("Content-Type", "text/event-stream"), NO_STORE, ("X-Accel-Buffering", "no")];
        self.add(responder.stream(Response::new(200, &headers, Body::whole(events::hello()))), last, since);
    }

    /// Takes over a stream that was opened, or gives its place back.
    fn add(&self, stream: Option<StreamSender>, last: LastEventId, since: Instant) {
        let mut arrivals = self.lock();
        arrivals.opening -= 1;
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
        let mut heartbeat = Heartbeat(Instant::now());
        loop {
            if self.wait_for_streams() {
                window = None;
            }
            let began = Instant::now();
            let pause = pause_after(|| self.tick(database, &mut window));
            wake();
            if heartbeat.is_due(Instant::now()) {
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

    /// Counts anew what exists, because a tick that panics drops its arrivals.
    fn forget_closed(&self) {
        let mut arrivals = self.lock();
        let mut streams = lock(&self.streams);
        arrivals.list.retain(|arrival| arrival.stream.is_open());
        streams.retain(StreamSender::is_open);
        arrivals.open = arrivals.opening + arrivals.list.len() + streams.len();
        METRICS.live_streams.set(arrivals.open as i64);
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        lock(&self.arrivals)
    }
}

/// Runs a tick, and returns the time to the next one.
fn pause_after(tick: impl FnOnce() -> Result<(), Error>) -> Duration {
    let pause = match catch_unwind(AssertUnwindSafe(tick)) {
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
    pause
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

impl Heartbeat {
    /// Whether it must be sent now, because the next tick may be too late for it. Then it counts as sent.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now + PAUSE_AFTER_FAILURE >= self.0 + HEARTBEAT;
        if due {
            self.0 = now;
        }
        due
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::TestStream;

    /// Opens a stream in a place that was taken.
    fn open(feed: &LiveFeed) -> TestStream {
        let (sender, stream) = TestStream::open();
        feed.add(Some(sender), LastEventId::None, Instant::now());
        stream
    }

    fn admit(feed: &LiveFeed) -> bool {
        feed.admit().is_ok()
    }

    #[test]
    fn every_place_is_free_again_after_its_stream_however_it_ends() {
        let feed = LiveFeed::new(3);
        for round in 0..3 {
            assert!(admit(&feed) && admit(&feed) && admit(&feed), "round {round}");
            assert!(!admit(&feed), "no more than the limit");
            feed.forget_closed();
            assert!(!admit(&feed), "a place that is not used yet is taken all the same");
            let arrival = open(&feed);
            let closed = open(&feed);
            feed.add(None, LastEventId::None, Instant::now());
            assert!(admit(&feed), "a HEAD request opens no stream");
            feed.add(None, LastEventId::None, Instant::now());
            drop(closed);
            // The tick took the arrivals, and panicked before they were among the streams.
            let pause = pause_after(|| {
                drop(std::mem::take(&mut feed.lock().list));
                panic!("on purpose");
            });
            assert_eq!(pause, PAUSE_AFTER_FAILURE);
            assert!(arrival.has_ended(), "its client opens another one");
            drop(arrival);
            feed.forget_closed();
        }
    }

    #[test]
    fn a_heartbeat_reaches_every_stream() {
        let feed = LiveFeed::new(2);
        assert!(admit(&feed) && admit(&feed));
        let (old, new) = (open(&feed), open(&feed));
        let first = feed.lock().list.remove(0).stream;
        lock(&feed.streams).push(first);
        feed.send_heartbeat();
        assert_eq!([old.text(), new.text()], [": heartbeat\n\n"; 2]);
    }

    #[test]
    fn heartbeats_come_within_their_time_whatever_the_ticks_last() {
        for pause in [TICK, PAUSE_AFTER_FAILURE, Duration::from_millis(730)] {
            let mut now = Instant::now();
            let (mut heartbeat, mut last, mut sent) = (Heartbeat(now), now, 0);
            for _ in 0..1000 {
                now += pause;
                if heartbeat.is_due(now) {
                    (last, sent) = (now, sent + 1);
                }
                assert!(now - last <= HEARTBEAT, "{pause:?}");
            }
            assert!(
                sent <= 1000 * pause.as_millis() / (HEARTBEAT - 2 * PAUSE_AFTER_FAILURE).as_millis(),
                "{sent} of {pause:?}"
            );
        }
    }
}
