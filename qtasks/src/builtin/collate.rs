//! The built-in behind [`Iter`](crate::Iter): many tasks of one function, one list of results.
//!
//! The tasks are the parts of the whole: part *i* has the id that [`TaskId::part`] makes of the whole's. They are
//! stored `held`, and let go at most [`AHEAD`] before the first whose result is not gathered. A result becomes a value
//! of the whole in the step in which its part is removed: what is left after a crash is what is still to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_stream::try_stream;
use serde::{Deserialize, Serialize};

use super::{Step, Steps, answered, outcome};
use crate::app::Core;
use crate::context::{Context, FromContext as _, Resume};
use crate::json::Json;
use crate::store::{Doc, DocPut};
use crate::task::ids::IdMap;
use crate::task::{FailureKind, TaskFailure, TaskId};
use crate::watch::Ends;

/// So many tasks are let go before the first whose result is missing.
pub(crate) const AHEAD: u64 = 256;

/// For so long it is remembered that a whole takes no more parts.
pub(crate) const REFUSED: Duration = Duration::from_secs(3600);

/// How often it is looked whether more arguments have been added: from the first to the last.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// What there is to do: the arguments of the built-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The name of the task function.
    pub(crate) task: String,
    pub(crate) generating: bool,
    /// Results come in the order of the arguments, not as they finish.
    pub(crate) ordered: bool,
    /// How many there are, where that was known when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u64>,
}

/// Whether all arguments are there: the document `iter/{id}`. It expires unless whoever adds them renews it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Seal {
    /// More may come.
    Open,
    /// There are so many.
    Sealed(u64),
    /// Whoever added them is gone; it is too late for more.
    Broken,
}

impl Seal {
    pub(crate) fn key(id: TaskId) -> String {
        format!("iter/{id}")
    }

    /// What a document says; `None` if it is of another version.
    pub(crate) fn of(doc: &Doc) -> Option<Self> {
        serde_json::from_slice(&doc.bytes).ok()
    }

    /// Says it in the place of a version of the document.
    pub(crate) fn put(self, key: &str, version: u64, expires: Option<Duration>) -> DocPut {
        let bytes = serde_json::to_vec(&self).expect("a word");
        DocPut { key: key.to_owned(), if_version: Some(version), bytes, expires }
    }
}

pub(super) fn run(core: Arc<Core>, ctx: Context, plan: Plan) -> Steps {
    Box::pin(try_stream! {
        let mut work = Collation::begin(core, ctx, plan).await?;
        loop {
            work.release().await?;
            while let Some((value, part)) = work.next_result() {
                yield Step::Yield(value, Some(part));
            }
            if work.total == Some(work.gathered) {
                break;
            }
            work.wait().await?;
        }
    })
}

struct Collation {
    core: Arc<Core>,
    ctx: Context,
    plan: Plan,
    ends: Ends,
    /// By id, the index of each that was let go and has not ended.
    at_work: IdMap<u64>,
    /// By index, the results whose turn has not come.
    results: BTreeMap<u64, (Json, TaskId)>,
    /// Ended, to be read.
    ended: Vec<TaskId>,
    gathered: u64,
    /// The first that was not let go.
    released: u64,
    total: Option<u64>,
    look: Duration,
}

impl Collation {
    async fn begin(core: Arc<Core>, ctx: Context, plan: Plan) -> Result<Self, TaskFailure> {
        let before = Resume::<serde::de::IgnoredAny>::from_context(&ctx)?;
        let total = plan.count.or_else(|| before.checkpoint());
        let gathered = before.count();
        let mut work = Collation {
            ends: Ends::new(&core.hub),
            core,
            ctx,
            plan,
            at_work: IdMap::default(),
            results: BTreeMap::new(),
            ended: Vec::new(),
            gathered,
            released: gathered,
            total,
            look: LOOK.0,
        };
        if !work.plan.ordered && gathered > 0 {
            work.find().await?;
        }
        Ok(work)
    }

    /// Finds out which are still to be done, where that is not all after the first so many.
    async fn find(&mut self) -> Result<(), TaskFailure> {
        let mut gone = 0;
        self.released = 0;
        // What comes after the last that is gathered is let go as ever.
        while gone < self.gathered {
            let ids: Vec<TaskId> = (self.released..self.released + 1000).map(|i| self.part(i)).collect();
            let records = answered(|| self.core.store.get(ids.clone())).await?;
            for (id, record) in ids.into_iter().zip(records) {
                match record {
                    None => gone += 1,
                    Some(_) => self.watch(id, self.released),
                }
                self.released += 1;
                if gone == self.gathered {
                    break;
                }
            }
        }
        // Some of them may have ended, or never been let go.
        let ids: Vec<TaskId> = self.at_work.keys().copied().collect();
        self.start(ids).await.map(drop)
    }

