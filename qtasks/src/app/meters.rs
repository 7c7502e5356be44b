//! [`Meters`]: how much an app does, counted by the second. Nothing is worked out before somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// More than the seconds that are looked at, so that the oldest of those is not the one being counted.
const SLOTS: usize = 64;

/// What an app counts.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub(crate) added: Meter,
    pub(crate) claimed: Meter,
    pub(crate) ended: Meter,
}

/// How many of something there were in each of the last seconds.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Instant,
    /// The second in the upper half, how many in the lower.
    slots: [AtomicU64; SLOTS],
}

impl Default for Meter {
    fn default() -> Self {
        Meter { since: Instant::now(), slots: [const { AtomicU64::new(0) }; SLOTS] }
    }
}

impl Meter {
    /// Counts so many.
    pub(crate) fn count(&self, n: usize) {
        if n > 0 {
            self.count_at(self.since.elapsed().as_secs(), n as u64);
        }
    }

    fn count_at(&self, second: u64, n: u64) {
        let slot = &self.slots[usize::try_from(second % SLOTS as u64).expect("less than 64")];
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let before = if word >> 32 == second { word & 0xffff_ffff } else { 0 };
            Some(second << 32 | (before + n).min(0xffff_ffff))
        });
    }

    /// How many a second there were over the last minute, or since the start if that was less than a minute ago.
    pub(crate) fn per_second(&self) -> f64 {
        self.per_second_at(self.since.elapsed().as_secs_f64())
    }

    fn per_second_at(&self, now: f64) -> f64 {
        let words = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let recent = words.filter(|word| ((word >> 32) as f64) + 60.0 > now);
        let sum: u64 = recent.map(|word| word & 0xffff_ffff).sum();
        sum as f64 / now.clamp(1.0, 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_looked_at_and_no_more() {
        let meter = Meter::default();
        assert_eq!(meter.per_second_at(0.0), 0.0);
        meter.count_at(0, 6);
        meter.count_at(0, 4);
        assert_eq!(meter.per_second_at(0.5), 10.0);
        assert_eq!(meter.per_second_at(5.0), 2.0);
        meter.count_at(30, 50);
        assert_eq!(meter.per_second_at(59.0), 60.0 / 59.0);
        assert_eq!(meter.per_second_at(60.5), 50.0 / 60.0, "the first second is over a minute ago");
        // The slot of the first second is used again.
        meter.count_at(64, 60);
        assert_eq!(meter.per_second_at(64.5), 110.0 / 60.0);
        assert_eq!(meter.per_second_at(1_000.0), 0.0);
    }
}
