//! [`MemoryStore`]: tasks and logs in the memory of this process. They end with it.
//!
//! One lock guards everything, and nothing waits while it is held. Logs are kept in the batches they came in, which
//! readers share; small ones are merged, so that a slow task costs no more memory than a fast one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::{
    Added, Answer, Append, Appended, Cancelled, Claim, Claimed, ClaimedTask, Doc, DocPut, Due, Extended, Hint, Hints,
    Interest, Lease, List, Listed, NewTask, Outcome, Prune, Pruned, Read, Slice, Stats, Store, Sweep, Swept,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Draft, EventBatch, EventCode, is_void};
use crate::json::Json;
use crate::retry::RetryPolicy;
use crate::task::ids::{IdMap, IdSet};
use crate::task::time::{from_ms, to_ms};
use crate::task::{FailureKind, Rewind, Status, TaskFailure, TaskId, TaskRecord};

mod hints;
mod log;

use hints::Listeners;

/// How many hints wait for one process; when more would, it is told to look at everything.
const HINTS_MAX: usize = 1024;

/// Ended tasks keep their logs for so long, however many there are: who waits for one must be able to read it.
const KEPT_MS: u64 = 10_000;

/// Tasks and logs in the memory of this process.
pub struct MemoryStore {
    state: Mutex<State>,
    clock: Clock,
    listeners: Listeners,
    me: Weak<MemoryStore>,
}

/// The stores that bear a name.
static NAMED: LazyLock<Mutex<HashMap<String, Weak<MemoryStore>>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct State {
    /// Boxed: a map that grows moves what it holds.
    rows: IdMap<Box<Row>>,
    /// By *n*: the order of adding.
    order: BTreeMap<u64, TaskId>,
    next_n: u64,
    /// By queue, by name: what a worker may take, in the order in which it does.
    ready: HashMap<String, HashMap<String, BTreeSet<Place>>>,
    delayed: BTreeSet<(u64, TaskId)>,
    expiring: BTreeSet<(u64, TaskId)>,
    running: IdSet,
    /// Ended, with their logs, by when.
    ended: BTreeSet<(u64, TaskId)>,
    ended_bytes: u64,
    /// Ended, without their logs, by when they lost them.
    bare: BTreeSet<(u64, TaskId)>,
    unique: HashMap<(String, String), TaskId>,
    idempotency: HashMap<String, TaskId>,
    /// The last claim of each worker.
    claims: HashMap<String, (u64, Vec<TaskId>)>,
    docs: BTreeMap<String, StoredDoc>,
    /// When somebody last swept, and until when no lease is taken away.
    swept_at: Option<u64>,
    spare_until: u64,
}

/// Priority, due, *n*.
type Place = (i16, u64, u64, TaskId);

struct Row {
    n: u64,
    record: TaskRecord,
    due: u64,
    log: Vec<EventBatch>,
    bytes: u64,
    /// Epoch, tail before, number of events: what a repeated append is known by.
    last_append: Option<(u64, u64, usize)>,
    checkpoint: Option<Json>,
    lease_until: u64,
    unique: Option<String>,
    idempotency_key: Option<String>,
    retry: Option<RetryPolicy>,
    time_limit: Option<Duration>,
    /// Retention took the log.
    bare: bool,
}

