//! The nouns: [`TaskFn`], a function that can run as a task; [`TaskRecord`], one submitted piece of work as it is
//! stored; [`Task`], a finished one with its values.
//!
//! This file and those below it know nothing of stores, workers or watchers.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::json::Json;
use crate::trace::TraceContext;

mod check;
mod failure;
pub(crate) mod function;
pub(crate) mod ids;
mod spec;
pub(crate) mod time;

pub use check::{CheckArg, CheckFallback, CheckProbe};
pub use failure::{FailureKind, TaskFailure};
pub use function::{AnyTask, Codec, Generates, Never, TaskFn, Value};
pub use spec::{ArgSpec, Isolation, Keep, OnRetry, ScheduleSpec, Start, StateSpec, TaskKind, TaskSpec};

/// The longest name of a task, queue, tag or custom event, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// What the names of the tasks that qtasks itself runs begin with. No other may.
pub(crate) const BUILT_IN: &str = "qtasks.";

/// Names one task for ever. Later ids are greater (UUID version 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// Makes an id that nothing else has.
    pub fn new() -> Self {
        TaskId(Uuid::now_v7())
    }

    /// The id of what will be made a task again and again, and is none itself: the same each time.
    pub(crate) fn none() -> Self {
        TaskId(Uuid::nil())
    }

    #[cfg(any(feature = "http", feature = "sqlite"))]
    pub(crate) fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of the part of a task at an index: the same each time, so that adding it again adds nothing, and later
    /// than the task's own (UUID version 8).
    pub(crate) fn part(self, index: u32) -> Self {
        let mut bytes = *self.0.as_bytes();
        // Of the whole id, so that the parts of a part are none of its siblings.
        bytes[4..12].copy_from_slice(&xxh3_64(self.0.as_bytes()).to_be_bytes());
        bytes[4..6].copy_from_slice(&self.0.as_bytes()[4..6]);
        bytes[6] = 0x80 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        bytes[12..].copy_from_slice(&index.to_be_bytes());
        TaskId(Uuid::from_bytes(bytes))
    }

    /// The id of 16 bytes.
    #[cfg(feature = "sqlite")]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(TaskId)
    }

    /// The id as the UUID that it is.
    pub fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl Default for TaskId {
    fn default() -> Self {
        TaskId::new()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TaskId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let id = Uuid::parse_str(text);
        id.map(TaskId).map_err(|e| Error::invalid(format!("`{text}` is not the id of a task: {e}")))
    }
}

/// Where a task is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Stored, and not to be run until [`start_task`](crate::Qtasks::start_task).
    Held,
    /// Due later, or waiting for its next attempt.
    Delayed,
    /// Ready for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// Its body came to its end.
    Completed,
    /// It failed for good.
    Failed,
    /// It was cancelled, or expired before it was started.
    Cancelled,
}

impl Status {
    /// Every status, in the order of a life.
    pub const ALL: [Status; 7] = [
        Status::Held,
        Status::Delayed,
        Status::Queued,
        Status::Running,
        Status::Completed,
        Status::Failed,
        Status::Cancelled,
    ];

    /// Whether the task is over: its log never grows again.
    pub fn is_ended(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }

    /// Whether a task may go from this status to `next`. Everything that moves a task asks here.
    pub fn may_become(self, next: Status) -> bool {
        use Status::{Cancelled, Completed, Delayed, Failed, Held, Queued, Running};
        match self {
            Held => matches!(next, Delayed | Queued | Cancelled),
            Delayed => matches!(next, Queued | Cancelled),
            // Delayed by a debounce.
            Queued => matches!(next, Running | Delayed | Cancelled),
            Running => matches!(next, Queued | Delayed | Completed | Failed | Cancelled),
            Completed | Failed | Cancelled => false,
        }
    }

    /// The word for it: `queued`, `running` …
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Held => "held",
            Status::Delayed => "delayed",
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Status::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            let known = Status::ALL.map(Status::as_str).join(", ");
            Error::invalid(format!("`{text}` is not a status; there are {known}"))
        })
    }
}

/// A place in a log from which yields are void: see [`EventKind::Rewind`](crate::EventKind::Rewind).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rewind {
    /// The `seq` of the rewind itself.
    pub seq: u64,
    /// Yields before it with an index of at least this are void.
    pub to: u64,
}

