//! [`AddTask`]: a task about to be added. Set what it needs, then await it.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;

use crate::app::{Core, Defaults, current, new_task};
use crate::args::{self, ArgsWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{TaskHandle, WaitError};
use crate::json::Json;
use crate::place::{At, On};
use crate::registry::{Published, unsupported};
use crate::retry::RetryPolicy;
use crate::store::{Due, NewTask};
use crate::task::function::Of;
use crate::task::{Task, TaskFn, TaskId, TaskSpec};
use crate::trace::TraceContext;

/// A task about to be added: made by `test_yield::add_task(5)`, or by name by
/// [`app.add_task(…)`](crate::Qtasks::add_task).
///
/// Awaiting it stores the task and gives its [handle](TaskHandle) at once. After [`timeout`](Self::timeout), awaiting
/// it waits for the end and gives the [result](Task).
#[must_use = "a task is added when this is awaited"]
pub struct AddTask<F: TaskFn, W = ()> {
    /// Of a task that is known by its name only.
    name: Option<String>,
    args: Args,
    options: Options,
    place: Option<At>,
    unchecked: bool,
    wait: W,
    of: Of<F>,
}

/// Where the arguments come from.
enum Args {
    Given(Result<Json>),
    /// Made when the app is known, which may have other names and defaults. Behind a lock that is never waited for: a
    /// builder may be shared.
    Late(Mutex<Late>),
}

/// Makes arguments for an app.
pub(crate) type Late = Box<dyn for<'a> FnOnce(&'a Core) -> BoxFuture<'a, Result<Json>> + Send>;

/// The names of the arguments of a task function, in order.
pub(crate) type Names = Vec<String>;

/// What a builder was told about its task.
#[derive(Debug, Default, Clone)]
pub(crate) struct Options {
    pub(crate) id: Option<TaskId>,
    pub(crate) queue: Option<String>,
    pub(crate) priority: Option<i16>,
    pub(crate) due: Option<Due>,
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) idle_limit: Option<Duration>,
    pub(crate) unique: Option<String>,
    pub(crate) debounce: Option<(String, Duration)>,
    pub(crate) replace: bool,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) expires: Option<Duration>,
    pub(crate) held: bool,
    pub(crate) retention: Option<Duration>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    /// Made of the two.
    pub(crate) trace: Option<TraceContext>,
}

impl Options {
    /// A debounce as the store knows it.
    fn debounced(mut self) -> Result<Self> {
        let Some((key, wait)) = self.debounce.take() else { return Ok(self) };
        let clash = [
            (self.unique.is_some(), "unique", "it has its own key"),
            (self.due.is_some(), "delay` or `at", "it says itself when the task is due"),
            (self.idempotency_key.is_some(), "idempotency_key", "it replaces arguments, which that would keep"),
        ];
        if let Some((_, setter, why)) = clash.iter().find(|(set, ..)| *set) {
            return Err(Error::invalid(format!("`.debounce(…)` does not go with `{setter}`: {why}")));
        }
        (self.unique, self.replace, self.due) = (Some(key), true, Some(Due::In(wait)));
        Ok(self)
    }

    /// A trace as the store knows it.
    pub(crate) fn traced(mut self) -> Result<Self> {
        self.trace = TraceContext::given(self.traceparent.take(), self.tracestate.take())?;
        Ok(self)
    }
}

impl<F: TaskFn, W> fmt::Debug for AddTask<F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or(F::NAME);
        f.debug_struct("AddTask").field("name", &name).field("options", &self.options).finish_non_exhaustive()
    }
}

/// What the macro's `add_task` returns.
#[doc(hidden)]
pub fn add_task<F: TaskFn>(args: ArgsWriter) -> AddTask<F> {
    AddTask::new(None, args.finish())
}

impl<F: TaskFn> AddTask<F> {
    fn new(name: Option<String>, args: Result<Json>) -> Self {
        let args = Args::Given(args);
        AddTask { name, args, options: Options::default(), place: None, unchecked: false, wait: (), of: PhantomData }
    }

    pub(crate) fn by_name(name: String, args: Result<Json, serde_json::Error>) -> Self {
        let args = args.map_err(|e| Error::new(ErrorKind::Codec, format!("the arguments of `{name}`: {e}")));
        AddTask::new(Some(name), args)
    }

    /// With arguments that are written already.
    pub(crate) fn of_args(args: Result<Json, serde_json::Error>) -> Self {
        let args = args.map_err(|e| Error::new(ErrorKind::Codec, format!("the fields of `{}`: {e}", F::NAME)));
        AddTask::new(None, args)
    }

