//! Settings: the only folder that reads the environment.
//!
//! In come variables, and the files that they name. Out comes a checked [`Config`], or all errors together. `settings` is the
//! table of all settings, `source` finds the text of one, and `value` parses it. `database` and `database_url` read what reaches the database, and
//! `misspelt` finds variables that look like a setting. An invalid value never becomes a default, and a secret is never
//! shown.

mod database;
mod database_url;
mod misspelt;
pub mod settings;
mod source;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;
use url::Url;

use crate::http::AccessLogFormat;
use crate::logging::LogFormat;
use crate::message::MAX_MESSAGE_CHARS_MAX;
use crate::store::account::ReloadPassword;
use crate::store::{Account, Host};
pub use settings::SETTINGS;
use source::Source;
pub use source::{Environment, SettingError};

/// The settings, checked.
pub struct Config {
    /// The database's servers, in the order in which they are tried.
    pub hosts: Vec<Host>,
    /// The account there.
    pub account: Account,
    /// How long to wait for the database at the start; `None` means without limit.
    pub db_wait: Option<Duration>,
    /// For one connect, and for one statement.
    pub db_timeout: Duration,
    /// Connections to the database.
    pub db_connections: usize,
    /// Whether a table with columns of another program is taken over.
    pub take_over: bool,
    /// Where to listen.
    pub bind: IpAddr,
    /// Where to listen; 0 for any free port.
    pub port: u16,
    /// Characters of the longest message.
    pub max_message_chars: usize,
    /// Connections that may be open.
    pub max_connections: usize,
    /// Connections that one client may have open; `None` for the default.
    pub max_connections_per_client: Option<usize>,
    /// Time for a complete request to arrive.
    pub request_timeout: Duration,
    /// Time that a connection may stay idle.
    pub idle_timeout: Duration,
    /// Requests that may wait in one queue.
    pub queue_requests: usize,
    /// Time between the signal and the end of accepting.
    pub shutdown_delay: Duration,
    /// Time for requests in progress after that.
    pub shutdown_grace: Duration,
    /// The token that turns on editing and deleting.
    pub admin_token: Option<String>,
    /// Submits a minute of one client.
    pub rate_limit: Option<NonZeroU32>,
    /// Proxies whose headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Where people reach the board; each ends with a slash.
    pub public_urls: Vec<Url>,
    /// The pages' title.
    pub page_title: String,
    /// A text below the title.
    pub page_intro: Option<String>,
    /// Whether the pages show the replica and the version.
    pub page_footer: bool,
    /// The least level that is logged.
    pub log_level: LevelFilter,
    /// The form of a log line.
    pub log_format: LogFormat,
    /// The form of the access log; `None` for no access log.
    pub access_log: Option<AccessLogFormat>,
    /// Warnings about the settings.
    pub notes: Vec<String>,
    /// Every setting with the value in force, secrets masked.
    pub shown: Vec<(&'static str, String)>,
}

const TIMEOUT_WORDS: &str = "a duration with a unit from 100ms to 1h, like 500ms, 5s or 2m";
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));
const PAUSE_WORDS: &str = "a duration with a unit up to 1h, like 0s, 500ms or 5s";
const PAUSE_RANGE: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(3600));

