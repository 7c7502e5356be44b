//! [`store_failed`]: a store that fails is reported in the log once for a while, not at every call.
//!
//! A full disk fails every heartbeat, sweep, claim and request. The first failure of each sort is reported at once; the
//! same again only every minute, with the number of those in between.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// How long a failure that has been reported is only counted.
const EVERY: Duration = Duration::from_secs(60);
/// How many sorts of failures are remembered.
const SORTS: usize = 64;

static REPORTED: Mutex<Reported> = Mutex::new(Reported(Vec::new()));

/// The failures that were reported lately, the oldest first.
struct Reported(Vec<Sort>);

struct Sort {
    what: &'static str,
    message: String,
    at: Instant,
    since: u64,
}

impl Reported {
    /// Returns the number of equal failures since the last that was reported, if this one is to be reported.
    fn report(&mut self, what: &'static str, message: &str, now: Instant) -> Option<u64> {
        let known = self.0.iter().position(|sort| sort.what == what && sort.message == message);
        let mut since = 0;
        if let Some(known) = known {
            let sort = &mut self.0[known];
            if now.saturating_duration_since(sort.at) < EVERY {
                sort.since += 1;
                return None;
            }
            since = self.0.remove(known).since;
        }
        if self.0.len() == SORTS {
            self.0.remove(0);
        }
        self.0.push(Sort { what, message: message.to_owned(), at: now, since: 0 });
        Some(since)
    }
}

/// Reports that a store failed, and what could not be done for it, unless the same was reported in the last minute.
pub(crate) fn store_failed(error: &Error, what: &'static str) {
    let mut reported = REPORTED.lock().unwrap_or_else(PoisonError::into_inner);
    let since = reported.report(what, &error.to_string(), Instant::now());
    drop(reported);
    match since {
        Some(0) => tracing::warn!(%error, "{what}"),
        Some(times) => tracing::warn!(%error, times, "{what}: the same in the meantime"),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_at_once_and_then_once_a_minute_with_their_number() {
        let (mut reported, start) = (Reported(Vec::new()), Instant::now());
        let mut at =
            |seconds: u64, message: &str| reported.report("no sweep", message, start + Duration::from_secs(seconds));
        assert_eq!(at(0, "full"), Some(0));
        assert_eq!(at(1, "locked"), Some(0), "another failure");
        assert_eq!([at(1, "full"), at(30, "full"), at(59, "full")], [None; 3]);
        assert_eq!(at(60, "full"), Some(3));
        assert_eq!([at(61, "full"), at(119, "full")], [None; 2]);
        assert_eq!(at(120, "full"), Some(2));
        assert_eq!(at(300, "locked"), Some(0));
    }

    #[test]
    fn few_failures_are_remembered() {
        let (mut reported, now) = (Reported(Vec::new()), Instant::now());
        for sort in 0..1_000 {
            assert_eq!(reported.report("no sweep", &sort.to_string(), now), Some(0));
        }
        assert_eq!(reported.0.len(), SORTS);
        assert_eq!(reported.report("no sweep", "999", now), None);
    }
}
