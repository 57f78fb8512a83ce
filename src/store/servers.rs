//! The database's servers: their names, their addresses, which of them to try first, and a connection that nobody uses yet.
//!
//! Names are resolved by one thread that nobody waits for, because a resolver may hang; everybody else uses the addresses
//! that it found last. Every address of a name is tried, and one that failed is tried last for a while.

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Value};

use super::connection::{Account, Connection};
use super::error::ConnectError;
use crate::system::LeanConnection;

/// A server as it is set: a name or an address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address.
    pub name: String,
    /// TCP port.
    pub port: u16,
}

/// The servers and what is known of them.
pub struct Servers {
    hosts: Vec<Host>,
    account: Account,
    known: Mutex<Known>,
    asked: Condvar,
    /// A connection that is open and has no client.
    spare: Mutex<Option<Connection>>,
}

#[derive(Default)]
struct Known {
    addresses: Vec<Address>,
    /// Somebody could not connect since the names were resolved last.
    stale: bool,
    /// The server that all clients are to use.
    current: Option<SocketAddr>,
    /// How often that has changed.
    generation: u64,
}

#[derive(Debug, Clone)]
struct Address {
    host: Host,
    socket: SocketAddr,
    failed: Option<Instant>,
}

/// How long a failed address is tried after the others.
const AVOID: Duration = Duration::from_secs(30);
/// Names are not resolved more often than this.
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

impl Servers {
    /// The servers called `hosts`, none of them resolved yet.
    pub fn new(hosts: Vec<Host>, account: Account) -> Servers {
        Servers { hosts, account, known: Mutex::default(), asked: Condvar::new(), spare: Mutex::default() }
    }

    /// Finds the addresses of all names; may take as long as the resolver likes. Names that can't be resolved now keep the
    /// addresses they had. An error when none is known at all.
    pub fn resolve(&self) -> Result<(), ConnectError> {
        let found: Vec<_> = self.hosts.iter().map(|h| (h, (h.name.as_str(), h.port).to_socket_addrs())).collect();
        let mut known = self.lock();
        known.stale = false;
        let before = std::mem::take(&mut known.addresses);
        let mut missing = None;
        for (host, sockets) in found {
            let mut add = |socket: SocketAddr| {
                let failed = before.iter().find(|a| a.socket == socket).and_then(|a| a.failed);
                if !known.addresses.iter().any(|a| a.socket == socket) {
                    known.addresses.push(Address { host: host.clone(), socket, failed });
                }
            };
            match sockets {
                Ok(sockets) => sockets.for_each(&mut add),
                Err(error) => {
                    before.iter().filter(|a| a.host == *host).for_each(|a| add(a.socket));
                    missing = Some(ConnectError::NameNotFound { host: host.name.clone(), reason: error.to_string() });
                }
            }
        }
        match missing {
            Some(error) if known.addresses.is_empty() => Err(error),
            Some(_) | None => Ok(()),
        }
    }

    /// Resolves the names again whenever somebody could not connect; for a thread of its own.
    pub fn keep_resolved(&self) -> ! {
        loop {
            let mut known = self.lock();
            while !known.stale {
                known = self.asked.wait(known).unwrap_or_else(PoisonError::into_inner);
            }
            drop(known);
            if let Err(error) = self.resolve() {
                log::warn!("{error}");
            }
            std::thread::sleep(RESOLVE_PAUSE);
        }
    }

