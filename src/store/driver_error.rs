//! What an error of the `mysql` crate means for its statement, its connection and its server, and what of its text may be
//! shown.
//!
//! The client decides what follows.

use std::io;

use mysql::DriverError;

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// No response in time: the outcome is unknown.
    TimedOut,
    /// The connection broke: the outcome is unknown.
    Lost,
    /// The bytes are not those of a MySQL server.
    NotTheProtocol,
    /// The statement was rolled back, and may succeed when it is repeated.
    Conflict,
    /// The same, after the longest wait for a lock.
    LockWait,
    /// The server takes no writes.
    ReadOnly,
    /// The server is a Galera node outside the primary component.
    LostCluster,
    /// The server's own error, which would be the same again.
    Refused,
}

/// Codes of the server with texts that hold names and numbers of the schema, and never a value of a statement.
const QUOTES_NO_VALUE: &[u16] = &[
    1005, 1017, 1021, 1025, 1030, 1031, 1036, 1040, 1041, 1042, 1043, 1044, 1045, 1047, 1049, 1050, 1051, 1053, 1054,
    1060, 1061, 1068, 1071, 1072, 1075, 1091, 1114, 1115, 1129, 1130, 1142, 1143, 1146, 1148, 1153, 1180, 1193, 1203,
    1205, 1206, 1213, 1217, 1226, 1227, 1251, 1290, 1297, 1317, 1347, 1356, 1364, 1370, 1396, 1451, 1467, 1524, 1637,
    1665, 1698, 1792, 1832, 1833, 1834, 1836, 1846, 1862, 1877, 1927, 1932, 1969, 3024, 3100, 3101, 3118, 3159, 3675,
    4031, 4025,
];

impl ErrorClass {
    /// The classes after which a statement may be repeated.
    pub(super) const REPEATED: [ErrorClass; 6] = [
        ErrorClass::Lost,
        ErrorClass::NotTheProtocol,
        ErrorClass::Conflict,
        ErrorClass::LockWait,
        ErrorClass::ReadOnly,
        ErrorClass::LostCluster,
    ];

    pub(super) fn new(error: &mysql::Error) -> ErrorClass {
        match error {
            mysql::Error::MySqlError(server) => match server.code {
                1205 => ErrorClass::LockWait,
                // Deadlock, interrupted; certification failures of clusters.
                1213 | 1317 | 3101 => ErrorClass::Conflict,
                // "Error during COMMIT" of a Galera node: 149 is a failed certification.
                1180 if server.message.contains("149") => ErrorClass::Conflict,
                1180 if server.message.contains("provider status") => ErrorClass::LostCluster,
                1047 if server.message.contains("WSREP") => ErrorClass::LostCluster,
                // Read-only in three ways.
                1290 | 1792 | 1836 => ErrorClass::ReadOnly,
                // Took too long, by a limit of the server's own.
                1969 | 3024 => ErrorClass::TimedOut,
                // Shutdown, killed, and the network's end as the server saw it.
                1053 | 1077..=1079 | 1152 | 1158..=1161 | 1184 | 1927 | 4031 => ErrorClass::Lost,
                _ => ErrorClass::Refused,
            },
            mysql::Error::IoError(error) => ErrorClass::of_io(error),
            // Without an error of the socket as its source, the packets themselves are malformed.
            mysql::Error::CodecError(error) => match std::error::Error::source(error) {
                Some(source) => source.downcast_ref::<io::Error>().map_or(ErrorClass::Lost, ErrorClass::of_io),
                None => ErrorClass::NotTheProtocol,
            },
            mysql::Error::DriverError(DriverError::ConnectTimeout | DriverError::Timeout) => ErrorClass::TimedOut,
            // The rest of a response may still be on the way.
            mysql::Error::DriverError(_)
            | mysql::Error::TlsError(_)
            | mysql::Error::UrlError(_)
            | mysql::Error::FromValueError(_)
            | mysql::Error::FromRowError(_) => ErrorClass::Lost,
        }
    }

    /// Its name in the metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            ErrorClass::TimedOut => "timed_out",
            ErrorClass::Lost => "lost",
            ErrorClass::NotTheProtocol => "not_a_database",
            ErrorClass::Conflict => "conflict",
            ErrorClass::LockWait => "lock_wait",
            ErrorClass::ReadOnly => "read_only",
            ErrorClass::LostCluster => "lost_cluster",
            ErrorClass::Refused => "refused",
        }
    }

    fn of_io(error: &io::Error) -> ErrorClass {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ErrorClass::TimedOut,
            _ => ErrorClass::Lost,
        }
    }
}

