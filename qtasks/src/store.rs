//! [`Store`]: where tasks and their logs live. One trait, many backends, one suite (`store::conformance`) that all pass.
//!
//! Invariant: a store is opened with a clock of its own, and no operation is told what time it is. Leases, delays and
//! backoffs go in as durations.
//!
//! The trait still grows with the features that need it: until version 1 every release may change it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Draft, EventBatch};
use crate::json::Json;
use crate::rate::Rate;
use crate::retry::RetryPolicy;
use crate::task::{Rewind, Status, TaskId, TaskRecord};
use crate::trace::TraceContext;

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod clocks;
#[cfg(feature = "conformance")]
pub mod conformance;
mod interest;
mod life;
pub(crate) mod limits;
mod listeners;
pub mod memory;
pub(crate) mod page;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use interest::Interest;
pub use memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;

/// The answer of a store, when it comes.
pub type Answer<'a, T> = BoxFuture<'a, Result<T>>;

/// The hints that a store gives to one process: see [`Store::watch`].
pub type Hints = BoxStream<'static, Hint>;

/// Where tasks and their logs live.
///
/// Batches in, batches out. Where an operation fails with [`Unavailable`](ErrorKind::Unavailable), whether it was done
/// is unknown: each says how to repeat it. Dropping a future is the same as an unknown outcome.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Stores new tasks: all of them or none.
    ///
    /// Idempotent: ids are made by the caller, and an id that is stored already answers that task, so a repeat adds
    /// nothing. An idempotency key that was used before answers the first task under it; a unique key answers the
    /// unfinished task of that name and key, if there is one. A key is the task's as long as its row is there. Each new
    /// task gets a number *n* in the order of adding.
    ///
    /// With [`replace`](NewTask::replace), a task of that name and unique key that was never started is answered with
    /// the new one's arguments, due time and time to start in place of its own, held if it was; all else of it stays.
    /// One that was started loses the key to the new one. A repeat of the last that replaced changes nothing and
    /// answers the same task, whatever became of it.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if an idempotency key was used with other arguments or another name.
    fn add(&self, batch: Vec<NewTask>) -> Answer<'_, Vec<Added>>;

    /// Gives at most `max` ready tasks of the offered pairs to a worker, each to one caller only: the lowest priority
    /// number first, then the earliest due, then *n*.
    ///
    /// Epoch and attempt of each grow, and its lease runs for `lease` from now. The cost grows with the offers and
    /// the answer, not with what else is queued. Never waits. A pair that is offered twice counts once. Idempotent by
    /// `token`: the same again answers those of its tasks that the worker still holds, and their leases run from then.
    ///
    /// Of what is under a limit of the claim no more is given than the limit leaves, counted in the same step:
    /// `concurrency` by what is running, whoever runs it, under its name in all queues or in its queue under all
    /// names; `rate` by what any claim with a rate for that name or queue gave. A repeated token counts once. No
    /// limit delays what is not under it, nor does it make a claim dearer by what it keeps waiting. Tasks of a queue
    /// for which there is a document `pause/{queue}` are left alone: once that was put, none is given to anyone.
    fn claim(&self, claim: Claim) -> Answer<'_, Claimed>;

    /// Sets right what time has changed, at most `max` tasks of each sort: leases that ran out (a `retry` event of
    /// kind `lost` and queued again; `failed` when the crash budget is used up; `cancelled` if that was asked for),
    /// tasks that are due, tasks never started whose time to start is over.
    ///
    /// Every process that has the store open calls it. The first call after a gap in which nobody did (longer than
    /// half a lease) takes no lease away for one heartbeat and a second, counted once from there: a machine that
    /// slept must not lose what it was doing. Another gap within a lease of that is none. So who calls it should do
    /// so several times a lease.
    ///
    /// A lease that ends later than one from now on, of the longest that a worker asked for, is cut to that. A store
    /// whose clock is the system's compares it with the wall clock here: see [`Clock::system`](crate::Clock::system).
    fn sweep(&self, sweep: Sweep) -> Answer<'_, Swept>;

    /// Appends to the logs of running tasks, each entry atomically and apart from the others.
    ///
    /// Per entry, in this order: equal to the last append that was taken (epoch, `after_seq`, number of events) →
    /// `Stored`, also when the task has since ended; no such task, another epoch, or not running → `Fenced`; a tail
    /// other than `after_seq` → `Conflict`; else the events are stored, and with an outcome the status changes in
    /// the same step, and what the append [removes](Append::removes) goes. Under a cancel that was asked for, an outcome `Retry` becomes `cancelled`. Only the last append
    /// of a task is known again: a batch that may have to be repeated has one entry per task.
    ///
    /// # Errors
    /// The outcome of the whole call is unknown: repeat the same batch, unchanged.
    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>>;

    /// Renews leases, also one that ran out but was not taken yet. Tells of each whether it is held, fenced, or asked
    /// to cancel.
    fn extend(&self, leases: Vec<Lease>, lease: Duration) -> Answer<'_, Vec<Extended>>;

    /// Makes held tasks queued, or delayed if they are due later. Leaves any other as it is, and answers the status
    /// that each has then; `None` where there is no such task.
    fn start(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<Status>>>;

    /// Cancels a task that is not running, event and status in one step; asks the owner of one that is. Of several
    /// reasons the first is kept.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound).
    fn cancel(&self, id: TaskId, reason: String) -> Answer<'_, Cancelled>;

    /// Takes tasks back from their owner, unharmed and without counting; one that was asked to cancel ends
    /// `cancelled`. What the lease no longer covers is left alone.
    fn release(&self, leases: Vec<Lease>) -> Answer<'_, ()>;

    /// The records of tasks; `None` where there is no such task.
    fn get(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<TaskRecord>>>;

    /// Records that match a filter, the newest first, from a cursor of an earlier page on.
    fn list(&self, list: List) -> Answer<'_, Listed>;

    /// How many tasks there are.
    fn stats(&self) -> Answer<'_, Stats>;

    /// Events of one log in order, from `from_seq` on.
    ///
    /// Returns fewer events than `limit` if their data would exceed `bytes_max`, but at least one if there is one and
    /// `limit` is not 0. A stored batch may be cut. The answer must not keep more than `bytes_max` of memory alive,
    /// or the first event, beside what the store holds anyway: a batch that was read for this answer is copied where it
    /// is cut (see [`EventBatch::compact`]).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Gone`](ErrorKind::Gone) once retention has taken the log.
    fn read(&self, read: Read) -> Answer<'_, Slice>;

    /// Hints for one process about what it is interested in, which may change at any time. Hints may be lost or
    /// repeated: they say when to look, never what is there. Of several idle workers one is woken per `Ready`;
    /// `Cancel` goes to everyone.
    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints>;

    /// Takes tasks away at once, with all that is stored of them: those that have ended, and those that were never
    /// started. What a worker has, or had and is to go on with, is left alone. A task that is taken away is as if it
    /// had never been there; its keys are free.
    fn remove(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Removed>>;

    /// Takes away what retention no longer keeps, at most `max` tasks a call: first log, arguments and values go, the
    /// row stays as long again, then the row. A task with a retention of its own is kept for that long instead,
    /// whatever there is. Takes nothing for five minutes after the store's time jumped.
    fn prune(&self, prune: Prune) -> Answer<'_, Pruned>;

    /// The document under a key.
    fn doc_get(&self, key: String) -> Answer<'_, Option<Doc>>;

    /// Stores a document if its version is `if_version`: `None` for any, 0 for one that is not there. It expires by
    /// itself after `expires`, if given, and one put after that begins again with version 1. Answers the new version,
    /// or `None` if the version was another. One below `pause/` gives everyone [`Hint::Look`].
    fn doc_put(&self, put: DocPut) -> Answer<'_, Option<u64>>;

    /// The documents whose keys begin with a prefix, in the order of their keys.
    fn doc_list(&self, prefix: String) -> Answer<'_, Vec<Doc>>;

    /// The same store with connections that the calling runtime drives: heartbeats must not depend on a runtime that
    /// a body may block.
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>>;

    /// What a stored event survives, in a few words.
    fn durability(&self) -> &'static str;

    /// What is kept of ended tasks unless an app says otherwise; `max` is the caller's.
    fn retention(&self) -> Prune;

    /// Returns the time by the store's clock, as this process knows it. `None` if it does not know, as by default: then
    /// schedules are not planned anew when the store's clock has been turned back.
    ///
    /// A store around another passes this on.
    fn now(&self) -> Option<SystemTime> {
        None
    }
}

/// A task to be added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewTask {
    /// Made by the caller.
    pub id: TaskId,
    /// The name of its task function.
    pub name: String,
    /// The queue it goes to.
    pub queue: String,
    /// Lower numbers are run first.
    pub priority: i16,
    /// Its arguments.
    pub args: Json,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// When it is due.
    pub due: Due,
    /// Cancelled unless started after so long.
    pub expires: Option<Duration>,
    /// Stored, but not to be run yet.
    pub held: bool,
    /// At most one unfinished task of a name has this key.
    pub unique: Option<String>,
    /// Takes the place of the task that has the unique key, if that was never started.
    #[serde(default)]
    pub replace: bool,
    /// At most one task ever has this key.
    pub idempotency_key: Option<String>,
    /// The ended task that this one does again.
    pub retry_of: Option<TaskId>,
    /// The task whose body adds it.
    pub parent: Option<TaskId>,
    /// Instead of the function's own.
    pub retry: Option<RetryPolicy>,
    /// Instead of the function's own.
    pub time_limit: Option<Duration>,
    /// Instead of the function's own.
    #[serde(default)]
    pub idle_limit: Option<Duration>,
    /// How long after its end it keeps its log, instead of what is kept of others.
    #[serde(default)]
    pub retention: Option<Duration>,
    /// The trace that it belongs to: its record has it as it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

/// When a task is due.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Due {
    /// As soon as a worker is free.
    Now,
    /// After so long, by the store's clock.
    In(Duration),
    /// At an instant.
    At(SystemTime),
}

/// What became of a [`NewTask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The task: the new one, or the one that has its key.
    pub id: TaskId,
    /// Whether it was there already.
    pub existed: bool,
}