/// A task as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Names the task for ever.
    pub id: TaskId,
    /// The name of its task function.
    pub name: String,
    /// Where it waits for a worker. Defaults to `default`.
    pub queue: String,
    /// Lower numbers are run first. Defaults to 0.
    pub priority: i16,
    /// Its arguments: an object by name, or an array by position.
    pub args: Json,
    /// Free words to find it by.
    pub tags: Vec<String>,
    /// Where it is in its life.
    pub status: Status,
    /// When it was stored.
    #[serde(with = "time")]
    pub created_at: SystemTime,
    /// When it last changed: every append to its log moves this.
    #[serde(with = "time")]
    pub updated_at: SystemTime,
    /// When a worker first had it.
    #[serde(with = "time::option")]
    pub started_at: Option<SystemTime>,
    /// When it ended, however it did.
    #[serde(with = "time::option")]
    pub completed_at: Option<SystemTime>,
    /// How often it was given to a worker: 0 before the first.
    pub attempt: u32,
    /// The fencing token: grows whenever anyone but its owner moves the task.
    pub epoch: u64,
    /// Attempts that failed and were followed by another.
    pub failures: u32,
    /// Attempts lost with their worker in a row, without a new yield.
    pub crashes: u32,
    /// The worker that has it, or had it last.
    pub worker: Option<String>,
    /// How many yields hold.
    pub yields: u64,
    /// The `seq` of the last event; 0 while there is none.
    pub tail: u64,
    /// What became void, in the order of the log.
    pub rewinds: Vec<Rewind>,
    /// What a generator returned after its last yield, or a plain task returned.
    pub final_value: Option<Json>,
    /// How it failed, of a failed task.
    pub error: Option<TaskFailure>,
    /// Why it was cancelled, of a cancelled task; why it is being, of a running one.
    pub cancel_reason: Option<String>,
    /// The ended task that this one does again.
    pub retry_of: Option<TaskId>,
    /// When it is due, where that is later than it was added.
    #[serde(with = "time::option")]
    pub due_at: Option<SystemTime>,
    /// When it is cancelled unless started.
    #[serde(with = "time::option")]
    pub expires_at: Option<SystemTime>,
    /// The task whose body added it.
    pub parent: Option<TaskId>,
    /// One more than the greatest index that any attempt yielded.
    pub yields_high: u64,
    /// The trace that it was added in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceContext>,
}

impl TaskRecord {
    /// How it ended without success: of a cancelled task a failure of kind `cancelled`. `None` before the end, and
    /// of a completed task.
    pub fn failure(&self) -> Option<TaskFailure> {
        match self.status {
            Status::Failed => self.error.clone(),
            Status::Cancelled => {
                Some(TaskFailure::cancelled(self.cancel_reason.as_deref().unwrap_or_default(), self.attempt))
            }
            _ => None,
        }
    }
}

/// A task that came to a good end, with its values read.
#[non_exhaustive]
pub struct Task<F: TaskFn> {
    /// Names the task for ever.
    pub id: TaskId,
    /// What it yielded, in order; of a plain task, what it returned.
    pub returning: F::Returning,
    /// What a generator returned after its last yield, where it returns something.
    pub final_value: F::Final,
    /// The task as it is stored.
    pub record: TaskRecord,
}

impl<F: TaskFn> Task<F> {
    pub(crate) fn new(record: TaskRecord, returning: F::Returning, final_value: F::Final) -> Self {
        Task { id: record.id, returning, final_value, record }
    }
}

impl<F: TaskFn> fmt::Debug for Task<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).field("name", &self.record.name).finish_non_exhaustive()
    }
}

/// Whether a name of a task, queue or custom event can be one; the rule and the way out if not.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let bad = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "_.:-".contains(*c)));
    let rule = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > NAME_BYTES_MAX {
        format!("has {} bytes", name.len())
    } else if let Some(c) = bad {
        format!("contains {c:?}")
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
    Err(Error::invalid(format!(
        "the {what} {shown:?} {rule}: it takes 1 to {NAME_BYTES_MAX} bytes of letters, digits, `_`, `.`, `:` and `-`"
    )))
}

/// Returns an error with the rule if a text cannot be a tag.
pub(crate) fn check_tag(tag: &str) -> Result<()> {
    let rule = if tag.is_empty() {
        "is empty".to_owned()
    } else if tag.len() > NAME_BYTES_MAX {
        format!("has {} bytes", tag.len())
    } else if let Some(c) = crate::visible::first_hidden(tag) {
        format!("contains {c:?}")
    } else {
        return Ok(());
    };
    let shown: String = tag.chars().take(NAME_BYTES_MAX).collect();
    Err(Error::invalid(format!(
        "the tag {shown:?} {rule}: it takes 1 to {NAME_BYTES_MAX} bytes, without control characters and \
         invisible characters"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_task_never_moves_again() {
        for from in Status::ALL {
            for to in Status::ALL {
                assert!(!from.may_become(to) || !from.is_ended(), "{from} -> {to}");
                assert!(!from.may_become(to) || from != to, "{from} -> {to}");
            }
            assert_eq!(from.to_string().parse::<Status>().unwrap(), from);
            assert_eq!(serde_json::to_value(from).unwrap(), from.as_str());
        }
    }

    #[test]
    fn parts_of_parts_are_all_different() {
        let whole = TaskId::new();
        let mut ids = vec![whole];
        for i in [0, 1, 2, u32::MAX] {
            let part = whole.part(i);
            assert_eq!(part, whole.part(i));
            assert!(part > whole);
            assert_eq!(part.as_uuid().get_version_num(), 8);
            ids.push(part);
            ids.extend([0, 1, 2, u32::MAX].map(|j| part.part(j)));
        }
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
    }

    #[test]
    fn names_are_checked() {
        for good in ["a", "test_yield", "mail.send", "a::b", "x-1", &"n".repeat(128)] {
            check_name("name", good).unwrap();
        }
        for bad in ["", "a b", "ä", "a/b", "a\0", &"n".repeat(129)] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
    }
}
