//! The live feed: every open stream, and the thread that sends them what changed.
//!
//! One thread for all streams, and one for their heartbeats. While a stream is open, the first one reads the newest rows
//! five times a second and compares them with the rows that it read before; otherwise it sends no statement. A failed read
//! ends no stream: the next one that succeeds finds all changes. The first stream is opened after a read, so that the next
//! one finds what changes from then on.

use std::cell::LazyCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, error};

use super::live_events as events;
pub(super) use super::live_read::LastEventId;
use super::live_read::{Found, read};
use super::live_window::Window;
use super::problem::Problem;
use super::responses::NO_STORE;
use crate::http::{Body, Chunk, Responder, Response, StreamSender};
use crate::metrics::METRICS;
use crate::store::{Database, Error};

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
    /// Whether reads follow each other, so that the next one finds what changes from now on.
    is_watching: bool,
    /// Places that were taken for streams that have not arrived yet.
    opening: usize,
    /// All places that are taken, as of the last tick.
    open: usize,
    has_ended: bool,
}

/// A new stream.
struct Arrival {
    stream: ArrivalStream,
    /// What the client sent as `Last-Event-ID`.
    last: LastEventId,
}

enum ArrivalStream {
    /// It gets what the next read finds.
    Open(StreamSender),
    /// It is opened after the next read.
    Waiting(Opening),
}

/// Opens a stream. There is none for a HEAD request.
type Opening = Box<dyn FnOnce() -> Option<StreamSender> + Send>;

