//! One connection to a server: the login, the encryption, and how long each round trip may take.
//!
//! Never chooses the server, and never repeats a statement.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{ClientIdentity, Conn, DriverError, Opts, OptsBuilder, Params, Row, SslOpts};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use super::account::{Account, Encryption};
use super::session::{self, ServerInfo, SessionLimits};
use crate::metrics::METRICS;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerAddress {
    Tcp(SocketAddr),
    /// The path of a Unix socket on this machine.
    Unix(PathBuf),
}

/// A connection that is ready for statements.
pub(super) struct Connection {
    conn: Conn,
    /// The other end.
    pub(super) server: ServerAddress,
    /// What the server is.
    pub(super) info: ServerInfo,
    /// Which choice of a primary it belongs to.
    pub(super) generation: u64,
    pub(super) opened_at: Instant,
    /// When the current work must be complete.
    deadline: Option<Instant>,
    /// The time-out that the socket has now.
    socket_timeout: Option<Duration>,
    /// Counts this connection at its server.
    counted: Option<OpenConnection>,
}

/// A connection before it is known which primary it belongs to.
pub(super) type Opened = (Conn, ServerInfo, OpenConnection);

/// A statement that is prepared once for a connection.
#[derive(Clone, Copy)]
pub(super) struct Statement<'a> {
    /// Its name in the metrics.
    name: &'static str,
    sql: &'a str,
}

/// One of the open connections to a server; no longer counted after it is dropped.
pub(super) struct OpenConnection {
    open: Arc<AtomicUsize>,
}

/// Idle time after which the system probes the other end.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long sent bytes may stay unacknowledged by the other system before the connection counts as broken.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Round trips of a login: the greeting, two of the authentication, the statements that set up the session.
const LOGIN_ROUND_TRIPS: u32 = 5;
/// The largest packet that the crate takes or sends. The server's own limit is the one that matters; without this value the
/// crate asks for it, which costs a round trip for each connection.
const MAX_PACKET: usize = 64 * 1024 * 1024;
/// Steps of the socket's time-out, so that it does not change from one quick statement to the next.
const TIMEOUT_STEP: Duration = Duration::from_millis(50);

impl Account {
    /// Logs in to the server called `name` at `address`, and sets up the session. `share` limits the connect and the login.
    pub(super) fn open(
        &self,
        name: &str,
        address: &ServerAddress,
        share: Duration,
        limits: Option<SessionLimits>,
    ) -> Result<(Conn, ServerInfo), mysql::Error> {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let share = share.max(Duration::from_millis(1) * LOGIN_ROUND_TRIPS);
        let round_trip = share / LOGIN_ROUND_TRIPS;
        let options = OptsBuilder::new()
            .user(Some(&self.user))
            .pass(self.password.as_ref())
            .db_name(Some(&self.database))
            // Otherwise the crate switches to the server's socket file after the first connect.
            .prefer_socket(false)
            .tcp_connect_timeout(Some(share))
            .read_timeout(Some(round_trip))
            .tcp_keepalive_time_ms(Some(millis(KEEPALIVE)))
            .tcp_user_timeout_ms(Some(millis(USER_TIMEOUT)))
            .max_allowed_packet(Some(MAX_PACKET));
        let mut conn = match address {
            ServerAddress::Unix(path) => Conn::new(options.socket(path.to_str()))?,
            ServerAddress::Tcp(address) => {
                let options = options.ip_or_hostname(Some(literal(address.ip()))).tcp_port(address.port());
                match Conn::new(self.encrypted(options.clone(), name, *address)) {
                    Err(mysql::Error::DriverError(DriverError::TlsNotSupported))
                        if self.encryption == Encryption::Preferred =>
                    {
                        Conn::new(options)?
                    }
                    result => result?,
                }
            }
        };
        let info = session::set_up(&mut conn, limits)?;
        Ok((conn, info))
    }

