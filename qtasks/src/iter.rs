//! [`Iter`]: one task function, many arguments, one list of results.
//!
//! The whole is a task of its own, `qtasks.iter`: whoever has its id can wait for it, watch it, cancel it, from any
//! process. The arguments are read as they are added, a batch at a time, however many there are.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures::{Stream, StreamExt as _};
use serde::Serialize;

use crate::add_task::AddTask;
use crate::app::{Core, Qtasks};
use crate::builtin;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::TaskHandle;
use crate::json::Json;
use crate::retry::RetryPolicy;
use crate::task::function::Of;
use crate::task::{Generates, TaskFn, TaskId, TaskRecord};
use crate::watch::Values;

mod feed;
mod inline;
mod results;
mod source;

use feed::Feed;
use inline::Inline;
pub use results::{Iterated, Piped};
use source::Source;

/// Arguments that are still to be read.
enum Lazy {
    Iterator(Box<dyn Iterator<Item = Result<Json>> + Send>),
    Stream(Pin<Box<dyn Stream<Item = Result<Json>> + Send>>),
}

/// Runs a task function for each of many arguments, and gathers what they return: `doubled::iter(1..=100)`, or
/// [`Iter::new`] and [`append`](Self::append).
///
/// At most 256 tasks are let go before the first whose result is missing, so that an endless source is no trouble.
/// Results come in the order of the arguments unless [`unordered`](Self::unordered), each by itself a `Result`: one
/// that fails leaves the others alone. Once its result is gathered, the row and the log of an item are gone.
///
/// [`on_success`](crate::signals) of the task `qtasks.iter` tells when all is done.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use qtasks::prelude::*;
///
/// #[task]
/// async fn doubled(n: i64) -> i64 {
///     2 * n
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = qtasks::init("memory:").await?;
/// let mut doubles = doubled::iter(1..=3);
/// doubles.run().await?;
/// let all = doubles.result(Duration::from_secs(50)).await?.expect("in time");
/// let all: Vec<i64> = all.into_iter().collect::<qtasks::Result<_>>()?;
/// assert_eq!(all, [2, 4, 6]);
/// # app.shutdown().await
/// # }
/// ```
#[must_use = "nothing is run before `run().await`"]
pub struct Iter<F: TaskFn> {
    template: AddTask<F>,
    appended: Vec<Result<Json>>,
    /// Behind a lock that is never waited for: this may be shared.
    lazy: Option<Mutex<Lazy>>,
    /// Lazy arguments were given, and have been read.
    used: bool,
    with: Vec<(String, Result<Json>)>,
    ordered: bool,
    inline: bool,
    ran: Option<Ran>,
    of: Of<F>,
}

/// The last run.
struct Ran {
    core: Arc<Core>,
    id: TaskId,
    /// How many arguments it had, and how many of them were appended.
    count: usize,
    appended: usize,
    /// What came of it, where it ran in place.
    inline: Option<Inline>,
}

impl<F: TaskFn> fmt::Debug for Iter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("of", &self.template).field("length", &self.length()).finish_non_exhaustive()
    }
}

/// What the macro's `iter` returns.
#[doc(hidden)]
pub fn iter<F, I, W>(args: I, write: W) -> Iter<F>
where
    F: TaskFn,
    I: IntoIterator<IntoIter: Send + 'static>,
    W: Fn(I::Item) -> AddTask<F> + Send + 'static,
{
    let mut iter = Iter::new();
    let lazy = Lazy::Iterator(Box::new(args.into_iter().map(move |item| write(item).into_args())));
    iter.lazy = Some(Mutex::new(lazy));
    iter
}

impl<F: TaskFn> Default for Iter<F> {
    fn default() -> Self {
        Iter::new()
    }
}

impl<F: TaskFn> Iter<F> {
    /// Without arguments so far.
    pub fn new() -> Self {
        Iter::of(AddTask::empty(None))
    }

