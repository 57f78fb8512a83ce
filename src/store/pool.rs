//! The connections of this service to its database: as many as DB_CONNECTIONS allows, shared by everything that needs one.
//!
//! A [`Client`](super::Client) holds one place in the pool while it lives. A connection whose statement was given up keeps
//! its place until the statement has ended: a server does not notice that its client is gone while it waits for a lock, so
//! other connections would pile up beside it. Never runs a statement.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{info, warn};

use super::connect_error::ConnectError;
use super::connection::Connection;
use crate::metrics::METRICS;

/// The places and the idle connections.
pub(super) struct Pool {
    size: usize,
    state: Mutex<State>,
    /// A place or a connection was returned.
    returned: Condvar,
}

struct State {
    /// Places that can be used; fewer than the size while the server grants no more connections.
    granted: usize,
    /// When the server last refused another connection.
    refused_at: Option<Instant>,
    in_use: usize,
    /// Callers of [`Pool::wait_for_place`], which have precedence.
    waiting: usize,
    /// The one that was used last comes first, so that a quiet service needs few.
    idle: Vec<Connection>,
    abandoned: Vec<Abandoned>,
}

/// A connection whose statement was given up.
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

    /// Takes a place, if one is free. When every place is taken by an abandoned statement, the caller gets one all the same:
    /// its requests must fail now, or another server must be found.
    pub(super) fn take_place(&self, generation: u64) -> bool {
        let mut state = self.lock();
        state.reap();
        let free = state.free(generation);
        let has_place = free > state.waiting || state.in_use == 0 && state.waiting == 0;
        state.in_use += usize::from(has_place);
        has_place
    }

    /// Whether [`Pool::take_place`] would give a place.
    pub(super) fn has_place(&self, generation: u64) -> bool {
        let state = self.lock();
        state.free(generation) > state.waiting || state.in_use == 0 && state.waiting == 0
    }

    /// Takes a place as soon as one is free, within `limit`.
    pub(super) fn wait_for_place(&self, generation: u64, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        state.waiting += 1;
        state.reap();
        while state.free(generation) == 0 && state.in_use > 0 {
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

    /// Returns a place.
    pub(super) fn return_place(&self) {
        let mut state = self.lock();
        state.in_use -= 1;
        if state.waiting > 0 {
            self.returned.notify_all();
        }
    }

    /// An idle connection of this generation that was opened after `lost_at`, when a connection was lost; all others that it
    /// meets are closed.
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

    /// Keeps a connection that is sound for the next client.
    pub(super) fn return_idle(&self, connection: Connection) {
        let mut state = self.lock();
        state.idle.push(connection);
        if state.waiting > 0 {
            self.returned.notify_all();
        }
    }

    /// Keeps the place of a connection whose statement was given up, until the statement has ended or `limit` has passed.
    pub(super) fn abandon(&self, connection: Connection, limit: Duration) {
        self.lock().abandoned.push(Abandoned { connection, until: Instant::now() + limit });
    }

    /// The server grants no other connection now, for this `cause`: goes on with those that are `open`. Returns one of them
    /// as soon as it is idle, within `limit`; nothing when there is none or it takes too long.
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

    /// Frees the places of abandoned statements that have ended, and tries again what the server refused a while ago.
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
