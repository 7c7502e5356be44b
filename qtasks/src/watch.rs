//! The hub: how one process follows logs while they grow.
//!
//! Watchers of one task share one [`Tail`]: what the store has new is read once, however many they are. A watcher
//! reads what it missed from the store by itself, goes on with the tail from exactly the next `seq`, and goes back to
//! the store when it is too slow for the tail. Hints only say when to look: every scan interval everything is looked
//! at without one.

mod ends;
mod shared;
mod stream;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::app::Life;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventBatch, EventCode, EventRef};
use crate::json::Json;
use crate::store::{Hint, Hints, Interest, Read, Slice, Store, What, page};
use crate::task::ids::IdMap;
use crate::task::{Rewind, TaskFailure, TaskId, TaskRecord};
use crate::worker::Worker;

pub(crate) use ends::Ends;
pub(crate) use shared::Shared;
pub use stream::{Events, Values};

/// How many events a watcher reads from the store at once.
const PAGE: usize = 4096;
/// What a tail keeps for watchers that are a little behind.
const TAIL_EVENTS: usize = 65_536;
const TAIL_BYTES: usize = 16 << 20;
/// What a tail keeps for each connection, where only connections watch it: one that does not read costs no more.
const TAIL_BYTES_EACH: usize = 64 << 10;
/// Estimated memory that a batch takes beside its events, in bytes.
const BATCH_BYTES: usize = 512;
/// How many bytes of events are read for a tail at once.
const TAIL_PAGE_BYTES: usize = 4 << 20;
/// At most so many events are looked through at once for the last yield before a place.
const BACK: u64 = 256;
/// How long to wait before a read that failed is repeated.
const REPEAT: Duration = Duration::from_millis(100);
/// So many connections on which one task is watched are a crowd: it is told of what is new not as often as it could be,
/// so that each has more of it at once.
const CROWD: u32 = 256;
/// How long a crowd is left alone for each who is in it: about as long as it takes to write to one.
const WRITING: Duration = Duration::from_micros(10);
/// A crowd that is slower than that by so much does not get more time.
const SLOW: u32 = 5;
/// How many hints are taken at once.
const HINTS: usize = 128;
/// How many tasks are asked for at once when looking at everything.
const LOOK: usize = 1000;

/// Follows the logs that somebody in this process watches.
pub(crate) struct Hub {
    store: Arc<dyn Store>,
    interest: Arc<Interest>,
    tails: Mutex<IdMap<Weak<Tail>>>,
    /// Who waits for the end of which task.
    waiting: Mutex<IdMap<Vec<Waiter>>>,
    worker: OnceLock<Weak<Worker>>,
    /// The store takes time to answer.
    waits: AtomicBool,
    runtime: tokio::runtime::Handle,
    life: Arc<Life>,
    me: Weak<Hub>,
}

