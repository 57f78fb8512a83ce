//! The connection table: one slot for each connection, the number of connections of each client, and the choice of the
//! connection that makes room for a new one.
//!
//! An entry holds its connection while no thread works on it. The table never reads from a socket or writes to one.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, hash_map};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::close_reason::CloseReason;
use super::connection::{Connection, Evictable};

/// What the table admits.
#[derive(Debug, Clone)]
pub(super) struct TableLimits {
    /// Connections that are served at the same time.
    pub(super) connections: usize,
    /// Connections that get a 503 and are closed; they have slots of their own.
    pub(super) overflow: usize,
    /// Connections of one client. An IPv6 /56 may have four times as many.
    pub(super) per_client: usize,
    /// Networks whose addresses have no limit as clients.
    pub(super) exempt: Vec<IpNet>,
}

/// All connections of the server.
pub(super) struct ConnectionTable {
    limits: TableLimits,
    entries: Box<[Mutex<Entry>]>,
    state: Mutex<State>,
    victims: Mutex<Victims>,
}

/// A connection at rest.
#[derive(Default)]
pub(super) struct Entry {
    /// None while a thread works on the connection.
    pub(super) connection: Option<Box<Connection>>,
    /// An event arrived while a thread worked on the connection.
    pub(super) missed_event: bool,
}

/// The right to one entry of the table. Dropping it frees the slot.
pub(super) struct Slot {
    index: usize,
    /// None for a connection that only gets a refusal.
    client: Option<IpAddr>,
    table: Arc<ConnectionTable>,
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

/// Connections to close next, the first one last. One scan of the table finds several, so that a flood does not cost a
/// scan for each new connection.
#[derive(Default)]
struct Victims {
    list: Vec<Victim>,
    /// No scan before this time, because the last one found nothing.
    next_scan: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Victim {
    index: usize,
    client: IpNet,
    state: Evictable,
}

/// One scan chooses one victim for so many slots.
const SLOTS_PER_VICTIM: usize = 64;
/// The pause after a scan without a result, for each slot: an attacker must not buy a scan with each connection.
const SCAN_PAUSE: Duration = Duration::from_micros(1);
/// Prefix lengths of the networks with a limit, and how many times the limit of a client each may have.
const IPV4_NETWORKS: &[(u8, usize)] = &[(32, 1)];
/// One customer usually controls a /56, and each machine a /64.
const IPV6_NETWORKS: &[(u8, usize)] = &[(64, 1), (56, 4)];

impl ConnectionTable {
    pub(super) fn new(limits: TableLimits) -> Arc<ConnectionTable> {
        let slots = limits.connections + limits.overflow;
        let clients = HashMap::new();
        let state = State { free: Vec::new(), unused_from: 0, admitted: 0, refused: 0, clients, on_empty: None };
        Arc::new(ConnectionTable {
            limits,
            entries: (0..slots).map(|_| Mutex::default()).collect(),
            state: Mutex::new(state),
            victims: Mutex::default(),
        })
    }

    /// A slot for a connection that is served. When the table is full, one connection is evicted if possible.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Result<Slot, NotAdmitted> {
        loop {
            let admitted = self.lock().admit(client, &self.limits);
            match admitted {
                Ok(index) => return Ok(Slot { index, client: Some(client), table: Arc::clone(self) }),
                Err(NotAdmitted::Full) if self.evict() => {}
                Err(reason) => return Err(reason),
            }
        }
    }

    /// A slot for a connection that only gets a refusal, if one is free.
    pub(super) fn admit_overflow(self: &Arc<Self>) -> Option<Slot> {
        let mut state = self.lock();
        if state.refused >= self.limits.overflow {
            return None;
        }
        state.refused += 1;
        let index = state.next_index();
        Some(Slot { index, client: None, table: Arc::clone(self) })
    }

    /// The entry of a slot.
    pub(super) fn entry(&self, index: usize) -> MutexGuard<'_, Entry> {
        lock(&self.entries[index])
    }

    /// The connection that an event is for. None when a thread works on it, which then learns of the missed event, or
    /// when the event is of a connection that is closed.
    pub(super) fn take(&self, index: usize) -> Option<Box<Connection>> {
        let mut entry = lock(self.entries.get(index)?);
        let connection = entry.connection.take();
        entry.missed_event |= connection.is_none();
        connection
    }

    /// All entries that were ever used.
    pub(super) fn entries(&self) -> impl Iterator<Item = MutexGuard<'_, Entry>> {
        let used = self.lock().unused_from;
        self.entries[..used].iter().map(lock)
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

    /// Closes the connection that has been idle longest. When none is idle, closes the slowest incomplete request of
    /// the client with the most connections. Returns false when neither exists.
    pub(super) fn evict(&self) -> bool {
        let mut victims = lock(&self.victims);
        loop {
            while let Some(victim) = victims.list.pop() {
                if self.close(victim) {
                    return true;
                }
            }
            let now = Instant::now();
            if victims.next_scan.is_some_and(|next| now < next) {
                return false;
            }
            victims.list = self.find_victims(now);
            if victims.list.is_empty() {
                victims.next_scan = Some(now + SCAN_PAUSE * self.entries.len() as u32);
                return false;
            }
        }
    }

