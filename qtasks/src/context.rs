//! What a task function can take besides its arguments: [`Context`], [`State`], [`Resume`].
//!
//! Invariant: nothing here writes to a store. What a body asks for goes to the attempt that runs it.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::event::check_event_name;
use crate::json::Json;
use crate::stream_task::Slot;
use crate::task::{FailureKind, TaskFailure, TaskId};
use crate::trace::TraceContext;

/// The most bytes that a checkpoint may take.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;

/// What a body asks of the attempt that runs it.
pub(crate) trait Attempt: Send + Sync {
    fn send_event(&self, name: &str, data: Json) -> Result<()>;
    fn checkpoint(&self, data: Json) -> Result<()>;
    /// Takes a task away together with the next yield.
    fn removes(&self, id: TaskId);
    /// Done when all that was yielded and sent so far is stored.
    fn flushed(&self) -> BoxFuture<'static, Result<()>>;
    fn cancel(&self, reason: String);
    fn is_cancelled(&self) -> bool;
    /// Done when the attempt is to stop.
    fn stopped(&self) -> BoxFuture<'static, ()>;
    /// Fails the task, whatever its body does.
    fn fail(&self, failure: TaskFailure);
    /// The host has no thread or process for the attempt: it is given back, whatever its body does.
    fn starved(&self, why: String) {
        self.fail(TaskFailure::new(FailureKind::Error, why));
    }
    fn runtime(&self) -> tokio::runtime::Handle;
}

/// Values given by `.state(value)`, by their type.
pub(crate) type States = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// What a running task can know and do besides yielding: a parameter `ctx: Context` or `ctx: &Context`.
///
/// Cheap to clone, and may be sent elsewhere; once the attempt is over, what it is asked for is refused.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    id: TaskId,
    name: String,
    attempt: u32,
    states: Arc<States>,
    resume: ResumePoint,
    /// `None` where the function is called directly.
    run: Option<Arc<dyn Attempt>>,
    /// Of a `StreamTask`, through which it yields.
    slot: Option<Arc<Slot>>,
    trace: Option<TraceContext>,
}

/// What the attempts before this one left.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ResumePoint {
    pub(crate) count: u64,
    pub(crate) last: Option<Json>,
    pub(crate) checkpoint: Option<Json>,
}

impl Context {
    pub(crate) fn new(
        id: TaskId,
        name: String,
        attempt: u32,
        states: Arc<States>,
        resume: ResumePoint,
        run: Arc<dyn Attempt>,
        trace: Option<TraceContext>,
    ) -> Self {
        Context(Arc::new(Inner { id, name, attempt, states, resume, run: Some(run), slot: None, trace }))
    }

    /// The same for a body that yields through it.
    pub(crate) fn with_slot(&self, slot: Arc<Slot>) -> Self {
        let Inner { id, name, attempt, states, resume, run, trace, .. } = &*self.0;
        Context(Arc::new(Inner {
            id: *id,
            name: name.clone(),
            attempt: *attempt,
            states: Arc::clone(states),
            resume: resume.clone(),
            run: run.clone(),
            slot: Some(slot),
            trace: trace.clone(),
        }))
    }

    pub(crate) fn slot(&self) -> Option<&Arc<Slot>> {
        self.0.slot.as_ref()
    }

    /// Whether the function is called directly.
    pub(crate) fn is_detached(&self) -> bool {
        self.0.run.is_none()
    }

    /// Fails the task: the body is dropped where it awaits this.
    pub(crate) async fn fail(&self, failure: TaskFailure) {
        match &self.0.run {
            Some(run) => run.fail(failure),
            None => tracing::error!(%failure, "a task would fail here"),
        }
        if !self.is_detached() {
            std::future::pending::<()>().await;
        }
    }

    /// Gives the attempt back, for the host has no thread for it: the body is dropped where it awaits this.
    pub(crate) async fn starved(&self, why: String) {
        match &self.0.run {
            Some(run) => run.starved(why),
            None => tracing::error!(why, "a task would be given back here"),
        }
        if !self.is_detached() {
            std::future::pending::<()>().await;
        }
    }

    /// A context for calling a task function directly, without a queue: events and checkpoints go nowhere.
    pub fn detached() -> Self {
        Context(Arc::new(Inner {
            id: TaskId::new(),
            name: "detached".to_owned(),
            attempt: 1,
            states: Arc::default(),
            resume: ResumePoint::default(),
            run: None,
            slot: None,
            trace: None,
        }))
    }

    /// The attempt that it speaks to.
    pub(crate) fn run(&self) -> Option<&Arc<dyn Attempt>> {
        self.0.run.as_ref()
    }

