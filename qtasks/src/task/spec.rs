//! [`TaskSpec`]: what is registered of a task function.

use std::any::TypeId;
use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::context::Context;
use crate::erased::{self, BoxRun, LocalBoxRun};
use crate::executor::{ExecutorSpec, TaskExecutor};
use crate::json::Json;
use crate::middleware::{Middleware, MiddlewareSpec};
use crate::rate::Rate;
use crate::retry::RetryPolicy;
#[cfg(feature = "schema")]
use crate::schema::Schemas;
use crate::schema::Types;
use crate::signals::Declared;
use crate::task::{CheckArg, TaskFailure};

/// What is known of a task function: made by the macro, collected at start.
#[derive(Clone, Serialize)]
#[non_exhaustive]
pub struct TaskSpec {
    /// The name under which workers know it.
    pub name: &'static str,
    /// What it does: `description = "…"`, else the first paragraph of the doc comment.
    pub description: Option<&'static str>,
    /// Whether its body yields.
    pub generating: bool,
    /// Sync or async, plain or generating.
    pub kind: TaskKind,
    /// Its arguments, in order.
    pub args: &'static [ArgSpec],
    /// The type of its values, after the handler, as written; `None` of a plain task.
    pub yields: Option<&'static str>,
    /// The type of what it returns at the end, as written; `()` of a generator without a final value.
    pub returns: &'static str,
    /// Whether a `generate_handler` handles its values.
    pub has_handler: bool,
    /// The queue its tasks go to unless they say another. Defaults to `default`.
    pub queue: &'static str,
    /// The priority of its tasks unless they say another: lower numbers first. Defaults to 0.
    pub priority: i16,
    /// How failed attempts are retried unless a task says otherwise. Defaults to not at all.
    pub retry: RetryPolicy,
    /// The longest an attempt may take unless a task says otherwise. Defaults to no limit.
    pub time_limit: Option<Duration>,
    /// The longest its body may take from one value to the next, unless a task says otherwise. Defaults to no limit.
    pub idle_limit: Option<Duration>,
    /// Where its body runs. Defaults to the process of the worker.
    pub isolation: Isolation,
    /// How many of its tasks may run at once, whichever workers run them. Defaults to any number.
    pub concurrency: Option<u32>,
    /// How many attempts at its tasks may start in how long, whichever workers run them. Defaults to any number.
    pub rate: Option<Rate>,
    /// Its tasks are cancelled when nobody has watched them for so long, in any process. Defaults to never.
    pub cancel_when_unwatched: Option<Duration>,
    /// Tags of each of its tasks.
    pub tags: &'static [&'static str],
    /// The types of the `State<T>` it takes.
    pub state: &'static [StateSpec],
    /// How an attempt after the first goes on.
    pub on_retry: OnRetry,
    /// Accepted for users of QTasks; such a function has a `Context` parameter.
    pub echo: bool,
    /// The most values that may hold at once. `None` is the app's default.
    pub yields_max: Option<u64>,
    /// The most bytes its log may take. `None` is the app's default.
    pub log_bytes_max: Option<u64>,
    /// Which values are kept.
    pub keep: Keep,
    /// When it runs by itself.
    pub schedule: Option<ScheduleSpec>,
    /// The executor that its attribute names.
    pub executor: Option<ExecutorSpec>,
    /// The middlewares that its attribute names, the outermost first.
    pub middleware: &'static [MiddlewareSpec],
    /// The path of the module it stands in.
    pub module: &'static str,
    /// Its name in the code, which `name = "…"` does not change.
    pub function: &'static str,
    /// The file it stands in.
    pub file: &'static str,
    /// The line its name stands on.
    pub line: u32,
    #[doc(hidden)]
    #[serde(skip)]
    pub retry_on: Option<fn(&TaskFailure) -> bool>,
    #[doc(hidden)]
    #[serde(skip)]
    pub receivers: &'static [Declared],
    #[doc(hidden)]
    #[serde(skip)]
    pub start: Start,
    #[doc(hidden)]
    #[serde(skip)]
    pub types: Types,
    /// Any arguments go: what they are is for the body to see.
    #[doc(hidden)]
    #[serde(skip)]
    pub any_args: bool,
    /// What is set when the program runs. Apart, as what has a destructor can't be set in a constant.
    #[serde(skip)]
    pub(crate) made: Made,
}

/// What an app's own copy of a spec has besides.
#[derive(Clone, Default)]
pub(crate) struct Made {
    /// Instead of the attribute's.
    pub(crate) executor: Option<Arc<dyn TaskExecutor>>,
    pub(crate) layers: Vec<Arc<dyn Middleware>>,
    /// Instead of `start`, of a task without the macro: its arguments are its own affair.
    pub(crate) start: Option<Arc<DynamicStart>>,
}

/// Makes a run out of any arguments.
pub(crate) type DynamicStart = dyn Fn(&Context, &[u8]) -> Result<BoxRun, TaskFailure> + Send + Sync;

