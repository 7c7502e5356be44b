//! [`Target`]: what a command speaks to: a store, or a server.
//!
//! Invariant: no command that watches or adds sees more of it than these functions.

use std::future::ready;
use std::ops::Range;
use std::path::Path;

use async_stream::stream;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use crate::add_task::AddTask;
use crate::app::{Builder, Qtasks};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::handle::TaskHandle;
use crate::json::Json;
use crate::registry::{self, Published};
use crate::store::{Cancelled, List, Listed};
use crate::task::{AnyTask, Status, TaskId, TaskRecord, TaskSpec};

use super::args;

/// What a command speaks to.
pub(super) struct Target {
    behind: Behind,
    /// The URL of its store, or of the server.
    pub(super) url: String,
    /// Tasks run in this process, and are gone with it.
    pub(super) is_here: bool,
}

enum Behind {
    Store(Qtasks),
    Server(Client),
}

/// A task function: of this program, or one that a worker has published, or of the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) queue: String,
    pub(super) generating: bool,
    pub(super) args: Vec<Arg>,
}

/// An argument of a task function.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Arg {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) ty: String,
    pub(super) required: bool,
    pub(super) default: Option<String>,
}

impl Function {
    fn linked(name: &str, spec: &TaskSpec) -> Self {
        let args = spec.args.iter().map(|arg| Arg {
            name: arg.name.to_owned(),
            ty: arg.ty.to_owned(),
            required: arg.required,
            default: arg.default.map(str::to_owned),
        });
        Function {
            name: name.to_owned(),
            description: spec.description.map(str::to_owned),
            queue: spec.queue.to_owned(),
            generating: spec.generating,
            args: args.collect(),
        }
    }

    fn published(name: String, published: &Published) -> Self {
        let args = published.args().map(|(name, ty, required)| Arg {
            name: name.to_owned(),
            ty: ty.to_owned(),
            required,
            default: None,
        });
        let (queue, generating) = (published.queue.clone(), published.generating);
        Function { name, description: None, queue, generating, args: args.collect() }
    }
}

/// Whether a store is in the memory of its process.
pub(super) fn is_memory(url: &str) -> bool {
    url == "memory" || url.starts_with("memory:")
}

/// Whether a URL is that of a server.
pub(super) fn is_server(url: &str) -> bool {
    ["http:", "https:", "unix:"].iter().any(|scheme| url.starts_with(scheme))
}

