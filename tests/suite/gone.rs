//! Attempts that are gone before they end: those of a runtime that has ended, and those that user code breaks.

use std::fmt;
use std::future::Future;
use std::panic::panic_any;
use std::pin::Pin;
use std::task::{Context as Cx, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use qtasks::prelude::*;
use qtasks::store::List;
use qtasks::{
    Attempt, AttemptOutcome, Error, ErrorKind, Executed, Execution, FailureKind, Middleware, Next, Propagator, Status,
    TaskExecutor, TaskFailure, TaskSpec, TraceContext, WaitError,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::runtime::Runtime;

use crate::{app_of, soon, store_named, until, until_async};

/// Longer than any test may take: what is given back before was not lost.
const HOUR: Duration = Duration::from_secs(3600);

// ---- a runtime that has ended

/// Its first attempt never ends.
#[task]
async fn waits(ctx: Context) -> u32 {
    yield_!(1);
    if ctx.attempt() == 1 {
        std::future::pending::<()>().await;
    }
    yield_!(2);
}

/// Its first attempt ends when it is told to.
#[task]
fn waits_sync(ctx: Context) -> u32 {
    yield_!(1);
    while ctx.attempt() == 1 && !ctx.cancelled() {
        ctx.sleep_blocking(Duration::from_millis(5));
    }
    yield_!(2);
}

/// Its first attempt is in a middleware.
#[task]
async fn quick() -> u32 {
    7
}

#[task]
async fn takes(n: u32) -> u32 {
    n
}

#[derive(Debug)]
struct Stays;

impl Middleware for Stays {
    fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(async move {
            if attempt.context().attempt() == 1 {
                std::future::pending::<()>().await;
            }
            next.run(attempt).await
        })
    }
}

fn runtimes() -> [Runtime; 2] {
    [
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
    ]
}

/// An app on a runtime of its own.
async fn app_on(runtime: &Runtime, url: &str) -> Qtasks {
    let specs = [waits::spec(), waits_sync::spec(), quick::spec(), takes::spec()];
    let builder = Qtasks::builder().store(url).tasks(specs).lease(HOUR).scan(Duration::from_millis(100));
    let builder = builder.spec::<quick>(|spec| spec.layer(Stays));
    runtime.spawn(async move { builder.start().await }).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_ran_on_a_runtime_that_has_ended_is_given_back_uncounted() {
    for (i, runtime) in runtimes().into_iter().enumerate() {
        let url = store_named(&format!("runtime-{i}"));
        let app = app_on(&runtime, &url).await;
        let sees = Qtasks::open(&url).await.unwrap();
        let mut generators = Vec::new();
        for _ in 0..3 {
            generators.push(waits::add_task().on(&app).await.unwrap().id());
            generators.push(waits_sync::add_task().on(&app).await.unwrap().id());
        }
        let plain = quick::add_task().on(&app).await.unwrap().id();
        let yields = async |id| sees.task(id).await.unwrap().record().await.unwrap().yields;
        for id in &generators {
            until_async(async || yields(*id).await == 1).await;
        }
        until_async(async || sees.task(plain).await.unwrap().status().await.unwrap() == Status::Running).await;
        runtime.shutdown_background();

        let here = Runtime::new().unwrap();
        let other = app_on(&here, &url).await;
        for id in generators {
            let task = other.task(id).await.unwrap().wait_timeout(soon()).await.unwrap();
            assert_eq!(task.returning, [1, 2]);
            assert_eq!((task.record.attempt, task.record.failures, task.record.crashes), (2, 0, 0));
        }
        let task = TaskHandle::<quick>::attach(&other, plain).await.unwrap().wait_timeout(soon()).await.unwrap();
        assert_eq!((task.returning, task.record.attempt, task.record.crashes), (7, 2, 0));
        other.shutdown().await.unwrap();
        here.shutdown_background();
        drop(app);
    }
}

/// What an app answers that is asked for something, within a time that is long for an answer.
async fn refused<T>(what: &str, asked: impl Future<Output = Result<T, Error>>) {
    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await;
    let error = answer.unwrap_or_else(|_| panic!("{what} hangs")).err().unwrap_or_else(|| panic!("{what} is done"));
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
    assert!(error.to_string().contains("the runtime of this app has ended"), "{what}: {error}");
}

async fn waited<F: TaskFn>(wait: impl Future<Output = Result<qtasks::Task<F>, WaitError<F>>>) -> Result<(), Error> {
    wait.await.map(drop).map_err(Error::from)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_whose_runtime_has_ended_refuses_everything_at_once() {
    let runtime = Runtime::new().unwrap();
    let app = app_on(&runtime, &store_named("refuses")).await;
    let handle = waits::add_task().on(&app).await.unwrap();
    assert_eq!(handle.stream().try_next().await.unwrap(), Some(1));

    // What waits when it ends.
    let (of, also) = (handle.clone(), handle.clone());
    let waits_on = tokio::spawn(async move { waited(of.wait()).await });
    let waits_long = tokio::spawn(async move { waited(also.wait_timeout(HOUR)).await });
    let mut values = handle.stream().idle_timeout(HOUR);
    assert_eq!(values.try_next().await.unwrap(), Some(1));
    let reads_on = tokio::spawn(async move { values.try_next().await });
    let mut events = handle.events_from(1);
    let reads_all = tokio::spawn(async move {
        while events.try_next().await?.is_some() {}
        Ok::<_, Error>(())
    });
    let blocks = handle.clone();
    let blocks = tokio::task::spawn_blocking(move || blocks.wait_blocking().map(drop).map_err(Error::from));
    tokio::task::yield_now().await;
    runtime.shutdown_background();
    refused("a wait", async { waits_on.await.unwrap() }).await;
    refused("a wait with a limit", async { waits_long.await.unwrap() }).await;
    refused("a stream", async { reads_on.await.unwrap() }).await;
    refused("events", async { reads_all.await.unwrap() }).await;
    refused("a blocking wait", async { blocks.await.unwrap() }).await;

    // What comes later.
    refused("wait", waited(handle.wait())).await;
    refused("wait_timeout", waited(handle.wait_timeout(HOUR))).await;
    refused("status", handle.status()).await;
    refused("cancel", handle.cancel("no use")).await;
    refused("retry", handle.retry()).await;
    refused("failures", handle.failures()).await;
    refused("stream", async { handle.stream().try_next().await }).await;
    refused("stream_after", async { handle.stream_after(2).idle_timeout(HOUR).try_next().await }).await;
    refused("events_from", async { handle.events_from(9).try_next().await }).await;
    refused("add_task", quick::add_task().on(&app).into_future()).await;
    refused("add_task with a limit", waited(quick::add_task().on(&app).timeout(HOUR).into_future())).await;
    refused("add_task by name", app.add_task("quick", serde_json::json!([])).into_future()).await;
    refused("add_all", app.add_all([quick::add_task()])).await;
    refused("start_task", app.start_task(handle.id())).await;
    refused("attach", TaskHandle::<waits>::attach(&app, handle.id())).await;
    refused("is_running", app.is_running(handle.id())).await;
    refused("running", app.running()).await;
    refused("list", app.list(List::default())).await;
    refused("stats", app.stats()).await;
    refused("install", async { app.install() }).await;
    refused("iter", async { takes::iter([1, 2]).on(&app).run().await.map(drop) }).await;
    let (of, on) = (handle.clone(), app.clone());
    let blocking = tokio::task::spawn_blocking(move || {
        let wait = of.wait_blocking().map(drop).map_err(Error::from);
        [wait, quick::add_task().on(&on).add_blocking().map(drop)]
    });
    for answer in blocking.await.unwrap() {
        refused("a blocking call", async { answer }).await;
    }
    // Without any runtime.
    let (of, on) = (handle.clone(), app.clone());
    let outside = std::thread::spawn(move || {
        let wait = futures::executor::block_on(waited(of.wait_timeout(HOUR)));
        [wait, futures::executor::block_on(on.shutdown())]
    });
    for answer in outside.join().unwrap() {
        refused("a call without a runtime", async { answer }).await;
    }
    refused("shutdown", app.shutdown()).await;
}

// ---- bombs: user code that panics, and leaves behind what panics

/// Panics when it is dropped, with another that does.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        // Not while a panic is on its way: that would end the process.
        if self.0 > 0 && !std::thread::panicking() {
            panic_any(Bomb(self.0 - 1));
        }
    }
}

fn explode() -> ! {
    panic_any(Bomb(3))
}

/// A future that waits once, and panics when it is dropped.
struct Waits(Option<Bomb>);

impl Future for Waits {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Cx<'_>) -> Poll<()> {
        match self.0.replace(Bomb(2)) {
            Some(bomb) => {
                std::mem::forget(bomb);
                Poll::Ready(())
            }
            None => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

#[task]
async fn in_body() -> u32 {
    explode()
}

#[task]
fn in_sync_body() -> u32 {
    explode()
}

#[task]
async fn in_generator() -> u32 {
    yield_!(1);
    explode()
}

#[task]
fn in_sync_generator() -> u32 {
    yield_!(1);
    explode()
}

fn explodes(_: u32) -> u32 {
    explode()
}

#[task(generate_handler = explodes)]
async fn in_handler() -> u32 {
    yield_!(1);
}

/// What it holds is dropped with the body, which is over.
#[task]
async fn in_drop() -> u32 {
    let _held = Bomb(2);
    3
}

#[task(time_limit = "20ms")]
async fn in_drop_at_limit() -> u32 {
    let _held = Bomb(2);
    std::future::pending::<()>().await;
    3
}

/// An error whose text can't be told.
struct Untold;

impl fmt::Display for Untold {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        explode()
    }
}

#[task]
async fn in_display() -> Result<u32, Untold> {
    Err(Untold)
}

/// A value that can be written or read by nobody.
struct Unwritten;

impl Serialize for Unwritten {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        explode()
    }
}

impl<'de> Deserialize<'de> for Unwritten {
    fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        explode()
    }
}

