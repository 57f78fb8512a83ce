//! Streams: responses without an end, to which any thread may add bytes while the client reads.
//!
//! An open stream costs a connection and the bytes that its client has not taken, which are shared between streams and
//! bounded. It costs no thread. Does not know what the bytes mean.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::limits::MAX_STREAM_UNSENT;

/// Bytes that several streams may share.
pub type Chunk = Arc<[u8]>;

/// Sends to the client of one stream, from any thread. Dropping it ends the stream, after the client has taken all bytes.
pub struct StreamSender {
    sink: Arc<dyn StreamSink>,
    /// The slot of the connection, which another connection has when the buffer is gone.
    index: usize,
    /// The connection owns it.
    buffer: Weak<StreamBuffer>,
}

/// Writes what the buffers of streams hold. The server implements it.
pub(super) trait StreamSink: Send + Sync {
    /// Writes as much of `buffer` as the socket in this slot takes now.
    fn flush(&self, index: usize, buffer: &Arc<StreamBuffer>);
}

/// The unsent bytes of one stream.
#[derive(Debug, Default)]
pub(super) struct StreamBuffer(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Each with the position from which it is unsent.
    chunks: VecDeque<(Chunk, usize)>,
    unsent: usize,
    end: Option<StreamEnd>,
}

/// Why a stream takes no more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// The sender ended it. The client gets what is unsent.
    Complete,
    /// The client has not taken enough.
    Overrun,
}

impl StreamSender {
    pub(super) fn new(sink: Arc<dyn StreamSink>, index: usize, buffer: &Arc<StreamBuffer>) -> StreamSender {
        StreamSender { sink, index, buffer: Arc::downgrade(buffer) }
    }

    /// Whether the connection exists.
    pub fn is_open(&self) -> bool {
        self.buffer.strong_count() > 0
    }

    /// Sends the bytes of `chunk` from `start` on, after all earlier ones. Never blocks. A client that has too many bytes to
    /// take already is dropped, and then the result is false.
    pub fn send(&self, chunk: &Chunk, start: usize) -> bool {
        let Some(buffer) = self.buffer.upgrade() else { return true };
        let has_room = buffer.push(chunk, start);
        self.sink.flush(self.index, &buffer);
        has_room
    }
}

impl Drop for StreamSender {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.upgrade() {
            buffer.lock().end.get_or_insert(StreamEnd::Complete);
            self.sink.flush(self.index, &buffer);
        }
    }
}

impl StreamBuffer {
    /// A buffer with these bytes.
    pub(super) fn new(chunk: Chunk) -> Arc<StreamBuffer> {
        let buffer = StreamBuffer::default();
        buffer.push(&chunk, 0);
        Arc::new(buffer)
    }

    /// Why the stream takes no more bytes, if it has ended.
    pub(super) fn end(&self) -> Option<StreamEnd> {
        self.lock().end
    }

    /// Whether the client has taken all.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().chunks.is_empty()
    }

    /// Writes until all is written. Fails with `WouldBlock` when the socket takes no more. Returns the number of bytes that
    /// it took, also then.
    pub(super) fn write_to(&self, mut socket: impl Write) -> (usize, io::Result<()>) {
        let mut state = self.lock();
        let before = state.unsent;
        let result = state.write_to(&mut socket);
        (before - state.unsent, result)
    }

    fn push(&self, chunk: &Chunk, start: usize) -> bool {
        let mut state = self.lock();
        let length = chunk.len().saturating_sub(start);
        if state.end.is_some() || length == 0 {
            return true;
        }
        if state.unsent + length > MAX_STREAM_UNSENT {
            *state = State { end: Some(StreamEnd::Overrun), ..State::default() };
            return false;
        }
        state.unsent += length;
        state.chunks.push_back((Arc::clone(chunk), start));
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write_to(&mut self, socket: &mut impl Write) -> io::Result<()> {
        while let Some((chunk, position)) = self.chunks.front_mut() {
            match socket.write(&chunk[*position..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    *position += n;
                    self.unsent -= n;
                    if *position == chunk.len() {
                        self.chunks.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The other end of a stream without a connection, for tests of what is sent. The stream is open as long as this exists.
#[cfg(test)]
pub struct TestStream(Arc<StreamBuffer>);

#[cfg(test)]
struct TestSink;

#[cfg(test)]
impl StreamSink for TestSink {
    fn flush(&self, _: usize, _: &Arc<StreamBuffer>) {}
}

#[cfg(test)]
impl TestStream {
    /// Opens one.
    pub fn open() -> (StreamSender, TestStream) {
        let buffer = Arc::new(StreamBuffer::default());
        (StreamSender::new(Arc::new(TestSink), 0, &buffer), TestStream(buffer))
    }

    /// What was sent and not read yet.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.write_to(&mut bytes);
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// Whether the sender ended it.
    pub fn has_ended(&self) -> bool {
        self.0.end().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes and no more.
    struct Full(usize, Vec<u8>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            self.1.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn chunks_are_written_in_order_and_continue_after_a_full_socket() {
        let buffer = StreamBuffer::new(b"head ".as_slice().into());
        assert!(buffer.push(&b"one ".as_slice().into(), 0) && buffer.push(&b"and two".as_slice().into(), 4));
        let mut socket = Full(6, Vec::new());
        let (taken, result) = buffer.write_to(&mut socket);
        assert_eq!((taken, result.map_err(|error| error.kind())), (6, Err(io::ErrorKind::WouldBlock)));
        socket.0 = 100;
        let (taken, result) = buffer.write_to(&mut socket);
        assert!(taken == 6 && result.is_ok() && buffer.is_empty());
        assert_eq!(socket.1, b"head one two");
    }

    #[test]
    fn a_client_that_takes_too_little_ends_its_stream_and_frees_the_bytes() {
        let chunk: Chunk = vec![b'x'; MAX_STREAM_UNSENT / 2].into();
        let buffer = StreamBuffer::new(Arc::clone(&chunk));
        assert!(buffer.push(&chunk, 0));
        assert!(!buffer.push(&b"x".as_slice().into(), 0));
        assert!(buffer.is_empty() && buffer.end() == Some(StreamEnd::Overrun));
        assert_eq!(Arc::strong_count(&chunk), 1);
        assert!(buffer.push(&chunk, 0), "it was counted once");
        assert!(buffer.is_empty());
    }
}
