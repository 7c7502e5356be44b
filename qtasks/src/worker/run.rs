//! One attempt: the body is polled, its values go to the [`Sink`], and its end becomes the end of the attempt.
//!
//! One loop for every kind of task. A sync body runs it on a thread of ours: there the body is polled outside of any
//! runtime, and the loop steps into the runtime only to wait.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context as Cx, Poll, Waker};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::oneshot;

use super::replay::{Replay, Verdict};
use super::sink::{Accepted, Sink, Stop};
use super::threads;
use super::{Around, execute};
use crate::app::current;
use crate::context::{Attempt as _, Context, ResumePoint, States};
use crate::erased::{Item, Run};
use crate::isolation;
use crate::json::Json;
use crate::middleware::{Attempt, AttemptOutcome, Middleware, Next, Stopped};
use crate::panics::{Contained, caught, dropped, panicked};
use crate::retry::RetryPolicy;
use crate::signals::{Ending, Told};
use crate::store::{ClaimedTask, Outcome, Store};
use crate::task::{FailureKind, Isolation, OnRetry, Start, TaskFailure, TaskSpec};

/// After so many items an async body lets others run.
const TURN: u32 = 64;

/// What an attempt is made of. Boxed where it goes, for futures would carry it in each of their layers.
pub(crate) struct Job {
    pub(crate) spec: Arc<TaskSpec>,
    /// What there is around the body, if anything is.
    pub(crate) around: Option<Around>,
    /// Those who asked about it, if there are any.
    pub(crate) signals: Option<Arc<Told>>,
    pub(crate) task: ClaimedTask,
    pub(crate) sink: Arc<Sink>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) states: Arc<States>,
    pub(crate) scope: current::Scope,
    pub(crate) worker: Arc<str>,
    pub(crate) value_bytes_max: usize,
    pub(crate) runtime: tokio::runtime::Handle,
    /// Entered on each thread that runs a part of it.
    pub(crate) span: tracing::Span,
    /// Threads whose attempts are over.
    pub(crate) abandoned: Arc<AtomicUsize>,
}

/// How a body ended.
#[derive(Debug)]
pub(super) enum End {
    Returned(Vec<u8>),
    Failed(TaskFailure),
    Stopped(Stop),
}

/// What comes after an attempt.
pub(crate) enum After {
    /// How it ended is with the sink, and is to be written.
    Ends(Ending),
    /// All is stored, and the task is to be given back to the store.
    GivesBack,
    /// The host had no room for the body; the task is to be given back to the store.
    Starved(String),
    /// The task is somebody else's.
    IsLost,
}

/// Runs an attempt to its end.
pub(crate) async fn attempt(job: Box<Job>) -> After {
    let limit = job.task.time_limit.or(job.spec.time_limit);
    let sink = Arc::clone(&job.sink);
    let policy = Policy { retry: job.task.retry.unwrap_or(job.spec.retry), retry_on: job.spec.retry_on };
    let (attempt, failures) = (job.task.record.attempt, job.task.record.failures);
    if let Some(told) = &job.signals {
        told.before_job().await;
    }
    sink.started(&job.worker);
    let body = async {
        match &job.around {
            Some(around) if !around.layers.is_empty() => layered(job).await,
            _ => run(job).await,
        }
    };
    let body = async {
        match limit {
            None if !sink.has_idle_limit() => body.await,
            limit => Box::pin(limited(body, limit, &sink)).await,
        }
    };
    // The last net: user code is contained where it is called.
    let end = AssertUnwindSafe(body).catch_unwind().await.unwrap_or_else(|payload| End::Failed(panicked(payload)));
    let ending = match end {
        End::Returned(value) => {
            sink.end(Outcome::Ended, |index, draft| draft.completed(index, &value));
            Ending::Completed
        }
        End::Failed(failure) | End::Stopped(Stop::Fail(failure)) => {
            fail(&sink, failure.in_attempt(attempt), &policy, failures)
        }
        End::Stopped(Stop::Cancel(reason)) => {
            sink.end(Outcome::Ended, |index, draft| draft.cancelled(index, &reason));
            Ending::Cancelled(reason)
        }
        End::Stopped(Stop::Shutdown) => {
            sink.close();
            sink.write();
            let _ = sink.drained().await;
            return After::GivesBack;
        }
        End::Stopped(Stop::Starved(why)) => {
            if !sink.forget() {
                sink.write();
                let _ = sink.drained().await;
            }
            return After::Starved(why);
        }
        End::Stopped(Stop::Fenced) => return After::IsLost,
    };
    After::Ends(ending)
}

