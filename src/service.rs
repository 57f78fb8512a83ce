//! Starting and stopping: binds the port, opens the database in the background, and ends on a signal.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Socket, Type};

use crate::board::phase::Phase;
use crate::board::{self, Board, LEADERS, Seats};
use crate::config::Config;
use crate::http::hub::SPARE_PLACES;
use crate::http::{Hub, Limits};
use crate::retry::Backoff;
use crate::store::schema::Shape;
use crate::store::{ConnectError, Error, Seat, Servers, Timeouts};
use crate::system::{processors, thin_out_allocator};

/// What the main thread waits for.
enum Event {
    Signal,
    GaveUp(String),
    Empty,
}

/// Connections that wait to be accepted; the system may have a lower limit.
const BACKLOG: i32 = 4096;
/// Descriptors for everything but clients: the listener, the poller, the database, the log.
const OTHER_DESCRIPTORS: usize = 32;
/// Workers that start before the door is open: one that listens, and one for when that one blocks. The others would take
/// from the database's opening the time that they need to start.
const FIRST_WORKERS: usize = 2;
/// How long clients wait for the first attempt to open the database before they are told that it is not there.
const FIRST_TRY: Duration = Duration::from_millis(100);
/// Delays between attempts to open the database.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);
/// How long what only a person can change is tried again: a database container creates users and databases late.
const PERSONS_WAIT: Duration = Duration::from_secs(30);
/// How often, during a delay, a port that was closed is looked at; and how long one look may take.
const KNOCK: Duration = Duration::from_millis(200);
/// What readiness may take of the database, so that a probe is answered within 900 ms, even if the worker that would hear it
/// has just met a hang: half of it for connecting.
const WATCH_TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_millis(300), statement: Some(Duration::from_millis(600)) };

/// Serves until a signal comes. An error says in words why it could not go on.
pub fn run(config: Config) -> Result<(), String> {
    thin_out_allocator();
    config.notes.iter().for_each(|note| warn!("{note}"));
    let (events, received) = mpsc::channel();
    let listener = listen(config.bind, config.port)?;
    let address = listener.local_addr().map_err(|e| format!("the listener has no address: {e}"))?;
    info!("twotier {} listens on {address}", env!("CARGO_PKG_VERSION"));
    // As soon as it is clear that there will be a service: nothing takes longer, and all the rest is done meanwhile.
    let servers = Arc::new(Servers::new(config.hosts, config.account));
    let phase = Arc::new(Phase::default());
    phase.set_waiting_for("waiting for the database");
    let timeouts = Timeouts { connect: config.db_timeout, statement: Some(config.db_timeout) };
    let (tried, first_try) = mpsc::channel();
    let opening = Opening {
        servers: Arc::clone(&servers),
        phase: Arc::clone(&phase),
        timeouts,
        wait: config.db_wait,
        events: events.clone(),
        tried,
    };
    opening.start().map_err(|e| format!("a thread can't be started: {e}"))?;
    listen_for_signals(events.clone()).map_err(|e| format!("signals can't be handled: {e}"))?;
    let max_connections = fit_descriptors(config.max_connections);

    let host = host_name();
    let seat = |timeouts| Seat::new(Arc::clone(&servers), timeouts);
    let seats = Seats {
        newest: seat(timeouts),
        submit: seat(timeouts),
        singles: [seat(timeouts), seat(timeouts)],
        watch: seat(WATCH_TIMEOUTS),
    };
    const { assert!(LEADERS == 5 && LEADERS >= FIRST_WORKERS) };
    let settings = board::Settings {
        title: config.page_title,
        host: host.clone(),
        max_chars: config.max_message_chars,
        admin_token: config.admin_token,
        trusted_proxies: config.trusted_proxies,
        rate_limit: config.rate_limit,
        queue_requests: config.queue_requests,
        queue_bytes: config.queue_bytes,
        patience: timeouts.patience(),
    };
    let board = Board::new(settings, seats, Arc::clone(&phase));
    // One processor is left for those who lead, and for whoever else is there; and workers are left for all leaders.
    let listeners = (processors() - 1).min(config.workers - LEADERS).max(1);
    let limits = Limits {
        listeners,
        max_connections,
        request_timeout: config.request_timeout,
        idle_timeout: config.idle_timeout,
        write_timeout: config.write_timeout,
    };
    let common = [("X-Served-By", &*host), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "same-origin")];
    let hub = Hub::new(listener, Box::new(board), limits, &common).map_err(|e| format!("no poller: {e}"))?;

    let no_thread = |e| format!("a worker can't be started: {e}");
    hub.start(0..FIRST_WORKERS).map_err(no_thread)?;
    // Where the database is there, the first clients need not hear that it is not.
    let _ = first_try.recv_timeout(FIRST_TRY);
    // The later ones are told to nobody.
    drop(first_try);
    hub.open().map_err(no_thread)?;
    hub.start(FIRST_WORKERS..config.workers).map_err(no_thread)?;

    match received.recv() {
        Ok(Event::GaveUp(reason)) => Err(reason),
        Ok(Event::Signal | Event::Empty) | Err(_) => {
            phase.set_ending();
            stop(&hub, &received, events, config.shutdown_delay, config.shutdown_grace)
        }
    }
}

fn stop(
    hub: &Hub,
    received: &mpsc::Receiver<Event>,
    events: Sender<Event>,
    delay: Duration,
    grace: Duration,
) -> Result<(), String> {
    info!("stopping: not ready from now on");
    match wait(received, delay) {
        Stopping::Again => return Err("stopped at once by a second signal".to_owned()),
        Stopping::Empty | Stopping::TimeIsUp => {}
    }
    hub.close(move || drop(events.send(Event::Empty)));
    match wait(received, grace) {
        Stopping::Empty => info!("stopped"),
        Stopping::Again => return Err("stopped at once by a second signal".to_owned()),
        Stopping::TimeIsUp => warn!("stopped with clients that did not finish within SHUTDOWN_GRACE"),
    }
    Ok(())
}

