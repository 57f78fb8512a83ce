//! `twotier check`, which says in words what is wrong with the settings or the database, and `twotier healthcheck`,
//! which asks the local server. Changes nothing.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::store::schema::{SchemaState, Table};
use crate::store::{Client, Database, Error, Servers};

/// How long the local server may take to connect, and for each part of its response.
const HEALTH_TIMEOUT: Duration = Duration::from_millis(1500);

/// Asks the server at `listening` for `path`; an error says why it is not healthy.
pub fn health(listening: SocketAddr, path: &str) -> Result<(), String> {
    let local = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(local, listening.port());
    let ask = || {
        let mut socket = TcpStream::connect_timeout(&address, HEALTH_TIMEOUT)?;
        socket.set_read_timeout(Some(HEALTH_TIMEOUT))?;
        socket.set_write_timeout(Some(HEALTH_TIMEOUT))?;
        write!(socket, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut response = String::new();
        socket.take(16 * 1024).read_to_string(&mut response)?;
        Ok::<_, io::Error>(response)
    };
    let response = ask().map_err(|e| format!("{address}: {e}"))?;
    match response.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(_) | None => Err(response.lines().last().unwrap_or("no response").to_owned()),
    }
}

/// What the check prints, line by line; its end is the first finding that prevents the service from working.
struct Report<'a, W: Write> {
    out: &'a mut W,
}

/// Why a check ended early.
enum Stop {
    /// This is wrong.
    Finding(String),
    /// The report can't be written.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Finding(error.to_string())
    }
}

/// Prints the settings and tries the database, step by step. False when something is wrong.
///
/// # Errors
/// When the report can't be written.
pub fn run(config: &Config, out: &mut impl Write) -> io::Result<bool> {
    for (name, value) in &config.shown {
        writeln!(out, "{name}={value}")?;
    }
    for note in &config.notes {
        writeln!(out, "note: {note}")?;
    }
    writeln!(out)?;
    let mut report = Report { out };
    match report.database(config) {
        Ok(()) => {
            writeln!(report.out, "OK")?;
            Ok(true)
        }
        Err(Stop::Finding(finding)) => {
            writeln!(report.out, "wrong: {finding}")?;
            Ok(false)
        }
        Err(Stop::Io(error)) => Err(error),
    }
}

impl<W: Write> Report<'_, W> {
    fn say(&mut self, subject: &str, words: &str) -> io::Result<()> {
        writeln!(self.out, "{subject:<13} {words}")
    }

    fn database(&mut self, config: &Config) -> Result<(), Stop> {
        // One connection is enough, and the plan of the database may allow no more.
        let servers = Arc::new(Servers::new(config.hosts.clone(), config.account.clone(), 1));
        servers.resolve().map_err(|error| Stop::Finding(error.to_string()))?;
        self.say("names", &servers.addresses().join(", "))?;
        if !servers.accepts_connections(config.db_timeout) {
            let host = &config.account.settings.host;
            let words = format!("no address accepts connections: check that the database is up, then {host}");
            return Err(Stop::Finding(words));
        }
        self.say("connection", "accepted")?;
        self.say("encryption", config.account.encryption.describe())?;
        self.servers(&servers, config)?;

        let database = Database::new(servers, config.db_timeout, 1);
        let mut client = database.client()?;
        let version = client.version()?;
        self.say("login", &format!("as {}, to the database {}", config.account.user, config.account.database))?;
        self.say("server", &version.text)?;
        version.check()?;
        let table = client.table()?;
        let is_current = self.table(&table, config.take_over)?;
        if is_current {
            self.privileges(&mut client, config.take_over)?;
        }
        self.durability(&mut client, &table)?;
        Ok(())
    }

    /// With several servers, says of each what it is.
    fn servers(&mut self, servers: &Servers, config: &Config) -> Result<(), Stop> {
        if servers.addresses().len() < 2 {
            return Ok(());
        }
        for (server, result) in servers.probe_each(config.db_timeout) {
            let words = match result {
                Ok(info) => match info.write_block {
                    None => format!("{server}: {}, takes writes", info.version.text),
                    Some(block) => format!("{server}: {}, takes no writes: {block}", info.version.text),
                },
                Err(error) => format!("{server}: {error}"),
            };
            self.say("host", &words)?;
        }
        Ok(())
    }

    /// Whether the table has its current shape.
    fn table(&mut self, table: &Table, take_over: bool) -> Result<bool, Stop> {
        let state = table.state(take_over);
        let words = match &state {
            SchemaState::Current => "current",
            SchemaState::Missing => "missing; the next start creates it:",
            SchemaState::Needs(_) => "older; the next start changes it, beginning with:",
            SchemaState::Incompatible(reason) => return Err(Stop::Finding(reason.clone())),
        };
        self.say("table", words)?;
        for statement in state.statements() {
            writeln!(self.out, "    {};", statement.replace('\n', "\n    "))?;
        }
        Ok(state == SchemaState::Current)
    }

    /// Tries each kind of write on the table without a row.
    fn privileges(&mut self, client: &mut Client, take_over: bool) -> Result<(), Stop> {
        match client.write_block(take_over)? {
            None => self.say("writes", "INSERT, UPDATE and DELETE are allowed")?,
            Some(block) => return Err(Stop::Finding(block.to_string())),
        }
        Ok(())
    }

    fn durability(&mut self, client: &mut Client, table: &Table) -> Result<(), Stop> {
        let setting = client.flush_log()?;
        let words = match setting.as_str() {
            _ if !table.engine().is_empty() && !table.is_durable() => {
                format!("warning: the engine {} can lose commits in a crash", table.engine())
            }
            "1" => "innodb_flush_log_at_trx_commit=1: a commit is on disk before it is acknowledged".to_owned(),
            other => format!("warning: innodb_flush_log_at_trx_commit={other}: a crash can lose commits"),
        };
        self.say("durability", &words)?;
        Ok(())
    }
}