    fn encrypted(&self, options: OptsBuilder, name: &str, address: SocketAddr) -> Opts {
        let identity = self.client_certificate.clone().map(|files| ClientIdentity::new(files.cert, files.key));
        let ssl = SslOpts::default().with_client_identity(identity);
        match &self.encryption {
            Encryption::Disabled => options,
            Encryption::Preferred | Encryption::Required => {
                options.ssl_opts(ssl.with_danger_accept_invalid_certs(true))
            }
            // The crate adds its built-in authorities to this one.
            Encryption::VerifyCa(ca) => {
                options.ssl_opts(ssl.with_root_cert_path(Some(ca.clone())).with_danger_skip_domain_validation(true))
            }
            // The crate checks the certificate against the host that it connects to, so it needs the name and resolves it
            // once more. Unbound, it tries the first address only; bound to a family, it tries all addresses of that family.
            Encryption::VerifyIdentity(ca) => {
                let any = match address.ip() {
                    IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                };
                let host = name.parse().map_or_else(|_| name.to_owned(), literal);
                let checked = ssl.with_root_cert_path(ca.clone());
                options.ip_or_hostname(Some(host)).bind_address(Some(SocketAddr::new(any, 0))).ssl_opts(checked)
            }
        }
        .into()
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp(address) => address.fmt(f),
            ServerAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Connection {
    /// A connection that is kept while `generation` is current.
    pub(super) fn new((conn, info, counted): Opened, server: ServerAddress, generation: u64) -> Connection {
        let (opened_at, counted) = (Instant::now(), Some(counted));
        let (deadline, socket_timeout) = (None, Some(Duration::ZERO));
        Connection { conn, server, info, generation, opened_at, deadline, socket_timeout, counted }
    }

    /// Stops counting this connection before it is closed: closing may block, and another one may be opened during that time.
    pub(super) fn stop_counting(&mut self) {
        self.counted = None;
    }

    /// Sets the time when all following statements must be complete.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// The crate's connection, for one round trip that may take no longer than what is left. An error when nothing is.
    pub(super) fn conn(&mut self) -> Result<&mut Conn, mysql::Error> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(mysql::Error::IoError(io::ErrorKind::TimedOut.into()));
        }
        let timeout = left.map(|left| TIMEOUT_STEP * (left.as_millis().div_ceil(TIMEOUT_STEP.as_millis()) as u32));
        if self.socket_timeout != timeout {
            // The crate sets the time-outs of a socket once, before the login. Zero would mean no limit.
            let limit = timeout.map(|timeout| timeout.max(Duration::from_millis(1)));
            let descriptor = descriptor(&self.conn);
            let socket = SockRef::from(&descriptor);
            socket.set_read_timeout(limit)?;
            socket.set_write_timeout(limit)?;
            self.socket_timeout = timeout;
        }
        Ok(&mut self.conn)
    }

    /// A round trip with the statement that the metrics call `name`. `statement` must read the complete result.
    pub(super) fn query<T>(
        &mut self,
        name: &str,
        statement: impl FnOnce(&mut Conn) -> Result<T, mysql::Error>,
    ) -> Result<T, mysql::Error> {
        let conn = self.conn()?;
        let start = Instant::now();
        let result = statement(conn);
        METRICS.statement_seconds.with_label_values(&[name]).observe(start.elapsed().as_secs_f64());
        result
    }

    /// Runs a prepared statement, and folds its rows into `result`. Preparing is a round trip of its own, once.
    pub(super) fn fold<T>(
        &mut self,
        statement: Statement<'_>,
        params: impl Into<Params>,
        result: T,
        mut put: impl FnMut(&mut T, Row),
    ) -> Result<T, mysql::Error> {
        let prepared = self.conn()?.prep(statement.sql)?;
        self.query(statement.name, |conn| {
            conn.exec_fold(&prepared, params, result, |mut result, row| {
                put(&mut result, row);
                result
            })
        })
    }

    /// Runs a prepared statement without rows, and returns the number of rows that it changed.
    pub(super) fn execute(&mut self, statement: Statement<'_>, params: impl Into<Params>) -> Result<u64, mysql::Error> {
        let prepared = self.conn()?.prep(statement.sql)?;
        self.query(statement.name, |conn| {
            conn.exec_drop(&prepared, params)?;
            Ok(conn.affected_rows())
        })
    }

    /// Whether bytes have arrived or the other end has closed. Then an abandoned statement has ended.
    pub(super) fn has_input(&self) -> bool {
        let descriptor = descriptor(&self.conn);
        let mut sockets = [PollFd::new(&descriptor, PollFlags::IN)];
        let immediately = Timespec { tv_sec: 0, tv_nsec: 0 };
        // After an error nothing is known of the socket, so it counts as closed.
        poll(&mut sockets, Some(&immediately)).map_or(true, |ready| ready > 0)
    }
}

impl<'a> Statement<'a> {
    pub(super) const fn new(name: &'static str, sql: &'a str) -> Statement<'a> {
        Statement { name, sql }
    }
}

impl OpenConnection {
    /// Counts one more connection in `open`.
    pub(super) fn count(open: &Arc<AtomicUsize>) -> OpenConnection {
        open.fetch_add(1, Ordering::Relaxed);
        METRICS.database_connections.inc();
        OpenConnection { open: Arc::clone(open) }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        METRICS.database_connections.dec();
    }
}

/// The crate lends no more of its socket than the raw descriptor.
#[allow(unsafe_code)]
fn descriptor(conn: &Conn) -> BorrowedFd<'_> {
    // SAFETY: `conn` owns the descriptor and keeps it open as long as the returned borrow of `conn` lasts.
    unsafe { BorrowedFd::borrow_raw(conn.as_raw_fd()) }
}

/// An address in the form that the crate takes instead of a name.
fn literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
