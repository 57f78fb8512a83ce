//! Where the service is in its life: waiting for its database, open, or ending.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The lifecycle, shared by those who change it and those who answer by it.
#[derive(Debug, Default)]
pub struct Lifecycle {
    open: AtomicBool,
    ending: AtomicBool,
    waiting_for: Mutex<String>,
}

impl Lifecycle {
    /// The table is there and has its shape: requests may go to the database.
    pub fn set_open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// The service is going to end.
    pub fn set_ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// What opening waits for.
    pub fn set_waiting_for(&self, what: &str) {
        what.clone_into(&mut self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Whether requests may go to the database.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Whether the service is going to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// What opening waits for, in words.
    pub fn waiting_for(&self) -> String {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
