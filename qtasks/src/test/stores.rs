//! Stores around the one of a test app: what sees everything, and what a worker dies with.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, RwLock};

use crate::app::Qtasks;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Draft, EventCode, Stamp};
use crate::json::Json;
use crate::store::conformance::operations;
use crate::store::*;
use crate::task::{BUILT_IN, Status, TaskId, TaskRecord};

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of all that an app does with its store.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) added: Mutex<Vec<(TaskId, String, Json)>>,
    queues: Mutex<BTreeSet<String>>,
    worker: Mutex<Slot>,
    /// Something was done.
    pub(super) changed: Notify,
}

/// The worker that is alive: tasks are added by another app, and it serves their queues all the same.
#[derive(Default)]
struct Slot {
    worker: Option<Qtasks>,
    /// The test is over, and no worker follows.
    closed: bool,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seen")
    }
}

impl Seen {
    /// Puts another worker in the place of the one there is.
    pub(super) fn replace(&self, worker: Option<Qtasks>) -> Option<Qtasks> {
        if let Some(worker) = &worker {
            lock(&self.queues).iter().for_each(|queue| worker.core().serve_also(queue));
        }
        let mut slot = lock(&self.worker);
        // One that comes too late goes at once.
        if slot.closed { worker } else { std::mem::replace(&mut slot.worker, worker) }
    }

    /// The worker there is, which none follows.
    pub(super) fn close(&self) -> Option<Qtasks> {
        let mut slot = lock(&self.worker);
        slot.closed = true;
        slot.worker.take()
    }

    fn adds(&self, batch: &[NewTask]) {
        let worker = lock(&self.worker).worker.clone();
        for task in batch {
            lock(&self.queues).insert(task.queue.clone());
            if let Some(worker) = &worker {
                worker.core().serve_also(&task.queue);
            }
        }
    }

    fn added(&self, batch: &[(TaskId, String, Json)], answers: &[Added]) {
        let new = batch.iter().zip(answers).filter(|(_, answer)| !answer.existed).map(|(task, _)| task.clone());
        lock(&self.added).extend(new);
    }
}

/// A store all of whose operations are seen.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) store: Arc<dyn Store>,
    pub(super) seen: Arc<Seen>,
}

macro_rules! watched {
    (Add $name:ident($batch:ident: $ty:ty) -> $out:ty; $($rest:tt)*) => {
        fn $name(&self, $batch: $ty) -> Answer<'_, $out> {
            Box::pin(async move {
                let all: Vec<_> = $batch.iter().map(|t| (t.id, t.name.clone(), t.args.clone())).collect();
                self.seen.adds(&$batch);
                let answers = self.store.$name($batch).await?;
                self.seen.added(&all, &answers);
                self.seen.changed.notify_waiters();
                Ok(answers)
            })
        }
        watched! { $($rest)* }
    };
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            Box::pin(async move {
                let answer = self.store.$name($($arg),*).await;
                if matches!(stringify!($variant), "Append" | "Cancel" | "Release" | "Remove" | "Start") {
                    self.seen.changed.notify_waiters();
                }
                answer
            })
        }
    )* };
}

impl Store for Watched {
    operations!(watched);

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        self.store.watch(interest)
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(Watched { store, seen: Arc::clone(&self.seen) }) as Arc<dyn Store>)
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

/// How long a worker has to live.
#[derive(Debug)]
pub(super) struct Life {
    /// So many yields more; `None` for ever.
    left: Option<AtomicU64>,
    /// Written when it dies, once nothing of its own is under way.
    dead: RwLock<bool>,
    pub(super) died: Notify,
    built_ins: Mutex<HashSet<TaskId>>,
}

impl Life {
    pub(super) fn new(yields: Option<u64>) -> Arc<Self> {
        let left = yields.map(AtomicU64::new);
        Arc::new(Life { left, dead: RwLock::new(false), died: Notify::new(), built_ins: Mutex::default() })
    }

    /// Counts the yields of tasks of the user's. Whether it is to die of them.
    fn counts(&self, batch: &[Append]) -> bool {
        let Some(left) = &self.left else { return false };
        let built_ins = lock(&self.built_ins);
        let all: u64 = batch.iter().filter(|a| !built_ins.contains(&a.id)).map(|a| yields(&a.events)).sum();
        let before = left.load(Ordering::SeqCst);
        left.store(before.saturating_sub(all), Ordering::SeqCst);
        all >= before && all > 0
    }

    fn claims(&self, claimed: &Claimed) {
        let names = claimed.tasks.iter().filter(|task| task.record.name.starts_with(BUILT_IN));
        lock(&self.built_ins).extend(names.map(|task| task.record.id));
    }
}

fn yields(events: &Draft) -> u64 {
    let stamp = Stamp { seq: 1, epoch: 0, attempt: 0, at: SystemTime::UNIX_EPOCH };
    events.clone().stamp(stamp).iter().filter(|event| event.code == EventCode::Yield).count() as u64
}

/// The store of a worker that dies: from then on it does nothing for it.
#[derive(Debug)]
pub(super) struct Mortal {
    pub(super) store: Arc<dyn Store>,
    pub(super) life: Arc<Life>,
}

impl Mortal {
    async fn alive<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let dead = self.life.dead.read().await;
        if *dead { Err(dead_now()) } else { call.await }
    }

    async fn appended(&self, batch: Vec<Append>) -> Result<Vec<Appended>> {
        let last = self.life.counts(&batch);
        let answer = self.alive(self.store.append(batch)).await;
        if !last {
            return answer;
        }
        // It is stored; the worker does not live to know it.
        *self.life.dead.write().await = true;
        self.life.died.notify_one();
        Err(dead_now())
    }

    async fn claimed(&self, claim: Claim) -> Result<Claimed> {
        let claimed = self.alive(self.store.claim(claim)).await?;
        self.life.claims(&claimed);
        Ok(claimed)
    }
}

fn dead_now() -> Error {
    Error::new(ErrorKind::Unavailable, "the worker is dead, as the test says")
}

macro_rules! mortal {
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        mortal! { @one $variant $name($($arg: $ty),*) -> $out }
    )* };
    (@one Append $name:ident($batch:ident: $ty:ty) -> $out:ty) => {
        fn $name(&self, $batch: $ty) -> Answer<'_, $out> {
            Box::pin(self.appended($batch))
        }
    };
    (@one Claim $name:ident($claim:ident: $ty:ty) -> $out:ty) => {
        fn $name(&self, $claim: $ty) -> Answer<'_, $out> {
            Box::pin(self.claimed($claim))
        }
    };
    (@one $variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty) => {
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            Box::pin(self.alive(self.store.$name($($arg),*)))
        }
    };
}

impl Store for Mortal {
    operations!(mortal);

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        self.store.watch(interest)
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(Mortal { store, life: Arc::clone(&self.life) }) as Arc<dyn Store>)
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