    /// With arguments that are made when the app is known.
    pub(crate) fn late(args: Late) -> Self {
        AddTask { args: Args::Late(Mutex::new(args)), ..AddTask::empty(None) }
    }

    /// Without arguments: for many tasks that have but those in common.
    pub(crate) fn empty(name: Option<String>) -> Self {
        AddTask::new(name, Ok(Json::null()))
    }

    /// The arguments that it was given.
    pub(crate) fn into_args(self) -> Result<Json> {
        match self.args {
            Args::Given(args) => args,
            Args::Late(_) => Err(Error::invalid("its arguments are made when it is added")),
        }
    }

    /// The same once more, without arguments.
    pub(crate) fn again(&self) -> Self {
        let AddTask { name, options, place, unchecked, .. } = self;
        AddTask {
            options: options.clone(),
            place: place.clone(),
            unchecked: *unchecked,
            ..AddTask::empty(name.clone())
        }
    }

    /// Waits at most so long for the end of the task: awaiting it then gives a [`Task`], or a [`WaitError`] if it
    /// failed, was cancelled, or is not over in time, in which case it goes on.
    pub fn timeout(self, timeout: Duration) -> AddTask<F, Duration> {
        let AddTask { name, args, options, place, unchecked, of, .. } = self;
        AddTask { name, args, options, place, unchecked, wait: timeout, of }
    }
}

impl<F: TaskFn, W> AddTask<F, W> {
    /// The app to add it to, or the server, by a client. Defaults to the app whose body makes the call, else to the
    /// installed one.
    pub fn on(mut self, place: &impl On) -> Self {
        self.place = Some(place.__place().0);
        self
    }

    /// The queue. Defaults to the function's own, or `default`.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.options.queue = Some(queue.into());
        self
    }

    /// Lower numbers are run first. Defaults to the function's own, or 0.
    pub fn priority(mut self, priority: i16) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// Runs it after so long, by the store's clock.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.options.due = Some(Due::In(delay));
        self
    }

    /// Runs it at an instant, by the store's clock.
    pub fn at(mut self, at: SystemTime) -> Self {
        self.options.due = Some(Due::At(at));
        self
    }

    /// How a failed attempt is retried: a number, or a [`RetryPolicy`]. Defaults to the function's own, or not at all.
    pub fn retry(mut self, retry: impl Into<RetryPolicy>) -> Self {
        self.options.retry = Some(retry.into());
        self
    }

    /// The longest an attempt may take. Defaults to the function's own, or no limit.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.options.time_limit = Some(limit);
        self
    }

    /// The longest the body may take from one value to the next, and from its start to the first. Defaults to the
    /// function's own, or no limit.
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.options.idle_limit = Some(limit);
        self
    }

    /// If an unfinished task of this name has the same key, that one is answered instead of adding another.
    pub fn unique(mut self, key: impl Into<String>) -> Self {
        self.options.unique = Some(key.into());
        self
    }

    /// Runs it after so long, unless another is added under the same key before: of several that follow each other
    /// sooner than that, only the last is run.
    ///
    /// If a task of this name and key waits and was never started, it gets the arguments of this one, is due after
    /// `wait` from now, by the store's clock, and is answered; all else of it stays. One that was started keeps what
    /// it has, and a new one is added.
    ///
    /// ```no_run
    /// # use qtasks::prelude::*;
    /// # use std::time::Duration;
    /// # #[task]
    /// # async fn reindex(page: String, text: String) {}
    /// # async fn saved(page: String, text: String) -> qtasks::Result<()> {
    /// let key = format!("page:{page}");
    /// reindex::add_task(page, text).debounce(key, Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn debounce(mut self, key: impl Into<String>, wait: Duration) -> Self {
        self.options.debounce = Some((key.into(), wait));
        self
    }

    /// If a task was ever added with this key, that one is answered: repeating a call that may have got through adds
    /// nothing. With other arguments it is a [`Conflict`](ErrorKind::Conflict).
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.options.idempotency_key = Some(key.into());
        self
    }

    /// Puts it into a group: see [`app.group(name)`](crate::Qtasks::group).
    pub fn group(self, name: impl AsRef<str>) -> Self {
        self.tag(crate::group::tag(name.as_ref()))
    }

    /// A word to find it by; may be given more than once. It has 1 to 128 bytes, without control characters and
    /// invisible characters.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.options.tags.push(tag.into());
        self
    }

    /// Cancels it, with the reason `expired`, unless a worker has started it within so long.
    pub fn expires(mut self, after: Duration) -> Self {
        self.options.expires = Some(after);
        self
    }

    /// Keeps its log, arguments and values for so long after its end, and its row as long again, instead of what the
    /// app keeps of others.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.options.retention = Some(retention);
        self
    }

    /// The trace that it belongs to, as a `traceparent` header of
    /// [W3C Trace Context](https://www.w3.org/TR/trace-context/): the body has it as
    /// [`ctx.traceparent()`](crate::Context::traceparent), in each attempt, and so have the tasks that it adds. Defaults to what
    /// [`Builder::trace`](crate::Builder::trace) says, else to that of the task whose body makes the call, else to none.
    ///
    /// What is none is refused when the task is added: see [`TraceContext::new`].
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.options.traceparent = Some(traceparent.into());
        self
    }

    /// The `tracestate` header that goes with the [`traceparent`](Self::traceparent).
    pub fn tracestate(mut self, tracestate: impl Into<String>) -> Self {
        self.options.tracestate = Some(tracestate.into());
        self
    }

    /// Stores it without running it, until [`app.start_task(id)`](crate::Qtasks::start_task).
    pub fn held(mut self) -> Self {
        self.options.held = true;
        self
    }

    /// Stores it even if no task function of its name is known, and its arguments as they are: for workers that are
    /// deployed later.
    pub fn unchecked(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// What does not depend on the task function's types: the rest of the code is there once for all.
    pub(crate) fn into_plain(self) -> Plain {
        let AddTask { name, args, options, place, unchecked, .. } = self;
        Plain { spec: F::spec(), name, args, options, place, unchecked }
    }

    async fn add(self) -> Result<TaskHandle<F>> {
        let (place, id) = self.into_plain().add().await?;
        Ok(TaskHandle::at(place, id))
    }
}

