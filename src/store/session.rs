//! The session of a connection: the statement that sets it up after the login, the check of what the server made of it, and
//! what the server is.
//!
//! Never opens a connection, and never decides which server is used.

use std::io;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Row};

use super::error::{Error, WriteBlock};

/// What the server may spend on one statement of this session.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    /// Seconds to wait for a row lock or a metadata lock.
    pub(super) lock_wait: u64,
    /// Time of a complete statement, as far as the server can limit it.
    pub(super) statement: Duration,
}

/// What is known of the server at the other end of a session.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Its product and version.
    pub version: Version,
    /// Why the server takes no writes, if it takes none.
    pub write_block: Option<WriteBlock>,
    /// Whether it is a node of a Galera cluster.
    is_galera: bool,
}

/// A database product and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As the server reports it.
    pub text: String,
    is_mariadb: bool,
    numbers: (u32, u32, u32),
}

const SQL_MODE: &str = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION";
const GALERA: &str = "SELECT @@wsrep_on LIMIT 1";
const GALERA_READY: &str = "SHOW GLOBAL STATUS LIKE 'wsrep_ready'";
/// Reads wait until this node has applied what other nodes have committed: a replica of this service on another node may
/// have acknowledged it.
const GALERA_FRESH_READS: &str = "SET SESSION wsrep_sync_wait = 1";

/// Sets the session up, verifies what the server made of it, and returns what the server is. Without `limits` its
/// statements may take as long as they need.
pub(super) fn set_up(connection: &mut Conn, limits: Option<SessionLimits>) -> Result<ServerInfo, mysql::Error> {
    connection.query_drop(set_statement(is_mariadb(connection), limits))?;
    let required = required(limits);
    let names: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    let select = format!("SELECT VERSION(), @@GLOBAL.read_only, @@innodb_read_only, @@{} LIMIT 1", names.join(", @@"));
    let row: Option<Row> = connection.query_first(select)?;
    let text = |at: usize| row.as_ref().and_then(|row| row.get_opt::<String, _>(at)?.ok()).unwrap_or_default();
    let version = Version::new(text(0));
    let read_only = is_on(&text(1)) || is_on(&text(2));
    verify(&required, |at| text(at + 3)).map_err(io::Error::other)?;

    let is_galera = version.is_mariadb && is_galera(connection)?;
    let mut info = ServerInfo { version, is_galera, write_block: read_only.then_some(WriteBlock::ReadOnly) };
    if info.has_lost_cluster(connection)? {
        info.write_block = Some(WriteBlock::LostCluster);
    }
    if is_galera {
        connection.query_drop(GALERA_FRESH_READS)?;
    }
    Ok(info)
}

impl ServerInfo {
    /// Whether the server is a Galera node outside the primary component of its cluster.
    pub(super) fn has_lost_cluster(&self, connection: &mut Conn) -> Result<bool, mysql::Error> {
        if !self.is_galera {
            return Ok(false);
        }
        let ready: Option<(String, String)> = connection.query_first(GALERA_READY)?;
        Ok(ready.is_none_or(|(_, value)| !is_on(&value)))
    }
}

impl Version {
    fn new(text: String) -> Version {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let numbers = (next(), next(), next());
        Version { is_mariadb: text.contains("MariaDB"), text, numbers }
    }

    /// Whether this service runs on it; an error says which versions it needs.
    pub fn check(&self) -> Result<(), Error> {
        let oldest = if self.is_mariadb { (10, 5, 0) } else { (8, 0, 13) };
        if self.numbers >= oldest {
            return Ok(());
        }
        let needed = "twotier needs MySQL 8.0.13 or newer, or MariaDB 10.5 or newer";
        Err(Error::Refused(format!("the server is version {}; {needed}", self.text)))
    }

    pub(super) fn is_mariadb(&self) -> bool {
        self.is_mariadb
    }

    /// Whether an INSERT can return the rows that it made.
    pub(super) fn inserts_returning(&self) -> bool {
        self.is_mariadb && self.check().is_ok()
    }
}

/// Whether a variable is on; the server writes it as a number or a word, depending on its version.
pub(super) fn is_on(value: &str) -> bool {
    !matches!(value, "0" | "OFF")
}

