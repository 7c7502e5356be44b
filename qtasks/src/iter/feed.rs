//! [`Feed`]: how the arguments of an [`Iter`](super::Iter) come into the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::source::Source;
use crate::add_task::{Names, Plain, Template};
use crate::app::{Core, current};
use crate::builtin::{self, AHEAD, Plan, Seal, seal_key};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::store::{DocPut, Due, NewTask};
use crate::task::TaskId;

/// So many arguments, or bytes of them, go to the store at once; one place is for the whole.
const BATCH: usize = 999;
const BATCH_BYTES: usize = 1 << 20;

/// An item is kept for so long until it is gathered, whatever others are kept for.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Arguments on their way into the store.
pub(super) struct Feed {
    core: Arc<Core>,
    source: Source,
    names: Option<Names>,
    /// What each item is, but for its id and arguments.
    item: NewTask,
    whole: TaskId,
    added: u64,
    /// Until all are added; `None` where it was known from the start how many there are.
    open: Option<Open>,
}

impl Feed {
    /// Adds the whole, with the first batch of its items.
    pub(super) async fn begin(
        core: &Arc<Core>,
        template: Plain,
        mut source: Source,
        ordered: bool,
    ) -> Result<(Feed, TaskId)> {
        let Template { task, names, generating, .. } = template.template(core, current::parent(core)).await?;
        let keyed = task.unique.is_some() || task.idempotency_key.is_some();
        let (mut first, mut all) = (Vec::new(), false);
        if !keyed {
            (first, all) = batch(&mut source, names.as_ref()).await?;
        }
        let whole = TaskId::new();
        let count = all.then_some(first.len() as u64);
        let plan = Plan { task: task.name.clone(), generating, ordered, count };
        let args = Json::of(&plan).map_err(|e| Error::new(ErrorKind::Codec, e.to_string()))?;
        // Where it may run at once, nobody need let the first go.
        let ready = if task.due != Due::Now || task.held || keyed { 0 } else { AHEAD };
        let gathers = NewTask {
            id: whole,
            name: builtin::ITER.to_owned(),
            args,
            retry: None,
            time_limit: None,
            idle_limit: None,
            ..task.clone()
        };
        let item = NewTask {
            parent: Some(whole),
            due: Due::Now,
            expires: None,
            unique: None,
            idempotency_key: None,
            tags: Vec::new(),
            retention: Some(KEPT),
            ..task
        };
        let open = if all { None } else { Some(Open::new(core, whole).await?) };
        let mut feed = Feed { core: Arc::clone(core), source, names, item, whole, added: 0, open };
        let mut tasks = feed.tasks(first, ready);
        tasks.push(gathers);
        let added = core.add(tasks).await?;
        let id = added.last().map_or(whole, |a| a.id);
        if id != whole {
            // One of that key is there: nothing is added to it.
            feed.source.appended.clear();
            feed.source.lazy = None;
            if let Some(open) = feed.open.take() {
                open.seal(Seal::Broken).await?;
            }
        }
        Ok((feed, id))
    }

    /// Adds the rest, and says how many there are.
    pub(super) async fn finish(&mut self) -> Result<usize> {
        let fed = match &self.open {
            Some(open) => {
                let lost = Arc::clone(&open.lost);
                self.add_all(&lost).await
            }
            None => Ok(()),
        };
        if let Some(open) = self.open.take() {
            let seal = if fed.is_ok() { Seal::Sealed(self.added) } else { Seal::Broken };
            match open.seal(seal).await {
                Ok(true) => fed?,
                Ok(false) => fed.and(Err(too_late()))?,
                // What went wrong first is what is told.
                Err(error) => return Err(fed.err().unwrap_or(error)),
            }
        }
        usize::try_from(self.added).map_err(|_| too_late())
    }

