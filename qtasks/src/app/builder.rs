//! [`Builder`]: everything about an app that can be set.

use std::any::TypeId;
use std::sync::Arc;
use std::time::Duration;

use super::{Config, Qtasks};
use crate::context::States;
use crate::error::{Error, Result};
use crate::executor::TaskExecutor;
use crate::middleware::Middleware;
use crate::rate::Rate;
use crate::registry::Choice;
use crate::signals::{
    AfterLoop, BeforeJob, BeforeLoop, OnCancel, OnFailure, OnRetry, OnSuccess, ReceiverOutput, Receivers, receiver,
};
use crate::store::Store;
use crate::task::{TaskFn, TaskSpec, check_name};
use crate::trace::Propagator;
use crate::worker::Around;

/// Sets up an app with a worker. Every setting has a default.
#[must_use = "an app is made by `.start().await`"]
#[derive(Default)]
pub struct Builder {
    pub(crate) url: Option<String>,
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(super) states: States,
    pub(super) choice: Choice,
    pub(super) config: Config,
    pub(super) install: bool,
    pub(super) receivers: Receivers,
    pub(super) around: Around,
    pub(super) propagator: Option<Arc<dyn Propagator>>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("url", &self.url).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Builder {
    /// The URL of the store: `memory:` for one of its own, `memory:NAME` for one that apps of this process share.
    /// Defaults to the environment variable `QTASKS_URL`.
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// A store that is open already, instead of a URL.
    pub fn with_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// How many tasks the worker runs at once. Defaults to 32.
    pub fn concurrency(mut self, tasks: usize) -> Self {
        self.config.concurrency = tasks;
        self
    }

    /// The queues that the worker serves. Defaults to those that task functions name, `default`, and every queue that
    /// this app adds a task to.
    pub fn queues<Q: Into<String>>(mut self, queues: impl IntoIterator<Item = Q>) -> Self {
        self.config.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// At most so many tasks of a queue run at once, whichever workers run them. Every worker that serves the queue is
    /// to be told the same. Defaults to any number.
    pub fn queue_concurrency(mut self, queue: impl Into<String>, tasks: u32) -> Self {
        self.config.queue_limits.entry(queue.into()).or_default().0 = Some(tasks);
        self
    }

    /// At most so many attempts at tasks of a queue start in so long, whichever workers run them. Every worker that
    /// serves the queue is to be told the same. Defaults to any number.
    pub fn queue_rate(mut self, queue: impl Into<String>, rate: Rate) -> Self {
        self.config.queue_limits.entry(queue.into()).or_default().1 = Some(rate);
        self
    }

    /// A value for all task functions that take a `State` of its type.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// Values for `State`s, by their types.
    #[cfg(feature = "test")]
    pub(crate) fn states(&mut self, states: States) {
        self.states.extend(states);
    }

    /// The only task functions of this app. Defaults to all that are linked into the program.
    pub fn tasks(mut self, specs: impl IntoIterator<Item = &'static TaskSpec>) -> Self {
        self.choice.only = Some(specs.into_iter().collect());
        self
    }

    /// One more task function, for platforms on which those that are linked are not found.
    pub fn register<F: TaskFn>(mut self) -> Self {
        self.choice.more.push(F::spec());
        self
    }

    /// Sets something about a task function in this app only: `.spec::<report>(|s| s.priority(1).executor(Sum))`.
    pub fn spec<F: TaskFn>(mut self, change: impl FnOnce(TaskSpec) -> TaskSpec + Send + 'static) -> Self {
        self.choice.changes.push((F::spec(), Box::new(change)));
        self
    }

    /// One more task, that is made when the program runs: see [`TaskSpec::dynamic`].
    pub fn register_spec(mut self, spec: TaskSpec) -> Self {
        self.choice.made.push(spec);
        self
    }

    /// The executor of all bodies whose task function has none of its own: see [`TaskExecutor`].
    pub fn executor(mut self, executor: impl TaskExecutor) -> Self {
        self.around.executor = Some(Arc::new(executor));
        self
    }

    /// One more middleware around all attempts, inside of those before it: see [`Middleware`], and
    /// [`Tower`](crate::Tower) for a layer of tower. What qtasks itself runs has none.
    pub fn layer(mut self, middleware: impl Middleware) -> Self {
        self.around.layers.push(Arc::new(middleware));
        self
    }

    /// What knows the trace that the program is in: of tasks added without one, and of the spans of attempts. Defaults
    /// to none: tasks have the trace that they are [given](crate::AddTask::traceparent), or that of the task whose body
    /// adds them.
    pub fn trace(mut self, propagator: impl Propagator) -> Self {
        self.propagator = Some(Arc::new(propagator));
        self
    }

    /// Gives the task function at a module path (`my_crate::mails::send`) another name in this app.
    pub fn rename(mut self, path: impl Into<String>, name: impl Into<String>) -> Self {
        self.choice.renames.push((path.into(), name.into()));
        self
    }

    /// The name of the worker. Defaults to one of its own: host name, process and a number.
    pub fn worker_name(mut self, name: impl Into<String>) -> Self {
        self.config.worker = name.into();
        self
    }

    /// How long a task stays with a worker that says nothing more. Defaults to 10 s; heartbeats come every 0.3 of it.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.config.times.lease = lease;
        self.config.times.heartbeat = lease.saturating_mul(3) / 10;
        self
    }

    /// How often the store is searched for what time has changed. Defaults to 2 s.
    pub fn scan(mut self, scan: Duration) -> Self {
        self.config.times.scan = scan;
        self
    }

    /// How long `shutdown()` waits for running tasks before it gives them back. Defaults to 25 s.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.config.grace = grace;
        self
    }