impl TaskSpec {
    /// What the macro starts from: a plain async task with every default.
    #[doc(hidden)]
    pub const fn new(name: &'static str, kind: TaskKind, start: Start) -> Self {
        TaskSpec {
            name,
            description: None,
            generating: matches!(kind, TaskKind::SyncGen | TaskKind::AsyncGen),
            kind,
            args: &[],
            yields: None,
            returns: "()",
            has_handler: false,
            queue: "default",
            priority: 0,
            retry: RetryPolicy::none(),
            time_limit: None,
            idle_limit: None,
            isolation: Isolation::None,
            concurrency: None,
            rate: None,
            cancel_when_unwatched: None,
            tags: &[],
            state: &[],
            on_retry: OnRetry::Replay,
            echo: false,
            yields_max: None,
            log_bytes_max: None,
            keep: Keep::All,
            schedule: None,
            executor: None,
            middleware: &[],
            module: "",
            function: "",
            file: "",
            line: 0,
            retry_on: None,
            receivers: &[],
            start,
            types: Types::unknown(matches!(kind, TaskKind::SyncGen | TaskKind::AsyncGen)),
            any_args: false,
            made: Made { executor: None, layers: Vec::new(), start: None },
        }
    }

    // ---- what may be set of an app's own copy: see `Builder::spec`

    /// The priority of its tasks unless they say another.
    #[must_use]
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// The queue its tasks go to unless they say another.
    #[must_use]
    pub fn queue(mut self, queue: &str) -> Self {
        self.queue = interned(queue);
        self
    }

    /// What it does.
    #[must_use]
    pub fn description(mut self, description: &str) -> Self {
        self.description = Some(interned(description));
        self
    }

    /// How failed attempts are retried unless a task says otherwise.
    #[must_use]
    pub fn retry(mut self, retry: impl Into<RetryPolicy>) -> Self {
        self.retry = retry.into();
        self
    }

    /// The longest an attempt may take unless a task says otherwise.
    #[must_use]
    pub fn time_limit(mut self, limit: Option<Duration>) -> Self {
        self.time_limit = limit;
        self
    }

    /// Has its tasks cancelled when nobody has watched them for so long.
    #[must_use]
    pub fn cancel_when_unwatched(mut self, limit: Option<Duration>) -> Self {
        self.cancel_when_unwatched = limit;
        self
    }

    /// The longest its body may take from one value to the next, unless a task says otherwise.
    #[must_use]
    pub fn idle_limit(mut self, limit: Option<Duration>) -> Self {
        self.idle_limit = limit;
        self
    }

    /// Where its body runs.
    #[must_use]
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// The executor of its bodies, instead of that of its attribute and of the app.
    #[must_use]
    pub fn executor(mut self, executor: impl TaskExecutor) -> Self {
        self.made.executor = Some(Arc::new(executor));
        self
    }

    /// One more middleware around its attempts, inside of those before it and of those of the app.
    #[must_use]
    pub fn layer(mut self, middleware: impl Middleware) -> Self {
        self.made.layers.push(Arc::new(middleware));
        self
    }

    /// A plain task without the macro, for [`Builder::register_spec`](crate::Builder::register_spec): `body` gets the
    /// arguments as JSON, whatever they are. Such a task is added by its name.
    ///
    /// # Examples
    /// ```
    /// use qtasks::{Context, Json, TaskSpec};
    ///
    /// let shout = TaskSpec::dynamic("shout", |_: Context, args: Json| async move {
    ///     let word: Vec<String> = args.get().map_err(|e| e.to_string())?;
    ///     Ok::<_, String>(word.join(" ").to_uppercase())
    /// });
    /// assert_eq!(shout.name, "shout");
    /// ```
    pub fn dynamic<F, T, E>(name: &str, body: impl Fn(Context, Json) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        T: erased::TaskValue,
        E: erased::TaskError + 'static,
    {
        let start = move |ctx: &Context, args: &[u8]| {
            let source = erased::from_future(body(ctx.clone(), json(args)));
            let pipe = erased::direct(|never: crate::task::Never| match never {});
            Ok(erased::boxed(
                source,
                pipe,
                erased::never(),
                erased::fallible::<T, E, erased::WishOf<0>>(),
                erased::value::<T>(),
            ))
        };
        TaskSpec::made(name, TaskKind::Async, start)
    }

    /// A generator without the macro, for [`Builder::register_spec`](crate::Builder::register_spec): each item of the
    /// stream is yielded, the first error fails the task. Such a task is added by its name.
    pub fn dynamic_gen<S, T, E>(name: &str, body: impl Fn(Context, Json) -> S + Send + Sync + 'static) -> Self
    where
        S: futures::Stream<Item = Result<T, E>> + Send + 'static,
        T: erased::TaskValue,
        E: erased::TaskError + 'static,
    {
        let start = move |ctx: &Context, args: &[u8]| {
            let source = erased::from_stream(body(ctx.clone(), json(args)));
            let pipe = erased::direct(erased::fallible::<T, E, erased::WishOf<0>>());
            Ok(erased::boxed(source, pipe, erased::value::<T>(), |()| Ok(()), erased::nothing()))
        };
        TaskSpec::made(name, TaskKind::AsyncGen, start)
    }

    fn made(
        name: &str,
        kind: TaskKind,
        start: impl Fn(&Context, &[u8]) -> Result<BoxRun, TaskFailure> + Send + Sync + 'static,
    ) -> Self {
        fn never(_: &Context, _: &[u8]) -> Result<BoxRun, TaskFailure> {
            Err(TaskFailure::new(crate::FailureKind::Error, "a task is run by its own function"))
        }
        let mut spec = TaskSpec::new(interned(name), kind, Start::Async(never));
        spec.file = "registered by hand";
        spec.made.start = Some(Arc::new(start));
        spec.any_args = true;
        spec
    }

    /// Whether any arguments go: what they are is for the body to see.
    pub(crate) fn is_dynamic(&self) -> bool {
        self.any_args
    }

    /// What it takes and gives, as JSON Schemas. They are made anew with each call.
    #[cfg(feature = "schema")]
    pub fn schemas(&self) -> Schemas {
        Schemas::of(self)
    }

    /// The same spec under another name.
    pub(crate) fn named(mut self, name: &str) -> Self {
        if self.name != name {
            self.name = interned(name);
        }
        self
    }

    /// Where it stands: `src/tasks.rs:12`.
    pub(crate) fn place(&self) -> String {
        if self.line == 0 { self.file.to_owned() } else { format!("{}:{}", self.file, self.line) }
    }
}

impl fmt::Debug for TaskSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSpec")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("args", &self.args)
            .field("yields", &self.yields)
            .field("returns", &self.returns)
            .field("place", &self.place())
            .finish_non_exhaustive()
    }
}

