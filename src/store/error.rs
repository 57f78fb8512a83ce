//! What can go wrong with the database, in words and as callers need to tell it apart.

use std::fmt;

use mysql::DriverError;

use super::error_class::ErrorClass;

/// Why a statement has no result. Which of them means 503 and which 500 is the caller's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// No server gave a connection.
    NoSession(ConnectError),
    /// The connection broke, and a second one too.
    Lost(String),
    /// The server took longer than a statement may.
    TimedOut,
    /// The server can't do it now: read-only, or locked by somebody else for too long.
    Busy(String),
    /// This user may not do it.
    Forbidden(String),
    /// The server's own error: this statement will not work when it is run again.
    Refused(String),
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectError {
    /// No address is known for the host.
    NameNotFound {
        /// The host as it is set.
        host: String,
        /// The resolver's words.
        reason: String,
    },
    /// Nobody listens there, or it can't be reached.
    Refused {
        /// Address and port.
        address: String,
        /// The system's words.
        reason: String,
    },
    /// It did not answer in time.
    TimedOut {
        /// Address and port.
        address: String,
    },
    /// The server is there and does not let us in.
    Denied {
        /// The server's words.
        reason: String,
    },
    /// The server has no such database, or hides it from this user.
    NoDatabase {
        /// The server's words.
        reason: String,
    },
    /// No encryption, or not with the server that it should be.
    NotEncrypted {
        /// The words that came with it.
        reason: String,
    },
    /// The server has no connection left for us.
    TooManyConnections {
        /// The server's words.
        reason: String,
    },
    /// Anything else.
    Other {
        /// The words that came with it.
        reason: String,
    },
}

impl Error {
    /// Whether whoever waits for the same server had better not wait for it.
    pub fn is_outage(&self) -> bool {
        match self {
            Error::NoSession(_) | Error::Lost(_) | Error::TimedOut | Error::Busy(_) => true,
            Error::Forbidden(_) | Error::Refused(_) => false,
        }
    }
}

impl Error {
    /// A server's own error that will be the same again.
    pub(super) fn refused(error: &mysql::Error) -> Error {
        match error {
            mysql::Error::MySqlError(server) if matches!(server.code, 1044 | 1142 | 1143 | 1227 | 1370) => {
                Error::Forbidden(words(error))
            }
            // The disk is full.
            mysql::Error::MySqlError(server) if matches!(server.code, 1021 | 1114) => Error::Busy(words(error)),
            error => Error::Refused(words(error)),
        }
    }

    /// Whether a person has to change something before it can work.
    pub fn is_permanent(&self) -> bool {
        match self {
            Error::NoSession(cause) => cause.is_permanent(),
            Error::Forbidden(_) | Error::Refused(_) => true,
            Error::Lost(_) | Error::TimedOut | Error::Busy(_) => false,
        }
    }

    /// The cause without names and addresses, for those who may not see them.
    pub fn summary(&self) -> &'static str {
        match self {
            Error::NoSession(cause) => cause.summary(),
            Error::Lost(_) => "the connection to the database is lost",
            Error::TimedOut => "the database does not answer in time",
            Error::Busy(_) => "the database is busy",
            Error::Forbidden(_) | Error::Refused(_) => "the table can't be used",
        }
    }
}

impl ConnectError {
    /// Whether a person has to change something. A database that is just being created looks the same for a while.
    pub fn is_permanent(&self) -> bool {
        match self {
            ConnectError::Denied { .. } | ConnectError::NoDatabase { .. } | ConnectError::NotEncrypted { .. } => true,
            ConnectError::NameNotFound { .. }
            | ConnectError::Refused { .. }
            | ConnectError::TimedOut { .. }
            | ConnectError::TooManyConnections { .. }
            | ConnectError::Other { .. } => false,
        }
    }

    /// How much it tells, when several servers gave several causes: one that let us as far as the login tells most.
    pub(super) fn weight(&self) -> u8 {
        match self {
            ConnectError::Denied { .. } | ConnectError::NotEncrypted { .. } => 5,
            ConnectError::NoDatabase { .. } => 4,
            ConnectError::TooManyConnections { .. } | ConnectError::Other { .. } => 3,
            ConnectError::TimedOut { .. } => 2,
            ConnectError::Refused { .. } => 1,
            ConnectError::NameNotFound { .. } => 0,
        }
    }

