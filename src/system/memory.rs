//! Keeping the process small.
//!
//! - The `mysql` crate gives each connection two buffers of 4 MiB. Once one is freed glibc takes blocks of that size from
//!   memory that it keeps, so that each reconnect leaves more of it in use. And it has eight arenas for a processor, of
//!   which each thread would fill one: [`tune_malloc`].
//! - The crate reads into such a buffer from its start to its end before it begins anew, however short the answers are, so
//!   that a connection comes to hold all of it; there is no setting. [`LeanConnection`] gives the pages back between two
//!   answers. As the crate does not say where its buffers are, [`Allocator`] notes it when they are made.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use mysql::{Conn, Opts};

/// The size of a connection's buffers: `DEFAULT_MAX_ALLOWED_PACKET` of `mysql_common`.
const BUFFER: usize = 4 * 1024 * 1024;
/// Blocks that can be noted at once; two for a connection, of which there is one for each leader and a few for moments.
/// Those beyond it stay as large as they get.
const PLACES: usize = u64::BITS as usize;
/// Stands for a block that is freed, so that its place is nobody else's before whoever watches it lets go. Where it was
/// there may be another one by then.
const GONE: *mut u8 = ptr::without_provenance_mut(1);

/// The system's allocator; it notes the blocks of buffers that somebody watches.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Blocks of [`BUFFER`] bytes, by their place. None where the place is free.
static NOTED: [AtomicPtr<u8>; PLACES] = [const { AtomicPtr::new(ptr::null_mut()) }; PLACES];

thread_local! {
    /// While this thread watches: the places of what it has allocated, a bit each.
    static WATCHED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A connection of the crate's that can be made small.
pub(crate) struct LeanConnection {
    connection: Conn,
    /// The socket's; tells whether it is still the connection that the buffers are of.
    descriptor: RawFd,
    buffers: Buffers,
}

/// The large blocks of one thing, wherever it goes.
struct Buffers {
    places: u64,
}

/// A thread watches until this is dropped.
struct Watch;

impl LeanConnection {
    /// Opens a connection.
    pub(crate) fn open(options: Opts) -> Result<LeanConnection, mysql::Error> {
        let (connection, buffers) = Buffers::of(|| Conn::new(options));
        let connection = connection?;
        Ok(LeanConnection { descriptor: connection.as_raw_fd(), connection, buffers })
    }

    /// Gives the memory of its buffers back to the system. Nothing may be left to be read of an answer: it would be lost, and
    /// the next one be out of order.
    pub(crate) fn slim(&mut self) {
        // Somebody may have put another one in its place.
        if self.connection.as_raw_fd() == self.descriptor {
            // SAFETY: the crate lends its buffers to nobody, and whoever could use the connection is kept out by the borrow.
            unsafe { self.buffers.empty() };
        }
    }
}

impl Deref for LeanConnection {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.connection
    }
}

impl DerefMut for LeanConnection {
    fn deref_mut(&mut self) -> &mut Conn {
        &mut self.connection
    }
}

impl Buffers {
    /// Runs `make`, and gives the buffers that it allocated beside what it made.
    fn of<T>(make: impl FnOnce() -> T) -> (T, Buffers) {
        WATCHED.set(Some(0));
        let watch = Watch;
        let made = make();
        (made, watch.end())
    }