/// What a worker asks for: see [`Store::claim`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The name of the worker.
    pub worker: String,
    /// Made by the worker, for repeating the call.
    pub token: u64,
    /// What it can run.
    pub offers: Arc<[Offer]>,
    /// How many tasks it has room for.
    pub max: usize,
    /// How long they are its own without an [`extend`](Store::extend).
    pub lease: Duration,
    /// At most one for each name and each queue; of others nothing is looked at.
    pub limits: Arc<[Limit]>,
}

/// How many tasks of a name, or of a queue, may run at once and start in how long: see [`Store::claim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The tasks that it is about.
    pub on: LimitOn,
    /// At most so many are running at once.
    pub concurrency: Option<u32>,
    /// How many may start in how long.
    pub rate: Option<Rate>,
}

/// The tasks that a [`Limit`] is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LimitOn {
    /// Those of this name, in all queues.
    Name(String),
    /// Those in this queue, of all names but those of built-in tasks (`qtasks.…`), which take no slot.
    Queue(String),
}

/// A pair of queue and name that a worker serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The queue.
    pub queue: String,
    /// The name of the task function.
    pub name: String,
    /// At most so many of this pair.
    pub allowance: u32,
}

/// What a worker gets.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Claimed {
    /// The tasks, most urgent first.
    pub tasks: Vec<ClaimedTask>,
    /// How long until the next delayed task is due, or a rate lets the next ready task of the offers start, whichever
    /// is sooner, if either is to be.
    pub next_due: Option<Duration>,
}

