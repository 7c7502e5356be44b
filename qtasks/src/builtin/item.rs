//! [`Item`]: what is kept of one task among many, once it has been gathered.

use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::task::time::{from_ms, to_ms};
use crate::task::{FailureKind, Status, TaskFailure, TaskId, TaskRecord};

/// What one of many tasks returned: all of an [`Item`] that its result takes.
#[derive(Debug, Deserialize)]
pub(crate) struct Returned {
    pub(crate) index: u64,
    pub(crate) id: TaskId,
    status: Status,
    #[serde(default)]
    pub(crate) value: Option<Json>,
    #[serde(default)]
    error: Option<TaskFailure>,
    #[serde(default)]
    cancel_reason: Option<String>,
    attempt: u32,
}

impl Returned {
    /// How it failed; `None` of one that completed.
    pub(crate) fn failure(&self) -> Option<TaskFailure> {
        failure(self.status, self.error.as_ref(), self.cancel_reason.as_deref(), self.attempt)
    }
}

fn failure(
    status: Status,
    error: Option<&TaskFailure>,
    cancel_reason: Option<&str>,
    attempt: u32,
) -> Option<TaskFailure> {
    match status {
        Status::Failed => Some(error.cloned().unwrap_or_else(|| TaskFailure::new(FailureKind::Error, ""))),
        Status::Cancelled => Some(TaskFailure::cancelled(cancel_reason.unwrap_or_default(), attempt)),
        _ => None,
    }
}

/// One of many tasks, with what it returned. Its own row and log are gone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) index: u64,
    pub(crate) id: TaskId,
    pub(crate) status: Status,
    /// What a plain task returned; what a generator yielded, also one that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Json>,
    /// What a generator returned after its last value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    final_value: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<TaskFailure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<String>,
    name: String,
    #[serde(default = "default_queue", skip_serializing_if = "is_default_queue")]
    queue: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: i16,
    args: Json,
    attempt: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    failures: u32,
    epoch: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    yields: u64,
    tail: u64,
    /// Created, started, ended, in milliseconds since 1970.
    times: (u64, Option<u64>, Option<u64>),
}

fn default_queue() -> String {
    DEFAULT_QUEUE.to_owned()
}

fn is_default_queue(queue: &str) -> bool {
    queue == DEFAULT_QUEUE
}

fn is_zero<N: Default + PartialEq>(n: &N) -> bool {
    *n == N::default()
}

/// What nearly all items have is not kept of each.
const DEFAULT_QUEUE: &str = "default";

impl Item {
    pub(crate) fn new(index: u64, record: TaskRecord, values: Option<Json>) -> Self {
        let (value, final_value) = match values {
            Some(values) => (Some(values), record.final_value),
            None => (record.final_value, None),
        };
        Item {
            index,
            id: record.id,
            status: record.status,
            value,
            final_value,
            error: record.error,
            cancel_reason: record.cancel_reason,
            name: record.name,
            queue: record.queue,
            priority: record.priority,
            args: record.args,
            attempt: record.attempt,
            failures: record.failures,
            epoch: record.epoch,
            worker: record.worker,
            yields: record.yields,
            tail: record.tail,
            times: (to_ms(record.created_at), record.started_at.map(to_ms), record.completed_at.map(to_ms)),
        }
    }

    /// The same without its value, which is too large to be kept.
    pub(super) fn too_large(self, message: String) -> Self {
        let error = Some(TaskFailure::new(FailureKind::Limit, message));
        Item { status: Status::Failed, value: None, final_value: None, error, ..self }
    }

    /// How it failed; `None` of one that completed.
    pub(crate) fn failure(&self) -> Option<TaskFailure> {
        failure(self.status, self.error.as_ref(), self.cancel_reason.as_deref(), self.attempt)
    }

    /// The name of its task function.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The task as it was stored, a part of `whole`.
    pub(crate) fn into_record(self, whole: TaskId) -> TaskRecord {
        let (created, started, ended) = self.times;
        TaskRecord {
            id: self.id,
            name: self.name,
            queue: self.queue,
            priority: self.priority,
            args: self.args,
            tags: Vec::new(),
            status: self.status,
            created_at: from_ms(created),
            updated_at: from_ms(ended.unwrap_or(created)),
            started_at: started.map(from_ms),
            completed_at: ended.map(from_ms),
            attempt: self.attempt,
            epoch: self.epoch,
            failures: self.failures,
            crashes: 0,
            worker: self.worker,
            yields: self.yields,
            tail: self.tail,
            rewinds: Vec::new(),
            final_value: if self.yields == 0 { self.value.or(self.final_value) } else { self.final_value },
            error: self.error,
            cancel_reason: self.cancel_reason,
            retry_of: None,
            due_at: None,
            expires_at: None,
            parent: Some(whole),
            yields_high: self.yields,
            trace: None,
        }
    }
}