/// Runs a body for as long as it may take, and may take for a value.
async fn limited(body: impl Future<Output = End>, limit: Option<Duration>, sink: &Sink) -> End {
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
        limit.unwrap_or_default()
    };
    let shown = humantime::format_duration;
    let message = tokio::select! {
        biased;
        end = body => return end,
        limit = over => format!("the attempt took longer than {}", shown(limit)),
        limit = sink.idled() => format!("no value for longer than {}", shown(limit)),
    };
    let failure = TaskFailure::new(FailureKind::TimeLimit, message);
    // A sync body runs on until it sees this.
    sink.stop(Stop::Fail(failure.clone()));
    End::Failed(failure)
}

/// Runs a body where it belongs.
async fn run(job: Box<Job>) -> End {
    match job.spec.start {
        Start::Sync(_) if job.spec.isolation != Isolation::Process => on_a_thread(job).await,
        // What runs in a process of its own is only waited for here.
        Start::Sync(_) | Start::Async(_) => on_the_runtime(job).await,
    }
}

/// Runs a body within what there is around it.
async fn layered(job: Box<Job>) -> End {
    let layers: Arc<[_]> = job.around.iter().flat_map(|around| around.layers.iter().cloned()).collect();
    let (scope, sink, bytes_max) = (job.scope.clone(), Arc::clone(&job.sink), job.value_bytes_max);
    let (spec, context, args) = (Arc::clone(&job.spec), job.context(), job.task.record.args.clone());
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let body = async move {
        let end = run(job).await;
        ended.store(true, Ordering::SeqCst);
        match end {
            End::Returned(value) => AttemptOutcome::Completed((!value.is_empty()).then(|| Json::trusted(value.into()))),
            End::Failed(failure) => AttemptOutcome::Failed(failure),
            End::Stopped(stop) => AttemptOutcome::Stopped(Stopped(stop)),
        }
    };
    let attempt = Attempt::new(spec, context, args, Box::pin(body));
    let mut layered = Contained::new("a middleware", Box::pin(Next::new(layers).run(attempt)));
    let outcome = poll_fn(|cx| {
        let _scope = current::enter(&scope);
        layered.poll_unpin(cx)
    });
    let end = match outcome.await {
        Ok(AttemptOutcome::Completed(value)) => returned(text(value), bytes_max),
        Ok(AttemptOutcome::Failed(failure)) => End::Failed(failure),
        Ok(AttemptOutcome::Stopped(Stopped(stop))) => End::Stopped(stop),
        Err(failure) => {
            End::Failed(TaskFailure::new(FailureKind::Middleware, format!("it panicked: {}", failure.message)))
        }
    };
    if !over.load(Ordering::SeqCst) {
        // It was dropped, or never begun; a sync one runs on until it sees this.
        sink.stop(Stop::Fail(TaskFailure::new(FailureKind::Middleware, "the body was dropped")));
    }
    end
}

/// What is stored of a returned value, if there is one.
pub(super) fn text(value: Option<Json>) -> Vec<u8> {
    value.map_or_else(Vec::new, |value| value.as_bytes().to_vec())
}

/// The end with a value, unless that is too large.
fn returned(value: Vec<u8>, bytes_max: usize) -> End {
    if value.len() <= bytes_max {
        return End::Returned(value);
    }
    let message = format!("the returned value has {} bytes, of at most {bytes_max}", value.len());
    End::Failed(TaskFailure::new(FailureKind::Limit, message))
}

/// What says whether an attempt that failed is followed by another.
struct Policy {
    retry: RetryPolicy,
    retry_on: Option<fn(&TaskFailure) -> bool>,
}

impl Policy {
    /// The wait until then. The policy says how many attempts there are, the error how long the wait is, or that there
    /// is none, and a predicate has the last word.
    fn wait(&self, failure: &TaskFailure, failures: u32, chance: u64) -> Option<Duration> {
        let wait = self.retry.after(failures + 1, chance).filter(|_| failure.kind.is_retried());
        let wait = failure.wish().wait(wait)?;
        let Some(retry_on) = self.retry_on else { return Some(wait) };
        let retried = caught(|| retry_on(failure)).unwrap_or_else(|failure| {
            tracing::warn!(%failure, "`retry_on` panicked; the policy alone decides");
            true
        });
        retried.then_some(wait)
    }
}

