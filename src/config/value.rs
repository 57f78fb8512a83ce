//! The values of settings: text in, a value or nothing out.

use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::logging::LogFormat;
use crate::store::{Account, Encryption, Host};

/// A whole number in a range.
pub(super) fn number<T: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Option<T> {
    let number = digits(text).filter(|number| (min..=max).contains(number))?;
    T::try_from(number).ok()
}

/// A number and a unit: ms, s, m or h.
pub(super) fn duration(text: &str, (min, max): (Duration, Duration)) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let duration = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    };
    (min..=max).contains(&duration).then_some(duration)
}

/// A duration, or nothing for ever, which is written as 0.
pub(super) fn wait(text: &str) -> Option<Option<Duration>> {
    let longest = Duration::from_secs(365 * 24 * 3600);
    match text {
        "0" => Some(None),
        text => duration(text, (Duration::ZERO, longest)).map(|d| Some(d).filter(|d| !d.is_zero())),
    }
}

/// `on` or `off`.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// How the log looks.
pub(super) fn form(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

/// A list of hosts, each with its own port or with `port`.
pub(super) fn hosts(text: &str, port: u16) -> Option<Vec<Host>> {
    text.split(',').map(|host| self::host(host.trim(), port)).collect()
}

fn host(text: &str, port: u16) -> Option<Host> {
    let (name, port) = match (text.parse::<IpAddr>(), text.strip_prefix('[').and_then(|rest| rest.split_once(']'))) {
        (Ok(_), _) => (text, port),
        (Err(_), Some((address, ""))) => (address, port),
        (Err(_), Some((address, rest))) => (address, number(rest.strip_prefix(':')?, 1, 65535)?),
        (Err(_), None) => match text.split_once(':') {
            Some((name, own)) => (name, number(own, 1, 65535)?),
            None => (text, port),
        },
    };
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"/[]@".contains(&b));
    plain.then(|| Host { name: name.to_owned(), port })
}

/// `mysql://user:password@host:port/db`.
pub(super) fn database_url(text: &str, encryption: Encryption) -> Option<(Vec<Host>, Account)> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| url.scheme() == "mysql" && url.query().is_none() && url.fragment().is_none())?;
    let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(String::from);
    let name = match url.host()? {
        url::Host::Domain(name) => decode(name)?,
        url::Host::Ipv4(address) => address.to_string(),
        url::Host::Ipv6(address) => address.to_string(),
    };
    let user = decode(url.username()).filter(|user| !user.is_empty())?;
    let password = match url.password() {
        Some(password) => Some(decode(password)?).filter(|password| !password.is_empty()),
        None => None,
    };
    let database = url.path().strip_prefix('/').filter(|path| !path.is_empty() && !path.contains('/'))?;
    let host = Host { name, port: url.port().unwrap_or(3306) };
    Some((vec![host], Account { user, password, reload_password: None, database: decode(database)?, encryption }))
}

/// A mode of encryption; the certificate to check against is another setting.
pub(super) fn ssl_mode(text: &str) -> Option<Encryption> {
    match text {
        "disabled" => Some(Encryption::Disabled),
        "required" => Some(Encryption::Required),
        "verify" => Some(Encryption::Verify(None)),
        _ => None,
    }
}

/// A file that holds a certificate, looked at now: it is read again for each connection, when nobody looks.
pub(super) fn certificate(path: &str) -> Option<PathBuf> {
    let content = fs::read_to_string(path).ok()?;
    content.contains("-----BEGIN CERTIFICATE-----").then(|| path.into())
}

/// Submits a minute, or none for no limit, which is written as off.
pub(super) fn rate(text: &str) -> Option<Option<NonZeroU32>> {
    match text {
        "off" => Some(None),
        text => number(text, 1, 1_000_000).and_then(NonZeroU32::new).map(Some),
    }
}

/// Addresses and ranges, separated by commas.
pub(super) fn networks(text: &str) -> Option<Vec<IpNet>> {
    let network = |text: &str| text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    text.split(',').map(|part| network(part.trim())).collect()
}

/// What can stand behind `Bearer` in a header.
pub(super) fn token(text: &str) -> Option<String> {
    text.bytes().all(|b| b.is_ascii_graphic()).then(|| text.to_owned())
}

/// A log level; `off` is none.
pub(super) fn level(text: &str) -> Option<LevelFilter> {
    LevelFilter::from_str(text).ok().filter(|level| *level != LevelFilter::Off)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|b| !b.is_ascii_digit())?;
    Some((digits(&text[..end])?, &text[end..]))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}
