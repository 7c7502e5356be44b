//! [`Target`]: what a command speaks to, which is a store.
//!
//! Invariant: no command that watches or adds sees more of it than these functions, so that a server can stand behind
//! them as well.

use std::future::ready;
use std::path::Path;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use crate::app::{Builder, Qtasks};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::json::Json;
use crate::registry::{self, Published};
use crate::store::{Cancelled, List, Listed};
use crate::task::{Status, TaskId, TaskRecord, TaskSpec};

use super::args;

/// What a command speaks to.
pub(super) struct Target {
    pub(super) app: Qtasks,
    /// The URL of its store.
    pub(super) url: String,
    /// Tasks run in this process, and are gone with it.
    pub(super) is_here: bool,
}

/// A task function: of this program, or one that a worker has published.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) queue: String,
    pub(super) generating: bool,
    pub(super) args: Vec<Arg>,
}

/// An argument of a task function.
#[derive(Debug, Clone, Serialize)]
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

/// What is not a store, and what is not there.
pub(super) fn check(url: &str) -> Result<()> {
    if ["http:", "https:", "unix:"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(Error::invalid(format!(
            "`{url}` is a server, to which this version's command line can't speak yet: give the store that it serves, \
             `--store sqlite:PATH`, or use `curl`"
        )));
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
    /// A store that is there.
    pub(super) async fn open(url: &str, builder: Builder) -> Result<Self> {
        check(url)?;
        if builder.store.is_none() && is_memory(url) {
            return Err(Error::invalid(format!(
                "`{url}` is the memory of this process, in which there is nothing yet: give `--store sqlite:PATH`; `dev` \
                 and `run` take `memory:`"
            )));
        }
        if builder.store.is_none() && !is_there(url) {
            let message = format!(
                "the store `{url}` is not there: give another by `--store`, or begin it by `worker` or `migrate`"
            );
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(Target { app: builder.store(url).open().await?, url: url.to_owned(), is_here: false })
    }

    /// A store for a new task: in memory with a worker of its own, in a file also one that is not there yet.
    pub(super) async fn to_run(url: &str, builder: Builder) -> Result<Self> {
        if builder.store.is_none() && is_memory(url) {
            let app = builder.store(url).install().start().await?;
            return Ok(Target { app, url: url.to_owned(), is_here: true });
        }
        if builder.has_tasks() && check(url).is_ok() {
            return Ok(Target { app: builder.store(url).open().await?, url: url.to_owned(), is_here: false });
        }
        Target::open(url, builder).await
    }

    pub(super) async fn close(&self) {
        if !self.is_here {
            // It never fails, and what would follow is the end of the process.
            let _ = self.app.shutdown().await;
        }
    }

    /// The task functions, by name.
    pub(super) async fn functions(&self) -> Result<Vec<Function>> {
        let mut all = linked(&self.app);
        for (name, published) in Published::all(&**self.app.store()).await? {
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
        let mut task = self.app.add_task(run.task.as_str(), call);
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
        self.app.task(id).await?.record().await
    }

    pub(super) async fn list(&self, list: List) -> Result<Listed> {
        self.app.list(list).await
    }

    pub(super) async fn cancel(&self, id: TaskId, reason: String) -> Result<Cancelled> {
        self.app.task(id).await?.cancel(reason).await
    }

    pub(super) async fn retry(&self, id: TaskId) -> Result<TaskId> {
        Ok(self.app.task(id).await?.retry().await?.id())
    }

    pub(super) async fn start(&self, id: TaskId) -> Result<Status> {
        self.app.start_task(id).await
    }

    /// Whether the values of a task are what it yields.
    pub(super) async fn is_generating(&self, record: &TaskRecord) -> Result<bool> {
        self.app.task(record.id).await?.is_generating(&record.name).await
    }

    /// The log of a task from a place on, live until its end: what holds of it by now, or all.
    pub(super) async fn events(&self, id: TaskId, from: u64, all: bool) -> Result<BoxStream<'static, Result<Event>>> {
        let handle = self.app.task(id).await?;
        let rewinds = handle.record().await?.rewinds;
        let events = handle.events_from(from);
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
