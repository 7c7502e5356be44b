//! [`Lane`]: slots, and what may take them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The first and the longest wait before a lane that had to shrink grows again by a step.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

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
    shortage: Mutex<Option<Shortage>>,
}

/// A time in which the host has no room for as many bodies as there are slots.
#[derive(Debug)]
struct Shortage {
    /// Slots that are used meanwhile.
    slots: usize,
    /// Wait before the next step.
    pause: Duration,
    grows_at: Instant,
    /// The lane has grown since it last shrank.
    grew: bool,
}

impl Lane {
    pub(crate) fn new(name: String, slots: usize, built_in: bool) -> Self {
        let (taken, look, shortage) = (AtomicUsize::new(0), Notify::new(), Mutex::new(None));
        Lane { name, slots, built_in, taken, look, shortage }
    }

    fn shortage(&self) -> MutexGuard<'_, Option<Shortage>> {
        self.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more there is room for.
    pub(crate) fn free(&self) -> usize {
        self.open().saturating_sub(self.taken.load(Ordering::SeqCst))
    }

    /// How many slots are used at most, now.
    fn open(&self) -> usize {
        let mut shortage = self.shortage();
        let Some(short) = &mut *shortage else { return self.slots };
        let now = Instant::now();
        if short.grows_at <= now {
            short.slots += (short.slots / 4).max(1);
            (short.grows_at, short.grew) = (now + short.pause, true);
        }
        if short.slots < self.slots {
            return short.slots;
        }
        *shortage = None;
        tracing::info!(worker = self.name, slots = self.slots, "the worker runs as many tasks as before again");
        self.slots
    }

    /// When there may be more slots, if the host had no room for all.
    pub(crate) fn grows_in(&self) -> Option<Duration> {
        self.shortage().as_ref().map(|short| short.grows_at.saturating_duration_since(Instant::now()))
    }

    /// Uses no more slots than are taken, for a while: the host had no room for one more.
    pub(crate) fn shrink(&self, why: &str) {
        let (taken, now) = (self.taken.load(Ordering::SeqCst), Instant::now());
        let mut shortage = self.shortage();
        let Some(short) = &mut *shortage else {
            let slots = taken.min(self.slots);
            *shortage = Some(Shortage { slots, pause: PAUSE.0, grows_at: now + PAUSE.0, grew: false });
            drop(shortage);
            tracing::warn!(
                worker = self.name,
                why,
                "the host has no room for another body: the task is given back, and the worker runs fewer at once for a while"
            );
            return;
        };
        if std::mem::take(&mut short.grew) {
            short.pause = (short.pause * 2).min(PAUSE.1);
        }
        short.slots = short.slots.min(taken);
        short.grows_at = now + short.pause;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_had_to_shrink_grows_back_by_steps() {
        let lane = Lane::new("w".to_owned(), 4, false);
        (0..4).for_each(|_| lane.enter());
        lane.leave();
        lane.shrink("no thread");
        lane.leave();
        lane.shrink("no thread");
        assert_eq!((lane.free(), lane.grows_in()), (0, Some(PAUSE.0)));
        tokio::time::advance(PAUSE.0).await;
        assert_eq!(lane.free(), 1);
        // There is still no room: the next step takes twice the time.
        lane.shrink("no thread");
        assert_eq!((lane.free(), lane.grows_in()), (0, Some(PAUSE.0 * 2)));
        (0..2).for_each(|_| lane.leave());
        assert_eq!(lane.free(), 2);
        for free in [3, 4] {
            tokio::time::advance(PAUSE.0 * 2).await;
            assert_eq!(lane.free(), free);
        }
        assert_eq!(lane.grows_in(), None);
    }
}