    /// How many lost attempts in a row, without a new value, are followed by another. Defaults to 3.
    pub fn crashes(mut self, crashes: u32) -> Self {
        self.config.times.crashes_max = crashes;
        self
    }

    /// The most bytes of arguments that one task may have. Defaults to 1 MiB.
    pub fn args_bytes_max(mut self, bytes: usize) -> Self {
        self.config.args_bytes_max = bytes;
        self
    }

    /// The most bytes that one value may have. Defaults to 256 KiB.
    pub fn value_bytes_max(mut self, bytes: usize) -> Self {
        self.config.value_bytes_max = bytes;
        self
    }

    /// The most values of a task that does not set its own. Defaults to 100,000.
    pub fn yields_max(mut self, values: u64) -> Self {
        self.config.yields_max = values;
        self
    }

    /// The most bytes of the log of a task that does not set its own. Defaults to 64 MiB.
    pub fn log_bytes_max(mut self, bytes: u64) -> Self {
        self.config.log_bytes_max = bytes;
        self
    }

    /// How long ended tasks are kept: their logs, arguments and values for so long after the end, their rows as long
    /// again. Defaults to 7 days, in memory to 1 h.
    pub fn retention(mut self, age: Duration) -> Self {
        self.config.retention = Some(age);
        self
    }

    /// How many ended tasks, and how many bytes of their logs, are kept at most, whatever their age. Defaults to any
    /// number, in memory to 10,000 tasks and 256 MiB.
    pub fn retention_max(mut self, tasks: Option<u64>, bytes: Option<u64>) -> Self {
        self.config.retention_max = Some((tasks, bytes));
        self
    }