    /// What the attempts before this one left.
    pub(crate) fn resume(&self) -> &ResumePoint {
        &self.0.resume
    }

    /// The id of the task.
    pub fn id(&self) -> TaskId {
        self.0.id
    }

    /// The name of the task.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Which attempt this is, counted from 1.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The trace that the task was added in, if any: the same in each attempt. Tasks that the body adds are of it, too,
    /// unless they are given another.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.trace.as_ref()
    }

    /// The `traceparent` header for calls that the body makes.
    pub fn traceparent(&self) -> Option<&str> {
        self.trace().map(TraceContext::traceparent)
    }

    /// Adds an event of one's own to the log, between the yields before and after it. It is stored with them, and
    /// seen by those who read events; values and `returning` don't have it.
    ///
    /// As with a yield, what can't be stored fails the task: a name that is none or data that is no JSON with kind
    /// `codec`, too much of it with kind `limit`. After the attempt nothing is added.
    ///
    /// Names that mean something else to those who watch are refused, with kind `codec`: `error`, `message` and `open`,
    /// by which browsers call what happens to a connection, and those of the queue's own events (`started`, `yield`,
    /// `log`, `rewind`, `reset`, `retry`, `completed`, `failed`, `cancelled`). `start`, `progress` and `complete` are free.
    pub fn send_event(&self, name: &str, data: impl Serialize) {
        let named = check_event_name(name).map_err(|e| codec(e.to_string()));
        let data = Json::of(&data).map_err(|e| codec(format!("the data of the event `{name}`: {e}")));
        self.ask(named.and(data), |run, data| run.send_event(name, data));
    }

    /// Keeps `value` for the attempt after this one, which finds it in `from.checkpoint()`. It is stored together
    /// with the next yield, or not at all.
    ///
    /// A value that is no JSON fails the task with kind `codec`, one of more than [`CHECKPOINT_BYTES_MAX`] with kind
    /// `limit`. After the attempt nothing is kept.
    pub fn checkpoint<T: Serialize + ?Sized>(&self, value: &T) {
        let data = Json::of(value).map_err(|e| codec(format!("the checkpoint: {e}")));
        let data = data.and_then(|data| match data.as_bytes().len() {
            0..=CHECKPOINT_BYTES_MAX => Ok(data),
            bytes => {
                let message = format!("the checkpoint has {bytes} bytes, of at most {CHECKPOINT_BYTES_MAX}");
                Err(Error::new(ErrorKind::Limit, message))
            }
        });
        self.ask(data, |run, data| run.checkpoint(data));
    }

    /// Takes a task away in the step in which the next yield is stored.
    pub(crate) fn removes(&self, id: TaskId) {
        if let Some(run) = &self.0.run {
            run.removes(id);
        }
    }

    /// Asks the attempt for something; what is wrong with it fails the task.
    fn ask(&self, data: Result<Json>, ask: impl FnOnce(&dyn Attempt, Json) -> Result<()>) {
        let asked = match (&self.0.run, data) {
            (Some(run), Ok(data)) => ask(&**run, data),
            (None, data) => data.map(drop),
            (_, Err(error)) => Err(error),
        };
        let Err(error) = asked else { return };
        let kind = match error.kind() {
            ErrorKind::Codec => FailureKind::Codec,
            ErrorKind::Limit => FailureKind::Limit,
            // The attempt is over: whoever asks does so for nobody.
            _ => return,
        };
        match &self.0.run {
            Some(run) => run.fail(TaskFailure::new(kind, error.to_string())),
            None => tracing::error!(%error, "a task would fail here"),
        }
    }

    /// Waits until all that was yielded and sent so far is stored.
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced) if the task is no longer this attempt's.
    pub async fn flush(&self) -> Result<()> {
        match &self.0.run {
            Some(run) => run.flushed().await,
            None => Ok(()),
        }
    }

    /// [`flush`](Self::flush) for a sync body.
    ///
    /// # Errors
    /// As `flush`.
    pub fn flush_blocking(&self) -> Result<()> {
        match &self.0.run {
            Some(run) => run.runtime().block_on(run.flushed()),
            None => Ok(()),
        }
    }

    /// Whether the task is to stop: it was cancelled, its time is up, or its worker shuts down. An async body is
    /// dropped at its next await and need not ask; a long sync one should.
    pub fn cancelled(&self) -> bool {
        self.0.run.as_ref().is_some_and(|run| run.is_cancelled())
    }

    /// Cancels the task from within: it ends `cancelled` with this reason, and the body is dropped at its next await
    /// or yield. Awaiting what this returns is such an await.
    pub fn cancel(&self, reason: impl Into<String>) -> Cancelling {
        let run = self.0.run.as_ref();
        if let Some(run) = run {
            run.cancel(reason.into());
        }
        Cancelling { over: run.is_none() }
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Blocks a sync body for `duration`, or until it is to stop.
    pub fn sleep_blocking(&self, duration: Duration) {
        match &self.0.run {
            Some(run) => run.runtime().block_on(async {
                tokio::select! {
                    () = tokio::time::sleep(duration) => {}
                    () = run.stopped() => {}
                }
            }),
            None => std::thread::sleep(duration),
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.0.id)
            .field("name", &self.0.name)
            .field("attempt", &self.0.attempt)
            .finish_non_exhaustive()
    }
}

