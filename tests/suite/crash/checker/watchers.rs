//! What watchers were handed, against the log.

use std::collections::HashMap;

use super::super::history::{Kind, Log, Task};
use super::super::witness::{Said, Watcher};
use super::log::{Effective, TICK};
use super::{Found, Rule, Told};

/// Watchers are told the time by another clock than the store only in that it has finer ticks.
const EARLY: u64 = 2 * TICK;

pub(super) fn check(task: &Task, log: &Log, effective: &Effective, told: &Told<'_>, found: &mut Found) {
    // When a value at an index was first stored, whether it holds or not.
    let mut stored: HashMap<(u64, u64), u64> = HashMap::new();
    for event in &log.events {
        if let Kind::Yield { index, value, .. } = event.kind {
            stored.entry((index, value)).or_insert(event.at);
        }
    }
    for ((_, by), lines) in &told.watched {
        match by {
            Watcher::Live | Watcher::Slow | Watcher::Late => values(task, log, effective, &stored, (*by, lines), found),
            Watcher::Events | Watcher::Returning => events(task, log, (*by, lines), found),
        }
    }
}

/// One who reads the values that hold.
fn values(
    task: &Task,
    log: &Log,
    effective: &Effective,
    stored: &HashMap<(u64, u64), u64>,
    (by, lines): (Watcher, &Vec<(u64, &Said)>),
    found: &mut Found,
) {
    let n = task.number;
    let mut had: Vec<u64> = Vec::new();
    let mut over = false;
    for (at, said) in lines {
        match said {
            Said::Seen { value, .. } => {
                let index = had.len() as u64;
                had.push(*value);
                match stored.get(&(index, *value)) {
                    Some(stored) if at + EARLY < *stored => {
                        found.add(Rule::Durable, n, format!("{by:?} saw value {index} at {at}, stored at {stored}"));
                    }
                    Some(_) => {}
                    None if stored.keys().any(|(_, v)| v == value) => {
                        found.add(Rule::Order, n, format!("{by:?} saw {value} as value {index}"));
                    }
                    None => {
                        found.add(Rule::Durable, n, format!("{by:?} saw {value} as value {index}: it is not there"))
                    }
                }
            }
            Said::Rewound { to, seq, .. } => {
                let there = usize::try_from(*seq).ok().and_then(|s| log.events.get(s.checked_sub(1)?));
                let is_so = there.is_some_and(|e| e.kind == Kind::Rewind { to: *to });
                if !is_so || *to >= had.len() as u64 || by == Watcher::Late {
                    let told = format!("{by:?} had {} values and was told to keep {to}, at {there:?}", had.len());
                    found.add(Rule::Rewound, n, told);
                }
                had.truncate(usize::try_from(*to).expect("small"));
            }
            Said::Closed { error, .. } => {
                over = true;
                let well = log.events.last().is_some_and(|e| e.kind == Kind::Completed);
                if error.as_deref() != (if well { None } else { Some("ended") }) {
                    found.add(Rule::Complete, n, format!("{by:?} was told {error:?} in the end"));
                }
            }
            _ => {}
        }
    }
    if !over || had.iter().ne(effective.iter().map(|(_, value)| value)) {
        let told = format!("{by:?} has {} values of {}, the end: {over}", had.len(), effective.len());
        found.add(Rule::Complete, n, told);
    }
}

/// One who reads the log as it is.
fn events(task: &Task, log: &Log, (by, lines): (Watcher, &Vec<(u64, &Said)>), found: &mut Found) {
    let n = task.number;
    let (mut next, mut over) = (1, false);
    for (at, said) in lines {
        match said {
            Said::Read { seq, sum, .. } => {
                if *seq != next {
                    found.add(Rule::Order, n, format!("{by:?} read {seq} where {next} was to come"));
                }
                next = seq + 1;
                let there = usize::try_from(*seq).ok().and_then(|s| log.events.get(s.checked_sub(1)?));
                match there.filter(|e| e.sum == *sum) {
                    Some(event) if at + EARLY < event.at => {
                        found.add(Rule::Durable, n, format!("{by:?} read {seq} at {at}, stored at {}", event.at));
                    }
                    Some(_) => {}
                    None => found.add(Rule::Durable, n, format!("{by:?} read another {seq} than {there:?}")),
                }
            }
            Said::Closed { error, .. } => {
                over = true;
                if let Some(error) = error {
                    found.add(Rule::Complete, n, format!("{by:?} was told {error} in the end"));
                }
            }
            _ => {}
        }
    }
    if !over || next != log.events.len() as u64 + 1 {
        found.add(Rule::Complete, n, format!("{by:?} read up to {next} of {}, the end: {over}", log.events.len()));
    }
}
