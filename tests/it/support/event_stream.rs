//! A client of the live feed.

use std::io::{self, Read};
use std::time::Instant;

use super::client::request;
use super::{Connection, PATIENCE, Service};

/// An open stream.
pub struct EventStream {
    connection: Connection,
    /// Status line and headers.
    pub head: String,
    buffer: String,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: Option<String>,
    pub data: serde_json::Value,
}

impl EventStream {
    pub fn open(service: &Service) -> EventStream {
        EventStream::with(service, &[])
    }

    /// Opens a stream with these headers, and waits for its first comment.
    pub fn with(service: &Service, headers: &[(&str, &str)]) -> EventStream {
        let mut stream = EventStream::send(service, &request("GET", "/events", headers, b""));
        assert!(stream.head.starts_with("HTTP/1.1 200 "), "{}{}", stream.head, stream.buffer);
        assert_eq!(stream.block().expect("a first block"), "retry: 2000\n: connected");
        stream
    }

    /// Sends a request and reads the head of the response.
    pub fn send(service: &Service, request: &[u8]) -> EventStream {
        let mut connection = service.connect();
        connection.send(request);
        let mut stream = EventStream { connection, head: String::new(), buffer: String::new() };
        stream.head = stream.read_to("\r\n\r\n").expect("a head");
        stream
    }

    /// The next event.
    #[track_caller]
    pub fn next(&mut self) -> Event {
        let end = Instant::now() + PATIENCE;
        loop {
            // Heartbeats arrive meanwhile.
            assert!(Instant::now() < end, "no event arrived");
            let block = self.block().expect("an event");
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if let Some(name) = field("event") {
                let data = serde_json::from_str(field("data").expect("data")).expect("JSON");
                return Event { name: name.to_owned(), id: field("id").map(str::to_owned), data };
            }
        }
    }

    /// The next event, which must be a message.
    #[track_caller]
    pub fn next_text(&mut self) -> String {
        let event = self.next();
        assert_eq!(event.name, "message", "{event:?}");
        assert_eq!(event.id, Some(event.data["id"].to_string()));
        event.data["message"].as_str().expect("a text").to_owned()
    }

    /// The lines up to the next empty one.
    pub fn block(&mut self) -> io::Result<String> {
        self.read_to("\n\n")
    }

    /// All that comes until the service closes the connection.
    pub fn rest(&mut self) -> String {
        let mut rest = std::mem::take(&mut self.buffer);
        self.connection.socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        self.connection.socket.read_to_string(&mut rest).expect("an end");
        rest
    }

    fn read_to(&mut self, end: &str) -> io::Result<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once(end) {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Ok(block);
            }
            let mut chunk = [0; 64 * 1024];
            match self.connection.socket.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.push_str(std::str::from_utf8(&chunk[..n]).map_err(io::Error::other)?),
            }
        }
    }
}