/// Time between two reads, which is how late an event may be.
const TICK: Duration = Duration::from_millis(200);
/// The same after a failed read.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Time between two comments, which keep proxies from closing a quiet stream. A second less than what clients rely on.
const HEARTBEAT: Duration = Duration::from_secs(14);

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

    /// Starts the threads. `wake` is called when one has returned its connection to `database`.
    pub fn start(self: &Arc<Self>, database: Arc<Database>, wake: impl Fn() + Send + 'static) -> io::Result<()> {
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        let feed = Arc::clone(self);
        // A thread of its own, because a read may wait for the database longer than clients wait for a heartbeat.
        thread("heartbeat").spawn(move || feed.send_heartbeats(HEARTBEAT))?;
        let feed = Arc::clone(self);
        thread("live").spawn(move || feed.run(&database, &wake)).map(drop)
    }

    /// Ends all streams, and tells their clients to open another one.
    pub fn end(&self) {
        let mut arrivals = self.lock();
        arrivals.has_ended = true;
        let list = std::mem::take(&mut arrivals.list);
        drop(arrivals);
        let streams = std::mem::take(&mut *lock(&self.streams));
        for stream in list.into_iter().filter_map(Arrival::open).chain(streams) {
            send(&stream, &events::goodbye(), 0);
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
        let headers = [("Content-Type", "text/event-stream"), NO_STORE, ("X-Accel-Buffering", "no")];
        let response = Response::new(200, &headers, Body::shared(events::hello()));
        self.add(Box::new(|| responder.stream(response)), last);
    }

    fn add(&self, opening: Opening, last: LastEventId) {
        let mut arrivals = self.lock();
        arrivals.opening -= 1;
        if arrivals.has_ended {
            drop(arrivals);
            opening().iter().for_each(|stream| send(stream, &events::goodbye(), 0));
            return;
        }
        let stream = if arrivals.is_watching {
            // Under the lock: a read that begins after the client got its first byte must find the stream here.
            opening().map(ArrivalStream::Open)
        } else {
            Some(ArrivalStream::Waiting(opening))
        };
        match stream {
            Some(stream) => {
                arrivals.list.push(Arrival { stream, last });
                METRICS.live_streams.set(arrivals.open as i64);
                drop(arrivals);
                self.arrived.notify_one();
            }
            None => arrivals.open -= 1,
        }
    }

    fn run(&self, database: &Arc<Database>, wake: &impl Fn()) {
        let mut window = None;
        loop {
            self.wait_for_streams();
            let began = Instant::now();
            let pause = pause_after(|| self.tick(database, &mut window, wake));
            self.forget_closed();
            thread::sleep(pause.saturating_sub(began.elapsed()));
        }
    }

    /// Waits until there is a stream.
    fn wait_for_streams(&self) {
        let mut arrivals = self.lock();
        while arrivals.list.is_empty() && lock(&self.streams).is_empty() {
            arrivals = self.arrived.wait(arrivals).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Sends what changed since the last tick, and to new streams what they missed.
    fn tick(&self, database: &Arc<Database>, last: &mut Option<Window>, wake: &impl Fn()) -> Result<(), Error> {
        let found = self.read(database, last.as_ref());
        wake();
        let result = match found {
            Ok(found) => {
                self.send_found(&found);
                *last = Some(found.window);
                Ok(())
            }
            Err(cause) => {
                self.open_without_read();
                Err(cause)
            }
        };
        if self.lock().has_ended {
            self.end();
        }
        result
    }

    fn read(&self, database: &Arc<Database>, last: Option<&Window>) -> Result<Found, Error> {
        let mut client = database.client()?;
        client.start_deadline(Duration::ZERO);
        let is_watching = self.lock().is_watching;
        read(&mut client, last, is_watching, || self.lock().list.iter().map(|arrival| arrival.last).collect())
    }

    /// Sends what was found to all streams, and takes over the arrivals that the read considered.
    fn send_found(&self, found: &Found) {
        let reset = LazyCell::new(events::reset);
        let mut arrivals = self.lock();
        arrivals.is_watching = true;
        let considered = found.positions.len().min(arrivals.list.len());
        let list: Vec<Arrival> = arrivals.list.drain(..considered).collect();
        // Before the arrivals are released: each stream counts all the time.
        let mut streams = lock(&self.streams);
        drop(arrivals);
        for stream in streams.iter() {
            match &found.changed {
                Some(changed) => send(stream, &changed.chunk, 0),
                None => send(stream, &reset, 0),
            }
        }
        for (arrival, position) in list.into_iter().zip(&found.positions) {
            let is_open = matches!(arrival.stream, ArrivalStream::Open(_));
            let is_new = arrival.last == LastEventId::None;
            let Some(stream) = arrival.open() else { continue };
            match (position, &found.changed) {
                // It is opened after the read.
                (Some(position), _) if !is_open => send(&stream, &found.replay, *position),
                (Some(_), Some(changed)) if is_new => send(&stream, &changed.chunk, 0),
                (Some(position), Some(changed)) => {
                    send(&stream, &found.replay, *position);
                    send(&stream, &changed.chunk, changed.edits);
                }
                (None, _) | (_, None) => send(&stream, &reset, 0),
            }
            streams.push(stream);
        }
    }

    /// Opens what waits for a read, which failed. The next one that succeeds does not know what changed meanwhile.
    fn open_without_read(&self) {
        let mut arrivals = self.lock();
        if !arrivals.is_watching {
            let list = std::mem::take(&mut arrivals.list);
            let mut streams = lock(&self.streams);
            drop(arrivals);
            streams.extend(list.into_iter().filter_map(Arrival::open));
        }
    }

    /// Sends a heartbeat in each `interval`, until the feed ends.
    fn send_heartbeats(&self, interval: Duration) {
        while !self.lock().has_ended {
            thread::sleep(interval);
            self.send_heartbeat();
            self.forget_closed();
        }
    }

    fn send_heartbeat(&self) {
        let heartbeat = events::heartbeat();
        for arrival in &self.lock().list {
            if let ArrivalStream::Open(stream) = &arrival.stream {
                send(stream, &heartbeat, 0);
            }
        }
        lock(&self.streams).iter().for_each(|stream| send(stream, &heartbeat, 0));
    }

    /// Counts anew what exists, because a tick that panics drops its arrivals.
    fn forget_closed(&self) {
        let mut arrivals = self.lock();
        let mut streams = lock(&self.streams);
        arrivals.list.retain(|arrival| match &arrival.stream {
            ArrivalStream::Open(stream) => stream.is_open(),
            ArrivalStream::Waiting(_) => true,
        });
        streams.retain(StreamSender::is_open);
        // Without a stream no read follows this one soon.
        arrivals.is_watching &= !arrivals.list.is_empty() || !streams.is_empty();
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

impl Arrival {
    /// Its stream, which is opened now if it waited for that.
    fn open(self) -> Option<StreamSender> {
        match self.stream {
            ArrivalStream::Open(stream) => Some(stream),
            ArrivalStream::Waiting(opening) => opening(),
        }
    }
}

/// Sends `chunk` from `start` on, and counts the client that is dropped because it is too slow.
fn send(stream: &StreamSender, chunk: &Chunk, start: usize) {
    if !stream.send(chunk, start) {
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
    use crate::board::live_events::Changed;
    use crate::http::TestStream;

    /// Adds a stream in a place that was taken.
    fn add(feed: &LiveFeed, last: LastEventId) -> TestStream {
        let (sender, stream) = TestStream::open();
        feed.add(Box::new(|| Some(sender)), last);
        stream
    }

    fn admit(feed: &LiveFeed) -> bool {
        feed.admit().is_ok()
    }

    /// What a read found that considered the first `arrivals`.
    fn found(changed: Option<(&str, &str)>, arrivals: &[Option<usize>]) -> Found {
        let chunk = |text: String| Chunk::from(text.into_bytes());
        let changed = changed
            .map(|(messages, edits)| Changed { chunk: chunk(format!("{messages}{edits}")), edits: messages.len() });
        let window = Window::new(&[], 1, None, Instant::now());
        Found { window, changed, replay: chunk("old, missed, ".to_owned()), positions: arrivals.to_vec() }
    }

    #[test]
    fn every_place_is_free_again_after_its_stream_however_it_ends() {
        let feed = LiveFeed::new(3);
        for round in 0..3 {
            assert!(admit(&feed) && admit(&feed) && admit(&feed), "round {round}");
            assert!(!admit(&feed), "no more than the limit");
            feed.forget_closed();
            assert!(!admit(&feed), "a place that is not used yet is taken all the same");
            feed.lock().is_watching = true;
            let arrival = add(&feed, LastEventId::None);
            let closed = add(&feed, LastEventId::None);
            feed.add(Box::new(|| None), LastEventId::None);
            assert!(admit(&feed), "a HEAD request opens no stream");
            feed.add(Box::new(|| None), LastEventId::None);
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
    fn a_stream_gets_what_changed_after_its_opening_and_what_it_missed_before() {
        let feed = LiveFeed::new(9);
        assert!((0..7).all(|_| admit(&feed)));
        let first =
            [add(&feed, LastEventId::None), add(&feed, LastEventId::Message(1)), add(&feed, LastEventId::Unknown)];
        let late = add(&feed, LastEventId::None);
        let texts = |streams: &[TestStream]| streams.iter().map(TestStream::text).collect::<Vec<_>>();
        let reset = "event: reset\ndata: {}\n\n";
        feed.send_found(&found(None, &[Some(13), Some(5), None]));
        assert_eq!(texts(&first), ["", "missed, ", reset], "they are opened after the read");
        let next =
            [add(&feed, LastEventId::None), add(&feed, LastEventId::Message(1)), add(&feed, LastEventId::Unknown)];
        feed.send_found(&found(Some(("new, ", "edit")), &[Some(13), Some(13), Some(5), None]));
        assert_eq!(texts(&first), ["new, edit"; 3]);
        assert_eq!(texts(&next), ["new, edit", "missed, edit", reset]);
        assert_eq!(late.text(), "", "it waited for the read");
        assert!((0..2).all(|_| admit(&feed)));
        let last = [add(&feed, LastEventId::None), add(&feed, LastEventId::Message(1))];
        feed.send_found(&found(None, &[Some(13), Some(5)]));
        assert_eq!(texts(&last), [reset; 2], "what changed after their opening is unknown");
        assert_eq!(late.text(), reset);
    }

    #[test]
    fn streams_are_opened_without_a_read_when_it_fails() {
        let feed = LiveFeed::new(2);
        assert!(admit(&feed) && admit(&feed));
        let stream = add(&feed, LastEventId::None);
        feed.open_without_read();
        assert_eq!((lock(&feed.streams).len(), feed.lock().is_watching), (1, false));
        feed.send_found(&found(None, &[]));
        assert_eq!(stream.text(), "event: reset\ndata: {}\n\n");
        let _open = add(&feed, LastEventId::None);
        feed.open_without_read();
        assert_eq!(feed.lock().list.len(), 1, "it gets what the next read finds");
    }

    #[test]
    fn a_stop_ends_also_the_streams_that_wait_for_a_read() {
        let feed = LiveFeed::new(3);
        assert!(admit(&feed) && admit(&feed) && admit(&feed));
        let waiting = add(&feed, LastEventId::None);
        feed.lock().is_watching = true;
        let open = add(&feed, LastEventId::None);
        feed.end();
        let late = add(&feed, LastEventId::None);
        for stream in [waiting, open, late] {
            assert_eq!((stream.text().as_str(), stream.has_ended()), ("retry: 1000\n\n", true));
        }
        assert!(!admit(&feed));
    }

    #[test]
    fn a_heartbeat_reaches_every_stream() {
        let feed = LiveFeed::new(2);
        assert!(admit(&feed) && admit(&feed));
        let old = add(&feed, LastEventId::None);
        feed.send_found(&found(None, &[Some(13)]));
        let new = add(&feed, LastEventId::None);
        feed.send_heartbeat();
        assert_eq!([old.text(), new.text()], [": heartbeat\n\n"; 2]);
    }

    #[test]
    fn heartbeats_are_sent_while_no_tick_ends_and_no_longer_than_the_feed() {
        let feed = LiveFeed::new(1);
        assert!(admit(&feed));
        feed.lock().is_watching = true;
        let stream = add(&feed, LastEventId::None);
        let mut text = String::new();
        thread::scope(|threads| {
            let heartbeats = threads.spawn(|| feed.send_heartbeats(Duration::from_millis(1)));
            let deadline = Instant::now() + Duration::from_secs(10);
            while text.is_empty() && Instant::now() < deadline {
                text = stream.text();
                thread::yield_now();
            }
            feed.end();
            heartbeats.join().expect("no panic");
        });
        assert!(text.starts_with(": heartbeat\n\n") && stream.has_ended(), "{text}");
    }
}
