//! Bodies that run in place: without a store, a worker, or anybody else.
//!
//! Invariant: what a body does is recorded in the order in which it does it, and nothing is asked of anyone.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context as Cx, Poll, Waker};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::sync::{Notify, oneshot};

use crate::app::current::{self, Scope};
use crate::context::{Attempt, Context, ResumePoint, States};
use crate::erased::{Item, Run};
use crate::error::Result;
use crate::json::Json;
use crate::panics::{caught, dropped};
use crate::task::{FailureKind, Start as Body, TaskFailure, TaskId, TaskSpec};
use crate::worker::threads;

/// Where a run begins.
pub(crate) struct Start {
    pub(crate) states: Arc<States>,
    pub(crate) attempt: u32,
    pub(crate) resume: ResumePoint,
    /// The app that the body adds tasks to; `None` for that of whoever runs it.
    pub(crate) scope: Option<Scope>,
}

/// A custom event as it was sent.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "test"), expect(unreachable_pub, reason = "it is the test kit's"))]
pub struct SentEvent {
    /// How many yields the run had made before it.
    pub index: u64,
    /// Its name.
    pub name: String,
    /// Its data.
    pub data: Json,
}

/// What a body did.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) yields: Vec<Json>,
    pub(crate) events: Vec<SentEvent>,
    pub(crate) checkpoints: Vec<Json>,
}

impl Recorded {
    /// The yields as one list.
    pub(crate) fn list(&self) -> Json {
        Json::list(self.yields.iter().map(Json::as_bytes))
    }
}

#[derive(Default)]
struct State {
    recorded: Recorded,
    /// Before the first yield of this run, those of runs before it.
    before: u64,
    stop: Option<TaskFailure>,
}

/// What a body is given instead of an attempt: it keeps what the body asks for.
pub(crate) struct Recorder {
    state: Mutex<State>,
    /// There is a `stop`.
    stopped: AtomicBool,
    body: AtomicWaker,
    changed: Notify,
    runtime: tokio::runtime::Handle,
    me: Weak<Recorder>,
}

