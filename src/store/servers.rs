//! The database's servers: their names, their addresses, and which of them is used.
//!
//! A separate thread resolves the names, because a resolver may hang; the other threads use the addresses that it found last.
//! Every address of a name is tried, and one that failed is tried last for a while. Never runs a statement of the board.

use std::fmt;
use std::io;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::account::Account;
use super::connect_error::{Cause, ConnectError};
use super::connection::{Connection, OpenConnection, Opened, ServerAddress};
use super::error::WriteBlock;
use super::session::{ServerInfo, SessionLimits};
use crate::metrics::METRICS;

/// A server as it is set: a name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address; or the path of a Unix socket, which begins with `/`.
    pub name: String,
    /// TCP port; unused for a Unix socket.
    pub port: u16,
}

/// The servers and what is known of them.
pub struct Servers {
    hosts: Vec<Host>,
    account: Mutex<Account>,
    /// Connections that this service may have to one server.
    max_connections: usize,
    known: Mutex<Known>,
    /// How often the primary has changed, or was given up.
    generation: AtomicU64,
    became_stale: Condvar,
}

#[derive(Default)]
struct Known {
    addresses: Vec<Address>,
    /// A connect has failed since the names were resolved last.
    stale: bool,
    /// The server that all connections use.
    primary: Option<ServerAddress>,
}

#[derive(Debug, Clone)]
struct Address {
    host: Host,
    socket: ServerAddress,
    failed: Option<Instant>,
    /// Open connections of this service, abandoned ones included.
    open: Arc<AtomicUsize>,
}

/// How long an address that failed is tried after the others.
const AVOID: Duration = Duration::from_secs(30);
/// The shortest time between two resolutions of the names.
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

impl Servers {
    /// The servers called `hosts`, none of them resolved yet.
    pub fn new(hosts: Vec<Host>, account: Account, max_connections: usize) -> Servers {
        let account = Mutex::new(account);
        let (known, became_stale) = (Mutex::default(), Condvar::new());
        Servers { hosts, account, max_connections, known, generation: AtomicU64::new(0), became_stale }
    }

