//! Schedules: tasks that are added by themselves, at times of day, at regular intervals, or once.
//!
//! A schedule is a document of the store, and so belongs to no process: as long as any worker runs, its tasks are
//! added. One at a time, and ahead of its time: the next run is stored as a delayed task, so that the store's clock
//! decides when it starts, and when it has started, the one after it is stored. Whatever the number of workers, there is
//! one run per instant.
//!
//! # Times of day, and clocks that are changed
//!
//! An expression such as `30 2 * * *` names times of day. Where the clocks leave 02:30 out, it runs once, at the moment
//! they are changed; where 02:30 comes twice, it runs the first time. An expression with `*` or a step in its minutes or
//! hours, such as `*/15 * * * *`, runs through real time instead: every quarter of an hour, whatever the clocks do.
//!
//! Time zones are those of the database that this version was built with, so that all workers agree.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::add_task::{AddTask, Plain};
use crate::app::{Core, Qtasks};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Due, NewTask};
use crate::task::time::{from_ms, to_ms};
use crate::task::{NAME_BYTES_MAX, TaskFn, TaskId, check_name};

mod declared;
mod state;
mod tend;
mod when;

pub(crate) use declared::{check, declare};
pub(crate) use state::TAG;
pub(crate) use tend::keep;

use state::{Definition, State};
use when::When;

/// The longest name of a schedule: it is part of a tag and of a key.
const SCHEDULE_BYTES_MAX: usize = NAME_BYTES_MAX - 32;

/// What becomes of the runs that a schedule has missed, because no worker was there or none was free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CatchUp {
    /// They are left out. A run that could not start within a minute, or before the next one is due, is cancelled.
    Skip,
    /// However many they are, they become one run, as soon as there is a worker. The default.
    #[default]
    One,
    /// Each is done, one after the other.
    All {
        /// At most so many: the last ones.
        max: usize,
    },
}

/// A schedule about to be stored: made by [`app.schedule(…)`](Qtasks::schedule). Say when it runs, then await it.
#[must_use = "a schedule is stored when this is awaited"]
pub struct AddSchedule {
    core: Arc<Core>,
    name: String,
    task: Plain,
    when: Vec<Result<When>>,
    timezone: Option<String>,
    starting: Option<SystemTime>,
    repeats: Option<u64>,
    catch_up: CatchUp,
    overlap: bool,
}

impl fmt::Debug for AddSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddSchedule").field("name", &self.name).field("when", &self.when).finish_non_exhaustive()
    }
}

impl AddSchedule {
    /// Runs at times of day: minute, hour, day of the month, month, day of the week, as in `"0 9 * * Mon-Fri"`; with
    /// seconds before them if there are six. In UTC, unless [`timezone`](Self::timezone) says otherwise.
    pub fn cron(mut self, expression: impl Into<String>) -> Self {
        self.when.push(Ok(When::Cron { expression: expression.into(), timezone: "UTC".to_owned() }));
        self
    }

    /// The time zone of [`cron`](Self::cron), such as `"Europe/Berlin"`. Defaults to UTC.
    pub fn timezone(mut self, name: impl Into<String>) -> Self {
        self.timezone = Some(name.into());
        self
    }

    /// Runs at regular intervals of at least 100 ms, counted from 1970 in UTC, or from [`starting`](Self::starting):
    /// every 30 s is at each full and half minute.
    pub fn every(mut self, period: Duration) -> Self {
        self.when.push(When::every(period));
        self
    }

    /// Runs at one instant; at once, if that is over.
    pub fn once(mut self, at: SystemTime) -> Self {
        self.when.push(Ok(When::Once { at: to_ms(at) }));
        self
    }

    /// Ends the schedule after so many runs. Defaults to any number.
    pub fn repeats(mut self, runs: u64) -> Self {
        self.repeats = Some(runs);
        self
    }

    /// Runs at this instant at the earliest.
    pub fn starting(mut self, at: SystemTime) -> Self {
        self.starting = Some(at);
        self
    }

    /// What becomes of missed runs. Defaults to [`CatchUp::One`].
    pub fn catch_up(mut self, policy: CatchUp) -> Self {
        self.catch_up = policy;
        self
    }

    /// Whether a run may start while the one before it is unfinished. If not, those that are due by then count as
    /// missed. Defaults to true.
    pub fn overlap(mut self, overlap: bool) -> Self {
        self.overlap = overlap;
        self
    }

    async fn store(self) -> Result<ScheduleHandle> {
        let AddSchedule { core, name, task, when, timezone, starting, repeats, catch_up, overlap } = self;
        let wrong = |e: &Error| Error::new(e.kind(), format!("the schedule `{name}`: {e}"));
        check_schedule_name(&name)?;
        let when = one_time(when, timezone).map_err(|e| wrong(&e))?;
        let task = task.into_new(&core, None).await?;
        core.check(&task)?;
        let task = template(task).map_err(|e| wrong(&e))?;
        let definition = Definition { when, starting: starting.map(to_ms), repeats, catch_up, overlap, task };
        definition.check().map_err(|e| wrong(&e))?;
        if core.is_closed() {
            return Err(core.life.closed());
        }
        tend::define(&*core.store, &name, &definition, false).await?;
        Ok(ScheduleHandle { core, name })
    }
}

impl IntoFuture for AddSchedule {
    type Output = Result<ScheduleHandle>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.store())
    }
}

