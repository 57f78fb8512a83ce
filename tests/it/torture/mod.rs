//! The torture table: bytes over raw sockets, hostile and legal, with the exact answers to each and what becomes of its
//! connection. After every case the service has to answer a normal request, and at the end the table holds what the legal
//! cases stored and nothing else.

mod bodies;
mod delivery;
mod framing;
mod headers;
mod lines;

use std::io::Write;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::client::request;
use crate::support::{Board, Connection, Service};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded\r\n";
const JSON: &str = "Content-Type: application/json\r\n";
/// What a socket's buffers surely take; more is sent beside the reading.
const SENT_AT_ONCE: usize = 64 * 1024;

/// Bytes, their answers, and the end.
pub struct Case {
    /// Says what this is about where the bytes do not.
    name: String,
    steps: Vec<Step>,
    /// Texts that it stores.
    stores: Vec<String>,
    end: End,
}

enum Step {
    Send(Vec<u8>),
    /// One byte with each write.
    Drip(Vec<u8>),
    /// The service gets the time to look at what it has.
    Settle,
    HalfClose,
    Answer(Want),
}

/// An answer that has to come.
struct Want {
    status: u16,
    /// The error's code; empty for what is no error; `page` for an error as HTML.
    code: &'static str,
    /// It has the head alone.
    head: bool,
}

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The service answers the next request on it, and nothing before that.
    Kept,
    /// The service closes it, and says so in the answer unless the client had shut its side first.
    CloseReason,
    /// The client closes it without a look at what comes.
    Dropped,
    /// The client resets it.
    Reset,
}

impl Case {
    fn new(name: impl Into<String>) -> Case {
        Case { name: name.into(), steps: Vec::new(), stores: Vec::new(), end: End::Kept }
    }

    /// A case named after its bytes.
    fn of(bytes: impl Into<Vec<u8>>) -> Case {
        let bytes = bytes.into();
        Case::new(bytes[..bytes.len().min(160)].escape_ascii().to_string()).send(bytes)
    }

    fn send(self, bytes: impl Into<Vec<u8>>) -> Case {
        self.step(Step::Send(bytes.into()))
    }

    fn drip(self, bytes: impl Into<Vec<u8>>) -> Case {
        self.step(Step::Drip(bytes.into()))
    }

    fn run_queued(self) -> Case {
        self.step(Step::Settle)
    }

    fn half_close(self) -> Case {
        self.step(Step::HalfClose)
    }

    fn answer(self, status: u16, code: &'static str) -> Case {
        self.step(Step::Answer(Want { status, code, head: false }))
    }

    /// An answer without its body.
    fn head(self, status: u16) -> Case {
        self.step(Step::Answer(Want { status, code: "", head: true }))
    }

    fn stores(mut self, text: impl Into<String>) -> Case {
        self.stores.push(text.into());
        self
    }

    fn kept(self) -> Case {
        self.end(End::Kept)
    }

    fn closed(self) -> Case {
        self.end(End::CloseReason)
    }

    fn dropped(self) -> Case {
        self.end(End::Dropped)
    }

    fn reset(self) -> Case {
        self.end(End::Reset)
    }

    /// The client shuts its side, and the service closes without a word.
    fn silent(self) -> Case {
        self.run_queued().half_close().closed()
    }

    fn step(mut self, step: Step) -> Case {
        self.steps.push(step);
        self
    }

    fn end(mut self, end: End) -> Case {
        self.end = end;
        self
    }

