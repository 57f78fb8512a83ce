//! What every session relies on: the statement that sets it right after the login, and the check of what the server
//! made of it.
//!
//! Never opens a connection, and never decides which server is used.

use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Row, Value};

use super::account::Account;
use super::error::ConnectError;
use super::version::Version;
use super::write_block::WriteBlock;

/// What the server is allowed to spend on one statement of this session.
#[derive(Debug, Clone, Copy)]
pub(super) struct SessionLimits {
    /// Seconds to wait for a row lock or a metadata lock.
    pub(super) lock_wait: u64,
    /// Time of a whole statement, as far as the server can limit it.
    pub(super) statement: Duration,
}

/// What is known of the server at the other end of a session.
#[derive(Debug, Clone)]
pub(super) struct ServerInfo {
    pub(super) version: Version,
    /// Whether it is a node of a Galera cluster.
    is_galera: bool,
    /// Why the server takes no writes, if it takes none.
    pub(super) write_block: Option<WriteBlock>,
}

/// Why a session can't be used.
#[derive(Debug)]
pub(super) enum SessionError {
    Driver(mysql::Error),
    /// The server ignored a part of the statement; the text names it.
    Ignored(String),
}

impl From<mysql::Error> for SessionError {
    fn from(error: mysql::Error) -> SessionError {
        SessionError::Driver(error)
    }
}

impl SessionError {
    pub(super) fn into_connect_error(self, address: String, account: &Account) -> ConnectError {
        match self {
            SessionError::Driver(error) => ConnectError::new(&error, address, account),
            SessionError::Ignored(reason) => ConnectError::Other { reason: format!("{address}: {reason}") },
        }
    }
}

const SQL_MODE: &str = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION";
const INFO: &str = "SELECT VERSION(), @@GLOBAL.read_only, @@innodb_read_only, @@character_set_client, \
    @@character_set_connection, @@character_set_results, @@autocommit, @@time_zone, @@sql_mode, @@unique_checks, \
    @@innodb_lock_wait_timeout, @@lock_wait_timeout LIMIT 1";
const GALERA: &str = "SELECT @@wsrep_on LIMIT 1";
const GALERA_READY: &str = "SHOW GLOBAL STATUS LIKE 'wsrep_ready'";
/// Reads wait until this node has applied what other nodes have committed: a replica of this service on another node may
/// have acknowledged it.
const GALERA_FRESH_READS: &str = "SET SESSION wsrep_sync_wait = 1";

/// Sets the session, checks what the server made of it, and reports what the server is. Without `limits` its statements
/// may take as long as they need.
pub(super) fn set_up(connection: &mut Conn, limits: Option<SessionLimits>) -> Result<ServerInfo, SessionError> {
    connection.query_drop(set_statement(is_mariadb(connection), limits))?;
    let row: Option<Row> = connection.query_first(INFO)?;
    let row: Vec<Value> = row.map(Row::unwrap).unwrap_or_default();
    let text = |at: usize| row.get(at).map(text).unwrap_or_default();
    let version = Version::new(text(0));
    let is_on = |at: usize| !matches!(text(at).as_str(), "0" | "OFF");
    let read_only = is_on(1) || is_on(2);
    verify(&text, limits)?;

    let is_galera = version.is_mariadb() && is_galera(connection)?;
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
        Ok(ready.is_none_or(|(_, value)| !value.eq_ignore_ascii_case("ON")))
    }
}

