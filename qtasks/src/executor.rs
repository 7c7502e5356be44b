//! [`TaskExecutor`]: what is done with the values of a body, where storing each of them is not what is wanted.
//!
//! An executor pulls items of the body and emits values. Between the two it may filter, batch or fold; whatever it
//! emits is of the type that the task yields. On a second attempt what it emits is compared with the log unit by unit:
//! a unit is all the items that were pulled since the value before.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::context::Context;
use crate::json::Json;
use crate::task::{FailureKind, TaskFailure, TaskSpec};

/// How an execution ended: with what the task returns at its end, if that is anything.
pub type Executed = Result<Option<Json>, TaskFailure>;

/// Runs the bodies of tasks: of all of an app by [`Builder::executor`](crate::Builder::executor), of one by
/// `#[task(executor = MyExecutor)]` or [`TaskSpec::executor`]. That of a task counts, where there are both.
///
/// Override one method, and call the others: a method that nobody overrides does what is done without an executor.
/// The futures are polled on the app's runtime, or on the thread of a sync body within that runtime. On a second
/// attempt the body runs again from its start and so does the executor, with the handler: what it emits that is in the
/// log already is not stored again.
///
/// # Examples
/// The sum of what a generator yields, instead of each value:
/// ```
/// use qtasks::{BoxFuture, Executed, Execution, TaskExecutor};
///
/// #[derive(Debug)]
/// struct Sum;
///
/// impl TaskExecutor for Sum {
///     fn run_task_gen<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
///         Box::pin(async move {
///             let mut sum = 0;
///             while let Some(value) = run.next::<i64>().await? {
///                 sum += value;
///             }
///             run.emit(&sum).await?;
///             run.finish().await
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an executor",
    note = "an executor implements `TaskExecutor`, which takes no more than one of its three methods"
)]
pub trait TaskExecutor: fmt::Debug + Send + Sync + 'static {
    /// Runs one attempt: [`run_task_gen`](Self::run_task_gen) where the task yields, else
    /// [`run_task`](Self::run_task).
    fn execute<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        if run.spec().generating { self.run_task_gen(run) } else { self.run_task(run) }
    }

    /// Runs a plain task: what it returns is what the body returns.
    fn run_task<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        run.finish().boxed()
    }

    /// Runs a generator: each of its values is stored.
    fn run_task_gen<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        async move {
            while let Some(value) = run.next_json().await? {
                run.emit_json(value).await?;
            }
            run.finish().await
        }
        .boxed()
    }
}

/// One attempt in the hands of a [`TaskExecutor`].
#[derive(Debug)]
pub struct Execution {
    spec: Arc<TaskSpec>,
    context: Context,
    args: Json,
    exchange: Arc<Exchange>,
}

/// What an executor wants of the attempt.
#[derive(Debug)]
pub(crate) enum Ask {
    /// The next item of the body, after the handler.
    Next,
    /// To store a value.
    Emit(Json),
}

/// What it gets.
#[derive(Debug)]
pub(crate) enum Answer {
    Item(Json),
    /// The body is over, and returned this.
    Over(Executed),
    Emitted,
}

/// Where the two meet: each is polled by the same attempt, in turn.
#[derive(Debug, Default)]
pub(crate) struct Exchange(Mutex<(Option<Ask>, Option<Answer>)>);

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, (Option<Ask>, Option<Answer>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asked(&self) -> Option<Ask> {
        self.lock().0.take()
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.lock().1 = Some(answer);
    }

    /// Asks, and waits for the answer; whoever polls the executor looks for what it asked.
    async fn ask(&self, ask: Ask) -> Answer {
        *self.lock() = (Some(ask), None);
        poll_fn(|_| self.lock().1.take().map_or(Poll::Pending, Poll::Ready)).await
    }
}

impl Execution {
    pub(crate) fn new(spec: Arc<TaskSpec>, context: Context, args: Json, exchange: Arc<Exchange>) -> Self {
        Execution { spec, context, args, exchange }
    }

    /// What is registered of the task function.
    pub fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    /// What the body can know and do: the id of the task, its attempt, custom events.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The arguments, as they are stored.
    pub fn args(&self) -> &Json {
        &self.args
    }

    /// The next value of the body, after its handler; `None` once it is over.
    ///
    /// # Errors
    /// How the body or the handler failed; of kind `codec` if the value is no `T`.
    pub async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, TaskFailure> {
        let Some(value) = self.next_json().await? else { return Ok(None) };
        let wrong = |e| TaskFailure::new(FailureKind::Codec, format!("the executor takes another type: {e}"));
        value.get().map(Some).map_err(wrong)
    }

    /// The next value of the body as JSON, after its handler; `None` once it is over.
    ///
    /// # Errors
    /// How the body or the handler failed.
    pub async fn next_json(&mut self) -> Result<Option<Json>, TaskFailure> {
        match self.exchange.ask(Ask::Next).await {
            Answer::Item(value) => Ok(Some(value)),
            Answer::Over(Err(failure)) => Err(failure),
            Answer::Over(Ok(_)) | Answer::Emitted => Ok(None),
        }
    }

    /// Yields a value, which must be of the type that the task yields.
    ///
    /// # Errors
    /// Of kind `codec` or `limit`, as for any yield; of kind `error` for a plain task, which yields nothing.
    pub async fn emit<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), TaskFailure> {
        let wrong = |e| TaskFailure::new(FailureKind::Codec, format!("the value could not be written: {e}"));
        self.emit_json(Json::of(value).map_err(wrong)?).await
    }

    /// Yields a value that is JSON already.
    ///
    /// # Errors
    /// As of [`emit`](Self::emit).
    pub async fn emit_json(&mut self, value: Json) -> Result<(), TaskFailure> {
        if !self.spec.generating {
            let message = format!("the executor of `{}` emits a value, but the task yields nothing", self.spec.name);
            return Err(TaskFailure::new(FailureKind::Error, message));
        }
        match self.exchange.ask(Ask::Emit(value)).await {
            Answer::Over(Err(failure)) => Err(failure),
            _ => Ok(()),
        }
    }

    /// Runs the body to its end, without what else it yields. What it returns is what most executors return as well.
    ///
    /// # Errors
    /// How the body or the handler failed.
    pub async fn finish(&mut self) -> Executed {
        loop {
            if let Answer::Over(executed) = self.exchange.ask(Ask::Next).await {
                return executed;
            }
        }
    }
}

/// The executor that an attribute names.
#[derive(Clone, Copy)]
pub struct ExecutorSpec {
    name: &'static str,
    make: fn() -> Arc<dyn TaskExecutor>,
}

impl ExecutorSpec {
    #[doc(hidden)]
    pub const fn new(name: &'static str, make: fn() -> Arc<dyn TaskExecutor>) -> Self {
        ExecutorSpec { name, make }
    }

    /// As it is written.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn make(&self) -> Arc<dyn TaskExecutor> {
        (self.make)()
    }
}

impl fmt::Debug for ExecutorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for ExecutorSpec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}