    /// Finds the addresses of all names, however long the resolver takes. A name that can't be resolved now keeps the addresses
    /// that it had. An error when no address is known at all.
    pub fn resolve(&self) -> Result<(), ConnectError> {
        let found: Vec<_> = self.hosts.iter().map(|host| (host, host.addresses())).collect();
        let mut known = self.lock();
        known.stale = false;
        let before = std::mem::take(&mut known.addresses);
        let mut missing = None;
        for (host, sockets) in found {
            let mut add = |socket: ServerAddress| {
                if known.addresses.iter().any(|a| a.socket == socket) {
                    return;
                }
                let address = match before.iter().find(|a| a.socket == socket) {
                    Some(address) => Address { host: host.clone(), ..address.clone() },
                    None => Address { host: host.clone(), socket, failed: None, open: Arc::default() },
                };
                known.addresses.push(address);
            };
            match sockets {
                Ok(sockets) => sockets.into_iter().for_each(&mut add),
                Err(error) => {
                    before.iter().filter(|a| a.host == *host).for_each(|a| add(a.socket.clone()));
                    missing = Some(self.not_found(&host.name, &error.to_string()));
                }
            }
        }
        match missing {
            Some(error) if known.addresses.is_empty() => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// Resolves the names again whenever a connect has failed; for a thread of its own.
    pub(super) fn keep_resolved(&self) -> ! {
        loop {
            let mut known = self.lock();
            while !known.stale {
                known = self.became_stale.wait(known).unwrap_or_else(PoisonError::into_inner);
            }
            drop(known);
            if let Err(error) = self.resolve() {
                warn!("{error}");
            }
            std::thread::sleep(RESOLVE_PAUSE);
        }
    }

    /// Connects to the first server that takes writes, or, when none does, to the first that takes none. `limit` is for all
    /// servers together. `session` limits what the server spends on one statement.
    pub(super) fn connect(&self, limit: Duration, session: Option<SessionLimits>) -> Result<Connection, ConnectError> {
        let addresses = self.in_order();
        let deadline = Instant::now() + limit;
        let mut reader = None;
        let mut failure = self.not_found(&self.names(), "not resolved yet");
        for (at, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let share = left / (addresses.len() - at) as u32;
            match self.open(address, share, session) {
                Ok(opened) if opened.1.write_block.is_none() => {
                    return Ok(self.adopt_primary(address.socket.clone(), opened));
                }
                Ok(opened) => drop(reader.get_or_insert((address.socket.clone(), opened))),
                Err(error) => {
                    METRICS.database_connects.with_label_values(&[error.cause.label()]).inc();
                    if !matches!(error.cause, Cause::Saturated | Cause::TooManyConnections) {
                        self.mark_failed(&address.socket);
                    }
                    if error.cause.specificity() >= failure.cause.specificity() {
                        failure = error;
                    }
                }
            }
        }
        match reader {
            Some((server, opened)) => Ok(self.adopt_primary(server, opened)),
            None => Err(failure),
        }
    }

    /// The number of the choice of the primary; connections of another one go to another server.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Open connections of this service to the primary.
    pub(super) fn open_connections(&self) -> usize {
        let known = self.lock();
        let primary = known.addresses.iter().find(|a| Some(&a.socket) == known.primary.as_ref());
        primary.map_or(0, |address| address.open.load(Ordering::Relaxed))
    }

    /// Tries `socket` after the others for a while, and has the names resolved again.
    pub(super) fn mark_failed(&self, socket: &ServerAddress) {
        let mut known = self.lock();
        if let Some(address) = known.addresses.iter_mut().find(|a| a.socket == *socket) {
            address.failed = Some(Instant::now());
        }
        known.stale = true;
        self.became_stale.notify_one();
    }

    /// Like [`Servers::mark_failed`], after a statement without an answer. Where there are other servers, no connection is kept
    /// any longer: the slots of all that still wait for this server are free for connections to another one.
    pub(super) fn give_up(&self, socket: &ServerAddress) {
        self.mark_failed(socket);
        let known = self.lock();
        if known.addresses.len() > 1 && known.primary.as_ref() == Some(socket) {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether a server accepts TCP connections, within `timeout` for each address.
    pub fn accepts_connections(&self, timeout: Duration) -> bool {
        self.in_order().iter().any(|address| match &address.socket {
            ServerAddress::Tcp(socket) => TcpStream::connect_timeout(socket, timeout).is_ok(),
            ServerAddress::Unix(path) => UnixStream::connect(path).is_ok(),
        })
    }

    /// The known addresses, for people.
    pub fn addresses(&self) -> Vec<String> {
        self.in_order().iter().map(Address::to_string).collect()
    }

    /// Logs in to each server in turn, within `timeout` each: what it is, or why it can't be used.
    pub fn probe_each(&self, timeout: Duration) -> Vec<(String, Result<ServerInfo, ConnectError>)> {
        let probe = |address: &Address| (address.to_string(), self.open(address, timeout, None).map(|opened| opened.1));
        self.in_order().iter().map(probe).collect()
    }

    /// The name of the database.
    pub fn database(&self) -> String {
        self.account().database
    }

    fn open(&self, address: &Address, share: Duration, session: Option<SessionLimits>) -> Result<Opened, ConnectError> {
        let text = address.to_string();
        if address.open.load(Ordering::Relaxed) >= self.max_connections {
            let text = format!("all connections to {text} wait for abandoned statements (DB_CONNECTIONS)");
            return Err(ConnectError::new(Cause::Saturated, text));
        }
        let counted = OpenConnection::count(&address.open);
        let mut account = self.account();
        let mut opened = account.open(&address.host.name, &address.socket, share, session);
        if let Err(error) = &opened
            && let Some(password) = self.reload_password(error)
        {
            account.password = Some(password);
            opened = account.open(&address.host.name, &address.socket, share, session);
        }
        match opened {
            Ok((_, info)) if info.write_block == Some(WriteBlock::LostCluster) => {
                let text = format!("{text}: this node has lost its cluster (wsrep_ready is OFF)");
                Err(ConnectError::new(Cause::LostCluster, text))
            }
            Ok((conn, info)) => Ok((conn, info, counted)),
            Err(error) => Err(ConnectError::of_driver(&error, &text, &account)),
        }
    }

    /// The password that its file holds now, when a login was denied and the file has changed.
    fn reload_password(&self, error: &mysql::Error) -> Option<String> {
        let mysql::Error::MySqlError(server) = error else { return None };
        if server.code != 1045 {
            return None;
        }
        let account = self.account();
        let password = account.reload_password.as_ref()?()?;
        if account.password.as_ref() == Some(&password) {
            return None;
        }
        info!("the login was denied and the password's file has changed; trying the new password");
        self.account.lock().unwrap_or_else(PoisonError::into_inner).password = Some(password.clone());
        Some(password)
    }

    /// All connections use one server, so that no read misses what another connection wrote.
    fn adopt_primary(&self, server: ServerAddress, opened: Opened) -> Connection {
        let mut known = self.lock();
        if known.primary.as_ref() != Some(&server) {
            if known.primary.is_some() {
                warn!("switching to the database server {server}");
            }
            known.primary = Some(server.clone());
            self.generation.fetch_add(1, Ordering::AcqRel);
            METRICS.set_database_server(&server.to_string(), &opened.1.version.text);
        }
        Connection::new(opened, server, self.generation())
    }

    fn in_order(&self) -> Vec<Address> {
        let known = self.lock();
        let mut addresses = known.addresses.clone();
        let primary = known.primary.clone();
        drop(known);
        let now = Instant::now();
        let failed = |a: &Address| a.failed.filter(|failed| now.duration_since(*failed) < AVOID);
        addresses.sort_by_key(|a| (failed(a), primary.as_ref() != Some(&a.socket)));
        addresses
    }

    fn not_found(&self, host: &str, reason: &str) -> ConnectError {
        ConnectError::name_not_found(host, reason, &self.account())
    }

    fn names(&self) -> String {
        self.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(",")
    }

    fn account(&self) -> Account {
        self.account.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// All addresses of the name, however long the resolver takes.
    fn addresses(&self) -> io::Result<Vec<ServerAddress>> {
        if self.is_unix_socket() {
            return Ok(vec![ServerAddress::Unix(self.name.clone().into())]);
        }
        let sockets = (self.name.as_str(), self.port).to_socket_addrs()?;
        Ok(sockets.map(ServerAddress::Tcp).collect())
    }

    fn is_unix_socket(&self) -> bool {
        self.name.starts_with('/')
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unix_socket() {
            f.write_str(&self.name)
        } else if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            ServerAddress::Tcp(socket) if self.host.name.parse::<IpAddr>().is_err() => {
                write!(f, "{} ({})", self.host, socket.ip())
            }
            socket => socket.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(hosts: &[&str]) -> Servers {
        let hosts = hosts.iter().map(|name| Host { name: (*name).to_owned(), port: 3306 }).collect();
        let encryption = crate::store::Encryption::Disabled;
        let account = Account { user: "u".into(), database: "d".into(), encryption, ..Account::default() };
        Servers::new(hosts, account, 1)
    }

    fn order(servers: &Servers) -> Vec<String> {
        let ip = |address: &Address| match &address.socket {
            ServerAddress::Tcp(socket) => socket.ip().to_string(),
            ServerAddress::Unix(path) => path.display().to_string(),
        };
        servers.in_order().iter().map(ip).collect()
    }

    #[test]
    fn servers_are_tried_in_the_order_of_the_setting_but_failed_ones_last() {
        let servers = servers(&["127.0.0.1", "127.0.0.2", "::1"]);
        servers.resolve().unwrap();
        assert_eq!(order(&servers), ["127.0.0.1", "127.0.0.2", "::1"]);
        servers.mark_failed(&ServerAddress::Tcp("127.0.0.1:3306".parse().unwrap()));
        assert_eq!(order(&servers), ["127.0.0.2", "::1", "127.0.0.1"]);
        servers.resolve().unwrap();
        assert_eq!(order(&servers), ["127.0.0.2", "::1", "127.0.0.1"], "resolving forgets no failure");
    }

    #[test]
    fn a_name_that_is_not_found_is_an_error_only_when_nothing_else_is_known() {
        let error = servers(&["no-such-host.invalid"]).resolve().unwrap_err();
        assert!(
            error.to_string().contains("no-such-host.invalid") && error.to_string().contains("MYSQL_HOST"),
            "{error}"
        );
        let servers = servers(&["no-such-host.invalid", "127.0.0.1"]);
        servers.resolve().unwrap();
        assert_eq!(order(&servers), ["127.0.0.1"]);
    }

    #[test]
    fn names_that_are_not_found_for_a_while_keep_their_addresses_and_their_order() {
        let servers = servers(&["a.invalid", "127.0.0.2", "b.invalid"]);
        let address = |name: &str, ip: &str| Address {
            host: Host { name: name.into(), port: 3306 },
            socket: ServerAddress::Tcp(format!("{ip}:3306").parse().unwrap()),
            failed: None,
            open: Arc::default(),
        };
        servers.lock().addresses = vec![address("a.invalid", "127.0.0.1"), address("b.invalid", "127.0.0.3")];
        servers.resolve().unwrap();
        assert_eq!(order(&servers), ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    }

    #[test]
    fn a_server_with_its_share_of_connections_gets_no_other_one() {
        let servers = servers(&["127.0.0.1"]);
        servers.resolve().unwrap();
        let _open = OpenConnection::count(&servers.lock().addresses[0].open);
        let error = servers.connect(Duration::from_secs(1), None).err();
        assert!(error.as_ref().is_some_and(|error| error.cause == Cause::Saturated), "{error:?}");
    }
}
