//! The store of an app that is measured: what goes through it is all that there is to count of tasks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use metrics::{counter, histogram};
use tokio::runtime::Handle;

use super::{APPEND, All, ERRORS, Series, describe};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Draft, EventCode, Stamp};
use crate::store::*;
use crate::task::ids::IdMap;
use crate::task::{Status, TaskId, TaskRecord};

/// The same store, measured.
pub(crate) fn metered(store: Arc<dyn Store>) -> Arc<dyn Store> {
    describe();
    Arc::new(Metered { store, known: Arc::default(), runtime: Handle::current() })
}

#[derive(Debug)]
struct Metered {
    store: Arc<dyn Store>,
    known: Arc<Known>,
    /// That of the app: the keeper's has no time to read.
    runtime: Handle,
}

/// What is known of an app's tasks.
#[derive(Default)]
struct Known {
    all: All,
    /// What its worker has.
    running: Mutex<IdMap<Held>>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known")
    }
}

/// A task that a worker has. It counts as running until this is dropped.
struct Held {
    epoch: u64,
    since: Instant,
    /// Its end is on its way.
    ending: bool,
    series: Arc<Series>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.series.running.decrement(1.0);
    }
}

/// What an append says of its task.
struct Said {
    lease: Lease,
    yields: u64,
    /// What follows, and the last event.
    outcome: Outcome,
    last: Option<EventCode>,
    ran: Option<Duration>,
}

impl Known {
    fn running(&self) -> MutexGuard<'_, IdMap<Held>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn added(&self, tasks: &[(String, String)], answers: &[Added]) {
        for ((task, queue), _) in tasks.iter().zip(answers).filter(|(_, added)| !added.existed) {
            self.all.of(task, queue).added.increment(1);
        }
    }

    /// Those of a repeated claim are known already.
    fn claimed(&self, claimed: &Claimed) {
        for ClaimedTask { record, .. } in &claimed.tasks {
            if self.running().get(&record.id).is_some_and(|held| held.epoch == record.epoch) {
                continue;
            }
            let series = self.all.of(&record.name, &record.queue);
            series.attempts.increment(1);
            series.running.increment(1.0);
            if let (1, Some(started)) = (record.attempt, record.started_at) {
                series.wait.record(waited(record, started));
            }
            let held = Held { epoch: record.epoch, since: Instant::now(), ending: false, series };
            let before = self.running().insert(record.id, held);
            if let Some(before) = before {
                // An attempt that does not know yet that it was lost.
                before.series.lost.increment(1);
            }
        }
    }

    /// What there is to be told once it is stored.
    fn said(&self, append: &Append) -> Said {
        let lease = Lease { id: append.id, epoch: append.epoch };
        let (yields, last) = events(&append.events);
        let mut running = self.running();
        let held = running.get_mut(&lease.id).filter(|held| held.epoch == lease.epoch);
        let ran = held.filter(|_| append.outcome != Outcome::Running).map(|held| {
            held.ending = true;
            held.since.elapsed()
        });
        Said { lease, yields, outcome: append.outcome, last, ran }
    }

    fn appended(&self, said: &Said, answer: &Appended) {
        let cancelled = match answer {
            Appended::Stored { cancel, .. } => cancel.is_some(),
            Appended::Fenced | Appended::Conflict { .. } => return self.lost(said.lease),
        };
        let is_held = |held: &&Held| held.epoch == said.lease.epoch;
        let Some(series) = self.running().get(&said.lease.id).filter(is_held).map(|held| Arc::clone(&held.series))
        else {
            return;
        };
        series.yields.increment(said.yields);
        if let Some(ran) = said.ran {
            series.duration.record(ran);
        }
        match said.outcome {
            Outcome::Running => return,
            Outcome::Retry(_) if !cancelled => series.retries.increment(1),
            Outcome::Retry(_) => series.ended(Status::Cancelled),
            Outcome::Ended => series.ended(match said.last {
                Some(EventCode::Completed) => Status::Completed,
                Some(EventCode::Cancelled) => Status::Cancelled,
                _ => Status::Failed,
            }),
        }
        drop(self.remove(said.lease));
    }

    /// Its task is somebody else's.
    fn lost(&self, lease: Lease) {
        if let Some(held) = self.remove(lease) {
            held.series.lost.increment(1);
        }
    }

    /// The heartbeat was told that its task is somebody else's; or it has just ended by its own hand.
    fn not_extended(&self, lease: Lease) {
        let ends = self.running().get(&lease.id).is_some_and(|held| held.ending);
        if !ends {
            self.lost(lease);
        }
    }

    /// It is dropped without the lock.
    fn remove(&self, lease: Lease) -> Option<Held> {
        let mut running = self.running();
        running.get(&lease.id).filter(|held| held.epoch == lease.epoch)?;
        running.remove(&lease.id)
    }

    fn released(&self, leases: &[Lease]) {
        leases.iter().for_each(|lease| drop(self.remove(*lease)));
    }
}

fn waited(record: &TaskRecord, started: SystemTime) -> Duration {
    let due = record.due_at.map_or(record.created_at, |due| due.max(record.created_at));
    started.duration_since(due).unwrap_or_default()
}