    fn of(template: AddTask<F>) -> Self {
        Iter {
            template,
            appended: Vec::new(),
            lazy: None,
            used: false,
            with: Vec::new(),
            ordered: true,
            inline: false,
            ran: None,
            of: PhantomData,
        }
    }

    /// For each item of a stream, which is read as far as it has come; an item is what [`append`](Self::append) takes.
    pub fn of_stream<S>(args: S) -> Self
    where
        S: Stream<Item: Serialize> + Send + 'static,
    {
        let mut iter = Iter::new();
        iter.lazy = Some(Mutex::new(Lazy::Stream(Box::pin(args.map(|item| raw(&item))))));
        iter
    }

    /// One more: a bare value for the only argument (or the first, where the others have defaults), a tuple for
    /// several in order, or a map of them by name. Answers how many there are.
    ///
    /// What can't be an argument is an error of [`run`](Self::run).
    pub fn append(&mut self, args: impl Serialize) -> usize {
        self.appended.push(raw(&args));
        self.length()
    }

    /// An argument that all have in common, by its name: those of [`append`](Self::append) are the others.
    pub fn with(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        self.with.push((name.into(), raw(&value)));
        self
    }

    /// Results come as the items finish, not in the order of their arguments.
    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// Runs the items in place, one after the other, without any store or worker: `run()` returns when all are done.
    /// For tests, and for programs without a queue. What they return is known to this value only.
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Keeps the results for so long after the last. Defaults to the retention of the app.
    pub fn cached(mut self, ttl: Duration) -> Self {
        self.template = self.template.retention(ttl);
        self
    }

    /// How many arguments there are: those that were appended, and of others as many as are known to come, or came.
    pub fn length(&self) -> usize {
        let lazy = match (&self.lazy, &self.ran) {
            (Some(lazy), _) => match &*lazy.lock().unwrap_or_else(PoisonError::into_inner) {
                Lazy::Iterator(args) => args.size_hint().0,
                Lazy::Stream(args) => args.size_hint().0,
            },
            (None, Some(ran)) => ran.count - ran.appended,
            (None, None) => 0,
        };
        self.appended.len() + lazy
    }

    /// Adds a task for each of the arguments, and one that gathers their results. Answers the id of that one, under
    /// which any process finds the [results](Qtasks::result).
    ///
    /// Arguments are stored in batches of at most 1,000 or 1 MiB, and the first tasks run while later arguments are
    /// still being added. Dropping this future, or the death of the process, before all are added fails the whole with
    /// the kind [`unsealed`](crate::FailureKind::Unsealed) once a lease is over. Afterwards nobody needs this value.
    ///
    /// Again it is a run of its own, with all that was appended.
    ///
    /// # Errors
    /// As of [`AddTask`]; [`Invalid`](ErrorKind::Invalid) for arguments that the function does not take, and for
    /// an iterator or a stream that an earlier run has read.
    pub async fn run(&mut self) -> Result<TaskId> {
        let core = self.template.resolve()?;
        if self.inline {
            return self.run_inline(core).await;
        }
        let (mut feed, id) = self.begin(&core).await?;
        let count = feed.finish().await?;
        self.ran = Some(Ran { core, id, count, appended: self.appended.len(), inline: None });
        Ok(id)
    }

    /// Runs it, and gives the results as they come, before all arguments are added. The arguments that are left are
    /// added on the runtime of the app.
    ///
    /// # Errors
    /// As of [`run`](Self::run), as far as it has come.
    pub async fn stream(&mut self) -> Result<Values<Iterated<F>>> {
        if self.inline {
            return Err(Error::invalid("`.inline()` streams nothing: use `.result(…)` after `.run()`"));
        }
        let core = self.template.resolve()?;
        let (mut feed, id) = self.begin(&core).await?;
        let appended = self.appended.len();
        self.ran = Some(Ran { core: Arc::clone(&core), id, count: appended, appended, inline: None });
        core.runtime.spawn(async move {
            if let Err(error) = feed.finish().await {
                tracing::error!(%error, %id, "the arguments of an `Iter` could not all be added");
            }
        });
        Ok(TaskHandle::new(&core, id).stream())
    }