/// A task with what its next attempt needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimedTask {
    /// The task, running.
    pub record: TaskRecord,
    /// Bytes of data in its log.
    pub bytes: u64,
    /// The value of the last yield that holds.
    pub last_yield: Option<Json>,
    /// What the last checkpoint kept.
    pub checkpoint: Option<Json>,
    /// Instead of the function's own.
    pub retry: Option<RetryPolicy>,
    /// Instead of the function's own.
    pub time_limit: Option<Duration>,
    /// Instead of the function's own.
    #[serde(default)]
    pub idle_limit: Option<Duration>,
}

/// How a store is swept: see [`Store::sweep`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// At most so many tasks of each sort.
    pub max: usize,
    /// The lease of the workers.
    pub lease: Duration,
    /// How often they extend it.
    pub heartbeat: Duration,
    /// How many lost attempts in a row, without progress, are followed by another.
    pub crashes_max: u32,
}

/// What a [`Sweep`] did, in tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Swept {
    /// Due, and queued.
    pub promoted: usize,
    /// Lost with their worker, and queued again.
    pub requeued: usize,
    /// Lost too often, or cancelled.
    pub ended: usize,
    /// Not started in time.
    pub expired: usize,
    /// Which they are: those that ended, and those that were not started in time.
    pub over: Vec<TaskId>,
}