    /// Has a function called before each attempt of every task that the worker runs: see [`signals`](crate::signals).
    pub fn before_job<O, M>(mut self, f: impl Fn(BeforeJob) -> O + Send + Sync + 'static) -> Self
    where
        O: ReceiverOutput<M>,
    {
        self.receivers.before_job.push(receiver(f));
        self
    }

    /// Has a function called before each new value goes to its handler. A task whose loop is listened to yields its
    /// next value when this one is stored and told.
    pub fn before_loop<O, M>(mut self, f: impl Fn(BeforeLoop) -> O + Send + Sync + 'static) -> Self
    where
        O: ReceiverOutput<M>,
    {
        self.receivers.before_loop.push(receiver(f));
        self
    }

    /// Has a function called after each new value is stored. A task whose loop is listened to yields its next value
    /// when this one is stored and told.
    pub fn after_loop<O, M>(mut self, f: impl Fn(AfterLoop) -> O + Send + Sync + 'static) -> Self
    where
        O: ReceiverOutput<M>,
    {
        self.receivers.after_loop.push(receiver(f));
        self
    }

    /// Has a function called for each task that is completed.
    pub fn on_success<O, M>(mut self, f: impl Fn(OnSuccess) -> O + Send + Sync + 'static) -> Self
    where
        O: ReceiverOutput<M>,
    {
        self.receivers.on_success.push(receiver(f));
        self
    }

    /// Has a function called for each task that fails and is not tried again.
    pub fn on_failure<O, M>(mut self, f: impl Fn(OnFailure) -> O + Send + Sync + 'static) -> Self
    where
        O: ReceiverOutput<M>,
    {
        self.receivers.on_failure.push(receiver(f));
        self
    }

    /// Has a function called for each attempt that fails and is followed by another.
    pub fn on_retry<O, M>(mut self, f: impl Fn(OnRetry) -> O + Send + Sync + 'static) -> Self
    where
        O: ReceiverOutput<M>,
    {
        self.receivers.on_retry.push(receiver(f));
        self
    }

    /// Has a function called for each task that is cancelled.
    pub fn on_cancel<O, M>(mut self, f: impl Fn(OnCancel) -> O + Send + Sync + 'static) -> Self
    where
        O: ReceiverOutput<M>,
    {
        self.receivers.on_cancel.push(receiver(f));
        self
    }

    /// Makes the app the default one, as [`init`](crate::init) does.
    pub fn install(mut self) -> Self {
        self.install = true;
        self
    }

    /// Opens the store and starts a worker in this process, on the runtime that this is awaited on.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a setting that can't be, a URL of no store, or a state that no
    /// `.state` gave; [`Conflict`](crate::ErrorKind::Conflict) for task functions that share a name, or with
    /// [`install`](Self::install) while another app is installed;
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if the store can't be opened.
    pub async fn start(self) -> Result<Qtasks> {
        Qtasks::start(self, true).await
    }

    /// Opens the store without a worker: tasks can be added and watched, and wait for one elsewhere.
    ///
    /// # Errors
    /// As [`start`](Self::start), save what is about a worker.
    pub async fn open(self) -> Result<Qtasks> {
        Qtasks::start(self, false).await
    }

    /// Whether it has task functions.
    #[cfg(feature = "cli")]
    pub(crate) fn has_tasks(&self) -> bool {
        !self.choice.is_empty()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.config.concurrency == 0 {
            return Err(Error::invalid(
                "`.concurrency(0)` would run nothing: use `.open()` for an app without a worker",
            ));
        }
        if self.config.times.lease < Duration::from_millis(100) {
            let lease = self.config.times.lease;
            return Err(Error::invalid(format!("`.lease({lease:?})` is too short: it takes at least 100 ms")));
        }
        if self.config.times.scan.is_zero() {
            return Err(Error::invalid("`.scan(0)` would never rest: it takes more than 0"));
        }
        for (queue, (tasks, _)) in &self.config.queue_limits {
            check_name("name of the queue", queue)?;
            if *tasks == Some(0) {
                let message =
                    format!("`.queue_concurrency({queue:?}, 0)` would run nothing: use `app.pause({queue:?})`");
                return Err(Error::invalid(message));
            }
        }
        self.config.queues.iter().flatten().try_for_each(|queue| check_name("name of the queue", queue))
    }
}
