//! Why there is no connection to a server, in words that name the setting to check.

use mysql::DriverError;
use thiserror::Error as ThisError;

use super::account::Account;
use super::driver_error::{ErrorClass, words};

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{text}")]
pub struct ConnectError {
    /// What kind of failure it is.
    pub cause: Cause,
    /// For the operator: the server, its words, and the setting to check.
    text: String,
}

/// The kinds of failures to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No address is known for the host.
    NameNotFound,
    /// No program listens there, or the address can't be reached.
    Refused,
    /// The server did not answer in time.
    TimedOut,
    /// A program that is no database answers there.
    NotADatabase,
    /// The server rejects the login.
    Denied,
    /// The account authenticates in a way that the `mysql` crate does not know.
    UnknownPlugin,
    /// The server has no such database, or hides it from this user.
    NoDatabase,
    /// No encryption, or not with the expected server.
    NotEncrypted,
    /// The server has no connection left for this service.
    TooManyConnections,
    /// This service has its share of connections to the server, and none of them is free.
    Saturated,
    /// The server is a Galera node outside the primary component.
    LostCluster,
    /// Anything else.
    Other,
}

/// What follows from a cause.
struct Row {
    cause: Cause,
    /// Of the failures of several servers, the one that came furthest in the login says most.
    specificity: u8,
    is_permanent: bool,
    label: &'static str,
    summary: &'static str,
}

/// In the order of [`Cause`].
const ROWS: [Row; 12] = [
    row(Cause::NameNotFound, 0, "name_not_found", "the name of the database is not found"),
    row(Cause::Refused, 1, "refused", "the database refuses connections"),
    row(Cause::TimedOut, 2, "connect_timed_out", "the database does not answer in time"),
    row(Cause::NotADatabase, 3, "not_a_database", "another service answers instead"),
    permanent(row(Cause::Denied, 6, "denied", "the database denies access")),
    permanent(row(Cause::UnknownPlugin, 6, "unknown_plugin", "the database denies access")),
    permanent(row(Cause::NoDatabase, 5, "no_database", "the database is unknown to its server")),
    permanent(row(Cause::NotEncrypted, 6, "not_encrypted", "the connection can't be encrypted")),
    row(Cause::TooManyConnections, 4, "too_many_connections", "the database has no connection left"),
    row(Cause::Saturated, 4, "saturated", "the database does not answer in time"),
    row(Cause::LostCluster, 4, "lost_cluster", "this node has lost its cluster"),
    row(Cause::Other, 3, "other", "the database gives no connection"),
];

// The order is checked when this is compiled.
const _: () = {
    let mut at = 0;
    while at < ROWS.len() {
        assert!(ROWS[at].cause as usize == at);
        at += 1;
    }
};

const fn row(cause: Cause, specificity: u8, label: &'static str, summary: &'static str) -> Row {
    Row { cause, specificity, is_permanent: false, label, summary }
}

const fn permanent(row: Row) -> Row {
    Row { is_permanent: true, ..row }
}