/// Events for the log of one running task: see [`Store::append`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Append {
    /// The task.
    pub id: TaskId,
    /// The epoch that the writer was given.
    pub epoch: u64,
    /// The tail that the writer knows.
    pub after_seq: u64,
    /// At least one event.
    pub events: Draft,
    /// Kept with them, for the next attempt.
    pub checkpoint: Option<Json>,
    /// What becomes of the task.
    pub outcome: Outcome,
    /// Tasks that are taken away in the same step, as [`Store::remove`] does: those whose results are among the
    /// events.
    pub removes: Vec<TaskId>,
}

/// What becomes of a task with an [`Append`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It runs on.
    Running,
    /// It ends as its last event says: `completed`, `failed` or `cancelled`.
    Ended,
    /// The last event is a `retry`; the next attempt is due after so long.
    Retry(Duration),
}

/// What became of an [`Append`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Appended {
    /// It is in the log.
    Stored {
        /// The new tail.
        tail: u64,
        /// Why the task is to be cancelled, if it is.
        cancel: Option<String>,
    },
    /// The task is no longer the writer's.
    Fenced,
    /// The log has another tail: a bug, or a store that forgot.
    Conflict {
        /// The tail that it has.
        tail: u64,
    },
}

/// A worker's right to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The task.
    pub id: TaskId,
    /// The epoch that the worker was given.
    pub epoch: u64,
}

/// What became of a task that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Removed {
    /// It is gone.
    Done,
    /// There is no such task.
    Absent,
    /// It was started and is not over: it stays.
    Unfinished,
}

/// What became of a [`Lease`] that was to be extended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extended {
    /// It holds.
    Held,
    /// It holds, and the task is to be cancelled for this reason.
    Cancel(String),
    /// The task is no longer the worker's.
    Fenced,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cancelled {
    /// The task is cancelled.
    Done,
    /// It is running, and its worker has been asked.
    Asked,
    /// It had ended before.
    Ended(Status),
}

/// Which tasks, and where to go on: see [`Store::list`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct List {
    /// Of any of these; empty for all.
    pub status: Vec<Status>,
    /// Of this name.
    pub name: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// Added by the body of this task.
    pub parent: Option<TaskId>,
    /// From [`Listed::next`].
    pub cursor: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A page of records.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Listed {
    /// The newest first.
    pub tasks: Vec<TaskRecord>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// How many tasks there are, by queue and status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Per queue, per status.
    pub queues: BTreeMap<String, BTreeMap<Status, u64>>,
}

