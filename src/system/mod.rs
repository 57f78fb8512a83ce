//! What libraries leave to us that has to be done right: the only `unsafe` code of the project.
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