fn json(args: &[u8]) -> Json {
    Json::trusted(bytes::Bytes::copy_from_slice(args))
}

/// A text for as long as the program runs; each only once, as there are as many as the program has words for them.
fn interned(text: &str) -> &'static str {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = texts.get(text) {
        return known;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    texts.insert(kept);
    kept
}

/// Sync or async, plain or generating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// `fn` that returns once: runs on a thread that may block.
    Sync,
    /// `async fn` that returns once.
    Async,
    /// Yields, and runs on a thread that may block.
    SyncGen,
    /// Yields, and may wait in between.
    AsyncGen,
}

impl TaskKind {
    /// Whether it runs on a thread that may block.
    pub fn is_sync(self) -> bool {
        matches!(self, TaskKind::Sync | TaskKind::SyncGen)
    }
}

/// One argument of a task function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ArgSpec {
    /// Its name in the JSON object.
    pub name: &'static str,
    /// Its type, as written.
    #[serde(rename = "type")]
    pub ty: &'static str,
    /// Whether a call must give it.
    pub required: bool,
    /// What it is when not given: the expression, as written.
    pub default: Option<&'static str>,
    #[serde(skip)]
    pub(crate) check: CheckArg,
}

impl ArgSpec {
    #[doc(hidden)]
    pub const fn new(
        name: &'static str,
        ty: &'static str,
        required: bool,
        default: Option<&'static str>,
        check: CheckArg,
    ) -> Self {
        ArgSpec { name, ty, required, default, check }
    }
}

/// A `State<T>` that a task function takes.
#[derive(Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct StateSpec {
    /// The `T`, as written.
    #[serde(rename = "type")]
    pub ty: &'static str,
    #[serde(skip)]
    pub(crate) id: fn() -> TypeId,
}

impl StateSpec {
    #[doc(hidden)]
    pub const fn new<T: 'static>(ty: &'static str) -> Self {
        StateSpec { ty, id: TypeId::of::<T> }
    }
}

impl fmt::Debug for StateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State<{}>", self.ty)
    }
}

/// When a task function runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleSpec {
    /// At times of day: `cron = "…"`.
    Cron {
        /// The expression.
        expression: &'static str,
        /// The name of the time zone; `UTC` unless `timezone = "…"` says otherwise.
        timezone: &'static str,
    },
    /// At regular intervals: `every = "…"`.
    Every(Duration),
}

/// Where a body runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In the process of the worker.
    #[default]
    None,
    /// Each attempt in a child process of its own, which it can end and no other: see
    /// [`child_entry`](crate::child_entry).
    Process,
}

/// How an attempt after the first goes on with the log of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnRetry {
    /// The body runs from its start; what it yields again is compared with the log and skipped, and the log is
    /// rewound to the first difference.
    Replay,
    /// The body takes a `Resume<T>` and goes on where the log ends.
    Resume,
    /// The log is rewound to its start first.
    Restart,
}

/// Which values of a task are kept while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// All of them.
    All,
    /// The last so many.
    Last(u64),
}

/// Makes a run out of the arguments; says where it may be polled.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// On the async threads.
    Async(fn(&Context, &[u8]) -> Result<BoxRun, TaskFailure>),
    /// Made, polled and dropped on one thread that may block.
    Sync(fn(&Context, &[u8]) -> Result<LocalBoxRun, TaskFailure>),
}
