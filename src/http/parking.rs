//! Where connections are while no thread has them: at their places, until something happens to their sockets.
//!
//! Never waits for a socket, and never decides what becomes of a connection.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::connection::Connection;

/// A spot for each place. Those of a block come into being together, so that a service with few clients is small.
pub(super) struct Parking {
    blocks: Box<[OnceLock<Box<[Spot]>>]>,
}

/// Where the connection with one place is parked.
#[derive(Default)]
pub(super) struct Spot {
    parked: Mutex<Parked>,
}

/// What is at a spot.
#[derive(Default)]
pub(super) struct Parked {
    /// Nothing while a thread has it.
    pub(super) connection: Option<Box<Connection>>,
    /// Something has happened to its socket meanwhile.
    pub(super) missed: bool,
}

/// Spots in a block.
const BLOCK: usize = 128;

impl Parking {
    /// Parking for connections with one of so many places.
    pub(super) fn new(places: usize) -> Parking {
        Parking { blocks: (0..places.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect() }
    }

    /// The connection with this place, to whose socket something has happened. When a thread has it, this is noted for when
    /// it is parked.
    pub(super) fn take(&self, place: usize) -> Option<Box<Connection>> {
        let mut parked = self.blocks.get(place / BLOCK)?.get()?[place % BLOCK].lock();
        let connection = parked.connection.take();
        parked.missed |= connection.is_none();
        connection
    }

    /// The spot of a place.
    pub(super) fn at(&self, place: usize) -> &Spot {
        let block = self.blocks[place / BLOCK].get_or_init(|| (0..BLOCK).map(|_| Spot::default()).collect());
        &block[place % BLOCK]
    }

    /// All spots where a connection may be.
    pub(super) fn spots(&self) -> impl Iterator<Item = &Spot> {
        self.blocks.iter().filter_map(OnceLock::get).flatten()
    }
}

impl Spot {
    /// What is there. A panic under this lock leaves nothing half-changed behind, so poison says nothing.
    pub(super) fn lock(&self) -> MutexGuard<'_, Parked> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
