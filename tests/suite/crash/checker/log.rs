//! A log by itself, and against what is expected of its task.

use qtasks::Status;

use super::super::history::{End, Entry, Kind, Log, Mode, Task, Terms};
use super::{Found, Rule};

/// The values that hold: hash of the item, and what is stored.
pub(super) type Effective = Vec<(u64, u64)>;

/// Stamps are of milliseconds, in microseconds.
pub(super) const TICK: u64 = 1_000;

pub(super) fn check(task: &Task, log: &Log, terms: Terms, found: &mut Found) -> Effective {
    order(task, log, found);
    let (effective, notes) = fold(task, log, found);
    budgets(task, log, terms, found);
    if task.notes.iter().take_while(|gap| **gap < effective.len() as u64).ne(&notes) {
        let told = format!("{} custom events hold, of {}", notes.len(), task.notes.len());
        found.add(Rule::Notes, task.number, told);
    }
    let rewinds = log.events.iter().filter_map(|e| match e.kind {
        Kind::Rewind { to } => Some((e.seq, to)),
        _ => None,
    });
    if log.yields != effective.len() as u64 || rewinds.ne(log.rewinds.iter().copied()) {
        let told = format!("{} values hold, the record says {}; {:?}", effective.len(), log.yields, log.rewinds);
        found.add(Rule::Record, task.number, told);
    }
    expected(task, log, &effective, found);
    effective
}

fn order(task: &Task, log: &Log, found: &mut Found) {
    let n = task.number;
    for (i, event) in log.events.iter().enumerate() {
        if event.seq != i as u64 + 1 {
            found.add(Rule::Dense, n, format!("seq {} at place {}", event.seq, i + 1));
            break;
        }
    }
    if log.tail != log.events.len() as u64 {
        found.add(Rule::Dense, n, format!("the tail is {}, of {} events", log.tail, log.events.len()));
    }
    for pair in log.events.windows(2) {
        let [before, after] = pair else { unreachable!("of two") };
        if after.epoch < before.epoch || after.attempt < before.attempt {
            found.add(Rule::OldEpoch, n, format!("{after:?} after {before:?}"));
        }
        if before.kind.is_end() {
            found.add(Rule::AfterEnd, n, format!("{after:?} after {before:?}"));
        }
    }
    let said = match log.events.last().map(|e| e.kind) {
        Some(Kind::Completed) => Some(Status::Completed),
        Some(Kind::Failed { .. }) => Some(Status::Failed),
        Some(Kind::Cancelled) => Some(Status::Cancelled),
        _ => None,
    };
    if said != Some(log.status) {
        found.add(Rule::End, n, format!("{} after {:?}", log.status, log.events.last()));
    }
}

/// What holds, of values and of custom events.
fn fold(task: &Task, log: &Log, found: &mut Found) -> (Effective, Vec<u64>) {
    let (mut values, mut notes) = (Effective::new(), Vec::new());
    for event in &log.events {
        match event.kind {
            Kind::Yield { index, hash, value } => {
                if index != values.len() as u64 {
                    found.add(Rule::Index, task.number, format!("{event:?} after {} values", values.len()));
                }
                values.push((hash, value));
            }
            Kind::Note { gap } => notes.push(gap),
            Kind::Rewind { to } => {
                if to > values.len() as u64 {
                    found.add(Rule::Index, task.number, format!("{event:?} after {} values", values.len()));
                }
                values.truncate(usize::try_from(to).expect("small"));
                notes.retain(|gap| *gap <= to);
            }
            _ => {}
        }
    }
    // An attempt may add to an early gap late in the log.
    notes.sort_unstable();
    (values, notes)
}

/// The values that hold when the log has only so many events.
pub(super) fn held_at(events: &[Entry]) -> Effective {
    let mut values = Effective::new();
    for event in events {
        match event.kind {
            Kind::Yield { hash, value, .. } => values.push((hash, value)),
            Kind::Rewind { to } => values.truncate(usize::try_from(to).expect("small")),
            _ => {}
        }
    }
    values
}

/// Failures and crashes as the log tells of them; no retry before it is due.
fn budgets(task: &Task, log: &Log, terms: Terms, found: &mut Found) {
    let (mut failures, mut crashes, mut high, mut due) = (0, 0, 0, 0);
    for event in &log.events {
        match event.kind {
            Kind::Yield { index, .. } if index >= high => {
                high = index + 1;
                crashes = 0;
            }
            Kind::Retry { lost: true, .. } => {
                crashes += 1;
                if crashes > terms.crashes_max {
                    found.add(Rule::Budget, task.number, format!("{event:?} is crash {crashes} in a row"));
                }
            }
            Kind::Retry { lost: false, due: at } => {
                failures += 1;
                due = at;
            }
            Kind::Failed { lost: true } => {
                crashes += 1;
                if crashes <= terms.crashes_max {
                    found.add(Rule::Budget, task.number, format!("{event:?} is only crash {crashes} in a row"));
                }
            }
            Kind::Started if event.at + TICK < due => {
                found.add(Rule::Backoff, task.number, format!("{event:?} before {due}"));
            }
            _ => {}
        }
    }
    if (log.failures, log.crashes) != (failures, crashes) {
        let told = format!(
            "{} failures and {} crashes in a row, the log says {failures} and {crashes}",
            log.failures, log.crashes
        );
        found.add(Rule::Record, task.number, told);
    }
}

fn expected(task: &Task, log: &Log, effective: &Effective, found: &mut Found) {
    let n = task.number;
    let ended = match task.end {
        End::Completed => log.status == Status::Completed,
        End::Cancelled => log.status == Status::Cancelled,
        End::Lost => log.events.last().is_some_and(|e| e.kind.is_lost() && e.kind.is_end()),
    };
    if !ended {
        found.add(Rule::End, n, format!("`{}` ended {} with {:?}", task.name, log.status, log.events.last()));
    }
    if log.final_value != task.final_value && task.mode == Mode::Plain {
        found.add(Rule::Effective, n, format!("it returned {:?}, not {:?}", log.final_value, task.final_value));
    }
    let Some(values) = &task.values else { return };
    // Of a task that was cancelled those count that there are.
    let values = if task.end == End::Cancelled { &values[..values.len().min(effective.len())] } else { values };
    if effective != values {
        let at = effective.iter().zip(values).position(|(a, b)| a != b);
        let told =
            format!("`{}`: {} values of {}, the first difference at {at:?}", task.name, effective.len(), values.len());
        found.add(Rule::Effective, n, told);
    }
}
