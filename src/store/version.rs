//! What a server is: its product, its version, and what follows from them.

use super::error::Error;

/// A database product and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As the server reports it.
    pub text: String,
    product: Product,
    numbers: (u32, u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Product {
    MariaDb,
    MySql,
}

impl Version {
    pub(super) fn new(text: String) -> Version {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let numbers = (next(), next(), next());
        let product = if text.contains("MariaDB") { Product::MariaDb } else { Product::MySql };
        Version { text, product, numbers }
    }

    /// Whether this service runs on it; an error says which versions it needs.
    pub fn check(&self) -> Result<(), Error> {
        let oldest = match self.product {
            Product::MariaDb => (10, 5, 0),
            Product::MySql => (8, 0, 13),
        };
        if self.numbers >= oldest {
            return Ok(());
        }
        let needed = "twotier needs MySQL 8.0.13 or newer, or MariaDB 10.5 or newer";
        Err(Error::Refused(format!("the server is version {}; {needed}", self.text)))
    }

    pub(super) fn is_mariadb(&self) -> bool {
        self.product == Product::MariaDb
    }

    /// Whether an INSERT can return the rows that it made.
    pub(super) fn inserts_returning(&self) -> bool {
        self.is_mariadb() && self.check().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