struct StoredDoc {
    version: u64,
    bytes: Vec<u8>,
    expires_at: Option<u64>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("tasks", &self.state().rows.len()).finish_non_exhaustive()
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl MemoryStore {
    /// A new store with a clock of its own.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new_cyclic(|me| MemoryStore {
            state: Mutex::default(),
            clock,
            listeners: Listeners::default(),
            me: me.clone(),
        })
    }

    /// The store of a name, shared by all of this process that open it and gone with the last of them; a new store
    /// each time if the name is empty.
    pub fn named(name: &str) -> Arc<Self> {
        if name.is_empty() {
            return MemoryStore::new(Clock::system());
        }
        let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = named.get(name).and_then(Weak::upgrade) {
            return store;
        }
        named.retain(|_, store| store.strong_count() > 0);
        let store = MemoryStore::new(Clock::system());
        named.insert(name.to_owned(), Arc::downgrade(&store));
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held is a bug of ours; what it guards is still better than nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something under the lock, then passes on the hints that it gave rise to.
    fn with<R>(&self, f: impl FnOnce(&mut State, u64, &mut Vec<Hint>) -> R) -> R {
        let mut hints = Vec::new();
        let now = self.clock.now_ms();
        let result = f(&mut self.state(), now, &mut hints);
        self.listeners.tell(hints);
        result
    }

    fn answer<R: Send + 'static>(&self, f: impl FnOnce(&mut State, u64, &mut Vec<Hint>) -> R) -> Answer<'_, R> {
        let result = self.with(f);
        async move { Ok(result) }.boxed()
    }

    fn try_answer<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut State, u64, &mut Vec<Hint>) -> Result<R>,
    ) -> Answer<'_, R> {
        let result = self.with(f);
        async move { result }.boxed()
    }
}

impl Store for MemoryStore {
    fn add(&self, batch: Vec<NewTask>) -> Answer<'_, Vec<Added>> {
        self.try_answer(|state, now, hints| state.add(batch, now, hints))
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        self.answer(|state, now, hints| state.claim(&claim, now, hints))
    }

    fn sweep(&self, sweep: Sweep) -> Answer<'_, Swept> {
        self.answer(|state, now, hints| state.sweep(sweep, now, hints))
    }

    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>> {
        self.answer(|state, now, hints| batch.into_iter().map(|a| state.append(a, now, hints)).collect())
    }

    fn extend(&self, leases: Vec<Lease>, lease: Duration) -> Answer<'_, Vec<Extended>> {
        self.answer(|state, now, _| leases.into_iter().map(|l| state.extend(l, now + ms(lease))).collect())
    }

    fn start(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<Status>>> {
        self.answer(|state, now, hints| ids.into_iter().map(|id| state.start(id, now, hints)).collect())
    }

    fn cancel(&self, id: TaskId, reason: String) -> Answer<'_, Cancelled> {
        self.try_answer(|state, now, hints| state.cancel(id, reason, now, hints))
    }

    fn release(&self, leases: Vec<Lease>) -> Answer<'_, ()> {
        self.answer(|state, now, hints| leases.into_iter().for_each(|l| state.release(l, now, hints)))
    }

    fn get(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<TaskRecord>>> {
        self.answer(|state, _, _| ids.iter().map(|id| state.rows.get(id).map(|r| r.record.clone())).collect())
    }

    fn list(&self, list: List) -> Answer<'_, Listed> {
        self.try_answer(|state, _, _| state.list(&list))
    }

    fn stats(&self) -> Answer<'_, Stats> {
        self.answer(|state, _, _| {
            let mut stats = Stats::default();
            for row in state.rows.values() {
                let queue = stats.queues.entry(row.record.queue.clone()).or_default();
                *queue.entry(row.record.status).or_default() += 1;
            }
            stats
        })
    }

    fn read(&self, read: Read) -> Answer<'_, Slice> {
        self.try_answer(|state, _, _| state.read(read))
    }

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        let hints = self.listeners.add(interest);
        async move { Ok(hints) }.boxed()
    }

    fn prune(&self, prune: Prune) -> Answer<'_, Pruned> {
        self.answer(|state, now, hints| state.prune(prune, now, hints))
    }

    fn doc_get(&self, key: String) -> Answer<'_, Option<Doc>> {
        self.answer(|state, now, _| {
            let doc = state.docs.get(&key).filter(|d| d.expires_at.is_none_or(|at| at > now));
            doc.map(|d| Doc { version: d.version, bytes: d.bytes.clone(), key })
        })
    }

    fn doc_put(&self, put: DocPut) -> Answer<'_, Option<u64>> {
        self.answer(|state, now, _| {
            let current = state.docs.get(&put.key).filter(|d| d.expires_at.is_none_or(|at| at > now));
            let version = current.map_or(0, |d| d.version);
            if put.if_version.is_some_and(|wanted| wanted != version) {
                return None;
            }
            let expires_at = put.expires.map(|e| now.saturating_add(ms(e)));
            let doc = StoredDoc { version: version + 1, bytes: put.bytes, expires_at };
            state.docs.insert(put.key, doc);
            Some(version + 1)
        })
    }

    fn doc_list(&self, prefix: String) -> Answer<'_, Vec<Doc>> {
        self.answer(|state, now, _| {
            state.docs.retain(|_, d| d.expires_at.is_none_or(|at| at > now));
            let from = state.docs.range(prefix.clone()..).take_while(|(k, _)| k.starts_with(&prefix));
            from.map(|(k, d)| Doc { key: k.clone(), version: d.version, bytes: d.bytes.clone() }).collect()
        })
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        // There are no connections: every runtime drives all there is.
        let this: Arc<dyn Store> = self.me.upgrade().expect("called through an `Arc`, the only way to have one");
        async move { Ok(this) }.boxed()
    }

    fn durability(&self) -> &'static str {
        "in memory: stored events survive the task and its worker, not the process"
    }
}

