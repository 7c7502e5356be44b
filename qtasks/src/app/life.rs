//! [`Life`]: whether an app is open; and [`Checked`], its store, which answers only while the app has a runtime.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{
    Added, Answer, Append, Appended, Cancelled, Claim, Claimed, Doc, DocPut, Extended, Hints, Interest, Lease, List,
    Listed, NewTask, Prune, Pruned, Read, Removed, Slice, Stats, Store, Sweep, Swept,
};
use crate::task::{Status, TaskId, TaskRecord};

/// Whether an app is open, and why it is not.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// The hub and every wait end.
    pub(crate) over: CancellationToken,
    /// The keeper ends.
    pub(crate) kept: CancellationToken,
    /// The runtime has ended.
    pub(crate) gone: CancellationToken,
}

impl Life {
    /// Returns an error once the runtime has ended.
    pub(crate) fn check(&self) -> Result<()> {
        if self.gone.is_cancelled() { Err(gone()) } else { Ok(()) }
    }

    /// The reason why the app is not open.
    pub(crate) fn closed(&self) -> Error {
        match self.check() {
            Err(gone) => gone,
            Ok(()) => Error::new(ErrorKind::Unavailable, "the app is shut down"),
        }
    }

    /// Waits for a future at most until `timer` is done; `None` if that is first. The timer may be one of the app's
    /// runtime, which panics once that has ended: it is never polled then.
    pub(crate) async fn timed<T>(
        &self,
        timer: impl Future<Output = ()>,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>> {
        tokio::select! {
            biased;
            () = self.gone.cancelled() => Err(gone()),
            done = future => Ok(Some(done)),
            () = timer => Ok(None),
        }
    }
}

/// The error of everything that is asked of an app whose runtime has ended.
#[cold]
pub(crate) fn gone() -> Error {
    let message = "the runtime of this app has ended: start another app, on a runtime that lives as long as it is used";
    Error::new(ErrorKind::Unavailable, message)
}

/// Lives on the runtime of an app, and tells the app when that drops it.
pub(super) struct Pulse(pub(super) Weak<Core>);

impl Pulse {
    pub(super) async fn beat(self, life: Arc<Life>) {
        life.over.cancelled().await;
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade() {
            core.runtime_ended();
        }
    }
}

/// A store that is unavailable once the runtime of its app has ended. That of the keeper's thread is not.
pub(super) struct Checked {
    pub(super) store: Arc<dyn Store>,
    pub(super) life: Arc<Life>,
}

impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

macro_rules! checked {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            match self.life.check() {
                Ok(()) => self.store.$name($($arg),*),
                Err(gone) => Box::pin(std::future::ready(Err(gone))),
            }
        }
    )* };
}

impl Store for Checked {
    checked! {
        add(batch: Vec<NewTask>) -> Vec<Added>;
        claim(claim: Claim) -> Claimed;
        sweep(sweep: Sweep) -> Swept;
        append(batch: Vec<Append>) -> Vec<Appended>;
        extend(leases: Vec<Lease>, lease: std::time::Duration) -> Vec<Extended>;
        start(ids: Vec<TaskId>) -> Vec<Option<Status>>;
        cancel(id: TaskId, reason: String) -> Cancelled;
        release(leases: Vec<Lease>) -> ();
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
        on_this_runtime() -> Arc<dyn Store>;
    }

    fn durability(&self) -> &'static str {
        self.store.durability()
    }

    fn retention(&self) -> Prune {
        self.store.retention()
    }

    fn now(&self) -> Option<SystemTime> {
        self.store.now()
    }
}
