//! [`Clock`]: what time a store thinks it is.
//!
//! Invariant: a jump of the wall clock moves the time of a store only if it lasts. See [`agreed`].

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::task::time::{from_ms, to_ms};

pub(crate) mod agreed;
mod source;

use agreed::{Agreed, Apart, Look};
use source::Source;

/// The clock of a store. Workers never tell a store what time it is, so theirs don't matter; a test moves a manual
/// one by hand.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Manual(Arc<AtomicU64>),
    Steady(Arc<Steady>),
}

/// A steady clock with an offset.
#[derive(Debug)]
struct Steady {
    source: Source,
    /// Offset that the processes agreed on, for callers that only read the time.
    offset: AtomicI64,
    own: Mutex<Own>,
}

#[derive(Debug)]
struct Own {
    /// Agreement of a process that shares its store with no other.
    agreed: Agreed,
    /// Difference that this process has seen.
    apart: Option<Apart>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::system()
    }
}

impl Clock {
    /// Returns a clock that starts with the wall clock of this machine and goes on steadily.
    ///
    /// The clock follows small corrections of the wall clock. If the wall clock jumps, the time of the store does not;
    /// after the difference has lasted for 10 seconds, and for the longest lease, the store adopts the new time.
    pub fn system() -> Self {
        Clock::steady(Source::Machine)
    }

    fn steady(source: Source) -> Self {
        let reading = source.read();
        let agreed = Agreed::begin(reading.offset(), &reading);
        let offset = AtomicI64::new(agreed.offset);
        Clock(Kind::Steady(Arc::new(Steady { source, offset, own: Mutex::new(Own { agreed, apart: None }) })))
    }

    /// A clock that only [`advance`](Self::advance) moves. Clones are the same clock.
    pub fn manual() -> Self {
        Clock(Kind::Manual(Arc::new(AtomicU64::new(to_ms(SystemTime::now())))))
    }

    /// Moves a manual clock.
    ///
    /// # Panics
    /// If it is not a manual one.
    pub fn advance(&self, by: Duration) {
        let Kind::Manual(clock) = &self.0 else { panic!("only a manual clock is moved by hand") };
        clock.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// The time, to the millisecond.
    pub fn now(&self) -> SystemTime {
        from_ms(self.now_ms())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        match &self.0 {
            Kind::Manual(clock) => clock.load(Ordering::SeqCst),
            Kind::Steady(steady) => {
                let now = steady.source.steady().saturating_add(steady.offset.load(Ordering::SeqCst));
                u64::try_from(now / 1_000).unwrap_or(0)
            }
        }
    }

    /// Takes over the offset that the processes which share a store agree on. Returns whether it was of another boot, or
    /// of none: then it is now the offset of this clock.
    pub(crate) fn join(&self, shared: &mut Agreed) -> bool {
        let Kind::Steady(steady) = &self.0 else { return false };
        let reading = steady.source.read();
        if reading.boot == 0 {
            return false;
        }
        let begins = !shared.is_of(&reading);
        if begins {
            *shared = Agreed::begin(steady.offset.load(Ordering::SeqCst), &reading);
        }
        steady.offset.store(shared.offset, Ordering::SeqCst);
        begins
    }

    /// Compares the wall clock with the time of the store, as every sweep does. Returns by how many milliseconds the
    /// time of the store has jumped, if it did. `shared` is what the processes that share the store agree on.
    pub(crate) fn look(&self, shared: Option<&mut Agreed>, patience: Duration) -> Option<i64> {
        let Kind::Steady(steady) = &self.0 else { return None };
        let mut own = steady.own.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = steady.source.read();
        let Own { agreed, apart } = &mut *own;
        let agreed = shared.filter(|_| reading.boot != 0).unwrap_or(agreed);
        let look = agreed.look(&reading, apart, patience);
        steady.offset.store(agreed.offset, Ordering::SeqCst);
        drop(own);
        match look {
            Look::Near | Look::Apart { first: false, .. } => None,
            Look::Apart { by, first: true } => {
                let by = told(by);
                tracing::warn!("the wall clock is {by} the time of the store, which goes on with its own time");
                None
            }
            Look::Adopted { by } => {
                tracing::warn!("the wall clock has stayed {} the time of the store, which follows it now", told(by));
                Some(by / 1_000)
            }
        }
    }

    /// Whether the time of the store has just jumped, so that nothing is to be deleted by it.
    pub(crate) fn is_settling(&self, shared: Option<&Agreed>) -> bool {
        let Kind::Steady(steady) = &self.0 else { return false };
        let own = steady.own.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = steady.source.read();
        shared.filter(|_| reading.boot != 0).unwrap_or(&own.agreed).is_settling(&reading)
    }
}

/// A difference, as a warning tells it.
fn told(by: i64) -> String {
    let length = humantime::format_duration(Duration::from_millis(by.unsigned_abs() / 1_000));
    format!("{length} {}", if by > 0 { "ahead of" } else { "behind" })
}

/// The clocks of a machine that a test moves.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Simulated(Mutex<agreed::Reading>);

#[cfg(test)]
impl Simulated {
    pub(crate) fn new() -> Arc<Self> {
        let wall = i64::try_from(to_ms(SystemTime::now())).unwrap() * 1_000;
        Arc::new(Simulated(Mutex::new(agreed::Reading { boot: 7, wall, steady: 1_000_000_000 })))
    }

    /// A clock of a process of this machine.
    pub(crate) fn clock(self: &Arc<Self>) -> Clock {
        Clock::steady(Source::Simulated(Arc::clone(self)))
    }

    pub(crate) fn reading(&self) -> agreed::Reading {
        *self.0.lock().unwrap()
    }

    /// Time passes.
    pub(crate) fn pass(&self, ms: i64) {
        let mut reading = self.0.lock().unwrap();
        reading.wall += ms * 1_000;
        reading.steady += ms * 1_000;
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&self, ms: i64) {
        self.0.lock().unwrap().wall += ms * 1_000;
    }

    /// The machine starts again, and takes so long for it.
    pub(crate) fn reboot(&self, ms: i64) {
        let mut reading = self.0.lock().unwrap();
        reading.wall += ms * 1_000;
        (reading.boot, reading.steady) = (reading.boot + 1, 1_000_000);
    }
}