/// What to read of a log: see [`Store::read`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The task.
    pub id: TaskId,
    /// The first `seq`; 0 and 1 are the start.
    pub from_seq: u64,
    /// At most so many events.
    pub limit: usize,
    /// Maximum size of the data of the events together, in bytes; a first event that is larger is read all the same.
    /// `usize::MAX` is no limit. Hashes don't count.
    #[serde(default = "no_limit")]
    pub bytes_max: usize,
    /// Which of them.
    pub what: What,
}

/// The [`bytes_max`](Read::bytes_max) of a read that was written down before there was one.
fn no_limit() -> usize {
    usize::MAX
}

/// The room that the answer to a read still has: see [`Read::limit`] and [`Read::bytes_max`].
pub(crate) struct Room {
    events: usize,
    bytes: usize,
    any: bool,
}

impl Room {
    pub(crate) fn new(read: &Read) -> Self {
        Room { events: read.limit, bytes: read.bytes_max, any: false }
    }

    /// Whether there is no room for another event, unless that has no data.
    pub(crate) fn is_full(&self) -> bool {
        self.events == 0 || (self.any && self.bytes == 0)
    }

    /// Returns the events of a batch from `from_seq` on for which there is room, which they then take.
    pub(crate) fn cut(&mut self, batch: &EventBatch, from_seq: u64) -> Option<EventBatch> {
        let part = batch.slice(from_seq, self.events).first_bytes(self.bytes);
        let bytes = part.data_bytes();
        if part.is_empty() || (self.any && bytes > self.bytes) {
            return None;
        }
        // What comes behind a batch that was cut may be smaller, and must wait for the rest of it all the same.
        let is_full = part.end_seq() < batch.end_seq() || bytes > self.bytes;
        let events = if is_full { 0 } else { self.events - part.len() };
        *self = Room { events, bytes: self.bytes.saturating_sub(bytes), any: true };
        Some(part)
    }
}

/// Which events to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// All, whole.
    Events,
    /// Yields, without their data.
    YieldHashes,
    /// Custom events, without their data.
    EventHashes,
}

/// A part of a log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Slice {
    /// The events, whole and in order; empty where hashes were asked for.
    pub events: Vec<EventBatch>,
    /// The hashes, where they were asked for.
    pub hashes: Vec<Hashed>,
    /// The `seq` to read on from.
    pub next_seq: u64,
    /// The last `seq` of the log.
    pub tail: u64,
    /// Whether the log has its end.
    pub ended: bool,
    /// What of it is void.
    pub rewinds: Vec<Rewind>,
}

/// A yield or a custom event without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// Its place.
    pub seq: u64,
    /// Its index.
    pub index: u64,
    /// Its hash.
    pub hash: u64,
}

/// Something happened; look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hint {
    /// The log of a task grew.
    Moved {
        /// The task.
        id: TaskId,
        /// Its tail.
        tail: u64,
        /// Whether it ended.
        ended: bool,
    },
    /// A queue has a ready task, or will have one sooner than any other.
    Ready {
        /// The queue.
        queue: String,
        /// The name of the task function.
        name: String,
    },
    /// A running task is to be cancelled.
    Cancel {
        /// The task.
        id: TaskId,
    },
    /// Hints were lost: look at everything.
    Look,
}

/// What retention keeps: see [`Store::prune`]. The default is 7 days, whatever there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// How long after its end a task keeps its log; its row stays as long again.
    pub age: Duration,
    /// At most so many ended tasks keep their logs. `None` for any number.
    pub ended_max: Option<u64>,
    /// At most so many bytes of ended logs. `None` for any number.
    pub bytes_max: Option<u64>,
    /// At most so many tasks in this call.
    pub max: usize,
}