    /// The cause without names and addresses, for those who may not see them.
    pub fn summary(&self) -> &'static str {
        match self {
            ConnectError::NameNotFound { .. } => "the name of the database is not found",
            ConnectError::Refused { .. } => "the database refuses connections",
            ConnectError::TimedOut { .. } => "the database does not answer in time",
            ConnectError::Denied { .. } => "the database denies access",
            ConnectError::NoDatabase { .. } => "the database is unknown to its server",
            ConnectError::NotEncrypted { .. } => "the database can't be reached by an encrypted connection",
            ConnectError::TooManyConnections { .. } => "the database has no connection left",
            ConnectError::Other { .. } => "the database gives no connection",
        }
    }

    /// Sorts an error that came while connecting to `address`.
    pub(super) fn of(error: &mysql::Error, address: String) -> ConnectError {
        match error {
            mysql::Error::MySqlError(server) => {
                let reason = server.message.clone();
                match server.code {
                    // SettingError password, no such user or host, authentication by socket only, expired password.
                    1045 | 1130 | 1251 | 1396 | 1524 | 1698 | 1820 | 1862 | 3118 => ConnectError::Denied { reason },
                    1044 | 1049 => ConnectError::NoDatabase { reason },
                    1040 | 1203 | 1226 => ConnectError::TooManyConnections { reason },
                    _ => ConnectError::Other { reason: words(error) },
                }
            }
            mysql::Error::DriverError(DriverError::CouldNotConnect(Some((_, reason, _)))) => {
                ConnectError::Refused { address, reason: reason.clone() }
            }
            mysql::Error::DriverError(DriverError::ConnectTimeout | DriverError::Timeout) => {
                ConnectError::TimedOut { address }
            }
            mysql::Error::DriverError(DriverError::UnknownAuthPlugin(plugin)) => ConnectError::Denied {
                reason: format!("the server asks for the unknown authentication plugin {plugin}"),
            },
            mysql::Error::DriverError(DriverError::TlsNotSupported) => {
                ConnectError::NotEncrypted { reason: "the server offers none".to_owned() }
            }
            mysql::Error::TlsError(error) => ConnectError::NotEncrypted { reason: error.to_string() },
            // What is wrong with a certificate comes as an error of the first write.
            other if words(other).contains("certificate") => ConnectError::NotEncrypted { reason: words(other) },
            other => match ErrorClass::of(other) {
                ErrorClass::TimedOut => ConnectError::TimedOut { address },
                ErrorClass::Lost
                | ErrorClass::Transient
                | ErrorClass::LockWait
                | ErrorClass::WrongServer
                | ErrorClass::Refused => ConnectError::Other { reason: format!("{address}: {}", words(other)) },
            },
        }
    }
}

/// An error of the `mysql` crate, in words.
pub(super) fn words(error: &mysql::Error) -> String {
    match error {
        mysql::Error::MySqlError(server) => format!("{} ({})", server.message, server.code),
        mysql::Error::IoError(error) => error.to_string(),
        mysql::Error::CodecError(error) => error.to_string(),
        other => other.to_string(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoSession(cause) => cause.fmt(f),
            Error::Lost(reason) => write!(f, "the connection to the database was lost: {reason}"),
            Error::TimedOut => f.write_str("the database did not answer in time (DB_TIMEOUT)"),
            Error::Busy(reason) => write!(f, "the database can't do it now: {reason}"),
            Error::Forbidden(reason) => {
                write!(f, "the user lacks a right ({reason}): look at MYSQL_USER and its grants")
            }
            Error::Refused(reason) => write!(f, "the database refused a statement: {reason}"),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::NameNotFound { host, reason } => {
                write!(f, "no address found for the host {host} ({reason}): look at MYSQL_HOST")
            }
            ConnectError::Refused { address, reason } => {
                write!(
                    f,
                    "no connection to {address} ({reason}): is the database up? Look at MYSQL_HOST and MYSQL_PORT"
                )
            }
            ConnectError::TimedOut { address } => {
                write!(f, "{address} did not answer in time: look at MYSQL_HOST, MYSQL_PORT and DB_TIMEOUT")
            }
            ConnectError::Denied { reason } => {
                write!(f, "access denied ({reason}): look at MYSQL_USER and MYSQL_PASSWORD")
            }
            ConnectError::NoDatabase { reason } => {
                write!(f, "unknown database, or no rights on it ({reason}): look at MYSQL_DB")
            }
            ConnectError::NotEncrypted { reason } => {
                write!(f, "no encrypted connection ({reason}): look at MYSQL_SSL_MODE and MYSQL_SSL_CA")
            }
            ConnectError::TooManyConnections { reason } => {
                write!(f, "the server has no connection left ({reason}): look at its max_connections")
            }
            ConnectError::Other { reason } => write!(f, "no connection with the database: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql::MySqlError;
    use std::io;

    fn server(code: u16, message: &str) -> mysql::Error {
        mysql::Error::MySqlError(MySqlError { state: "HY000".into(), message: message.into(), code })
    }

    #[test]
    fn each_cause_of_a_failed_connect_names_the_setting_to_look_at() {
        let text = |code: u16| ConnectError::of(&server(code, "words"), "db:3306".into()).to_string();
        assert!(text(1045).contains("MYSQL_PASSWORD"));
        assert!(text(1049).contains("MYSQL_DB"));
        assert!(text(1044).contains("MYSQL_DB"));
        assert!(text(1040).contains("max_connections"));
        let refused =
            DriverError::CouldNotConnect(Some(("db".into(), "refused".into(), io::ErrorKind::ConnectionRefused)));
        let text = ConnectError::of(&mysql::Error::DriverError(refused), "db:3306".into()).to_string();
        assert!(text.contains("MYSQL_HOST") && text.contains("db:3306"), "{text}");
    }
}