/// A client with the token of the environment; on this machine with that of this user, if there is none.
fn client(url: &str) -> Result<Client> {
    let client = Client::new(url)?;
    let host = url.split_once("://").map_or("", |(_, rest)| rest);
    let is_here = ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .any(|name| host.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/'])));
    let is_named = std::env::var_os("QTASKS_TOKEN").is_some_and(|token| !token.is_empty());
    if is_named || !(is_here || url.starts_with("unix:")) {
        return Ok(client);
    }
    Ok(match crate::http::own_token()? {
        Some(token) => client.token(token),
        None => client,
    })
}

/// What a command says that needs the store itself.
pub(super) fn check(url: &str, command: &str) -> Result<()> {
    if is_server(url) {
        let message = format!(
            "`{url}` (of `--store` or `QTASKS_URL`) is a server, and `{command}` needs a store: give `--store sqlite:PATH`"
        );
        return Err(Error::invalid(message));
    }
    Ok(())
}

/// Whether a store is there; one of which nobody knows may be.
pub(super) fn is_there(url: &str) -> bool {
    let Some(path) = url.strip_prefix("sqlite:") else { return true };
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Path::new(path.strip_prefix("//").unwrap_or(path)).exists()
}

impl Target {
    fn of_store(app: Qtasks, url: &str) -> Self {
        Target { behind: Behind::Store(app), url: url.to_owned(), is_here: false }
    }

    /// A store that is there, or a server.
    pub(super) async fn open(url: &str, builder: Builder) -> Result<Self> {
        if is_server(url) {
            return Ok(Target { behind: Behind::Server(client(url)?), url: url.to_owned(), is_here: false });
        }
        if builder.store.is_none() && is_memory(url) {
            return Err(Error::invalid(format!(
                "`{url}` is the memory of this process, in which there is nothing yet: give `--store sqlite:PATH`; `dev` \
                 and `run` take `memory:`"
            )));
        }
        if builder.store.is_none() && !is_there(url) {
            let message = format!(
                "the store `{url}` is not there: give another by `--store`, or begin it by `worker` or `migrate`; a server, \
                 such as that of `dev`, is reached by `--store http://127.0.0.1:7717` or as `QTASKS_URL`"
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(Target::of_store(builder.store(url).open().await?, url))
    }

    /// A store that requests are answered of: one in a file that is not there yet is made.
    pub(super) async fn to_serve(url: &str, builder: Builder) -> Result<Self> {
        if builder.store.is_none() && is_memory(url) {
            return Target::open(url, builder).await;
        }
        Ok(Target::of_store(builder.store(url).open().await?, url))
    }

    /// A store for a new task: in memory with a worker of its own, in a file also one that is not there yet.
    pub(super) async fn to_run(url: &str, builder: Builder) -> Result<Self> {
        if builder.store.is_none() && is_memory(url) {
            let app = builder.store(url).install().start().await?;
            return Ok(Target { is_here: true, ..Target::of_store(app, url) });
        }
        if builder.has_tasks() && !is_server(url) {
            return Ok(Target::of_store(builder.store(url).open().await?, url));
        }
        Target::open(url, builder).await
    }

    pub(super) async fn close(&self) {
        if let (Behind::Store(app), false) = (&self.behind, self.is_here) {
            // It never fails, and what would follow is the end of the process.
            let _ = app.shutdown().await;
        }
    }

    /// The app that has its store open; `command` can't do without.
    pub(super) fn app(&self, command: &str) -> Result<&Qtasks> {
        check(&self.url, command)?;
        match &self.behind {
            Behind::Store(app) => Ok(app),
            Behind::Server(_) => Err(Error::invalid(format!("`{command}` needs a store"))),
        }
    }

    async fn handle(&self, id: TaskId) -> Result<TaskHandle<AnyTask>> {
        match &self.behind {
            Behind::Store(app) => app.task(id).await,
            Behind::Server(client) => client.attach(id).await,
        }
    }

    /// The task functions, by name.
    pub(super) async fn functions(&self) -> Result<Vec<Function>> {
        let app = match &self.behind {
            Behind::Store(app) => app,
            Behind::Server(client) => return client.functions().await,
        };
        let mut all = linked(app);
        for (name, published) in Published::all(&**app.store()).await? {
            if all.iter().all(|function| function.name != name) {
                all.push(Function::published(name, &published));
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The task function of a name.
    pub(super) async fn function(&self, name: &str) -> Result<Function> {
        let mut all = self.functions().await?;
        if let Some(at) = all.iter().position(|function| function.name == name) {
            return Ok(all.swap_remove(at));
        }
        let names: Vec<&str> = all.iter().map(|function| function.name.as_str()).collect();
        let near = registry::near(name, &names);
        let way_out = match (names.is_empty(), near) {
            (true, _) => format!("; no worker has made any known in `{}`: start one there first", self.url),
            (false, Some(near)) => format!("; did you mean {near}?"),
            (false, None) => "; `tasks` lists those that there are".to_owned(),
        };
        Err(Error::new(ErrorKind::NotFound, format!("no task named {name:?}{way_out}")))
    }

    /// Adds a task.
    pub(super) async fn add(&self, run: &args::Run, call: Json) -> Result<TaskId> {
        let task = AddTask::<AnyTask>::by_name(run.task.clone(), Ok(call));
        let mut task = match &self.behind {
            Behind::Store(app) => task.on(app),
            Behind::Server(client) => task.on(client),
        };
        macro_rules! set {
            ($($setter:ident: $value:expr;)*) => { $( if let Some(value) = $value { task = task.$setter(value); } )* };
        }
        set! {
            queue: run.queue.as_deref();
            priority: run.priority;
            delay: run.delay;
            retry: run.retry;
            time_limit: run.time_limit;
            unique: run.unique.as_deref();
            expires: run.expires;
            idempotency_key: run.idempotency_key.as_deref();
        }
        for tag in &run.tag {
            task = task.tag(tag.as_str());
        }
        if run.held {
            task = task.held();
        }
        Ok(task.await?.id())
    }

    pub(super) async fn record(&self, id: TaskId) -> Result<TaskRecord> {
        self.handle(id).await?.record().await
    }

    pub(super) async fn list(&self, list: List) -> Result<Listed> {
        match &self.behind {
            Behind::Store(app) => app.list(list).await,
            Behind::Server(client) => client.list(list).await,
        }
    }

    pub(super) async fn cancel(&self, id: TaskId, reason: String) -> Result<Cancelled> {
        self.handle(id).await?.cancel(reason).await
    }

    pub(super) async fn retry(&self, id: TaskId) -> Result<TaskId> {
        Ok(self.handle(id).await?.retry().await?.id())
    }

    pub(super) async fn start(&self, id: TaskId) -> Result<Status> {
        match &self.behind {
            Behind::Store(app) => app.start_task(id).await,
            Behind::Server(client) => client.start_task(id).await,
        }
    }

    /// Whether the values of a task are what it yields.
    pub(super) async fn is_generating(&self, record: &TaskRecord) -> Result<bool> {
        match &self.behind {
            Behind::Store(app) => crate::handle::is_generating(app.core(), &record.name).await,
            Behind::Server(client) => client.is_generating(&record.name).await,
        }
    }

    /// The log of a task in a range, live until its end: what holds of it by now, or all.
    pub(super) async fn events(
        &self,
        id: TaskId,
        seqs: Range<u64>,
        all: bool,
    ) -> Result<BoxStream<'static, Result<Event>>> {
        if seqs.is_empty() {
            return Ok(stream::empty().boxed());
        }
        let handle = self.handle(id).await?;
        let rewinds = handle.record().await?.rewinds;
        let events = stream! {
            for await event in handle.events_from(seqs.start) {
                let is_last = event.as_ref().is_ok_and(|event| event.seq >= seqs.end - 1);
                yield event;
                if is_last {
                    return;
                }
            }
        };
        if all || rewinds.is_empty() {
            return Ok(events.boxed());
        }
        let holds = move |event: &Event| {
            rewinds.iter().filter(|rewind| rewind.seq > event.seq).all(|rewind| match event.kind {
                EventKind::Yield { index, .. } => index < rewind.to,
                EventKind::Event { index, .. } | EventKind::Log { index, .. } => index <= rewind.to,
                _ => true,
            })
        };
        Ok(events.try_filter(move |event| ready(holds(event))).boxed())
    }
}

/// The task functions of this program.
pub(super) fn linked(app: &Qtasks) -> Vec<Function> {
    app.registered().map(|(name, spec)| Function::linked(name, spec)).collect()
}
