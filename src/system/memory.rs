//! The allocator's settings.

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
