//! Slots: how many connections are open in total, and how many each client has.
//!
//! Knows nothing of sockets.

use std::collections::{HashMap, hash_map};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

/// How many connections there may be.
#[derive(Debug, Clone)]
pub(super) struct SlotLimits {
    /// Connections that are served at the same time.
    pub(super) connections: usize,
    /// Connections that get a 503 and are closed; they have slots of their own.
    pub(super) overflow: usize,
    /// Connections of one client. An IPv6 /56 may have four times as many.
    pub(super) per_client: usize,
    /// Networks whose addresses have no limit as clients.
    pub(super) exempt: Vec<IpNet>,
}

/// All slots, numbered from 0.
pub(super) struct Slots {
    limits: SlotLimits,
    state: Mutex<State>,
}

/// The slot of one connection. Dropping it frees the slot.
pub(super) struct Slot {
    index: usize,
    /// None for a connection that only gets a refusal.
    client: Option<IpAddr>,
    slots: Arc<Slots>,
}

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// The client has as many connections as one client may have.
    ClientLimit,
    /// All slots are taken.
    Full,
}

struct State {
    free: Vec<usize>,
    /// Slots from this index on were never used.
    unused_from: usize,
    admitted: usize,
    refused: usize,
    clients: HashMap<IpNet, usize>,
    /// Called once, when the table becomes empty.
    on_empty: Option<Box<dyn FnOnce() + Send>>,
}

/// Prefix lengths of the networks with a limit, and how many times the limit of a client each may have.
const IPV4_NETWORKS: &[(u8, usize)] = &[(32, 1)];
/// One customer usually controls a /56, and each machine a /64.
const IPV6_NETWORKS: &[(u8, usize)] = &[(64, 1), (56, 4)];

impl Slots {
    pub(super) fn new(limits: SlotLimits) -> Arc<Slots> {
        let clients = HashMap::new();
        let state = State { free: Vec::new(), unused_from: 0, admitted: 0, refused: 0, clients, on_empty: None };
        Arc::new(Slots { limits, state: Mutex::new(state) })
    }

    /// The number of slots.
    pub(super) fn total(&self) -> usize {
        self.limits.connections + self.limits.overflow
    }

    /// Slots from this number on were never used.
    pub(super) fn unused_from(&self) -> usize {
        self.lock().unused_from
    }

    /// A slot for a connection that is served.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Slot, NotAdmitted> {
        let index = self.lock().admit(client, &self.limits)?;
        Ok(Slot { index, client: Some(client), slots: Arc::clone(self) })
    }

    /// A slot for a connection that only gets a refusal, if one is free.
    pub(super) fn admit_overflow(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.lock();
        if state.refused >= self.limits.overflow {
            return None;
        }
        state.refused += 1;
        let index = state.next_index();
        Some(Slot { index, client: None, slots: Arc::clone(self) })
    }

    /// Connections that have a slot.
    pub(super) fn len(&self) -> usize {
        self.lock().taken()
    }

    /// Calls `call` when no connection has a slot.
    pub(super) fn when_empty(&self, call: Box<dyn FnOnce() + Send>) {
        let mut state = self.lock();
        if state.taken() == 0 {
            drop(state);
            call();
        } else {
            state.on_empty = Some(call);
        }
    }

    /// The connections of the client that `network` is.
    pub(super) fn connections_of(&self, network: IpNet) -> usize {
        self.lock().clients.get(&network).copied().unwrap_or_default()
    }

    fn release(&self, index: usize, client: Option<IpAddr>) {
        let mut state = self.lock();
        match client {
            Some(client) => state.remove_client(client),
            None => state.refused -= 1,
        }
        state.free.push(index);
        let call = if state.taken() == 0 { state.on_empty.take() } else { None };
        drop(state);
        if let Some(call) = call {
            call();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves nothing half-changed, so poison means nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit(&mut self, client: IpAddr, limits: &SlotLimits) -> Result<usize, NotAdmitted> {
        let is_exempt = client.is_loopback() || limits.exempt.iter().any(|network| network.contains(&client));
        let is_full = |(network, times)| {
            self.clients.get(&network).is_some_and(|count| *count >= limits.per_client.saturating_mul(times))
        };
        if !is_exempt && networks(client).any(is_full) {
            return Err(NotAdmitted::ClientLimit);
        }
        if self.admitted >= limits.connections {
            return Err(NotAdmitted::Full);
        }
        for (network, _) in networks(client) {
            *self.clients.entry(network).or_default() += 1;
        }
        self.admitted += 1;
        Ok(self.next_index())
    }

    fn remove_client(&mut self, client: IpAddr) {
        self.admitted -= 1;
        for (network, _) in networks(client) {
            if let hash_map::Entry::Occupied(mut count) = self.clients.entry(network) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }

    /// The slot that was used last is used again first: its memory is in the cache.
    fn next_index(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.unused_from += 1;
            self.unused_from - 1
        })
    }

    fn taken(&self) -> usize {
        self.admitted + self.refused
    }
}