#[task]
async fn in_serialize() -> Unwritten {
    yield_!(Unwritten);
}

fn explodes_too(_: &TaskFailure) -> bool {
    explode()
}

#[task(retry = 1, backoff = none, retry_on = explodes_too)]
async fn in_retry_on() -> Result<u32, String> {
    Err("broken".to_owned())
}

/// A stream of one value, which panics when it is dropped.
struct Ends(Option<u32>, #[expect(dead_code, reason = "it is dropped")] Bomb);

impl futures::Stream for Ends {
    type Item = u32;
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Cx<'_>) -> Poll<Option<u32>> {
        Poll::Ready(self.0.take())
    }
}

#[task(stream)]
fn in_stream_drop() -> impl futures::Stream<Item = u32> {
    Ends(Some(1), Bomb(2))
}

#[derive(Debug)]
enum Executor {
    Call,
    Poll,
    Drop,
}

impl TaskExecutor for Executor {
    fn execute<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        match self {
            Executor::Call => explode(),
            Executor::Poll => Box::pin(async { explode() }),
            Executor::Drop => Box::pin(async move {
                let _held = Bomb(2);
                run.finish().await
            }),
        }
    }
}

enum Layer {
    Call,
    Poll,
    Drop,
    OnYield,
}

impl fmt::Debug for Layer {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        explode()
    }
}