impl Recorder {
    pub(crate) fn new(runtime: tokio::runtime::Handle) -> Arc<Self> {
        Arc::new_cyclic(|me| Recorder {
            state: Mutex::default(),
            stopped: AtomicBool::new(false),
            body: AtomicWaker::new(),
            changed: Notify::new(),
            runtime,
            me: me.clone(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is so far, which it keeps no longer.
    pub(crate) fn take(&self) -> Recorded {
        std::mem::take(&mut self.state().recorded)
    }

    fn yields(&self) -> u64 {
        let state = self.state();
        state.before + state.recorded.yields.len() as u64
    }

    fn stop(&self, failure: TaskFailure) {
        self.state().stop.get_or_insert(failure);
        self.stopped.store(true, Ordering::SeqCst);
        self.body.wake();
        self.changed.notify_waiters();
    }

    fn check(&self) -> Result<(), TaskFailure> {
        let stop = if self.stopped.load(Ordering::SeqCst) { self.state().stop.clone() } else { None };
        stop.map_or(Ok(()), Err)
    }
}

impl Attempt for Recorder {
    fn send_event(&self, name: &str, data: Json) -> Result<()> {
        let index = self.yields();
        self.state().recorded.events.push(SentEvent { index, name: name.to_owned(), data });
        Ok(())
    }

    fn checkpoint(&self, data: Json) -> Result<()> {
        self.state().recorded.checkpoints.push(data);
        Ok(())
    }

    fn removes(&self, _: TaskId) {}

    fn flushed(&self) -> BoxFuture<'static, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn cancel(&self, reason: String) {
        self.stop(TaskFailure::new(FailureKind::Cancelled, reason));
    }

    fn is_cancelled(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn stopped(&self) -> BoxFuture<'static, ()> {
        let me = self.me.upgrade().expect("in use");
        Box::pin(async move {
            loop {
                let changed = me.changed.notified();
                let mut changed = pin!(changed);
                changed.as_mut().enable();
                if me.is_cancelled() {
                    return;
                }
                changed.await;
            }
        })
    }

    fn fail(&self, failure: TaskFailure) {
        self.stop(failure);
    }

    fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.clone()
    }
}

/// Runs a body to its end. Answers what it returned, if anything; the rest is with the recorder.
pub(crate) async fn run(
    recorder: &Arc<Recorder>,
    spec: &TaskSpec,
    args: Json,
    at: Start,
) -> Result<Option<Json>, TaskFailure> {
    let Start { states, attempt, resume, scope } = at;
    recorder.state().before = resume.count;
    let run = Arc::clone(recorder) as Arc<dyn Attempt>;
    let ctx = Context::new(TaskId::new(), spec.name.to_owned(), attempt, states, resume, run, None);
    let ended = match (&spec.made.start, spec.start) {
        (Some(start), _) => on_the_runtime(recorder, scope, || start(&ctx, args.as_bytes())).await,
        (None, Body::Async(start)) => on_the_runtime(recorder, scope, || start(&ctx, args.as_bytes())).await,
        (None, Body::Sync(start)) => {
            let (send, done) = oneshot::channel();
            let recorder = Arc::clone(recorder);
            let body = move || {
                let _scope = scope.as_ref().map(current::enter);
                let begun = caught(|| start(&ctx, args.as_bytes())).unwrap_or_else(Err);
                let result = begun.and_then(|run| {
                    let mut driven = pin!(drive(run, &recorder));
                    // A sync body is polled outside of any runtime; what waits all the same, within it.
                    match driven.as_mut().poll(&mut Cx::from_waker(Waker::noop())) {
                        Poll::Ready(result) => result,
                        Poll::Pending => recorder.runtime.block_on(driven),
                    }
                });
                let _ = send.send(result);
            };
            threads::run(Box::new(body))
                .map_err(|e| TaskFailure::new(FailureKind::Error, format!("no thread for a sync task: {e}")))?;
            done.await.unwrap_or_else(|_| Err(TaskFailure::new(FailureKind::Panic, "its thread ended")))
        }
    };
    ended.map_err(|failure| failure.in_attempt(attempt))
}

async fn on_the_runtime<R: Run + ?Sized>(
    recorder: &Recorder,
    scope: Option<Scope>,
    start: impl FnOnce() -> Result<Pin<Box<R>>, TaskFailure>,
) -> Result<Option<Json>, TaskFailure> {
    let mut driven = pin!(async { drive(caught(start).unwrap_or_else(Err)?, recorder).await });
    poll_fn(|cx| {
        let _scope = scope.as_ref().map(current::enter);
        driven.as_mut().poll(cx)
    })
    .await
}

async fn drive<R: Run + ?Sized>(mut run: Pin<Box<R>>, recorder: &Recorder) -> Result<Option<Json>, TaskFailure> {
    let ended = to_end(&mut run, recorder).await;
    dropped(run, "a body");
    ended
}

async fn to_end<R: Run + ?Sized>(run: &mut Pin<Box<R>>, recorder: &Recorder) -> Result<Option<Json>, TaskFailure> {
    let mut out = Vec::new();
    loop {
        out.clear();
        let item = polled(recorder, |cx| run.as_mut().poll_item(cx, &mut out).map(Ok)).await?;
        match item {
            Item::Yield { stored, .. } => {
                if !stored {
                    let handled = polled(recorder, |cx| run.as_mut().poll_handle(cx, &mut out).map_err(|f| *f));
                    handled.await.map_err(|failure| failure.at(recorder.yields()))?;
                }
                recorder.state().recorded.yields.push(Json::trusted(out.clone().into()));
            }
            Item::Return => return Ok((!out.is_empty()).then(|| Json::trusted(out.into()))),
            Item::Error(failure) => return Err(*failure),
        }
    }
}

/// Polls the body, until it brings something or is to stop.
async fn polled<T>(
    recorder: &Recorder,
    mut poll: impl FnMut(&mut Cx<'_>) -> Poll<Result<T, TaskFailure>>,
) -> Result<T, TaskFailure> {
    poll_fn(|cx| {
        recorder.body.register(cx.waker());
        recorder.check()?;
        let polled = caught(|| poll(cx)).unwrap_or_else(|failure| Poll::Ready(Err(failure)));
        // What the body asked for before it came here.
        if polled.is_ready() {
            recorder.check()?;
        }
        polled
    })
    .await
}