impl Config {
    /// Reads all settings, or says all that is wrong with them.
    pub fn read(environment: &Environment) -> Result<Config, Vec<SettingError>> {
        let mut source = Source::new(environment);
        let s = &mut source;
        let (hosts, account) = database::read(s);
        let timeout = |s: &mut Source<'_>, name| s.required(name, TIMEOUT_WORDS, |v| value::duration(v, TIMEOUT_RANGE));
        let pause = |s: &mut Source<'_>, name| s.required(name, PAUSE_WORDS, |v| value::duration(v, PAUSE_RANGE));
        let config = Config {
            hosts,
            account,
            db_wait: s.required("DB_WAIT", "a duration with a unit, like 5m, or 0 to wait for ever", value::wait),
            db_timeout: timeout(s, "DB_TIMEOUT"),
            db_connections: s.required("DB_CONNECTIONS", "a number from 1 to 8", |v| value::number(v, 1, 8)),
            take_over: s.required("TAKE_OVER", "on or off", value::switch),
            bind: bind(s),
            port: port(s),
            max_message_chars: s.required("MAX_MESSAGE_CHARS", "a number from 1 to 5000", |v| {
                value::number(v, 1, MAX_MESSAGE_CHARS_MAX as u64)
            }),
            max_connections: s
                .required("MAX_CONNECTIONS", "a number from 1 to 1000000", |v| value::number(v, 1, 1_000_000)),
            max_connections_per_client: s.optional("MAX_CONNECTIONS_PER_CLIENT", "a number from 1 to 1000000", |v| {
                value::number(v, 1, 1_000_000)
            }),
            request_timeout: timeout(s, "REQUEST_TIMEOUT"),
            idle_timeout: timeout(s, "IDLE_TIMEOUT"),
            queue_requests: s
                .required("QUEUE_REQUESTS", "a number from 1 to 1000000", |v| value::number(v, 1, 1_000_000)),
            shutdown_delay: pause(s, "SHUTDOWN_DELAY"),
            shutdown_grace: pause(s, "SHUTDOWN_GRACE"),
            admin_token: s.optional(
                "ADMIN_TOKEN",
                "at least 16 visible ASCII characters, without spaces",
                value::token,
            ),
            rate_limit: s.required("RATE_LIMIT", "off, or a number of submits a minute up to 1000000", value::rate),
            trusted_proxies: trusted_proxies(s),
            public_urls: s
                .optional(
                    "PUBLIC_URL",
                    "URLs like https://board.example.org/board/, separated by commas",
                    value::public_urls,
                )
                .unwrap_or_default(),
            page_title: s.required("PAGE_TITLE", "text", |v| Some(v.to_owned())),
            page_intro: s.optional("PAGE_INTRO", "text", |v| Some(v.to_owned())),
            page_footer: s.required("PAGE_FOOTER", "on or off", value::switch),
            log_level: s.required("LOG_LEVEL", "error, warn, info, debug or trace", value::level),
            log_format: s.required("LOG_FORMAT", "text or json", value::log_format),
            access_log: s.required("ACCESS_LOG", "off, combined or json", value::access_log),
            notes: Vec::new(),
            shown: Vec::new(),
        };
        let (notes, shown, errors) = source.finish();
        let mut config = config;
        config.account.reload_password = reload_password(environment);
        if errors.is_empty() { Ok(Config { notes, shown, ..config }) } else { Err(errors) }
    }

    /// Where the server of this environment listens; for a health check, which needs no more.
    pub fn listening(environment: &Environment) -> Result<SocketAddr, Vec<SettingError>> {
        let mut source = Source::new(environment);
        let address = SocketAddr::new(bind(&mut source), port(&mut source));
        let (_, _, mut errors) = source.finish();
        errors.retain(|error| error.names("BIND") || error.names("PORT"));
        if errors.is_empty() { Ok(address) } else { Err(errors) }
    }
}

/// What is odd about the variables, whether the settings are valid or not.
pub fn notes(environment: &Environment) -> Vec<String> {
    Source::new(environment).finish().0
}

fn bind(s: &mut Source<'_>) -> IpAddr {
    s.required("BIND", "an IP address", |v| v.parse().ok())
}

fn port(s: &mut Source<'_>) -> u16 {
    s.required("PORT", "a port from 0 to 65535", |v| value::number(v, 0, 65535))
}

fn trusted_proxies(s: &mut Source<'_>) -> Vec<IpNet> {
    let networks = s.optional("TRUSTED_PROXIES", "addresses and CIDR ranges, separated by commas", value::networks);
    let networks = networks.unwrap_or_default();
    if IpNet::aggregate(&networks).iter().any(|network| network.prefix_len() == 0) {
        s.note("TRUSTED_PROXIES trusts every address, so any client can claim any address; name only your proxies");
    }
    networks
}

