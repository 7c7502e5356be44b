//! Bodies that run in place: without a store, a worker, or anybody else.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as Cx, Poll, Waker};

use tokio::sync::oneshot;

use super::source::Source;
use crate::add_task::{Plain, Template};
use crate::app::Core;
use crate::context::Context;
use crate::erased::{Item, Run};
use crate::error::{Error, Result};
use crate::json::Json;
use crate::task::{FailureKind, Start, TaskFailure, TaskFn, TaskSpec};
use crate::worker::{panicked, threads};

/// What came of arguments that ran in place: of each what its task returned.
pub(super) struct Inline(Vec<std::result::Result<Json, TaskFailure>>);

impl Inline {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn results<F: TaskFn>(&self) -> Vec<Result<F::Returning>> {
        let read = |(index, result): (usize, &std::result::Result<Json, TaskFailure>)| match result {
            Ok(value) => F::__codec().returning(value.as_bytes()).map_err(|e| {
                Error::new(crate::ErrorKind::Codec, format!("the result of argument {index} can't be read: {e}"))
            }),
            Err(failure) => Err(Error::task_failed(format!("argument {index}: {failure}"), failure.clone())),
        };
        self.0.iter().enumerate().map(read).collect()
    }
}

/// Runs a task for each of the arguments, one after the other.
pub(super) async fn run(core: &Arc<Core>, template: Plain, mut source: Source) -> Result<Inline> {
    let Template { task, names, spec, .. } = template.template(core, None).await?;
    let spec = spec.ok_or_else(|| core.registry.unknown(&task.name))?;
    let mut results = Vec::new();
    while let Some(args) = source.next(names.as_ref()).await? {
        results.push(one(core, &spec, args).await);
    }
    Ok(Inline(results))
}

async fn one(core: &Arc<Core>, spec: &Arc<TaskSpec>, args: Json) -> std::result::Result<Json, TaskFailure> {
    let ctx = Context::in_place(Arc::clone(&core.states));
    let generating = spec.generating;
    if let Some(start) = &spec.made.start {
        let mut run = caught(|| start(&ctx, args.as_bytes()))?;
        return drive(&mut run, generating).await;
    }
    match spec.start {
        Start::Async(start) => {
            let mut run = caught(|| start(&ctx, args.as_bytes()))?;
            drive(&mut run, generating).await
        }
        Start::Sync(start) => {
            let (send, done) = oneshot::channel();
            let runtime = core.runtime.clone();
            let body = move || {
                let result = caught(|| start(&ctx, args.as_bytes())).and_then(|mut run| {
                    let mut driven = pin!(drive(&mut run, generating));
                    // A sync body is polled outside of any runtime; what waits all the same, within it.
                    match driven.as_mut().poll(&mut Cx::from_waker(Waker::noop())) {
                        Poll::Ready(result) => result,
                        Poll::Pending => runtime.block_on(driven),
                    }
                });
                let _ = send.send(result);
            };
            threads::run(Box::new(body))
                .map_err(|e| TaskFailure::new(FailureKind::Error, format!("no thread for a sync task: {e}")))?;
            done.await.unwrap_or_else(|_| Err(TaskFailure::new(FailureKind::Panic, "its thread ended")))
        }
    }
}

fn caught<T>(f: impl FnOnce() -> std::result::Result<T, TaskFailure>) -> std::result::Result<T, TaskFailure> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| Err(panicked(&*payload)))
}

/// What a task returns: of a generator the list of its values.
async fn drive<R: Run + ?Sized>(run: &mut Pin<Box<R>>, generating: bool) -> std::result::Result<Json, TaskFailure> {
    let (mut list, mut out) = (Vec::from(*b"["), Vec::new());
    loop {
        out.clear();
        let item = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll_item(cx, &mut out))) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(panicked(&*payload))),
        });
        match item.await? {
            Item::Yield { stored, .. } => {
                if !stored {
                    let handled =
                        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll_handle(cx, &mut out))) {
                            Ok(polled) => polled.map_err(|failure| *failure),
                            Err(payload) => Poll::Ready(Err(panicked(&*payload))),
                        });
                    handled.await?;
                }
                if list.len() > 1 {
                    list.push(b',');
                }
                list.extend_from_slice(&out);
            }
            Item::Return if generating => {
                list.push(b']');
                return Ok(Json::trusted(list.into()));
            }
            Item::Return => return Ok(Json::trusted(out.into())),
            Item::Error(failure) => return Err(*failure),
        }
    }
}
