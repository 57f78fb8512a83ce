//! Why there is no connection to a server, in words that name the setting to check.

use mysql::DriverError;
use thiserror::Error as ThisError;

use super::account::{Account, SettingNames};
use super::error_class::ErrorClass;
use super::error_text::words;

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum ConnectError {
    /// No address is known for the host.
    #[error("no address found for the host {host} ({reason}): check {check}")]
    NameNotFound {
        /// The host as it is set.
        host: String,
        /// The resolver's words.
        reason: String,
        /// What the user has set.
        check: String,
    },
    /// Nothing listens there, or it can't be reached.
    #[error("no connection to {address} ({reason}): check that the database is up, then {check}")]
    Refused {
        /// Address and port.
        address: String,
        /// The system's words.
        reason: String,
        /// What the user has set.
        check: String,
    },
    /// It did not answer in time.
    #[error("{address} did not answer in time: check {check}, and DB_TIMEOUT")]
    TimedOut {
        /// Address and port.
        address: String,
        /// What the user has set.
        check: String,
    },
    /// Something else than a database answers there.
    #[error("{address} does not speak the protocol of MySQL: check {check}")]
    NotADatabase {
        /// Address and port.
        address: String,
        /// What the user has set.
        check: String,
    },
    /// The server rejects the login.
    #[error("access denied ({reason}): check {check}")]
    Denied {
        /// The server's words.
        reason: String,
        /// What the user has set, and what is odd about it.
        check: String,
    },
    /// The account authenticates in a way that the `mysql` crate does not know.
    #[error(
        "the account authenticates by {plugin}, which is not supported: change it with ALTER USER … IDENTIFIED WITH \
         caching_sha2_password BY … (MySQL) or IDENTIFIED VIA mysql_native_password (MariaDB)"
    )]
    UnknownPlugin {
        /// The plugin's name.
        plugin: String,
    },
    /// The server has no such database, or hides it from this user.
    #[error("unknown database, or no privileges on it ({reason}): check {check}")]
    NoDatabase {
        /// The server's words.
        reason: String,
        /// What the user has set.
        check: String,
    },
    /// No encryption, or not with the expected server.
    #[error("no encrypted connection ({reason}): check {check}")]
    NotEncrypted {
        /// The words that came with it.
        reason: String,
        /// What the user has set.
        check: String,
    },
    /// The server has no connection left for this service.
    #[error("the server has no connection left ({reason}): check its max_connections and max_user_connections")]
    TooManyConnections {
        /// The server's words.
        reason: String,
    },
    /// This service has its share of connections to the server, and none of them is free.
    #[error("all connections to {address} wait for statements that were given up (DB_CONNECTIONS)")]
    Saturated {
        /// Address and port.
        address: String,
    },
    /// The server is a Galera node outside the primary component.
    #[error("{address}: this node has lost its cluster ({reason})")]
    LostCluster {
        /// Address and port.
        address: String,
        /// The server's words.
        reason: String,
    },
    /// Anything else.
    #[error("no connection to the database: {reason}")]
    Other {
        /// The words that came with it.
        reason: String,
    },
}

impl ConnectError {
    /// Whether it lasts until an operator changes something. A database that is just being created looks the same for a while.
    pub fn is_permanent(&self) -> bool {
        self.row().1
    }

