//! Starting and stopping: binds the port, wires the modules, and ends on a signal.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use log::{info, warn};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::board::{self, Board, LEADERS, LiveFeed};
use crate::config::Config;
use crate::http::limits::raise_descriptor_limit;
use crate::http::{AccessLog, Limits, Server, listener};
use crate::lifecycle::Lifecycle;
use crate::outage_log::Outages;
use crate::store::supervisor::Supervisor;
use crate::store::{Database, Servers};

/// What the main thread waits for.
enum Event {
    Signal,
    GaveUp(String),
    Empty,
}

/// The least default of `MAX_CONNECTIONS_PER_CLIENT`, which is a tenth of the connections.
const MIN_CONNECTIONS_PER_CLIENT: usize = 16;
/// Bytes that may wait in one batch queue.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Workers that neither wait for events nor for the database: they answer what needs no database while it hangs.
const SPARE_WORKERS: usize = 2;
/// The time in which connections that the kernel has begun to open are still accepted during a stop.
const OPENING: Duration = Duration::from_millis(100);
/// New connections wait for this time at most, so that a restart answers no request with 503 while its database is ready.
const FIRST_ATTEMPT: Duration = Duration::from_millis(500);
const AGAIN: &str = "stopped immediately by a second signal";

/// Serves until a signal comes. An error says in words why it could not go on.
pub fn run(config: Config) -> Result<(), String> {
    // From here on signals are kept for the thread that starts later. A supervisor may send one as soon as the port is
    // open.
    let no_signals = |e| format!("signals can't be handled: {e}");
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(no_signals)?;
    let listener = bind(config.bind, config.port)?;
    let address = listener.local_addr().map_err(|e| format!("the listener has no address: {e}"))?;
    info!("twotier {} listens on {address}", env!("CARGO_PKG_VERSION"));
    config.notes.iter().for_each(|note| warn!("{note}"));
    let limits = limits(&config);

    let servers = Arc::new(Servers::new(config.hosts, config.account, config.db_connections));
    let database = Database::new(servers, config.db_timeout, config.db_connections);
    let (lifecycle, outages) = (Arc::new(Lifecycle::default()), Arc::new(Outages::default()));
    let (events, received) = mpsc::channel();
    pass_on(signals, events.clone()).map_err(no_signals)?;

    let host = host_name();
    let settings = board::Settings {
        title: config.page_title,
        intro: config.page_intro,
        host: config.page_footer.then(|| host.clone()),
        max_chars: config.max_message_chars,
        admin_token: config.admin_token,
        trusted_proxies: config.trusted_proxies,
        public_urls: config.public_urls,
        rate_limit: config.rate_limit,
        queue_requests: config.queue_requests,
        queue_bytes: QUEUE_BYTES,
        max_streams: (limits.max_connections / 2).max(1),
    };
    let board = Board::new(settings, &database, Arc::clone(&lifecycle), &outages);
    let live = board.live();
    let no_access_log = |e| format!("the access log can't be started: {e}");
    let access_log = config.access_log.map(AccessLog::start).transpose().map_err(no_access_log)?;
    let server = start_server(listener, board, &database, limits, &host, access_log.clone())?;
    let supervisor = Supervisor {
        database,
        lifecycle: Arc::clone(&lifecycle),
        outages,
        wait: config.db_wait,
        take_over: config.take_over,
    };
    let gave_up = events.clone();
    let give_up = move |reason| drop(gave_up.send(Event::GaveUp(reason)));
    let waker = Arc::clone(&server);
    supervisor.start(give_up, move || waker.wake_worker()).map_err(no_thread)?;
    lifecycle.wait_for_first_attempt(FIRST_ATTEMPT);
    server.open().map_err(no_worker)?;

    let outcome = match received.recv() {
        Ok(Event::GaveUp(reason)) => Err(reason),
        Ok(Event::Signal | Event::Empty) | Err(_) => {
            lifecycle.set_stopping();
            stop(&server, &live, &received, events, config.shutdown_delay, config.shutdown_grace)
        }
    };
    access_log.inspect(AccessLog::flush);
    outcome
}

fn limits(config: &Config) -> Limits {
    let max_connections = fit_descriptors(config.max_connections);
    let share = (max_connections / 10).max(MIN_CONNECTIONS_PER_CLIENT);
    Limits {
        listeners: listeners(),
        max_connections,
        max_connections_per_client: config.max_connections_per_client.unwrap_or(share),
        exempt_clients: config.trusted_proxies.clone(),
        request_timeout: config.request_timeout,
        idle_timeout: config.idle_timeout,
    }
}

/// The workers that wait for events. One processor is left for those that lead.
fn listeners() -> usize {
    thread::available_parallelism().map_or(1, |processors| (processors.get() - 1).max(1))
}

fn start_server(
    listener: TcpListener,
    board: Board,
    database: &Arc<Database>,
    limits: Limits,
    host: &str,
    access_log: Option<AccessLog>,
) -> Result<Arc<Server>, String> {
    let common = [("X-Served-By", host), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "same-origin")];
    let live = board.live();
    let workers = limits.listeners + LEADERS + SPARE_WORKERS;
    let server =
        Server::new(listener, Box::new(board), limits, &common, access_log).map_err(|e| format!("no poller: {e}"))?;
    server.start(workers).map_err(no_worker)?;
    let waker = Arc::clone(&server);
    live.start(Arc::clone(database), move || waker.wake_worker()).map_err(no_thread)?;
    Ok(server)
}

fn no_thread(error: io::Error) -> String {
    format!("a thread can't be started: {error}")
}

fn no_worker(error: io::Error) -> String {
    format!("a worker can't be started: {error}")
}

fn stop(
    server: &Server,
    live: &LiveFeed,
    received: &mpsc::Receiver<Event>,
    events: Sender<Event>,
    delay: Duration,
    grace: Duration,
) -> Result<(), String> {
    info!("stopping: not ready from now on");
    server.announce_stop();
    if let Stopping::Again = wait(received, delay) {
        return Err(AGAIN.to_owned());
    }
    server.ignore_new_connections();
    if let Stopping::Again = wait(received, OPENING) {
        return Err(AGAIN.to_owned());
    }
    live.end();
    server.close(move || drop(events.send(Event::Empty)));
    match wait(received, grace) {
        Stopping::Empty => info!("stopped"),
        Stopping::Again => return Err(AGAIN.to_owned()),
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

fn pass_on(mut signals: Signals, events: Sender<Event>) -> io::Result<()> {
    let run = move || {
        for _ in signals.forever() {
            if events.send(Event::Signal).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(run).map(drop)
}

fn bind(bind: IpAddr, port: u16) -> Result<TcpListener, String> {
    let address = SocketAddr::new(bind, port);
    listener::listen(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("PORT={port}: another program listens on {address}; stop it, or set PORT to another port")
        }
        io::ErrorKind::PermissionDenied => format!("PORT={port}: not allowed to listen on {address}"),
        io::ErrorKind::AddrNotAvailable => format!("BIND={bind}: this machine has no such address"),
        _ => format!("BIND={bind}, PORT={port}: can't listen on {address}: {error}"),
    })
}

/// The number of connections, as far as the limit of open files allows it.
fn fit_descriptors(wanted: usize) -> usize {
    let (fits, limit) = raise_descriptor_limit(wanted);
    if let Some(limit) = limit {
        warn!("MAX_CONNECTIONS={wanted} does not fit the limit of {limit} open files; taking {fits}");
    }
    fits
}

/// The name of this machine. Each replica has its own.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(char::is_ascii_graphic).collect()
}