impl Slot {
    /// The number of the slot, and the key of its connection's events.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Whether its connection only gets a refusal.
    pub(super) fn is_overflow(&self) -> bool {
        self.client.is_none()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.release(self.index, self.client);
    }
}

/// The networks that `ip` counts for, and how many times the limit of a client each may have.
fn networks(ip: IpAddr) -> impl Iterator<Item = (IpNet, usize)> {
    let prefixes = if ip.is_ipv4() { IPV4_NETWORKS } else { IPV6_NETWORKS };
    prefixes.iter().map(move |&(prefix, times)| (IpNet::new_assert(ip, prefix).trunc(), times))
}

/// The network that counts as the client.
pub(super) fn network(ip: IpAddr) -> IpNet {
    networks(ip).next().map_or_else(|| ip.into(), |(network, _)| network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn slots(connections: usize, per_client: usize) -> Arc<Slots> {
        let exempt = vec!["198.51.100.0/24".parse().unwrap()];
        Slots::new(SlotLimits { connections, overflow: 1, per_client, exempt })
    }

    /// How many of up to `most` connections from these addresses are admitted, in turn.
    fn admitted(most: usize, addresses: &[&str]) -> usize {
        let slots = slots(1000, 10);
        let admitted: Vec<Slot> =
            (0..most).map_while(|n| slots.admit(addresses[n % addresses.len()].parse().unwrap()).ok()).collect();
        admitted.len()
    }

    #[test]
    fn one_client_has_a_limit_and_a_site_has_four_times_as_much() {
        assert_eq!(admitted(100, &["192.0.2.1"]), 10);
        assert_eq!(admitted(100, &["192.0.2.1", "192.0.2.2"]), 20, "each address of IPv4");
        assert_eq!(admitted(100, &["2001:db8::1", "2001:db8::ffff:1"]), 10, "a /64 is one client");
        let site: Vec<String> = (0..100).map(|n| format!("2001:db8:0:{n:x}::1")).collect();
        let site: Vec<&str> = site.iter().map(String::as_str).collect();
        assert_eq!(admitted(100, &site), 40, "a /56 is four");
        assert_eq!(admitted(100, &["2001:db8:0:1::1", "2001:db8:0:101::1"]), 20, "of another site");
        for exempt in ["127.0.0.1", "127.1.2.3", "::1", "198.51.100.7"] {
            assert_eq!(admitted(100, &[exempt]), 100, "{exempt}");
        }
    }

    #[test]
    fn a_slot_is_used_by_one_connection_and_freed_on_drop() {
        let slots = slots(2, 2);
        let client = IpAddr::from([192, 0, 2, 1]);
        let (a, b) = (slots.admit(client).unwrap(), slots.admit(client).unwrap());
        assert_ne!(a.index(), b.index());
        assert_eq!(slots.admit(client).err(), Some(NotAdmitted::ClientLimit));
        assert_eq!(slots.admit([192, 0, 2, 2].into()).err(), Some(NotAdmitted::Full));
        let refused = slots.admit_overflow().unwrap();
        assert!(slots.admit_overflow().is_none());
        assert_eq!(slots.len(), 3);
        drop((a, refused));
        assert!(slots.admit(client).is_ok() && slots.admit_overflow().is_some());
        drop(b);
        assert_eq!((slots.len(), slots.lock().clients.len()), (0, 0), "no client is remembered");
    }

    #[test]
    fn the_end_of_the_last_connection_is_reported_once() {
        let slots = slots(2, 2);
        let calls = Arc::new(AtomicU32::new(0));
        let count = || {
            let calls = Arc::clone(&calls);
            Box::new(move || {
                calls.fetch_add(1, Ordering::Relaxed);
            })
        };
        slots.when_empty(count());
        assert_eq!(calls.load(Ordering::Relaxed), 1, "immediately when the table is empty");
        let client = IpAddr::from([192, 0, 2, 1]);
        let (a, b) = (slots.admit(client), slots.admit(client));
        slots.when_empty(count());
        drop(a);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        drop(b);
        drop(slots.admit(client));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
