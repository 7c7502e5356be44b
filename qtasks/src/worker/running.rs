//! [`Running`]: the tasks that a worker has leases for.
//!
//! Invariant: a task is here until its end is stored, or never will be; a shutdown waits for those that are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::sink::Sink;
use crate::task::TaskId;
use crate::task::ids::IdMap;

/// What a worker has leases for.
#[derive(Default)]
pub(crate) struct Running(Mutex<IdMap<(Arc<Sink>, TaskTrackerToken)>>);

impl Running {
    fn map(&self) -> MutexGuard<'_, IdMap<(Arc<Sink>, TaskTrackerToken)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; `token` makes a shutdown wait for it. Answers an earlier attempt at the same task that is still here:
    /// it was lost meanwhile, and does not know it yet.
    pub(super) fn insert(&self, sink: Arc<Sink>, token: TaskTrackerToken) -> Option<Arc<Sink>> {
        self.map().insert(sink.id(), (sink, token)).map(|(before, _)| before)
    }

    /// An attempt is over. The task may be here again by now, in another one.
    pub(super) fn remove(&self, sink: &Sink) {
        let mut map = self.map();
        if map.get(&sink.id()).is_some_and(|(now, _)| std::ptr::eq(&**now, sink)) {
            map.remove(&sink.id());
        }
    }

    pub(super) fn get(&self, id: TaskId) -> Option<Arc<Sink>> {
        self.map().get(&id).map(|(sink, _)| Arc::clone(sink))
    }

    pub(super) fn all(&self) -> Vec<Arc<Sink>> {
        self.map().values().map(|(sink, _)| Arc::clone(sink)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map().is_empty()
    }

    /// All of them, which are here no longer.
    pub(super) fn take(&self) -> Vec<Arc<Sink>> {
        let all = std::mem::take(&mut *self.map());
        all.into_values().map(|(sink, _)| sink).collect()
    }
}
