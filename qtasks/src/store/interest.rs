//! [`Interest`]: what one process wants to hear of.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::task::BUILT_IN;
use crate::task::TaskId;
use crate::task::ids::IdMap;

/// What one process wants hints about: tasks that it watches, queues that its worker serves. Changed at any time.
#[derive(Debug, Default)]
pub struct Interest {
    wanted: Mutex<Wanted>,
    idle: AtomicBool,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    /// How many watch each.
    tasks: IdMap<usize>,
    /// By queue: the names of task functions.
    queues: HashMap<String, HashSet<String>>,
}

impl Interest {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more watches the task.
    pub fn add_task(&self, id: TaskId) {
        *self.wanted().tasks.entry(id).or_default() += 1;
        self.changed.notify_waiters();
    }

    /// One less watches the task.
    pub fn remove_task(&self, id: TaskId) {
        let mut wanted = self.wanted();
        if let Some(n) = wanted.tasks.get_mut(&id) {
            *n -= 1;
            if *n == 0 {
                wanted.tasks.remove(&id);
            }
        }
        drop(wanted);
        self.changed.notify_waiters();
    }

    /// The pairs of queue and name that the process serves.
    pub fn serve(&self, pairs: impl IntoIterator<Item = (String, String)>) {
        let mut queues: HashMap<String, HashSet<String>> = HashMap::new();
        for (queue, name) in pairs {
            queues.entry(queue).or_default().insert(name);
        }
        self.wanted().queues = queues;
        self.changed.notify_waiters();
    }

    /// Whether somebody watches the task.
    pub fn has_task(&self, id: TaskId) -> bool {
        self.wanted().tasks.contains_key(&id)
    }

    /// The tasks that somebody watches.
    pub fn tasks(&self) -> Vec<TaskId> {
        self.wanted().tasks.keys().copied().collect()
    }

    /// Says that the worker has room and found nothing: a `Ready` is for such.
    pub fn rest(&self) {
        self.idle.store(true, Ordering::SeqCst);
    }

    /// Says that the worker looks for tasks by itself.
    pub fn work(&self) {
        self.idle.store(false, Ordering::SeqCst);
    }

    /// Whether the worker rests and serves the pair; if so it rests no more, and is to be told.
    pub fn wake(&self, queue: &str, name: &str) -> bool {
        // Built-in tasks take no slot: for them a worker always has room.
        if name.starts_with(BUILT_IN) {
            return self.wanted().queues.get(queue).is_some_and(|names| names.contains(name));
        }
        self.idle.load(Ordering::SeqCst)
            && self.wanted().queues.get(queue).is_some_and(|names| names.contains(name))
            && self.idle.swap(false, Ordering::SeqCst)
    }

    /// Done at the next change of tasks or queues.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
