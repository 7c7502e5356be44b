//! The loop of an attempt whose values go through an executor.
//!
//! The executor and the body are polled in turn, by the same loop: whatever the one asks for, the other gives. So the
//! body may stay on its thread although the executor is a future that could go anywhere.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt as _;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::replay::{Replay, Verdict};
use super::run::{self, Body, Emit, End, Job, Place, Step};
use super::sink::Stop;
use crate::erased::{Item, Run};
use crate::executor::{Answer, Ask, Exchange, Executed, Execution, TaskExecutor};
use crate::json::Json;
use crate::panics::{Contained, caught};
use crate::task::TaskFailure;

/// What an executor did.
enum Did {
    Asked(Ask),
    Ended(Executed),
    Stopped(Stop),
    Panicked(TaskFailure),
}

/// Runs a body through its executor.
pub(super) async fn drive<R: Run + ?Sized>(
    mut body: Body<R>,
    job: &Job,
    replay: Replay,
    place: &Place,
    executor: &Arc<dyn TaskExecutor>,
) -> End {
    let exchange = Arc::<Exchange>::default();
    let (context, args) = (job.context(), job.task.record.args.clone());
    let mut execution = Execution::new(Arc::clone(&job.spec), context, args, Arc::clone(&exchange));
    let mut executing = match caught(|| executor.execute(&mut execution)) {
        Ok(executing) => Contained::new("an executor", executing),
        Err(failure) => return End::Failed(failure),
    };
    let mut emit = Emit::new(job, replay, place);
    let mut unit = Unit::default();
    let mut over: Option<Executed> = None;
    loop {
        place.enter().await;
        let did = poll_fn(|cx| {
            job.sink.register(cx.waker());
            if let Some(stop) = job.sink.asked_to_stop() {
                return Poll::Ready(Did::Stopped(stop));
            }
            match executing.poll_unpin(cx) {
                Poll::Ready(Ok(executed)) => Poll::Ready(Did::Ended(executed)),
                Poll::Ready(Err(failure)) => Poll::Ready(Did::Panicked(failure)),
                Poll::Pending => match exchange.asked() {
                    Some(ask) => Poll::Ready(Did::Asked(ask)),
                    None => {
                        job.sink.write();
                        Poll::Pending
                    }
                },
            }
        });
        let did = did.await;
        place.leave().await;
        let answer = match did {
            Did::Asked(Ask::Next) => match &over {
                Some(executed) => Answer::Over(executed.clone()),
                None => match next(&mut body, job, place, &mut unit).await {
                    Ok(Some(value)) => Answer::Item(value),
                    Ok(None) => Answer::Over(over.insert(Ok(unit.returned.take())).clone()),
                    Err(End::Failed(failure)) => Answer::Over(over.insert(Err(failure)).clone()),
                    Err(end) => return end,
                },
            },
            Did::Asked(Ask::Emit(value)) => match emit.value(unit.hash(&value), &value).await {
                Ok(()) => Answer::Emitted,
                // What was wrong with it is wrong with the task.
                Err(end) => return end,
            },
            Did::Ended(Ok(value)) => return emit.end(run::text(value)),
            Did::Ended(Err(failure)) | Did::Panicked(failure) => return End::Failed(failure),
            Did::Stopped(stop) => return End::Stopped(stop),
        };
        exchange.answer(answer);
    }
}

/// The next value of the body, after its handler; `None` when it is over.
async fn next<R: Run + ?Sized>(
    body: &mut Body<R>,
    job: &Job,
    place: &Place,
    unit: &mut Unit,
) -> Result<Option<Json>, End> {
    let (sink, mut out) = (&*job.sink, Vec::new());
    let (mut hash, stored) = match run::next(body, sink, &mut out).await {
        Step::Item(Item::Yield { hash, stored }) => (hash, stored),
        Step::Item(Item::Return) => {
            unit.returned = (!out.is_empty()).then(|| Json::trusted(out.into()));
            return Ok(None);
        }
        Step::Item(Item::Error(failure)) => return Err(End::Failed(run::at_value(*failure, sink))),
        Step::Panic(failure) => return Err(End::Failed(failure)),
        Step::Stop(stop) => return Err(End::Stopped(stop)),
    };
    if !stored {
        match run::handle(body, sink, &mut out, place).await {
            Ok(other) => hash = other.unwrap_or(hash),
            Err(Step::Stop(stop)) => return Err(End::Stopped(stop)),
            Err(Step::Panic(failure)) => return Err(End::Failed(failure.at(sink.yields()))),
            Err(Step::Item(_)) => unreachable!("a handler brings no items"),
        }
    }
    unit.hashes.push(hash);
    Ok(Some(Json::trusted(out.into())))
}

/// What was pulled of the body since the last value.
#[derive(Default)]
struct Unit {
    hashes: Vec<u64>,
    /// What the body returned.
    returned: Option<Json>,
}

impl Unit {
    /// What a value made of it is known by: of one item its own hash, of several the hash of theirs, of none that of
    /// the value itself. It is part of the format of the log.
    fn hash(&mut self, value: &Json) -> u64 {
        let hash = match &self.hashes[..] {
            [] => xxh3_64(value.as_bytes()),
            [only] => *only,
            many => {
                let mut all = Xxh3Default::new();
                many.iter().for_each(|hash| all.update(&hash.to_le_bytes()));
                all.digest()
            }
        };
        self.hashes.clear();
        hash
    }
}

impl Emit<'_> {
    /// Stores a value, unless it is in the log already.
    async fn value(&mut self, hash: u64, value: &Json) -> Result<(), End> {
        match self.verdict(hash).await? {
            Verdict::Same => return Ok(()),
            Verdict::Different | Verdict::New => {}
        }
        self.announce().await;
        self.keep(hash, value.as_bytes()).await
    }
}