    /// Closes the victim, unless something happened to it since it was chosen.
    fn close(&self, victim: Victim) -> bool {
        let now = Instant::now();
        let unchanged = |connection: &mut Box<Connection>| connection.evictable(now) == Some(victim.state);
        let Some(mut connection) = self.entry(victim.index).connection.take_if(unchanged) else { return false };
        connection.set_close_reason(match victim.state {
            Evictable::Idle(_) => CloseReason::Evicted,
            Evictable::Incomplete(_) => CloseReason::EvictedIncomplete,
        });
        true
    }

    fn find_victims(&self, now: Instant) -> Vec<Victim> {
        let wanted = self.entries.len() / SLOTS_PER_VICTIM + 1;
        let (mut idle, mut incomplete) = (Vec::new(), Vec::new());
        for (index, entry) in self.entries().enumerate() {
            let Some(connection) = &entry.connection else { continue };
            let Some(state) = connection.evictable(now) else { continue };
            let victim = Victim { index, client: network(connection.peer()), state };
            match state {
                Evictable::Idle(_) => idle.push(victim),
                Evictable::Incomplete(_) => incomplete.push(victim),
            }
        }
        if idle.is_empty() {
            return self.slowest_of_the_largest(incomplete, wanted);
        }
        if idle.len() > wanted {
            idle.select_nth_unstable_by_key(wanted, |victim| victim.state.since());
            idle.truncate(wanted);
        }
        idle.sort_unstable_by_key(|victim| Reverse(victim.state.since()));
        idle
    }

    /// Chooses again and again the slowest incomplete request of the client that has the most connections left.
    fn slowest_of_the_largest(&self, mut incomplete: Vec<Victim>, wanted: usize) -> Vec<Victim> {
        incomplete.sort_unstable_by_key(|victim| (victim.client, victim.state.since()));
        let since = |at: usize| Reverse(incomplete[at].state.since());
        let mut clients = BinaryHeap::new();
        let mut start = 0;
        let state = self.lock();
        for victims in incomplete.chunk_by(|a, b| a.client == b.client) {
            let connections = state.clients.get(&victims[0].client).copied().unwrap_or_default();
            let end = start + victims.len();
            clients.push((connections, since(start), start, end));
            start = end;
        }
        drop(state);
        let mut chosen = Vec::with_capacity(wanted);
        while chosen.len() < wanted
            && let Some((connections, _, first, end)) = clients.pop()
        {
            chosen.push(incomplete[first]);
            if first + 1 < end {
                clients.push((connections.saturating_sub(1), since(first + 1), first + 1, end));
            }
        }
        chosen.reverse();
        chosen
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
        lock(&self.state)
    }
}

impl State {
    fn admit(&mut self, client: IpAddr, limits: &TableLimits) -> Result<usize, NotAdmitted> {
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
        self.table.release(self.index, self.client);
    }
}

/// The networks that `ip` counts for, and how many times the limit of a client each may have.
fn networks(ip: IpAddr) -> impl Iterator<Item = (IpNet, usize)> {
    let prefixes = if ip.is_ipv4() { IPV4_NETWORKS } else { IPV6_NETWORKS };
    prefixes.iter().map(move |&(prefix, times)| (IpNet::new_assert(ip, prefix).trunc(), times))
}

/// The network that counts as the client.
fn network(ip: IpAddr) -> IpNet {
    networks(ip).next().map_or_else(|| ip.into(), |(network, _)| network)
}

/// A panic under a lock of the table leaves nothing half-changed, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn table(connections: usize, per_client: usize) -> Arc<ConnectionTable> {
        let exempt = vec!["198.51.100.0/24".parse().unwrap()];
        ConnectionTable::new(TableLimits { connections, overflow: 1, per_client, exempt })
    }

    /// How many of up to `most` connections from these addresses are admitted, in turn.
    fn admitted(most: usize, addresses: &[&str]) -> usize {
        let table = table(1000, 10);
        let slots: Vec<Slot> =
            (0..most).map_while(|n| table.admit(addresses[n % addresses.len()].parse().unwrap()).ok()).collect();
        slots.len()
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
        let table = table(2, 2);
        let client = IpAddr::from([192, 0, 2, 1]);
        let (a, b) = (table.admit(client).unwrap(), table.admit(client).unwrap());
        assert_ne!(a.index(), b.index());
        assert_eq!(table.admit(client).err(), Some(NotAdmitted::ClientLimit));
        assert_eq!(table.admit([192, 0, 2, 2].into()).err(), Some(NotAdmitted::Full));
        let refused = table.admit_overflow().unwrap();
        assert!(table.admit_overflow().is_none());
        assert_eq!(table.len(), 3);
        drop((a, refused));
        assert!(table.admit(client).is_ok() && table.admit_overflow().is_some());
        drop(b);
        assert_eq!((table.len(), table.lock().clients.len()), (0, 0), "no client is remembered");
    }

    #[test]
    fn the_end_of_the_last_connection_is_reported_once() {
        let table = table(2, 2);
        let calls = Arc::new(AtomicU32::new(0));
        let count = || {
            let calls = Arc::clone(&calls);
            Box::new(move || {
                calls.fetch_add(1, Ordering::Relaxed);
            })
        };
        table.when_empty(count());
        assert_eq!(calls.load(Ordering::Relaxed), 1, "immediately when the table is empty");
        let client = IpAddr::from([192, 0, 2, 1]);
        let (a, b) = (table.admit(client), table.admit(client));
        table.when_empty(count());
        drop(a);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        drop(b);
        drop(table.admit(client));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }
}