/// The one time that was given.
fn one_time(mut when: Vec<Result<When>>, timezone: Option<String>) -> Result<When> {
    let found = match (when.pop(), when.is_empty()) {
        (Some(when), true) => when?,
        (Some(_), false) => return Err(Error::invalid("it runs by one of `.cron`, `.every` and `.once`")),
        (None, _) => return Err(Error::invalid("it does not say when: add `.cron(…)`, `.every(…)` or `.once(…)`")),
    };
    match (found, timezone) {
        (When::Cron { expression, .. }, Some(timezone)) => Ok(When::Cron { expression, timezone }),
        (_, Some(_)) => Err(Error::invalid("`.timezone` goes with `.cron`: other times are the same everywhere")),
        (found, None) => Ok(found),
    }
}

/// What each run is made from: the schedule says when it is due, and under which key.
fn template(task: NewTask) -> Result<NewTask> {
    let given = [
        ("`.delay` or `.at`", task.due != Due::Now),
        ("`.held`", task.held),
        ("`.idempotency_key`", task.idempotency_key.is_some()),
        ("`.unique`", task.unique.is_some()),
        ("`.traceparent`", task.trace.is_some()),
    ];
    if let Some((what, _)) = given.into_iter().find(|(_, given)| *given) {
        let way_out = "leave it out; there are `.starting` and `.overlap(false)`";
        return Err(Error::invalid(format!("its task sets {what}, which the schedule does itself: {way_out}")));
    }
    Ok(NewTask { id: TaskId::none(), parent: None, trace: None, ..task })
}

fn check_schedule_name(name: &str) -> Result<()> {
    check_name("name of the schedule", name)?;
    if name.len() > SCHEDULE_BYTES_MAX {
        let bytes = name.len();
        let message =
            format!("the name of the schedule {name:?} has {bytes} bytes: it takes at most {SCHEDULE_BYTES_MAX}");
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// A schedule as it stands: see [`Qtasks::schedules`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// Its name. That of a task function whose attribute says when it runs is the name of the task.
    pub name: String,
    /// The name of the task function that it runs.
    pub task: String,
    /// When it runs, in words.
    pub when: String,
    /// The instant of the next run, or of the one that is to start just now; `None` of one that is paused or over.
    pub next: Option<SystemTime>,
    /// The instant of the last run that was started.
    pub last: Option<SystemTime>,
    /// How many runs were started.
    pub runs: u64,
    /// Whether it waits for [`resume`](ScheduleHandle::resume).
    pub paused: bool,
}

impl Schedule {
    fn of(name: &str, state: State) -> Self {
        Schedule {
            name: name.to_owned(),
            task: state.definition.task.name,
            when: state.definition.when.to_string(),
            next: state.next.filter(|_| !state.paused).map(|firing| from_ms(firing.at)),
            last: state.last.map(from_ms),
            runs: state.runs,
            paused: state.paused,
        }
    }
}

/// A schedule that is stored, or was: see [`Qtasks::schedule_handle`].
#[derive(Debug, Clone)]
pub struct ScheduleHandle {
    core: Arc<Core>,
    name: String,
}

impl ScheduleHandle {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn record(&self) -> Result<Schedule> {
        let found = tend::load(&*self.core.store, &self.name).await?;
        let (_, state) = found.filter(|(_, state)| !state.removed).ok_or_else(|| not_found(&self.name))?;
        Ok(Schedule::of(&self.name, state))
    }

    /// Runs nothing until [`resume`](Self::resume): the next run is cancelled, one that has started goes on. Stays so
    /// when the schedule is stored again, with the same times or others.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn pause(&self) -> Result<()> {
        self.change(State::pause).await
    }

    /// Goes on after [`pause`](Self::pause). What was due in between is not caught up.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn resume(&self) -> Result<()> {
        self.change(State::resume).await
    }

    /// Takes the schedule out of the store, and cancels its next run. One that stands in the attribute of a task
    /// function comes back when a worker with it starts: pause it instead.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn remove(&self) -> Result<()> {
        self.change(|state| state.removed = true).await
    }

    async fn change(&self, change: impl Fn(&mut State) + Send) -> Result<()> {
        let changed = tend::change(&*self.core.store, &self.name, change).await?;
        if changed { Ok(()) } else { Err(not_found(&self.name)) }
    }
}

fn not_found(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no schedule {name:?}"))
}

impl Qtasks {
    /// Has a task added again and again: `app.schedule("nightly", report::add_task(5)).cron("0 3 * * *").await?`.
    ///
    /// The task keeps what its builder was told (queue, priority, retries …), and each run of it bears the tags
    /// `schedule:NAME` and `due:INSTANT`, as in `due:2026-03-29T01:00:00Z`. A schedule of the same name is replaced; if it is the same in all, nothing changes, so that a
    /// program may store its schedules each time it starts. Needs no worker in this process, but one somewhere.
    pub fn schedule<F: TaskFn>(&self, name: impl Into<String>, task: AddTask<F>) -> AddSchedule {
        AddSchedule {
            core: Arc::clone(self.core()),
            name: name.into(),
            task: task.into_plain(),
            when: Vec::new(),
            timezone: None,
            starting: None,
            repeats: None,
            catch_up: CatchUp::default(),
            overlap: true,
        }
    }

    /// A handle for a schedule, by name; whether there is one shows when it is used.
    pub fn schedule_handle(&self, name: impl Into<String>) -> ScheduleHandle {
        ScheduleHandle { core: Arc::clone(self.core()), name: name.into() }
    }

    /// All schedules of the store, by name. One that is over stays for a week.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub async fn schedules(&self) -> Result<Vec<Schedule>> {
        let all = tend::load_all(&*self.core().store).await?;
        let all = all.into_iter().filter(|(_, state)| !state.removed);
        Ok(all.map(|(name, state)| Schedule::of(&name, state)).collect())
    }
}
