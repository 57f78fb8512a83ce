//! Limits the messages of each client: a number per minute, with a burst of the same number.
//!
//! A client is an IPv4 address or an IPv6 /64. A /56 may send four times as much as a /64, because a subscriber usually has
//! one. `governor` does the arithmetic; the table of clients is bounded, and a new client always fits.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::Quota;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;

use super::recent::RecentMap;

/// Limits the submits of each client.
pub(super) struct RateLimiter {
    /// Of an IPv4 address or an IPv6 /64.
    clients: Limiter,
    /// Of an IPv6 /56.
    sites: Limiter,
    clock: SinceStart,
}

type Limiter = governor::RateLimiter<Network, ClientTable, SinceStart, NoOpMiddleware<Nanos>>;

/// Addresses that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Network {
    /// One address.
    V4(u32),
    /// The first bits of the addresses.
    V6(u64),
}

/// When each client has its full quota again.
struct ClientTable(Mutex<RecentMap<Network, Nanos>>);

/// The crate's own clock needs its asynchronous features.
#[derive(Debug, Clone)]
struct SinceStart(Instant);

/// Clients that are remembered, in each of the two tables.
const MAX_CLIENTS: usize = 100_000;
/// The quota of a /56, in quotas of a /64.
const SITE_QUOTAS: u32 = 4;

impl RateLimiter {
    /// Allows `per_minute` submits, with a burst of the same number.
    pub(super) fn new(per_minute: NonZeroU32) -> RateLimiter {
        let clock = SinceStart(Instant::now());
        let limiter = |per_minute| {
            let table = ClientTable(Mutex::new(RecentMap::new(MAX_CLIENTS)));
            governor::RateLimiter::new(Quota::per_minute(per_minute), table, clock.clone())
        };
        let for_site = per_minute.saturating_mul(NonZeroU32::MIN.saturating_add(SITE_QUOTAS - 1));
        RateLimiter { clients: limiter(per_minute), sites: limiter(for_site), clock }
    }

    /// Counts a submit of `address`. An error is the time to wait.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let check = |limiter: &Limiter, network| {
            limiter.check_key(&network).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
        };
        let client = Network::of(address);
        check(&self.clients, client)?;
        match client {
            Network::V4(_) => Ok(()),
            Network::V6(subnet) => check(&self.sites, Network::V6(subnet >> 8)),
        }
    }
}

impl Network {
    /// The client that has this address: itself, or its IPv6 /64.
    pub(super) fn of(address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(ip) => Network::V4(ip.to_bits()),
            IpAddr::V6(ip) => Network::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

impl StateStore for ClientTable {
    type Key = Network;

    fn measure_and_replace<T, F, E>(&self, key: &Network, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = clients.get(key);
        match f(state) {
            Ok((outcome, next)) => {
                clients.set(*key, next);
                Ok(outcome)
            }
            Err(refused) => {
                // A client that keeps on trying stays in the table.
                state.into_iter().for_each(|state| clients.set(*key, state));
                Err(refused)
            }
        }
    }
}

impl Clock for SinceStart {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_minute: u32) -> RateLimiter {
        RateLimiter::new(NonZeroU32::new(per_minute).unwrap())
    }

    #[test]
    fn a_client_has_its_burst_and_must_then_wait() {
        let rate = rate(6);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..6 {
            assert_eq!(rate.check(address), Ok(()));
        }
        let wait = rate.check(address).unwrap_err();
        assert!(wait > Duration::from_secs(8) && wait <= Duration::from_secs(10), "{wait:?}");
        assert_eq!(rate.check("192.0.2.2".parse().unwrap()), Ok(()), "another client is not limited");
    }

    #[test]
    fn a_full_table_limits_no_newcomer() {
        let rate = rate(1);
        let refused =
            (0..MAX_CLIENTS as u32 + 1000).filter(|ip| rate.check(std::net::Ipv4Addr::from(*ip).into()).is_err());
        assert_eq!(refused.count(), 0);
        let last = std::net::Ipv4Addr::from(MAX_CLIENTS as u32 + 999);
        assert!(rate.check(last.into()).is_err(), "those seen last are remembered");
    }

    #[test]
    fn an_ipv6_network_of_a_subscriber_is_one_client() {
        let rate = rate(1);
        let count = |address: &str| rate.check(address.parse().unwrap()).is_ok();
        assert!(count("2001:db8:0:1::1"));
        assert!(!count("2001:db8:0:1:ffff::2"));
        assert!(count("2001:db8:0:2::1"));
        assert!(count("::ffff:192.0.2.1"));
        assert!(!count("192.0.2.1"), "the same address in two ways");
    }

    #[test]
    fn a_56_has_four_times_the_limit_of_a_64() {
        let rate = rate(3);
        let passed = |addresses: &mut dyn Iterator<Item = String>| {
            addresses.filter(|address| rate.check(address.parse().unwrap()).is_ok()).count()
        };
        assert_eq!(passed(&mut (0..256).map(|subnet| format!("2001:db8:0:{subnet:x}::1"))), 12);
        assert_eq!(passed(&mut (0..5).map(|n| format!("2001:db8:0:1ff::{n}"))), 3, "the next /56");
    }
}
