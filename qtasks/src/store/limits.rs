//! What limits and pauses leave to one claim. Pure: no lock, no clock, no input or output.
//!
//! Invariant: every store asks here what a claim may take, so that all of them agree; what they differ in is how they
//! count what is running, and where they keep how far a rate has got. A rate is the generic cell rate algorithm: one
//! instant a key, which each start moves on by the time between two.

use std::time::Duration;

use super::{Limit, LimitOn, Offer};
use crate::task::BUILT_IN;

/// The documents that say which queues are paused.
pub(crate) const PAUSES: &str = "pause/";

/// The documents by which a store that has them keeps how far rates have got.
#[cfg(feature = "sqlite")]
pub(super) fn rate_key(on: &LimitOn) -> String {
    match on {
        LimitOn::Name(name) => format!("rate/name/{name}"),
        LimitOn::Queue(queue) => format!("rate/queue/{queue}"),
    }
}

impl LimitOn {
    /// Whether it is about the tasks of a pair.
    pub(crate) fn covers(&self, queue: &str, name: &str) -> bool {
        match self {
            LimitOn::Name(limited) => limited == name,
            LimitOn::Queue(limited) => limited == queue && !name.starts_with(BUILT_IN),
        }
    }
}

/// What one limit has left.
pub(super) struct Room<'a> {
    limit: &'a Limit,
    /// How many more may be running.
    free: u64,
    pace: Option<Pace>,
}

/// How far a rate has got, in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Pace {
    now: u64,
    every: u64,
    /// When the next would start if all were evenly spaced: it may so much earlier.
    next: u64,
    ahead: u64,
    moved: bool,
}

impl Pace {
    /// What an earlier, slower rate left, or a clock that was put back, makes nobody wait longer than this rate would.
    fn new(limit: &Limit, kept: Option<u64>, now: u64) -> Option<Self> {
        let (every, ahead) = limit.rate?.pace();
        let now = now.saturating_mul(1_000_000);
        let latest = now.saturating_add(ahead).saturating_add(every);
        Some(Pace { now, every, ahead, next: kept.unwrap_or(0).min(latest), moved: false })
    }

    fn wait(&self) -> u64 {
        self.next.saturating_sub(self.ahead).saturating_sub(self.now)
    }

    fn start(&mut self) {
        self.next = self.next.max(self.now).saturating_add(self.every);
        self.moved = true;
    }
}

impl<'a> Room<'a> {
    /// What is left with so many running, and with how far the rate has got, at `now` in milliseconds.
    pub(super) fn new(limit: &'a Limit, running: u64, kept: Option<u64>, now: u64) -> Self {
        let free = limit.concurrency.map_or(u64::MAX, |max| u64::from(max).saturating_sub(running));
        Room { limit, free, pace: Pace::new(limit, kept, now) }
    }

    fn is_full(&self) -> bool {
        self.free == 0 || self.wait() > 0
    }

    fn wait(&self) -> u64 {
        self.pace.map_or(0, |pace| pace.wait())
    }
}

/// What stands between a claim and the tasks that it offers to run.
#[derive(Default)]
pub(super) struct Gates<'a> {
    pub(super) rooms: Vec<Room<'a>>,
    /// The queues that are paused.
    pub(super) paused: Vec<String>,
}

/// The limits that a pair is under, by their places.
pub(super) type Under = Vec<usize>;