impl Cause {
    /// The labels of all causes.
    pub fn labels() -> impl Iterator<Item = &'static str> {
        ROWS.iter().map(|row| row.label)
    }

    /// The cause as a label of metrics.
    pub fn label(self) -> &'static str {
        self.row().label
    }

    /// The cause without names and addresses, for a public response.
    pub fn summary(self) -> &'static str {
        self.row().summary
    }

    /// Whether it lasts until an operator changes something. A database that is just being created looks the same for a
    /// while.
    pub fn is_permanent(self) -> bool {
        self.row().is_permanent
    }

    pub(super) fn specificity(self) -> u8 {
        self.row().specificity
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

impl ConnectError {
    pub(super) fn new(cause: Cause, text: String) -> ConnectError {
        ConnectError { cause, text }
    }

    /// No address is known for `host`.
    pub(super) fn name_not_found(host: &str, reason: &str, account: &Account) -> ConnectError {
        let check = &account.settings.host;
        let text = format!("no address found for the host {host} ({reason}): check {check}");
        ConnectError::new(Cause::NameNotFound, text)
    }

    /// An error that came while `account` was connecting to `address`.
    pub(super) fn of_driver(error: &mysql::Error, address: &str, account: &Account) -> ConnectError {
        let cause = cause(error);
        let (reason, settings) = (words(error), &account.settings);
        let text = match cause {
            Cause::Refused => {
                let check = &settings.host;
                format!("no connection to {address} ({reason}): check that the database is up, then {check}")
            }
            Cause::TimedOut => {
                format!("{address} did not answer in time: check {}, and DB_TIMEOUT", settings.host)
            }
            Cause::NotADatabase => {
                format!("{address} does not speak the protocol of MySQL: check {}", settings.host)
            }
            Cause::Denied => format!("access denied ({reason}): check {}", account.denied_hint()),
            // MySQL asks an unknown user for any plugin, so that it does not reveal which users exist.
            Cause::UnknownPlugin => format!(
                "access denied ({reason}): check {}; an account that has this plugin must be changed with ALTER USER … \
                 IDENTIFIED WITH caching_sha2_password BY … (MySQL) or IDENTIFIED VIA mysql_native_password (MariaDB)",
                settings.user
            ),
            Cause::NoDatabase => {
                format!("unknown database, or no privileges on it ({reason}): check {}", settings.database)
            }
            Cause::NotEncrypted => format!("no encrypted connection ({reason}): check {}", settings.encryption),
            Cause::TooManyConnections => format!(
                "the server has no connection left ({reason}): check its max_connections and max_user_connections"
            ),
            Cause::LostCluster => format!("{address}: this node has lost its cluster ({reason})"),
            Cause::NameNotFound | Cause::Saturated | Cause::Other => {
                format!("no connection to the database: {address}: {reason}")
            }
        };
        ConnectError::new(cause, text)
    }
}

fn cause(error: &mysql::Error) -> Cause {
    match error {
        mysql::Error::MySqlError(server) => match server.code {
            // Wrong or expired password, no such user or host, authentication by socket only.
            1045 | 1130 | 1251 | 1396 | 1524 | 1698 | 1820 | 1862 | 3118 => Cause::Denied,
            1044 | 1049 => Cause::NoDatabase,
            1040 | 1203 | 1226 => Cause::TooManyConnections,
            3159 => Cause::NotEncrypted,
            _ if ErrorClass::new(error) == ErrorClass::LostCluster => Cause::LostCluster,
            _ => Cause::Other,
        },
        mysql::Error::DriverError(DriverError::CouldNotConnect(Some(_))) => Cause::Refused,
        mysql::Error::DriverError(DriverError::UnknownAuthPlugin(_)) => Cause::UnknownPlugin,
        mysql::Error::DriverError(DriverError::TlsNotSupported) | mysql::Error::TlsError(_) => Cause::NotEncrypted,
        // A rejected certificate is reported by the first write; the server reports its reason as an alert.
        other if ["certificate", "fatal alert"].iter().any(|word| words(other).contains(word)) => Cause::NotEncrypted,
        other => match ErrorClass::new(other) {
            ErrorClass::TimedOut => Cause::TimedOut,
            ErrorClass::NotTheProtocol => Cause::NotADatabase,
            ErrorClass::Lost
            | ErrorClass::Conflict
            | ErrorClass::LockWait
            | ErrorClass::ReadOnly
            | ErrorClass::LostCluster
            | ErrorClass::Refused => Cause::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql::MySqlError;
    use std::io;

    fn text(error: &mysql::Error) -> String {
        ConnectError::of_driver(error, "db:3306", &Account::default()).to_string()
    }

    #[test]
    fn each_cause_of_a_failed_connect_names_the_setting_to_check() {
        let refused =
            DriverError::CouldNotConnect(Some(("db".into(), "refused".into(), io::ErrorKind::ConnectionRefused)));
        let text_of = |code: u16| {
            text(&mysql::Error::MySqlError(MySqlError { state: "HY000".into(), message: "words".into(), code }))
        };
        for (text, words) in [
            (text_of(1045), &["access denied", "MYSQL_PASSWORD"][..]),
            (text_of(1049), &["unknown database", "MYSQL_DB"]),
            (text_of(1044), &["no privileges", "MYSQL_DB"]),
            (text_of(1040), &["max_connections", "max_user_connections"]),
            (text_of(3159), &["no encrypted connection", "MYSQL_SSL_MODE"]),
            (text(&mysql::Error::DriverError(refused)), &["refused", "db:3306", "MYSQL_HOST"]),
            (
                text(&mysql::Error::DriverError(DriverError::UnknownAuthPlugin("sha256_password".into()))),
                &["access denied", "sha256_password", "MYSQL_USER", "ALTER USER"],
            ),
            (text(&mysql::Error::DriverError(DriverError::ConnectTimeout)), &["db:3306", "MYSQL_HOST", "DB_TIMEOUT"]),
        ] {
            assert!(words.iter().all(|words_of| text.contains(words_of)), "{words:?} in {text}");
        }
    }
}
