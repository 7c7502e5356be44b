//! [`Lane`]: slots, and what may take them.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Slots of a worker: those of the bodies that it runs, or those of the built-ins, which take none of these.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Under which claims are made.
    pub(crate) name: String,
    pub(crate) slots: usize,
    pub(crate) built_in: bool,
    /// A body that is over needs none, though its end may not be stored yet.
    taken: AtomicUsize,
    /// A slot came free, or a task may be ready.
    look: Notify,
}

impl Lane {
    pub(crate) fn new(name: String, slots: usize, built_in: bool) -> Self {
        Lane { name, slots, built_in, taken: AtomicUsize::new(0), look: Notify::new() }
    }

    /// How many more there is room for.
    pub(crate) fn free(&self) -> usize {
        self.slots.saturating_sub(self.taken.load(Ordering::SeqCst))
    }

    pub(crate) fn enter(&self) {
        self.taken.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
    }

    /// A task may be ready.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    pub(crate) async fn looked(&self) {
        self.look.notified().await;
    }
}
