//! [`State`]: what is stored of a schedule, and how it goes from one run to the next. Pure.
//!
//! Invariant: at most one run is ahead. It is named in the document before it is added, so that whoever reads the
//! document knows every run that can still start.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CatchUp;
use super::when::{Times, When};
use crate::error::{Error, Result};
use crate::store::{Due, NewTask};
use crate::task::time::{from_ms, to_ms};
use crate::task::{TaskId, TaskRecord};

/// Each run bears this and the name of its schedule as a tag.
pub(crate) const TAG: &str = "schedule:";

/// A run that may not be late starts within so many milliseconds, or before the next one is due.
const LATE_MAX_MS: u64 = 60_000;

/// A store's clock that was turned back by less than the time between two runs, within these limits in milliseconds,
/// changes no plan: a run at the same instant would come twice. The upper one is that of Vixie cron.
const BACK_MIN_MS: u64 = 5_000;
const BACK_MAX_MS: u64 = 3 * 3_600_000;

/// Whether the clock has been turned back since it showed a time, with runs as far apart as those at an instant.
fn is_turned_back(times: &Times, instant: u64, shown: u64, now: u64) -> bool {
    let spacing = times.next(instant).map_or(0, |next| next.saturating_sub(instant));
    shown.saturating_sub(now) > spacing.clamp(BACK_MIN_MS, BACK_MAX_MS)
}

/// What was asked for. Two that are equal are the same schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Definition {
    pub(crate) when: When,
    pub(crate) starting: Option<u64>,
    pub(crate) repeats: Option<u64>,
    pub(crate) catch_up: CatchUp,
    pub(crate) overlap: bool,
    /// What each run is made from.
    pub(crate) task: NewTask,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) definition: Definition,
    /// It stands in the attribute of a task function.
    pub(crate) declared: bool,
    /// Part of the keys of runs: those from before a change must not stand in the way of those after it.
    pub(crate) generation: u32,
    pub(crate) paused: bool,
    pub(crate) removed: bool,
    pub(crate) over: bool,
    /// The run that is ahead.
    pub(crate) next: Option<Firing>,
    /// Runs that are to be cancelled unless they have started.
    pub(crate) stale: Vec<Firing>,
    pub(crate) runs: u64,
    /// The instant of the last run that was started.
    pub(crate) last: Option<u64>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Firing {
    pub(crate) at: u64,
    pub(crate) id: TaskId,
    /// When it was found, by the store's clock if it is not guessed.
    from: u64,
    /// Found by the clock of a process: it is held until the store has said what time it is.
    pub(crate) guessed: bool,
}

fn generation() -> u32 {
    let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
    u32::try_from(random >> 32).expect("the upper half of 64 bits")
}

/// Whether a run can't be taken back any more.
pub(crate) fn has_begun(record: &TaskRecord) -> bool {
    record.started_at.is_some() || record.status.is_ended()
}

impl Definition {
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for times that can't be read, or never come.
    pub(crate) fn check(&self) -> Result<()> {
        let times = self.times()?;
        if self.repeats == Some(0) {
            return Err(Error::invalid("`.repeats(0)` would run nothing: it takes at least 1"));
        }
        if self.catch_up == (CatchUp::All { max: 0 }) {
            return Err(Error::invalid("`CatchUp::All { max: 0 }` catches up nothing: there is `CatchUp::Skip`"));
        }
        match times.first(self.starting.unwrap_or(0)) {
            Some(_) => Ok(()),
            None => Err(Error::invalid(format!("`{}` never comes", self.when))),
        }
    }

    fn times(&self) -> Result<Times> {
        self.when.times(self.starting)
    }
}

impl State {
    pub(crate) fn new(definition: Definition, declared: bool) -> Self {
        State {
            definition,
            declared,
            generation: generation(),
            paused: false,
            removed: false,
            over: false,
            next: None,
            stale: Vec::new(),
            runs: 0,
            last: None,
        }
    }

    /// Becomes another schedule under the same name.
    pub(crate) fn define(&mut self, definition: Definition, declared: bool) {
        self.declared = declared;
        if self.definition != definition || self.removed {
            self.take_back();
            (self.definition, self.removed, self.over, self.runs) = (definition, false, false, 0);
        }
    }

    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    pub(crate) fn resume(&mut self) {
        if std::mem::take(&mut self.paused) {
            self.take_back();
        }
    }

    /// The run that is ahead is to be cancelled, and does not stand in the way of another at its instant.
    pub(crate) fn take_back(&mut self) {
        self.stale.extend(self.next.take());
        self.generation = generation();
    }

    /// Whether it wants a run to be ahead.
    pub(crate) fn is_on(&self) -> bool {
        !(self.paused || self.removed || self.over)
    }

