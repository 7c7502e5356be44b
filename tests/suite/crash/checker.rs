//! The checker: decides from what everybody said and from what the store has, and from nothing else, whether a round
//! kept its promises.

mod log;
mod recovery;
mod watchers;
mod workers;

use std::collections::{BTreeMap, HashMap};

use super::history::History;
use super::orders::Held;
use super::witness::{Answer, Call, Item, Said, Watcher};

pub(crate) use recovery::{Figures, Place};

/// What must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Seqs are 1, 2, 3 … up to the tail.
    Dense,
    /// Every log ends with its end, and its status says the same.
    End,
    /// Nothing comes after an end.
    AfterEnd,
    /// Epochs and attempts only grow: nothing of an old one comes after a newer one.
    OldEpoch,
    /// The values that hold have the indexes 0, 1, 2 …
    Index,
    /// The effective log is what one uninterrupted run gives.
    Effective,
    /// Custom events are there once, in their gaps.
    Notes,
    /// The record says what the log says: yields, rewinds, failures, crashes.
    Record,
    /// A retry waits until it is due.
    Backoff,
    /// The crash budget is kept.
    Budget,
    /// What the store acknowledged is in the log, as it was sent.
    Acknowledged,
    /// An append is in the log wholly or not at all.
    Torn,
    /// What the store refused is not in the log.
    Refused,
    /// Nothing is in the log that nobody sent.
    Unsent,
    /// One claim an epoch; a claim tells where the log ends.
    Claim,
    /// No lease is renewed that somebody else has.
    Zombie,
    /// No lease is taken that still runs.
    Stolen,
    /// Every stored value was made by its body and its handler, in the attempt that stored it.
    Handled,
    /// No handler is called for what the attempt had verified.
    HandledAgain,
    /// No more than the window is repeated after a crash.
    Window,
    /// A watcher sees what is stored, and after it is stored.
    Durable,
    /// In order, without a gap or a double.
    Order,
    /// It sees everything, and the end.
    Complete,
    /// It is told of a rewind if, and only if, that takes something from it.
    Rewound,
    /// A lost task is taken over in time.
    Takeover,
    /// A worker that was stopped inside a transaction loses nothing.
    FalseCrash,
    /// A worker that lives renews what it has.
    Forgotten,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) task: u32,
    pub(crate) told: String,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, rule: Rule, task: u32, told: impl Into<String>) {
        self.0.push(Violation { rule, task, told: told.into() });
    }
}

/// A claim, and who made it.
#[derive(Debug, Clone, Copy)]
struct Claim<'a> {
    worker: &'a str,
    held: Held,
    tail: u64,
    sent: u64,
    at: u64,
}

/// What was said of one task.
#[derive(Debug, Default)]
struct Told<'a> {
    claims: Vec<Claim<'a>>,
    /// Epoch, whether it holds, when it was sent.
    extended: Vec<(u64, bool, u64)>,
    /// By attempt: index and hash.
    yielded: HashMap<u32, Vec<(u64, u64)>>,
    handled: HashMap<u32, Vec<(u64, u64)>>,
    /// Each append once, with the last answer.
    calls: HashMap<Call, Option<Answer>>,
    watched: BTreeMap<(&'a str, Watcher), Vec<(u64, &'a Said)>>,
}

/// Sorts what was said by task. What one process says is in its order.
fn told(history: &History) -> HashMap<u32, Told<'_>> {
    let mut all: HashMap<u32, Told<'_>> = HashMap::new();
    for (who, at, said) in history.lines() {
        match said {
            Said::Yielded(Item { task, attempt, index, hash }) => {
                all.entry(*task).or_default().yielded.entry(*attempt).or_default().push((*index, *hash));
            }
            Said::Handled(Item { task, attempt, index, hash }) => {
                all.entry(*task).or_default().handled.entry(*attempt).or_default().push((*index, *hash));
            }
            Said::Claimed { held, tail, sent } => {
                let claim = Claim { worker: who, held: *held, tail: *tail, sent: *sent, at };
                all.entry(held.task).or_default().claims.push(claim);
            }
            Said::Extended { held, holds, sent } => {
                all.entry(held.task).or_default().extended.push((held.epoch, *holds, *sent));
            }
            Said::Began(call) => {
                all.entry(call.task).or_default().calls.entry(*call).or_default();
            }
            Said::Answered(call, answer) => {
                all.entry(call.task).or_default().calls.insert(*call, Some(*answer));
            }
            Said::Attached { by, task }
            | Said::Seen { by, task, .. }
            | Said::Read { by, task, .. }
            | Said::Rewound { by, task, .. }
            | Said::Closed { by, task, .. } => {
                all.entry(*task).or_default().watched.entry((who, *by)).or_default().push((at, said));
            }
            _ => {}
        }
    }
    for told in all.values_mut() {
        told.claims.sort_by_key(|c| (c.held.epoch, c.at));
    }
    all
}

/// Everything that is wrong with a history, and its figures.
pub(crate) fn check(history: &History) -> (Vec<Violation>, Figures) {
    let mut found = Found::default();
    let all = told(history);
    let nothing = Told::default();
    for task in &history.tasks {
        let Some(log) = history.logs.get(&task.number) else {
            found.add(Rule::End, task.number, "the store does not have it");
            continue;
        };
        let told = all.get(&task.number).unwrap_or(&nothing);
        let effective = log::check(task, log, history.terms, &mut found);
        workers::check(task, log, &effective, told, history.terms, &mut found);
        watchers::check(task, log, &effective, told, &mut found);
    }
    let figures = recovery::check(history, &all, &mut found);
    (found.0, figures)
}
