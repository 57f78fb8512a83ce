//! A connection with one server: who we are, how it is encrypted, and how long each of its round trips may wait.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mysql::{ClientIdentity, Conn, DriverError, Opts, OptsBuilder, SslOpts};

use super::version::Version;
use crate::metrics::METRICS;
use crate::system::{LeanConnection, limit_waiting};

/// Who we are to the database.
#[derive(Clone, Default)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Password, if there is one.
    pub password: Option<String>,
    /// The database with the table.
    pub database: String,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// What the client shows to the server.
    pub client_certificate: Option<ClientCertificate>,
}

/// How a connection to the database is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Not encrypted.
    #[default]
    Disabled,
    /// Encrypted if the server offers it; the certificate is not checked.
    Preferred,
    /// Encrypted; the certificate is not checked.
    Required,
    /// Encrypted; the certificate is checked against this authority and the built-in ones, the host name is not.
    VerifyCa(PathBuf),
    /// Encrypted; certificate and host name are checked against the built-in authorities and this one, if there is one.
    VerifyIdentity(Option<PathBuf>),
}

/// A client's certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A connection, and which server it goes to.
pub(super) struct Connection {
    connection: LeanConnection,
    /// Statements that it was asked.
    asked: u32,
    /// The other end.
    pub(super) server: SocketAddr,
    /// The generation of servers that it belongs to; none for a server that takes no writes, which is used once.
    generation: Option<u64>,
    /// When the work that it is used for has to be done.
    end: Option<Instant>,
    /// What its socket waits for an answer.
    patience: Option<Duration>,
    /// A backslash in a statement's text is a letter.
    pub(super) no_backslash_escape: bool,
    /// Whether an INSERT can give back the rows that it made, once somebody has asked.
    inserts_returning: Option<bool>,
}

/// Silence on a connection after which the system asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// How long what was sent may stay unacknowledged by the other end's system before the connection counts as broken.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// After so many statements a connection's buffers are made small again. That costs some microseconds, and as many answers
/// are less than a hundred KiB when they are pages of short messages.
const EMPTIED_AFTER: u32 = 16;
/// How often a login waits for the server at most: the greeting, two rounds of authentication, the first statement.
const LOGIN_WAITS: u32 = 4;
/// The largest packet that the crate takes or sends; the server's own limit is the one that matters, and asking for it
/// would cost a round trip per connection.
const MAX_PACKET: usize = 64 * 1024 * 1024;

impl Account {
    /// Opens a connection with the server called `name` at `address`. `share` bounds the connect, and the login;
    /// statements wait for row locks for `lock_wait` seconds.
    pub(super) fn open(
        &self,
        name: &str,
        address: SocketAddr,
        share: Duration,
        lock_wait: Option<u64>,
    ) -> Result<LeanConnection, mysql::Error> {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let share = share.max(Duration::from_millis(1) * LOGIN_WAITS);
        // Acknowledged means committed, also where somebody has turned that off for everybody.
        let init = match lock_wait {
            Some(wait) => format!("SET SESSION autocommit = 1, innodb_lock_wait_timeout = {wait}"),
            None => "SET SESSION autocommit = 1".to_owned(),
        };
        let login = share / LOGIN_WAITS;
        let options = OptsBuilder::new()
            .tcp_port(address.port())
            .user(Some(&self.user))
            .pass(self.password.as_ref())
            .db_name(Some(&self.database))
            // It would go to the server's socket file after the first connect, wherever that is on this machine.
            .prefer_socket(false)
            .tcp_connect_timeout(Some(share))
            // For the greeting and the login; statements have their own.
            .read_timeout(Some(login))
            .write_timeout(Some(login))
            .tcp_keepalive_time_ms(Some(millis(KEEPALIVE)))
            .tcp_user_timeout_ms(Some(millis(USER_TIMEOUT)))
            .max_allowed_packet(Some(MAX_PACKET))
            .init(vec![init]);
        match LeanConnection::open(self.encrypted(options.clone(), name, address)) {
            Err(mysql::Error::DriverError(DriverError::TlsNotSupported))
                if self.encryption == Encryption::Preferred =>
            {
                LeanConnection::open(options.ip_or_hostname(Some(literal(address.ip()))).into())
            }
            result => result,
        }
    }

