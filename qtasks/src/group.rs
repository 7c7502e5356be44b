//! [`Group`]: tasks that were added under one name, wherever and by whomever.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::app::{Core, Qtasks};
use crate::builtin;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::store::page::Pages;
use crate::store::{Cancelled, List, Removed};
use crate::task::{Status, TaskFailure, TaskId, TaskRecord};

/// How many tasks are read, or removed, at once.
const PAGE: usize = 500;

/// The tag of the tasks of a group.
pub(crate) fn tag(name: &str) -> String {
    format!("group:{name}")
}

/// The tasks of a group: from [`Qtasks::group`]. A task is put into one by `.group(name)` when it is added.
#[derive(Clone)]
pub struct Group {
    core: Arc<Core>,
    name: String,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Qtasks {
    /// The group of a name. One to which no task was added is empty.
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group { core: Arc::clone(self.core()), name: name.into() }
    }
}

impl Group {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its tasks as they are stored, in the order in which they were added, as long as retention keeps them.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub async fn fetch(&self) -> Result<Vec<TaskRecord>> {
        let list = List { tag: Some(tag(&self.name)), limit: PAGE, ..List::default() };
        let mut all = Pages::new(&*self.core.store, list).all().await?;
        all.reverse();
        Ok(all)
    }

    /// How many tasks it has, by status.
    ///
    /// # Errors
    /// As of [`fetch`](Self::fetch).
    pub async fn count(&self) -> Result<BTreeMap<Status, usize>> {
        let mut count = BTreeMap::new();
        for task in self.fetch().await? {
            *count.entry(task.status).or_default() += 1;
        }
        Ok(count)
    }

    /// What its tasks returned that have completed, in the order in which they were added: of a generator the list of
    /// its values.
    ///
    /// # Errors
    /// As of [`fetch`](Self::fetch); [`Codec`](ErrorKind::Codec) if a value is no `T`.
    pub async fn results<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let mut results = Vec::new();
        for task in self.fetch().await?.into_iter().filter(|t| t.status == Status::Completed) {
            let value = match &task.final_value {
                _ if task.yields > 0 || self.is_generating(&task.name) => self.values(task.id).await?,
                Some(value) => value.clone(),
                None => Json::null(),
            };
            let wrong = |e| Error::new(ErrorKind::Codec, format!("the result of task {}: {e}", task.id));
            results.push(value.get().map_err(wrong)?);
        }
        Ok(results)
    }

    /// How its tasks failed that did, in the order in which they were added; cancelled ones too.
    ///
    /// # Errors
    /// As of [`fetch`](Self::fetch).
    pub async fn failures(&self) -> Result<Vec<(TaskId, TaskFailure)>> {
        Ok(self.fetch().await?.iter().filter_map(|task| Some((task.id, task.failure()?))).collect())
    }

    /// Waits until all tasks have ended that are in it now.
    ///
    /// # Errors
    /// As of [`fetch`](Self::fetch).
    pub async fn wait(&self) -> Result<()> {
        let _lent = crate::app::current::lend();
        for task in self.fetch().await?.iter().filter(|t| !t.status.is_ended()) {
            match self.core.hub.ended(task.id).await {
                // It ended, or was taken away, and its row is gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                ended => drop(ended?),
            }
        }
        Ok(())
    }

    /// Cancels those of its tasks that have not ended. How many there were.
    ///
    /// # Errors
    /// As of [`fetch`](Self::fetch).
    pub async fn cancel(&self, reason: &str) -> Result<usize> {
        let mut cancelled = 0;
        for task in self.fetch().await?.iter().filter(|t| !t.status.is_ended()) {
            match self.core.cancel(task.id, reason.to_owned()).await {
                Ok(Cancelled::Done | Cancelled::Asked) => cancelled += 1,
                Ok(Cancelled::Ended(_)) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(cancelled)
    }

    /// Takes its tasks away, with all that is stored of them: those that have ended, and those that were never started.
    /// How many there were; what is at work stays.
    ///
    /// # Errors
    /// As of [`fetch`](Self::fetch).
    pub async fn delete(&self) -> Result<usize> {
        let mut deleted = 0;
        for tasks in self.fetch().await?.chunks(PAGE) {
            let removed = self.core.store.remove(tasks.iter().map(|task| task.id).collect()).await?;
            for (task, _) in tasks.iter().zip(removed).filter(|(_, removed)| *removed == Removed::Done) {
                deleted += 1;
                builtin::removed(&self.core, task).await?;
            }
        }
        Ok(deleted)
    }

    fn is_generating(&self, name: &str) -> bool {
        self.core.registry.get(name).or_else(|| builtin::shared(name)).is_some_and(|spec| spec.generating)
    }

    async fn values(&self, id: TaskId) -> Result<Json> {
        Ok(self.core.hub.yields(id).await?.list())
    }
}
