//! The connections of this service to its database: as many as DB_CONNECTIONS allows, shared by everything that needs one.
//!
//! A [`Client`](super::Client) holds one slot of the pool while it lives. A connection with an abandoned statement keeps its
//! slot until the statement has ended: a server does not notice that its client is gone while it waits for a lock, and would
//! collect one connection after the other. Never runs a statement.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::connect_error::ConnectError;
use super::connection::Connection;
use crate::metrics::METRICS;

/// The slots and the idle connections.
pub(super) struct Pool {
    size: usize,
    state: Mutex<State>,
    /// A slot or a connection was returned.
    returned: Condvar,
}

struct State {
    /// Slots that can be used; fewer than the size while the server grants no more connections.
    granted: usize,
    /// When the server last refused another connection.
    refused_at: Option<Instant>,
    in_use: usize,
    /// Callers of [`Pool::wait_for_slot`], which have precedence.
    waiting: usize,
    /// The connection that was used last is used first, so that a quiet service needs few.
    idle: Vec<Connection>,
    abandoned: Vec<Abandoned>,
}

/// A connection with an abandoned statement.
struct Abandoned {
    connection: Connection,
    /// When the server must have ended the statement by its own limits.
    until: Instant,
}

/// How long after a refusal another connection is tried.
const GRANT_PAUSE: Duration = Duration::from_secs(30);

impl Pool {
    pub(super) fn new(size: usize) -> Pool {
        let state =
            State { granted: size, refused_at: None, in_use: 0, waiting: 0, idle: Vec::new(), abandoned: Vec::new() };
        METRICS.database_connections_limit.set(size as i64);
        Pool { size, state: Mutex::new(state), returned: Condvar::new() }
    }

    /// Takes a slot, if one is free. When abandoned statements have taken every slot, the caller still gets one: its
    /// requests must fail now, or another server must be found.
    pub(super) fn take_slot(&self, generation: u64) -> bool {
        let mut state = self.lock();
        state.reap();
        let has_slot = state.has_free_slot(generation);
        state.in_use += usize::from(has_slot);
        has_slot
    }

    /// Whether [`Pool::take_slot`] would give a slot.
    pub(super) fn has_free_slot(&self, generation: u64) -> bool {
        self.lock().has_free_slot(generation)
    }

    /// Takes a slot as soon as one is free, within `limit`. The `generation` may change meanwhile.
    pub(super) fn wait_for_slot(&self, generation: impl Fn() -> u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        state.waiting += 1;
        state.reap();
        while state.free(generation()) == 0 && state.in_use > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.waiting -= 1;
                return false;
            }
            state = self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.reap();
        }
        state.waiting -= 1;
        state.in_use += 1;
        true
    }

    /// Returns a slot.
    pub(super) fn return_slot(&self) {
        let mut state = self.lock();
        state.in_use -= 1;
        if state.waiting > 0 {
            self.returned.notify_all();
        }
    }

    /// An idle connection of this generation that was opened after `lost_at`, when a connection was lost. Closes the others
    /// that it finds first.
    pub(super) fn take_idle(&self, generation: u64, lost_at: Option<Instant>) -> Option<Connection> {
        let mut state = self.lock();
        let mut outdated = Vec::new();
        while let Some(mut connection) = state.idle.pop() {
            if connection.generation == generation && lost_at.is_none_or(|lost_at| connection.opened_at > lost_at) {
                drop(state);
                return Some(connection);
            }
            connection.stop_counting();
            outdated.push(connection);
        }
        // Closing may block, and must not do so under the lock.
        drop(state);
        drop(outdated);
        None
    }

    /// Closes all idle connections: one of their kind turned out to be broken.
    pub(super) fn close_idle(&self) {
        let mut state = self.lock();
        let mut idle = std::mem::take(&mut state.idle);
        idle.iter_mut().for_each(Connection::stop_counting);
        // Closing may block, and must not do so under the lock.
        drop(state);
        drop(idle);
    }

    /// Keeps a sound connection for the next client.
    pub(super) fn return_idle(&self, connection: Connection) {
        let mut state = self.lock();
        state.idle.push(connection);
        if state.waiting > 0 {
            self.returned.notify_all();
        }
    }

    /// Keeps the slot of a connection with an abandoned statement, until the statement has ended or `limit` has passed.
    pub(super) fn abandon(&self, connection: Connection, limit: Duration) {
        self.lock().abandoned.push(Abandoned { connection, until: Instant::now() + limit });
    }

    /// Goes on with the connections that are `open`, because the server refuses another one for this `cause`. Returns one of
    /// them as soon as it is idle, within `limit`; nothing when there is none or it takes too long.
    pub(super) fn share_connections(
        &self,
        cause: &ConnectError,
        open: usize,
        generation: u64,
        limit: Duration,
    ) -> Option<Connection> {
        if open == 0 {
            return None;
        }
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        if state.granted > open {
            warn!("going on with {open} of {} database connections: {cause}", self.size);
        }
        state.granted = open.min(state.granted);
        state.refused_at = Some(Instant::now());
        state.waiting += 1;
        loop {
            if let Some(at) = state.idle.iter().rposition(|idle| idle.generation == generation) {
                state.waiting -= 1;
                return Some(state.idle.swap_remove(at));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.waiting -= 1;
                return None;
            }
            state = self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Frees the slots of abandoned statements that have ended, and allows another connection a while after a refusal.
    pub(super) fn maintain(&self) {
        let mut state = self.lock();
        state.reap();
        if state.refused_at.is_some_and(|at| at.elapsed() >= GRANT_PAUSE) {
            state.granted = (state.granted + 1).min(self.size);
            state.refused_at = (state.granted < self.size).then(Instant::now);
            if state.refused_at.is_none() {
                info!("trying all {} database connections again", self.size);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_free_slot(&self, generation: u64) -> bool {
        self.free(generation) > self.waiting || self.in_use == 0 && self.waiting == 0
    }

    fn free(&self, generation: u64) -> usize {
        let abandoned = self.abandoned.iter().filter(|abandoned| abandoned.connection.generation == generation).count();
        self.granted.saturating_sub(self.in_use + abandoned)
    }

    fn reap(&mut self) {
        if !self.abandoned.is_empty() {
            let now = Instant::now();
            self.abandoned.retain(|abandoned| now < abandoned.until && !abandoned.connection.has_input());
        }
    }
}
