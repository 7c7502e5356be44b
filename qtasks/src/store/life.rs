//! [`Life`]: what changes of a task, and the rules by which it does. Pure: no lock, no clock, no input or output.
//!
//! Invariant: every store moves a task by these functions, so that all of them agree; what they differ in is how they
//! find a task and how they keep what comes out.

use std::time::Duration;

use super::{Append, Appended, Cancelled, Due, Extended, NewTask, Outcome, Sweep};
use crate::event::{Draft, DraftBuilder, EventBatch, EventCode, Stamp};
use crate::json::Json;
use crate::task::time::{from_ms, to_ms};
use crate::task::{FailureKind, Rewind, Status, TaskFailure, TaskId, TaskRecord};
use crate::trace::TraceContext;

/// What changes of a task. Times are in milliseconds since 1970, by the store's clock.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Life {
    pub(super) status: Status,
    /// By this it takes its place among tasks of one priority.
    pub(super) due: u64,
    /// When it is, or was, due later than it was added.
    pub(super) due_at: Option<u64>,
    pub(super) expires: Option<u64>,
    pub(super) updated: u64,
    pub(super) started: Option<u64>,
    pub(super) ended: Option<u64>,
    pub(super) attempt: u32,
    pub(super) epoch: u64,
    pub(super) failures: u32,
    pub(super) crashes: u32,
    pub(super) worker: Option<String>,
    pub(super) yields: u64,
    pub(super) yields_high: u64,
    pub(super) tail: u64,
    /// Bytes of data in the log.
    pub(super) bytes: u64,
    pub(super) rewinds: Vec<Rewind>,
    /// Epoch, tail before, number of events: what a repeated append is known by.
    pub(super) last_append: Option<(u64, u64, u64)>,
    pub(super) cancel_reason: Option<String>,
    pub(super) final_value: Option<Json>,
    pub(super) error: Option<TaskFailure>,
    pub(super) lease_until: u64,
    /// How long it is kept after its end, where that is its own.
    pub(super) retention: Option<u64>,
}

/// What a record tells of a task that never changes.
pub(super) struct Fixed {
    pub(super) id: TaskId,
    pub(super) name: String,
    pub(super) queue: String,
    pub(super) priority: i16,
    pub(super) args: Json,
    pub(super) tags: Vec<String>,
    pub(super) created: u64,
    pub(super) retry_of: Option<TaskId>,
    pub(super) parent: Option<TaskId>,
    pub(super) trace: Option<TraceContext>,
}

/// What became of a task that was to be moved.
#[derive(Debug)]
pub(super) enum Change {
    /// It is as it was.
    None,
    /// It changed, and its log did not.
    Moved,
    /// Its log grew by this.
    Wrote(EventBatch),
}

/// When somebody last swept, until when no lease is taken away, and how long leases are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Mark {
    pub(super) swept_at: Option<u64>,
    pub(super) spare_until: u64,
    /// The longest lease that a worker asked for, in milliseconds.
    pub(super) lease_max: u64,
}

impl Mark {
    /// Notes that a worker asked for a lease.
    pub(super) fn lease(&mut self, lease: Duration) {
        self.lease_max = self.lease_max.max(ms(lease));
    }

    /// Returns the end of the longest lease that a worker can have, and from when on a lease is further ahead than that:
    /// its end was stamped by a clock that was wrong. Such a lease is cut, not taken: a worker that lives extends it.
    pub(super) fn latest(&self, sweep: Sweep, now: u64) -> (u64, u64) {
        let latest = now.saturating_add(self.lease_max.max(ms(sweep.lease)));
        (latest, latest.saturating_add(CLOCKS_MS))
    }

    /// Moves everything with a jump of the store's time.
    pub(super) fn shift(&mut self, by: i64) {
        self.swept_at = self.swept_at.map(|at| at.saturating_add_signed(by));
        self.spare_until = self.spare_until.saturating_add_signed(by);
    }

    /// Marks a sweep. Whether it may take leases away: not after a gap in which nobody swept, and in which perhaps
    /// nobody could extend a lease either. Sweeps that are always far apart are no gaps.
    pub(super) fn sweep(&mut self, sweep: Sweep, now: u64) -> bool {
        // No sweep spares for longer than this: the mark is of a clock that was ahead.
        if self.spare_until > self.latest(sweep, now).1 {
            self.spare_until = now.saturating_add(ms(sweep.heartbeat)).saturating_add(1_000);
        }
        let gap = self.swept_at.is_some_and(|at| now.saturating_sub(at) > ms(sweep.lease) / 2);
        if gap && now >= self.spare_until.saturating_add(ms(sweep.lease)) {
            self.spare_until = now.saturating_add(ms(sweep.heartbeat)).saturating_add(1_000);
        }
        self.swept_at = Some(now);
        now >= self.spare_until
    }
}

