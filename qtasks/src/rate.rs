//! [`Rate`]: how many tasks may start in how long. Pure: no clock, no input or output.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How many attempts may start in how long, and how many of them at once after a rest.
///
/// They start evenly: ten a minute are one every 6 s. In any stretch of time as long as the rate's at most
/// `count + burst` start. As text: `"10/s"`, `"100/m"`, `"1000/h"`, `"5/10s"`, `"100/m, burst 20"`.
///
/// ```
/// # use qtasks::Rate;
/// # fn main() -> qtasks::Result<()> {
/// assert_eq!("100/m, burst 20".parse::<Rate>()?, Rate::per_minute(100).burst(20));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    count: u32,
    per: Duration,
    burst: u32,
}

impl Rate {
    /// So many in so long. A tenth of them, and at least one, may start at once: see [`burst`](Self::burst).
    ///
    /// # Panics
    /// If either is zero.
    pub const fn new(count: u32, per: Duration) -> Self {
        assert!(
            count > 0 && !per.is_zero(),
            "a rate is at least one in some time: to let nothing run, pause the queue"
        );
        let burst = if count < 10 { 1 } else { count / 10 };
        Rate { count, per, burst }
    }

    /// So many a second.
    ///
    /// # Panics
    /// If that is zero.
    pub const fn per_second(count: u32) -> Self {
        Rate::new(count, Duration::from_secs(1))
    }

    /// So many a minute.
    ///
    /// # Panics
    /// If that is zero.
    pub const fn per_minute(count: u32) -> Self {
        Rate::new(count, Duration::from_secs(60))
    }

    /// So many an hour.
    ///
    /// # Panics
    /// If that is zero.
    pub const fn per_hour(count: u32) -> Self {
        Rate::new(count, Duration::from_secs(3600))
    }

    /// How many may start at once when none has for a while. Defaults to a tenth of the count, at least one.
    ///
    /// # Panics
    /// If that is zero.
    #[must_use]
    pub const fn burst(mut self, burst: u32) -> Self {
        assert!(burst > 0, "a burst is at least one");
        self.burst = burst;
        self
    }

    /// The time from one start to the next, in nanoseconds, and how far ahead of that they may be.
    pub(crate) fn pace(self) -> (u64, u64) {
        let every = self.per.as_nanos().div_ceil(u128::from(self.count.max(1))).max(1);
        let ahead = every.saturating_mul(u128::from(self.burst.saturating_sub(1)));
        let nanos = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        (nanos(every), nanos(ahead))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate { count, per, burst } = *self;
        write!(f, "{count}/{}", humantime::format_duration(per).to_string().replace(' ', ""))?;
        if Rate::new(count.max(1), per.max(Duration::from_nanos(1))).burst == burst {
            return Ok(());
        }
        write!(f, ", burst {burst}")
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let rule = "write for instance \"10/s\", \"100/m\", \"5/10s\" or \"100/m, burst 20\"";
            Error::invalid(format!("{text:?} is not a rate: {rule}"))
        };
        let number = |n: &str| n.trim().parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(wrong);
        let (rate, burst) = match text.split_once(',') {
            Some((rate, burst)) => (rate, Some(burst.trim().strip_prefix("burst ").ok_or_else(wrong)?)),
            None => (text, None),
        };
        let (count, per) = rate.split_once('/').ok_or_else(wrong)?;
        let one = if per.trim().starts_with(|c: char| c.is_ascii_digit()) { "" } else { "1" };
        let per = humantime::parse_duration(&format!("{one}{}", per.trim())).map_err(|_| wrong())?;
        if per.is_zero() {
            return Err(wrong());
        }
        let rate = Rate::new(number(count)?, per);
        burst.map_or(Ok(rate), |burst| Ok(rate.burst(number(burst)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        let second = Duration::from_secs(1);
        for (text, rate, written) in [
            ("10/s", Rate::per_second(10), "10/1s"),
            (" 100 / m ", Rate::per_minute(100), "100/1m"),
            ("1000/h", Rate::per_hour(1000), "1000/1h"),
            ("5/10s", Rate::new(5, second * 10), "5/10s"),
            ("5/1m 30s,burst 2", Rate::new(5, second * 90).burst(2), "5/1m30s, burst 2"),
            ("100/min, burst 20", Rate::per_minute(100).burst(20), "100/1m, burst 20"),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap(), rate, "{text}");
            assert_eq!(rate.to_string(), written);
            assert_eq!(written.parse::<Rate>().unwrap(), rate, "{written}");
        }
        for wrong in ["", "10", "/s", "0/s", "-1/s", "10/0s", "10/x", "10/s, 5", "10/s, burst 0", "1.5/s", "10/s/s"] {
            let error = wrong.parse::<Rate>().unwrap_err().to_string();
            assert!(error.contains("is not a rate: write for instance"), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_default_burst_is_a_tenth() {
        let burst = |count| Rate::per_second(count).burst;
        assert_eq!([burst(1), burst(9), burst(10), burst(25), burst(1000)], [1, 1, 1, 2, 100]);
    }
}
