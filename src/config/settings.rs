//! The table of all settings: name, default, and whether the value is a secret. Reads nothing.

/// A variable that can be set.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value when it is not set; empty for none.
    pub default: &'static str,
    /// Never shown.
    pub secret: bool,
}

const fn setting(name: &'static str, default: &'static str) -> Setting {
    Setting { name, default, secret: false }
}

const fn secret(name: &'static str) -> Setting {
    Setting { name, default: "", secret: true }
}

/// All settings. Each also has a form with `_FILE` after its name, which names a file that holds the value.
pub const SETTINGS: &[Setting] = &[
    setting("MYSQL_HOST", "localhost"),
    setting("MYSQL_PORT", "3306"),
    setting("MYSQL_USER", ""),
    setting("MYSQL_DB", ""),
    setting("MYSQL_DATABASE", ""),
    secret("MYSQL_PASSWORD"),
    secret("DATABASE_URL"),
    setting("MYSQL_SSL_MODE", "disabled"),
    setting("MYSQL_SSL_CA", ""),
    setting("MYSQL_SSL_CERT", ""),
    setting("MYSQL_SSL_KEY", ""),
    setting("DB_CONNECTIONS", "5"),
    setting("TAKE_OVER", "off"),
    setting("BIND", "0.0.0.0"),
    setting("PORT", "5000"),
    setting("DB_WAIT", "5m"),
    setting("DB_TIMEOUT", "5s"),
    setting("MAX_MESSAGE_CHARS", "2000"),
    setting("MAX_CONNECTIONS", "10000"),
    setting("MAX_CONNECTIONS_PER_CLIENT", ""),
    setting("REQUEST_TIMEOUT", "10s"),
    setting("IDLE_TIMEOUT", "60s"),
    setting("QUEUE_REQUESTS", "10000"),
    setting("SHUTDOWN_DELAY", "0s"),
    setting("SHUTDOWN_GRACE", "8s"),
    secret("ADMIN_TOKEN"),
    setting("RATE_LIMIT", "off"),
    setting("TRUSTED_PROXIES", ""),
    setting("PUBLIC_URL", ""),
    setting("PAGE_TITLE", "Messages"),
    setting("PAGE_INTRO", ""),
    setting("PAGE_FOOTER", "off"),
    setting("LOG_LEVEL", "info"),
    setting("LOG_FORMAT", "text"),
    setting("ACCESS_LOG", "off"),
];