/// Who waits for the end of a task.
enum Waiter {
    /// For that of this one only.
    One(oneshot::Sender<()>),
    /// For those of many.
    Many(mpsc::UnboundedSender<TaskId>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(crate) async fn start(store: Arc<dyn Store>, scan: Duration, life: Arc<Life>) -> Result<Arc<Self>> {
        let interest = Arc::new(Interest::default());
        let hints = store.watch(Arc::clone(&interest)).await?;
        let hub = Arc::new_cyclic(|me| Hub {
            store,
            interest,
            tails: Mutex::default(),
            waiting: Mutex::default(),
            worker: OnceLock::new(),
            waits: AtomicBool::new(false),
            runtime: tokio::runtime::Handle::current(),
            life,
            me: me.clone(),
        });
        let run = Arc::clone(&hub);
        tokio::spawn(async move {
            let life = Arc::clone(&run.life);
            life.over.run_until_cancelled(run.follow(hints, scan)).await;
        });
        Ok(hub)
    }

    pub(crate) fn interest(&self) -> Arc<Interest> {
        Arc::clone(&self.interest)
    }

    pub(crate) fn set_worker(&self, worker: &Arc<Worker>) {
        let _ = self.worker.set(Arc::downgrade(worker));
    }

    async fn follow(&self, hints: Hints, scan: Duration) {
        let mut hints = hints.ready_chunks(HINTS);
        let mut tick = tokio::time::interval(scan);
        loop {
            tokio::select! {
                some = hints.next() => match some {
                    Some(hints) => for hint in hints {
                        self.heed(hint).await;
                    },
                    // The store ended them: what is left is looking.
                    None => {
                        tick.tick().await;
                        self.look().await;
                    }
                },
                _ = tick.tick() => self.look().await,
            }
        }
    }

    async fn heed(&self, hint: Hint) {
        match hint {
            Hint::Moved { id, tail: end, ended } => {
                // A statement of its own: a tail that is dropped here takes the lock itself.
                let tail = lock(&self.tails).get(&id).and_then(Weak::upgrade);
                if let Some(tail) = tail {
                    self.moved(&tail, end, ended);
                }
                if ended {
                    self.wake(id);
                }
            }
            Hint::Ready { name, .. } => self.with_worker(|worker| worker.ready(&name)),
            Hint::Cancel { id } => {
                if let Some(worker) = self.worker.get().and_then(Weak::upgrade) {
                    self.runtime.spawn(async move { worker.cancel(id).await });
                }
            }
            Hint::Look => self.look().await,
        }
    }

    /// The log of a task grew up to `end`: those who watch it get what is new here and now, where the store answers at
    /// once; else the pump reads it.
    fn moved(&self, tail: &Arc<Tail>, end: u64, ended: bool) {
        let (from_seq, over) = lock(&tail.ring).place();
        if over || (from_seq > end && !ended) {
            return;
        }
        if !self.waits.load(Ordering::Relaxed) {
            let read = Read { id: tail.id, from_seq, limit: PAGE, bytes_max: TAIL_PAGE_BYTES, what: What::Events };
            match page::read(&*self.store, read).now_or_never() {
                Some(Ok(slice)) => {
                    let all = slice.next_seq > slice.tail && !slice.ended;
                    tail.push(from_seq, slice);
                    if all {
                        return;
                    }
                }
                // The pump reads again, and tells those who watch why nothing more comes.
                Some(Err(_)) => {}
                // It is not tried again.
                None => self.waits.store(true, Ordering::Relaxed),
            }
        }
        tail.nudge.notify_one();
    }

    fn with_worker(&self, f: impl FnOnce(&Worker)) {
        if let Some(worker) = self.worker.get().and_then(Weak::upgrade) {
            f(&worker);
        }
    }

    fn wake(&self, id: TaskId) {
        for waiting in lock(&self.waiting).remove(&id).into_iter().flatten() {
            // Whoever gave up waiting is not there.
            match waiting {
                Waiter::One(one) => drop(one.send(())),
                Waiter::Many(many) => drop(many.send(id)),
            }
        }
    }

    /// Looks at everything that somebody watches or waits for: hints may be lost.
    async fn look(&self) {
        self.with_worker(Worker::look);
        let tails: Vec<_> = lock(&self.tails).values().filter_map(Weak::upgrade).collect();
        for tail in tails {
            tail.nudge.notify_one();
        }
        let waited: Vec<TaskId> = lock(&self.waiting).keys().copied().collect();
        for ids in waited.chunks(LOOK) {
            let Ok(records) = self.store.get(ids.to_vec()).await else { return };
            for (id, record) in ids.iter().zip(records) {
                if record.is_none_or(|r| r.status.is_ended()) {
                    self.wake(*id);
                }
            }
        }
    }

    /// Waits until a task has ended.
    pub(crate) async fn ended(&self, id: TaskId) -> Result<TaskRecord> {
        /// Until it is dropped, hints about the task come.
        struct Watching<'a>(&'a Hub, TaskId);
        impl Drop for Watching<'_> {
            fn drop(&mut self) {
                let Watching(hub, id) = self;
                hub.interest.remove_task(*id);
                let mut waiting = lock(&hub.waiting);
                if let Some(list) = waiting.get_mut(id) {
                    // Its own is closed by now.
                    list.retain(|w| !matches!(w, Waiter::One(one) if one.is_closed()));
                    if list.is_empty() {
                        waiting.remove(id);
                    }
                }
            }
        }
        let record = self.record(id).await?;
        if record.status.is_ended() {
            return Ok(record);
        }
        self.interest.add_task(id);
        let _watching = Watching(self, id);
        loop {
            let (wake, woken) = oneshot::channel();
            lock(&self.waiting).entry(id).or_default().push(Waiter::One(wake));
            let record = self.record(id).await?;
            if record.status.is_ended() {
                return Ok(record);
            }
            if self.life.over.run_until_cancelled(woken).await.is_none() {
                return Err(self.life.closed());
            }
        }
    }

    pub(crate) async fn record(&self, id: TaskId) -> Result<TaskRecord> {
        let record = self.store.get(vec![id]).await?.pop().flatten();
        record.ok_or_else(|| crate::store::not_found(id))
    }

    /// All yields of a task that hold, as they are stored.
    pub(crate) async fn yields(&self, id: TaskId) -> Result<Yields> {
        let (mut batches, mut from_seq) = (Vec::new(), 1);
        loop {
            let slice = self.page(id, from_seq).await?;
            from_seq = slice.next_seq;
            batches.extend(slice.events);
            if slice.next_seq > slice.tail {
                return Yields { batches, rewinds: slice.rewinds }.checked(id);
            }
        }
    }

    /// How attempts failed, in the order of the log.
    pub(crate) async fn failures(&self, id: TaskId) -> Result<Vec<TaskFailure>> {
        let (mut failures, mut from_seq) = (Vec::new(), 1);
        loop {
            let slice = self.page(id, from_seq).await?;
            let ends = |code| matches!(code, EventCode::Retry | EventCode::Failed);
            let events = slice.events.iter().flat_map(|batch| batch.iter().filter(|event| ends(event.code)));
            failures.extend(events.filter_map(|event| event.failure()));
            if slice.next_seq > slice.tail {
                return Ok(failures);
            }
            from_seq = slice.next_seq;
        }
    }

    /// A page of a log that is read from its start to its end.
    async fn page(&self, id: TaskId, from_seq: u64) -> Result<Slice> {
        let read = Read { id, from_seq, limit: PAGE, bytes_max: usize::MAX, what: What::Events };
        match from_seq {
            1 => page::read(&*self.store, read).await,
            _ => page::read_on(&*self.store, read).await,
        }
    }

    /// The tail of a task, for a watcher that has read the log up to `next_seq`.
    fn attach(&self, id: TaskId, next_seq: u64) -> Arc<Tail> {
        let mut tails = lock(&self.tails);
        if let Some(tail) = tails.get(&id).and_then(Weak::upgrade) {
            return tail;
        }
        let ring = Ring { start_seq: next_seq, next_seq, ..Ring::default() };
        let tail = Arc::new(Tail {
            id,
            hub: self.me.clone(),
            ring: Mutex::new(ring),
            grown: watch::Sender::new(()),
            connections: AtomicU32::new(0),
            others: AtomicU32::new(0),
            nudge: Arc::new(Notify::new()),
        });
        tails.insert(id, Arc::downgrade(&tail));
        drop(tails);
        self.interest.add_task(id);
        let pump = pump(Arc::clone(&self.store), id, Arc::downgrade(&tail), Arc::clone(&tail.nudge));
        let life = Arc::clone(&self.life);
        self.runtime.spawn(async move { life.over.run_until_cancelled(pump).await });
        tail
    }
}