/// An error of the `mysql` crate in words. A text of the server that could quote a message is left out.
pub(super) fn words(error: &mysql::Error) -> String {
    match error {
        // The server's own text asks for a statement that this service can't run.
        mysql::Error::MySqlError(server) if server.code == 1820 => "the password has expired (1820)".to_owned(),
        mysql::Error::MySqlError(server) if QUOTES_NO_VALUE.contains(&server.code) => {
            format!("{} ({})", server.message, server.code)
        }
        mysql::Error::MySqlError(server) => {
            format!(
                "error {} (SQLSTATE {}); its text is left out, as it could quote a message",
                server.code, server.state
            )
        }
        mysql::Error::IoError(error) => error.to_string(),
        mysql::Error::CodecError(error) => error.to_string(),
        mysql::Error::DriverError(DriverError::CouldNotConnect(Some((_, reason, _)))) => reason.clone(),
        mysql::Error::DriverError(DriverError::TlsNotSupported) => "the server offers none".to_owned(),
        mysql::Error::DriverError(DriverError::UnknownAuthPlugin(plugin)) => {
            format!("the server asks for the authentication plugin {plugin}, which is not supported")
        }
        mysql::Error::DriverError(error) => error.to_string(),
        mysql::Error::TlsError(error) => error.to_string(),
        mysql::Error::UrlError(error) => error.to_string(),
        mysql::Error::FromValueError(_) | mysql::Error::FromRowError(_) => {
            "a value of the table has an unexpected type".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql::MySqlError;

    fn server(code: u16, message: &str) -> mysql::Error {
        mysql::Error::MySqlError(MySqlError { state: "HY000".into(), message: message.into(), code })
    }

    #[test]
    fn each_code_of_a_server_has_its_meaning() {
        let meanings = [
            (1213, "", ErrorClass::Conflict),
            (1205, "", ErrorClass::LockWait),
            (3101, "", ErrorClass::Conflict),
            (1047, "WSREP has not yet prepared node for application use", ErrorClass::LostCluster),
            (1047, "Unknown command", ErrorClass::Refused),
            (1180, "Got error 149 during COMMIT", ErrorClass::Conflict),
            (
                1180,
                "Error while appending streaming replication fragment(provider status: Not connected to Primary Component)",
                ErrorClass::LostCluster,
            ),
            (1180, "Got error 5 during COMMIT", ErrorClass::Refused),
            (1290, "", ErrorClass::ReadOnly),
            (1792, "", ErrorClass::ReadOnly),
            (1836, "", ErrorClass::ReadOnly),
            (1969, "", ErrorClass::TimedOut),
            (1927, "", ErrorClass::Lost),
            (1053, "", ErrorClass::Lost),
            (4031, "", ErrorClass::Lost),
            (1064, "", ErrorClass::Refused),
            (1146, "", ErrorClass::Refused),
        ];
        for (code, message, want) in meanings {
            assert_eq!(ErrorClass::new(&server(code, message)), want, "{code} {message}");
        }
    }

    #[test]
    fn every_other_error_leaves_the_outcome_unknown() {
        let io = |kind: io::ErrorKind| mysql::Error::IoError(kind.into());
        assert_eq!(ErrorClass::new(&io(io::ErrorKind::WouldBlock)), ErrorClass::TimedOut);
        assert_eq!(ErrorClass::new(&io(io::ErrorKind::TimedOut)), ErrorClass::TimedOut);
        assert_eq!(ErrorClass::new(&io(io::ErrorKind::BrokenPipe)), ErrorClass::Lost);
        assert_eq!(ErrorClass::new(&mysql::Error::DriverError(DriverError::PacketOutOfSync)), ErrorClass::Lost);
    }

    #[test]
    fn an_error_that_may_quote_a_message_is_reported_by_its_number() {
        let words = |code| words(&server(code, "near 'my secret' at line 1"));
        for code in [1064, 1062, 1292, 1366, 1406, 1644, 1820, 3819, 65535] {
            let words = words(code);
            assert!(!words.contains("secret") && words.contains(&code.to_string()), "{words}");
        }
        assert!(words(1146).contains("secret"), "a text about the schema is kept");
    }
}