    /// Opens a connection with the first server that gives one and takes writes, within `limit` for all of them together; with
    /// one that takes none when there is no other. Its statements wait for row locks for `lock_wait` seconds.
    pub(super) fn connect(&self, limit: Duration, lock_wait: Option<u64>) -> Result<Connection, ConnectError> {
        let addresses = self.in_order();
        let end = Instant::now() + limit;
        let mut reader = None;
        let mut telling = ConnectError::NameNotFound {
            host: self.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(","),
            reason: "not resolved yet".to_owned(),
        };
        for (at, address) in addresses.iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let share = left / (addresses.len() - at) as u32;
            let opened =
                self.account.open(&address.host.name, address.socket, share, lock_wait).and_then(|mut connection| {
                    // One server is taken as it is; of several, the primary.
                    let writable = addresses.len() == 1 || takes_writes(&mut connection)?;
                    Ok((connection, writable))
                });
            match opened {
                Ok((connection, true)) => return Ok(self.settle_on(connection, address.socket)),
                Ok((connection, false)) => reader = Some((connection, address.socket)),
                Err(error) => {
                    self.avoid(address.socket);
                    let error = ConnectError::of(&error, address.to_string());
                    if error.weight() >= telling.weight() {
                        telling = error;
                    }
                }
            }
        }
        match reader {
            Some((connection, server)) => Ok(Connection::of_reader(connection, server)),
            None => Err(telling),
        }
    }

    /// Keeps a connection for the client that needs one next.
    pub(super) fn keep_spare(&self, connection: Connection) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// The connection that is kept, if there is one.
    pub(super) fn take_spare(&self) -> Option<Connection> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// All clients go to the same server: one that reads elsewhere would miss what was written here.
    fn settle_on(&self, connection: LeanConnection, server: SocketAddr) -> Connection {
        let mut known = self.lock();
        if known.current != Some(server) {
            if known.current.is_some() {
                log::warn!("going over to the database server {server}");
            }
            known.current = Some(server);
            known.generation += 1;
        }
        Connection::of_primary(connection, server, known.generation)
    }

    /// Whether a connection that was opened in this generation is still one with the right server.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.lock().generation == generation
    }

    /// Tries `socket` last for a while, and has the names resolved again.
    pub(super) fn avoid(&self, socket: SocketAddr) {
        let mut known = self.lock();
        if let Some(address) = known.addresses.iter_mut().find(|a| a.socket == socket) {
            address.failed = Some(Instant::now());
        }
        known.stale = true;
        self.asked.notify_one();
    }

    /// Whether some server takes TCP connections, within `timeout` for each address; for whoever waits for the first one.
    pub fn listens(&self, timeout: Duration) -> bool {
        self.in_order().iter().any(|address| TcpStream::connect_timeout(&address.socket, timeout).is_ok())
    }

    /// The addresses that are known, for a person to read.
    pub fn addresses(&self) -> Vec<String> {
        self.in_order().iter().map(Address::to_string).collect()
    }

    /// The name of the database.
    pub fn database(&self) -> &str {
        &self.account.database
    }

    fn in_order(&self) -> Vec<Address> {
        let known = self.lock();
        let mut addresses = known.addresses.clone();
        let current = known.current;
        drop(known);
        let now = Instant::now();
        let failed = |a: &Address| a.failed.filter(|failed| now.duration_since(*failed) < AVOID);
        addresses.sort_by_key(|a| (failed(a), current != Some(a.socket)));
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn takes_writes(connection: &mut Conn) -> Result<bool, mysql::Error> {
    // A number or a word, as the version has it.
    let read_only: Option<Value> = connection.query_first("SELECT @@GLOBAL.read_only LIMIT 1")?;
    Ok(matches!(read_only, Some(Value::Bytes(value)) if value == b"0" || value == b"OFF"))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.name.parse::<IpAddr>() {
            Ok(_) => write!(f, "{}", self.socket),
            Err(_) => write!(f, "{} ({})", self.host, self.socket.ip()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(hosts: &[&str]) -> Servers {
        let hosts = hosts.iter().map(|name| Host { name: (*name).to_owned(), port: 3306 }).collect();
        let encryption = crate::store::Encryption::Disabled;
        let account =
            Account { user: "u".into(), password: None, database: "d".into(), encryption, client_certificate: None };
        Servers::new(hosts, account)
    }

    fn order(servers: &Servers) -> Vec<String> {
        servers.in_order().iter().map(|a| a.socket.ip().to_string()).collect()
    }

    #[test]
    fn servers_are_tried_in_the_order_they_are_set_but_failed_ones_last() {
        let servers = servers(&["127.0.0.1", "127.0.0.2", "::1"]);
        servers.resolve().unwrap();
        assert_eq!(order(&servers), ["127.0.0.1", "127.0.0.2", "::1"]);
        servers.avoid("127.0.0.1:3306".parse().unwrap());
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
    fn names_that_are_not_found_for_a_while_keep_their_addresses_and_their_places() {
        let servers = servers(&["a.invalid", "127.0.0.2", "b.invalid"]);
        let address = |name: &str, ip: &str| Address {
            host: Host { name: name.into(), port: 3306 },
            socket: format!("{ip}:3306").parse().unwrap(),
            failed: None,
        };
        servers.lock().addresses = vec![address("a.invalid", "127.0.0.1"), address("b.invalid", "127.0.0.3")];
        servers.resolve().unwrap();
        assert_eq!(order(&servers), ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    }
}