/// The effective yields of a task.
pub(crate) struct Yields {
    batches: Vec<EventBatch>,
    rewinds: Vec<Rewind>,
}

impl Yields {
    /// Checks that no value is missing: their indexes are 0, 1, 2 and so on.
    fn checked(self, id: TaskId) -> Result<Self> {
        let wrong = (0..).zip(self.events()).find(|(index, event)| *index != event.index);
        match wrong.map(|(_, event)| event.seq) {
            Some(seq) => Err(page::damaged(id, seq, "values before it are missing")),
            None => Ok(self),
        }
    }

    pub(crate) fn none() -> Self {
        Yields { batches: Vec::new(), rewinds: Vec::new() }
    }

    /// All of them, as one list.
    pub(crate) fn list(&self) -> Json {
        Json::list(self.iter())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.events().map(|event| event.data)
    }

    fn events(&self) -> impl Iterator<Item = EventRef<'_>> {
        let events = self.batches.iter().flat_map(|b| (0..b.len()).filter_map(|i| b.event(i)));
        let yields = events.filter(|e| e.code == EventCode::Yield);
        yields.filter(|e| !crate::event::is_void(e, &self.rewinds))
    }
}

/// The newest part of one log, shared by those who watch it.
struct Tail {
    id: TaskId,
    hub: Weak<Hub>,
    ring: Mutex<Ring>,
    /// Tells watchers that the ring has more.
    grown: watch::Sender<()>,
    /// How many of those who watch pass it on to a connection.
    connections: AtomicU32,
    /// How many of those who watch are in this process.
    others: AtomicU32,
    /// Tells the pump to look.
    nudge: Arc<Notify>,
}