fn fail(sink: &Sink, failure: TaskFailure, policy: &Policy, failures: u32) -> Ending {
    let chance = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), sink.id());
    let (id, kind) = (sink.id(), failure.kind);
    match policy.wait(&failure, failures, chance) {
        Some(wait) => {
            tracing::warn!(%id, %kind, ?wait, "an attempt failed, and another follows");
            sink.end(Outcome::Retry(wait), |index, draft| draft.retry(index, &failure, wait));
            Ending::Retried(failure, wait)
        }
        None => {
            tracing::warn!(%id, %kind, "a task failed");
            sink.end(Outcome::Ended, |index, draft| draft.failed(index, &failure));
            Ending::Failed(failure)
        }
    }
}

/// Where the loop is polled: whether it must step into the runtime to wait.
pub(super) struct Place {
    sync: bool,
    /// The body may not be polled now: the loop waits for something of the runtime's.
    inside: AtomicBool,
}

impl Place {
    fn new(sync: bool) -> Self {
        Place { sync, inside: AtomicBool::new(false) }
    }

    /// Goes on where there is a runtime.
    pub(super) async fn enter(&self) {
        self.switch(true).await;
    }

    /// Goes on where there is none.
    pub(super) async fn leave(&self) {
        self.switch(false).await;
    }

    async fn switch(&self, inside: bool) {
        if self.sync && self.inside.swap(inside, Ordering::Relaxed) != inside {
            let mut switched = false;
            poll_fn(|_| if std::mem::replace(&mut switched, true) { Poll::Ready(()) } else { Poll::Pending }).await;
        }
    }
}

/// Polls the loop of a sync body on this thread, until it ends.
fn block_on<T>(place: &Place, runtime: &tokio::runtime::Handle, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if !place.inside.load(Ordering::Relaxed) {
            match future.as_mut().poll(&mut Cx::from_waker(Waker::noop())) {
                Poll::Ready(result) => return result,
                // A body that waits although it is sync: only the runtime can wake it.
                Poll::Pending => place.inside.store(true, Ordering::Relaxed),
            }
        }
        let result = runtime.block_on(poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if !place.inside.load(Ordering::Relaxed) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }));
        if let Some(result) = result {
            return result;
        }
    }
}

/// A run, if the arguments can be read.
type Made<R> = Result<Pin<Box<R>>, TaskFailure>;

impl Job {
    fn mode(&self) -> OnRetry {
        self.spec.on_retry
    }

    pub(super) fn context(&self) -> Context {
        let record = &self.task.record;
        let resume = match self.mode() {
            OnRetry::Resume => ResumePoint {
                count: record.yields,
                last: self.task.last_yield.clone(),
                checkpoint: self.task.checkpoint.clone(),
            },
            OnRetry::Replay | OnRetry::Restart => ResumePoint::default(),
        };
        let run = Arc::clone(&self.sink) as Arc<dyn crate::context::Attempt>;
        let states = Arc::clone(&self.states);
        Context::new(record.id, record.name.clone(), record.attempt, states, resume, run, record.trace.clone())
    }

    /// Makes the run of an async task.
    fn start_async(&self) -> Result<Body<dyn Run + Send>, TaskFailure> {
        if self.spec.isolation == Isolation::Process {
            return self.begin(|ctx, args| isolation::start(&self.spec, ctx, args, self.value_bytes_max));
        }
        if let Some(start) = &self.spec.made.start {
            return self.begin(|ctx, args| start(ctx, args));
        }
        match self.spec.start {
            Start::Async(start) => self.begin(start),
            Start::Sync(_) => unreachable!("a sync task has a thread"),
        }
    }

    /// Makes the run, by the task's own code.
    fn begin<R: Run + ?Sized>(&self, start: impl Fn(&Context, &[u8]) -> Made<R>) -> Result<Body<R>, TaskFailure> {
        let started = caught(|| start(&self.context(), self.task.record.args.as_bytes()));
        started.unwrap_or_else(Err).map(|run| Body(Some(run)))
    }

    /// How an attempt ends whose run could not be made.
    fn not_begun(&self, failure: TaskFailure) -> End {
        match self.sink.asked_to_stop() {
            Some(stop @ Stop::Starved(_)) => End::Stopped(stop),
            _ => End::Failed(failure),
        }
    }
}

