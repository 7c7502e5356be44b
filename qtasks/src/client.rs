//! [`Client`]: for programs on the other side of HTTP. The same builders and handles as for an app.
//!
//! ```no_run
//! # use qtasks::prelude::*;
//! # use std::time::Duration;
//! # #[task]
//! # async fn count_there(n: i64) -> i64 {
//! #     for i in 0..n {
//! #         yield_!(i);
//! #     }
//! # }
//! # async fn run() -> qtasks::Result<()> {
//! let client = qtasks::client::get_client("http://127.0.0.1:7717")?;
//! let task = count_there::add_task(5).on(&client).timeout(Duration::from_secs(10)).await?;
//! assert_eq!(task.returning, [0, 1, 2, 3, 4]);
//! # Ok(())
//! # }
//! ```
//!
//! A stream that loses its connection goes on where it was, on another one; see [`Client::timeout`].
//!
//! What clients do runs on a thread of their own: it may be awaited on any executor, and its connections outlive the
//! runtime that it was first used on. `https` needs the program to have `reqwest` with a feature for it, such as
//! `rustls`.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, Runtime};
use tokio_util::task::AbortOnDropHandle;

use address::Address;

use crate::add_task::AddTask;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{TaskHandle, WaitError};
use crate::json::Json;
use crate::store::{Cancelled, List, Listed};
use crate::task::{AnyTask, Status, Task, TaskId, TaskRecord};
use crate::watch::{Events, Values};

mod address;
mod follow;
mod send;
mod sse;
mod typed;
mod verbs;

/// Where [`Qtasks::serve`](crate::Qtasks) listens unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:7717";

/// A server of tasks, as a program on the other side of HTTP sees it. Cheap to clone: clones share their connections.
///
/// Tasks are added by `.on(&client)` where there is a task function, else by [`add_task`](Self::add_task).
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    address: Address,
    token: Option<Arc<str>>,
    timeout: Duration,
    http: reqwest::Client,
    /// The same, unless that is bound to a socket.
    plain: reqwest::Client,
    blocking: Arc<OnceLock<reqwest::blocking::Client>>,
    runtime: Handle,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base()).finish_non_exhaustive()
    }
}

/// The one client of this process for a server: its connections are shared by all who ask for it.
///
/// Without a URL it is the environment variable `QTASKS_URL`, else [`DEFAULT_URL`].
///
/// # Errors
/// As [`Client::new`].
pub fn get_client<'a>(base_url: impl Into<Option<&'a str>>) -> Result<Client> {
    static CLIENTS: LazyLock<Mutex<HashMap<Address, Client>>> = LazyLock::new(Mutex::default);
    let from_env = || std::env::var("QTASKS_URL").ok().filter(|url| !url.is_empty());
    let address = match base_url.into() {
        Some(url) => Address::parse(url)?,
        None => Address::parse(&from_env().unwrap_or_else(|| DEFAULT_URL.to_owned()))?,
    };
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(&address) {
        return Ok(client.clone());
    }
    let client = Client::of(address.clone())?;
    clients.insert(address, client.clone());
    Ok(client)
}

/// What clients run on: requests wait for no runtime of the user's, and their connections end with none.
fn runtime() -> Result<Handle> {
    static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("qtasks-client").enable_all().build()
    });
    match &*RUNTIME {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(e) => Err(Error::new(ErrorKind::Unavailable, format!("no runtime: {e}"))),
    }
}

impl Client {
    /// A client with connections of its own, of the server at a URL: `http://host:port`, and the path below which it is
    /// nested, if any; or `unix:` and the path of a socket. See [`get_client`] for the one that a process shares.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for what is no such URL, [`Unavailable`](ErrorKind::Unavailable) if there is no
    /// thread.
    pub fn new(base_url: impl AsRef<str>) -> Result<Self> {
        Client::of(Address::parse(base_url.as_ref())?)
    }

    fn of(address: Address) -> Result<Self> {
        let none = |e| Error::new(ErrorKind::Unavailable, format!("no HTTP client: {e}"));
        // Streams are long: time-outs are those of each request. A server closes what is idle for 10 s.
        let builder = || {
            let builder = reqwest::Client::builder().connect_timeout(Duration::from_secs(10));
            builder.pool_idle_timeout(Duration::from_secs(8))
        };
        let plain = builder().build().map_err(none)?;
        let http = match &address.socket {
            #[cfg(unix)]
            Some(path) => builder().unix_socket(path.as_path()).build().map_err(none)?,
            _ => plain.clone(),
        };
        let token = std::env::var("QTASKS_TOKEN").ok();
        // The server reads the same variable, where scopes may follow.
        let token = token.and_then(|token| token.split_whitespace().next().map(Arc::from));
        let timeout = Duration::from_secs(60);
        let (blocking, runtime) = (Arc::default(), runtime()?);
        Ok(Client { inner: Arc::new(Inner { address, token, timeout, http, plain, blocking, runtime }) })
    }

