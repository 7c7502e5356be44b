//! [`When`]: the instants of a schedule. Pure: no clock, no store.
//!
//! Invariant: `next` depends on nothing but the schedule and the instant it is asked about, so that every process finds
//! the same instants. Time zones are those that this version was built with, not the machine's.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::task::time::from_ms;

/// The shortest time between two runs of `every`.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Transitions that are further away than this can't have shown a wall clock the same time.
const FOLD_MAX_S: i64 = 2 * 86_400;

/// When a schedule runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    /// By the clock on a wall.
    Cron { expression: String, timezone: String },
    /// At multiples of so many milliseconds since 1970, or since the start of the schedule.
    Every { ms: u64 },
    /// At one instant, in milliseconds since 1970.
    Once { at: u64 },
}

/// A [`When`] that was read: it can be asked.
#[derive(Debug)]
pub(crate) struct Times {
    kind: Kind,
    /// Nothing is earlier than this.
    starting: Option<u64>,
}

#[derive(Debug)]
enum Kind {
    Cron(Box<Wall>),
    Every(u64),
    Once(u64),
}

impl When {
    pub(crate) fn every(period: Duration) -> Result<Self> {
        if period < EVERY_MIN {
            return Err(Error::invalid(format!("`every` {period:?} is too often: it takes at least {EVERY_MIN:?}")));
        }
        Ok(When::Every { ms: u64::try_from(period.as_millis()).unwrap_or(u64::MAX) })
    }

    /// Reads what is text.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for an expression or a time zone that is none.
    pub(crate) fn times(&self, starting: Option<u64>) -> Result<Times> {
        let kind = match self {
            When::Cron { expression, timezone } => Kind::Cron(Box::new(Wall::new(expression, timezone)?)),
            When::Every { ms } => Kind::Every((*ms).max(1)),
            When::Once { at } => Kind::Once(*at),
        };
        Ok(Times { kind, starting })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            When::Cron { expression, timezone } => write!(f, "cron {expression} ({timezone})"),
            When::Every { ms } => write!(f, "every {}", humantime::format_duration(Duration::from_millis(*ms))),
            When::Once { at } => write!(f, "once at {}", humantime::format_rfc3339_millis(from_ms(*at))),
        }
    }
}

impl Times {
    /// The first instant of a schedule that is made now.
    pub(crate) fn first(&self, now: u64) -> Option<u64> {
        match self.kind {
            // Also one that is over: it is late.
            Kind::Once(at) => Some(at),
            Kind::Cron(_) | Kind::Every(_) => self.next(now),
        }
    }

    /// The first instant after another.
    pub(crate) fn next(&self, after: u64) -> Option<u64> {
        let starting = self.starting.unwrap_or(0);
        let after = after.max(starting.saturating_sub(1));
        match &self.kind {
            Kind::Cron(wall) => {
                // Instants are whole seconds.
                let next = wall.next(i64::try_from(after / 1000).ok()?)?;
                u64::try_from(next).ok()?.checked_mul(1000)
            }
            Kind::Every(ms) => {
                let since = after.checked_sub(starting).map_or(0, |since| since / ms + 1);
                starting.checked_add(since.checked_mul(*ms)?)
            }
            Kind::Once(at) => (*at > after).then_some(*at),
        }
    }

    /// The last `max` instants after one, up to another.
    pub(crate) fn last_between(&self, after: u64, to: u64, max: usize) -> Vec<u64> {
        // The instants of a second-by-second schedule over a month are not all looked at.
        let mut span: u64 = 60_000;
        loop {
            let from = to.saturating_sub(span).max(after);
            let mut found = std::collections::VecDeque::new();
            let mut at = from;
            while let Some(next) = self.next(at).filter(|next| *next <= to) {
                found.push_back(next);
                if found.len() > max {
                    found.pop_front();
                }
                at = next;
            }
            if found.len() >= max || from == after {
                return found.into();
            }
            span = span.saturating_mul(4);
        }
    }
}

/// A cron expression in a time zone.
#[derive(Debug)]
struct Wall {
    cron: Cron,
    zone: TimeZone,
    /// It names times of day, and does not run through them.
    fixed: bool,
}

impl Wall {
    fn new(expression: &str, timezone: &str) -> Result<Self> {
        let cron = expression.parse::<Cron>().map_err(|e| {
            let example = "write for instance \"0 9 * * Mon-Fri\": minute, hour, day of month, month, day of week";
            Error::invalid(format!("{expression:?} is not a cron expression: {e}; {example}"))
        })?;
        let zone = TimeZoneDatabase::bundled().get(timezone).map_err(|_| {
            Error::invalid(format!("{timezone:?} is not a time zone: write for instance \"Europe/Berlin\" or \"UTC\""))
        })?;
        Ok(Wall { cron, zone, fixed: is_fixed(expression) })
    }

    /// The first instant after another, in seconds since 1970.
    ///
    /// Between two transitions of the zone the wall clock is so many seconds ahead of UTC: the search goes from one such
    /// stretch of time to the next.
    fn next(&self, after: i64) -> Option<i64> {
        let (mut at, mut inclusive) = (after, false);
        // Where the wall clock has been already.
        let mut shown = if self.fixed { self.shown_before(after)? } else { i64::MIN };
        let mut empty = 0;
        loop {
            let offset = self.offset(at)?;
            let end = self.zone.following(Timestamp::from_second(at).ok()?).next().map(|t| t.timestamp().as_second());
            let wall = at + offset;
            let found = if shown > wall { self.match_from(shown, true) } else { self.match_from(wall, inclusive) };
            let Some(end) = end else { return found.map(|wall| wall - offset) };
            if let Some(wall) = found.filter(|wall| wall - offset < end) {
                return Some(wall - offset);
            }
            // A time of day that the wall clock leaves out comes when it would have been over.
            if self.fixed && found.is_some_and(|wall| wall < end + self.offset(end).unwrap_or(offset)) {
                return Some(end);
            }
            empty += u32::from(found.is_none());
            if empty > 4 {
                return None;
            }
            if self.fixed {
                shown = shown.max(end + offset);
            }
            (at, inclusive) = (end, true);
        }
    }

    /// The greatest time that the wall clock showed before it was last turned back.
    fn shown_before(&self, at: i64) -> Option<i64> {
        let mut shown = i64::MIN;
        for transition in self.zone.preceding(Timestamp::from_second(at + 1).ok()?) {
            let end = transition.timestamp().as_second();
            if end < at - FOLD_MAX_S {
                break;
            }
            shown = shown.max(end + self.offset(end - 1)?);
        }
        Some(shown)
    }

    /// How far the wall clock is ahead of UTC.
    fn offset(&self, at: i64) -> Option<i64> {
        Some(self.zone.to_offset(Timestamp::from_second(at).ok()?).seconds().into())
    }

    /// The next time on the wall that the expression means; what it knows nothing of is where the wall is.
    fn match_from(&self, wall: i64, inclusive: bool) -> Option<i64> {
        let wall = DateTime::<Utc>::from_timestamp(wall, 0)?;
        Some(self.cron.find_next_occurrence(&wall, inclusive).ok()?.timestamp())
    }
}

/// Whether an expression names times of day. One with `*` or a step in its minutes or hours runs through the day, as
/// cron has it.
fn is_fixed(expression: &str) -> bool {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let times = match fields.len() {
        0 | 1 => return !expression.trim().eq_ignore_ascii_case("@hourly"),
        5 => &fields[..2],
        _ => &fields[1..3],
    };
    !times.iter().any(|field| field.contains(['*', '/']))
}

#[cfg(test)]
mod tests;