/// How many yields there are among events, and what the last of them is.
fn events(draft: &Draft) -> (u64, Option<EventCode>) {
    let stamp = Stamp { seq: 1, epoch: 0, attempt: 0, at: SystemTime::UNIX_EPOCH };
    let batch = draft.clone().stamp(stamp);
    let yields = batch.iter().filter(|event| event.code == EventCode::Yield).count() as u64;
    (yields, batch.iter().last().map(|event| event.code))
}

impl Metered {
    /// Counts a failure.
    fn checked<T>(operation: &'static str, answer: Result<T>) -> Result<T> {
        if let Err(error) = &answer {
            failed(operation, error);
        }
        answer
    }

    /// Counts tasks that have ended by nobody's hand, once it is read which they were.
    fn over(&self, ids: Vec<TaskId>) {
        if ids.is_empty() {
            return;
        }
        let (store, known) = (Arc::clone(&self.store), Arc::clone(&self.known));
        self.runtime.spawn(async move {
            let Ok(records) = store.get(ids).await else { return };
            for record in records.into_iter().flatten() {
                known.all.of(&record.name, &record.queue).ended(record.status);
            }
        });
    }
}

#[cold]
fn failed(operation: &'static str, error: &Error) {
    let kind = match error.kind() {
        ErrorKind::NotFound => "not_found",
        ErrorKind::Gone => "gone",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Fenced => "fenced",
        ErrorKind::Invalid => "invalid",
        ErrorKind::Codec => "codec",
        ErrorKind::Limit => "limit",
        ErrorKind::TimedOut => "timed_out",
        ErrorKind::Reset => "reset",
        ErrorKind::Damaged => "damaged",
        ErrorKind::Unavailable => "unavailable",
        _ => "other",
    };
    counter!(ERRORS, "operation" => operation, "kind" => kind).increment(1);
}

/// Operations of which nothing is told but that they fail.
macro_rules! checked {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            Box::pin(async move { Metered::checked(stringify!($name), self.store.$name($($arg),*).await) })
        }
    )* };
}

impl Store for Metered {
    fn add(&self, batch: Vec<NewTask>) -> Answer<'_, Vec<Added>> {
        Box::pin(async move {
            let tasks: Vec<_> = batch.iter().map(|task| (task.name.clone(), task.queue.clone())).collect();
            let added = Metered::checked("add", self.store.add(batch).await)?;
            self.known.added(&tasks, &added);
            Ok(added)
        })
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        Box::pin(async move {
            let claimed = Metered::checked("claim", self.store.claim(claim).await)?;
            self.known.claimed(&claimed);
            Ok(claimed)
        })
    }

    fn sweep(&self, sweep: Sweep) -> Answer<'_, Swept> {
        Box::pin(async move {
            let swept = Metered::checked("sweep", self.store.sweep(sweep).await)?;
            self.over(swept.over.clone());
            Ok(swept)
        })
    }

    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>> {
        Box::pin(async move {
            let said: Vec<_> = batch.iter().map(|append| self.known.said(append)).collect();
            let since = Instant::now();
            let answers = Metered::checked("append", self.store.append(batch).await)?;
            histogram!(APPEND).record(since.elapsed());
            said.iter().zip(&answers).for_each(|(said, answer)| self.known.appended(said, answer));
            Ok(answers)
        })
    }

    fn extend(&self, leases: Vec<Lease>, lease: Duration) -> Answer<'_, Vec<Extended>> {
        Box::pin(async move {
            let answers = Metered::checked("extend", self.store.extend(leases.clone(), lease).await)?;
            let lost = leases.into_iter().zip(&answers).filter(|(_, answer)| **answer == Extended::Fenced);
            lost.for_each(|(lease, _)| self.known.not_extended(lease));
            Ok(answers)
        })
    }

    fn cancel(&self, id: TaskId, reason: String) -> Answer<'_, Cancelled> {
        Box::pin(async move {
            let cancelled = Metered::checked("cancel", self.store.cancel(id, reason).await)?;
            if cancelled == Cancelled::Done {
                self.over(vec![id]);
            }
            Ok(cancelled)
        })
    }

    fn release(&self, leases: Vec<Lease>) -> Answer<'_, ()> {
        Box::pin(async move {
            Metered::checked("release", self.store.release(leases.clone()).await)?;
            self.known.released(&leases);
            Ok(())
        })
    }

    checked! {
        start(ids: Vec<TaskId>) -> Vec<Option<Status>>;
        get(ids: Vec<TaskId>) -> Vec<Option<TaskRecord>>;
        list(list: List) -> Listed;
        stats() -> Stats;
        read(read: Read) -> Slice;
        watch(interest: Arc<Interest>) -> Hints;
        remove(ids: Vec<TaskId>) -> Vec<Removed>;
        prune(prune: Prune) -> Pruned;
        doc_get(key: String) -> Option<Doc>;
        doc_put(put: DocPut) -> Option<u64>;
        doc_list(prefix: String) -> Vec<Doc>;
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = Metered::checked("on_this_runtime", self.store.on_this_runtime().await)?;
            let (known, runtime) = (Arc::clone(&self.known), self.runtime.clone());
            Ok(Arc::new(Metered { store, known, runtime }) as Arc<dyn Store>)
        })
    }

    fn durability(&self) -> &'static str {
        self.store.durability()
    }

    fn retention(&self) -> Prune {
        self.store.retention()
    }

    fn now(&self) -> Option<std::time::SystemTime> {
        self.store.now()
    }
}