    /// A handle for the whole of the last run.
    pub fn handle(&self) -> Option<TaskHandle<Iterated<F>>> {
        let ran = self.current()?;
        ran.inline.is_none().then(|| TaskHandle::new(&ran.core, ran.id))
    }

    /// All results, waiting at most so long for them: `None` if they are not there by then, and before `run()` or after
    /// an [`append`](Self::append) that followed it. `Duration::ZERO` does not wait.
    ///
    /// # Errors
    /// [`TaskFailed`](ErrorKind::TaskFailed) if the whole failed or was cancelled,
    /// [`Unavailable`](ErrorKind::Unavailable), [`Gone`](ErrorKind::Gone) after retention.
    pub async fn result(&self, wait: Duration) -> Result<Option<Vec<Result<F::Returning>>>> {
        let Some(ran) = self.current() else { return Ok(None) };
        if let Some(inline) = &ran.inline {
            return Ok(Some(inline.results::<F>()));
        }
        let items = results::items(&ran.core, ran.id, wait).await?;
        Ok(items.map(|items| items.iter().map(results::read::<F>).collect()))
    }

    /// The items as they were stored, waiting as [`result`](Self::result) does. Items that ran in place were not.
    ///
    /// # Errors
    /// As of `result`.
    pub async fn fetch(&self, wait: Duration) -> Result<Option<Vec<TaskRecord>>> {
        let Some(ran) = self.current().filter(|ran| ran.inline.is_none()) else { return Ok(None) };
        fetch(&ran.core, ran.id, wait).await
    }

    /// The last run, unless something was appended since.
    fn current(&self) -> Option<&Ran> {
        self.ran.as_ref().filter(|ran| ran.appended == self.appended.len())
    }

    /// The arguments, once.
    fn source(&mut self) -> Result<Source> {
        let lazy = self.lazy.take().map(|lazy| lazy.into_inner().unwrap_or_else(PoisonError::into_inner));
        if self.used && lazy.is_none() {
            let message =
                "the arguments of this `Iter` have been read by an earlier run: make another, or `append` them";
            return Err(Error::invalid(message));
        }
        self.used = lazy.is_some();
        let mut with = Vec::new();
        for (name, value) in &self.with {
            with.push((name.clone(), value.as_ref().map_err(Error::again)?.clone()));
        }
        let appended = self.appended.iter().map(|a| match a {
            Ok(args) => Ok(args.clone()),
            Err(error) => Err(error.again()),
        });
        Ok(Source { appended: appended.collect(), lazy, with, read: 0 })
    }

    async fn begin(&mut self, core: &Arc<Core>) -> Result<(Feed, TaskId)> {
        let source = self.source()?;
        let template = self.template.again().into_plain();
        Feed::begin(core, template, source, self.ordered).await
    }

    async fn run_inline(&mut self, core: Arc<Core>) -> Result<TaskId> {
        let source = self.source()?;
        let template = self.template.again().into_plain();
        let done = inline::run(&core, template, source).await?;
        let (id, count, appended) = (TaskId::new(), done.len(), self.appended.len());
        self.ran = Some(Ran { core, id, count, appended, inline: Some(done) });
        Ok(id)
    }
}

/// The setters of [`AddTask`], as far as they make sense for many.
macro_rules! as_add_task {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $ty:ty)?);)*) => {
        impl<F: TaskFn> Iter<F> {
            $(
                $(#[$doc])*
                pub fn $name(mut self $(, $arg: $ty)?) -> Self {
                    self.template = self.template.$name($($arg)?);
                    self
                }
            )*
        }
    };
}