impl Middleware for Layer {
    fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
        match self {
            Layer::Call => explode(),
            Layer::Poll => Box::pin(async { explode() }),
            Layer::Drop => Box::pin(async move {
                let _held = Bomb(2);
                next.run(attempt).await
            }),
            Layer::OnYield => Box::pin(next.run(attempt)),
        }
    }

    fn on_yield(&self, _: &Context, _: u64, _: &RawValue) {
        if let Layer::OnYield = self {
            explode()
        }
    }
}

#[task]
async fn plain() -> u32 {
    5
}

#[task]
async fn yields() -> u32 {
    yield_!(5);
}

/// Knows a trace, and what to do with none.
struct Traces;

impl Propagator for Traces {
    fn current(&self) -> Option<TraceContext> {
        explode()
    }
    fn adopt(&self, _: &tracing::Span, _: &TraceContext) {
        explode()
    }
}

fn specs() -> Vec<&'static TaskSpec> {
    vec![
        in_body::spec(),
        in_sync_body::spec(),
        in_generator::spec(),
        in_sync_generator::spec(),
        in_handler::spec(),
        in_drop::spec(),
        in_drop_at_limit::spec(),
        in_display::spec(),
        in_serialize::spec(),
        in_retry_on::spec(),
        in_stream_drop::spec(),
        plain::spec(),
        yields::spec(),
    ]
}