impl Gates<'_> {
    /// Whether nothing stands there.
    pub(super) fn is_open(&self) -> bool {
        self.rooms.is_empty() && self.paused.is_empty()
    }

    /// The limits that the tasks of a pair are under. `None` while its queue is paused.
    pub(super) fn under(&self, offer: &Offer) -> Option<Under> {
        if self.paused.contains(&offer.queue) {
            return None;
        }
        let covers = |(i, room): (usize, &Room<'_>)| room.limit.on.covers(&offer.queue, &offer.name).then_some(i);
        Some(self.rooms.iter().enumerate().filter_map(covers).collect())
    }

    pub(super) fn is_full(&self, under: &[usize]) -> bool {
        under.iter().any(|i| self.rooms[*i].is_full())
    }

    /// Whether the pair is neither paused nor under a limit that is full.
    pub(super) fn lets(&self, offer: &Offer) -> bool {
        self.is_open() || self.under(offer).is_some_and(|under| !self.is_full(&under))
    }

    /// A task starts that is under these limits.
    pub(super) fn start(&mut self, under: &[usize]) {
        for i in under {
            let room = &mut self.rooms[*i];
            room.free = room.free.saturating_sub(1);
            if let Some(pace) = &mut room.pace {
                pace.start();
            }
        }
    }

    /// How long until the next task of a pair may start, if that takes nothing but time.
    pub(super) fn wait(&self, offer: &Offer) -> Option<Duration> {
        if self.is_open() {
            return None;
        }
        let under = self.under(offer)?;
        if under.iter().any(|i| self.rooms[*i].free == 0) {
            return None;
        }
        let wait = under.iter().map(|i| self.rooms[*i].wait()).max().filter(|wait| *wait > 0)?;
        // A clock of milliseconds must have passed it.
        Some(Duration::from_millis(wait.div_ceil(1_000_000)))
    }

    /// How far the rates have got that moved on.
    pub(super) fn moved(&self) -> impl Iterator<Item = (&LimitOn, u64)> {
        self.rooms.iter().filter_map(|room| Some((&room.limit.on, room.pace.filter(|pace| pace.moved)?.next)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rate;

    const NOW: u64 = 1_700_000_000_000;

    fn limit(concurrency: Option<u32>, rate: Option<Rate>) -> Limit {
        Limit { on: LimitOn::Name("a".into()), concurrency, rate }
    }

    fn offer(queue: &str, name: &str) -> Offer {
        Offer { queue: queue.into(), name: name.into(), allowance: u32::MAX }
    }

    /// How many start at `now`, and how far that gets the rate.
    fn starts(rate: Rate, kept: &mut Option<u64>, now: u64) -> usize {
        let limit = limit(None, Some(rate));
        let mut gates = Gates { rooms: vec![Room::new(&limit, 0, *kept, now)], paused: Vec::new() };
        let mut started = 0;
        while !gates.is_full(&[0]) {
            gates.start(&[0]);
            started += 1;
        }
        *kept = gates.moved().next().map(|(_, next)| next).or(*kept);
        started
    }

    fn wait(rate: Rate, kept: Option<u64>, now: u64) -> Option<Duration> {
        let limit = limit(None, Some(rate));
        Gates { rooms: vec![Room::new(&limit, 0, kept, now)], paused: Vec::new() }.wait(&offer("q", "a"))
    }

    #[test]
    fn a_rate_lets_a_burst_go_and_then_one_by_one() {
        let rate = Rate::per_second(10).burst(3);
        let mut kept = None;
        assert_eq!(starts(rate, &mut kept, NOW), 3);
        assert_eq!(wait(rate, kept, NOW), Some(Duration::from_millis(100)));
        assert_eq!(starts(rate, &mut kept, NOW + 99), 0);
        assert_eq!(starts(rate, &mut kept, NOW + 100), 1);
        assert_eq!(wait(rate, kept, NOW + 100), Some(Duration::from_millis(100)));
        assert_eq!(starts(rate, &mut kept, NOW + 300), 2);
        // However long the rest.
        assert_eq!(starts(rate, &mut kept, NOW + 86_400_000), 3);
    }

    #[test]
    fn no_window_has_more_than_the_count_and_the_burst() {
        for (rate, per) in [(Rate::per_second(7).burst(4), 1_000), (Rate::new(3, Duration::from_millis(100)), 100)] {
            let (mut kept, mut times) = (None, Vec::new());
            for ms in (0..5_000).filter(|ms| ms % 1_300 < 1_000) {
                times.extend(vec![ms; starts(rate, &mut kept, NOW + ms)]);
            }
            let most = times.iter().map(|at| times.iter().filter(|t| (*at..*at + per).contains(*t)).count()).max();
            assert!(most.unwrap() <= (rate.pace().1 / rate.pace().0) as usize + 1 + if per == 1_000 { 7 } else { 3 });
            assert!(times.len() > 25, "{}", times.len());
        }
    }

    #[test]
    fn a_slower_rate_of_before_holds_nobody_up() {
        let (mut kept, fast) = (None, Rate::per_second(10));
        assert_eq!(starts(Rate::per_hour(1), &mut kept, NOW), 1);
        assert_eq!(wait(fast, kept, NOW), Some(Duration::from_millis(100)));
        // Nor does a clock that is put back.
        assert_eq!(wait(fast, kept, NOW - 1_000_000), Some(Duration::from_millis(100)));
    }

    #[test]
    fn the_longest_wait_counts_unless_an_end_is_waited_for() {
        let name = limit(Some(1), Some(Rate::per_second(1)));
        let queue = Limit {
            on: LimitOn::Queue("q".into()),
            concurrency: None,
            rate: Some(Rate::new(2, Duration::from_secs(10))),
        };
        let gates = |running| Gates {
            rooms: vec![Room::new(&name, running, Some(u64::MAX), NOW), Room::new(&queue, 0, Some(u64::MAX), NOW)],
            paused: vec!["p".into()],
        };
        assert_eq!(gates(0).wait(&offer("q", "a")), Some(Duration::from_secs(5)));
        assert_eq!(gates(0).wait(&offer("r", "a")), Some(Duration::from_secs(1)));
        assert_eq!(gates(1).wait(&offer("q", "a")), None);
        assert_eq!(gates(0).wait(&offer("p", "a")), None);
        assert_eq!(gates(0).wait(&offer("r", "b")), None);
        assert!(
            gates(0).lets(&offer("r", "b")) && !gates(0).lets(&offer("r", "a")) && !gates(0).lets(&offer("p", "b"))
        );
        assert!(Gates::default().lets(&offer("q", "a")));
    }

    #[test]
    fn what_runs_counts() {
        let limit = limit(Some(3), None);
        for (running, left) in [(0, 3), (2, 1), (3, 0), (9, 0)] {
            let mut gates = Gates { rooms: vec![Room::new(&limit, running, None, NOW)], paused: Vec::new() };
            let mut started = 0;
            while !gates.is_full(&[0]) {
                gates.start(&[0]);
                started += 1;
            }
            assert_eq!(started, left, "with {running} running");
            assert_eq!(gates.moved().count(), 0);
        }
    }
}