/// How far the clocks of two processes that write to a store may be apart, in milliseconds.
const CLOCKS_MS: u64 = 1_000;

/// A duration in milliseconds.
pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// So long after `now`, and never after the last instant that can be written.
pub(super) fn after(now: u64, wait: Duration) -> u64 {
    to_ms(from_ms(now.saturating_add(ms(wait))))
}

impl Life {
    /// Of a task that has just been added.
    pub(super) fn new(task: &NewTask, now: u64) -> Self {
        let due = match task.due {
            Due::Now => now,
            Due::In(wait) => after(now, wait),
            Due::At(at) => to_ms(from_ms(to_ms(at))),
        };
        let later = due > now;
        Life {
            status: match later {
                _ if task.held => Status::Held,
                true => Status::Delayed,
                false => Status::Queued,
            },
            due,
            due_at: later.then_some(due),
            expires: task.expires.map(|e| after(now, e)),
            updated: now,
            started: None,
            ended: None,
            attempt: 0,
            epoch: 0,
            failures: 0,
            crashes: 0,
            worker: None,
            yields: 0,
            yields_high: 0,
            tail: 0,
            bytes: 0,
            rewinds: Vec::new(),
            last_append: None,
            cancel_reason: None,
            final_value: None,
            error: None,
            lease_until: 0,
            retention: task.retention.map(ms),
        }
    }

    /// The record of the task.
    pub(super) fn record(&self, fixed: Fixed) -> TaskRecord {
        let Fixed { id, name, queue, priority, args, tags, created, retry_of, parent, trace } = fixed;
        TaskRecord {
            id,
            name,
            queue,
            priority,
            args,
            tags,
            status: self.status,
            created_at: from_ms(created),
            updated_at: from_ms(self.updated),
            started_at: self.started.map(from_ms),
            completed_at: self.ended.map(from_ms),
            attempt: self.attempt,
            epoch: self.epoch,
            failures: self.failures,
            crashes: self.crashes,
            worker: self.worker.clone(),
            yields: self.yields,
            tail: self.tail,
            rewinds: self.rewinds.clone(),
            final_value: self.final_value.clone(),
            error: self.error.clone(),
            cancel_reason: self.cancel_reason.clone(),
            retry_of,
            due_at: self.due_at.map(from_ms),
            expires_at: self.expires.map(from_ms),
            parent,
            trace,
            yields_high: self.yields_high,
        }
    }

    /// Gives it another status.
    fn become_(&mut self, status: Status, now: u64) {
        debug_assert!(self.status.may_become(status), "{} -> {status}", self.status);
        self.status = status;
        self.updated = now;
        if status.is_ended() {
            self.ended = Some(now);
        }
    }

    /// Somebody other than its owner moves it: what the owner writes from now on is refused.
    fn fence(&mut self, now: u64) {
        self.epoch = self.epoch.saturating_add(1).max(now);
    }

    /// Whether it is too late to start it.
    pub(super) fn is_expired(&self, now: u64) -> bool {
        self.attempt == 0 && !self.status.is_ended() && self.expires.is_some_and(|at| at <= now)
    }

    /// Whether it may be taken away: nobody is, or was, at work on it that is not over.
    pub(super) fn is_removable(&self) -> bool {
        self.status.is_ended() || self.attempt == 0
    }

    /// Whether the writer of an epoch owns it.
    pub(super) fn is_owned(&self, epoch: u64) -> bool {
        self.epoch == epoch && self.status == Status::Running
    }

    /// A worker has it.
    pub(super) fn claim(&mut self, worker: &str, lease: Duration, now: u64) {
        self.fence(now);
        self.become_(Status::Running, now);
        self.lease_until = now.saturating_add(ms(lease));
        self.attempt = self.attempt.saturating_add(1);
        self.worker = Some(worker.to_owned());
        self.started.get_or_insert(now);
    }

    /// The same claim once more: whether the worker still has it. The lease runs from now.
    pub(super) fn claim_again(&mut self, worker: &str, lease: Duration, now: u64) -> bool {
        let held = self.status == Status::Running && self.worker.as_deref() == Some(worker);
        if held {
            self.lease_until = now.saturating_add(ms(lease));
        }
        held
    }

