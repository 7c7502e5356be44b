//! What workers said, against the log: claims, appends, leases, bodies and handlers.

use std::collections::{HashMap, HashSet};

use super::super::history::{Entry, Kind, Log, Mode, Task, Terms};
use super::super::values::digests;
use super::super::witness::{Answer, Call};
use super::log::{Effective, TICK, held_at};
use super::{Found, Rule, Told};

/// How many events of a task may be on their way to the store.
pub(super) const WINDOW: usize = 1024;

pub(super) fn check(task: &Task, log: &Log, effective: &Effective, told: &Told<'_>, terms: Terms, found: &mut Found) {
    claims(task, log, told, found);
    leases(task, log, told, terms, found);
    appends(task, log, told, found);
    unsent(task, log, told, found);
    bodies(task, log, effective, told, found);
    handlers(task, log, told, found);
}

fn claims(task: &Task, log: &Log, told: &Told<'_>, found: &mut Found) {
    for pair in told.claims.windows(2) {
        let [before, after] = pair else { unreachable!("of two") };
        // The same token may have been sent twice.
        let again = before.held == after.held && before.worker == after.worker;
        if !again && (after.held.epoch == before.held.epoch || after.held.attempt <= before.held.attempt) {
            found.add(Rule::Claim, task.number, format!("{after:?} after {before:?}"));
        }
    }
    for claim in &told.claims {
        let epoch = claim.held.epoch;
        let tail = log.events.partition_point(|e| e.epoch < epoch) as u64;
        // With an epoch of its own: the log goes on from there under this one, or not at all.
        if claim.tail != tail || claim.held.attempt > log.attempt {
            found.add(Rule::Claim, task.number, format!("{claim:?}, but the log had {tail} events"));
        }
    }
}

/// Nobody renews what is somebody else's, and nobody takes what still runs.
fn leases(task: &Task, log: &Log, told: &Told<'_>, terms: Terms, found: &mut Found) {
    for (epoch, holds, sent) in &told.extended {
        let newer = told.claims.iter().find(|c| c.held.epoch > *epoch && c.at < *sent);
        if *holds && let Some(newer) = newer {
            found.add(Rule::Zombie, task.number, format!("a lease of epoch {epoch} was renewed after {newer:?}"));
        }
    }
    for (i, lost) in log.events.iter().enumerate().filter(|(_, e)| e.kind.is_lost()) {
        let newer = log.events[..i].last().map_or(0, |e| e.epoch);
        // Of the epoch that was lost: of the claim before this event.
        let claim = told.claims.iter().rev().find(|c| c.held.epoch < lost.epoch && c.held.epoch >= newer);
        let Some(claim) = claim else { continue };
        let renewed = told.extended.iter().filter(|(e, holds, _)| *e == claim.held.epoch && *holds);
        let sent = renewed.map(|(_, _, sent)| *sent).chain([claim.sent]).max().expect("there is the claim");
        if lost.at + TICK < sent + terms.lease {
            let left = sent + terms.lease - lost.at;
            found.add(Rule::Stolen, task.number, format!("{lost:?}: the lease had {left} µs left"));
        }
    }
}

/// The events that an append would be.
fn place<'a>(call: &Call, log: &'a Log) -> Option<&'a [Entry]> {
    let from = usize::try_from(call.after_seq).ok()?;
    log.events.get(from..from.checked_add(usize::try_from(call.events).ok()?)?)
}

fn is_there(call: &Call, log: &Log) -> bool {
    place(call, log).is_some_and(|events| {
        let steady = events.len() - usize::from(call.ends);
        events.iter().all(|e| e.epoch == call.epoch)
            && digests(events.iter().take(steady).map(|e| e.digest)) == call.digest
    })
}

fn appends(task: &Task, log: &Log, told: &Told<'_>, found: &mut Found) {
    for (call, answer) in &told.calls {
        let first = usize::try_from(call.after_seq).ok().and_then(|at| log.events.get(at));
        let begun = first.is_some_and(|e| e.epoch == call.epoch);
        match answer {
            Some(Answer::Stored { tail }) => {
                if *tail != call.after_seq + call.events || !is_there(call, log) {
                    found.add(Rule::Acknowledged, task.number, format!("{call:?}, but there is {first:?}"));
                }
            }
            Some(Answer::Fenced | Answer::Conflict) if begun && is_there(call, log) => {
                found.add(Rule::Refused, task.number, format!("{call:?}"));
            }
            Some(Answer::Fenced | Answer::Conflict) => {}
            Some(Answer::Failed) | None => {
                if begun && !is_there(call, log) {
                    found.add(Rule::Torn, task.number, format!("{call:?}, but there is {first:?}"));
                }
            }
        }
    }
}