fn is_galera(connection: &mut Conn) -> Result<bool, mysql::Error> {
    match connection.query_first::<Value, _>(GALERA) {
        Ok(value) => Ok(value.is_some_and(|value| matches!(text(&value).as_str(), "1" | "ON"))),
        // A server that was built without Galera does not know the variable.
        Err(mysql::Error::MySqlError(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Judged by the greeting, where MariaDB calls itself 5.5.5 or, in newer versions, 10 and above. MySQL has no version 10 yet.
fn is_mariadb(connection: &Conn) -> bool {
    let version = connection.server_version();
    version == (5, 5, 5) || version.0 >= 10
}

fn set_statement(mariadb: bool, limits: Option<SessionLimits>) -> String {
    // An acknowledged message must be committed and unique, whatever the server's defaults are.
    let mut sql = format!(
        "SET NAMES utf8mb4, SESSION autocommit = 1, time_zone = '+00:00', sql_mode = '{SQL_MODE}', unique_checks = 1, \
         foreign_key_checks = 1, sql_quote_show_create = 1"
    );
    if mariadb {
        // The warnings of a complete batch must be kept. MySQL keeps as many by default, and lets no ordinary user set it.
        sql.push_str(", max_error_count = 1024");
    }
    let isolation = if mariadb { "tx_isolation" } else { "transaction_isolation" };
    sql.push_str(&format!(", {isolation} = 'REPEATABLE-READ'"));
    match limits {
        Some(SessionLimits { lock_wait, statement }) => {
            sql.push_str(&format!(", innodb_lock_wait_timeout = {lock_wait}, lock_wait_timeout = {lock_wait}"));
            let limit = match mariadb {
                true => format!(", max_statement_time = {}", statement.as_secs_f64()),
                // MySQL can limit reads alone.
                false => format!(", max_execution_time = {}", statement.as_millis()),
            };
            sql.push_str(&limit);
        }
        // A limit of the server's own would stop the upgrade of a large table each time.
        None if mariadb => sql.push_str(", max_statement_time = 0"),
        None => sql.push_str(", max_execution_time = 0"),
    }
    sql
}

fn verify(text: &impl Fn(usize) -> String, limits: Option<SessionLimits>) -> Result<(), SessionError> {
    let lock_wait = limits.map(|limits| limits.lock_wait.to_string());
    let expected = [
        (3, "character_set_client", Some("utf8mb4")),
        (4, "character_set_connection", Some("utf8mb4")),
        (5, "character_set_results", Some("utf8mb4")),
        (6, "autocommit", Some("1")),
        (7, "time_zone", Some("+00:00")),
        (8, "sql_mode", Some(SQL_MODE)),
        (9, "unique_checks", Some("1")),
        (10, "innodb_lock_wait_timeout", lock_wait.as_deref()),
        (11, "lock_wait_timeout", lock_wait.as_deref()),
    ];
    for (at, name, expected) in expected {
        let found = text(at);
        if expected.is_some_and(|expected| found != expected) {
            let expected = expected.unwrap_or_default();
            return Err(SessionError::Ignored(format!("the server set {name} to '{found}' instead of '{expected}'")));
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::NULL | Value::Float(_) | Value::Double(_) | Value::Date(..) | Value::Time(..) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_product_gets_its_own_limit_of_a_statement_and_both_get_the_same_lock_waits() {
        let limits = SessionLimits { lock_wait: 3, statement: Duration::from_millis(2500) };
        let (mariadb, mysql) = (set_statement(true, Some(limits)), set_statement(false, Some(limits)));
        for sql in [&mariadb, &mysql] {
            assert!(sql.starts_with("SET NAMES utf8mb4, SESSION autocommit = 1"), "{sql}");
            assert!(sql.contains(" innodb_lock_wait_timeout = 3, lock_wait_timeout = 3"), "{sql}");
        }
        assert!(mariadb.contains("max_statement_time = 2.5") && mariadb.contains("tx_isolation"), "{mariadb}");
        assert!(!mysql.contains("max_error_count"), "it needs the privilege SESSION_VARIABLES_ADMIN: {mysql}");
        assert!(mysql.contains("max_execution_time = 2500") && mysql.contains("transaction_isolation"), "{mysql}");
    }

    #[test]
    fn a_session_with_another_character_set_is_refused_by_name() {
        let found = |charset: &'static str| {
            move |at: usize| {
                ["", "0", "0", charset, "utf8mb4", "utf8mb4", "1", "+00:00", SQL_MODE, "1", "3", "3"][at].to_owned()
            }
        };
        let limits = Some(SessionLimits { lock_wait: 3, statement: Duration::from_secs(5) });
        assert!(verify(&found("utf8mb4"), limits).is_ok());
        let Err(SessionError::Ignored(reason)) = verify(&found("gbk"), limits) else { panic!("gbk is accepted") };
        assert!(reason.contains("character_set_client") && reason.contains("gbk"), "{reason}");
    }
}