async fn on_the_runtime(job: Box<Job>) -> End {
    let place = Place::new(false);
    let replay = Replay::prepare(&job.store, &job.task, job.mode(), &job.sink, &job.runtime).await;
    let mut scoped = pin!(async {
        match job.start_async() {
            Ok(body) => drive(body, &job, replay, &place).await,
            Err(failure) => job.not_begun(failure),
        }
    });
    poll_fn(|cx| {
        let _scope = current::enter(&job.scope);
        scoped.as_mut().poll(cx)
    })
    .await
}

async fn on_a_thread(job: Box<Job>) -> End {
    let replay = Replay::prepare(&job.store, &job.task, job.mode(), &job.sink, &job.runtime).await;
    let (sink, abandoned) = (Arc::clone(&job.sink), Arc::clone(&job.abandoned));
    let (sender, mut over) = oneshot::channel();
    let body = move || {
        let place = Place::new(true);
        let Start::Sync(start) = job.spec.start else { unreachable!("an async task has no thread") };
        let span = job.span.clone();
        let within = span.enter();
        let scope = current::enter(&job.scope);
        let driven = async {
            match job.begin(start) {
                Ok(body) => drive(body, &job, replay, &place).await,
                Err(failure) => job.not_begun(failure),
            }
        };
        // A runtime that has ended panics where it is asked to wait.
        let end = caught(|| block_on(&place, &job.runtime, driven)).unwrap_or_else(End::Failed);
        drop((scope, within));
        if sender.send(end).is_err() {
            job.abandoned.fetch_sub(1, Ordering::SeqCst);
        }
    };
    if let Err(error) = threads::run(Box::new(body)) {
        return End::Stopped(Stop::Starved(format!("no thread for a sync task: {error}")));
    }
    /// Counts the thread that is left behind when this future is dropped, or the task stopped, before its body ends.
    struct Leave<'a>(&'a mut oneshot::Receiver<End>, &'a AtomicUsize);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.close();
            // It may have ended in between: then it has not seen that nobody waits.
            if self.0.try_recv().is_ok() {
                self.1.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
    let leave = Leave(&mut over, &abandoned);
    let end = tokio::select! {
        end = &mut *leave.0 => end.unwrap_or_else(|_| End::Failed(TaskFailure::new(FailureKind::Panic, "its thread ended"))),
        () = sink.stopped() => return End::Stopped(sink.asked_to_stop().unwrap_or(Stop::Fenced)),
    };
    // It has ended, and is not left behind.
    std::mem::forget(leave);
    end
}

/// What a poll of the body brought.
pub(super) enum Step {
    Item(Item),
    Panic(TaskFailure),
    Stop(Stop),
}

/// A run; dropping it drops the body, whose own code may panic then.
pub(super) struct Body<R: Run + ?Sized>(Option<Pin<Box<R>>>);

impl<R: Run + ?Sized> Body<R> {
    fn run(&mut self) -> Pin<&mut R> {
        self.0.as_mut().expect("until it is dropped").as_mut()
    }
}

impl<R: Run + ?Sized> Drop for Body<R> {
    fn drop(&mut self) {
        dropped(self.0.take(), "a body");
    }
}

/// The loop.
async fn drive<R: Run + ?Sized>(mut body: Body<R>, job: &Job, replay: Replay, place: &Place) -> End {
    if let Some(executor) = job.around.as_ref().and_then(|around| around.executor.as_ref()) {
        return Box::pin(execute::drive(body, job, replay, place, executor)).await;
    }
    let sink = &*job.sink;
    let mut emit = Emit::new(job, replay, place);
    let mut out = Vec::with_capacity(256);
    loop {
        out.clear();
        let (mut hash, stored) = match next(&mut body, sink, &mut out).await {
            Step::Item(Item::Yield { hash, stored }) => (hash, stored),
            Step::Item(Item::Return) => return emit.end(out),
            Step::Item(Item::Error(failure)) => return End::Failed(at_value(*failure, sink)),
            Step::Panic(failure) => return End::Failed(failure),
            Step::Stop(stop) => return End::Stopped(stop),
        };
        // Futures only where there is something to wait for: this is done for every value.
        if emit.replay.is_on() {
            match emit.verdict(hash).await {
                Ok(Verdict::Same) => {
                    if !stored && let Err(failure) = caught(|| body.run().skip()) {
                        return End::Failed(failure);
                    }
                    continue;
                }
                Ok(Verdict::Different | Verdict::New) => {}
                Err(end) => return end,
            }
        }
        if emit.told.is_some() {
            emit.announce().await;
        }
        if !stored {
            match handle(&mut body, sink, &mut out, place).await {
                Ok(Some(other)) => hash = other,
                Ok(None) => {}
                Err(Step::Stop(stop)) => return End::Stopped(stop),
                Err(Step::Panic(failure)) => return End::Failed(failure.at(sink.yields())),
                Err(Step::Item(_)) => unreachable!("a handler brings no items"),
            }
        }
        let index = sink.yields();
        match emit.hand_over(hash, &out) {
            Ok(None) => {}
            Ok(Some(accepted)) => emit.wait(accepted, index, &out).await,
            Err(failure) => return End::Failed(failure),
        }
    }
}

/// Values on their way from a body to its sink.
pub(super) struct Emit<'a> {
    job: &'a Job,
    replay: Replay,
    place: &'a Place,
    /// Those who want to hear of each value.
    told: Option<&'a Told>,
    /// Those who want to see each value.
    layers: &'a [Arc<dyn Middleware>],
    context: Option<Context>,
    turn: u32,
}