    /// Gives their pages back to the system; from then on they are zeros, but for the edges.
    ///
    /// # Safety
    ///
    /// Nobody reads or writes them meanwhile, nor has a reference into them.
    unsafe fn empty(&self) {
        for (place, noted) in NOTED.iter().enumerate() {
            let block = noted.load(Ordering::Relaxed);
            if self.places & 1 << place != 0 && block != GONE {
                // SAFETY: it is allocated, or it would be gone; the rest is the caller's promise.
                unsafe { give_pages_back(block) };
            }
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        let own = NOTED.iter().enumerate().filter(|(place, _)| self.places & 1 << place != 0);
        own.for_each(|(_, noted)| noted.store(ptr::null_mut(), Ordering::Relaxed));
    }
}

impl Watch {
    fn end(self) -> Buffers {
        Buffers { places: WATCHED.take().unwrap_or(0) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A panic comes by here too, and leaves no place taken.
        drop(Buffers { places: WATCHED.take().unwrap_or(0) });
    }
}

// SAFETY: all that is promised is the system's allocator's to keep; what is noted changes no block.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        let block = unsafe { System.alloc(layout) };
        if layout.size() == BUFFER && !block.is_null() {
            note(block);
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() == BUFFER {
            forget(block);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.size() == BUFFER {
            forget(block);
        }
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

fn note(block: *mut u8) {
    let Some(places) = WATCHED.get() else { return };
    let takes = |noted: &AtomicPtr<u8>| {
        noted.compare_exchange(ptr::null_mut(), block, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    if let Some(place) = NOTED.iter().position(takes) {
        WATCHED.set(Some(places | 1 << place));
    }
}

fn forget(block: *mut u8) {
    for noted in &NOTED {
        // Only whoever owns the block frees it, so nobody looks for it at the same time.
        let _ = noted.compare_exchange(block, GONE, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// # Safety
///
/// It is an allocated block of [`BUFFER`] bytes, which nobody uses meanwhile.
#[cfg(target_os = "linux")]
unsafe fn give_pages_back(block: *mut u8) {
    // SAFETY: it reads a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(BUFFER);
    let before = block.align_offset(page);
    let pages = BUFFER.saturating_sub(before) / page * page;
    if pages > 0 {
        // SAFETY: the pages lie inside the block, whose memory is this process' alone and reads as zeros from then on.
        let _ = unsafe { libc::madvise(block.wrapping_add(before).cast(), pages, libc::MADV_DONTNEED) };
    }
}

/// What to ask for elsewhere differs from system to system; the buffers stay as large as they get.
#[cfg(not(target_os = "linux"))]
unsafe fn give_pages_back(_: *mut u8) {}

/// Blocks of at least this size are the system's again as soon as they are free.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BLOCK: libc::c_int = 1024 * 1024;

/// Has the allocator keep little: it gives large blocks back to the system when they are freed, and has an arena for each
/// processor. Where it is not glibc's, nothing.
pub(crate) fn tune_malloc() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, LARGE_BLOCK),
        (libc::M_ARENA_MAX, libc::c_int::try_from(super::processors()).unwrap_or(libc::c_int::MAX)),
    ] {
        // SAFETY: it changes a number of the allocator's, under the allocator's own lock.
        let _ = unsafe { libc::mallopt(parameter, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn block() -> Vec<u8> {
        let mut block = Vec::with_capacity(BUFFER);
        block.resize(BUFFER, 7);
        block
    }

    /// Whether it reads so on every page.
    fn is_all(block: &[u8], byte: u8) -> bool {
        block.iter().step_by(512).all(|b| *b == byte)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_buffer_gives_its_pages_back_and_serves_again() {
        let ((mut first, mut second), buffers) = Buffers::of(|| (block(), block()));
        // SAFETY: they are borrowed by nobody.
        unsafe { buffers.empty() };
        for block in [&mut first, &mut second] {
            let edge = 64 * 1024;
            assert!(is_all(&block[edge..BUFFER - edge], 0));
            block.fill(8);
            assert!(is_all(block, 8));
        }
    }

    #[test]
    fn what_nobody_watches_keeps_its_pages() {
        let before = block();
        let (watched, buffers) = Buffers::of(block);
        let after = block();
        // SAFETY: it is borrowed by nobody.
        unsafe { buffers.empty() };
        drop(watched);
        assert!(is_all(&before, 7) && is_all(&after, 7));
    }

    #[test]
    fn a_buffer_that_is_gone_costs_no_other_one_its_pages() {
        // More often than there are places.
        for _ in 0..=PLACES {
            let (gone, old) = Buffers::of(block);
            drop(gone);
            // Most likely where the first one was.
            let (mut other, new) = Buffers::of(block);
            // SAFETY: it is borrowed by nobody.
            unsafe { old.empty() };
            assert!(is_all(&other, 7));
            other.reserve(BUFFER);
            // SAFETY: the same.
            unsafe { new.empty() };
            assert!(is_all(&other, 7));
        }
    }

    #[test]
    fn a_panic_ends_the_watch() {
        let panics = || Buffers::of(|| std::panic::resume_unwind(Box::new(block())));
        assert!(catch_unwind(AssertUnwindSafe(|| drop::<((), Buffers)>(panics()))).is_err());
        assert_eq!(WATCHED.get(), None);
    }
}
