//! [`Clock`]: what time a store thinks it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::task::time::{from_ms, to_ms};

/// The clock of a store. Workers never tell a store what time it is, so theirs don't matter; a test moves a manual
/// one by hand.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// The clock of this process.
    pub fn system() -> Self {
        Clock(None)
    }

    /// A clock that only [`advance`](Self::advance) moves. Clones are the same clock.
    pub fn manual() -> Self {
        Clock(Some(Arc::new(AtomicU64::new(to_ms(SystemTime::now())))))
    }

    /// Moves a manual clock.
    ///
    /// # Panics
    /// If it is not a manual one.
    pub fn advance(&self, by: Duration) {
        let clock = self.0.as_ref().expect("only a manual clock is moved by hand");
        clock.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// The time, to the millisecond.
    pub fn now(&self) -> SystemTime {
        from_ms(self.now_ms())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        match &self.0 {
            Some(clock) => clock.load(Ordering::SeqCst),
            None => to_ms(SystemTime::now()),
        }
    }
}
