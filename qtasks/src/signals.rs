//! Signals: what happens to a task, told to those who asked.
//!
//! Invariant: a receiver changes nothing. One that fails or panics is logged, and the task goes on; and where nobody
//! asked, nothing is made, parsed or waited for.
//!
//! In order: `before_job`, once per attempt; for each new value `before_loop(i)`, then the handler, then the value is
//! stored and can be seen, then `after_loop(i)`; at the end one of `on_success`, `on_failure`, `on_cancel`, or
//! `on_retry` if another attempt follows. The end is told after it is stored. A value that an earlier attempt stored
//! is told by none of them again.

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::app::{Qtasks, current};
use crate::builtin;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::panics::{Contained, caught};
use crate::registry::Registry;
use crate::task::{TaskFailure, TaskId, TaskRecord, TaskSpec};

/// The task that a signal is about. Cheap to clone.
#[derive(Clone)]
pub struct SignalTask(Arc<Inner>);

struct Inner {
    id: TaskId,
    name: String,
    args: Json,
    attempt: u32,
    spec: Arc<TaskSpec>,
    scope: current::Scope,
}

impl SignalTask {
    pub(crate) fn new(record: &TaskRecord, spec: &Arc<TaskSpec>, scope: &current::Scope) -> Self {
        SignalTask(Arc::new(Inner {
            id: record.id,
            name: record.name.clone(),
            args: record.args.clone(),
            attempt: record.attempt,
            spec: Arc::clone(spec),
            scope: scope.clone(),
        }))
    }

    /// Names the task for ever.
    pub fn id(&self) -> TaskId {
        self.0.id
    }

    /// The name of its task function in this app.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What is known of its task function.
    pub fn spec(&self) -> &TaskSpec {
        &self.0.spec
    }

    /// Its arguments.
    pub fn args(&self) -> &Json {
        &self.0.args
    }

    /// The attempt that the signal is about, counted from 1; 0 if none had begun.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// The app whose worker runs it, which sends the signal.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) once the app is gone.
    pub fn app(&self) -> Result<Qtasks> {
        self.0.scope.app().ok_or_else(|| Error::new(ErrorKind::Unavailable, "the app that sent the signal is gone"))
    }
}

impl fmt::Debug for SignalTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalTask")
            .field("id", &self.0.id)
            .field("name", &self.0.name)
            .field("attempt", &self.0.attempt)
            .finish_non_exhaustive()
    }
}

/// A value as it is stored: the handler's output. It is parsed only when somebody asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Output(Json);

impl Output {
    /// Reads it as a `T`.
    ///
    /// # Errors
    /// [`Codec`](ErrorKind::Codec) if it is none.
    pub fn get<T: DeserializeOwned>(&self) -> Result<T> {
        let wrong = |e| Error::new(ErrorKind::Codec, format!("the value is not one of the type asked for: {e}"));
        self.0.get().map_err(wrong)
    }

    /// It as JSON text.
    pub fn json(&self) -> &Json {
        &self.0
    }
}

/// An attempt begins.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BeforeJob {
    /// Of which task.
    pub task: SignalTask,
}

/// The body has a value for the handler.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BeforeLoop {
    /// Of which task.
    pub task: SignalTask,
    /// The index of the value, counted from 0.
    pub iteration: u64,
}

/// A value is stored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AfterLoop {
    /// Of which task.
    pub task: SignalTask,
    /// The index of the value, counted from 0.
    pub iteration: u64,
    /// The handler's output.
    pub output: Output,
}

/// A task is completed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OnSuccess {
    /// Which task.
    pub task: SignalTask,
}

/// A task has failed, and is not tried again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OnFailure {
    /// Which task.
    pub task: SignalTask,
    /// How it failed.
    pub error: TaskFailure,
}

/// An attempt has failed, and another follows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OnRetry {
    /// Of which task.
    pub task: SignalTask,
    /// How the attempt failed.
    pub error: TaskFailure,
    /// When the next one is due.
    pub at: SystemTime,
}

/// A task is cancelled.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OnCancel {
    /// Which task.
    pub task: SignalTask,
    /// Why.
    pub reason: String,
}