    fn part(&self, index: u64) -> TaskId {
        self.ctx.id().part(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn watch(&mut self, id: TaskId, index: u64) {
        self.ends.add(id);
        self.at_work.insert(id, index);
    }

    /// Lets more go, as far as there is room.
    async fn release(&mut self) -> Result<(), TaskFailure> {
        let out = (self.at_work.len() + self.results.len()) as u64;
        let room = AHEAD.saturating_sub(out);
        let until = self.total.unwrap_or(u64::MAX).min(self.released + room);
        if self.released >= until || (room < AHEAD / 4 && out > 0) {
            return Ok(());
        }
        let ids: Vec<TaskId> = (self.released..until).map(|i| self.part(i)).collect();
        for (index, id) in (self.released..).zip(&ids) {
            self.watch(*id, index);
        }
        let added = self.start(ids).await?;
        if added > 0 {
            self.look = LOOK.0;
        }
        self.released += added;
        Ok(())
    }

    /// Lets tasks go that somebody watches. How many of them there are, from the first on.
    async fn start(&mut self, ids: Vec<TaskId>) -> Result<u64, TaskFailure> {
        let statuses = answered(|| self.core.store.start(ids.clone())).await?;
        let mut added = 0;
        for (id, status) in ids.into_iter().zip(statuses) {
            match status {
                // Those that are not added yet come last.
                None if self.total.is_some() => return Err(self.removed(id)),
                Some(status) => {
                    added += 1;
                    if status.is_ended() {
                        self.ends.remove(id);
                        self.ended.push(id);
                    }
                }
                None => {
                    self.ends.remove(id);
                    self.at_work.remove(&id);
                }
            }
        }
        Ok(added)
    }

    /// The next result whose turn it is.
    fn next_result(&mut self) -> Option<(Json, TaskId)> {
        let result = match self.plan.ordered {
            true => self.results.remove(&self.gathered),
            false => self.results.pop_first().map(|(_, result)| result),
        };
        self.gathered += u64::from(result.is_some());
        result
    }

    /// Waits until there is something to do.
    async fn wait(&mut self) -> Result<(), TaskFailure> {
        if self.ended.is_empty() {
            let all_added = self.total.is_some_and(|total| total <= self.released);
            tokio::select! {
                ended = self.ends.next() => self.ended = ended,
                () = tokio::time::sleep(self.look), if !all_added => {
                    self.look = (self.look * 2).min(LOOK.1);
                    if self.total.is_none() {
                        self.ask().await?;
                    }
                    return Ok(());
                }
            }
        }
        // Others are about to end: they are read, and their results stored, together.
        tokio::task::yield_now().await;
        let mut ended = std::mem::take(&mut self.ended);
        self.ends.more(&mut ended);
        let records = answered(|| self.core.store.get(ended.clone())).await?;
        for (id, record) in ended.into_iter().zip(records) {
            let Some(index) = self.at_work.get(&id).copied() else { continue };
            match record {
                Some(record) if !record.status.is_ended() => self.ends.add(id),
                Some(record) => {
                    self.at_work.remove(&id);
                    let value = outcome(&self.core, index, record, self.plan.generating).await?;
                    self.results.insert(index, (value, id));
                }
                None => return Err(self.removed(id)),
            }
        }
        Ok(())
    }

    /// How it fails if a task is gone whose result nobody has.
    fn removed(&self, id: TaskId) -> TaskFailure {
        let argument = self.at_work.get(&id).map(|index| format!(" of argument {index}")).unwrap_or_default();
        let message = format!("the task {id}{argument} was removed before its result was gathered");
        TaskFailure::new(FailureKind::Error, message)
    }

    /// Asks how many there are, while somebody may add more.
    async fn ask(&mut self) -> Result<(), TaskFailure> {
        let key = Seal::key(self.ctx.id());
        let doc = answered(|| self.core.store.doc_get(key.clone())).await?;
        let seal = doc.as_ref().and_then(Seal::of);
        if doc.is_some() && seal.is_none() {
            let message = "what is stored of its arguments is of another version of qtasks";
            return Err(TaskFailure::new(FailureKind::Codec, message));
        }
        match seal {
            Some(Seal::Open) => return Ok(()),
            Some(Seal::Sealed(count)) => {
                // Kept with the next result: the document goes with the whole.
                self.ctx.checkpoint(&count);
                self.total = Some(count);
                return Ok(());
            }
            Some(Seal::Broken) => {}
            None => {
                // From here on no seal can be put.
                let put = Seal::Broken.put(&key, 0, Some(REFUSED));
                if answered(|| self.core.store.doc_put(put.clone())).await?.is_none() {
                    // Somebody was quicker, or an answer was lost: look again.
                    return Ok(());
                }
            }
        }
        let message = format!("whoever added the arguments was gone after {} of them", self.released);
        Err(TaskFailure::new(FailureKind::Unsealed, message))
    }
}
