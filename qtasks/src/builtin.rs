//! Tasks that qtasks itself runs: they wait for other tasks, and gather what becomes of those.
//!
//! Invariant: a built-in is a task like any other, with a lease, a log and an end; but it takes no slot of a worker,
//! for what it waits for may need the last one.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context as Cx, Poll, ready};
use std::time::Duration;

use futures::Stream;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use crate::app::{Core, current};
use crate::context::Context;
use crate::erased::{BoxRun, Item as Polled, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::json::{Json, encode};
use crate::store::Answer;
use crate::task::{FailureKind, OnRetry, Start, TaskFailure, TaskId, TaskKind, TaskRecord, TaskSpec};

mod chain;
mod clean;
mod collate;
mod item;
mod pipe;

pub(crate) use chain::{Link, Links};
pub(crate) use clean::{cancelled, clean, removed, tidy};
pub(crate) use collate::{AHEAD, Plan, Seal};
pub(crate) use item::{Item, Returned};
pub(crate) use pipe::Piping;

/// The names of the built-ins.
pub(crate) const ITER: &str = "qtasks.iter";
pub(crate) const PIPE: &str = "qtasks.pipe";
pub(crate) const CHAIN: &str = "qtasks.chain";

pub(crate) const NAMES: [&str; 3] = [ITER, PIPE, CHAIN];

/// The most bytes of one value of a built-in, and of its whole log: it keeps what many tasks returned.
pub(crate) const VALUE_BYTES_MAX: usize = 16 << 20;
pub(crate) const LOG_BYTES_MAX: u64 = 4 << 30;

/// How long to wait before an operation of the store that failed is repeated.
const REPEAT: Duration = Duration::from_millis(100);

static SPECS: [TaskSpec; 3] = [
    spec(ITER, "Runs a task for each of many arguments, and gathers the results.", |ctx, args| {
        gathered(ctx, args, collate::run)
    }),
    spec(PIPE, "Runs a task for each value of another, and gathers the results.", |ctx, args| {
        gathered(ctx, args, pipe::run)
    }),
    spec(CHAIN, "Runs tasks one after the other, each with what the one before it returned.", |ctx, args| {
        gathered(ctx, args, chain::run)
    }),
];

const fn spec(
    name: &'static str,
    description: &'static str,
    start: fn(&Context, &[u8]) -> Result<BoxRun, TaskFailure>,
) -> TaskSpec {
    let mut spec = TaskSpec::new(name, TaskKind::AsyncGen, Start::Async(start));
    spec.description = Some(description);
    spec.on_retry = OnRetry::Resume;
    spec.yields_max = Some(u64::MAX);
    spec.log_bytes_max = Some(LOG_BYTES_MAX);
    spec
}

/// The same, as a worker has them.
static SHARED: LazyLock<[Arc<TaskSpec>; 3]> = LazyLock::new(|| SPECS.each_ref().map(|spec| Arc::new(spec.clone())));

/// The built-in of a name, as a worker has it.
pub(crate) fn shared(name: &str) -> Option<&'static Arc<TaskSpec>> {
    SHARED.iter().find(|spec| spec.name == name)
}

/// The built-in of a name.
pub(crate) fn get(name: &str) -> Option<&'static TaskSpec> {
    SPECS.iter().find(|spec| spec.name == name)
}

/// What a built-in hands out.
enum Step {
    /// A value, and the task whose results it has: they go in the same step.
    Yield(Json, Option<TaskId>),
    /// The final value.
    Return(Json),
}

type Steps = Pin<Box<dyn Stream<Item = Result<Step, TaskFailure>> + Send>>;

/// Begins a built-in.
fn gathered<P: DeserializeOwned>(
    ctx: &Context,
    args: &[u8],
    run: fn(Arc<Core>, Context, P) -> Steps,
) -> Result<BoxRun, TaskFailure> {
    let plan = serde_json::from_slice(args)
        .map_err(|e| TaskFailure::new(FailureKind::Codec, format!("arguments of another version of qtasks: {e}")))?;
    let (core, _) = current::core().map_err(|e| failed(&e))?;
    Ok(Box::pin(Gathering { steps: run(core, ctx.clone(), plan), ctx: ctx.clone() }))
}

fn failed(error: &Error) -> TaskFailure {
    TaskFailure::of(FailureKind::Error, error)
}

struct Gathering {
    steps: Steps,
    ctx: Context,
}

impl Run for Gathering {
    fn poll_item(mut self: Pin<&mut Self>, cx: &mut Cx<'_>, out: &mut Vec<u8>) -> Poll<Polled> {
        Poll::Ready(match ready!(self.steps.as_mut().poll_next(cx)) {
            Some(Ok(Step::Yield(value, part))) => {
                if let Some(part) = part {
                    self.ctx.removes(part);
                }
                out.extend_from_slice(value.as_bytes());
                Polled::Yield { hash: xxh3_64(value.as_bytes()), stored: true }
            }
            Some(Ok(Step::Return(value))) => {
                out.extend_from_slice(value.as_bytes());
                Polled::Return
            }
            Some(Err(failure)) => Polled::Error(Box::new(failure)),
            None => Polled::Return,
        })
    }
}

/// Calls the store until it answers.
async fn answered<'a, T>(call: impl Fn() -> Answer<'a, T>) -> Result<T, TaskFailure> {
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                crate::trouble::store_failed(&error, "the store did not answer a built-in task; trying again");
                tokio::time::sleep(REPEAT).await;
            }
            Err(error) => return Err(failed(&error)),
        }
    }
}

/// What has become of a part that has ended, as the value that is kept of it.
async fn outcome(core: &Core, index: u64, record: TaskRecord, generating: bool) -> Result<Json, TaskFailure> {
    let mut values = None;
    if generating || record.yields > 0 {
        let yields = loop {
            match core.hub.yields(record.id).await {
                Ok(yields) => break yields,
                Err(error) if error.kind() == ErrorKind::Unavailable => tokio::time::sleep(REPEAT).await,
                Err(error) => return Err(failed(&error)),
            }
        };
        values = Some(yields.list());
    }
    let item = Item::new(index, record, values);
    let mut out = Vec::new();
    encode(&item, &mut out).map_err(|e| TaskFailure::new(FailureKind::Codec, e.to_string()))?;
    if out.len() > VALUE_BYTES_MAX {
        let message = format!("the result has {} bytes, of at most {VALUE_BYTES_MAX}", out.len());
        out.clear();
        encode(&item.too_large(message), &mut out).map_err(|e| TaskFailure::new(FailureKind::Codec, e.to_string()))?;
    }
    Ok(Json::trusted(out.into()))
}