    /// Whether there is nothing to do before its run begins.
    pub(crate) fn waits_for(&self, record: Option<&TaskRecord>) -> bool {
        if !self.stale.is_empty() || self.removed {
            return false;
        }
        match &self.next {
            None => !self.is_on(),
            Some(next) => self.is_on() && !next.guessed && record.is_some_and(|r| !self.is_done_with(r)),
        }
    }

    /// Whether the run that is ahead is further ahead than the schedule allows: it was planned by a clock that has been
    /// turned back since.
    pub(crate) fn is_too_far(&self, now: u64) -> bool {
        let Some(next) = self.next.as_ref().filter(|next| !next.guessed) else { return false };
        let Ok(times) = self.definition.times() else { return false };
        let shown = next.from.max(self.last.unwrap_or(0));
        is_turned_back(&times, next.at, shown, now) && times.first(now).is_some_and(|at| at < next.at)
    }

    /// Whether the run after this one can be found.
    pub(crate) fn is_done_with(&self, record: &TaskRecord) -> bool {
        if self.definition.overlap { has_begun(record) } else { record.status.is_ended() }
    }

    /// Finds the first run, by a clock that may not be the store's.
    pub(crate) fn begin(&mut self, now: u64) -> Result<()> {
        let first = self.first(now, true)?;
        self.go_to(first);
        Ok(())
    }

    /// The store has stamped the guessed run: whether the guess holds. If not, another takes its place.
    pub(crate) fn confirm(&mut self, created: u64) -> Result<bool> {
        let Some(guess) = self.next.clone() else { return Ok(false) };
        let first = self.first(created, false)?;
        if let Some(first) = first.as_ref().filter(|first| first.at == guess.at) {
            self.next = Some(Firing { id: guess.id, ..first.clone() });
            return Ok(true);
        }
        self.take_back();
        self.go_to(first);
        Ok(false)
    }

    fn first(&self, now: u64, guessed: bool) -> Result<Option<Firing>> {
        let times = self.definition.times()?;
        let last = self.last.filter(|last| !is_turned_back(&times, *last, *last, now));
        let at = times.first(now.max(last.unwrap_or(0)));
        let too_late = |at: &u64| self.definition.catch_up == CatchUp::Skip && at + LATE_MAX_MS < now;
        let at = at.filter(|at| guessed || !too_late(at));
        Ok(at.map(|at| Firing { at, id: TaskId::new(), from: now, guessed }))
    }

    fn go_to(&mut self, next: Option<Firing>) {
        self.over = next.is_none();
        self.next = next;
    }

    /// The run has begun, or ended without: counts it, and finds the one after it.
    pub(crate) fn advance(&mut self, record: &TaskRecord) -> Result<()> {
        let Some(done) = self.next.take() else { return Ok(()) };
        if record.started_at.is_some() {
            self.runs += 1;
            self.last = Some(done.at);
        }
        if self.definition.repeats.is_some_and(|repeats| self.runs >= repeats) {
            self.over = true;
            return Ok(());
        }
        let begun = record.started_at.filter(|_| self.definition.overlap).or(record.completed_at);
        let now = begun.map_or(done.at, to_ms).max(done.at);
        let times = self.definition.times()?;
        let missed = match self.definition.catch_up {
            CatchUp::All { max } => times.last_between(done.at, now, max).first().copied(),
            CatchUp::Skip | CatchUp::One => None,
        };
        let at = missed.or_else(|| times.next(now));
        self.go_to(at.map(|at| Firing { at, id: TaskId::new(), from: now, guessed: false }));
        Ok(())
    }

    /// The task of a run.
    pub(crate) fn task(&self, name: &str, firing: &Firing) -> Result<NewTask> {
        let ahead = Duration::from_millis(firing.at.saturating_sub(firing.from));
        let skip = self.definition.catch_up == CatchUp::Skip;
        let late = match self.definition.times()?.next(firing.at) {
            Some(following) => LATE_MAX_MS.min(following - firing.at),
            None => LATE_MAX_MS,
        };
        let late = skip.then_some(Duration::from_millis(late));
        let template = &self.definition.task;
        let expires = template.expires.into_iter().chain(late).min();
        let mut task = NewTask {
            id: firing.id,
            due: Due::At(from_ms(firing.at)),
            held: firing.guessed,
            expires: expires.map(|expires| ahead + expires),
            idempotency_key: Some(format!("cron:{name}:{:08x}:{}", self.generation, firing.at)),
            ..template.clone()
        };
        // Of a run that is late, nothing else tells which instant it is for.
        let due = humantime::format_rfc3339(from_ms(firing.at));
        task.tags.extend([format!("{TAG}{name}"), format!("due:{due}")]);
        Ok(task)
    }
}