/// How a wait during the stop ended.
enum Stopping {
    Again,
    Empty,
    TimeIsUp,
}

fn wait(received: &mpsc::Receiver<Event>, limit: Duration) -> Stopping {
    let end = Instant::now() + limit;
    loop {
        match received.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Event::Signal) => return Stopping::Again,
            Ok(Event::Empty) => return Stopping::Empty,
            // That the database could not be opened no longer matters.
            Ok(Event::GaveUp(_)) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Stopping::TimeIsUp,
        }
    }
}

/// The opening of the database, which lasts until the table has its shape.
struct Opening {
    servers: Arc<Servers>,
    phase: Arc<Phase>,
    timeouts: Timeouts,
    wait: Option<Duration>,
    /// Told when there will be no other attempt.
    events: Sender<Event>,
    /// Told when the first attempt is over.
    tried: Sender<()>,
}

impl Opening {
    fn start(self) -> io::Result<()> {
        let run = move || {
            if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
                let _ = self.events.send(Event::GaveUp("opening the database met a panic".to_owned()));
            }
        };
        thread::Builder::new().name("database".to_owned()).spawn(run).map(drop)
    }

    fn run(&self) {
        let start = Instant::now();
        let mut needs_a_person_since = None;
        let mut delays = Backoff::new(FIRST_DELAY, MAX_DELAY);
        for attempt in 1u64.. {
            let error = match self.open() {
                Ok(()) => break,
                Err(error) => error,
            };
            self.phase.set_waiting_for(error.in_short());
            let _ = self.tried.send(());
            let since = needs_a_person_since.filter(|_| error.needs_a_person()).unwrap_or_else(Instant::now);
            needs_a_person_since = error.needs_a_person().then_some(since);
            let hopeless = needs_a_person_since.is_some_and(|since| since.elapsed() >= PERSONS_WAIT);
            if hopeless || self.wait.is_some_and(|wait| start.elapsed() >= wait) {
                warn!("attempt {attempt} to open the database failed: {error}");
                // Without a receiver the process is ending anyway.
                let _ = self.events.send(Event::GaveUp(format!("gave up after {attempt} attempts: {error}")));
                return;
            }
            let left = self.wait.map_or(MAX_DELAY, |wait| wait.saturating_sub(start.elapsed()));
            let delay = delays.next().unwrap_or(MAX_DELAY).min(left);
            warn!("attempt {attempt} to open the database failed: {error}; next in {} ms", delay.as_millis());
            self.pause(delay, &error);
        }
        self.phase.set_open();
        let _ = self.tried.send(());
        info!("open after {} ms", start.elapsed().as_millis());
        self.servers.keep_resolved();
    }

    fn open(&self) -> Result<(), Error> {
        self.servers.resolve().map_err(Error::NoSession)?;
        let mut seat = Seat::new(Arc::clone(&self.servers), self.timeouts);
        let version = seat.version()?;
        if !version.supported {
            let words = "twotier runs on MySQL 8.0.13 or newer and MariaDB 10.5 or newer";
            return Err(Error::Refused(format!("the server is {}; {words}", version.text)));
        }
        if seat.shape()? == Shape::Right {
            seat.leave();
            return Ok(());
        }
        let patient = Timeouts { statement: None, ..self.timeouts };
        Seat::new(Arc::clone(&self.servers), patient).prepare_table(|step| {
            info!("{step}");
            self.phase.set_waiting_for(step);
        })
    }

    /// Waits for `delay`, or less when a port that was closed opens, because then the database has just come up.
    fn pause(&self, delay: Duration, error: &Error) {
        let end = Instant::now() + delay;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(KNOCK));
            let opens = match error {
                Error::NoSession(ConnectError::Refused { .. }) => self.servers.listens(KNOCK),
                Error::NoSession(ConnectError::NameNotFound { .. }) => self.servers.resolve().is_ok(),
                _ => false,
            };
            if opens {
                return;
            }
        }
    }
}

fn listen_for_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            if events.send(Event::Signal).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn listen(bind: IpAddr, port: u16) -> Result<TcpListener, String> {
    let address = SocketAddr::new(bind, port);
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart does not have to wait for old connections to be forgotten.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && bind.is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        // The standard library's backlog is 128: the 129th of a burst would wait a second for its second attempt.
        socket.listen(BACKLOG)?;
        Ok::<_, io::Error>(socket.into())
    };
    listen().map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("PORT={port}: another program listens on {address}; stop it, or set PORT to another port")
        }
        io::ErrorKind::PermissionDenied => format!("PORT={port}: not allowed to listen on {address}"),
        io::ErrorKind::AddrNotAvailable => format!("BIND={bind}: this machine has no such address"),
        _ => format!("BIND={bind}, PORT={port}: can't listen on {address}: {error}"),
    })
}

/// Raises the descriptor limit as far as allowed, and gives the connections that fit.
fn fit_descriptors(wanted: usize) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return wanted };
    let fits = limit.saturating_sub(SPARE_PLACES + OTHER_DESCRIPTORS).max(1);
    if fits < wanted {
        warn!("MAX_CONNECTIONS={wanted} does not fit the limit of {limit} open files; taking {fits}");
    }
    wanted.min(fits)
}

/// The name of this machine, for people who look for the replica that answered.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(char::is_ascii_graphic).collect()
}
