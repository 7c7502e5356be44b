//! Kills and stops: where each landed, and how soon somebody else went on.

use std::collections::{BTreeMap, HashMap};

use super::super::history::{Entry, History, Kind, Log};
use super::super::orders::{Fault, Moment, Op};
use super::super::values::NOTE_EVERY;
use super::super::witness::{Answer, Line, Said};
use super::log::TICK;
use super::workers::WINDOW;
use super::{Claim, Found, Rule, Told};

/// The promise is lease + scan + 1 s; a machine that runs many processes on few cores gets so much more.
const SLACK: u64 = 3_000_000;
/// Between two lines of the suite, around a signal.
const SIGNAL: u64 = 20_000;
/// What is lost so many milliseconds after a stop inside a transaction is lost because of it.
const CALM: u64 = 5_000;
/// A window with room for fewer than so many events is full: the start of an attempt is one, and a rewind.
const ALMOST: u64 = 4;

/// Where a kill landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    BeforeAppend,
    FullWindow,
    InAppend,
    StoredUnanswered,
    BeforeClaim,
    InClaim,
    ClaimedUnanswered,
    BeforeEnd,
    InEnd,
    EndUnanswered,
    InHeartbeat,
    InReplay,
    Idle,
    /// The process took its own life.
    Itself,
}

/// What a round amounts to. Times in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) kills: BTreeMap<Place, u32>,
    /// Kills of a process that ran a generator at full speed.
    pub(crate) at_full_speed: u32,
    pub(crate) stops_outside: u32,
    pub(crate) stops_inside: u32,
    /// Events that the store acknowledged to their writer.
    pub(crate) acknowledged: u64,
    /// Appends that it refused: what zombies tried.
    pub(crate) refused: u64,
    /// Events that watchers were handed.
    pub(crate) watched: u64,
    /// Rewinds that watchers were told of.
    pub(crate) rewound: u64,
    pub(crate) tasks: u32,
    /// Attempts whose worker lived, but got no time to say so.
    pub(crate) starved: u32,
    /// From a kill or a stop to the loss being recorded.
    pub(crate) taken_over: Vec<u64>,
    /// From a kill to the first new event.
    pub(crate) recovered: Vec<u64>,
}

impl Figures {
    pub(crate) fn add(&mut self, other: Figures) {
        for (place, n) in other.kills {
            *self.kills.entry(place).or_default() += n;
        }
        self.at_full_speed += other.at_full_speed;
        self.stops_outside += other.stops_outside;
        self.stops_inside += other.stops_inside;
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.watched += other.watched;
        self.rewound += other.rewound;
        self.tasks += other.tasks;
        self.starved += other.starved;
        self.taken_over.extend(other.taken_over);
        self.recovered.extend(other.recovered);
    }
}

/// Generators that never wait.
pub(crate) const FULL_SPEED: [&str; 6] = ["steady", "steady_sync", "erratic", "resumed", "restarted", "noted"];

/// A claim that a worker still had when something happened to it, with what came of it.
struct Had<'a> {
    task: u32,
    claim: &'a Claim<'a>,
    log: &'a Log,
    /// Where the log goes on under another epoch.
    next: usize,
}

fn had<'a>(history: &'a History, all: &'a HashMap<u32, Told<'a>>, worker: &str, at: u64) -> Vec<Had<'a>> {
    let mut found = Vec::new();
    for (task, told) in all {
        let Some(log) = history.logs.get(task) else { continue };
        for claim in told.claims.iter().filter(|c| c.worker == worker && c.at <= at) {
            let epoch = claim.held.epoch;
            let next = log.events.partition_point(|e| e.epoch <= epoch);
            let ended = log.events[..next].last().is_some_and(|e| {
                e.epoch == epoch && e.at <= at && (e.kind.is_end() || matches!(e.kind, Kind::Retry { .. }))
            });
            let moved = log.events.get(next).is_some_and(|e| e.at + TICK < at);
            let claimed = told.claims.iter().any(|c| c.held.epoch > epoch && c.sent < at);
            if !ended && !moved && !claimed {
                found.push(Had { task: *task, claim, log, next });
            }
        }
    }
    found
}