    /// The bearer token that it shows. Defaults to the environment variable `QTASKS_TOKEN`, if there is one.
    #[must_use]
    pub fn token(mut self, token: impl AsRef<str>) -> Self {
        Arc::make_mut(&mut self.inner).token = Some(Arc::from(token.as_ref().trim()));
        self
    }

    /// How long a request may take; and for how long a stream, or whoever waits for a task, tries to reach a server that
    /// is not there. Defaults to 60 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.inner).timeout = timeout;
        self
    }

    /// The address of its server.
    pub fn base(&self) -> &str {
        &self.inner.address.text
    }

    /// A plain HTTP client, for any URL: the one whose connections this client uses, unless those go to a socket. It
    /// shows no token.
    pub fn async_client(&self) -> reqwest::Client {
        self.inner.plain.clone()
    }

    /// A plain HTTP client, for any URL, for those who don't await; see
    /// [`reqwest::blocking`](https://docs.rs/reqwest/latest/reqwest/blocking/) for where it can't be used. Its
    /// connections are its own. It shows no token.
    pub fn sync_client(&self) -> reqwest::blocking::Client {
        let make = || {
            // It can't be made where a runtime is.
            let made = std::thread::spawn(reqwest::blocking::Client::new).join();
            made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        self.inner.blocking.get_or_init(make).clone()
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.inner.runtime
    }

    /// Does something on the threads of clients, unless whoever waits for it goes away.
    async fn run<T: Send + 'static>(&self, future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let running = AbortOnDropHandle::new(self.runtime().spawn(future));
        running.await.unwrap_or_else(|e| Err(Error::new(ErrorKind::Unavailable, format!("the request broke off: {e}"))))
    }
}

impl Client {
    /// Adds a task by name, with arguments as JSON: an object by name, or an array by position.
    pub fn add_task(&self, name: impl Into<String>, args: impl serde::Serialize) -> AddTask<AnyTask> {
        AddTask::by_name(name.into(), Json::of(&args)).on(self)
    }

    /// A handle for a task whose function is not known here. Where it is: `TaskHandle::<f>::attach(&client, id)`.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn attach(&self, id: TaskId) -> Result<TaskHandle<AnyTask>> {
        TaskHandle::attach(self, id).await
    }

    /// A task as it is stored.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn record(&self, id: TaskId) -> Result<TaskRecord> {
        self.get(format!("/v1/tasks/{id}"), Vec::new()).await
    }

    /// Records that match, the newest first; 50 where the limit is 0, and at most 1,000.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a cursor that is none, [`Unavailable`](ErrorKind::Unavailable).
    pub async fn list(&self, list: List) -> Result<Listed> {
        self.get("/v1/tasks".to_owned(), verbs::query_of(list)).await
    }

    /// Waits for the end of a task, however long that takes.
    ///
    /// # Errors
    /// [`WaitError::Ended`] if it failed or was cancelled, [`WaitError::Store`].
    pub async fn result(&self, id: TaskId) -> Result<Task<AnyTask>, WaitError<AnyTask>> {
        self.handle(id).wait().await
    }

    /// Cancels a task. Cancelling again, or a task that has ended, changes nothing; one that was cancelled before
    /// counts as [`Done`](Cancelled::Done).
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn cancel(&self, id: TaskId, reason: impl Into<String>) -> Result<Cancelled> {
        self.cancel_with(id, reason.into()).await
    }

    /// Lets a task run that was added as [`held`](AddTask::held). A task in another status stays as it is.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn start_task(&self, id: TaskId) -> Result<Status> {
        self.start_held(id).await
    }

    /// Does an ended task again: see [`TaskHandle::retry`].
    ///
    /// # Errors
    /// As there.
    pub async fn retry(&self, id: TaskId) -> Result<TaskHandle<AnyTask>> {
        Ok(self.handle(self.again(id).await?))
    }

    /// The values of a task from the first on, read as `T`s, live until the end. The errors are those of [`Values`].
    pub fn stream<T: DeserializeOwned + Send + 'static>(&self, id: TaskId) -> BoxStream<'static, Result<T>> {
        self.stream_after(id, 0)
    }

    /// The values of a task that come after a place in its log, read as `T`s, live until the end.
    pub fn stream_after<T: DeserializeOwned + Send + 'static>(
        &self,
        id: TaskId,
        seq: u64,
    ) -> BoxStream<'static, Result<T>> {
        self.values::<typed::Yielding<T>>(id, seq).boxed()
    }

    /// Every event of the log of a task from a place on, void ones included, live until the end. 0 and 1 are the start.
    pub fn events_from(&self, id: TaskId, seq: u64) -> Events {
        Events::served(follow::follow(self, id, follow::Which::All, seq.max(1)))
    }

    fn handle(&self, id: TaskId) -> TaskHandle<AnyTask> {
        TaskHandle::at(crate::place::At::Server(self.clone()), id)
    }

    pub(crate) fn values<F: crate::Generates>(&self, id: TaskId, after_seq: u64) -> Values<F> {
        let events = follow::follow(self, id, follow::Which::Holding, after_seq.saturating_add(1));
        Values::served(events, id, after_seq, self.runtime())
    }
}
