//! The account of this service at the database, and the names of its settings. Opens no connection.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Name, password and database of the account, and how its connections are encrypted.
#[derive(Clone, Default)]
pub struct Account {
    /// User name.
    pub user: String,
    /// Password, if there is one.
    pub password: Option<String>,
    /// Reads the password again from its file, which may have changed.
    pub reload_password: Option<ReloadPassword>,
    /// The database with the table.
    pub database: String,
    /// How the connection is encrypted.
    pub encryption: Encryption,
    /// The certificate that the client shows to the server.
    pub client_certificate: Option<ClientCertificate>,
    /// The names of the settings, for error texts.
    pub settings: SettingNames,
}

/// See [`Account::reload_password`].
pub type ReloadPassword = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// How a connection to the database is encrypted. A Unix socket never is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Not encrypted.
    #[default]
    Disabled,
    /// Encrypted if the server offers it; the certificate is not checked.
    Preferred,
    /// Encrypted; the certificate is not checked.
    Required,
    /// Encrypted; the certificate is checked against this authority and the built-in ones, the host name is not.
    VerifyCa(PathBuf),
    /// Encrypted; certificate and host name are checked against the built-in authorities and this one, if there is one.
    VerifyIdentity(Option<PathBuf>),
}

/// A client's certificate and its key, as PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the user has set, for errors that say what to check: variables, or parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingNames {
    /// Host and port.
    pub host: String,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// The database.
    pub database: String,
    /// The encryption.
    pub encryption: String,
}

impl Default for SettingNames {
    fn default() -> SettingNames {
        SettingNames {
            host: "MYSQL_HOST and MYSQL_PORT".to_owned(),
            user: "MYSQL_USER".to_owned(),
            password: "MYSQL_PASSWORD".to_owned(),
            database: "MYSQL_DB".to_owned(),
            encryption: "MYSQL_SSL_MODE and MYSQL_SSL_CA".to_owned(),
        }
    }
}

impl Account {
    /// What to check when a login was denied: the settings, and what is odd about the password.
    pub(super) fn denied_hint(&self) -> String {
        let SettingNames { user, password, .. } = &self.settings;
        let oddity = match &self.password {
            None => Some("no password is set"),
            Some(password) => oddity(password),
        };
        let oddity = oddity.map(|oddity| format!("; {oddity}")).unwrap_or_default();
        format!("{user} and {password}{oddity}")
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

impl Encryption {
    /// In words, for an operator.
    pub fn describe(&self) -> &'static str {
        match self {
            Encryption::Disabled => "off",
            Encryption::Preferred => "on where the server offers it; the certificate is not checked",
            Encryption::Required => "on; the certificate is not checked",
            Encryption::VerifyCa(_) => "on; the certificate is checked, the host name is not",
            Encryption::VerifyIdentity(_) => "on; certificate and host name are checked",
        }
    }
}

/// What is odd about a secret, without showing it.
fn oddity(secret: &str) -> Option<&'static str> {
    let is_quoted = |quote| secret.len() > 1 && secret.starts_with(quote) && secret.ends_with(quote);
    if secret.starts_with('\u{feff}') {
        Some("the password begins with a byte order mark (BOM)")
    } else if is_quoted('"') || is_quoted('\'') {
        Some("the password is enclosed in quotes")
    } else if secret.contains('\r') {
        Some("the password contains a carriage return")
    } else if secret.ends_with('\n') {
        Some("the password ends with a line end")
    } else if secret.trim() != secret {
        Some("the password begins or ends with white space")
    } else if secret.chars().any(|c| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')) {
        Some("the password contains an invisible character")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_edges_of_a_password_are_named_and_ordinary_passwords_are_not() {
        for (password, word) in [
            ("\u{feff}hunter2", "BOM"),
            ("\"hunter2\"", "quotes"),
            ("'hunter2'", "quotes"),
            ("hunter2\r", "carriage return"),
            ("hunter2\n", "line end"),
            (" hunter2", "white space"),
            ("hunter2\u{a0}", "white space"),
            ("hun\u{200b}ter2", "invisible"),
        ] {
            let account = Account { password: Some(password.to_owned()), ..Account::default() };
            let hint = account.denied_hint();
            assert!(hint.contains(word) && hint.contains("MYSQL_PASSWORD") && !hint.contains("hunter2"), "{hint}");
        }
        for password in ["hunter2", "a b", "'", "it's", "\"", "é中🔑", "%"] {
            let account = Account { password: Some(password.to_owned()), ..Account::default() };
            assert_eq!(account.denied_hint(), "MYSQL_USER and MYSQL_PASSWORD", "{password}");
        }
        assert!(Account::default().denied_hint().contains("no password"));
    }
}
