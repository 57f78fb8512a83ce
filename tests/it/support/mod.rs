//! What the tests stand on: a database, the service, and a client that sends given bytes.

pub mod client;
pub mod clients;
pub mod database;
pub mod event_stream;
pub mod proxy;
pub mod random;
pub mod service;

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

pub use client::{Answer, Connection};
pub use database::{Database, Schema};
pub use event_stream::EventStream;
pub use proxy::{Proxy, Trap};
pub use random::Random;
pub use service::Service;

/// How long anything may take that is waited for.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("the process is there");
}

/// Waits until `condition` holds, and fails when it does not in time.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A port without a listener. It is below those that systems give to outgoing connections: no such connection takes
/// it meanwhile, and a client that repeats its requests while there is no listener does not meet itself.
pub fn free_port() -> u16 {
    static CHOICES: Mutex<Option<Random>> = Mutex::new(None);
    let mut choices = CHOICES.lock().unwrap();
    let choices = choices.get_or_insert_with(|| Random::new(std::process::id().into(), 0));
    loop {
        let port = choices.of(10_000..16_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A board on the shared database, with a schema of its own.
pub struct Board {
    pub service: Service,
    pub schema: Schema,
}

impl Board {
    /// Starts one and waits until it is ready.
    pub fn start() -> Board {
        Board::with(&[])
    }

    /// Starts one with these settings.
    pub fn with(settings: &[(&str, &str)]) -> Board {
        let schema = Database::shared().schema();
        let service = Service::start(&schema, settings);
        service.wait_until_ready();
        Board { service, schema }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.service.get(path)
    }

    pub fn submit(&self, text: &str) -> Answer {
        self.service.submit(text, &[])
    }
}
