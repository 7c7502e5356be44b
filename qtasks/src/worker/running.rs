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

    /// One more; `token` makes a shutdown wait for it.
    pub(super) fn insert(&self, sink: Arc<Sink>, token: TaskTrackerToken) {
        self.map().insert(sink.id(), (sink, token));
    }

    pub(super) fn remove(&self, id: TaskId) {
        self.map().remove(&id);
    }

    pub(super) fn get(&self, id: TaskId) -> Option<Arc<Sink>> {
        self.map().get(&id).map(|(sink, _)| Arc::clone(sink))
    }

    pub(super) fn all(&self) -> Vec<Arc<Sink>> {
        self.map().values().map(|(sink, _)| Arc::clone(sink)).collect()
    }

    /// All of them, which are here no longer.
    pub(super) fn take(&self) -> Vec<Arc<Sink>> {
        let all = std::mem::take(&mut *self.map());
        all.into_values().map(|(sink, _)| sink).collect()
    }
}
