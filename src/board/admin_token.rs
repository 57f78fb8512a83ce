//! The token that allows editing and deleting, and the addresses that try wrong ones. Never logs or returns a token.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::rate_limit::Network;
use super::recent::RecentMap;
use crate::http::head::Head;
use crate::logging::LogLimit;

/// The secret of `ADMIN_TOKEN`.
pub(super) struct AdminToken {
    /// Hashes are compared, so that the time does not reveal where two tokens differ.
    hash: [u8; 32],
    /// When each client last sent a wrong token.
    failures: Mutex<RecentMap<Network, Instant>>,
    log: LogLimit,
}

/// How long the response to a wrong token is delayed, except for the first one in [`FORGET_AFTER`].
const DELAY: Duration = Duration::from_secs(1);
/// How long a wrong token is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Clients whose wrong tokens are remembered.
const MAX_CLIENTS: usize = 10_000;

impl AdminToken {
    /// Accepts `token` and no other.
    pub(super) fn new(token: &str) -> AdminToken {
        AdminToken {
            hash: Sha256::digest(token).into(),
            failures: Mutex::new(RecentMap::new(MAX_CLIENTS)),
            log: LogLimit::new(Duration::from_secs(60)),
        }
    }

    /// Checks the bearer token of a request from `client`. The right one passes regardless of earlier attempts.
    pub(super) fn check(&self, head: &Head, client: IpAddr) -> Result<(), Problem> {
        let sent = head.value("authorization").and_then(|value| value.split_once(' '));
        let token =
            sent.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim_start());
        match token {
            None | Some("") => Err(Problem::Unauthorized { delay: Duration::ZERO }),
            Some(token) if <[u8; 32]>::from(Sha256::digest(token)) == self.hash => Ok(()),
            Some(_) => Err(Problem::Unauthorized { delay: self.failed(client) }),
        }
    }

    /// Remembers a wrong token, and returns the delay of its response.
    fn failed(&self, client: IpAddr) -> Duration {
        if let Some(suppressed) = self.log.admit() {
            warn!(client:% = client, suppressed; "wrong admin token");
        }
        let network = Network::of(client);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let repeated = failures.get(&network).is_some_and(|last| last.elapsed() < FORGET_AFTER);
        failures.set(network, Instant::now());
        if repeated { DELAY } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_bearer_token_passes_and_only_repeated_wrong_ones_are_delayed() {
        let admin = AdminToken::new("t0ken-of-an-admin");
        let check = |authorization: &str, client: &str| {
            let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n\r\n");
            admin.check(&Head::parse(head.into_bytes()).unwrap(), client.parse().unwrap())
        };
        let refused = |delay| Err(Problem::Unauthorized { delay });
        for authorization in ["", "Bearer", "Bearer ", "Basic t0ken-of-an-admin", "t0ken-of-an-admin"] {
            assert_eq!(check(authorization, "192.0.2.1"), refused(Duration::ZERO), "{authorization}: no token");
        }
        assert_eq!(check("Bearer t0ken-of-an-admin2", "192.0.2.1"), refused(Duration::ZERO));
        assert_eq!(check("Bearer t0ken", "192.0.2.1"), refused(DELAY));
        assert_eq!(check("Bearer t0ken", "192.0.2.2"), refused(Duration::ZERO), "another client");
        for authorization in ["Bearer t0ken-of-an-admin", "bearer   t0ken-of-an-admin"] {
            assert_eq!(check(authorization, "192.0.2.1"), Ok(()), "{authorization}");
        }
    }
}