impl State {
    fn add(&mut self, batch: Vec<NewTask>, now: u64, hints: &mut Vec<Hint>) -> Result<Vec<Added>> {
        let mut first: HashMap<&str, &NewTask> = HashMap::new();
        for new in &batch {
            let Some(key) = new.idempotency_key.as_deref() else { continue };
            let same = match self.idempotency.get(key).and_then(|id| self.rows.get(id)) {
                Some(row) => row.record.id == new.id || (row.record.name == new.name && row.record.args == new.args),
                None => first.insert(key, new).is_none_or(|f| f.name == new.name && f.args == new.args),
            };
            if !same {
                let message = format!("the idempotency key {key:?} was used for another task or other arguments");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        }
        Ok(batch.into_iter().map(|new| self.add_one(new, now, hints)).collect())
    }

    fn add_one(&mut self, new: NewTask, now: u64, hints: &mut Vec<Hint>) -> Added {
        let same_key = new.idempotency_key.as_ref().and_then(|k| self.idempotency.get(k)).copied();
        let unique = new.unique.clone().map(|key| (new.name.clone(), key));
        let existing = self.rows.contains_key(&new.id).then_some(new.id).or(same_key);
        if let Some(id) = existing.or_else(|| unique.as_ref().and_then(|u| self.unique.get(u)).copied()) {
            return Added { id, existed: true };
        }
        let (id, n) = (new.id, self.next_n);
        self.next_n += 1;
        if let Some(unique) = unique {
            self.unique.insert(unique, id);
        }
        if let Some(key) = &new.idempotency_key {
            self.idempotency.insert(key.clone(), id);
        }
        let row = Box::new(Row::new(new, n, now));
        if let Some(at) = row.record.expires_at {
            self.expiring.insert((to_ms(at), id));
        }
        self.order.insert(n, id);
        self.rows.insert(id, row);
        self.enlist(id, hints);
        Added { id, existed: false }
    }

    /// Puts a task where its status belongs.
    fn enlist(&mut self, id: TaskId, hints: &mut Vec<Hint>) {
        let Some(row) = self.rows.get(&id) else { return };
        let record = &row.record;
        match record.status {
            Status::Delayed => {
                self.delayed.insert((row.due, id));
                // Whoever rests is to rest no longer than that.
                if self.delayed.first().is_some_and(|(_, first)| *first == id) {
                    hints.push(Hint::Ready { queue: record.queue.clone(), name: record.name.clone() });
                }
            }
            Status::Queued => {
                let place = (record.priority, row.due, row.n, id);
                match self.ready.get_mut(&record.queue).and_then(|names| names.get_mut(&record.name)) {
                    Some(places) => drop(places.insert(place)),
                    None => {
                        let names = self.ready.entry(record.queue.clone()).or_default();
                        names.insert(record.name.clone(), BTreeSet::from([place]));
                    }
                }
                let known = |h: &Hint| matches!(h, Hint::Ready { queue, name } if *queue == record.queue && *name == record.name);
                // Of many added at once the last hint is most often the same.
                if !hints.last().is_some_and(known) {
                    hints.push(Hint::Ready { queue: record.queue.clone(), name: record.name.clone() });
                }
            }
            Status::Running => {
                self.running.insert(id);
            }
            Status::Completed | Status::Failed | Status::Cancelled => {
                let at = record.completed_at.map_or(0, to_ms);
                self.ended.insert((at, id));
                self.ended_bytes += row.bytes;
                if let Some(key) = &row.unique {
                    self.unique.remove(&(record.name.clone(), key.clone()));
                }
            }
            Status::Held => {}
        }
    }

    /// Takes a task from where its status put it.
    fn delist(&mut self, id: TaskId) {
        let Some(row) = self.rows.get(&id) else { return };
        let record = &row.record;
        match record.status {
            Status::Delayed => {
                self.delayed.remove(&(row.due, id));
            }
            Status::Queued => {
                if let Some(places) = self.ready.get_mut(&record.queue).and_then(|q| q.get_mut(&record.name)) {
                    places.remove(&(record.priority, row.due, row.n, id));
                }
            }
            Status::Running => {
                self.running.remove(&id);
            }
            _ => {}
        }
        // Once started, it can't expire any more; before that, only an end keeps it from expiring.
        if row.record.status.is_ended() || row.record.attempt > 0 {
            self.forget_expiry(id);
        }
    }

    fn forget_expiry(&mut self, id: TaskId) {
        if let Some(at) = self.rows.get(&id).and_then(|r| r.record.expires_at) {
            self.expiring.remove(&(to_ms(at), id));
        }
    }

    /// Gives a task another status. Raises the epoch unless it is its owner who moves it.
    fn become_(&mut self, id: TaskId, status: Status, now: u64, fence: bool, hints: &mut Vec<Hint>) {
        self.delist(id);
        let row = self.rows.get_mut(&id).expect("the caller has it");
        debug_assert!(row.record.status.may_become(status), "{} -> {status}", row.record.status);
        row.record.status = status;
        row.record.updated_at = from_ms(now);
        if fence {
            row.record.epoch = (row.record.epoch + 1).max(now);
        }
        if status.is_ended() {
            row.record.completed_at = Some(from_ms(now));
            self.forget_expiry(id);
        }
        self.enlist(id, hints);
    }

    /// Adds events that are not the owner's: an end, or the loss of an attempt.
    fn write(&mut self, id: TaskId, events: Draft, now: u64) {
        let row = self.rows.get_mut(&id).expect("the caller has it");
        row.store(events, now);
    }

    fn moved(&self, id: TaskId, hints: &mut Vec<Hint>) {
        if let Some(row) = self.rows.get(&id) {
            hints.push(Hint::Moved { id, tail: row.record.tail, ended: row.record.status.is_ended() });
        }
    }

    fn claim(&mut self, claim: &Claim, now: u64, hints: &mut Vec<Hint>) -> Claimed {
        if let Some((token, ids)) = self.claims.get(&claim.worker)
            && *token == claim.token
        {
            let held = |id: &&TaskId| {
                let row = self.rows.get(*id);
                row.is_some_and(|r| {
                    r.record.status == Status::Running && r.record.worker.as_deref() == Some(claim.worker.as_str())
                })
            };
            let tasks = ids.iter().filter(held).map(|id| self.rows[id].claimed()).collect();
            return Claimed { tasks, next_due: self.next_due(now) };
        }
        self.promote(usize::MAX, now, hints);
        let taken = self.take(claim, now);
        for id in &taken {
            self.become_(*id, Status::Running, now, true, hints);
            let row = self.rows.get_mut(id).expect("taken from the index");
            row.lease_until = now.saturating_add(ms(claim.lease));
            row.record.attempt += 1;
            row.record.worker = Some(claim.worker.clone());
            row.record.started_at.get_or_insert(from_ms(now));
            self.forget_expiry(*id);
        }
        let tasks = taken.iter().map(|id| self.rows[id].claimed()).collect();
        if taken.len() == claim.max {
            self.hint_ready(claim, hints);
        }
        self.claims.insert(claim.worker.clone(), (claim.token, taken));
        Claimed { tasks, next_due: self.next_due(now) }
    }

    /// The most urgent tasks of the offered pairs: a merge of the heads of their queues.
    fn take(&mut self, claim: &Claim, now: u64) -> Vec<TaskId> {
        let mut heads = BinaryHeap::new();
        let mut lines: Vec<_> = claim
            .offers
            .iter()
            .map(|o| {
                let places = self.ready.get(&o.queue).and_then(|names| names.get(&o.name));
                (places.into_iter().flatten(), o.allowance)
            })
            .collect();
        for (i, (line, allowance)) in lines.iter_mut().enumerate() {
            if *allowance > 0
                && let Some(place) = line.next()
            {
                heads.push(Reverse((*place, i)));
            }
        }
        let mut taken = Vec::new();
        while taken.len() < claim.max
            && let Some(Reverse((place, i))) = heads.pop()
        {
            let (line, allowance) = &mut lines[i];
            // Too late to start: `sweep` ends it.
            let expired = self.rows[&place.3].record.expires_at.is_some_and(|at| to_ms(at) <= now)
                && self.rows[&place.3].record.attempt == 0;
            if !expired {
                taken.push(place.3);
                *allowance -= 1;
            }
            if *allowance > 0
                && let Some(next) = line.next()
            {
                heads.push(Reverse((*next, i)));
            }
        }
        taken
    }

    /// Another worker may have room for what this one left.
    fn hint_ready(&self, claim: &Claim, hints: &mut Vec<Hint>) {
        let left = |offer: &&super::Offer| {
            let names = self.ready.get(&offer.queue);
            names.and_then(|n| n.get(&offer.name)).is_some_and(|places| !places.is_empty())
        };
        let ready = |o: &super::Offer| Hint::Ready { queue: o.queue.clone(), name: o.name.clone() };
        hints.extend(claim.offers.iter().filter(left).map(ready));
    }

    fn next_due(&self, now: u64) -> Option<Duration> {
        self.delayed.first().map(|(due, _)| Duration::from_millis(due.saturating_sub(now)))
    }

    fn promote(&mut self, max: usize, now: u64, hints: &mut Vec<Hint>) -> usize {
        let due: Vec<TaskId> =
            self.delayed.iter().take_while(|(due, _)| *due <= now).take(max).map(|(_, id)| *id).collect();
        for id in &due {
            // Nobody owns a delayed task: nothing is fenced.
            self.become_(*id, Status::Queued, now, false, hints);
        }
        due.len()
    }

    fn sweep(&mut self, sweep: Sweep, now: u64, hints: &mut Vec<Hint>) -> Swept {
        let gap = self.swept_at.is_some_and(|at| now.saturating_sub(at) > ms(sweep.lease) / 2);
        if gap {
            self.spare_until = now.saturating_add(ms(sweep.heartbeat)).saturating_add(1_000);
        }
        self.swept_at = Some(now);
        let mut swept = Swept { promoted: self.promote(sweep.max, now, hints), ..Swept::default() };
        let late: Vec<TaskId> =
            self.expiring.iter().take_while(|(at, _)| *at <= now).take(sweep.max).map(|(_, id)| *id).collect();
        for id in late {
            self.end_cancelled(id, "expired", now, hints);
            swept.expired += 1;
        }
        if now < self.spare_until {
            return swept;
        }
        let lost = |id: &&TaskId| self.rows[*id].lease_until <= now;
        let lost: Vec<TaskId> = self.running.iter().filter(lost).take(sweep.max).copied().collect();
        for id in lost {
            if self.lose(id, sweep.crashes_max, now, hints) == Status::Queued {
                swept.requeued += 1;
            } else {
                swept.ended += 1;
            }
        }
        swept
    }

    /// The lease of a running task is over.
    fn lose(&mut self, id: TaskId, crashes_max: u32, now: u64, hints: &mut Vec<Hint>) -> Status {
        let row = self.rows.get_mut(&id).expect("the caller has it");
        if let Some(reason) = row.record.cancel_reason.clone() {
            self.end_cancelled(id, &reason, now, hints);
            return Status::Cancelled;
        }
        row.record.crashes += 1;
        row.record.epoch = (row.record.epoch + 1).max(now);
        let worker = row.record.worker.clone().unwrap_or_default();
        let message = format!("the worker `{worker}` was lost");
        let failure = TaskFailure::new(FailureKind::Lost, message).in_attempt(row.record.attempt);
        let (at, last) = (row.record.yields, row.record.crashes > crashes_max);
        let status = if last {
            self.write(id, Draft::one(|d| d.failed(at, &failure)), now);
            Status::Failed
        } else {
            self.write(id, Draft::one(|d| d.retry(at, &failure, Duration::ZERO)), now);
            Status::Queued
        };
        self.become_(id, status, now, false, hints);
        self.moved(id, hints);
        status
    }

    fn end_cancelled(&mut self, id: TaskId, reason: &str, now: u64, hints: &mut Vec<Hint>) {
        let row = self.rows.get_mut(&id).expect("the caller has it");
        row.record.epoch = (row.record.epoch + 1).max(now);
        let at = row.record.yields;
        self.write(id, Draft::one(|d| d.cancelled(at, reason)), now);
        self.become_(id, Status::Cancelled, now, false, hints);
        self.moved(id, hints);
    }

    fn append(&mut self, append: Append, now: u64, hints: &mut Vec<Hint>) -> Appended {
        let Append { id, epoch, after_seq, events, checkpoint, outcome } = append;
        let Some(row) = self.rows.get_mut(&id) else { return Appended::Fenced };
        let record = &row.record;
        let this = (epoch, after_seq, events.len());
        if row.last_append == Some(this) {
            let cancel = record.cancel_reason.clone().filter(|_| record.status == Status::Running);
            return Appended::Stored { tail: after_seq + events.len() as u64, cancel };
        }
        if record.epoch != epoch || record.status != Status::Running {
            return Appended::Fenced;
        }
        if record.tail != after_seq {
            return Appended::Conflict { tail: record.tail };
        }
        let cancel = record.cancel_reason.clone();
        let (events, outcome) = match (outcome, &cancel) {
            (Outcome::Retry(_), Some(reason)) => {
                (events.with_last(|index, d| d.cancelled(index, reason)), Outcome::Ended)
            }
            _ => (events, outcome),
        };
        row.last_append = Some(this);
        row.store(events, now);
        if checkpoint.is_some() {
            row.checkpoint = checkpoint;
        }
        let tail = row.record.tail;
        match outcome {
            Outcome::Running => row.record.updated_at = from_ms(now),
            Outcome::Ended => {
                let status = row.ended_as();
                self.become_(id, status, now, false, hints);
            }
            Outcome::Retry(delay) => {
                row.record.failures += 1;
                row.due = now.saturating_add(ms(delay));
                let later = row.due > now;
                row.record.due_at = Some(from_ms(row.due));
                let status = if later { Status::Delayed } else { Status::Queued };
                self.become_(id, status, now, false, hints);
            }
        }
        self.moved(id, hints);
        Appended::Stored { tail, cancel }
    }

    fn extend(&mut self, lease: Lease, until: u64) -> Extended {
        match self.rows.get_mut(&lease.id) {
            Some(row) if row.record.epoch == lease.epoch && row.record.status == Status::Running => {
                row.lease_until = until;
                row.record.cancel_reason.clone().map_or(Extended::Held, Extended::Cancel)
            }
            _ => Extended::Fenced,
        }
    }

    fn start(&mut self, id: TaskId, now: u64, hints: &mut Vec<Hint>) -> Option<Status> {
        let row = self.rows.get(&id)?;
        if row.record.status == Status::Held {
            let status = if row.due > now { Status::Delayed } else { Status::Queued };
            self.become_(id, status, now, true, hints);
        }
        self.rows.get(&id).map(|r| r.record.status)
    }

    fn cancel(&mut self, id: TaskId, reason: String, now: u64, hints: &mut Vec<Hint>) -> Result<Cancelled> {
        let row = self.rows.get_mut(&id).ok_or_else(|| super::not_found(id))?;
        match row.record.status {
            status if status.is_ended() => Ok(Cancelled::Ended(status)),
            Status::Running => {
                row.record.cancel_reason.get_or_insert(reason);
                hints.push(Hint::Cancel { id });
                Ok(Cancelled::Asked)
            }
            _ => {
                self.end_cancelled(id, &reason, now, hints);
                Ok(Cancelled::Done)
            }
        }
    }

    fn release(&mut self, lease: Lease, now: u64, hints: &mut Vec<Hint>) {
        let Some(row) = self.rows.get(&lease.id) else { return };
        if row.record.epoch != lease.epoch || row.record.status != Status::Running {
            return;
        }
        match row.record.cancel_reason.clone() {
            Some(reason) => self.end_cancelled(lease.id, &reason, now, hints),
            None => self.become_(lease.id, Status::Queued, now, true, hints),
        }
    }

    fn list(&self, list: &List) -> Result<Listed> {
        let before = match &list.cursor {
            None => u64::MAX,
            Some(c) => c.parse().map_err(|_| Error::invalid(format!("{c:?} is not a cursor of this list")))?,
        };
        let matches = |r: &TaskRecord| {
            (list.status.is_empty() || list.status.contains(&r.status))
                && list.name.as_ref().is_none_or(|n| *n == r.name)
                && list.queue.as_ref().is_none_or(|q| *q == r.queue)
                && list.tag.as_ref().is_none_or(|t| r.tags.contains(t))
                && list.parent.is_none_or(|p| r.parent == Some(p))
        };
        let rows = self.order.range(..before).rev().map(|(n, id)| (*n, &self.rows[id].record));
        let mut found: Vec<_> = rows.filter(|(_, r)| matches(r)).take(list.limit.saturating_add(1)).collect();
        let more = found.len() > list.limit;
        found.truncate(list.limit);
        let next = found.last().filter(|_| more).map(|(n, _)| n.to_string());
        Ok(Listed { tasks: found.into_iter().map(|(_, r)| r.clone()).collect(), next })
    }

    fn prune(&mut self, prune: Prune, now: u64, hints: &mut Vec<Hint>) -> Pruned {
        let mut pruned = Pruned::default();
        let old = now.saturating_sub(ms(prune.age));
        while pruned.logs < prune.max
            && let Some((at, id)) = self.ended.first().copied()
        {
            let many = prune.ended_max.is_some_and(|max| self.ended.len() as u64 > max)
                || prune.bytes_max.is_some_and(|max| self.ended_bytes > max);
            if !(at <= old || (many && at.saturating_add(KEPT_MS) <= now)) {
                break;
            }
            self.ended.remove(&(at, id));
            let row = self.rows.get_mut(&id).expect("an ended task");
            self.ended_bytes -= row.bytes;
            row.strip();
            self.bare.insert((now, id));
            self.moved(id, hints);
            pruned.logs += 1;
        }
        while pruned.rows < prune.max
            && let Some((at, id)) = self.bare.first().copied()
            && at <= old
        {
            self.bare.remove(&(at, id));
            if let Some(row) = self.rows.remove(&id) {
                self.order.remove(&row.n);
                if let Some(key) = row.idempotency_key {
                    self.idempotency.remove(&key);
                }
            }
            pruned.rows += 1;
        }
        pruned
    }
}
