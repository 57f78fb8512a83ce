//! The values of settings: text in, a value or nothing out.

use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;
use url::Url;

use crate::http::AccessLogFormat;
use crate::logging::LogFormat;
use crate::store::Host;

/// The fewest characters of an admin token: fewer could be guessed.
const MIN_TOKEN: usize = 16;

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

/// A duration, or `None` for no limit, which is written as 0.
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

/// The form of log lines.
pub(super) fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

/// The form of the access log; none when it is off.
pub(super) fn access_log(text: &str) -> Option<Option<AccessLogFormat>> {
    match text {
        "off" => Some(None),
        "combined" => Some(Some(AccessLogFormat::Combined)),
        "json" => Some(Some(AccessLogFormat::Json)),
        _ => None,
    }
}

/// A list of hosts, each with its own port or with `port`; one that begins with `/` is a Unix socket.
pub(super) fn hosts(text: &str, port: u16) -> Option<Vec<Host>> {
    text.split(',').map(|host| self::host(host.trim_matches(' '), port)).collect()
}

fn host(text: &str, port: u16) -> Option<Host> {
    if text.starts_with('/') && !text.contains(char::is_control) {
        return Some(Host { name: text.to_owned(), port });
    }
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

/// MySQL's modes of encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// A mode of encryption, in MySQL's spelling or in ours.
pub(super) fn ssl_mode(text: &str) -> Option<SslMode> {
    match text.to_ascii_lowercase().replace('_', "-").as_str() {
        "disabled" => Some(SslMode::Disabled),
        "preferred" => Some(SslMode::Preferred),
        "required" => Some(SslMode::Required),
        "verify-ca" => Some(SslMode::VerifyCa),
        "verify-identity" | "verify" => Some(SslMode::VerifyIdentity),
        _ => None,
    }
}

/// Whether this file can be read and has such a part. Checked at the start, because a connection reads it again.
pub(super) fn is_pem(path: &str, marker: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|content| content.contains(marker))
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
    text.split(',').map(|part| network(part.trim_matches(' '))).collect()
}

/// URLs under which people reach the board, separated by commas. Each gets a slash at its end, so that links are below it.
pub(super) fn public_urls(text: &str) -> Option<Vec<Url>> {
    let public_url = |text: &str| {
        // The crate would drop tabs and line ends without a word.
        let text = Some(text.trim_matches(' ')).filter(|text| !text.contains(char::is_control))?;
        let mut url = Url::parse(text).ok()?;
        let is_plain =
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_plain {
            return None;
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Some(url)
    };
    text.split(',').map(public_url).collect()
}

/// A token that a header can hold after `Bearer`.
pub(super) fn token(text: &str) -> Option<String> {
    let fits = text.len() >= MIN_TOKEN && text.bytes().all(|b| b.is_ascii_graphic());
    fits.then(|| text.to_owned())
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
