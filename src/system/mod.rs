//! What libraries leave unsafe: `sockets` waits for sockets, and `memory` sets up the allocator.
//!
//! In come sockets, out go events. Nothing here knows HTTP, the board or a database.
#![allow(unsafe_code)]

mod memory;
mod sockets;

pub(crate) use memory::tune_malloc;
pub(crate) use sockets::{Happened, Interest, Sockets, Watched, unacknowledged_bytes};

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::thread::available_parallelism;

/// The processors that this process may use; looked up once, in half a dozen files.
pub(crate) fn processors() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| available_parallelism().map_or(1, NonZeroUsize::get))
}