as_add_task! {
    /// The app, as [`AddTask::on`].
    on(app: &Qtasks);
    /// The queue of the items, and of the whole, as [`AddTask::queue`].
    queue(queue: impl Into<String>);
    /// The priority of the items, and of the whole, as [`AddTask::priority`].
    priority(priority: i16);
    /// Begins after so long, as [`AddTask::delay`].
    delay(delay: Duration);
    /// Begins at an instant, as [`AddTask::at`].
    at(at: SystemTime);
    /// How a failed item is retried, as [`AddTask::retry`].
    retry(retry: impl Into<RetryPolicy>);
    /// The longest an attempt at an item may take, as [`AddTask::time_limit`].
    time_limit(limit: Duration);
    /// The longest an item may take from one value to the next, as [`AddTask::idle_limit`].
    idle_limit(limit: Duration);
    /// At most one unfinished whole has this key, as [`AddTask::unique`].
    unique(key: impl Into<String>);
    /// At most one whole ever has this key, as [`AddTask::idempotency_key`].
    idempotency_key(key: impl Into<String>);
    /// A word to find the whole by, as [`AddTask::tag`].
    tag(tag: impl Into<String>);
    /// Puts the whole into a group, as [`AddTask::group`].
    group(name: impl AsRef<str>);
    /// Cancels the whole unless it has begun within so long, as [`AddTask::expires`].
    expires(after: Duration);
    /// The trace of the whole and of the items, as [`AddTask::traceparent`].
    traceparent(traceparent: impl Into<String>);
    /// What goes with that, as [`AddTask::tracestate`].
    tracestate(tracestate: impl Into<String>);
    /// Stores all without running any, as [`AddTask::held`].
    held();
    /// Stores the items even if no task function of their name is known, as [`AddTask::unchecked`].
    unchecked();
}

fn raw(value: &impl Serialize) -> Result<Json> {
    Json::of(value).map_err(|e| Error::new(ErrorKind::Codec, format!("an argument of an `Iter`: {e}")))
}

async fn fetch(core: &Core, id: TaskId, wait: Duration) -> Result<Option<Vec<TaskRecord>>> {
    let items = results::items::<builtin::Item>(core, id, wait).await?;
    Ok(items.map(|items| items.into_iter().map(|item| item.into_record(id)).collect()))
}

impl Qtasks {
    /// Runs the task of a name for each of many arguments: see [`Iter`]. An item is what [`Iter::append`] takes.
    pub fn iter<I>(&self, name: impl Into<String>, args: I) -> Iter<crate::AnyTask>
    where
        I: IntoIterator<Item: Serialize>,
    {
        let mut iter = Iter::of(AddTask::empty(Some(name.into()))).on(self);
        iter.appended = args.into_iter().map(|item| raw(&item)).collect();
        iter
    }

    /// The results of an [`Iter`] or a [pipe](AddTask::pipe) that any process has run, waiting at most so long for
    /// them; `None` if they are not there by then. `T` is what one item returns: of a generator a list.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Invalid`](ErrorKind::Invalid) if it is the id of something
    /// else; as of [`Iter::result`].
    pub async fn result<T: serde::de::DeserializeOwned>(
        &self,
        id: TaskId,
        wait: Duration,
    ) -> Result<Option<Vec<Result<T>>>> {
        let items = results::items(self.core(), id, wait).await?;
        Ok(items.map(|items| items.iter().map(results::read_as).collect()))
    }

    /// The items of an [`Iter`] or a [pipe](AddTask::pipe) that any process has run, as they were stored, waiting as
    /// [`result`](Self::result) does.
    ///
    /// # Errors
    /// As of `result`.
    pub async fn fetch(&self, id: TaskId, wait: Duration) -> Result<Option<Vec<TaskRecord>>> {
        fetch(self.core(), id, wait).await
    }
}

impl<F> Values<Iterated<F>>
where
    F: Generates + TaskFn<Returning = Vec<<F as TaskFn>::Yield>>,
{
    /// Of generator tasks: all values of all items, one after the other. An item that failed is one error, and what it
    /// had yielded is left out.
    pub fn flatten(self) -> impl Stream<Item = Result<F::Yield>> + Unpin {
        self.flat_map(|item| {
            let all = match item.and_then(|item| item) {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            };
            futures::stream::iter(all)
        })
    }
}