/// What a receiver answers, when it does: nothing, or an error to be logged.
pub trait Heard {
    #[doc(hidden)]
    fn heard(self) -> Result<(), String>;
}

impl Heard for () {
    fn heard(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: Display> Heard for Result<(), E> {
    fn heard(self) -> Result<(), String> {
        self.map_err(|e| e.to_string())
    }
}

/// What a receiver makes: its answer, or a future of it. `M` tells the two apart.
pub trait ReceiverOutput<M> {
    #[doc(hidden)]
    fn hear(self) -> BoxFuture<'static, Result<(), String>>;
}

/// Of receivers that answer at once.
#[derive(Debug)]
pub struct Now;
/// Of async receivers.
#[derive(Debug)]
pub struct Later;

impl<T: Heard> ReceiverOutput<Now> for T {
    fn hear(self) -> BoxFuture<'static, Result<(), String>> {
        std::future::ready(self.heard()).boxed()
    }
}

impl<F: Future<Output: Heard> + Send + 'static> ReceiverOutput<Later> for F {
    fn hear(self) -> BoxFuture<'static, Result<(), String>> {
        self.map(Heard::heard).boxed()
    }
}

/// Somebody who asked for signals of type `S`.
pub(crate) type Receiver<S> = Arc<dyn Fn(S) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

pub(crate) fn receiver<S, O: ReceiverOutput<M>, M>(f: impl Fn(S) -> O + Send + Sync + 'static) -> Receiver<S> {
    Arc::new(move |signal| f(signal).hear())
}

macro_rules! receivers {
    ($($name:ident: $signal:ident,)*) => {
        /// Those who asked for something, by what they asked for.
        #[derive(Default, Clone)]
        pub(crate) struct Receivers {
            $(pub(crate) $name: Vec<Receiver<$signal>>,)*
        }

        impl Receivers {
            fn is_empty(&self) -> bool {
                $(self.$name.is_empty())&&*
            }

            /// Adds those of a function, after its own.
            fn extend(&mut self, more: &Receivers) {
                $(self.$name.extend(more.$name.iter().cloned());)*
            }

            /// Adds one that was declared in the program.
            fn declare(&mut self, declared: &Declared) {
                match *declared {
                    $(Declared::$signal(f) => self.$name.push(Arc::new(f)),)*
                }
            }
        }

        /// A receiver that is a function of the program, as the macros declare it.
        #[doc(hidden)]
        #[derive(Clone, Copy)]
        pub enum Declared {
            $($signal(fn($signal) -> BoxFuture<'static, Result<(), String>>),)*
        }
    };
}

receivers! {
    before_job: BeforeJob,
    before_loop: BeforeLoop,
    after_loop: AfterLoop,
    on_success: OnSuccess,
    on_failure: OnFailure,
    on_retry: OnRetry,
    on_cancel: OnCancel,
}

impl fmt::Debug for Receivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receivers")
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Declared")
    }
}

/// A receiver that stands somewhere in the program: see `#[receiver]`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Registered {
    /// Of one task function, or of all.
    pub spec: Option<fn() -> &'static TaskSpec>,
    pub declared: Declared,
}

inventory::collect!(Registered);

impl Receivers {
    /// Whether the loop has to stop at every value.
    pub(crate) fn in_loop(&self) -> bool {
        !self.before_loop.is_empty() || !self.after_loop.is_empty()
    }
}

/// The receivers of an app, by the names of task functions; none for those that nobody asked about.
pub(crate) fn of(registry: &Registry, all: &Receivers) -> HashMap<String, Arc<Receivers>> {
    let mut by_name = HashMap::new();
    for (name, spec, origin) in registry.origins() {
        let mut receivers = Receivers::default();
        for declared in spec.receivers {
            receivers.declare(declared);
        }
        for registered in inventory::iter::<Registered> {
            if registered.spec.is_none_or(|of| origin.is_some_and(|origin| std::ptr::eq(of(), origin))) {
                receivers.declare(&registered.declared);
            }
        }
        receivers.extend(all);
        if !receivers.is_empty() {
            by_name.insert(name.to_owned(), Arc::new(receivers));
        }
    }
    // Of what qtasks itself runs they hear when it begins and how it ends.
    let wholes = Receivers { before_loop: Vec::new(), after_loop: Vec::new(), ..all.clone() };
    let registered = inventory::iter::<Registered>.into_iter().filter(|r| r.spec.is_none());
    let mut built_in = Receivers::default();
    registered.for_each(|r| built_in.declare(&r.declared));
    (built_in.before_loop, built_in.after_loop) = (Vec::new(), Vec::new());
    built_in.extend(&wholes);
    if !built_in.is_empty() {
        let built_in = Arc::new(built_in);
        by_name.extend(builtin::NAMES.map(|name| (name.to_owned(), Arc::clone(&built_in))));
    }
    by_name
}

