//! [`TaskHandle`]: watch, wait for, cancel a task; and the ways in which waiting for one ends.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::add_task::Options;
use crate::app::{Core, Defaults, current, new_task};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::output::{Output, Text};
use crate::place::{At, On};
use crate::registry::Published;
use crate::store::{Cancelled, NewTask};
use crate::task::function::Of;
use crate::task::{BUILT_IN, Generates, Status, Task, TaskFailure, TaskFn, TaskId, TaskRecord};
use crate::watch::{Events, Values, Yields};

/// A task that was added, wherever it runs. Cheap to clone; dropping it changes nothing.
pub struct TaskHandle<F: TaskFn> {
    place: At,
    id: TaskId,
    of: Of<F>,
}

impl<F: TaskFn> Clone for TaskHandle<F> {
    fn clone(&self) -> Self {
        TaskHandle { place: self.place.clone(), id: self.id, of: PhantomData }
    }
}

impl<F: TaskFn> fmt::Debug for TaskHandle<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle").field("id", &self.id).field("of", &F::NAME).finish_non_exhaustive()
    }
}

impl<F: TaskFn> TaskHandle<F> {
    pub(crate) fn new(core: &Arc<Core>, id: TaskId) -> Self {
        TaskHandle::at(At::App(Arc::clone(core)), id)
    }

    pub(crate) fn at(place: At, id: TaskId) -> Self {
        TaskHandle { place, id, of: PhantomData }
    }

    /// A handle for a task that was added before, by this process or another: in an app, or behind a client's server.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound); [`Invalid`](ErrorKind::Invalid) if it is a task of another function;
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub async fn attach(on: &impl On, id: TaskId) -> Result<Self> {
        let handle = TaskHandle::at(on.__place().0, id);
        let record = handle.record().await?;
        let name = match &handle.place {
            At::App(core) => core.registry.name_of(F::spec()),
            #[cfg(feature = "client")]
            At::Server(_) => F::NAME,
        };
        if !name.is_empty() && record.name != name {
            return Err(Error::invalid(format!("task {id} is a `{}`, not a `{name}`", record.name)));
        }
        Ok(handle)
    }

    /// Names the task for ever.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Where the task is in its life.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) once retention has taken it, [`Unavailable`](ErrorKind::Unavailable).
    pub async fn status(&self) -> Result<Status> {
        self.record().await.map(|r| r.status)
    }

    /// The task as it is stored.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) once retention has taken it, [`Unavailable`](ErrorKind::Unavailable).
    pub async fn record(&self) -> Result<TaskRecord> {
        match &self.place {
            At::App(core) => core.hub.record(self.id).await,
            #[cfg(feature = "client")]
            At::Server(client) => client.record(self.id).await,
        }
    }

    /// Waits for the end of the task, however long that takes.
    ///
    /// # Errors
    /// [`WaitError::Ended`] if it failed or was cancelled, [`WaitError::Store`].
    pub async fn wait(&self) -> Result<Task<F>, WaitError<F>> {
        // Whoever waits in a body needs no slot meanwhile.
        let _lent = current::lend();
        match &self.place {
            At::App(core) => {
                let record = core.hub.ended(self.id).await?;
                self.result(core, record).await
            }
            #[cfg(feature = "client")]
            At::Server(client) => {
                let (record, yields) = client.ended(self.id).await?;
                let by_name = F::NAME.is_empty() && record.status == Status::Completed && yields.is_empty();
                let plain = by_name && !client.is_generating(&record.name).await?;
                self.read(record, yields.iter().map(Json::as_bytes), plain)
            }
        }
    }

    /// Waits for the end of the task, at most so long. The task goes on if it is not over by then.
    ///
    /// # Errors
    /// [`WaitError::Ended`] if it failed or was cancelled, [`WaitError::TimedOut`], [`WaitError::Store`].
    pub async fn wait_timeout(&self, timeout: Duration) -> Result<Task<F>, WaitError<F>> {
        let timed = self.place.timed(timeout, self.wait()).await?;
        timed.unwrap_or_else(|| Err(WaitError::TimedOut(self.clone())))
    }

    async fn result(&self, core: &Core, record: TaskRecord) -> Result<Task<F>, WaitError<F>> {
        // A value that retention has taken is `Gone`, which reading the log tells.
        let nothing_to_read = record.yields == 0 && (record.final_value.is_some() || record.failure().is_some());
        let yields = if nothing_to_read { Yields::none() } else { core.hub.yields(self.id).await? };
        let by_name = F::NAME.is_empty() && record.status == Status::Completed;
        let plain = by_name && !is_generating(core, &record.name).await?;
        self.read(record, yields.iter(), plain)
    }

