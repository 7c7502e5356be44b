//! Queues that are paused: each is a document of the store, which `claim` looks at.

use std::time::Duration;

use super::Qtasks;
use crate::error::Result;
use crate::store::DocPut;
use crate::store::limits::PAUSES;
use crate::task::check_name;

impl Qtasks {
    /// Pauses a queue: once this has returned, no worker of the store is given a task of it. What they were given
    /// before goes on, tasks can be added, and those that are due wait, until [`resume`](Self::resume).
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for what is no name of a queue,
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn pause(&self, queue: impl Into<String>) -> Result<()> {
        self.put_pause(queue.into(), None).await
    }

    /// Lets the tasks of a queue start again. One that is not paused stays as it is.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, queue: impl Into<String>) -> Result<()> {
        // There is no other way to take a document away.
        self.put_pause(queue.into(), Some(Duration::ZERO)).await
    }

    /// The queues that are paused, in the order of their names.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn paused(&self) -> Result<Vec<String>> {
        let docs = self.core.store.doc_list(PAUSES.to_owned()).await?;
        Ok(docs.iter().filter_map(|doc| doc.key.strip_prefix(PAUSES)).map(str::to_owned).collect())
    }

    async fn put_pause(&self, queue: String, expires: Option<Duration>) -> Result<()> {
        check_name("name of the queue", &queue)?;
        let put = DocPut { key: format!("{PAUSES}{queue}"), if_version: None, bytes: Vec::new(), expires };
        self.core.store.doc_put(put).await.map(drop)
    }
}
