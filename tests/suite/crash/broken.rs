//! Builds with a bug in them, as wrappers of a store: what the checker is there to find.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use qtasks::event::{EventBatch, Stamp};
use qtasks::store::*;
use qtasks::{Status, TaskId, TaskRecord};
use tokio::sync::broadcast::{self, error::RecvError};

use super::orders::Broken;
use super::pass::passed_on;

/// A watcher that skips is one that is more than so many events behind.
const LAG: u64 = 64;
/// How long events are seen before they are stored.
const EARLY: Duration = Duration::from_millis(20);

/// As a worker's store is under the witness.
pub(crate) fn within(store: Arc<dyn Store>, broken: Option<Broken>) -> Arc<dyn Store> {
    match broken {
        Some(Broken::NoFence) => Arc::new(NoFence { store }),
        Some(Broken::HandlesAgain) => Arc::new(HandlesAgain { store }),
        Some(Broken::SkipsOnLag) => Arc::new(SkipsOnLag { store }),
        Some(Broken::Early) | None => store,
    }
}

/// As it is over it.
pub(crate) fn without(store: Arc<dyn Store>, broken: Option<Broken>) -> Arc<dyn Store> {
    match broken {
        Some(Broken::Early) => Arc::new(Early { store, early: Arc::default() }),
        _ => store,
    }
}

#[derive(Debug)]
struct NoFence {
    store: Arc<dyn Store>,
}

impl Store for NoFence {
    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>> {
        Box::pin(async move {
            let mut answers = self.store.append(batch.clone()).await?;
            for (append, answer) in batch.into_iter().zip(&mut answers) {
                let record = self.store.get(vec![append.id]).await?.pop().flatten();
                let running = record.filter(|r| *answer == Appended::Fenced && r.status == Status::Running);
                if let Some(record) = running {
                    let forced = Append { epoch: record.epoch, after_seq: record.tail, ..append };
                    if let Some(stored) = self.store.append(vec![forced]).await?.pop() {
                        *answer = stored;
                    }
                }
            }
            Ok(answers)
        })
    }
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(NoFence { store }) as Arc<dyn Store>)
        })
    }
    passed_on!(store; add claim extend read watch sweep lookups rest);
}

#[derive(Debug)]
struct HandlesAgain {
    store: Arc<dyn Store>,
}

impl Store for HandlesAgain {
    fn read(&self, read: Read) -> Answer<'_, Slice> {
        Box::pin(async move {
            let mut slice = self.store.read(read).await?;
            for hashed in &mut slice.hashes {
                hashed.hash = !hashed.hash;
            }
            Ok(slice)
        })
    }
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(HandlesAgain { store }) as Arc<dyn Store>)
        })
    }
    passed_on!(store; add claim append extend watch sweep lookups rest);
}

#[derive(Debug)]
struct SkipsOnLag {
    store: Arc<dyn Store>,
}

impl Store for SkipsOnLag {
    fn read(&self, read: Read) -> Answer<'_, Slice> {
        Box::pin(async move {
            let mut slice = self.store.read(read).await?;
            if read.what == What::Events && slice.tail > read.from_seq + LAG {
                let newest = Read { from_seq: slice.tail - LAG, ..read };
                slice = self.store.read(newest).await?;
            }
            Ok(slice)
        })
    }
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        self.store.on_this_runtime()
    }
    passed_on!(store; add claim append extend watch sweep lookups rest);
}

#[derive(Debug)]
struct Early {
    store: Arc<dyn Store>,
    early: Arc<Told>,
}

/// What was shown before it was stored.
#[derive(Debug)]
struct Told {
    pending: Mutex<HashMap<TaskId, EventBatch>>,
    hints: broadcast::Sender<Hint>,
}

impl Default for Told {
    fn default() -> Self {
        Told { pending: Mutex::default(), hints: broadcast::Sender::new(1024) }
    }
}

impl Told {
    fn pending(&self) -> MutexGuard<'_, HashMap<TaskId, EventBatch>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, batch: &[Append]) {
        for append in batch {
            let at = SystemTime::now();
            let stamp = Stamp { seq: append.after_seq + 1, epoch: append.epoch, attempt: 1, at };
            let events = append.events.clone().stamp(stamp);
            let hint = Hint::Moved { id: append.id, tail: events.end_seq() - 1, ended: false };
            self.pending().insert(append.id, events);
            // Nobody may be watching.
            let _ = self.hints.send(hint);
        }
    }
}

impl Store for Early {
    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>> {
        Box::pin(async move {
            self.early.show(&batch);
            tokio::time::sleep(EARLY).await;
            self.store.append(batch).await
        })
    }
    fn read(&self, read: Read) -> Answer<'_, Slice> {
        Box::pin(async move {
            let mut slice = self.store.read(read).await?;
            let pending = self.early.pending().get(&read.id).cloned();
            let next = slice.tail.max(read.from_seq.saturating_sub(1)) + 1;
            if let Some(events) = pending
                && slice.next_seq > slice.tail
                && (events.first_seq()..events.end_seq()).contains(&next)
            {
                slice.tail = events.end_seq() - 1;
                slice.next_seq = events.end_seq();
                slice.events.push(events.slice(next, usize::MAX));
            }
            Ok(slice)
        })
    }
    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        Box::pin(async move {
            let hints: BoxStream<'static, Hint> = self.store.watch(interest).await?;
            let early = futures::stream::unfold(self.early.hints.subscribe(), |mut early| async move {
                let hint = match early.recv().await {
                    Ok(hint) => hint,
                    Err(RecvError::Lagged(_)) => Hint::Look,
                    Err(RecvError::Closed) => return None,
                };
                Some((hint, early))
            });
            Ok(futures::stream::select(hints, early.boxed()).boxed())
        })
    }
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(Early { store, early: Arc::clone(&self.early) }) as Arc<dyn Store>)
        })
    }
    passed_on!(store; add claim extend sweep lookups rest);
}
