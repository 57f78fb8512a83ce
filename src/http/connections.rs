//! The connections at rest, each in the entry of its slot, and the choice of the connection that makes room for another
//! one.
//!
//! The table never reads from a socket or writes to one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use log::debug;

use super::close_reason::CloseReason;
use super::connection::Connection;
use super::slots::{NotAdmitted, Slot, Slots, network};
use super::stage::Evictable;

/// All connections of the server.
pub(super) struct ConnectionTable {
    slots: Arc<Slots>,
    entries: Box<[Mutex<Entry>]>,
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

impl ConnectionTable {
    /// A table with an entry for each of `slots`.
    pub(super) fn new(slots: Arc<Slots>) -> ConnectionTable {
        let entries = (0..slots.total()).map(|_| Mutex::default()).collect();
        ConnectionTable { slots, entries, victims: Mutex::default() }
    }

    /// A slot for a connection that is served. When the table is full, one connection is evicted if possible.
    pub(super) fn admit(&self, client: IpAddr) -> Result<Slot, NotAdmitted> {
        loop {
            match self.slots.admit(client) {
                Err(NotAdmitted::Full) if self.evict() => {}
                admitted => return admitted,
            }
        }
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
        self.entries[..self.slots.unused_from()].iter().map(lock)
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

    /// Closes the connection that holds most memory for longest, if its score is above `than`.
    pub(super) fn evict_heaviest(&self, than: u128) -> bool {
        let now = Instant::now();
        let score = |entry: &Entry| entry.connection.as_ref().map_or(0, |connection| connection.memory_score(now));
        let scores = self.entries().enumerate().map(|(index, entry)| (score(&entry), index));
        let Some((_, heaviest)) = scores.max().filter(|(score, _)| *score > than) else { return false };
        let is_heavier = |connection: &mut Box<Connection>| connection.memory_score(now) > than;
        let taken = self.entry(heaviest).connection.take_if(is_heavier);
        if let Some(mut connection) = taken {
            connection.set_close_reason(CloseReason::Memory);
            debug!("a connection to {} is closed: it holds too much memory for too long", connection.peer());
        }
        true
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
        for victims in incomplete.chunk_by(|a, b| a.client == b.client) {
            let connections = self.slots.connections_of(victims[0].client);
            let end = start + victims.len();
            clients.push((connections, since(start), start, end));
            start = end;
        }
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
}

/// A panic under a lock of the table leaves nothing half-changed, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