fn bombed() -> qtasks::Builder {
    Qtasks::builder().store(crate::store()).tasks(specs()).concurrency(1).lease(HOUR)
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Runs a task more often than there are slots, and then one that is sound.
async fn survives(app: &Qtasks, name: &str, kind: Option<FailureKind>) {
    for _ in 0..3 {
        let task = app.add_task(name, serde_json::json!([])).traceparent(TRACE).timeout(soon()).await;
        let failed = task
            .as_ref()
            .err()
            .map(|error| error.failure().unwrap_or_else(|| panic!("{name} does not end: {error}")).kind);
        assert_eq!(failed, kind, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_panic_of_user_code_takes_a_slot_with_it() {
    let app = bombed().start().await.unwrap();
    for (name, kind) in [
        ("in_body", Some(FailureKind::Panic)),
        ("in_sync_body", Some(FailureKind::Panic)),
        ("in_generator", Some(FailureKind::Panic)),
        ("in_sync_generator", Some(FailureKind::Panic)),
        ("in_handler", Some(FailureKind::Panic)),
        ("in_drop", Some(FailureKind::Panic)),
        ("in_drop_at_limit", Some(FailureKind::TimeLimit)),
        ("in_display", Some(FailureKind::Panic)),
        ("in_serialize", Some(FailureKind::Panic)),
        ("in_retry_on", Some(FailureKind::Error)),
        ("in_stream_drop", None),
    ] {
        survives(&app, name, kind).await;
        survives(&app, "plain", None).await;
    }
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_panic_around_a_body_takes_a_slot_or_the_worker_with_it() {
    let failed = Some(FailureKind::Panic);
    let around = Some(FailureKind::Middleware);
    let cases: Vec<(&str, qtasks::Builder, Option<FailureKind>)> = vec![
        ("execute", bombed().executor(Executor::Call), failed),
        ("execute, polled", bombed().executor(Executor::Poll), failed),
        ("execute, dropped", bombed().executor(Executor::Drop), failed),
        ("attempt", bombed().layer(Layer::Call), around),
        ("attempt, polled", bombed().layer(Layer::Poll), around),
        ("attempt, dropped", bombed().layer(Layer::Drop), around),
        ("on_yield", bombed().layer(Layer::OnYield), None),
        ("propagator", bombed().trace(Traces), None),
        ("before_job", bombed().before_job(|_| explode_late()), None),
        ("before_loop", bombed().before_loop(told), None),
        ("after_loop", bombed().after_loop(|_| Waits(None)), None),
        ("on_success", bombed().on_success(told), None),
    ];
    for (what, builder, kind) in cases {
        println!("{what}");
        let app = builder.start().await.unwrap();
        for name in ["plain", "yields"] {
            survives(&app, name, kind).await;
        }
        // Added without a trace, it asks for one.
        let added = yields::add_task().on(&app).await.unwrap();
        let ended = added.wait_timeout(soon()).await.map_err(|error| crate::failure(&error).kind);
        assert_eq!(ended.err(), kind, "{what}");
        app.shutdown().await.unwrap();
    }
}

fn told<S>(_: S) {
    explode()
}

async fn explode_late() {
    tokio::task::yield_now().await;
    explode()
}

#[tokio::test]
async fn arguments_that_panic_while_they_are_made_are_an_error() {
    let app = Qtasks::builder().store(crate::store()).tasks([takes::spec()]).lease(HOUR).start().await.unwrap();
    let made = || (0..2_000).map(|n| if n < 1_500 { n } else { explode() });
    let error = takes::iter(made()).on(&app).run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("argument 1500 of the `Iter`"), "{error}");
    // Those that are streamed end as well, and not when the lease is over.
    let mut values = takes::iter(made()).on(&app).stream().await.unwrap();
    let ended = tokio::time::timeout(soon(), async { while let Ok(Some(_)) = values.try_next().await {} }).await;
    ended.expect("the whole ends");
    app.shutdown().await.unwrap();
}

/// Those whose bodies are over are not counted as running on.
#[tokio::test]
async fn a_sync_body_that_explodes_after_its_limit_is_not_abandoned_for_ever() {
    #[task(time_limit = "20ms")]
    fn late(until: std::path::PathBuf) -> u32 {
        while !until.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        explode()
    }
    let app = app_of([late::spec()]).await;
    let file = crate::scratch().join("until");
    let error = late::add_task(file.clone()).on(&app).timeout(soon()).await.unwrap_err();
    assert_eq!(crate::failure(&error).kind, FailureKind::TimeLimit);
    assert_eq!(app.abandoned(), 1);
    std::fs::write(file, "").unwrap();
    until(|| app.abandoned() == 0).await;
}
