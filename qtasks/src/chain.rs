//! [`Chain`]: tasks one after the other, each with what the one before it returned. And [`pipe`](AddTask::pipe): each
//! value of one task is the argument of another.
//!
//! Both are tasks of their own, which a worker runs: whoever added them may go.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::Error as _;

use crate::add_task::{AddTask, Plain, Template};
use crate::app::Core;
use crate::builtin::{self, Link, Links, Piping};
use crate::erased;
use crate::error::{Error, ErrorKind, Result};
use crate::iter::Piped;
use crate::json::Json;
use crate::store::NewTask;
use crate::task::{Codec, Generates, TaskFn, TaskId, TaskSpec, Value};

/// Begins a chain: see [`Chain`].
pub fn chain<F: TaskFn>(first: AddTask<F>) -> Chain<F> {
    Chain { links: vec![Step { task: first.into_plain(), with: None }], last: PhantomData }
}

/// Tasks that run one after the other: `chain(fetch::add_task(url)).then::<parse>().then::<store>()`.
///
/// Each gets what the one before it returned as its first argument, of a generator the list of its values. The first
/// that fails ends the chain: it fails with that failure. The whole is one task, `qtasks.chain`, which takes no slot
/// of a worker; awaiting it is as with any [`AddTask`]. Its final value is what the last task returned, and its values
/// are what became of each.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use qtasks::chain;
/// use qtasks::prelude::*;
///
/// #[task]
/// async fn twice(n: i64) -> i64 {
///     2 * n
/// }
///
/// #[task]
/// async fn show(n: i64, unit: String) -> String {
///     format!("{n} {unit}")
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = qtasks::init("memory:").await?;
/// let shown = chain(twice::add_task(4)).then::<twice>().then_with::<show>("unit", "m");
/// let task = shown.timeout(Duration::from_secs(50)).await?;
/// assert_eq!(task.final_value, "16 m");
/// # app.shutdown().await
/// # }
/// ```
#[must_use = "a chain is added when it is awaited"]
pub struct Chain<G> {
    links: Vec<Step>,
    last: PhantomData<fn() -> G>,
}

struct Step {
    task: Plain,
    /// Arguments by name, beside the one that is passed on; `None` where none is.
    with: Option<Vec<(String, Result<Json, serde_json::Error>)>>,
}

impl<G> fmt::Debug for Chain<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("length", &self.links.len()).finish_non_exhaustive()
    }
}

impl<G: TaskFn> Chain<G> {
    /// Then this task, with what the one before it returned as its first argument.
    pub fn then<H: TaskFn>(self) -> Chain<H> {
        self.step::<H>(AddTask::empty(None), Some(Vec::new()))
    }

    /// Then this task, with another argument by its name; what the one before it returned is the first of the rest.
    pub fn then_with<H: TaskFn>(self, name: &str, value: impl Serialize) -> Chain<H> {
        self.step::<H>(AddTask::empty(None), Some(vec![(name.to_owned(), Json::of(&value))]))
    }

    /// Then this task, with arguments and settings of its own: nothing is passed on to it.
    pub fn then_task<H: TaskFn>(self, task: AddTask<H>) -> Chain<H> {
        self.step::<H>(task, None)
    }

    fn step<H: TaskFn>(
        mut self,
        task: AddTask<H>,
        with: Option<Vec<(String, Result<Json, serde_json::Error>)>>,
    ) -> Chain<H> {
        self.links.push(Step { task: task.into_plain(), with });
        Chain { links: self.links, last: PhantomData }
    }

    /// The chain as a task to be added, with all its settings.
    pub fn add_task(self) -> AddTask<Chained<G>> {
        let links = self.links;
        AddTask::late(Box::new(move |core| {
            Box::pin(async move {
                let mut all = Vec::with_capacity(links.len());
                for step in links {
                    all.push(link(core, step).await?);
                }
                arguments(&Links { links: all })
            })
        }))
    }

    /// As [`AddTask::timeout`] of the whole.
    pub fn timeout(self, timeout: Duration) -> AddTask<Chained<G>, Duration> {
        self.add_task().timeout(timeout)
    }
}

