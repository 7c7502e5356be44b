//! When a failed attempt is followed by another: pure, no clock, no input or output. [`RetryPolicy`] is what a task has,
//! [`Retry`] what its body may say.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod wish;

pub use wish::Retry;
#[doc(hidden)]
pub use wish::Wish;

/// How often a failed task is tried again, and how long it waits before each attempt.
///
/// The wait before attempt *n* + 1 is `first × factor^(n − 1)`, at most `longest`; with jitter, a random part
/// between half of that and all of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How many attempts may follow the first. Defaults to 0.
    pub retries: u32,
    /// The wait after the first failure. Defaults to 1 s.
    pub first: Duration,
    /// The longest wait. Defaults to 5 min.
    pub longest: Duration,
    /// By what the wait grows from one failure to the next. Defaults to 2.
    pub factor: u32,
    /// Whether waits are drawn at random, so that tasks which failed together don't come back together. Defaults to
    /// true.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy::none()
    }
}

impl RetryPolicy {
    /// No retry.
    pub const fn none() -> Self {
        RetryPolicy::times(0)
    }

    /// So many retries, with the default waits.
    pub const fn times(retries: u32) -> Self {
        RetryPolicy {
            retries,
            first: Duration::from_secs(1),
            longest: Duration::from_secs(300),
            factor: 2,
            jitter: true,
        }
    }

    /// The wait grows from `first` to `longest`, doubling each time.
    #[must_use]
    pub const fn exponential(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self.factor = 2;
        self
    }

    /// Always the same wait, without jitter. `Duration::ZERO` retries at once.
    #[must_use]
    pub const fn constant(mut self, wait: Duration) -> Self {
        self.first = wait;
        self.longest = wait;
        self.factor = 1;
        self.jitter = false;
        self
    }

    /// Whether waits are drawn at random.
    #[must_use]
    pub const fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// The wait after the failure that makes it `failures` in all, or `None` if that was the last attempt.
    /// `chance` is a random number, used for the jitter.
    pub fn after(&self, failures: u32, chance: u64) -> Option<Duration> {
        if failures > self.retries {
            return None;
        }
        let steps = failures.saturating_sub(1);
        let grown = self.factor.checked_pow(steps).and_then(|f| self.first.checked_mul(f));
        let wait = grown.unwrap_or(self.longest).min(self.longest);
        if !self.jitter {
            return Some(wait);
        }
        let half = wait / 2;
        let part = u32::try_from(chance >> 32).expect("the upper half of 64 bits");
        Some(half + Duration::from_secs_f64(half.as_secs_f64() * f64::from(part) / f64::from(u32::MAX)))
    }
}

impl From<u32> for RetryPolicy {
    fn from(retries: u32) -> Self {
        RetryPolicy::times(retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest() {
        let policy = RetryPolicy::times(40).jitter(false);
        let waits: Vec<u64> = (1..=10).map(|n| policy.after(n, 0).unwrap().as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(policy.after(40, 0), Some(Duration::from_secs(300)));
        assert_eq!(policy.after(41, 0), None);
        assert_eq!(RetryPolicy::none().after(1, 0), None);
        assert_eq!(RetryPolicy::times(1).constant(Duration::ZERO).after(1, 7), Some(Duration::ZERO));
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        let policy = RetryPolicy::times(9);
        for chance in [0, 1 << 32, u64::MAX / 3, u64::MAX] {
            let wait = policy.after(3, chance).unwrap();
            assert!((Duration::from_secs(2)..=Duration::from_secs(4)).contains(&wait), "{wait:?}");
        }
    }
}