/// A task about to be added, without its types.
pub(crate) struct Plain {
    /// Of its function, unless that is known by its name only.
    spec: &'static TaskSpec,
    name: Option<String>,
    args: Args,
    options: Options,
    place: Option<At>,
    unchecked: bool,
}

/// What many tasks have in common.
pub(crate) struct Template {
    pub(crate) task: NewTask,
    /// `None` where nobody knows them.
    pub(crate) names: Option<Names>,
    pub(crate) generating: bool,
    /// `None` where it is known from another process only, or not at all.
    pub(crate) spec: Option<Arc<TaskSpec>>,
}

impl Plain {
    /// Whether its function yields; one that is known by its name only may.
    pub(crate) fn is_generating(&self) -> bool {
        self.spec.generating
    }

    /// Without its arguments, which are made for each.
    pub(crate) async fn template(self, core: &Core, parent: Option<TaskId>) -> Result<Template> {
        let Plain { spec, name, options, unchecked, .. } = self;
        let (args, options) = (Json::null(), options.debounced()?.traced()?);
        let known = match &name {
            Some(name) => core.registry.get(name).cloned(),
            None => Some(Arc::new(core.registry.own(spec).clone())),
        };
        let name = name.unwrap_or_else(|| core.registry.name_of(spec).to_owned());
        if let Some(spec) = known {
            unsupported(&spec)?;
            let names = (!spec.is_dynamic()).then(|| spec.args.iter().map(|a| a.name.to_owned()).collect());
            let task = new_task(name, Defaults::of(&spec), args, options, parent);
            return Ok(Template { task, names, generating: spec.generating, spec: Some(spec) });
        }
        let published = Published::find(&*core.store, &name).await?;
        if published.is_none() && !unchecked {
            return Err(core.registry.unknown(&name));
        }
        let names = published.as_ref().map(Published::names);
        let generating = published.as_ref().is_none_or(|p| p.generating);
        let defaults = published.as_ref().map_or_else(Defaults::none, Defaults::published);
        Ok(Template { task: new_task(name, defaults, args, options, parent), names, generating, spec: None })
    }