    fn encrypted(&self, options: OptsBuilder, name: &str, address: SocketAddr) -> Opts {
        let identity = self.client_certificate.clone().map(|files| ClientIdentity::new(files.cert, files.key));
        let ssl = SslOpts::default().with_client_identity(identity);
        match &self.encryption {
            Encryption::Disabled => options.ip_or_hostname(Some(literal(address.ip()))),
            Encryption::Preferred | Encryption::Required => {
                let any = ssl.with_danger_accept_invalid_certs(true);
                options.ip_or_hostname(Some(literal(address.ip()))).ssl_opts(any)
            }
            Encryption::VerifyCa(ca) => {
                let unnamed = ssl.with_root_cert_path(Some(ca.clone())).with_danger_skip_domain_validation(true);
                options.ip_or_hostname(Some(literal(address.ip()))).ssl_opts(unnamed)
            }
            // The crate checks the certificate against the host that it connects to, so it has to have the name and to
            // resolve it once more. By itself it tries the first address alone; bound to a family it tries all of that.
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

impl Connection {
    pub(super) fn of_primary(connection: LeanConnection, server: SocketAddr, generation: u64) -> Connection {
        Connection::new(connection, server, Some(generation))
    }

    pub(super) fn of_reader(connection: LeanConnection, server: SocketAddr) -> Connection {
        Connection::new(connection, server, None)
    }

    fn new(connection: LeanConnection, server: SocketAddr, generation: Option<u64>) -> Connection {
        METRICS.database_connections.inc();
        // As the answer to the first statement says it; the crate forgets it with each error that the server reports.
        let no_backslash_escape = connection.no_backslash_escape();
        let patience = Some(Duration::ZERO);
        Connection {
            connection,
            asked: 0,
            server,
            generation,
            end: None,
            patience,
            no_backslash_escape,
            inserts_returning: None,
        }
    }

    /// The generation that it can be kept for.
    pub(super) fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// All that is done from here on has to be done by `end`.
    pub(super) fn begin(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// The connection, for one more round trip: it waits no longer than what is left. An error when nothing is.
    pub(super) fn next(&mut self) -> Result<&mut Conn, mysql::Error> {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(mysql::Error::IoError(io::ErrorKind::TimedOut.into()));
        }
        // In rough steps, so that the socket's time-out stays as it is from one quick statement to the next.
        let patience = left.map(|left| Duration::from_millis((left.as_millis() as u64).div_ceil(50) * 50));
        if self.patience != patience {
            limit_waiting(&*self.connection, patience)?;
            self.patience = patience;
        }
        Ok(&mut self.connection)
    }

    /// Whether an INSERT can give back the rows that it made. The first time it is a round trip.
    pub(super) fn inserts_returning(&mut self) -> Result<bool, mysql::Error> {
        let known = match self.inserts_returning {
            Some(known) => known,
            None => Version::ask(self.next()?)?.inserts_returning,
        };
        self.inserts_returning = Some(known);
        Ok(known)
    }

    /// A round trip with the statement that the metrics call `name`; nothing of its answer is left to be read.
    pub(super) fn ask<T>(
        &mut self,
        name: &str,
        statement: impl FnOnce(&mut Conn) -> Result<T, mysql::Error>,
    ) -> Result<T, mysql::Error> {
        let connection = self.next()?;
        let start = Instant::now();
        let answer = statement(connection);
        METRICS.statement_seconds.with_label_values(&[name]).observe(start.elapsed().as_secs_f64());
        self.asked = self.asked.wrapping_add(1);
        if self.asked.is_multiple_of(EMPTIED_AFTER) {
            self.connection.slim();
        }
        answer
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        METRICS.database_connections.dec();
    }
}

impl Encryption {
    /// In words, for a person.
    pub fn describe(&self) -> &'static str {
        match self {
            Encryption::Disabled => "off",
            Encryption::Preferred => "on where the server offers it, certificate not checked",
            Encryption::Required => "on, certificate not checked",
            Encryption::VerifyCa(_) => "on, certificate checked, host name not",
            Encryption::VerifyIdentity(_) => "on, certificate and host name checked",
        }
    }
}

/// An address as the crate wants it in place of a name.
fn literal(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
