//! The built-in behind [`Chain`](crate::Chain): tasks one after the other.

use std::sync::Arc;

use async_stream::try_stream;
use serde::{Deserialize, Serialize};

use super::{Item, Step, Steps, answered, failed, outcome};
use crate::app::Core;
use crate::args::with_value;
use crate::context::{Context, FromContext as _, Resume};
use crate::error::ErrorKind;
use crate::json::Json;
use crate::store::NewTask;
use crate::task::{FailureKind, TaskFailure, TaskId};

/// One of the tasks of a chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Link {
    /// The task; its id is made when it is added.
    pub(crate) task: NewTask,
    /// The argument that takes what the one before it returned.
    pub(crate) takes: Option<String>,
    pub(crate) generating: bool,
}

/// What there is to do: the arguments of the built-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Links {
    pub(crate) links: Vec<Link>,
}

pub(super) fn run(core: Arc<Core>, ctx: Context, Links { links }: Links) -> Steps {
    Box::pin(try_stream! {
        let before = Resume::<Item>::from_context(&ctx)?;
        let mut value = before.last().and_then(|item| item.value.clone());
        // An attempt that was lost between the last step and the end.
        if let Some((item, failure)) = before.last().and_then(|item| Some((item, item.failure()?))) {
            Err(of_step(item.index, item.name(), failure))?;
        }
        let done = usize::try_from(before.count()).unwrap_or(usize::MAX);
        for (index, link) in links.into_iter().enumerate().skip(done) {
            let id = ctx.id().part(u32::try_from(index).unwrap_or(u32::MAX));
            let name = link.task.name.clone();
            let generating = link.generating;
            add(&core, link, id, value.as_ref(), &ctx).await?;
            let record = loop {
                match core.hub.ended(id).await {
                    Ok(record) => break record,
                    Err(error) if error.kind() == ErrorKind::Unavailable => tokio::time::sleep(super::REPEAT).await,
                    Err(error) => Err(failed(&error))?,
                }
            };
            let kept = outcome(&core, index as u64, record, generating).await?;
            let item: Item = kept.get().map_err(|e| TaskFailure::new(FailureKind::Codec, e.to_string()))?;
            let failure = item.failure();
            value = item.value;
            yield Step::Yield(kept, Some(id));
            if let Some(failure) = failure {
                Err(of_step(index as u64, &name, failure))?;
            }
        }
        yield Step::Return(value.unwrap_or_else(Json::null));
    })
}

/// How a chain fails with one of its steps.
fn of_step(index: u64, name: &str, mut failure: TaskFailure) -> TaskFailure {
    failure.message = format!("step {} of the chain (`{name}`): {}", index + 1, failure.message);
    // With a step that was cancelled it fails: it has not been cancelled itself.
    if failure.kind == FailureKind::Cancelled {
        failure.kind = FailureKind::Error;
    }
    failure
}

/// Adds a task of the chain, unless an earlier attempt has.
async fn add(core: &Core, link: Link, id: TaskId, value: Option<&Json>, ctx: &Context) -> Result<(), TaskFailure> {
    let Link { mut task, takes, .. } = link;
    if let (Some(takes), Some(value)) = (takes, value) {
        task.args = with_value(&task.args, &takes, value).map_err(|m| TaskFailure::new(FailureKind::Codec, m))?;
    }
    task.id = id;
    task.parent = Some(ctx.id());
    task.trace = task.trace.or_else(|| ctx.trace().cloned());
    core.serve_also(&task.queue);
    answered(|| core.store.add(vec![task.clone()])).await.map(drop)
}