    /// Its owner writes.
    pub(super) fn append(&mut self, append: Append, now: u64) -> (Appended, Change) {
        let Append { epoch, after_seq, events, outcome, .. } = append;
        let this = (epoch, after_seq, events.len() as u64);
        if self.last_append == Some(this) {
            let cancel = self.cancel_reason.clone().filter(|_| self.status == Status::Running);
            return (Appended::Stored { tail: after_seq.saturating_add(events.len() as u64), cancel }, Change::None);
        }
        if !self.is_owned(epoch) {
            return (Appended::Fenced, Change::None);
        }
        if self.tail != after_seq {
            return (Appended::Conflict { tail: self.tail }, Change::None);
        }
        let cancel = self.cancel_reason.clone();
        let (events, outcome) = match (outcome, &cancel) {
            (Outcome::Retry(_), Some(reason)) => {
                (events.with_last(|index, d| d.cancelled(index, reason)), Outcome::Ended)
            }
            _ => (events, outcome),
        };
        self.last_append = Some(this);
        let batch = self.write(events, now);
        match outcome {
            Outcome::Running => self.updated = now,
            Outcome::Ended => self.become_(ended_as(&batch), now),
            Outcome::Retry(delay) => {
                self.failures = self.failures.saturating_add(1);
                self.due = after(now, delay);
                self.due_at = Some(self.due);
                self.become_(if self.due > now { Status::Delayed } else { Status::Queued }, now);
            }
        }
        (Appended::Stored { tail: self.tail, cancel }, Change::Wrote(batch))
    }

    /// Its owner goes on.
    pub(super) fn extend(&mut self, epoch: u64, until: u64) -> Extended {
        if !self.is_owned(epoch) {
            return Extended::Fenced;
        }
        self.lease_until = until;
        self.cancel_reason.clone().map_or(Extended::Held, Extended::Cancel)
    }

    /// It is to be held no longer.
    pub(super) fn start(&mut self, now: u64) -> Change {
        if self.status != Status::Held {
            return Change::None;
        }
        self.fence(now);
        self.become_(if self.due > now { Status::Delayed } else { Status::Queued }, now);
        Change::Moved
    }

    /// Another takes its place, which says when it is due now. Whether it was never started, so that this may be.
    pub(super) fn replace(&mut self, by: &NewTask, now: u64) -> bool {
        if self.attempt > 0 || !matches!(self.status, Status::Held | Status::Delayed | Status::Queued) {
            return false;
        }
        let Life { status, due, due_at, expires, .. } = Life::new(by, now);
        (self.due, self.due_at, self.expires, self.updated) = (due, due_at, expires, now);
        let status = match status {
            _ if self.status == Status::Held => Status::Held,
            Status::Held if due > now => Status::Delayed,
            Status::Held => Status::Queued,
            other => other,
        };
        if self.status != status {
            self.become_(status, now);
        }
        true
    }

    /// It is due. Nobody owns a delayed task: nothing is fenced.
    pub(super) fn promote(&mut self, now: u64) -> Change {
        if self.status != Status::Delayed || self.due > now {
            return Change::None;
        }
        self.become_(Status::Queued, now);
        Change::Moved
    }

    /// Somebody wants it cancelled.
    pub(super) fn cancel(&mut self, reason: String, now: u64) -> (Cancelled, Change) {
        match self.status {
            status if status.is_ended() => (Cancelled::Ended(status), Change::None),
            Status::Running if self.cancel_reason.is_some() => (Cancelled::Asked, Change::None),
            Status::Running => {
                self.cancel_reason = Some(reason);
                (Cancelled::Asked, Change::Moved)
            }
            _ => (Cancelled::Done, Change::Wrote(self.end_cancelled(&reason, now))),
        }
    }

    /// Its owner gives it back.
    pub(super) fn release(&mut self, epoch: u64, now: u64) -> Change {
        if !self.is_owned(epoch) {
            return Change::None;
        }
        if let Some(reason) = self.cancel_reason.clone() {
            return Change::Wrote(self.end_cancelled(&reason, now));
        }
        self.fence(now);
        self.become_(Status::Queued, now);
        Change::Moved
    }

    /// It was not started in time.
    pub(super) fn expire(&mut self, now: u64) -> Change {
        if self.is_expired(now) { Change::Wrote(self.end_cancelled("expired", now)) } else { Change::None }
    }

    /// Cuts a lease that is further ahead than a lease can be. Returns whether it was.
    pub(super) fn cut(&mut self, (latest, limit): (u64, u64)) -> bool {
        let cut = self.status == Status::Running && self.lease_until > limit;
        if cut {
            self.lease_until = latest;
        }
        cut
    }