impl Default for Prune {
    fn default() -> Self {
        Prune { age: Duration::from_secs(7 * 24 * 3600), ended_max: None, bytes_max: None, max: 500 }
    }
}

/// What a [`Prune`] took, in tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pruned {
    /// Without their logs now.
    pub logs: usize,
    /// Gone altogether.
    pub rows: usize,
    /// Of what was taken, some is still to be removed by the next calls: they need not wait.
    pub more: bool,
}

/// A small document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doc {
    /// Its key.
    pub key: String,
    /// Grows with every put; 1 is the first.
    pub version: u64,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A document to be put: see [`Store::doc_put`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocPut {
    /// Its key.
    pub key: String,
    /// The version it must have; 0 for none yet, `None` for any.
    pub if_version: Option<u64>,
    /// What goes in.
    pub bytes: Vec<u8>,
    /// How long it lasts.
    pub expires: Option<Duration>,
}

/// Opens the store of a URL with the clock of this process.
///
/// `memory:` is a new store each time, `memory:NAME` one for all of the process that open it. `sqlite:PATH` (feature
/// `sqlite`, on by default) is a file: see [`sqlite`].
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) for a URL of no store that is built in.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
    match scheme {
        "memory" => Ok(MemoryStore::named(rest)),
        "" => Err(Error::invalid("no store: give a URL such as `memory:`, or set QTASKS_URL")),
        #[cfg(feature = "sqlite")]
        "sqlite" => SqliteStore::open(rest),
        #[cfg(not(feature = "sqlite"))]
        "sqlite" => Err(Error::invalid("`sqlite:` needs the feature `sqlite` of qtasks, which is off here")),
        _ => {
            let shown = shown(url);
            let known = match url.contains(':') {
                true => "there are `memory:` and `sqlite:PATH`".to_owned(),
                false => format!("a file is `sqlite:{shown}`"),
            };
            Err(Error::invalid(format!("`{shown}` is the URL of no store that is built in; {known}")))
        }
    }
}

/// What a check of a whole store found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the command line asks"))]
pub(crate) struct Checked {
    /// How many tasks there are.
    pub(crate) tasks: u64,
    /// How many events of theirs could be read.
    pub(crate) events: u64,
    /// What is damaged, a line each.
    pub(crate) damaged: Vec<String>,
}

/// Reads everything in the store of a URL, and lists what is damaged. Changes nothing.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) for a URL of something else than a file.
#[cfg(feature = "cli")]
pub(crate) fn check(url: &str) -> Result<Checked> {
    match url.split_once(':') {
        #[cfg(feature = "sqlite")]
        Some(("sqlite", path)) => sqlite::check(path),
        _ => Err(Error::invalid(format!("`{}` has no file to check: give `sqlite:PATH`", shown(url)))),
    }
}

/// A URL as it may be shown: without a password.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

pub(crate) fn not_found(id: TaskId) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no task {id}"))
}

fn key_was_used(key: &str) -> Error {
    let message = format!("the idempotency key {key:?} was used for another task or other arguments");
    Error::new(ErrorKind::Conflict, message)
}

/// The number that the tasks of a page come before.
fn cursor(list: &List) -> Result<u64> {
    let parse = |c: &String| c.parse().map_err(|_| Error::invalid(format!("{c:?} is not a cursor of this list")));
    list.cursor.as_ref().map_or(Ok(u64::MAX), parse)
}

/// The last claim of a worker is remembered for so long.
const CLAIMS_KEPT_MS: u64 = 24 * 3_600_000;

/// Ended tasks keep their logs for so long, however many there are: who waits for one must be able to read it.
const KEPT_MS: u64 = 10_000;

pub(crate) fn gone(id: TaskId, tail: u64) -> Error {
    let message = format!("the log of task {id} is gone: retention has taken its {tail} events");
    Error::new(ErrorKind::Gone, message)
}
