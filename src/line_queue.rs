//! Lines on their way to stderr or stdout. One thread writes them, so a slow reader never delays a request.
//!
//! The queue is bounded in bytes. Lines that do not fit are dropped, counted, and reported later.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use crate::metrics::METRICS;

/// The end of a queue that takes lines.
#[derive(Clone)]
pub struct LineQueue {
    entries: Sender<Entry>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Bytes of the lines that are not written yet.
    waiting_bytes: AtomicUsize,
    /// Lines that found the queue full and are not reported yet.
    dropped: AtomicU64,
}

enum Entry {
    Line(Vec<u8>),
    /// Answered when all entries before it are written.
    Flush(SyncSender<()>),
}

/// The end of a queue from which lines are written.
struct LineWriter<R> {
    received: Receiver<Entry>,
    counts: Arc<Counts>,
    report: R,
}

/// Bytes of lines that may wait for the thread that writes them.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Lines that wait are written together, up to about this size.
const MAX_WRITE: usize = 64 * 1024;
/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl LineQueue {
    /// Starts the thread called `name`, which writes lines to `out`. When lines were dropped, `report` gets their number
    /// and returns a line about them, or nothing if it reports them elsewhere.
    pub fn start(
        name: &str,
        out: impl Write + Send + 'static,
        report: impl FnMut(u64) -> Vec<u8> + Send + 'static,
    ) -> io::Result<LineQueue> {
        let (queue, writer) = LineQueue::new(report);
        thread::Builder::new().name(name.to_owned()).spawn(move || writer.run(out))?;
        Ok(queue)
    }

    fn new<R: FnMut(u64) -> Vec<u8>>(report: R) -> (LineQueue, LineWriter<R>) {
        let (entries, received) = channel();
        let counts = Arc::<Counts>::default();
        (LineQueue { entries, counts: Arc::clone(&counts) }, LineWriter { received, counts, report })
    }

    /// Queues a line, which ends with a newline. Never waits.
    pub fn send(&self, line: Vec<u8>) {
        let bytes = line.len();
        let waiting = self.counts.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > MAX_WAITING_BYTES {
            self.counts.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            METRICS.log_lines_dropped.inc();
            return;
        }
        // The receiver lives as long as the process.
        let _ = self.entries.send(Entry::Line(line));
    }

    /// Waits until all lines that were sent so far are written, for one second at most.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.entries.send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl<R: FnMut(u64) -> Vec<u8>> LineWriter<R> {
    /// Writes until the last queue is dropped.
    fn run(mut self, mut out: impl Write) {
        let mut text = Vec::new();
        while let Ok(first) = self.received.recv() {
            let mut flushed = None;
            for entry in std::iter::once(first).chain(self.received.try_iter()) {
                match entry {
                    Entry::Line(line) => text.extend_from_slice(&line),
                    Entry::Flush(done) => flushed = Some(done),
                }
                if flushed.is_some() || text.len() >= MAX_WRITE {
                    break;
                }
            }
            // Nothing can be done about an output that can't be written.
            let _ = out.write_all(&text);
            self.counts.waiting_bytes.fetch_sub(text.len(), Ordering::Relaxed);
            text.clear();
            let dropped = self.counts.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let _ = out.write_all(&(self.report)(dropped));
            }
            if let Some(done) = flushed {
                let _ = done.try_send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LINE: &[u8] = b"a line\n";

    fn report(lines: u64) -> Vec<u8> {
        format!("dropped {lines}\n").into_bytes()
    }

    #[test]
    fn a_reader_that_stops_costs_lines_but_no_time() {
        let (queue, writer) = LineQueue::new(report);
        let fit = MAX_WAITING_BYTES / LINE.len();
        (0..fit + 3).for_each(|_| queue.send(LINE.to_vec()));
        drop(queue);
        let mut out = Vec::new();
        writer.run(&mut out);
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches("a line\n").count(), fit);
        assert_eq!(out.matches("dropped").count(), 1);
        assert!(out.contains("\ndropped 3\n"));
    }

    #[test]
    fn what_was_written_makes_room() {
        let (queue, writer) = LineQueue::new(report);
        queue.send(vec![b'x'; MAX_WAITING_BYTES]);
        let counts = Arc::clone(&queue.counts);
        drop(queue);
        writer.run(io::sink());
        assert_eq!(counts.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_flush_waits_for_the_lines_before_it_and_not_for_a_reader_that_stopped() {
        let (queue, writer) = LineQueue::new(report);
        (0..1000).for_each(|_| queue.send(vec![b'x'; MAX_WAITING_BYTES / 1000]));
        let start = Instant::now();
        queue.flush();
        assert!(start.elapsed() >= FLUSH_TIMEOUT && start.elapsed() < FLUSH_TIMEOUT * 10, "{:?}", start.elapsed());

        let (read, write) = io::pipe().unwrap();
        thread::spawn(move || writer.run(write));
        let reader = thread::spawn(move || io::read_to_string(read).unwrap().len());
        queue.flush();
        assert_eq!(queue.counts.waiting_bytes.load(Ordering::Relaxed), 0);
        drop(queue);
        assert_eq!(reader.join().unwrap(), 1000 * (MAX_WAITING_BYTES / 1000));
    }
}
