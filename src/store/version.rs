//! What a server is: its product, its version, and what follows from them.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::client::Client;
use super::error::Error;

/// A database product and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As the server says it.
    pub text: String,
    /// Whether it is one that this service runs on.
    pub supported: bool,
    /// Whether an INSERT can give back the rows that it made, which MariaDB's can and MySQL's can't.
    pub(super) inserts_returning: bool,
}

const VERSION: &str = "SELECT VERSION() LIMIT 1";

impl Client {
    /// What the server is.
    pub fn version(&mut self) -> Result<Version, Error> {
        self.run(|connection, _| Version::ask(connection.next()?))
    }
}

impl Version {
    pub(super) fn ask(connection: &mut Conn) -> Result<Version, mysql::Error> {
        Ok(Version::of(connection.query_first(VERSION)?.unwrap_or_default()))
    }

    fn of(text: String) -> Version {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let found = (next(), next(), next());
        let mariadb = text.contains("MariaDB");
        let oldest = if mariadb { (10, 5, 0) } else { (8, 0, 13) };
        let supported = found >= oldest;
        Version { supported, inserts_returning: mariadb && supported, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let mariadb = ["10.5.0-MariaDB", "10.11.19-MariaDB-0+deb12u1", "11.8.6-MariaDB-ubu2404"];
        let mysql = ["8.0.13", "8.4.0", "9.7.4", "10.0.0"];
        for text in mariadb.iter().chain(&mysql) {
            let version = Version::of((*text).to_owned());
            assert!(version.supported, "{text}");
            assert_eq!(version.inserts_returning, mariadb.contains(text), "{text}");
        }
        for text in ["5.7.44", "8.0.12", "10.4.34-MariaDB", "5.5.68-MariaDB", ""] {
            let version = Version::of(text.to_owned());
            assert!(!version.supported && !version.inserts_returning, "{text}");
        }
    }
}
