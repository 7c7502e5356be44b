//! [`MemoryStore`]: tasks and logs in the memory of this process. They end with it.
//!
//! One lock guards everything, and nothing waits while it is held. Logs are kept in the batches they came in, which
//! readers share; small ones are merged, so that a slow task costs no more memory than a fast one.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use super::{
    Added, Answer, Append, Appended, Cancelled, Claim, Claimed, ClaimedTask, Doc, DocPut, Extended, Hint, Hints,
    Interest, Lease, LimitOn, List, Listed, NewTask, Prune, Pruned, Read, Removed, Slice, Stats, Store, Sweep, Swept,
};
use crate::clock::Clock;
use crate::error::Result;
use crate::event::{EventBatch, EventCode, is_void, named_hash};
use crate::json::Json;
use crate::retry::RetryPolicy;
use crate::task::ids::{IdMap, IdSet};
use crate::task::{Status, TaskId, TaskRecord};
use crate::trace::TraceContext;
use futures::FutureExt as _;

mod limits;
mod log;
mod retention;

use super::life::{Change, Fixed, Life, Mark, ms};
use super::limits::{Gates, PAUSES};
use super::listeners::Listeners;

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
    /// Ended, with a retention of their own, by when it is over.
    timed: BTreeSet<(u64, TaskId)>,
    /// Ended, without their logs, by when they lost them.
    bare: BTreeSet<(u64, TaskId)>,
    unique: HashMap<(String, String), TaskId>,
    idempotency: HashMap<String, TaskId>,
    /// By the ids of those that took the place of another.
    replaced: IdMap<TaskId>,
    /// How far rates have got, in nanoseconds since 1970.
    rates: HashMap<LimitOn, u64>,
    /// The last claim of each worker: token, tasks, when.
    claims: HashMap<String, (u64, Vec<TaskId>, u64)>,
    docs: BTreeMap<String, StoredDoc>,
    mark: Mark,
}

/// Priority, due, *n*.
type Place = (i16, u64, u64, TaskId);