/// Tells each of them, one after the other.
pub(crate) async fn tell<S: Clone>(receivers: &[Receiver<S>], task: &SignalTask, signal: impl Fn() -> S) {
    for receiver in receivers {
        let heard = match caught(|| receiver(signal())) {
            Ok(hearing) => Contained::new("a receiver", hearing).await,
            Err(failure) => Err(failure),
        };
        let signal = std::any::type_name::<S>();
        match heard {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(id = %task.id(), signal, error, "a receiver failed"),
            Err(failure) => tracing::warn!(id = %task.id(), signal, %failure, "a receiver panicked"),
        }
    }
}

/// How an attempt ended, by its own account.
pub(crate) enum Ending {
    Completed,
    Failed(TaskFailure),
    /// Another follows after so long.
    Retried(TaskFailure, Duration),
    Cancelled(String),
}

/// Those who asked about a task that is run.
pub(crate) struct Told {
    pub(crate) receivers: Arc<Receivers>,
    pub(crate) task: SignalTask,
}

impl Told {
    pub(crate) async fn before_job(&self) {
        let task = &self.task;
        tell(&self.receivers.before_job, task, || BeforeJob { task: task.clone() }).await;
    }

    pub(crate) async fn before_loop(&self, iteration: u64) {
        let task = &self.task;
        tell(&self.receivers.before_loop, task, || BeforeLoop { task: task.clone(), iteration }).await;
    }

    /// `value` is JSON that is stored.
    pub(crate) async fn after_loop(&self, iteration: u64, value: &[u8]) {
        if self.receivers.after_loop.is_empty() {
            return;
        }
        let (task, output) = (&self.task, Output(Json::trusted(Bytes::copy_from_slice(value))));
        let signal = || AfterLoop { task: task.clone(), iteration, output: output.clone() };
        tell(&self.receivers.after_loop, task, signal).await;
    }

    /// The end is stored; `cancel`: it became a cancel there.
    pub(crate) async fn end(&self, ending: Ending, cancel: Option<String>) {
        let task = &self.task;
        let ending = cancel.map_or(ending, Ending::Cancelled);
        match ending {
            Ending::Completed => tell(&self.receivers.on_success, task, || OnSuccess { task: task.clone() }).await,
            Ending::Failed(error) => {
                let signal = || OnFailure { task: task.clone(), error: error.clone() };
                tell(&self.receivers.on_failure, task, signal).await;
            }
            Ending::Retried(error, wait) => {
                let at = SystemTime::now() + wait;
                let signal = || OnRetry { task: task.clone(), error: error.clone(), at };
                tell(&self.receivers.on_retry, task, signal).await;
            }
            Ending::Cancelled(reason) => {
                let signal = || OnCancel { task: task.clone(), reason: reason.clone() };
                tell(&self.receivers.on_cancel, task, signal).await;
            }
        }
    }
}

/// What a declared receiver made, for generated code.
#[doc(hidden)]
pub fn hear<O: ReceiverOutput<M>, M>(output: O) -> BoxFuture<'static, Result<(), String>> {
    output.hear()
}

/// Calls a declared receiver that takes the value as well, for generated code.
#[doc(hidden)]
pub fn hear_value<T: DeserializeOwned, O: ReceiverOutput<M>, M>(
    signal: AfterLoop,
    f: impl FnOnce(AfterLoop, T) -> O,
) -> BoxFuture<'static, Result<(), String>> {
    match signal.output.get() {
        Ok(value) => f(signal, value).hear(),
        Err(error) => std::future::ready(Err(error.to_string())).boxed(),
    }
}
