//! [`Ends`]: the ends of many tasks, for one who waits for any of them.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Hub, Waiter, lock};
use crate::task::TaskId;
use crate::task::ids::IdSet;

/// Tells which of many tasks have ended. What ended before it was added is not told: look once after adding it.
pub(crate) struct Ends {
    hub: Arc<Hub>,
    waited: IdSet,
    tell: mpsc::UnboundedSender<TaskId>,
    told: mpsc::UnboundedReceiver<TaskId>,
}

impl Ends {
    pub(crate) fn new(hub: &Arc<Hub>) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        Ends { hub: Arc::clone(hub), waited: IdSet::default(), tell, told }
    }

    /// One more is waited for.
    pub(crate) fn add(&mut self, id: TaskId) {
        if self.waited.insert(id) {
            self.hub.interest.add_task(id);
            lock(&self.hub.waiting).entry(id).or_default().push(Waiter::Many(self.tell.clone()));
        }
    }

    /// One is not waited for any more.
    pub(crate) fn remove(&mut self, id: TaskId) {
        if !self.waited.remove(&id) {
            return;
        }
        self.hub.interest.remove_task(id);
        let mut waiting = lock(&self.hub.waiting);
        if let Some(list) = waiting.get_mut(&id) {
            list.retain(|w| !matches!(w, Waiter::Many(many) if many.same_channel(&self.tell)));
            if list.is_empty() {
                waiting.remove(&id);
            }
        }
    }

    /// Those that have ended, at least one: they are not waited for any more.
    pub(crate) async fn next(&mut self) -> Vec<TaskId> {
        let mut ended = Vec::new();
        // There is a sender here: it does not close.
        ended.extend(self.told.recv().await);
        for id in &ended {
            self.remove(*id);
        }
        self.more(&mut ended);
        ended
    }

    /// And those that have ended by now.
    pub(crate) fn more(&mut self, ended: &mut Vec<TaskId>) {
        let from = ended.len();
        while let Ok(id) = self.told.try_recv() {
            ended.push(id);
        }
        for id in &ended[from..] {
            self.remove(*id);
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        for id in std::mem::take(&mut self.waited) {
            self.waited.insert(id);
            self.remove(id);
        }
    }
}