impl<G: TaskFn> IntoFuture for Chain<G> {
    type Output = <AddTask<Chained<G>> as IntoFuture>::Output;
    type IntoFuture = <AddTask<Chained<G>> as IntoFuture>::IntoFuture;

    fn into_future(self) -> Self::IntoFuture {
        self.add_task().into_future()
    }
}

async fn link(core: &Core, step: Step) -> Result<Link> {
    let Step { task, with } = step;
    let Some(with) = with else {
        let generating = task.is_generating();
        return Ok(Link { task: without_id(task.into_new(core, None).await?), takes: None, generating });
    };
    let Template { mut task, names, generating, .. } = task.template(core, None).await?;
    let mut args = Json::null();
    for (name, value) in &with {
        let value = value.as_ref().map_err(|e| Error::new(ErrorKind::Codec, format!("argument `{name}`: {e}")))?;
        args = crate::args::with_value(&args, name, value).map_err(Error::invalid)?;
    }
    task.args = args;
    let takes = takes(&task.name, names.unwrap_or_default(), &with)?;
    Ok(Link { task: without_id(task), takes: Some(takes), generating })
}

/// Its id is that of a part of the whole. The arguments of the whole are the same each time: so it can be added by key.
fn without_id(task: NewTask) -> NewTask {
    NewTask { id: TaskId::none(), ..task }
}

/// The first argument that is not given otherwise.
fn takes<T>(task: &str, names: Vec<String>, with: &[(String, T)]) -> Result<String> {
    if let Some((unknown, _)) = with.iter().find(|(name, _)| !names.contains(name)) {
        return Err(Error::invalid(format!("`{task}` has no argument `{unknown}`: it takes {}", names.join(", "))));
    }
    names.into_iter().find(|name| with.iter().all(|(given, _)| given != name)).ok_or_else(|| {
        let way = "give it one, or add it with its own by `.then_task(…)`";
        Error::invalid(format!("`{task}` has no argument left for what is passed on to it: {way}"))
    })
}

fn arguments(plan: &impl Serialize) -> Result<Json> {
    Json::of(plan).map_err(|e| Error::new(ErrorKind::Codec, format!("the tasks can't be written: {e}")))
}

/// The task that runs a [`Chain`] whose last task is `G`.
#[derive(Debug)]
pub struct Chained<G>(PhantomData<fn() -> G>);

impl<G: TaskFn> TaskFn for Chained<G> {
    type Yield = serde_json::Value;
    type Returning = Vec<serde_json::Value>;
    type Final = G::Returning;
    const NAME: &'static str = builtin::CHAIN;

    fn spec() -> &'static TaskSpec {
        builtin::get(builtin::CHAIN).expect("there is one of that name")
    }

    fn __codec() -> Codec<Self> {
        let last = Value {
            write: |_, _| Err(serde_json::Error::custom("results are not written")),
            read: |raw| G::__codec().returning(raw),
        };
        Codec::generating(erased::value(), last)
    }
}

impl<G: TaskFn> Generates for Chained<G> {}

impl<F: Generates> AddTask<F> {
    /// Runs another task for each value that this one yields, and gathers what they return, in that order. The value is
    /// the first argument; at most 256 run ahead.
    ///
    /// The whole is one task, `qtasks.pipe`, with a log like that of an [`Iter`](crate::Iter). If this one fails, it
    /// fails too, once what was yielded is done; so it does if an attempt of this one takes back values that were fed
    /// to the other already.
    pub fn pipe<G: TaskFn>(self) -> AddTask<Piped<G>> {
        let (source, task) = (self.into_plain(), AddTask::<G>::empty(None).into_plain());
        AddTask::late(Box::new(move |core| {
            Box::pin(async move {
                let source = without_id(source.into_new(core, None).await?);
                let Template { task, names, generating, .. } = task.template(core, None).await?;
                let takes = takes::<()>(&task.name, names.unwrap_or_default(), &[])?;
                arguments(&Piping { source, task: without_id(task), takes, generating })
            })
        }))
    }
}