/// Reads the password again, if a file holds it.
fn reload_password(environment: &Environment) -> Option<ReloadPassword> {
    let has_file = ["MYSQL_PASSWORD", "DATABASE_URL"].iter().any(|name| environment.file(name).is_some());
    let environment = environment.clone();
    has_file.then(|| Arc::new(move || database::read(&mut Source::new(&environment)).1.password) as ReloadPassword)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Encryption;

    fn read(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let environment = Environment::of(variables);
        Config::read(&environment).map_err(|wrong| wrong.iter().map(ToString::to_string).collect())
    }

    const MINIMUM: [(&str, &str); 2] = [("MYSQL_USER", "u"), ("MYSQL_DB", "d")];

    fn with(more: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        read(&[&MINIMUM, more].concat())
    }

    #[track_caller]
    fn wrong(more: &[(&str, &str)], want: &str) {
        let problems = with(more).err().unwrap_or_default();
        assert!(problems.iter().any(|p| p.contains(want)), "{want:?} in {problems:?}");
    }

    #[test]
    fn a_user_and_a_database_are_enough() {
        let config = read(&MINIMUM).unwrap();
        assert_eq!(config.hosts, [Host { name: "localhost".into(), port: 3306 }]);
        assert_eq!((config.port, config.max_connections, config.max_connections_per_client), (5000, 10_000, None));
        assert_eq!(config.db_wait, Some(Duration::from_secs(300)));
        assert_eq!(config.account.password, None);
    }

    #[test]
    fn everything_that_is_wrong_is_reported_together() {
        let problems = read(&[("PORT", "http"), ("DB_TIMEOUT", "5"), ("MAX_CONNECTIONS", "0")]).err().unwrap();
        let names = ["MYSQL_USER", "MYSQL_DB", "PORT", "DB_TIMEOUT", "MAX_CONNECTIONS"];
        assert_eq!(problems.len(), names.len(), "{problems:?}");
        for name in names {
            assert!(problems.iter().any(|p| p.starts_with(name)), "{name} in {problems:?}");
        }
        assert!(problems.iter().any(|p| p == "PORT=http: expected a port from 0 to 65535"), "{problems:?}");
    }

    #[test]
    fn an_empty_value_means_unset() {
        let config = with(&[("PORT", ""), ("MYSQL_PASSWORD", ""), ("ADMIN_TOKEN", "")]).unwrap();
        assert_eq!((config.port, config.account.password, config.admin_token), (5000, None, None));
        wrong(&[("MYSQL_USER", "")], "MYSQL_USER");
    }

    #[test]
    fn hosts_are_a_list_with_ports_of_their_own() {
        let hosts = |list: &str| with(&[("MYSQL_HOST", list), ("MYSQL_PORT", "3307")]).map(|config| config.hosts);
        let host = |name: &str, port| Host { name: name.to_owned(), port };
        assert_eq!(hosts("db"), Ok(vec![host("db", 3307)]));
        assert_eq!(
            hosts("a:1, b ,[::1]:2,::1"),
            Ok(vec![host("a", 1), host("b", 3307), host("::1", 2), host("::1", 3307)])
        );
        assert_eq!(hosts("/run/mysqld.sock,b"), Ok(vec![host("/run/mysqld.sock", 3307), host("b", 3307)]));
        for list in [",", "a,,b", "\ta", "a,\nb", "a:x", "a:0", "a b", "mysql://a", "[::1"] {
            wrong(&[("MYSQL_HOST", list)], "MYSQL_HOST=");
        }
    }

    #[test]
    fn a_url_stands_for_the_parts_and_excludes_them() {
        let config = read(&[("DATABASE_URL", "mysql://us%40er:p%2Fw%3A@db.example:3307/board")]).unwrap();
        assert_eq!(config.hosts, [Host { name: "db.example".into(), port: 3307 }]);
        assert_eq!((&*config.account.user, config.account.password.as_deref()), ("us@er", Some("p/w:")));
        assert_eq!(config.account.database, "board");
        wrong(
            &[("DATABASE_URL", "mysql://u:p@h/d")],
            "MYSQL_USER=u: cannot be combined with DATABASE_URL; set one of them",
        );
        for url in ["postgres://u:hunter2@h/d", "mysql://u:hunt#er2@h/d", "mysql://u:hunter2@h/d?nonsense=1"] {
            let problems = read(&[("DATABASE_URL", url)]).err().unwrap_or_default();
            assert!(
                problems.len() == 1 && problems[0].starts_with("DATABASE_URL: ") && !problems[0].contains("hunt"),
                "{url}: {problems:?}"
            );
        }
        let config = read(&[("DATABASE_URL", "mysql://u:p@h/d?charset=utf8mb4&ssl-mode=REQUIRED")]).unwrap();
        assert_eq!(config.account.encryption, Encryption::Required);
        assert!(
            config.notes.iter().any(|note| note.contains("charset") && !note.contains("ssl-mode")),
            "{:?}",
            config.notes
        );
    }

    #[test]
    fn what_kubernetes_injects_is_ignored_with_a_note() {
        let config = with(&[("MYSQL_PORT", "tcp://10.0.0.1:3306")]).unwrap();
        assert_eq!(config.hosts[0].port, 3306);
        assert_eq!(config.notes.len(), 1);
        assert!(read(&[("DATABASE_URL", "mysql://u@h/d"), ("MYSQL_PORT", "tcp://10.0.0.1:3306")]).is_ok());
    }

    #[test]
    fn the_database_has_two_names_that_must_agree() {
        let name = |more: &[(&str, &str)]| read(&[&[("MYSQL_USER", "u")], more].concat()).map(|c| c.account.database);
        assert_eq!(name(&[("MYSQL_DATABASE", "x")]), Ok("x".to_owned()));
        assert_eq!(name(&[("MYSQL_DATABASE", "x"), ("MYSQL_DB", "x")]), Ok("x".to_owned()));
        wrong(&[("MYSQL_DATABASE", "x")], "MYSQL_DATABASE=x");
    }

    #[test]
    fn durations_need_a_unit() {
        let config =
            with(&[("DB_TIMEOUT", "2500ms"), ("IDLE_TIMEOUT", "2m"), ("SHUTDOWN_DELAY", "0s"), ("DB_WAIT", "0")])
                .unwrap();
        assert_eq!((config.db_timeout, config.idle_timeout), (Duration::from_millis(2500), Duration::from_secs(120)));
        assert_eq!((config.shutdown_delay, config.db_wait), (Duration::ZERO, None));
        for value in ["5", "5 s", "s", "-5s", "5x", "1e3s", "0s", "99999999999999999999s", "2h"] {
            wrong(&[("DB_TIMEOUT", value)], "DB_TIMEOUT=");
        }
    }

    #[test]
    fn a_secrets_value_is_never_shown() {
        for token in ["not a token at all", "fifteen-letters", "é-and-sixteen-more-letters"] {
            wrong(&[("ADMIN_TOKEN", token)], "ADMIN_TOKEN: expected at least 16");
        }
        let config = with(&[("MYSQL_PASSWORD", "hunter2"), ("ADMIN_TOKEN", "t0ken-of-an-admin")]).unwrap();
        let shown = format!("{:?}", config.shown);
        assert!(!shown.contains("hunter2") && !shown.contains("t0ken") && shown.contains("MYSQL_PASSWORD"), "{shown}");
    }

    #[test]
    fn the_log_has_two_forms() {
        let form = |value: &str| with(&[("LOG_FORMAT", value)]).map(|config| config.log_format);
        assert_eq!(
            (form("text"), form("json"), form("")),
            (Ok(LogFormat::Text), Ok(LogFormat::Json), Ok(LogFormat::Text))
        );
        wrong(&[("LOG_FORMAT", "JSON")], "LOG_FORMAT=JSON: expected text or json");
    }

    #[test]
    fn public_urls_are_plain_http_urls_that_end_with_a_slash() {
        let urls = |value: &str| {
            let urls = with(&[("PUBLIC_URL", value)]).map(|config| config.public_urls);
            urls.map(|urls| urls.iter().map(Url::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(urls(""), Ok(String::new()));
        assert_eq!(urls("https://board.example.org"), Ok("https://board.example.org/".to_owned()));
        assert_eq!(
            urls("https://Board.example.org/board , http://10.0.0.1:5000/"),
            Ok("https://board.example.org/board/ http://10.0.0.1:5000/".to_owned())
        );
        for value in [
            "board.example.org",
            "ftp://a/",
            "https://u:p@a/",
            "https://a/?b",
            "https://a/#b",
            "https://a,",
            "https://",
            "x",
        ] {
            wrong(&[("PUBLIC_URL", value)], "PUBLIC_URL=");
        }
    }

    #[test]
    fn trusting_every_address_is_a_warning() {
        let notes = |value: &str| with(&[("TRUSTED_PROXIES", value)]).map(|config| config.notes.join(" "));
        for value in ["0.0.0.0/0", "::/0", "10.0.0.0/8, 0.0.0.0/0", "0.0.0.0/1,128.0.0.0/1"] {
            assert!(notes(value).unwrap().contains("TRUSTED_PROXIES"), "{value}");
        }
        for value in ["", "10.0.0.0/8,::1", "0.0.0.0/1"] {
            assert_eq!(notes(value), Ok(String::new()), "{value}");
        }
    }

    #[test]
    fn a_password_in_the_hosts_is_refused_and_not_shown() {
        for hosts in ["u:hunter2@db", "db, u:hunter2@db:3306", "mysql://u:hunter2@db/x", "u@db"] {
            let problems = with(&[("MYSQL_HOST", hosts)]).err().unwrap().join(" ");
            assert!(problems.contains("MYSQL_HOST") && problems.contains("MYSQL_PASSWORD"), "{problems}");
            assert!(!problems.contains("hunter2") && !problems.contains("u@"), "{problems}");
        }
    }

    #[test]
    fn a_page_has_an_introduction_and_a_footer_only_when_they_are_set() {
        let page = |more: &[(&str, &str)]| with(more).map(|config| (config.page_intro, config.page_footer));
        assert_eq!(page(&[]), Ok((None, false)));
        assert_eq!(page(&[("PAGE_INTRO", "For <all>."), ("PAGE_FOOTER", "on")]), Ok((Some("For <all>.".into()), true)));
        wrong(&[("PAGE_FOOTER", "yes")], "PAGE_FOOTER=yes: expected on or off");
    }

    #[test]
    fn the_rate_limit_is_a_number_or_off() {
        let rate = |value: &str| with(&[("RATE_LIMIT", value)]).map(|config| config.rate_limit.map(NonZeroU32::get));
        assert_eq!((rate("off"), rate(""), rate("30")), (Ok(None), Ok(None), Ok(Some(30))));
        for value in ["0", "-1", "30/m", "1000001", "on"] {
            wrong(&[("RATE_LIMIT", value)], &format!("RATE_LIMIT={value}"));
        }
    }

    #[test]
    fn encryption_has_the_modes_of_mysql_and_files_only_where_they_are_used() {
        let manifest = env!("CARGO_MANIFEST_DIR");
        let pem = std::env::temp_dir().join(format!("twotier-config-{}.pem", std::process::id()));
        std::fs::write(&pem, "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n").unwrap();
        let pem = pem.to_str().unwrap();
        let mode = |more: &[(&str, &str)]| with(more).map(|config| config.account.encryption);
        let ca = ("MYSQL_SSL_CA", pem);
        assert_eq!(mode(&[]), Ok(Encryption::Disabled));
        for (value, want) in [
            ("disabled", Encryption::Disabled),
            ("DISABLED", Encryption::Disabled),
            ("Preferred", Encryption::Preferred),
            ("REQUIRED", Encryption::Required),
            ("verify", Encryption::VerifyIdentity(None)),
            ("VERIFY_IDENTITY", Encryption::VerifyIdentity(None)),
        ] {
            assert_eq!(mode(&[("MYSQL_SSL_MODE", value)]), Ok(want), "{value}");
        }
        assert_eq!(mode(&[("MYSQL_SSL_MODE", "VERIFY_CA"), ca]), Ok(Encryption::VerifyCa(pem.into())));
        assert_eq!(
            mode(&[("MYSQL_SSL_MODE", "verify-identity"), ca]),
            Ok(Encryption::VerifyIdentity(Some(pem.into())))
        );
        let url = format!("mysql://u:p@h/d?ssl-mode=verify_ca&ssl-ca={pem}");
        let config = read(&[("DATABASE_URL", &url)]).unwrap();
        assert_eq!(config.account.encryption, Encryption::VerifyCa(pem.into()));

        let certificate = [("MYSQL_SSL_MODE", "required"), ("MYSQL_SSL_CERT", pem), ("MYSQL_SSL_KEY", pem)];
        let config = with(&certificate).unwrap();
        assert_eq!(config.account.client_certificate.map(|files| files.key), Some(pem.into()));
        let not_pem = format!("{manifest}/Cargo.toml");
        for (more, want) in [
            (&[("MYSQL_SSL_MODE", "on")][..], "MYSQL_SSL_MODE=on: expected disabled, preferred"),
            (&[("MYSQL_SSL_MODE", "verify-ca")], "MYSQL_SSL_MODE=verify-ca: verify-ca needs MYSQL_SSL_CA"),
            (&[ca], "needs MYSQL_SSL_MODE=verify-ca or verify-identity"),
            (
                &[("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", "/no/such/file")],
                "MYSQL_SSL_CA=/no/such/file: expected",
            ),
            (&[("MYSQL_SSL_MODE", "verify"), ("MYSQL_SSL_CA", &not_pem)], "a certificate in PEM form"),
            (&certificate[..2], "needs MYSQL_SSL_KEY"),
            (&[certificate[0], certificate[2]], "needs MYSQL_SSL_CERT"),
            (&certificate[1..], "needs a MYSQL_SSL_MODE other than disabled"),
        ] {
            wrong(more, want);
        }
        let twice = read(&[("DATABASE_URL", &url), ("MYSQL_SSL_MODE", "verify-ca")]).err().unwrap();
        assert!(twice[0].starts_with("MYSQL_SSL_MODE=verify-ca: cannot be combined"), "{twice:?}");
        let odd = read(&[("DATABASE_URL", "mysql://u:p@h/d?ssl-mode=odd")]).err().unwrap();
        assert!(odd[0].starts_with("DATABASE_URL: ") && odd[0].contains("odd"), "{odd:?}");
        std::fs::remove_file(pem).unwrap();
    }
}
