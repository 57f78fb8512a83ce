//! How many messages a client may send: so many a minute, as many at once, for each address.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::Quota;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;

/// Submits of each client, and when it may send the next one.
pub struct RateLimiter {
    limiter: governor::RateLimiter<Client, HashMapStateStore<Client>, SinceStart, NoOpMiddleware<Nanos>>,
    clock: SinceStart,
    swept: Mutex<Option<Instant>>,
}

/// Whose submits are counted together: an address, or the /64 that one IPv6 subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6(u64),
    /// All of them together, while more are remembered than may be.
    Anybody,
}

/// The crate's own clock comes with the whole of its asynchronous half.
#[derive(Debug, Clone)]
struct SinceStart(Instant);

/// Clients that are remembered. When there are more, those who have their full quota again are forgotten, and while that
/// is not enough all clients count as one.
const MAX_CLIENTS: usize = 100_000;
/// Forgetting looks at every client, so it is not done more often than this.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

impl RateLimiter {
    /// A limit of `per_minute` submits, with a burst of the same number.
    pub fn new(per_minute: NonZeroU32) -> RateLimiter {
        let clock = SinceStart(Instant::now());
        let store = HashMapStateStore::default();
        let limiter = governor::RateLimiter::new(Quota::per_minute(per_minute), store, clock.clone());
        RateLimiter { limiter, clock, swept: Mutex::new(None) }
    }

    /// Counts a submit of `address`. An error says how long to wait.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let client = if self.has_room() { Client::of(address) } else { Client::Anybody };
        self.limiter.check_key(&client).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

impl RateLimiter {
    fn has_room(&self) -> bool {
        if self.limiter.len() < MAX_CLIENTS {
            return true;
        }
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_none_or(|at| at.elapsed() >= SWEEP_PAUSE) {
            *swept = Some(Instant::now());
            self.limiter.retain_recent();
        }
        self.limiter.len() < MAX_CLIENTS
    }
}

impl Client {
    fn of(address: IpAddr) -> Client {
        match address.to_canonical() {
            IpAddr::V4(ip) => Client::V4(ip.to_bits()),
            IpAddr::V6(ip) => Client::V6((ip.to_bits() >> 64) as u64),
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
    fn a_client_has_its_burst_and_is_then_told_how_long_to_wait() {
        let rate = rate(6);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..6 {
            assert_eq!(rate.check(address), Ok(()));
        }
        let wait = rate.check(address).unwrap_err();
        assert!(wait > Duration::from_secs(8) && wait <= Duration::from_secs(10), "{wait:?}");
        assert_eq!(rate.check("192.0.2.2".parse().unwrap()), Ok(()), "another client is not held up");
    }

    #[test]
    fn what_is_remembered_of_clients_is_bounded() {
        let rate = rate(1);
        let taken =
            (0..MAX_CLIENTS as u32 + 1000).filter(|ip| rate.check(std::net::Ipv4Addr::from(*ip).into()).is_ok());
        assert_eq!(taken.count(), MAX_CLIENTS + 1, "the rest counts as one client");
        assert_eq!(rate.limiter.len(), MAX_CLIENTS + 1);
    }

    #[test]
    fn an_ipv6_network_of_a_subscriber_counts_as_one_client() {
        let rate = rate(1);
        let count = |address: &str| rate.check(address.parse().unwrap()).is_ok();
        assert!(count("2001:db8:0:1::1"));
        assert!(!count("2001:db8:0:1:ffff::2"));
        assert!(count("2001:db8:0:2::1"));
        assert!(count("::ffff:192.0.2.1"));
        assert!(!count("192.0.2.1"), "the same address in two ways");
    }
}
