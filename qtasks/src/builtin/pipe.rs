//! The built-in behind [`pipe`](crate::AddTask::pipe): each value of one task is the argument of another.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_stream::try_stream;
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::collate::AHEAD;
use super::{Step, Steps, answered, failed, outcome};
use crate::app::Core;
use crate::args::with_value;
use crate::context::{Context, FromContext as _, Resume};
use crate::error::ErrorKind;
use crate::json::Json;
use crate::store::NewTask;
use crate::task::ids::IdMap;
use crate::task::{AnyTask, FailureKind, TaskFailure, TaskId};
use crate::watch::{Ends, Values};

/// What there is to do: the arguments of the built-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Piping {
    /// The generator.
    pub(crate) source: NewTask,
    /// What each of its values is given to.
    pub(crate) task: NewTask,
    /// Under this name.
    pub(crate) takes: String,
    pub(crate) generating: bool,
}

pub(super) fn run(core: Arc<Core>, ctx: Context, plan: Piping) -> Steps {
    Box::pin(try_stream! {
        let gathered = Resume::<serde::de::IgnoredAny>::from_context(&ctx)?.count();
        let source = ctx.id().part(u32::MAX);
        let mut first = NewTask { id: source, parent: Some(ctx.id()), ..plan.source.clone() };
        first.trace = first.trace.or_else(|| ctx.trace().cloned());
        core.serve_also(&first.queue);
        core.serve_also(&plan.task.queue);
        answered(|| core.store.add(vec![first.clone()])).await?;
        let mut work = Piped {
            values: Some(Values::<AnyTask>::new(&core.hub, source, 0)),
            ends: Ends::new(&core.hub),
            at_work: IdMap::default(),
            results: BTreeMap::new(),
            core, ctx, plan, gathered, fed: 0,
        };
        let mut failure = None;
        while work.values.is_some() || work.gathered < work.fed {
            work.step(&mut failure).await?;
            while let Some((value, part)) = work.results.remove(&work.gathered) {
                work.gathered += 1;
                yield Step::Yield(value, Some(part));
            }
        }
        if let Some(failure) = failure {
            Err(failure)?;
        }
    })
}

struct Piped {
    core: Arc<Core>,
    ctx: Context,
    plan: Piping,
    /// What the source yields; `None` once that is over.
    values: Option<Values<AnyTask>>,
    ends: Ends,
    at_work: IdMap<u64>,
    results: BTreeMap<u64, (Json, TaskId)>,
    gathered: u64,
    fed: u64,
}

impl Piped {
    /// Waits for a value or for an end, and does what follows.
    async fn step(&mut self, failure: &mut Option<TaskFailure>) -> Result<(), TaskFailure> {
        let room = self.fed < self.gathered + AHEAD;
        let Piped { values, ends, .. } = self;
        tokio::select! {
            ended = ends.next(), if !self.at_work.is_empty() => self.read(ended).await,
            value = async { values.as_mut().expect("looked at before").next().await }, if room && values.is_some() => {
                match value {
                    Some(Ok(value)) => return self.feed(value).await,
                    Some(Err(error)) if error.kind() == ErrorKind::Unavailable => {
                        return Err(failed(&error));
                    }
                    Some(Err(error)) => {
                        let given = error.failure().cloned();
                        let mut given = given.unwrap_or_else(|| failed(&error));
                        given.message = format!("the source of the pipe: {}", given.message);
                        if given.kind == FailureKind::Cancelled {
                            given.kind = FailureKind::Error;
                        }
                        *failure = Some(given);
                    }
                    None => {}
                }
                self.values = None;
                Ok(())
            }
        }
    }

    /// Adds the task of one value, unless an earlier attempt has.
    async fn feed(&mut self, value: serde_json::Value) -> Result<(), TaskFailure> {
        let index = self.fed;
        self.fed += 1;
        if index < self.gathered {
            return Ok(());
        }
        let codec = |message: String| TaskFailure::new(FailureKind::Codec, message);
        let value = Json::of(&value).map_err(|e| codec(e.to_string()))?;
        let id = self.ctx.id().part(u32::try_from(index).unwrap_or(u32::MAX - 1));
        let args = with_value(&self.plan.task.args, &self.plan.takes, &value).map_err(codec)?;
        let mut task = NewTask { id, args, parent: Some(self.ctx.id()), ..self.plan.task.clone() };
        task.trace = task.trace.or_else(|| self.ctx.trace().cloned());
        self.ends.add(id);
        self.at_work.insert(id, index);
        let added = answered(|| self.core.store.add(vec![task.clone()])).await?;
        if added.iter().any(|a| a.existed) {
            // It may have ended before anybody waited for it.
            self.ends.remove(id);
            return self.read(vec![id]).await;
        }
        Ok(())
    }

    async fn read(&mut self, ended: Vec<TaskId>) -> Result<(), TaskFailure> {
        let records = answered(|| self.core.store.get(ended.clone())).await?;
        for (id, record) in ended.into_iter().zip(records) {
            let Some(index) = self.at_work.get(&id).copied() else { continue };
            match record {
                Some(record) if record.status.is_ended() => {
                    self.at_work.remove(&id);
                    let value = outcome(&self.core, index, record, self.plan.generating).await?;
                    self.results.insert(index, (value, id));
                }
                Some(_) => {
                    self.ends.add(id);
                    // Once more, now that no end can be missed.
                    let again = answered(|| self.core.store.get(vec![id])).await?.pop().flatten();
                    if again.is_some_and(|r| r.status.is_ended()) {
                        self.ends.remove(id);
                        return Box::pin(self.read(vec![id])).await;
                    }
                }
                None => {
                    let message = format!("the task {id} of value {index} was removed before its result was gathered");
                    return Err(TaskFailure::new(FailureKind::Error, message));
                }
            }
        }
        Ok(())
    }
}