fn is_galera(connection: &mut Conn) -> Result<bool, mysql::Error> {
    match connection.query_first::<String, _>(GALERA) {
        Ok(value) => Ok(value.is_some_and(|value| is_on(&value))),
        // A server that was built without Galera does not know the variable.
        Err(mysql::Error::MySqlError(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Decided by the greeting, where MariaDB calls itself 5.5.5 or, in newer versions, 10 and above. MySQL has no version 10
/// yet.
fn is_mariadb(connection: &Conn) -> bool {
    let version = connection.server_version();
    version == (5, 5, 5) || version.0 >= 10
}

/// The variables that are verified, with their values: no text may be read in another character set, and an acknowledged
/// message must be committed and unique, whatever the server's defaults are.
fn required(limits: Option<SessionLimits>) -> Vec<(&'static str, String)> {
    let always = [
        ("character_set_client", "utf8mb4"),
        ("character_set_connection", "utf8mb4"),
        ("character_set_results", "utf8mb4"),
        ("autocommit", "1"),
        ("time_zone", "+00:00"),
        ("sql_mode", SQL_MODE),
        ("unique_checks", "1"),
    ];
    let always = always.map(|(name, value)| (name, value.to_owned()));
    let waits = limits.map(|limits| {
        ["innodb_lock_wait_timeout", "lock_wait_timeout"].map(|name| (name, limits.lock_wait.to_string()))
    });
    always.into_iter().chain(waits.into_iter().flatten()).collect()
}

fn set_statement(mariadb: bool, limits: Option<SessionLimits>) -> String {
    let mut sql = "SET NAMES utf8mb4, foreign_key_checks = 1, sql_quote_show_create = 1".to_owned();
    for (name, value) in required(limits) {
        let is_number = value.bytes().all(|b| b.is_ascii_digit());
        sql.push_str(&if is_number { format!(", {name} = {value}") } else { format!(", {name} = '{value}'") });
    }
    let isolation = if mariadb { "tx_isolation" } else { "transaction_isolation" };
    sql.push_str(&format!(", {isolation} = 'REPEATABLE-READ'"));
    if mariadb {
        // The warnings of a complete batch must be kept. MySQL keeps as many by default, and lets no ordinary user set it.
        sql.push_str(", max_error_count = 1024");
    }
    // Without limits, one of the server's own would stop the upgrade of a large table each time.
    let statement = limits.map_or(Duration::ZERO, |limits| limits.statement);
    sql.push_str(&if mariadb {
        format!(", max_statement_time = {}", statement.as_secs_f64())
    } else {
        // MySQL can limit reads alone.
        format!(", max_execution_time = {}", statement.as_millis())
    });
    sql
}

/// An error names the variable that the server has set to another value.
fn verify(required: &[(&'static str, String)], found: impl Fn(usize) -> String) -> Result<(), String> {
    for (at, (name, value)) in required.iter().enumerate() {
        let found = found(at);
        if found != *value {
            return Err(format!("the server set {name} to '{found}' instead of '{value}'"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits = SessionLimits { lock_wait: 3, statement: Duration::from_millis(2500) };

    #[test]
    fn each_product_gets_its_own_limit_of_a_statement_and_both_get_the_same_lock_waits() {
        let (mariadb, mysql) = (set_statement(true, Some(LIMITS)), set_statement(false, Some(LIMITS)));
        for sql in [&mariadb, &mysql] {
            assert!(sql.starts_with("SET NAMES utf8mb4, "), "{sql}");
            assert!(sql.contains(", autocommit = 1, time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,"), "{sql}");
            assert!(sql.contains(" innodb_lock_wait_timeout = 3, lock_wait_timeout = 3"), "{sql}");
        }
        assert!(mariadb.contains("max_statement_time = 2.5") && mariadb.contains("tx_isolation"), "{mariadb}");
        assert!(!mysql.contains("max_error_count"), "it needs the privilege SESSION_VARIABLES_ADMIN: {mysql}");
        assert!(mysql.contains("max_execution_time = 2500") && mysql.contains("transaction_isolation"), "{mysql}");
        assert!(set_statement(true, None).ends_with("max_statement_time = 0"));
    }

    #[test]
    fn a_session_with_another_value_is_refused_with_the_name_of_the_variable() {
        let required = required(Some(LIMITS));
        assert_eq!(verify(&required, |at| required[at].1.clone()), Ok(()));
        for (changed, (name, _)) in required.iter().enumerate() {
            let found = |at: usize| if at == changed { "gbk".to_owned() } else { required[at].1.clone() };
            let reason = verify(&required, found).unwrap_err();
            assert!(reason.contains(&format!("{name} to 'gbk'")), "{reason}");
        }
    }

    #[test]
    fn products_and_supported_versions_are_recognised() {
        let mariadb = ["10.5.0-MariaDB", "10.11.19-MariaDB-0+deb12u1", "11.8.6-MariaDB-ubu2404"];
        let mysql = ["8.0.13", "8.4.0", "9.7.4", "10.0.0"];
        for text in mariadb.iter().chain(&mysql) {
            let version = Version::new((*text).to_owned());
            assert_eq!(version.check(), Ok(()), "{text}");
            assert_eq!(version.inserts_returning(), mariadb.contains(text), "{text}");
        }
        for text in ["5.7.44", "8.0.12", "10.4.34-MariaDB", "5.5.68-MariaDB", ""] {
            let version = Version::new(text.to_owned());
            assert!(version.check().is_err() && !version.inserts_returning(), "{text}");
        }
    }
}