    fn run(&self, service: &Service) {
        let mut connection = service.connect();
        let mut senders = Vec::new();
        let mut half_closed = false;
        let mut said = None;
        for step in &self.steps {
            match step {
                Step::Send(bytes) if bytes.len() <= SENT_AT_ONCE => connection.send(bytes),
                Step::Send(bytes) => {
                    let (mut socket, bytes) = (connection.socket.try_clone().unwrap(), bytes.clone());
                    // What the service refuses to take is its right; its answer tells.
                    senders.push(thread::spawn(move || drop(socket.write_all(&bytes))));
                }
                Step::Drip(bytes) => bytes.chunks(1).for_each(|byte| connection.send(byte)),
                Step::Settle => assert_eq!(service.get("/livez").status, 200),
                Step::HalfClose => {
                    senders.drain(..).for_each(|sender| sender.join().unwrap());
                    connection.socket.shutdown(Shutdown::Write).unwrap();
                    half_closed = true;
                }
                Step::Answer(want) => said = want.expect(&mut connection),
            }
        }
        match self.end {
            End::Kept => {
                // An HTTP/1.0 client has to be told.
                let old = self.name.contains("HTTP/1.0\\r\\n");
                assert_eq!(said.as_deref(), old.then_some("keep-alive"));
                connection.send(request("GET", "/livez", &[("X-Request-Id", "the-next-one")], b""));
                let next = connection.answer();
                assert_eq!((next.status, next.header("X-Request-Id")), (200, Some("the-next-one")));
                connection.socket.shutdown(Shutdown::Write).unwrap();
                connection.assert_closed();
            }
            End::CloseReason => {
                assert!(half_closed || said.as_deref() == Some("close"), "it says {said:?}");
                connection.assert_closed();
            }
            End::Dropped => drop(connection),
            End::Reset => {
                SockRef::from(&connection.socket).set_linger(Some(Duration::ZERO)).unwrap();
                drop(connection);
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        assert_eq!(service.get("/messages?limit=1").status, 200, "a normal request");
    }
}

impl Want {
    /// Reads the answer, and gives what it says of the connection.
    fn expect(&self, connection: &mut Connection) -> Option<String> {
        let answer = connection.try_answer(self.head).unwrap_or_else(|error| panic!("no answer: {error}"));
        let code = match answer.header("Content-Type") {
            _ if self.head => String::new(),
            Some("application/problem+json") => answer.json()["code"].as_str().unwrap_or_default().to_owned(),
            Some(html) if html.starts_with("text/html") && answer.status >= 400 => "page".to_owned(),
            _ => String::new(),
        };
        assert_eq!((answer.status, code.as_str()), (self.status, self.code), "{:?}", answer.text());
        match answer.status {
            100 => assert_eq!(answer.headers.len(), 0),
            _ => assert!(answer.header("X-Request-Id").is_some() && answer.header("X-Served-By").is_some()),
        }
        answer.header("Connection").map(str::to_owned)
    }
}

/// A POST of a form with more headers and this body, whose framing is the caller's.
fn post(headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("POST /submit HTTP/1.1\r\nHost: board.test\r\n{FORM}{headers}\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

/// A GET with more headers.
fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: board.test\r\n{headers}\r\n").into_bytes()
}

/// A form of the right length.
fn form(body: impl AsRef<[u8]>) -> Vec<u8> {
    post(&format!("Content-Length: {}\r\n", body.as_ref().len()), body)
}

/// Bytes that are refused, and the connection with them.
fn refused(bytes: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Case {
    Case::of(bytes).answer(status, code).closed()
}

/// Bytes that are answered with this, and the connection is kept.
fn answered(bytes: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Case {
    Case::of(bytes).answer(status, code).kept()
}

#[test]
fn every_case_of_the_torture_table_gets_its_response_and_harms_no_other_client() {
    let board = Board::with(&[("ADMIN_TOKEN", "t0ken-of-an-admin")]);
    let cases: Vec<Case> = [lines::cases(), headers::cases(), framing::cases(), bodies::cases(), delivery::cases()]
        .into_iter()
        .flatten()
        .collect();
    let failed: Vec<&str> = cases
        .iter()
        .filter(|case| catch_unwind(AssertUnwindSafe(|| case.run(&board.service))).is_err())
        .map(|case| case.name.as_str())
        .collect();
    eprintln!("{} torture cases", cases.len());
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let stored: Vec<String> = board.schema.rows("SELECT message FROM messages ORDER BY id");
    let wanted: Vec<&String> = cases.iter().flat_map(|case| &case.stores).collect();
    assert_eq!(stored.iter().collect::<Vec<_>>(), wanted, "what the legal cases store and nothing else");
}

#[test]
fn a_request_that_stays_incomplete_gets_408_in_time() {
    const LIMIT: Duration = Duration::from_secs(1);
    let board = Board::with(&[("REQUEST_TIMEOUT", "1s")]);
    let parts = delivery::unfinished();
    let start = Instant::now();
    let mut connections: Vec<Connection> = parts.iter().map(|_| board.service.connect()).collect();
    connections.iter_mut().zip(&parts).for_each(|(connection, part)| connection.send(part));
    for (connection, part) in connections.iter_mut().zip(&parts) {
        let shown = String::from_utf8_lossy(part);
        let answer = connection.try_answer(false).unwrap_or_else(|error| panic!("{error}: {shown:?}"));
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{shown:?}");
        assert_eq!(answer.header("Connection"), Some("close"), "{shown:?}");
        connection.assert_closed();
        assert!(start.elapsed() > LIMIT && start.elapsed() < 3 * LIMIT, "{:?}: {shown:?}", start.elapsed());
    }
    eprintln!("{} unfinished requests", parts.len());
    assert_eq!(board.get("/messages").messages().len(), 0);
}