/// Every event of a worker is one that it sent, there and under that epoch.
fn unsent(task: &Task, log: &Log, told: &Told<'_>, found: &mut Found) {
    let mut sent: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
    for call in told.calls.keys() {
        sent.entry(call.epoch).or_default().push((call.after_seq, call.after_seq + call.events));
    }
    sent.values_mut().for_each(|calls| calls.sort_unstable());
    for event in &log.events {
        // A cancel may be the store's own.
        if event.kind.is_lost() || event.kind == Kind::Cancelled {
            continue;
        }
        let calls = sent.get(&event.epoch).map_or(&[][..], Vec::as_slice);
        let i = calls.partition_point(|(after, _)| *after < event.seq);
        if i == 0 || calls[i - 1].1 < event.seq {
            found.add(Rule::Unsent, task.number, format!("{event:?}"));
        }
    }
}

/// The attempt that came to the end yielded what holds.
fn bodies(task: &Task, log: &Log, effective: &Effective, told: &Told<'_>, found: &mut Found) {
    for (attempt, yielded) in &told.yielded {
        if yielded.windows(2).any(|pair| pair[1].0 != pair[0].0 + 1) {
            found.add(Rule::Handled, task.number, format!("the body of attempt {attempt} leaves out an index"));
        }
    }
    let Some(last) = log.events.last().filter(|e| e.kind == Kind::Completed) else { return };
    if task.mode == Mode::Plain || effective.is_empty() {
        return;
    }
    let none = Vec::new();
    let yielded = told.yielded.get(&last.attempt).unwrap_or(&none);
    let from = match task.mode {
        Mode::Resume => yielded.first().map_or(effective.len(), |(index, _)| usize::try_from(*index).expect("small")),
        _ => 0,
    };
    let held = effective.iter().map(|(hash, _)| *hash).skip(from);
    if held.ne(yielded.iter().map(|(_, hash)| *hash)) {
        let told = format!("attempt {} yielded {} values, not those that hold", last.attempt, yielded.len());
        found.add(Rule::Effective, task.number, told);
    }
}

fn handlers(task: &Task, log: &Log, told: &Told<'_>, found: &mut Found) {
    let none = HashSet::new();
    let handled: HashMap<u32, HashSet<(u64, u64)>> =
        told.handled.iter().map(|(attempt, items)| (*attempt, items.iter().copied().collect())).collect();
    let mut stored: HashMap<u32, usize> = HashMap::new();
    for event in &log.events {
        let Kind::Yield { index, hash, .. } = event.kind else { continue };
        *stored.entry(event.attempt).or_default() += 1;
        if !handled.get(&event.attempt).unwrap_or(&none).contains(&(index, hash)) {
            found.add(Rule::Handled, task.number, format!("no handler was called for {event:?}"));
        }
    }
    for (attempt, items) in &handled {
        let repeated = items.len().saturating_sub(stored.get(attempt).copied().unwrap_or_default());
        if repeated > WINDOW + 1 {
            let told = format!("attempt {attempt} handled {repeated} values that it did not store");
            found.add(Rule::Window, task.number, told);
        }
    }
    if task.mode != Mode::Replay {
        return;
    }
    for claim in &told.claims {
        let attempt = claim.held.attempt;
        let (Some(yielded), Some(handled)) = (told.yielded.get(&attempt), handled.get(&attempt)) else { continue };
        let before = held_at(&log.events[..usize::try_from(claim.tail).expect("small").min(log.events.len())]);
        let verified = before.iter().zip(yielded).take_while(|((hash, _), (_, mine))| hash == mine).count() as u64;
        if let Some((index, _)) = handled.iter().find(|(index, _)| *index < verified) {
            let told = format!("attempt {attempt} had verified {verified} values, and handled {index} again");
            found.add(Rule::HandledAgain, task.number, told);
        }
    }
}
