//! What an error of the `mysql` crate means for the statement, its connection and its server. What is done then is the client's
//! to decide.

use std::io;

use mysql::DriverError;

/// What an error of the `mysql` crate means for the connection it came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// No answer in time: the outcome is unknown, and a late answer may still come over this connection.
    TimedOut,
    /// The connection broke: the outcome is unknown.
    Lost,
    /// The statement was rolled back, and has a chance when it is run again.
    Transient,
    /// The same, after as long a wait for a lock as there may be.
    LockWait,
    /// The server is not the one to talk to now: it takes no writes, or has lost its cluster.
    WrongServer,
    /// The server's own answer, which would be the same again.
    Refused,
}

impl ErrorClass {
    pub(super) fn of(error: &mysql::Error) -> ErrorClass {
        match error {
            mysql::Error::MySqlError(server) => match server.code {
                1205 => ErrorClass::LockWait,
                // Deadlock, interrupted; certification failures of clusters.
                1213 | 1317 | 3101 => ErrorClass::Transient,
                1180 if server.message.contains("149") => ErrorClass::Transient,
                // Read-only in three ways; a Galera node that is not ready.
                1290 | 1792 | 1836 | 1047 => ErrorClass::WrongServer,
                // Took too long, by a limit of the server's own.
                1969 | 3024 => ErrorClass::TimedOut,
                // Shutdown, killed, and the network's end as the server saw it.
                1053 | 1077..=1079 | 1152 | 1158..=1161 | 1184 | 1927 | 4031 => ErrorClass::Lost,
                _ => ErrorClass::Refused,
            },
            mysql::Error::IoError(error) => ErrorClass::of_io(error),
            mysql::Error::CodecError(error) => match std::error::Error::source(error) {
                Some(source) => source.downcast_ref::<io::Error>().map_or(ErrorClass::Lost, ErrorClass::of_io),
                None => ErrorClass::Lost,
            },
            mysql::Error::DriverError(DriverError::ConnectTimeout | DriverError::Timeout) => ErrorClass::TimedOut,
            // Whatever else it is, nobody knows what is still in the pipe.
            mysql::Error::DriverError(_)
            | mysql::Error::TlsError(_)
            | mysql::Error::UrlError(_)
            | mysql::Error::FromValueError(_)
            | mysql::Error::FromRowError(_) => ErrorClass::Lost,
        }
    }

    /// Its name in the metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            ErrorClass::TimedOut => "timed_out",
            ErrorClass::Lost => "lost",
            ErrorClass::Transient => "conflict",
            ErrorClass::LockWait => "lock_wait",
            ErrorClass::WrongServer => "wrong_server",
            ErrorClass::Refused => "refused",
        }
    }

    fn of_io(error: &io::Error) -> ErrorClass {
        match error.kind() {
            // A socket's time-out is either, depending on the platform.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ErrorClass::TimedOut,
            _ => ErrorClass::Lost,
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
            (1213, "", ErrorClass::Transient),
            (1205, "", ErrorClass::LockWait),
            (3101, "", ErrorClass::Transient),
            (1047, "WSREP has not yet prepared node", ErrorClass::WrongServer),
            (1180, "Got error 149 during COMMIT", ErrorClass::Transient),
            (1180, "Got error 5 during COMMIT", ErrorClass::Refused),
            (1290, "", ErrorClass::WrongServer),
            (1792, "", ErrorClass::WrongServer),
            (1836, "", ErrorClass::WrongServer),
            (1927, "", ErrorClass::Lost),
            (1053, "", ErrorClass::Lost),
            (4031, "", ErrorClass::Lost),
            (1064, "", ErrorClass::Refused),
            (1146, "", ErrorClass::Refused),
        ];
        for (code, message, want) in meanings {
            assert_eq!(ErrorClass::of(&server(code, message)), want, "{code} {message}");
        }
    }

    #[test]
    fn whatever_is_not_the_servers_own_packet_leaves_the_connection_unusable() {
        let io = |kind: io::ErrorKind| mysql::Error::IoError(kind.into());
        assert_eq!(ErrorClass::of(&io(io::ErrorKind::WouldBlock)), ErrorClass::TimedOut);
        assert_eq!(ErrorClass::of(&io(io::ErrorKind::TimedOut)), ErrorClass::TimedOut);
        assert_eq!(ErrorClass::of(&io(io::ErrorKind::BrokenPipe)), ErrorClass::Lost);
        assert_eq!(ErrorClass::of(&mysql::Error::DriverError(DriverError::PacketOutOfSync)), ErrorClass::Lost);
    }
}