#[derive(Default)]
struct Ring {
    batches: VecDeque<Shared>,
    start_seq: u64,
    next_seq: u64,
    bytes: usize,
    rewinds: Arc<[Rewind]>,
    /// When a crowd was told last.
    told_at: Option<Instant>,
    /// When one of the crowd last came for what is new.
    read_at: Option<Instant>,
    /// A crowd will be told.
    telling: bool,
    ended: bool,
    /// Why nothing more comes, where that is not the end.
    failed: Option<Error>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.nudge.notify_one();
        let Some(hub) = self.hub.upgrade() else { return };
        hub.interest.remove_task(self.id);
        let mut tails = lock(&hub.tails);
        // Another one may have taken its place.
        if tails.get(&self.id).is_some_and(|tail| tail.strong_count() == 0) {
            tails.remove(&self.id);
        }
    }
}

impl Tail {
    /// Takes what was read from `from_seq` on, unless somebody else has. Tells those who watch.
    fn push(self: &Arc<Self>, from_seq: u64, slice: Slice) {
        let mut ring = lock(&self.ring);
        if ring.next_seq != from_seq {
            return;
        }
        let new = !slice.events.is_empty();
        let connections = self.connections.load(Ordering::Relaxed);
        let bytes_max = match self.others.load(Ordering::Relaxed) {
            0 => (connections as usize).saturating_mul(TAIL_BYTES_EACH).clamp(TAIL_BYTES_EACH, TAIL_BYTES),
            _ => TAIL_BYTES,
        };
        ring.push(slice, bytes_max);
        if !new && !ring.ended {
            return;
        }
        if connections >= CROWD && !ring.ended {
            // It is told together with what came before.
            if ring.telling {
                return;
            }
            if let Some(due) = ring.due(connections) {
                ring.telling = true;
                drop(ring);
                self.tell_at(due);
                return;
            }
            ring.told_at = Some(Instant::now());
        }
        drop(ring);
        self.grown.send_replace(());
    }

    /// The number of those who watch by a connection, or within this process.
    fn watchers(&self, connected: bool) -> &AtomicU32 {
        if connected { &self.connections } else { &self.others }
    }

    /// What there is from `seq` on, for one who may be in a crowd.
    fn newest(&self, seq: u64, bytes_max: usize, connected: bool) -> Newest {
        let mut ring = lock(&self.ring);
        if connected {
            ring.read_at = Some(Instant::now());
        }
        ring.from(seq, bytes_max)
    }

    /// Tells a crowd, later.
    fn tell_at(self: &Arc<Self>, mut due: Instant) {
        let Some(hub) = self.hub.upgrade() else { return };
        let tail = Arc::downgrade(self);
        hub.runtime.spawn(async move {
            loop {
                tokio::time::sleep_until(due).await;
                match tail.upgrade().and_then(|tail| tail.tell()) {
                    Some(later) => due = later,
                    None => return,
                }
            }
        });
    }

    /// Tells a crowd; or when it is to be told, if it still writes.
    fn tell(&self) -> Option<Instant> {
        let mut ring = lock(&self.ring);
        let due = ring.due(self.connections.load(Ordering::Relaxed));
        if due.is_none() {
            (ring.told_at, ring.telling) = (Some(Instant::now()), false);
            drop(ring);
            self.grown.send_replace(());
        }
        due
    }
}

impl Ring {
    /// When a crowd of so many is told, unless it is now: when it has had what it was told last for twice the time that
    /// it took. Else those who write would leave no time to those who yield.
    fn due(&self, connections: u32) -> Option<Instant> {
        let told_at = self.told_at?;
        let took = self.read_at.map_or(Duration::ZERO, |read| read.saturating_duration_since(told_at));
        let least = WRITING * connections;
        let due = told_at + (took * 2).clamp(least, least * SLOW);
        (due > Instant::now()).then_some(due)
    }