    /// The result of an ended task from its values; `plain` says that it is a plain one, known by its name only.
    fn read<'a>(
        &self,
        record: TaskRecord,
        yields: impl Iterator<Item = &'a [u8]>,
        plain: bool,
    ) -> Result<Task<F>, WaitError<F>> {
        if record.status != Status::Completed {
            let failure = record.failure().expect("ended, and not well");
            let all = yields.map(|raw| Json::trusted(raw.to_vec().into())).collect();
            return Err(WaitError::Ended(Box::new(Ended { record, failure, yields: all })));
        }
        let codec = F::__codec();
        let last = record.final_value.as_ref().map(Json::as_bytes);
        let read = if plain {
            // By its name alone a plain task looks like a generator: what it returned is all its values.
            codec.read(last.into_iter(), last)
        } else {
            codec.read(yields, last)
        };
        let (returning, final_value) = read.map_err(|e| {
            let message = format!("the values of task {} can't be read: {e}", self.id);
            Error::new(ErrorKind::Codec, message).with_source(e)
        })?;
        Ok(Task::new(record, returning, final_value))
    }

    /// Cancels the task. Returns when that is recorded; a running body is dropped at its next await or yield, which
    /// [`wait`](Self::wait) waits for. Cancelling again, or a task that has ended, changes nothing.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<Cancelled> {
        match &self.place {
            At::App(core) => core.cancel(self.id, reason.into()).await,
            #[cfg(feature = "client")]
            At::Server(client) => client.cancel(self.id, reason).await,
        }
    }

    /// Does an ended task again: adds a new one of the same function, with its arguments, queue, priority and tags,
    /// which names this one as [`retry_of`](TaskRecord::retry_of). This one stays as it is.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) if it has not ended; [`Invalid`](ErrorKind::Invalid) for the whole of an
    /// [`Iter`](crate::Iter), a pipe or a chain; [`NotFound`](ErrorKind::NotFound),
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub async fn retry(&self) -> Result<TaskHandle<F>> {
        match &self.place {
            At::App(core) => self.again(core).await,
            #[cfg(feature = "client")]
            At::Server(client) => Ok(TaskHandle::at(self.place.clone(), client.again(self.id).await?)),
        }
    }

    async fn again(&self, core: &Arc<Core>) -> Result<TaskHandle<F>> {
        let id = self.id;
        let TaskRecord { name, queue, priority, args, tags, status, .. } = self.record().await?;
        if !status.is_ended() {
            let message = format!("task {id} is {status}: only one that has ended can be done again");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if name.starts_with(BUILT_IN) {
            let message = format!("task {id} is a `{name}`, whose parts are gone: begin it anew");
            return Err(Error::invalid(message));
        }
        let defaults = Defaults { queue: &queue, priority, tags };
        let task = new_task(name, defaults, args, Options::default(), None);
        let added = core.add(vec![NewTask { retry_of: Some(id), ..task }]).await?;
        Ok(TaskHandle::new(core, added.first().map_or(id, |a| a.id)))
    }

    /// How its attempts failed so far, in order: each tells its attempt. The last one of a task that failed is how the
    /// task failed.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Gone`](ErrorKind::Gone) once retention has taken the log,
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub async fn failures(&self) -> Result<Vec<TaskFailure>> {
        match &self.place {
            At::App(core) => core.hub.failures(self.id).await,
            #[cfg(feature = "client")]
            At::Server(client) => client.failures(self.id).await,
        }
    }

    /// Every event of the log from a place on, void ones included, live until the end. 0 and 1 are the start.
    pub fn events_from(&self, seq: u64) -> Events {
        match &self.place {
            At::App(core) => Events::new(&core.hub, self.id, seq),
            #[cfg(feature = "client")]
            At::Server(client) => client.events_from(self.id, seq),
        }
    }

    /// [`wait`](Self::wait) for callers without a runtime.
    ///
    /// # Errors
    /// As `wait`; [`Invalid`](ErrorKind::Invalid) on the only thread of the app's own runtime, which it would block
    /// for ever.
    pub fn wait_blocking(&self) -> Result<Task<F>, WaitError<F>>
    where
        F::Returning: Send,
        F::Final: Send,
    {
        let handle = self.clone();
        self.place.wait(async move { handle.wait().await })?
    }

    /// What a task whose values are text has yielded so far, as one text; also of one that failed.
    ///
    /// Each call reads all of it. Whoever wants to follow the text takes [`output_stream`](Self::output_stream).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Gone`](ErrorKind::Gone) once retention has taken the log,
    /// [`Codec`](ErrorKind::Codec) for a value that is no text, [`Unavailable`](ErrorKind::Unavailable).
    pub async fn output(&self) -> Result<String>
    where
        F: Generates,
        F::Yield: Text,
    {
        match &self.place {
            At::App(core) => self.text(core).await,
            #[cfg(feature = "client")]
            At::Server(client) => client.output(self.id).await,
        }
    }

    async fn text(&self, core: &Core) -> Result<String>
    where
        F: Generates,
        F::Yield: Text,
    {
        let mut text = String::new();
        for (index, value) in core.hub.yields(self.id).await?.iter().enumerate() {
            let value = (F::__codec().yields.read)(value).map_err(|e| {
                Error::new(ErrorKind::Codec, format!("value {index} of task {}: {e}", self.id)).with_source(e)
            })?;
            text.push_str(crate::output::text(&value, index, self.id)?);
        }
        Ok(text)
    }

    /// The values that hold, as they are stored.
    #[cfg(feature = "http")]
    pub(crate) async fn yields_as_stored(&self) -> Result<Yields> {
        self.place.clone().app("what is stored")?.hub.yields(self.id).await
    }

    /// Whether the task function of a name yields; one that nobody knows may.
    #[cfg(feature = "http")]
    pub(crate) async fn is_generating(&self, name: &str) -> Result<bool> {
        is_generating(&*self.place.clone().app("what is registered")?, name).await
    }

    /// The text that the task yields, as it grows: each value is read once.
    pub fn output_stream(&self) -> Output<F>
    where
        F: Generates,
        F::Yield: Text,
    {
        Output::new(self.clone())
    }

    /// The values of the task from the first on, live until the end.
    pub fn stream(&self) -> Values<F>
    where
        F: Generates,
    {
        self.stream_after(0)
    }

    /// The values of the task that come after a place in its log, live until the end.
    pub fn stream_after(&self, seq: u64) -> Values<F>
    where
        F: Generates,
    {
        match &self.place {
            At::App(core) => Values::new(&core.hub, self.id, seq),
            #[cfg(feature = "client")]
            At::Server(client) => client.values(self.id, seq),
        }
    }
}