    async fn add_all(&mut self, lost: &AtomicBool) -> Result<()> {
        loop {
            let (args, all) = batch(&mut self.source, self.names.as_ref()).await?;
            if lost.load(Ordering::SeqCst) {
                return Err(too_late());
            }
            let tasks = self.tasks(args, 0);
            self.core.add(tasks).await?;
            if all {
                return Ok(());
            }
        }
    }

    /// The tasks of the next arguments; those before `ready` are not held.
    fn tasks(&mut self, args: Vec<Json>, ready: u64) -> Vec<NewTask> {
        let from = self.added;
        self.added += args.len() as u64;
        let task = |(index, args): (u64, Json)| {
            let id = self.whole.part(u32::try_from(index).unwrap_or(u32::MAX - 1));
            NewTask { id, args, held: index >= ready, ..self.item.clone() }
        };
        (from..).zip(args).map(task).collect()
    }
}

/// The next batch of arguments, and whether it was the last.
async fn batch(source: &mut Source, names: Option<&Names>) -> Result<(Vec<Json>, bool)> {
    let (mut args, mut bytes) = (Vec::new(), 0);
    while args.len() < BATCH && bytes < BATCH_BYTES {
        let Some(next) = source.next(names).await? else { return Ok((args, true)) };
        bytes += next.as_bytes().len();
        args.push(next);
    }
    Ok((args, false))
}

fn too_late() -> Error {
    let message = "an `Iter` was given up: for the length of a lease there was no sign that more arguments come";
    Error::new(ErrorKind::Conflict, message)
}

/// The sign that more arguments come: a document that expires unless it is renewed.
struct Open {
    core: Arc<Core>,
    key: String,
    /// It expired all the same.
    lost: Arc<AtomicBool>,
    renewal: tokio::task::JoinHandle<()>,
}

impl Open {
    async fn new(core: &Arc<Core>, whole: TaskId) -> Result<Self> {
        let key = seal_key(whole);
        let lease = core.config.times.lease;
        let put = move |key: &str, if_version| {
            let bytes = serde_json::to_vec(&Seal::Open).expect("a word");
            DocPut { key: key.to_owned(), if_version: Some(if_version), bytes, expires: Some(lease) }
        };
        core.store.doc_put(put(&key, 0)).await?;
        let lost = Arc::<AtomicBool>::default();
        let (gone, store, of) = (Arc::clone(&lost), Arc::clone(&core.store), key.clone());
        // Not in the loop that adds: arguments may take their time.
        let renewal = core.runtime.spawn(async move {
            loop {
                tokio::time::sleep(lease / 4).await;
                let renewed = async {
                    match store.doc_get(of.clone()).await? {
                        Some(doc) if word(&doc.bytes) == Some(Seal::Open) => {
                            store.doc_put(put(&of, doc.version)).await.map(|_| true)
                        }
                        _ => Ok::<bool, Error>(false),
                    }
                };
                match renewed.await {
                    Ok(true) => {}
                    Ok(false) => return gone.store(true, Ordering::SeqCst),
                    Err(error) => tracing::warn!(%error, "an `Iter` that waits for arguments could not be renewed"),
                }
            }
        });
        Ok(Open { core: Arc::clone(core), key, lost, renewal })
    }

    /// Says the last word. Whether it was heard.
    async fn seal(self, seal: Seal) -> Result<bool> {
        self.renewal.abort();
        let store = &self.core.store;
        loop {
            let Some(doc) = store.doc_get(self.key.clone()).await? else { return Ok(false) };
            match word(&doc.bytes) {
                Some(word) if word == seal => return Ok(true),
                Some(Seal::Open) => {}
                _ => return Ok(false),
            }
            let bytes = serde_json::to_vec(&seal).expect("a word");
            let put = DocPut { key: self.key.clone(), if_version: Some(doc.version), bytes, expires: None };
            if store.doc_put(put).await?.is_some() {
                return Ok(true);
            }
            // The renewal was quicker once more.
        }
    }
}

fn word(bytes: &[u8]) -> Option<Seal> {
    serde_json::from_slice(bytes).ok()
}

impl Drop for Open {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