    /// The `seq` to read on from, and whether there is nothing more to read.
    fn place(&self) -> (u64, bool) {
        (self.next_seq, self.ended || self.failed.is_some())
    }

    /// Takes what was read, and lets go of the oldest so that about `bytes_max` bytes are kept, or one batch.
    fn push(&mut self, slice: Slice, bytes_max: usize) {
        for piece in slice.events.iter().flat_map(Shared::pieces) {
            self.bytes += piece.weight() + BATCH_BYTES;
            self.batches.push_back(piece);
        }
        self.next_seq = slice.next_seq;
        if self.rewinds.len() != slice.rewinds.len() {
            self.rewinds = slice.rewinds.into();
        }
        self.ended = slice.ended && slice.next_seq > slice.tail;
        let is_over = |ring: &Self| {
            let events = ring.next_seq - ring.start_seq;
            events > TAIL_EVENTS as u64 || (ring.bytes > bytes_max && ring.batches.len() > 1)
        };
        while is_over(self) {
            let Some(old) = self.batches.pop_front() else { break };
            self.bytes -= old.weight() + BATCH_BYTES;
            self.start_seq = old.end_seq();
        }
    }

    /// What there is from `seq` on: batches of at most `bytes_max` bytes together, but at least one.
    fn from(&self, seq: u64, bytes_max: usize) -> Newest {
        if seq < self.start_seq {
            return Newest::Behind;
        }
        if seq >= self.next_seq {
            return match &self.failed {
                Some(error) => Newest::Failed(error.again()),
                None if self.ended => Newest::Ended,
                None => Newest::Nothing,
            };
        }
        let first = self.batches.partition_point(|b| b.end_seq() <= seq);
        let mut bytes = 0;
        let newer = self.batches.iter().skip(first).map(|batch| batch.since(seq));
        let batches: Vec<_> = newer
            .take_while(|batch| {
                let is_first = bytes == 0;
                bytes += batch.weight();
                is_first || bytes <= bytes_max
            })
            .collect();
        let next_seq = batches.last().map_or(seq, |batch| batch.end_seq());
        Newest::Part(Part { batches, rewinds: Arc::clone(&self.rewinds), next_seq })
    }
}

enum Newest {
    Part(Part),
    Nothing,
    Behind,
    Ended,
    Failed(Error),
}

/// Consecutive events, with what was void when they were read.
pub(crate) struct Part {
    pub(crate) batches: Vec<Shared>,
    pub(crate) rewinds: Arc<[Rewind]>,
    next_seq: u64,
}

/// Reads what is new for as long as somebody watches.
async fn pump(store: Arc<dyn Store>, id: TaskId, tail: Weak<Tail>, nudge: Arc<Notify>) {
    loop {
        let Some((from_seq, over)) = tail.upgrade().map(|t| lock(&t.ring).place()) else { return };
        if over {
            return;
        }
        let read = Read { id, from_seq, limit: PAGE, bytes_max: TAIL_PAGE_BYTES, what: What::Events };
        let read = page::read(&*store, read).await;
        let Some(tail) = tail.upgrade() else { return };
        match read {
            Ok(slice) => {
                let more = slice.next_seq <= slice.tail;
                tail.push(from_seq, slice);
                if lock(&tail.ring).ended {
                    return;
                }
                drop(tail);
                match more {
                    true => tokio::task::yield_now().await,
                    false => nudge.notified().await,
                }
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                crate::trouble::store_failed(&error, "a log could not be read; trying again");
                drop(tail);
                tokio::time::sleep(REPEAT).await;
            }
            Err(error) => {
                lock(&tail.ring).failed = Some(error);
                tail.grown.send_replace(());
                return;
            }
        }
    }
}

/// One watcher's place in a log.
pub(crate) struct Cursor {
    hub: Arc<Hub>,
    id: TaskId,
    next_seq: u64,
    /// About so many bytes come at once.
    part_bytes: usize,
    tail: Option<(Arc<Tail>, watch::Receiver<()>)>,
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.detach();
    }
}

impl Cursor {
    pub(crate) fn new(hub: Arc<Hub>, id: TaskId, from_seq: u64) -> Self {
        Cursor { hub, id, next_seq: from_seq.max(1), part_bytes: usize::MAX, tail: None }
    }