    /// The cause without names and addresses, for an answer that anybody may read.
    pub fn summary(&self) -> &'static str {
        self.row().2
    }

    /// The cause as a label of metrics.
    pub fn label(&self) -> &'static str {
        self.row().3
    }

    /// How specific it is: of the causes of several servers, the one that came furthest in the login says most.
    pub(super) fn specificity(&self) -> u8 {
        self.row().0
    }

    /// All labels.
    pub const LABELS: [&'static str; 12] = [
        "name_not_found",
        "refused",
        "connect_timed_out",
        "not_a_database",
        "denied",
        "unknown_plugin",
        "no_database",
        "not_encrypted",
        "too_many_connections",
        "saturated",
        "lost_cluster",
        "other",
    ];

    /// Specificity, permanence, summary and label.
    fn row(&self) -> (u8, bool, &'static str, &'static str) {
        match self {
            ConnectError::NameNotFound { .. } => (0, false, "the name of the database is not found", "name_not_found"),
            ConnectError::Refused { .. } => (1, false, "the database refuses connections", "refused"),
            ConnectError::TimedOut { .. } => (2, false, "the database does not answer in time", "connect_timed_out"),
            ConnectError::NotADatabase { .. } => (3, false, "another service answers instead", "not_a_database"),
            ConnectError::Denied { .. } => (6, true, "the database denies access", "denied"),
            ConnectError::UnknownPlugin { .. } => (6, true, "the database denies access", "unknown_plugin"),
            ConnectError::NoDatabase { .. } => (5, true, "the database is unknown to its server", "no_database"),
            ConnectError::NotEncrypted { .. } => (6, true, "the connection can't be encrypted", "not_encrypted"),
            ConnectError::TooManyConnections { .. } => {
                (4, false, "the database has no connection left", "too_many_connections")
            }
            ConnectError::Saturated { .. } => (4, false, "the database does not answer in time", "saturated"),
            ConnectError::LostCluster { .. } => (4, false, "this node has lost its cluster", "lost_cluster"),
            ConnectError::Other { .. } => (3, false, "the database gives no connection", "other"),
        }
    }

    /// Sorts an error that came while `account` was connecting to `address`.
    pub(super) fn new(error: &mysql::Error, address: String, account: &Account) -> ConnectError {
        let SettingNames { host, database, encryption, .. } = account.settings.clone();
        match error {
            mysql::Error::MySqlError(server) => {
                let reason = words(error);
                match server.code {
                    // Wrong password, no such user or host, authentication by socket only.
                    1045 | 1130 | 1251 | 1396 | 1524 | 1698 => {
                        ConnectError::Denied { reason, check: account.denied_hint() }
                    }
                    1820 | 1862 | 3118 => ConnectError::Denied {
                        reason: format!("the password is expired: {reason}"),
                        check: account.denied_hint(),
                    },
                    1044 | 1049 => ConnectError::NoDatabase { reason, check: database },
                    1040 | 1203 | 1226 => ConnectError::TooManyConnections { reason },
                    3159 => ConnectError::NotEncrypted { reason, check: encryption },
                    _ if ErrorClass::new(error) == ErrorClass::LostCluster => {
                        ConnectError::LostCluster { address, reason }
                    }
                    _ => ConnectError::Other { reason },
                }
            }
            mysql::Error::DriverError(DriverError::CouldNotConnect(Some((_, reason, _)))) => {
                ConnectError::Refused { address, reason: reason.clone(), check: host }
            }
            mysql::Error::DriverError(DriverError::ConnectTimeout | DriverError::Timeout) => {
                ConnectError::TimedOut { address, check: host }
            }
            mysql::Error::DriverError(DriverError::UnknownAuthPlugin(plugin)) => {
                ConnectError::UnknownPlugin { plugin: plugin.clone() }
            }
            mysql::Error::DriverError(DriverError::TlsNotSupported) => {
                ConnectError::NotEncrypted { reason: "the server offers none".to_owned(), check: encryption }
            }
            mysql::Error::TlsError(error) => {
                ConnectError::NotEncrypted { reason: error.to_string(), check: encryption }
            }
            // A rejected certificate is reported by the first write; the server reports its reason as an alert.
            other if ["certificate", "fatal alert"].iter().any(|word| words(other).contains(word)) => {
                ConnectError::NotEncrypted { reason: words(other), check: encryption }
            }
            other => match ErrorClass::new(other) {
                ErrorClass::TimedOut => ConnectError::TimedOut { address, check: host },
                ErrorClass::NotTheProtocol => ConnectError::NotADatabase { address, check: host },
                ErrorClass::Lost
                | ErrorClass::Conflict
                | ErrorClass::LockWait
                | ErrorClass::ReadOnly
                | ErrorClass::LostCluster
                | ErrorClass::Refused => ConnectError::Other { reason: format!("{address}: {}", words(other)) },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql::MySqlError;
    use std::io;

    #[test]
    fn each_cause_of_a_failed_connect_names_the_setting_to_check() {
        let text = |code: u16| {
            let server = MySqlError { state: "HY000".into(), message: "words".into(), code };
            ConnectError::new(&mysql::Error::MySqlError(server), "db:3306".into(), &Account::default()).to_string()
        };
        assert!(text(1045).contains("MYSQL_PASSWORD"));
        assert!(text(1049).contains("MYSQL_DB") && text(1044).contains("MYSQL_DB"));
        assert!(text(1040).contains("max_connections"));
        assert!(text(1820).contains("expired"));
        let refused =
            DriverError::CouldNotConnect(Some(("db".into(), "refused".into(), io::ErrorKind::ConnectionRefused)));
        let text =
            ConnectError::new(&mysql::Error::DriverError(refused), "db:3306".into(), &Account::default()).to_string();
        assert!(text.contains("MYSQL_HOST") && text.contains("db:3306"), "{text}");
    }
}