    /// The task for a store.
    pub(crate) async fn into_new(self, core: &Core, parent: Option<TaskId>) -> Result<NewTask> {
        let Plain { spec, name, args, options, unchecked, .. } = self;
        let args = match args {
            Args::Given(args) => args?,
            Args::Late(late) => {
                let late = late.into_inner().unwrap_or_else(PoisonError::into_inner);
                late(core).await?
            }
        };
        let options = options.debounced()?.traced()?;
        let Some(name) = name else {
            unsupported(spec)?;
            let name = core.registry.name_of(spec).to_owned();
            return Ok(new_task(name, Defaults::of(core.registry.own(spec)), args, options, parent));
        };
        let wrong = |message: String| Error::invalid(format!("`{name}`: {message}"));
        if let Some(spec) = core.registry.get(&name) {
            unsupported(spec)?;
            if !unchecked && !spec.is_dynamic() {
                args::check(spec.args, args.as_bytes()).map_err(|failure| wrong(failure.message))?;
            }
            return Ok(new_task(name, Defaults::of(spec), args, options, parent));
        }
        let published = Published::find(&*core.store, &name).await?;
        match &published {
            Some(published) if !unchecked => published.check(&args).map_err(wrong)?,
            None if !unchecked => return Err(core.registry.unknown(&name)),
            _ => {}
        }
        let defaults = published.as_ref().map_or_else(Defaults::none, Defaults::published);
        Ok(new_task(name, defaults, args, options, parent))
    }

    /// The app that it names, its function, its own name if it is known by that only, and its arguments.
    #[cfg(feature = "test")]
    pub(crate) fn parts(self) -> (Option<Arc<Core>>, &'static TaskSpec, Option<String>, Result<Json>) {
        let args = match self.args {
            Args::Given(args) => args,
            Args::Late(_) => Err(Error::invalid("its arguments are made when it is added")),
        };
        let core = self.place.and_then(|place| place.app("running a body in place").ok());
        (core, self.spec, self.name, args)
    }

    async fn add(mut self) -> Result<(At, TaskId)> {
        let (core, parent) = match self.place.take() {
            #[cfg(feature = "client")]
            Some(At::Server(client)) => {
                let id = self.add_by(&client).await?;
                return Ok((At::Server(client), id));
            }
            Some(At::App(core)) => {
                let parent = current::parent(&core);
                (core, parent)
            }
            None => current::core()?,
        };
        let new = core.traced(self.into_new(&core, parent).await?);
        let added = core.add(vec![new]).await?;
        let id = added.first().map(|a| a.id).expect("one answer for one task");
        Ok((At::App(core), id))
    }

    /// Adds it where the client says, which knows its function or not.
    #[cfg(feature = "client")]
    async fn add_by(self, client: &crate::client::Client) -> Result<TaskId> {
        let Plain { spec, name, args, options, unchecked, .. } = self;
        let Args::Given(args) = args else {
            return Err(Error::invalid("chains and pipes are an app's own affair: add them where it is served"));
        };
        if unchecked {
            return Err(Error::invalid("`.unchecked()` is for an app: a server adds only what it knows"));
        }
        client.add(&name.unwrap_or_else(|| spec.name.to_owned()), &args?, options).await
    }
}

impl<F: TaskFn> IntoFuture for AddTask<F> {
    type Output = Result<TaskHandle<F>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.add())
    }
}

impl<F: TaskFn> IntoFuture for AddTask<F, Duration> {
    type Output = Result<Task<F>, WaitError<F>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let timeout = self.wait;
        Box::pin(async move { self.add().await?.wait_timeout(timeout).await })
    }
}

impl<F: TaskFn> AddTask<F> {
    /// Adds the task from a caller without a runtime.
    ///
    /// # Errors
    /// As awaiting it; [`Invalid`](ErrorKind::Invalid) on the only thread of the app's own runtime.
    pub fn add_blocking(mut self) -> Result<TaskHandle<F>> {
        let place = self.settle()?;
        place.wait(self.add())?
    }
}

impl<F: TaskFn> AddTask<F, Duration>
where
    F::Returning: Send,
    F::Final: Send,
{
    /// Adds the task and waits for its end, from a caller without a runtime.
    ///
    /// # Errors
    /// As awaiting it; [`WaitError::Store`] of kind [`Invalid`](ErrorKind::Invalid) on the only thread of the app's
    /// own runtime.
    pub fn wait_blocking(mut self) -> Result<Task<F>, WaitError<F>> {
        let place = self.settle()?;
        let wait = self.into_future();
        place.wait(wait)?
    }
}

impl<F: TaskFn, W> AddTask<F, W> {
    /// The app that it goes to, found on the caller's thread.
    pub(crate) fn resolve(&mut self) -> Result<Arc<Core>> {
        self.settle()?.app("an `Iter`")
    }

    /// Where it goes to, found on the caller's thread.
    fn settle(&mut self) -> Result<At> {
        let place = match self.place.take() {
            Some(place) => place,
            None => At::App(current::core()?.0),
        };
        self.place = Some(place.clone());
        Ok(place)
    }
}