    /// Keeps the distance to what was stamped as a duration from now, when the store's time has jumped: the lease, the
    /// wait for the next attempt, the time to start of a task that was due at once.
    pub(super) fn shift(&mut self, by: i64) {
        if self.status == Status::Running {
            self.lease_until = self.lease_until.saturating_add_signed(by);
        }
        if self.status == Status::Delayed && self.attempt > 0 {
            self.due = self.due.saturating_add_signed(by);
            self.due_at = self.due_at.map(|at| at.saturating_add_signed(by));
        }
        if self.attempt == 0 && self.due_at.is_none() {
            self.expires = self.expires.map(|at| at.saturating_add_signed(by));
        }
    }

    /// Its worker said nothing for too long.
    pub(super) fn lose(&mut self, crashes_max: u32, now: u64) -> Change {
        if self.status != Status::Running || self.lease_until > now {
            return Change::None;
        }
        if let Some(reason) = self.cancel_reason.clone() {
            return Change::Wrote(self.end_cancelled(&reason, now));
        }
        self.crashes = self.crashes.saturating_add(1);
        self.fence(now);
        let message = format!("the worker `{}` was lost", self.worker.as_deref().unwrap_or_default());
        let failure = TaskFailure::new(FailureKind::Lost, message).in_attempt(self.attempt);
        let last = self.crashes > crashes_max;
        let batch = self.write_one(now, |at, d| match last {
            true => d.failed(at, &failure),
            false => d.retry(at, &failure, Duration::ZERO),
        });
        self.become_(if last { Status::Failed } else { Status::Queued }, now);
        Change::Wrote(batch)
    }

    /// What is stored of it is damaged: it fails, whatever it was. Its log gets an end unless it has one.
    #[cfg(feature = "sqlite")]
    pub(super) fn condemn(&mut self, failure: TaskFailure, now: u64, log_ended: bool) -> Option<EventBatch> {
        let failure = failure.in_attempt(self.attempt);
        // An epoch of far ahead is part of the damage.
        self.epoch = self.epoch.min(now.saturating_add(u64::from(u32::MAX)));
        self.fence(now);
        (self.last_append, self.lease_until, self.worker) = (None, 0, self.worker.take());
        let batch = (!log_ended).then(|| self.write_one(now, |at, d| d.failed(at, &failure)));
        (self.status, self.updated, self.ended, self.error) = (Status::Failed, now, Some(now), Some(failure));
        batch
    }

    fn end_cancelled(&mut self, reason: &str, now: u64) -> EventBatch {
        self.fence(now);
        let batch = self.write_one(now, |at, d| d.cancelled(at, reason));
        self.become_(Status::Cancelled, now);
        batch
    }

    fn write_one(&mut self, now: u64, event: impl FnOnce(u64, &mut DraftBuilder)) -> EventBatch {
        let at = self.yields;
        self.write(Draft::one(|d| event(at, d)), now)
    }

    /// Gives events their place, and takes over what they tell.
    fn write(&mut self, events: Draft, now: u64) -> EventBatch {
        let stamp =
            Stamp { seq: self.tail.saturating_add(1), epoch: self.epoch, attempt: self.attempt, at: from_ms(now) };
        self.bytes = self.bytes.saturating_add(events.bytes() as u64);
        let batch = events.stamp(stamp);
        for event in batch.iter() {
            match event.code {
                EventCode::Yield => {
                    self.yields = event.index.saturating_add(1);
                    if self.yields > self.yields_high {
                        self.yields_high = self.yields;
                        self.crashes = 0;
                    }
                }
                EventCode::Rewind => {
                    self.yields = event.index;
                    self.rewinds.push(Rewind { seq: event.seq, to: event.index });
                }
                EventCode::Completed => {
                    self.final_value = (!event.data.is_empty()).then(|| event.json());
                    self.cancel_reason = None;
                }
                EventCode::Failed => {
                    self.error = event.failure();
                    self.cancel_reason = None;
                }
                EventCode::Cancelled => self.cancel_reason = event.reason(),
                _ => {}
            }
        }
        self.tail = batch.end_seq().saturating_sub(1);
        self.updated = now;
        batch
    }
}

/// The status that the last event gives.
fn ended_as(batch: &EventBatch) -> Status {
    match batch.iter().next_back().map(|e| e.code) {
        Some(EventCode::Failed) => Status::Failed,
        Some(EventCode::Cancelled) => Status::Cancelled,
        last => {
            debug_assert_eq!(last, Some(EventCode::Completed), "an outcome without its event");
            Status::Completed
        }
    }
}