fn codec(message: String) -> Error {
    Error::new(ErrorKind::Codec, message)
}

/// What [`Context::cancel`] returns: a place to wait for the end that it asked for.
#[derive(Debug)]
pub struct Cancelling {
    over: bool,
}

impl Future for Cancelling {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<()> {
        // Never woken: the body that waits here is dropped.
        if self.over { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// What the app gave by `.state(value)`, found by its type: a parameter `db: State<Db>`.
pub struct State<T>(Arc<T>);

impl<T> State<T> {
    /// For calling a task function directly.
    pub fn new(value: T) -> Self {
        State(Arc::new(value))
    }

    /// The shared value.
    pub fn into_inner(self) -> Arc<T> {
        self.0
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        State(Arc::clone(&self.0))
    }
}

impl<T> Deref for State<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("State").field(&self.0).finish()
    }
}

/// Where a generator goes on: a parameter `from: Resume<T>`, with `T` the type of the stored values.
///
/// A function that takes it is not replayed: its body begins after the last value that holds, whether that was an
/// attempt ago or never.
#[derive(Clone)]
pub struct Resume<T> {
    count: u64,
    last: Option<T>,
    checkpoint: Option<Json>,
    /// Where to report a checkpoint that can't be read.
    run: Option<Arc<dyn Attempt>>,
}

impl<T> Resume<T> {
    /// From the start, for calling a task function directly.
    pub fn start() -> Self {
        Resume { count: 0, last: None, checkpoint: None, run: None }
    }

    /// How many values hold: the index of the next one.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last value that holds.
    pub fn last(&self) -> Option<&T> {
        self.last.as_ref()
    }

    /// What [`Context::checkpoint`] kept with the last of the values that followed one.
    ///
    /// One that can't be read as a `C` fails the task with kind `codec` before it stores anything more, so that a
    /// changed type can't make a task start over unnoticed; `None` is what the body sees until then.
    pub fn checkpoint<C: DeserializeOwned>(&self) -> Option<C> {
        match self.checkpoint.as_ref()?.get() {
            Ok(value) => Some(value),
            Err(e) => {
                let message = format!("the checkpoint is no `{}`: {e}", type_name::<C>());
                if let Some(run) = &self.run {
                    run.fail(TaskFailure::new(FailureKind::Codec, message));
                }
                None
            }
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Resume<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("count", &self.count)
            .field("last", &self.last)
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}

/// A parameter that does not come from the caller. Implement it for types of your own and mark the parameter
/// `#[context]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from the task context",
    label = "not a context parameter",
    note = "context parameters are `Context`, `&Context`, `State<T>`, `Resume<T>` and types implementing `FromContext`"
)]
pub trait FromContext: Sized {
    /// Takes it from the context of the attempt that begins.
    ///
    /// # Errors
    /// Whatever fails the task.
    fn from_context(ctx: &Context) -> Result<Self, TaskFailure>;
}

impl FromContext for Context {
    fn from_context(ctx: &Context) -> Result<Self, TaskFailure> {
        Ok(ctx.clone())
    }
}

impl<T: Send + Sync + 'static> FromContext for State<T> {
    fn from_context(ctx: &Context) -> Result<Self, TaskFailure> {
        let found = ctx.0.states.get(&TypeId::of::<T>()).cloned().and_then(|s| s.downcast::<T>().ok());
        found.map(State).ok_or_else(|| {
            let message = format!("no state of type `{}`: give it by `.state(value)`", type_name::<T>());
            TaskFailure::new(FailureKind::Error, message)
        })
    }
}

impl<T: DeserializeOwned> FromContext for Resume<T> {
    fn from_context(ctx: &Context) -> Result<Self, TaskFailure> {
        let ResumePoint { count, last, checkpoint } = ctx.0.resume.clone();
        let last = last.map(|l| l.get()).transpose().map_err(|e| {
            let message = format!("the last value is no `{}`: {e}", type_name::<T>());
            TaskFailure::new(FailureKind::Codec, message)
        })?;
        Ok(Resume { count, last, checkpoint, run: ctx.0.run.clone() })
    }
}