impl<'a> Emit<'a> {
    pub(super) fn new(job: &'a Job, replay: Replay, place: &'a Place) -> Self {
        let told = job.signals.as_deref().filter(|told| told.receivers.in_loop());
        let layers = job.around.as_ref().map_or(&[][..], |around| &around.layers);
        let context = (!layers.is_empty()).then(|| job.context());
        Emit { job, replay, place, told, layers, context, turn: 0 }
    }

    /// What the next value is to the log. One that is there already is done with.
    pub(super) async fn verdict(&mut self, hash: u64) -> Result<Verdict, End> {
        let sink = &*self.job.sink;
        let Some(verdict) = verdict(hash, &mut self.replay, sink, self.place).await else {
            return Err(End::Stopped(sink.asked_to_stop().unwrap_or(Stop::Fenced)));
        };
        match verdict {
            Verdict::Same => {
                sink.verified();
                self.turn = next_turn(self.turn, self.place).await;
            }
            Verdict::Different => sink.rewind(sink.yields()),
            Verdict::New => {}
        }
        Ok(verdict)
    }

    /// Tells that there is a value.
    pub(super) async fn announce(&self) {
        if let Some(told) = self.told {
            self.place.enter().await;
            told.before_loop(self.job.sink.yields()).await;
            self.place.leave().await;
        }
    }

    /// Hands a value over to be stored. What is to be waited for then, if anything.
    #[inline]
    fn hand_over(&mut self, hash: u64, value: &[u8]) -> Result<Option<Accepted>, TaskFailure> {
        let sink = &*self.job.sink;
        if let Some(context) = &self.context {
            show(self.layers, context, sink.yields(), value);
        }
        let accepted = sink.yielded(hash, value)?;
        if accepted == Accepted::Gathering && self.told.is_none() && (self.turn < TURN || self.place.sync) {
            self.turn = self.turn.saturating_add(1);
            return Ok(None);
        }
        Ok(Some(accepted))
    }

    /// Waits for what follows from a value that was handed over as number `index`.
    async fn wait(&mut self, accepted: Accepted, index: u64, value: &[u8]) {
        let (sink, place) = (&*self.job.sink, self.place);
        match (self.told, accepted) {
            (Some(told), _) => {
                place.enter().await;
                sink.write();
                if sink.drained().await.is_ok() {
                    told.after_loop(index, value).await;
                }
                place.leave().await;
            }
            (None, Accepted::Gathering) => self.turn = next_turn(self.turn, place).await,
            (None, Accepted::Written) => self.turn = next_turn(TURN, place).await,
            (None, Accepted::Full) => {
                sink.write();
                place.enter().await;
                poll_fn(|cx| sink.poll_room(cx)).await;
                place.leave().await;
            }
        }
    }

    /// Stores a value.
    pub(super) async fn keep(&mut self, hash: u64, value: &[u8]) -> Result<(), End> {
        let index = self.job.sink.yields();
        if let Some(accepted) = self.hand_over(hash, value).map_err(End::Failed)? {
            self.wait(accepted, index, value).await;
        }
        Ok(())
    }

