//! The type of the board's queues, and where their leaders get clients of the database.

use std::sync::Arc;

use crate::batch_queue::{BatchQueue, Source};
use crate::store::{Client, Database};

/// A queue of the board.
pub(super) type Queue<P> = BatchQueue<P, Clients>;

/// Gives the clients of the database to the leaders of all queues.
pub(super) struct Clients(pub(super) Arc<Database>);

impl Source for Clients {
    type Connection = Client;

    fn try_acquire(&self) -> Option<Client> {
        self.0.try_client()
    }

    fn is_available(&self) -> bool {
        self.0.has_free_slot()
    }
}