    /// For one who may stop reading: takes about so many bytes at once, and holds no more.
    #[cfg(feature = "http")]
    pub(crate) fn in_parts_of(mut self, bytes: usize) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// The `seq` that comes next.
    #[cfg(feature = "http")]
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The next events, when there are some; `None` after the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>> {
        if self.tail.is_none() {
            let slice = self.read().await?;
            if let Some(part) = self.take(slice) {
                return Ok(Some(part));
            }
        }
        let (life, connected) = (Arc::clone(&self.hub.life), self.is_connected());
        loop {
            let Some((tail, grown)) = &mut self.tail else { return Ok(None) };
            grown.borrow_and_update();
            let newest = tail.newest(self.next_seq, self.part_bytes, connected);
            match newest {
                Newest::Part(part) => {
                    self.next_seq = part.next_seq;
                    return Ok(Some(part));
                }
                Newest::Ended => return Ok(None),
                Newest::Failed(error) => return Err(error),
                Newest::Behind => {
                    let slice = self.read().await?;
                    if let Some(part) = self.take(slice) {
                        return Ok(Some(part));
                    }
                }
                Newest::Nothing => {
                    // An error: the tail is gone, and it is not while this has it.
                    if life.over.run_until_cancelled(grown.changed()).await.is_none() {
                        return Err(life.closed());
                    }
                }
            }
        }
    }

    async fn read(&self) -> Result<Slice> {
        // The memory that events take beside their data counts as well.
        let limit = PAGE.min(self.part_bytes / shared::EVENT_BYTES);
        let read = Read { id: self.id, from_seq: self.next_seq, limit, bytes_max: self.part_bytes, what: What::Events };
        page::read_on(&*self.hub.store, read).await
    }

    /// Takes what was read, or attaches to the tail where there was nothing yet.
    fn take(&mut self, slice: Slice) -> Option<Part> {
        if !slice.events.is_empty() {
            self.next_seq = slice.next_seq;
            let rewinds = slice.rewinds.into();
            let batches = slice.events.into_iter().map(Shared::from).collect();
            return Some(Part { batches, rewinds, next_seq: slice.next_seq });
        }
        if slice.ended {
            self.detach();
        } else if self.tail.is_none() {
            // Who is ahead of the log waits for it to come there: others share the tail.
            let tail = self.hub.attach(self.id, self.next_seq.min(slice.tail.saturating_add(1)));
            tail.watchers(self.is_connected()).fetch_add(1, Ordering::Relaxed);
            let grown = tail.grown.subscribe();
            self.tail = Some((tail, grown));
        }
        None
    }

    /// Whether what is read goes to a connection.
    fn is_connected(&self) -> bool {
        self.part_bytes < usize::MAX
    }

    fn detach(&mut self) {
        if let Some((tail, _)) = self.tail.take() {
            tail.watchers(self.is_connected()).fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many yields held when the log ended with `seq`.
    pub(crate) async fn held_at(&self, seq: u64) -> Result<u64> {
        // Most often the last event tells: more are read only where it does not.
        let (mut to, mut back) = (seq, 1);
        loop {
            let from_seq = to.saturating_sub(back - 1).max(1);
            let (mut held, mut next_seq) = (None, from_seq);
            while next_seq <= to {
                let limit = usize::try_from(to - next_seq + 1).expect("no more than that");
                let read =
                    Read { id: self.id, from_seq: next_seq, limit, bytes_max: TAIL_PAGE_BYTES, what: What::Events };
                let slice = page::read_on(&*self.hub.store, read).await?;
                if slice.tail < seq {
                    let (id, tail) = (self.id, slice.tail);
                    let message =
                        format!("the log of task {id} ends at {tail}, before {seq}: read again from the start");
                    return Err(Error::new(ErrorKind::Reset, message));
                }
                let last = slice.events.iter().rev().find_map(|batch| {
                    batch.iter().rev().find_map(|event| match event.code {
                        EventCode::Yield => Some(event.index + 1),
                        EventCode::Rewind => Some(event.index),
                        _ => None,
                    })
                });
                held = last.or(held);
                if slice.next_seq <= next_seq {
                    break;
                }
                next_seq = slice.next_seq;
            }
            back = (back * 4).min(BACK);
            match held {
                Some(held) => return Ok(held),
                None if from_seq == 1 => return Ok(0),
                None => to = from_seq - 1,
            }
        }
    }
}