    /// The body came to its end. What the log holds beyond that is void, unless the attempt fails here: one that fails
    /// while it verifies changes nothing.
    pub(super) fn end(&self, value: Vec<u8>) -> End {
        let end = returned(value, self.job.value_bytes_max);
        if let (End::Returned(_), Some(to)) = (&end, self.replay.short()) {
            self.job.sink.rewind(to);
        }
        end
    }
}

/// Shows a value to those around the body.
fn show(layers: &[Arc<dyn Middleware>], context: &Context, index: u64, value: &[u8]) {
    let Ok(value) = serde_json::from_slice::<&serde_json::value::RawValue>(value) else { return };
    for layer in layers {
        if let Err(failure) = caught(|| layer.on_yield(context, index, value)) {
            let layer = caught(|| format!("{layer:?}")).unwrap_or_default();
            tracing::warn!(layer, %failure, "a middleware panicked at a value");
        }
    }
}

/// The next item of the body. While that waits, what there is goes to the store.
pub(super) async fn next<R: Run + ?Sized>(body: &mut Body<R>, sink: &Sink, out: &mut Vec<u8>) -> Step {
    sink.makes(true);
    let step = poll_fn(|cx| {
        sink.register(cx.waker());
        if let Some(stop) = sink.asked_to_stop() {
            return Poll::Ready(Step::Stop(stop));
        }
        match caught(|| body.run().poll_item(cx, out)) {
            Ok(Poll::Ready(item)) => Poll::Ready(match sink.asked_to_stop() {
                // Its work is done: let it be stored before the worker goes.
                Some(Stop::Shutdown) | None => Step::Item(item),
                // What the body did before it came here asked for that, or its time was up.
                Some(stop) => Step::Stop(stop),
            }),
            Ok(Poll::Pending) => {
                // Until there is a process for it, nothing tells that an attempt has started.
                if body.run().has_begun() {
                    sink.write();
                }
                Poll::Pending
            }
            Err(failure) => Poll::Ready(Step::Panic(failure)),
        }
    });
    let step = step.await;
    sink.makes(false);
    step
}

/// What a yield is to the log; `None` if that can't be told any more.
async fn verdict(hash: u64, replay: &mut Replay, sink: &Sink, place: &Place) -> Option<Verdict> {
    if !replay.is_on() {
        return Some(Verdict::New);
    }
    if !replay.is_loaded() {
        place.enter().await;
        replay.load(sink).await;
        place.leave().await;
    }
    replay.is_loaded().then(|| replay.compare(hash))
}

/// Puts the item just yielded through its handler, where there is one.
pub(super) async fn handle<R: Run + ?Sized>(
    body: &mut Body<R>,
    sink: &Sink,
    out: &mut Vec<u8>,
    place: &Place,
) -> Result<Option<u64>, Step> {
    let waits = body.run().handler_waits();
    if waits {
        place.enter().await;
    }
    sink.makes(true);
    let handled = poll_fn(|cx| {
        sink.register(cx.waker());
        if let Some(stop) = sink.asked_to_stop() {
            return Poll::Ready(Err(Step::Stop(stop)));
        }
        match caught(|| body.run().poll_handle(cx, out)) {
            Ok(Poll::Ready(handled)) => Poll::Ready(handled.map_err(|failure| Step::Panic(failure.at(sink.yields())))),
            Ok(Poll::Pending) => {
                sink.write();
                Poll::Pending
            }
            Err(failure) => Poll::Ready(Err(Step::Panic(failure))),
        }
    })
    .await;
    sink.makes(false);
    if waits {
        place.leave().await;
    }
    handled
}

/// A value that can't be written, or is too large for a process to send, is at an index; an error of the body is at none.
pub(super) fn at_value(mut failure: TaskFailure, sink: &Sink) -> TaskFailure {
    match failure.kind {
        FailureKind::Codec => failure.at(sink.yields()),
        FailureKind::Limit if failure.index.take().is_some() => failure.at(sink.yields()),
        _ => failure,
    }
}

/// Lets others run after a while. Gives how long it has been.
async fn next_turn(turn: u32, place: &Place) -> u32 {
    if turn < TURN || place.sync {
        return turn.saturating_add(1);
    }
    // Not a wake-up of its own, for which another thread of the runtime would be woken to take it over.
    tokio::task::yield_now().await;
    0
}
