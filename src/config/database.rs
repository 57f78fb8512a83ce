//! The settings that reach the database: from the parts, or from `DATABASE_URL`.

use std::path::PathBuf;

use super::database_url::{self, DatabaseUrl, EncryptionParameters};
use super::source::Source;
use super::value::{self, SslMode};
use crate::store::{Account, ClientCertificate, Encryption, Host, SettingNames};

/// The settings that `DATABASE_URL` stands for.
const PARTS: [&str; 6] = ["MYSQL_HOST", "MYSQL_PORT", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DB", "MYSQL_DATABASE"];
const URL: &str = "mysql://user:password@host:3306/db";

/// The servers, and the account there.
pub(super) fn read(s: &mut Source<'_>) -> (Vec<Host>, Account) {
    if s.optional("MYSQL_PORT", "", |v| Some(v.starts_with("tcp://"))) == Some(true) {
        let note = "MYSQL_PORT looks like what Kubernetes injects for a Service named mysql; it is ignored";
        s.ignore("MYSQL_PORT", note);
    }
    if s.is_set("DATABASE_URL") { from_url(s) } else { from_parts(s) }
}

fn from_url(s: &mut Source<'_>) -> (Vec<Host>, Account) {
    for part in PARTS {
        if s.is_set(part) {
            s.invalid(part, "cannot be combined with DATABASE_URL; set one of them");
        }
    }
    let url = match s.optional("DATABASE_URL", URL, |text| Some(database_url::parse(text))) {
        Some(Ok(url)) => url,
        Some(Err(problem)) => {
            s.invalid("DATABASE_URL", problem);
            return (Vec::new(), Account::default());
        }
        None => return (Vec::new(), Account::default()),
    };
    if !url.ignored.is_empty() {
        s.note(format!("DATABASE_URL: these parameters change nothing here: {}", url.ignored.join(", ")));
    }
    let (encryption, client_certificate) = encryption(s, &url.encryption);
    let in_url = s.variable("DATABASE_URL");
    let mut settings = SettingNames {
        host: format!("the host and the port in {in_url}"),
        user: "the user".to_owned(),
        password: format!("the password in {in_url}"),
        database: format!("the database in {in_url}"),
        ..SettingNames::default()
    };
    if url.encryption.mode.is_some() {
        settings.encryption = format!("ssl-mode and ssl-ca in {in_url}");
    }
    let DatabaseUrl { host, user, password, database, .. } = url;
    (vec![host], Account { user, password, reload_password: None, database, encryption, client_certificate, settings })
}

fn from_parts(s: &mut Source<'_>) -> (Vec<Host>, Account) {
    let port = s.required("MYSQL_PORT", "a port from 1 to 65535", |v| value::number(v, 1, 65535));
    let hosts = hosts(s, port);
    let text = |v: &str| Some(v.to_owned());
    let user = s.optional("MYSQL_USER", "a user name", text);
    let name = match (s.optional("MYSQL_DB", "a name", text), s.optional("MYSQL_DATABASE", "a name", text)) {
        (Some(name), Some(other)) if name != other => {
            s.invalid("MYSQL_DATABASE", format!("differs from MYSQL_DB={name}; set only one of them"));
            Some(name)
        }
        (name, other) => name.or(other),
    };
    for (missing, name) in [(user.is_none(), "MYSQL_USER"), (name.is_none(), "MYSQL_DB")] {
        if missing {
            s.invalid(name, format!("is missing; set it, or DATABASE_URL={URL}"));
        }
    }
    let password = s.optional("MYSQL_PASSWORD", "a password", text);
    let (encryption, client_certificate) = encryption(s, &EncryptionParameters::default());
    let (user, database) = (user.unwrap_or_default(), name.unwrap_or_default());
    let database_name = if s.is_set("MYSQL_DB") { "MYSQL_DB" } else { "MYSQL_DATABASE" };
    let settings = SettingNames {
        host: format!("{} and {}", s.variable("MYSQL_HOST"), s.variable("MYSQL_PORT")),
        user: s.variable("MYSQL_USER"),
        password: s.variable("MYSQL_PASSWORD"),
        database: s.variable(database_name),
        ..SettingNames::default()
    };
    (hosts, Account { user, password, reload_password: None, database, encryption, client_certificate, settings })
}

fn hosts(s: &mut Source<'_>, port: u16) -> Vec<Host> {
    if s.optional("MYSQL_HOST", "", |v| Some(v.contains('@'))) == Some(true) {
        let problem = "must have no user or password before the host; set MYSQL_USER and MYSQL_PASSWORD";
        s.invalid_secret("MYSQL_HOST", problem);
        return Vec::new();
    }
    let expected = "host, host:port, /path/of/a/socket, or a list of them separated by commas";
    s.required("MYSQL_HOST", expected, |v| value::hosts(v, port))
}

/// How connections are encrypted, by the settings or by the parameters of the URL.
fn encryption(s: &mut Source<'_>, url: &EncryptionParameters) -> (Encryption, Option<ClientCertificate>) {
    let set = EncryptionParameters {
        mode: either(s, "MYSQL_SSL_MODE", &url.mode),
        ca: either(s, "MYSQL_SSL_CA", &url.ca),
        cert: either(s, "MYSQL_SSL_CERT", &url.cert),
        key: either(s, "MYSQL_SSL_KEY", &url.key),
    };
    let mode = set.mode.as_deref().map_or(Some(SslMode::Disabled), value::ssl_mode);
    if mode.is_none() {
        let expected = "expected disabled, preferred, required, verify-ca, verify-identity or verify";
        invalid(s, "MYSQL_SSL_MODE", &url.mode, expected);
    }
    let mode = mode.unwrap_or(SslMode::Disabled);
    const CERTIFICATE: (&str, &str) = ("-----BEGIN CERTIFICATE-----", "a certificate");
    const KEY: (&str, &str) = ("PRIVATE KEY-----", "a private key");
    for (name, parameter, path, (marker, content)) in [
        ("MYSQL_SSL_CA", &url.ca, &set.ca, CERTIFICATE),
        ("MYSQL_SSL_CERT", &url.cert, &set.cert, CERTIFICATE),
        ("MYSQL_SSL_KEY", &url.key, &set.key, KEY),
    ] {
        if path.as_ref().is_some_and(|path| !value::is_pem(path, marker)) {
            invalid(s, name, parameter, &format!("expected a readable file with {content} in PEM form"));
        }
    }
    let certificate = client_certificate(s, url, &set, mode);
    (server_check(s, url, mode, set.ca.map(PathBuf::from)), certificate)
}

/// The mode together with the authority, where the mode uses one.
fn server_check(s: &mut Source<'_>, url: &EncryptionParameters, mode: SslMode, ca: Option<PathBuf>) -> Encryption {
    match (mode, ca) {
        (SslMode::VerifyIdentity, ca) => Encryption::VerifyIdentity(ca),
        (SslMode::VerifyCa, Some(ca)) => Encryption::VerifyCa(ca),
        (SslMode::VerifyCa, None) => {
            invalid(s, "MYSQL_SSL_MODE", &url.mode, "verify-ca needs MYSQL_SSL_CA");
            Encryption::Disabled
        }
        (SslMode::Disabled | SslMode::Preferred | SslMode::Required, Some(_)) => {
            invalid(s, "MYSQL_SSL_CA", &url.ca, "needs MYSQL_SSL_MODE=verify-ca or verify-identity");
            Encryption::Disabled
        }
        (SslMode::Disabled, None) => Encryption::Disabled,
        (SslMode::Preferred, None) => Encryption::Preferred,
        (SslMode::Required, None) => Encryption::Required,
    }
}

fn client_certificate(
    s: &mut Source<'_>,
    url: &EncryptionParameters,
    set: &EncryptionParameters,
    mode: SslMode,
) -> Option<ClientCertificate> {
    match (&set.cert, &set.key) {
        (Some(_), Some(_)) if mode == SslMode::Disabled => {
            invalid(s, "MYSQL_SSL_CERT", &url.cert, "needs a MYSQL_SSL_MODE other than disabled");
            None
        }
        (Some(cert), Some(key)) => Some(ClientCertificate { cert: cert.into(), key: key.into() }),
        (None, None) => None,
        (Some(_), None) => {
            invalid(s, "MYSQL_SSL_CERT", &url.cert, "needs MYSQL_SSL_KEY");
            None
        }
        (None, Some(_)) => {
            invalid(s, "MYSQL_SSL_KEY", &url.key, "needs MYSQL_SSL_CERT");
            None
        }
    }
}

/// The value of a setting, or of the parameter of the URL that stands for it.
fn either(s: &mut Source<'_>, name: &'static str, parameter: &Option<String>) -> Option<String> {
    let set = s.optional(name, "", |v| Some(v.to_owned()));
    if set.is_some() && parameter.is_some() {
        s.invalid(name, "cannot be combined with the same parameter in DATABASE_URL; set one of them");
    }
    parameter.clone().or(set)
}

/// Reports what is wrong with such a value, where the user has set it.
fn invalid(s: &mut Source<'_>, name: &'static str, parameter: &Option<String>, problem: &str) {
    match parameter {
        Some(value) => s.invalid("DATABASE_URL", format!("the value {value} for {name}: {problem}")),
        None => s.invalid(name, problem),
    }
}