/// Whether the task function of a name yields; one that nobody knows may.
pub(crate) async fn is_generating(core: &Core, name: &str) -> Result<bool> {
    if let Some(spec) = core.registry.get(name) {
        return Ok(spec.generating);
    }
    let published = Published::find(&*core.store, name).await?;
    Ok(published.is_none_or(|p| p.generating))
}

/// A task that ended, and not well.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Ended {
    /// The task as it is stored.
    pub record: TaskRecord,
    failure: TaskFailure,
    yields: Vec<Json>,
}

impl Ended {
    /// How it failed: of a cancelled task the kind is `cancelled`, the message its reason.
    pub fn failure(&self) -> &TaskFailure {
        &self.failure
    }

    /// What it yielded before it ended, as it is stored.
    pub fn yields(&self) -> &[Json] {
        &self.yields
    }

    /// What it yielded before it ended.
    ///
    /// # Errors
    /// [`Codec`](ErrorKind::Codec) if the values are no `T`s.
    pub fn returning<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let values = self.yields.iter().enumerate().map(|(i, value)| {
            let codec = |e| Error::new(ErrorKind::Codec, format!("value {i} of task {}: {e}", self.record.id));
            value.get().map_err(codec)
        });
        values.collect()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} (`{}`): {}", self.record.id, self.record.name, self.failure)
    }
}

/// Why waiting for a task brought no result.
#[non_exhaustive]
pub enum WaitError<F: TaskFn> {
    /// The task failed or was cancelled.
    Ended(Box<Ended>),
    /// It was not over in time. It goes on; here is its handle.
    TimedOut(TaskHandle<F>),
    /// The store could not be asked, or the task not be added.
    Store(Error),
}

impl<F: TaskFn> WaitError<F> {
    /// How the task failed, if it ended.
    pub fn failure(&self) -> Option<&TaskFailure> {
        match self {
            WaitError::Ended(ended) => Some(ended.failure()),
            WaitError::TimedOut(_) | WaitError::Store(_) => None,
        }
    }
}

/// What it says, for a `main` that returns it; with `{:#?}` its parts.
impl<F: TaskFn> fmt::Debug for WaitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            _ if !f.alternate() => fmt::Display::fmt(self, f),
            WaitError::Ended(ended) => f.debug_tuple("Ended").field(ended).finish(),
            WaitError::TimedOut(handle) => f.debug_tuple("TimedOut").field(handle).finish(),
            WaitError::Store(error) => f.debug_tuple("Store").field(error).finish(),
        }
    }
}

impl<F: TaskFn> fmt::Display for WaitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::Ended(ended) => ended.fmt(f),
            WaitError::TimedOut(handle) => write!(f, "task {} was not over in time; it goes on", handle.id),
            WaitError::Store(error) => error.fmt(f),
        }
    }
}

impl<F: TaskFn> std::error::Error for WaitError<F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // What it shows tells how it failed.
            WaitError::Ended(_) | WaitError::TimedOut(_) => None,
            WaitError::Store(error) => error.source(),
        }
    }
}

impl<F: TaskFn> From<Error> for WaitError<F> {
    fn from(error: Error) -> Self {
        WaitError::Store(error)
    }
}

impl<F: TaskFn> From<WaitError<F>> for Error {
    fn from(error: WaitError<F>) -> Self {
        match error {
            WaitError::Ended(ended) => Error::task_failed(ended.to_string(), ended.failure),
            WaitError::TimedOut(_) => Error::new(ErrorKind::TimedOut, error.to_string()),
            WaitError::Store(error) => error,
        }
    }
}