struct Row {
    n: u64,
    created: u64,
    id: TaskId,
    name: String,
    queue: String,
    priority: i16,
    args: Json,
    tags: Vec<String>,
    retry_of: Option<TaskId>,
    parent: Option<TaskId>,
    trace: Option<TraceContext>,
    life: Life,
    log: Vec<EventBatch>,
    checkpoint: Option<Json>,
    unique: Option<String>,
    /// The last that took its place.
    replaced_by: Option<TaskId>,
    idempotency_key: Option<String>,
    /// Only of one with such a key.
    same_call: u64,
    retry: Option<RetryPolicy>,
    time_limit: Option<Duration>,
    idle_limit: Option<Duration>,
    /// Its place among the bare ones, once retention has taken the log.
    bare: Option<u64>,
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
        self.answer(|state, now, hints| {
            state.mark.lease(claim.lease);
            state.claim(&claim, now, hints)
        })
    }

    fn sweep(&self, sweep: Sweep) -> Answer<'_, Swept> {
        let patience = sweep.lease.max(Duration::from_millis(self.state().mark.lease_max));
        if let Some(by) = self.clock.look(None, patience) {
            self.state().shift(by);
        }
        self.answer(|state, now, hints| state.sweep(sweep, now, hints))
    }

    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>> {
        self.answer(|state, now, hints| batch.into_iter().map(|a| state.append(a, now, hints)).collect())
    }

    fn extend(&self, leases: Vec<Lease>, lease: Duration) -> Answer<'_, Vec<Extended>> {
        self.answer(|state, now, _| {
            state.mark.lease(lease);
            leases.into_iter().map(|l| state.extend(l, now.saturating_add(ms(lease)))).collect()
        })
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
        self.answer(|state, _, _| ids.iter().map(|id| state.rows.get(id).map(|r| r.record())).collect())
    }

    fn list(&self, list: List) -> Answer<'_, Listed> {
        self.try_answer(|state, _, _| state.list(&list))
    }

    fn stats(&self) -> Answer<'_, Stats> {
        self.answer(|state, _, _| {
            let mut stats = Stats::default();
            for row in state.rows.values() {
                let queue = stats.queues.entry(row.queue.clone()).or_default();
                *queue.entry(row.life.status).or_default() += 1;
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

    fn remove(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Removed>> {
        self.answer(|state, _, hints| ids.into_iter().map(|id| state.remove(id, hints)).collect())
    }

    fn prune(&self, prune: Prune) -> Answer<'_, Pruned> {
        if self.clock.is_settling(None) {
            return async { Ok(Pruned::default()) }.boxed();
        }
        self.answer(|state, now, hints| state.prune(prune, now, hints))
    }

    fn doc_get(&self, key: String) -> Answer<'_, Option<Doc>> {
        self.answer(|state, now, _| {
            let doc = state.docs.get(&key).filter(|d| d.expires_at.is_none_or(|at| at > now));
            doc.map(|d| Doc { version: d.version, bytes: d.bytes.clone(), key })
        })
    }

    fn doc_put(&self, put: DocPut) -> Answer<'_, Option<u64>> {
        self.answer(|state, now, hints| {
            let current = state.docs.get(&put.key).filter(|d| d.expires_at.is_none_or(|at| at > now));
            let version = current.map_or(0, |d| d.version);
            if put.if_version.is_some_and(|wanted| wanted != version) {
                return None;
            }
            let expires_at = put.expires.map(|e| now.saturating_add(ms(e)));
            let doc = StoredDoc { version: version + 1, bytes: put.bytes, expires_at };
            if put.key.starts_with(PAUSES) {
                hints.push(Hint::Look);
            }
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

    fn now(&self) -> Option<SystemTime> {
        Some(self.clock.now())
    }

    fn retention(&self) -> Prune {
        let age = Duration::from_secs(3600);
        Prune { age, ended_max: Some(10_000), bytes_max: Some(256 << 20), ..Prune::default() }
    }
}

impl State {
    fn add(&mut self, batch: Vec<NewTask>, now: u64, hints: &mut Vec<Hint>) -> Result<Vec<Added>> {
        let mut first: HashMap<&str, &NewTask> = HashMap::new();
        for new in &batch {
            let Some(key) = new.idempotency_key.as_deref() else { continue };
            if self.rows.contains_key(&new.id) {
                continue;
            }
            let same = match self.idempotency.get(key).and_then(|id| self.rows.get(id)) {
                Some(row) => row.same_call == named_hash(&new.name, &new.args),
                None => first.insert(key, new).is_none_or(|f| f.name == new.name && f.args == new.args),
            };
            if !same {
                return Err(super::key_was_used(key));
            }
        }
        Ok(batch.into_iter().map(|new| self.add_one(new, now, hints)).collect())
    }

    fn add_one(&mut self, new: NewTask, now: u64, hints: &mut Vec<Hint>) -> Added {
        let replaced = new.replace.then(|| self.replaced(new.id)).flatten();
        let same_key = new.idempotency_key.as_ref().and_then(|k| self.idempotency.get(k)).copied();
        let unique = new.unique.clone().map(|key| (new.name.clone(), key));
        let existing = self.rows.contains_key(&new.id).then_some(new.id).or(replaced).or(same_key);
        if let Some(id) = existing {
            return Added { id, existed: true };
        }
        if let Some(id) = unique.as_ref().and_then(|u| self.unique.get(u)).copied() {
            let added =
                if new.replace { self.replace(id, &new, now, hints) } else { Some(Added { id, existed: true }) };
            if let Some(added) = added {
                return added;
            }
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
        if let Some(at) = row.life.expires {
            self.expiring.insert((at, id));
        }
        self.order.insert(n, id);
        self.rows.insert(id, row);
        self.enlist(id, hints);
        Added { id, existed: false }
    }

    /// Puts a task where its status belongs.
    fn enlist(&mut self, id: TaskId, hints: &mut Vec<Hint>) {
        let Some(row) = self.rows.get(&id) else { return };
        match row.life.status {
            Status::Delayed => {
                self.delayed.insert((row.life.due, id));
                // Whoever rests is to rest no longer than that.
                if self.delayed.first().is_some_and(|(_, first)| *first == id) {
                    hints.push(Hint::Ready { queue: row.queue.clone(), name: row.name.clone() });
                }
            }
            Status::Queued => {
                let place = (row.priority, row.life.due, row.n, id);
                match self.ready.get_mut(&row.queue).and_then(|names| names.get_mut(&row.name)) {
                    Some(places) => drop(places.insert(place)),
                    None => {
                        let names = self.ready.entry(row.queue.clone()).or_default();
                        names.insert(row.name.clone(), BTreeSet::from([place]));
                    }
                }
                let known =
                    |h: &Hint| matches!(h, Hint::Ready { queue, name } if *queue == row.queue && *name == row.name);
                // Of many added at once the last hint is most often the same.
                if !hints.last().is_some_and(known) {
                    hints.push(Hint::Ready { queue: row.queue.clone(), name: row.name.clone() });
                }
            }
            Status::Running => {
                self.running.insert(id);
            }
            Status::Completed | Status::Failed | Status::Cancelled => {
                if let Some(key) = &row.unique {
                    self.unique.remove(&(row.name.clone(), key.clone()));
                }
            }
            Status::Held => {}
        }
        // Once started, or ended, it can't expire any more.
        if let Some(at) = row.life.expires
            && (row.life.status.is_ended() || row.life.attempt > 0)
        {
            self.expiring.remove(&(at, id));
        }
        if row.life.status.is_ended() {
            self.keep_ended(id);
        }
    }

    /// Takes a task from where its status, as it was, put it.
    fn delist(&mut self, id: TaskId, status: Status, due: u64) {
        let Some(row) = self.rows.get(&id) else { return };
        match status {
            Status::Delayed => {
                self.delayed.remove(&(due, id));
            }
            Status::Queued => {
                if let Some(places) = self.ready.get_mut(&row.queue).and_then(|q| q.get_mut(&row.name)) {
                    places.remove(&(row.priority, due, row.n, id));
                }
            }
            Status::Running => {
                self.running.remove(&id);
            }
            _ => {}
        }
    }

    /// Has something happen to a task, and puts it where that leaves it. `None` if there is no such task.
    fn change<R>(
        &mut self,
        id: TaskId,
        hints: &mut Vec<Hint>,
        happen: impl FnOnce(&mut Life) -> (R, Change),
    ) -> Option<(R, bool)> {
        let row = self.rows.get_mut(&id)?;
        let (status, due) = (row.life.status, row.life.due);
        let (result, change) = happen(&mut row.life);
        let changed = !matches!(change, Change::None);
        let wrote = matches!(change, Change::Wrote(_));
        if let Change::Wrote(batch) = change {
            row.keep(batch);
        }
        if wrote {
            hints.push(Hint::Moved { id, tail: row.life.tail, ended: row.life.status.is_ended() });
        }
        if (row.life.status, row.life.due) != (status, due) {
            self.delist(id, status, due);
            self.enlist(id, hints);
        }
        Some((result, changed))
    }

    /// The same for something that answers nothing: whether it changed the task.
    fn move_(&mut self, id: TaskId, hints: &mut Vec<Hint>, happen: impl FnOnce(&mut Life) -> Change) -> bool {
        self.change(id, hints, |life| ((), happen(life))).is_some_and(|((), changed)| changed)
    }

    fn claim(&mut self, claim: &Claim, now: u64, hints: &mut Vec<Hint>) -> Claimed {
        if let Some((token, ids, _)) = self.claims.get(&claim.worker)
            && *token == claim.token
        {
            let mut tasks = Vec::new();
            for id in ids {
                if let Some(row) = self.rows.get_mut(id)
                    && row.life.claim_again(&claim.worker, claim.lease, now)
                {
                    tasks.push(row.claimed());
                }
            }
            let next_due = self.next_claim(claim, &self.gates(claim, now), now);
            return Claimed { tasks, next_due };
        }
        self.promote(usize::MAX, now, hints);
        let mut gates = self.gates(claim, now);
        let taken = self.take(claim, &mut gates, now);
        self.keep_rates(&gates);
        for id in &taken {
            self.move_(*id, hints, |life| {
                life.claim(&claim.worker, claim.lease, now);
                Change::Moved
            });
        }
        let tasks = taken.iter().map(|id| self.rows[id].claimed()).collect();
        if taken.len() == claim.max {
            self.hint_ready(claim, &gates, hints);
        }
        let next_due = self.next_claim(claim, &gates, now);
        self.claims.insert(claim.worker.clone(), (claim.token, taken, now));
        Claimed { tasks, next_due }
    }

    /// The most urgent tasks of the offered pairs: a merge of the heads of their queues.
    fn take(&self, claim: &Claim, gates: &mut Gates<'_>, now: u64) -> Vec<TaskId> {
        let mut heads = BinaryHeap::new();
        let mut offered = HashSet::new();
        let mut lines: Vec<_> = claim
            .offers
            .iter()
            .filter(|o| offered.insert((&o.queue, &o.name)))
            .filter_map(|o| {
                let under = gates.under(o)?;
                let places = self.ready.get(&o.queue).and_then(|names| names.get(&o.name));
                Some((places.into_iter().flatten(), o.allowance, under))
            })
            .collect();
        for (i, (line, allowance, _)) in lines.iter_mut().enumerate() {
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
            let (line, allowance, under) = &mut lines[i];
            if gates.is_full(under) {
                // For the rest of this claim.
                continue;
            }
            // Too late to start: `sweep` ends it.
            if !self.rows[&place.3].life.is_expired(now) {
                taken.push(place.3);
                *allowance -= 1;
                gates.start(under);
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
    fn hint_ready(&self, claim: &Claim, gates: &Gates<'_>, hints: &mut Vec<Hint>) {
        let left = |offer: &&super::Offer| self.is_ready(offer) && gates.lets(offer);
        let ready = |o: &super::Offer| Hint::Ready { queue: o.queue.clone(), name: o.name.clone() };
        hints.extend(claim.offers.iter().filter(left).map(ready));
    }

    fn next_due(&self, now: u64) -> Option<Duration> {
        self.delayed.first().map(|(due, _)| Duration::from_millis(due.saturating_sub(now)))
    }

    fn promote(&mut self, max: usize, now: u64, hints: &mut Vec<Hint>) -> usize {
        let due: Vec<TaskId> =
            self.delayed.iter().take_while(|(due, _)| *due <= now).take(max).map(|(_, id)| *id).collect();
        due.into_iter().filter(|id| self.move_(*id, hints, |life| life.promote(now))).count()
    }

    fn sweep(&mut self, sweep: Sweep, now: u64, hints: &mut Vec<Hint>) -> Swept {
        let may_lose = self.mark.sweep(sweep, now);
        let mut swept = Swept { promoted: self.promote(sweep.max, now, hints), ..Swept::default() };
        let late: Vec<TaskId> =
            self.expiring.iter().take_while(|(at, _)| *at <= now).take(sweep.max).map(|(_, id)| *id).collect();
        for id in late {
            if self.move_(id, hints, |life| life.expire(now)) {
                swept.expired += 1;
                swept.over.push(id);
            }
        }
        self.rates.retain(|_, next| *next > now.saturating_mul(1_000_000));
        self.claims.retain(|_, (.., at)| now.saturating_sub(*at) < super::CLAIMS_KEPT_MS);
        let latest = self.mark.latest(sweep, now);
        for id in &self.running {
            self.rows.get_mut(id).expect("a running task").life.cut(latest);
        }
        if !may_lose {
            return swept;
        }
        let lost = |id: &&TaskId| self.rows[*id].life.lease_until <= now;
        let lost: Vec<TaskId> = self.running.iter().filter(lost).take(sweep.max).copied().collect();
        for id in lost {
            self.move_(id, hints, |life| life.lose(sweep.crashes_max, now));
            if self.rows[&id].life.status == Status::Queued {
                swept.requeued += 1;
            } else {
                swept.ended += 1;
                swept.over.push(id);
            }
        }
        swept
    }

    /// Moves what keeps its distance with a jump of the store's time.
    fn shift(&mut self, by: i64) {
        self.mark.shift(by);
        for (id, row) in &mut self.rows {
            let (due, expires) = (row.life.due, row.life.expires);
            row.life.shift(by);
            if row.life.due != due && self.delayed.remove(&(due, *id)) {
                self.delayed.insert((row.life.due, *id));
            }
            if let Some((old, new)) = expires.zip(row.life.expires)
                && self.expiring.remove(&(old, *id))
            {
                self.expiring.insert((new, *id));
            }
        }
        for (_, _, at) in self.claims.values_mut() {
            *at = at.saturating_add_signed(by);
        }
        for at in self.docs.values_mut().filter_map(|doc| doc.expires_at.as_mut()) {
            *at = at.saturating_add_signed(by);
        }
    }

    fn append(&mut self, mut append: Append, now: u64, hints: &mut Vec<Hint>) -> Appended {
        let (id, checkpoint) = (append.id, append.checkpoint.take());
        let removes = std::mem::take(&mut append.removes);
        let Some((answer, changed)) = self.change(id, hints, |life| life.append(append, now)) else {
            return Appended::Fenced;
        };
        if changed && checkpoint.is_some() {
            self.rows.get_mut(&id).expect("it has just changed").checkpoint = checkpoint;
        }
        if changed {
            for id in removes {
                self.remove(id, hints);
            }
        }
        answer
    }

    fn extend(&mut self, lease: Lease, until: u64) -> Extended {
        self.rows.get_mut(&lease.id).map_or(Extended::Fenced, |row| row.life.extend(lease.epoch, until))
    }

    fn start(&mut self, id: TaskId, now: u64, hints: &mut Vec<Hint>) -> Option<Status> {
        self.move_(id, hints, |life| life.start(now));
        self.rows.get(&id).map(|r| r.life.status)
    }

    fn cancel(&mut self, id: TaskId, reason: String, now: u64, hints: &mut Vec<Hint>) -> Result<Cancelled> {
        let cancelled = self.change(id, hints, |life| life.cancel(reason, now));
        let (cancelled, _) = cancelled.ok_or_else(|| super::not_found(id))?;
        if cancelled == Cancelled::Asked {
            hints.push(Hint::Cancel { id });
        }
        Ok(cancelled)
    }

    fn release(&mut self, lease: Lease, now: u64, hints: &mut Vec<Hint>) {
        self.move_(lease.id, hints, |life| life.release(lease.epoch, now));
    }

    fn list(&self, list: &List) -> Result<Listed> {
        let before = super::cursor(list)?;
        let matches = |r: &Row| {
            (list.status.is_empty() || list.status.contains(&r.life.status))
                && list.name.as_ref().is_none_or(|n| *n == r.name)
                && list.queue.as_ref().is_none_or(|q| *q == r.queue)
                && list.tag.as_ref().is_none_or(|t| r.tags.contains(t))
                && list.parent.is_none_or(|p| r.parent == Some(p))
        };
        let rows = self.order.range(..before).rev().map(|(n, id)| (*n, &self.rows[id]));
        let mut found: Vec<_> = rows.filter(|(_, r)| matches(r)).take(list.limit.saturating_add(1)).collect();
        let more = found.len() > list.limit;
        found.truncate(list.limit);
        let next = found.last().filter(|_| more).map(|(n, _)| n.to_string());
        Ok(Listed { tasks: found.into_iter().map(|(_, r)| r.record()).collect(), next })
    }
}