pub(super) fn check(history: &History, all: &HashMap<u32, Told<'_>>, found: &mut Found) -> Figures {
    let mut figures = Figures { tasks: u32::try_from(history.tasks.len()).expect("few"), ..Figures::default() };
    let mut stopped: HashMap<&str, u64> = HashMap::new();
    let mut locked = Vec::new();
    for (_, at, said) in history.lines() {
        match said {
            Said::Answered(call, Answer::Stored { .. }) => figures.acknowledged += call.events,
            Said::Answered(_, Answer::Fenced | Answer::Conflict) => figures.refused += 1,
            Said::Seen { .. } | Said::Read { .. } => figures.watched += 1,
            Said::Rewound { .. } => figures.rewound += 1,
            Said::Killed { worker, at: fault, itself } => {
                let had = had(history, all, worker, at);
                let place = if *itself { Place::Itself } else { place(history, worker, *fault, &had) };
                *figures.kills.entry(place).or_default() += 1;
                let name = |task: u32| history.tasks.iter().find(|t| t.number == task).map_or("", |t| t.name);
                figures.at_full_speed += u32::from(!itself && had.iter().any(|h| FULL_SPEED.contains(&name(h.task))));
                taken_over(history, &had, at, true, &mut figures, found);
            }
            Said::Stopped { worker, .. } => drop(stopped.insert(worker, at)),
            Said::Continued { worker, inside } => {
                let since = stopped.remove(worker.as_str()).unwrap_or(at);
                if *inside {
                    figures.stops_inside += 1;
                    nobody_moves(history, (worker, since, at), found);
                    locked.push(at);
                } else {
                    figures.stops_outside += 1;
                    let had = had(history, all, worker, since);
                    taken_over(history, &had, since, false, &mut figures, found);
                }
            }
            _ => {}
        }
    }
    for (task, lost, claim) in for_nothing(history, all) {
        let after = locked.iter().filter(|at| **at <= lost.at).max();
        match after.map(|at| (lost.at - at) / 1000) {
            Some(ms) if ms < CALM => {
                found.add(Rule::FalseCrash, task, format!("{lost:?}, {ms} ms after the store was locked; {claim:?}"));
            }
            _ if lived(history, claim.worker, lost.at) => {
                found.add(Rule::Forgotten, task, format!("{lost:?}, and nothing was done to its worker; {claim:?}"));
            }
            _ => figures.starved += 1,
        }
    }
    figures
}

/// A lost task is re-queued or ended in time.
fn taken_over(history: &History, had: &[Had<'_>], at: u64, killed: bool, figures: &mut Figures, found: &mut Found) {
    for Had { task, log, next, .. } in had {
        // Without one it was all over: its end was stored, and nobody left to hear of it.
        let Some(lost) = log.events.get(*next).filter(|e| e.kind.is_lost()) else { continue };
        let took = lost.at.saturating_sub(at);
        figures.taken_over.push(took);
        if took > history.terms.lease + history.terms.scan + 1_000_000 + SLACK {
            found.add(Rule::Takeover, *task, format!("{took} µs after {at}: {lost:?}"));
        }
        if killed && let Some(event) = log.events.get(next + 1) {
            figures.recovered.push(event.at.saturating_sub(at));
        }
    }
}

/// While a process is stopped inside a transaction nobody writes.
fn nobody_moves(history: &History, (worker, since, until): (&str, u64, u64), found: &mut Found) {
    let inside = since + SIGNAL..until.saturating_sub(SIGNAL);
    for (task, log) in &history.logs {
        if let Some(event) = log.events.iter().find(|e| inside.contains(&e.at)) {
            found.add(Rule::FalseCrash, *task, format!("{event:?} while {worker} was stopped: {since} to {until}"));
        }
    }
}

/// Attempts that were lost though nothing was done to their workers as long as they had them.
fn for_nothing<'a>(history: &'a History, all: &'a HashMap<u32, Told<'a>>) -> Vec<(u32, &'a Entry, &'a Claim<'a>)> {
    // From when to when each was dead or stopped; inside a transaction it keeps what it has.
    let mut hits: Vec<(&str, u64, u64)> = Vec::new();
    for (_, at, said) in history.lines() {
        match said {
            Said::Killed { worker, .. } | Said::Stopped { worker, .. } => hits.push((worker, at, u64::MAX)),
            Said::Continued { worker, inside } => {
                let since = hits.iter().rposition(|(hit, ..)| hit == worker).expect("it was stopped");
                if *inside {
                    hits.remove(since);
                } else {
                    hits[since].2 = at;
                }
            }
            _ => {}
        }
    }
    let mut lost = Vec::new();
    for (task, told) in all {
        let Some(log) = history.logs.get(task) else { continue };
        for claim in &told.claims {
            let next = log.events.partition_point(|e| e.epoch <= claim.held.epoch);
            let event = log.events.get(next).filter(|e| e.kind.is_lost() && e.attempt == claim.held.attempt);
            let hit = |e: &&Entry| {
                hits.iter().any(|(who, since, until)| *who == claim.worker && *since <= e.at && *until >= claim.sent)
            };
            lost.extend(event.filter(|e| !hit(e)).map(|e| (*task, e, claim)));
        }
    }
    lost
}

