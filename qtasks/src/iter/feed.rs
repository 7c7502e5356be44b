//! [`Feed`]: how the arguments of an [`Iter`](super::Iter) come into the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::source::Source;
use crate::add_task::{Names, Plain, Template};
use crate::app::{Core, current};
use crate::builtin::{self, AHEAD, Plan, Seal};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::store::{Due, NewTask};
use crate::task::{Status, TaskId};

/// So many arguments, or bytes of them, go to the store at once; one place is for the whole.
const BATCH: usize = 999;
const BATCH_BYTES: usize = 1 << 20;

/// What comes within so long of the first goes to the store with it: results do not wait for more arguments, nor does
/// anything else on this thread.
const BATCH_TIME: Duration = Duration::from_millis(20);

/// How long to wait before an operation of the store that failed is repeated.
const REPEAT: Duration = Duration::from_millis(100);

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
        let task = core.traced(task);
        let keyed = task.unique.is_some() || task.idempotency_key.is_some();
        let (mut first, mut all) = (Vec::new(), false);
        if !keyed {
            // Whoever waits for the first results need not wait for the first argument.
            let over = Instant::now() + BATCH_TIME;
            (first, all) = batch(core, &mut source, names.as_ref(), Some(over)).await?;
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
                let lost = open.lost.clone();
                self.add_all(&lost).await
            }
            None => Ok(()),
        };
        if let Some(open) = self.open.take() {
            let seal = if fed.is_ok() { Seal::Sealed(self.added) } else { Seal::Broken };
            match open.seal(seal).await {
                Ok(true) if fed.is_ok() => {}
                Ok(_) => {
                    let given_up = given_up(&self.core, self.whole).await;
                    return Err(fed.err().filter(|e| e.kind() != ErrorKind::Conflict).unwrap_or(given_up));
                }
                // What went wrong first is what is told.
                Err(error) => return Err(fed.err().unwrap_or(error)),
            }
        }
        usize::try_from(self.added).map_err(|_| too_late())
    }

    async fn add_all(&mut self, lost: &CancellationToken) -> Result<()> {
        loop {
            let core = Arc::clone(&self.core);
            let next = batch(&core, &mut self.source, self.names.as_ref(), None);
            let Some(next) = lost.run_until_cancelled(next).await else {
                return Err(if core.is_closed() { core.life.closed() } else { too_late() });
            };
            let (args, all) = next?;
            let tasks = self.tasks(args, 0);
            core.repeated(|| core.add(tasks.clone())).await?;
            if all {
                return Ok(());
            }
            // A store in memory makes nobody wait, and an iterator does not either.
            tokio::task::yield_now().await;
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

/// The whole takes no more parts: what it may not have seen of them goes. Says why.
async fn given_up(core: &Arc<Core>, whole: TaskId) -> Error {
    let cleaned = async {
        let record = core.hub.record(whole).await?;
        builtin::clean(core, &record).await?;
        Ok::<_, Error>(record.status)
    };
    match cleaned.await {
        Ok(Status::Cancelled) => {
            let message = format!("the `Iter` {whole} was cancelled before all of its arguments were added");
            Error::new(ErrorKind::Conflict, message)
        }
        _ => too_late(),
    }
}

/// The next batch of arguments, and whether it was the last.
///
/// Without a time until which it may take, it has at least one argument, where there is one.
async fn batch(
    core: &Core,
    source: &mut Source,
    names: Option<&Names>,
    mut until: Option<Instant>,
) -> Result<(Vec<Json>, bool)> {
    let (mut args, mut bytes) = (Vec::new(), 0);
    while args.len() < BATCH && bytes < BATCH_BYTES {
        let next = match until {
            Some(until) if Instant::now() >= until => break,
            Some(until) => {
                let Some(next) = core.timed_until(until, source.next(names)).await? else { break };
                next?
            }
            None => source.next(names).await?,
        };
        let Some(next) = next else { return Ok((args, true)) };
        bytes += next.as_bytes().len();
        args.push(next);
        until.get_or_insert_with(|| Instant::now() + BATCH_TIME);
    }
    Ok((args, false))
}

impl Core {
    /// Calls the store again while it can't be reached, at most as long as a lease.
    async fn repeated<T, A: Future<Output = Result<T>>>(&self, call: impl Fn() -> A) -> Result<T> {
        let until = Instant::now() + self.config.times.lease;
        loop {
            match call().await {
                Err(error) if error.kind() == ErrorKind::Unavailable && !self.is_closed() && Instant::now() < until => {
                    crate::trouble::store_failed(
                        &error,
                        "the store did not take the arguments of an `Iter`; trying again",
                    );
                    self.timed_until(Instant::now() + REPEAT, std::future::pending::<()>()).await?;
                }
                answer => return answer,
            }
        }
    }
}

fn too_late() -> Error {
    let message = "an `Iter` was given up: for the length of a lease there was no sign that more arguments come";
    Error::new(ErrorKind::Conflict, message)
}

/// The sign that more arguments come: a document that expires unless it is renewed.
struct Open {
    core: Arc<Core>,
    key: String,
    /// It expired all the same, or the whole has ended.
    lost: CancellationToken,
    renewal: tokio::task::JoinHandle<()>,
}

impl Open {
    async fn new(core: &Arc<Core>, whole: TaskId) -> Result<Self> {
        let key = Seal::key(whole);
        let lease = core.config.times.lease;
        core.store.doc_put(Seal::Open.put(&key, 0, Some(lease))).await?;
        // With the app this ends as well.
        let lost = core.closed().child_token();
        let (gone, store, of) = (lost.clone(), Arc::clone(&core.store), key.clone());
        // Not in the loop that adds: arguments may take their time.
        let renewal = core.runtime.spawn(async move {
            loop {
                tokio::time::sleep(lease / 4).await;
                let renewed = async {
                    match store.doc_get(of.clone()).await? {
                        Some(doc) if Seal::of(&doc) == Some(Seal::Open) => {
                            store.doc_put(Seal::Open.put(&of, doc.version, Some(lease))).await.map(|_| true)
                        }
                        _ => Ok::<bool, Error>(false),
                    }
                };
                match renewed.await {
                    Ok(true) => {}
                    Ok(false) => return gone.cancel(),
                    Err(error) => {
                        crate::trouble::store_failed(&error, "an `Iter` that waits for arguments could not be renewed")
                    }
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
            let doc = self.core.repeated(|| store.doc_get(self.key.clone())).await?;
            let Some(doc) = doc else { return Ok(false) };
            match Seal::of(&doc) {
                Some(word) if word == seal => return Ok(true),
                Some(Seal::Open) => {}
                _ => return Ok(false),
            }
            // Of a whole that was never added nobody cleans up at once.
            let expires = (seal == Seal::Broken).then_some(KEPT);
            let put = seal.put(&self.key, doc.version, expires);
            if self.core.repeated(|| store.doc_put(put.clone())).await?.is_some() {
                return Ok(true);
            }
            // The renewal was quicker once more, or an answer was lost.
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
