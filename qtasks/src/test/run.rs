//! [`run_inline`]: one run of a body, in place.

use std::any::TypeId;
use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;

use crate::add_task::AddTask;
use crate::app::current::Scope;
use crate::context::{ResumePoint, States};
use crate::inline::{self, Recorder, SentEvent, Start};
use crate::json::Json;
use crate::registry::{Choice, Registry};
use crate::task::{TaskFailure, TaskFn};

/// Runs the body of a task in place, once, and records what it does: no store, no worker, no retry, no limit, and
/// neither executor nor middleware nor receivers. The settings of the task count for nothing.
///
/// `State`s come from [`state`](RunInline::state), or from the app that the task names by `.on(&app)`; that is also
/// where the body adds tasks.
pub fn run_inline<F: TaskFn>(task: AddTask<F>) -> RunInline<F> {
    RunInline { task, states: States::new(), attempt: 1, resume: ResumePoint::default() }
}

/// A run about to begin: set what it needs, then await it.
#[must_use = "a body runs when this is awaited"]
pub struct RunInline<F: TaskFn> {
    task: AddTask<F>,
    states: States,
    attempt: u32,
    resume: ResumePoint,
}

impl<F: TaskFn> fmt::Debug for RunInline<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunInline").field("task", &self.task).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl<F: TaskFn> RunInline<F> {
    /// A value for the `State` of its type.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// Which attempt the body sees. Defaults to 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// What the attempts before this one stored: what the `Resume` of the body begins after.
    ///
    /// # Panics
    /// If a value can't be written as JSON.
    pub fn resuming(mut self, values: impl IntoIterator<Item = F::Yield>) -> Self {
        let write = F::__codec().yields.write;
        for value in values {
            let mut out = Vec::new();
            write(&value, &mut out).unwrap_or_else(|e| panic!("a value to resume after can't be written: {e}"));
            self.resume.last = Some(Json::trusted(out.into()));
            self.resume.count += 1;
        }
        self
    }

    /// What an attempt before this one kept by `ctx.checkpoint`.
    ///
    /// # Panics
    /// If it can't be written as JSON.
    pub fn checkpoint<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        let value = Json::of(value).unwrap_or_else(|e| panic!("the checkpoint can't be written: {e}"));
        self.resume.checkpoint = Some(value);
        self
    }

    async fn run(self) -> InlineRun<F> {
        let RunInline { task, mut states, attempt, resume } = self;
        let (core, spec, name, args) = task.into_plain().parts();
        let args = args.unwrap_or_else(|e| panic!("the arguments of `{}`: {e}", name.as_deref().unwrap_or(F::NAME)));
        let mut known = None;
        let registry = match &core {
            Some(core) => &core.registry,
            None => &*known
                .insert(Arc::new(Registry::collect(Choice::default()).unwrap_or_else(|e| panic!("the tasks: {e}")))),
        };
        let spec = match &name {
            Some(name) => registry.get(name).unwrap_or_else(|| panic!("{}", registry.unknown(name))),
            None => registry.own(spec),
        };
        if let Some(core) = &core {
            for (of, state) in core.states.iter() {
                states.entry(*of).or_insert_with(|| Arc::clone(state));
            }
        }
        let recorder = Recorder::new(tokio::runtime::Handle::current());
        let scope = core.as_ref().map(Scope::new);
        let at = Start { states: Arc::new(states), attempt, resume, scope };
        let returned = inline::run(&recorder, spec, args, at).await;
        let recorded = recorder.take();
        let codec = F::__codec();
        let unread = |e: serde_json::Error| -> ! { panic!("what `{}` did can't be read again: {e}", spec.name) };
        let outcome = returned.map(|last| {
            let last = last.as_ref().map(Json::as_bytes);
            let yields = recorded.yields.iter().map(Json::as_bytes);
            // By its name alone a plain task looks like a generator: what it returned is all its values.
            let read = if spec.generating { codec.read(yields, last) } else { codec.read(last.into_iter(), last) };
            let (returning, final_value) = read.unwrap_or_else(|e| unread(e));
            Finished { returning, final_value }
        });
        let yields = recorded.yields.iter().map(|y| (codec.yields.read)(y.as_bytes()).unwrap_or_else(|e| unread(e)));
        InlineRun { yields: yields.collect(), events: recorded.events, checkpoints: recorded.checkpoints, outcome }
    }
}

impl<F: TaskFn> IntoFuture for RunInline<F>
where
    F::Yield: Send,
    F::Returning: Send,
    F::Final: Send,
{
    type Output = InlineRun<F>;
    type IntoFuture = BoxFuture<'static, InlineRun<F>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What one run of a body did.
#[non_exhaustive]
pub struct InlineRun<F: TaskFn> {
    /// What it yielded, after the handler; also of a run that failed.
    pub yields: Vec<F::Yield>,
    /// What it sent by `ctx.send_event`.
    pub events: Vec<SentEvent>,
    /// What it kept by `ctx.checkpoint`, all of it in order.
    pub checkpoints: Vec<Json>,
    /// How it ended. A run that cancelled itself failed, with kind `cancelled`.
    pub outcome: Result<Finished<F>, TaskFailure>,
}

/// What a run returned that ended well.
#[non_exhaustive]
pub struct Finished<F: TaskFn> {
    /// As [`Task::returning`](crate::Task::returning).
    pub returning: F::Returning,
    /// As [`Task::final_value`](crate::Task::final_value).
    pub final_value: F::Final,
}

impl<F: TaskFn> fmt::Debug for Finished<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").field("of", &F::NAME).finish_non_exhaustive()
    }
}

impl<F: TaskFn> fmt::Debug for InlineRun<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineRun")
            .field("of", &F::NAME)
            .field("yields", &self.yields.len())
            .field("events", &self.events)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl<F: TaskFn> InlineRun<F> {
    /// What it returned: of a generator the list of its values.
    ///
    /// # Panics
    /// If it failed, with how.
    #[track_caller]
    pub fn returning(&self) -> &F::Returning {
        &self.finished().returning
    }

    /// What a generator returned after its last yield.
    ///
    /// # Panics
    /// If it failed, with how.
    #[track_caller]
    pub fn final_value(&self) -> &F::Final {
        &self.finished().final_value
    }

    /// How it failed.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    pub fn failure(&self) -> &TaskFailure {
        match &self.outcome {
            Err(failure) => failure,
            Ok(_) => panic!("the run of `{}` did not fail, but ended well", F::NAME),
        }
    }

    #[track_caller]
    fn finished(&self) -> &Finished<F> {
        match &self.outcome {
            Ok(finished) => finished,
            Err(failure) => panic!("the run of `{}` did not end well: {failure}", F::NAME),
        }
    }
}