/// Whether a worker said something in every quarter of a lease before an instant: it had time to do more.
fn lived(history: &History, worker: &str, at: u64) -> bool {
    let lines = history.said.get(worker).map_or(&[][..], Vec::as_slice);
    let quarter = history.terms.lease / 4;
    (1..=4).all(|i| {
        let from = at - i * quarter;
        lines.iter().any(|Line(said, _)| (from..from + quarter).contains(said))
    })
}

fn place(history: &History, worker: &str, fault: Option<Fault>, had: &[Had<'_>]) -> Place {
    let lines = history.said.get(worker).map_or(&[][..], Vec::as_slice);
    match fault {
        Some(Fault { op: Op::Claim, moment, .. }) => {
            return match moment {
                Moment::Before | Moment::Full => Place::BeforeClaim,
                Moment::Inside => Place::InClaim,
                Moment::After => Place::ClaimedUnanswered,
            };
        }
        Some(Fault { op: Op::Extend, .. }) => return Place::InHeartbeat,
        Some(Fault { op: Op::End, moment: Moment::Before, .. }) => return Place::BeforeEnd,
        _ => {}
    }
    let asked = lines.iter().rev().find_map(|Line(_, said)| match said {
        Said::Began(call) => Some(Some(*call)),
        Said::Answered(..) => Some(None),
        _ => None,
    });
    if let Some(call) = asked.flatten() {
        let log = history.logs.get(&call.task);
        let there = log.and_then(|l| l.events.get(usize::try_from(call.after_seq).ok()?));
        let stored = there.is_some_and(|e| e.epoch == call.epoch);
        return match (call.ends, stored) {
            (false, false) => Place::InAppend,
            (false, true) => Place::StoredUnanswered,
            (true, false) => Place::InEnd,
            (true, true) => Place::EndUnanswered,
        };
    }
    if had.is_empty() {
        return Place::Idle;
    }
    // Custom events take their place in the window as well.
    let notes = |h: &Had<'_>| history.tasks.iter().any(|t| t.number == h.task && !t.notes.is_empty());
    let events = |h: &Had<'_>, values: u64| values + if notes(h) { values / NOTE_EVERY } else { 0 };
    let waiting = had.iter().map(|h| events(h, unstored(lines, h))).max().unwrap_or_default();
    match waiting {
        0 => Place::InReplay,
        n if n + ALMOST >= WINDOW as u64 => Place::FullWindow,
        _ => Place::BeforeAppend,
    }
}

/// How many values of an attempt were handled and are not stored.
fn unstored(lines: &[Line], had: &Had<'_>) -> u64 {
    let attempt = had.claim.held.attempt;
    let handled = lines
        .iter()
        .filter(|Line(_, said)| matches!(said, Said::Handled(i) if i.task == had.task && i.attempt == attempt));
    let stored = had.log.events[..had.next]
        .iter()
        .filter(|e| e.epoch == had.claim.held.epoch && matches!(e.kind, Kind::Yield { .. }));
    (handled.count() as u64).saturating_sub(stored.count() as u64)
}
