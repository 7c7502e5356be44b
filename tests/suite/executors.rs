//! What is around a body: executors, middlewares, and specs that one app has changed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use qtasks::prelude::*;
use qtasks::{
    Attempt, AttemptOutcome, ErrorKind, Executed, Execution, FailureKind, Json, Middleware, Next, RetryPolicy, Status,
    TaskExecutor, TaskFailure, TaskSpec, Tower,
};
use serde_json::json;
use serde_json::value::RawValue;

use crate::{app_of, failure, kinds, soon, store_named};

fn builder(specs: impl IntoIterator<Item = &'static TaskSpec>) -> qtasks::Builder {
    Qtasks::builder().store(crate::store()).tasks(specs)
}

/// One value: the sum of all.
#[derive(Debug)]
struct Sum;

impl TaskExecutor for Sum {
    fn run_task_gen<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        Box::pin(async move {
            let mut sum = 0;
            while let Some(value) = run.next::<i64>().await? {
                sum += value;
            }
            run.emit(&sum).await?;
            run.finish().await
        })
    }
}

/// The sum of each ten, and of the rest.
#[derive(Debug)]
struct Tens;

impl TaskExecutor for Tens {
    fn run_task_gen<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        Box::pin(async move {
            let mut batch = Vec::new();
            while let Some(value) = run.next::<i64>().await? {
                batch.push(value);
                if batch.len() == 10 {
                    run.emit(&batch.drain(..).sum::<i64>()).await?;
                }
            }
            if !batch.is_empty() {
                run.emit(&batch.iter().sum::<i64>()).await?;
            }
            run.finish().await
        })
    }
}

async fn plus_one(n: i64) -> i64 {
    n + 1
}

#[task(generate_handler = plus_one, executor = Sum)]
async fn summed(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task]
fn counted(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task]
async fn double(n: i64) -> i64 {
    2 * n
}

#[tokio::test]
async fn an_executor_folds_what_a_task_yields() {
    let app = app_of([summed::spec(), counted::spec()]).await;
    let task = summed::add_task(4).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [1 + 2 + 3 + 4], "what it sees has been through the handler");
    assert_eq!(summed::add_task(0).on(&app).timeout(soon()).await.unwrap().returning, [0]);
    assert_eq!(counted::add_task(2).on(&app).timeout(soon()).await.unwrap().returning, [0, 1]);
    assert_eq!(summed::spec().executor.unwrap().name(), "Sum");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn that_of_a_task_counts_where_the_app_has_one_too() {
    let app = builder([summed::spec(), counted::spec(), double::spec()]).executor(Tens).start().await.unwrap();
    // A sync body, whose executor is a future all the same.
    assert_eq!(counted::add_task(25).on(&app).timeout(soon()).await.unwrap().returning, [45, 145, 110]);
    assert_eq!(summed::add_task(20).on(&app).timeout(soon()).await.unwrap().returning, [210]);
    assert_eq!(double::add_task(4).on(&app).timeout(soon()).await.unwrap().returning, 8);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn two_apps_have_different_specs_of_one_function() {
    let plain = app_of([counted::spec()]).await;
    let policy = RetryPolicy::times(7);
    let changed = builder([counted::spec()])
        .spec::<counted>(move |s| s.priority(1).queue("own").description("changed").retry(policy))
        .spec::<counted>(|s| s.executor(Sum).time_limit(Some(Duration::from_secs(9))))
        .start()
        .await
        .unwrap();
    let one = counted::add_task(3).on(&plain).timeout(soon()).await.unwrap();
    assert_eq!((one.returning, one.record.priority, &*one.record.queue), (vec![0, 1, 2], 0, "default"));
    let other = counted::add_task(3).on(&changed).timeout(soon()).await.unwrap();
    assert_eq!((other.returning, other.record.priority, &*other.record.queue), (vec![3], 1, "own"));
    let by_name = changed.add_task("counted", [4]).timeout(soon()).await.unwrap();
    assert_eq!((by_name.returning, by_name.record.priority), (vec![json!(6)], 1));
    let (_, spec) = changed.registered().next().unwrap();
    assert_eq!(
        (spec.description, spec.retry.retries, spec.time_limit),
        (Some("changed"), 7, Some(Duration::from_secs(9)))
    );
    assert_eq!(counted::spec().priority, 0);
    let error = builder([double::spec()]).spec::<counted>(|s| s.priority(1)).start().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("`.spec::<counted>(…)`")), (ErrorKind::NotFound, true));
    plain.shutdown().await.unwrap();
    changed.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_can_be_made_without_the_macro() {
    let shout = TaskSpec::dynamic("shout", |ctx: Context, args: Json| async move {
        let words: Vec<String> = args.get().map_err(|e| format!("{}: {e}", ctx.name()))?;
        Ok::<_, String>(words.join(" ").to_uppercase())
    });
    let count = TaskSpec::dynamic_gen("count", |_: Context, args: Json| {
        let n = args.get::<std::collections::BTreeMap<String, u32>>().unwrap()["to"];
        stream::iter_to(n)
    });
    let app = builder([]).register_spec(shout.clone()).register_spec(count.executor(Sum)).start().await.unwrap();
    let task = app.add_task("shout", ["a", "b"]).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, ["A B"]);
    let task = app.add_task("count", json!({ "to": 4 })).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [6]);
    let error = app.add_task("shout", json!({ "a": 1 })).timeout(soon()).await.unwrap_err();
    assert!(failure(&error).message.starts_with("shout: invalid type: map"), "{error}");
    // One that has no worker of its own knows it by what workers published.
    let named = store_named("dynamic");
    let worker = Qtasks::builder().store(&*named).tasks([]).register_spec(shout.clone()).start().await.unwrap();
    let other = Qtasks::builder().store(&*named).tasks([]).open().await.unwrap();
    assert_eq!(other.add_task("shout", ["x"]).timeout(soon()).await.unwrap().returning, ["X"]);
    let error = builder([]).register_spec(shout.clone()).register_spec(shout).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    for app in [app, worker, other] {
        app.shutdown().await.unwrap();
    }
}

mod stream {
    /// Numbers below `n`.
    pub(super) fn iter_to(n: u32) -> impl futures::Stream<Item = Result<u32, String>> {
        futures::stream::iter((0..n).map(Ok))
    }
}

/// On a second attempt units are compared, not items: what was emitted is in the log once.
#[tokio::test]
async fn an_executor_is_verified_unit_by_unit() {
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    static DIFFERS: AtomicUsize = AtomicUsize::new(usize::MAX);
    #[task(retry = 1, backoff = none)]
    async fn fails_once(n: i64) -> Result<i64, String> {
        let attempt = ATTEMPTS.fetch_add(1, Ordering::SeqCst);
        for i in 0..n {
            let differs = attempt == 1 && usize::try_from(i) == Ok(DIFFERS.load(Ordering::SeqCst));
            yield_!(if differs { 100 } else { i });
            if attempt == 0 && i == 34 {
                Err("once")?;
            }
        }
    }
    let app = builder([fails_once::spec()]).executor(Tens).start().await.unwrap();
    let task = fails_once::add_task(40).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [45, 145, 245, 345]);
    let log: Vec<_> = handle(&app, &task).events_from(0).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started yield yield yield retry started yield completed", "three units were found again");
    // Another item in the second unit: all before it holds.
    ATTEMPTS.store(0, Ordering::SeqCst);
    DIFFERS.store(15, Ordering::SeqCst);
    let task = fails_once::add_task(40).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [45, 145 - 15 + 100, 245, 345]);
    let log: Vec<_> = handle(&app, &task).events_from(0).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started yield yield yield retry started rewind yield yield yield completed");
    app.shutdown().await.unwrap();
}

/// Emits three values and fails; then one less, and returns what is too large.
#[derive(Debug)]
struct TooLarge(AtomicUsize);

impl TaskExecutor for TooLarge {
    fn execute<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        Box::pin(async move {
            let attempt = self.0.fetch_add(1, Ordering::SeqCst);
            for i in 0..3 - attempt {
                run.emit(&i).await?;
            }
            match attempt {
                0 => Err(TaskFailure::new(FailureKind::Error, "once")),
                _ => Ok(Some(Json::of(&"x".repeat(300_000)).unwrap())),
            }
        })
    }
}

/// An attempt that fails at its end has not come to its end: what was stored before it stays.
#[tokio::test]
async fn a_value_that_is_too_large_at_the_end_takes_nothing_back() {
    #[task(retry = 1, backoff = none)]
    async fn emits() -> i64 {
        yield_!(0);
    }
    let app = builder([emits::spec()]).executor(TooLarge(AtomicUsize::new(0))).start().await.unwrap();
    let handle = emits::add_task().on(&app).await.unwrap();
    let error = handle.wait().await.unwrap_err();
    assert_eq!(failure(&error).kind, FailureKind::Limit, "{error}");
    let log: Vec<_> = handle.events_from(0).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started yield yield yield retry started failed");
    app.shutdown().await.unwrap();
}

fn handle<F: TaskFn>(app: &Qtasks, task: &Task<F>) -> TaskHandle<qtasks::AnyTask> {
    let _ = app;
    futures::executor::block_on(app.task(task.id)).unwrap()
}

/// Fails in the way that it is told.
#[derive(Debug)]
struct Bad(&'static str);

impl TaskExecutor for Bad {
    fn execute<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        Box::pin(async move {
            match self.0 {
                "fails" => Err(TaskFailure::new(FailureKind::Error, "it said so")),
                "panics" => panic!("it panicked"),
                "emits" => run.emit(&1).await.map(|()| None),
                "reads" => run.next::<String>().await.map(|_| None),
                "waits" => std::future::pending().await,
                "sleeps" => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    let value = run.finish().await?;
                    Ok(value.map(|_| Json::of("slept").unwrap()))
                }
                _ => Ok(Some(Json::of(&"x".repeat(300_000)).unwrap())),
            }
        })
    }
}

#[tokio::test]
async fn an_executor_fails_like_a_body() {
    #[task]
    fn values() -> i64 {
        yield_!(1);
    }
    for (how, kind, message) in [
        ("fails", FailureKind::Error, "it said so"),
        ("panics", FailureKind::Panic, "it panicked"),
        ("reads", FailureKind::Codec, "the executor takes another type: "),
        ("large", FailureKind::Limit, "the returned value has 300002 bytes"),
    ] {
        let app = builder([values::spec()]).executor(Bad(how)).start().await.unwrap();
        let error = values::add_task().on(&app).timeout(soon()).await.unwrap_err();
        assert_eq!(failure(&error).kind, kind, "{how}: {error}");
        assert!(failure(&error).message.starts_with(message), "{how}: {error}");
        app.shutdown().await.unwrap();
    }
    let app = builder([double::spec()]).executor(Bad("emits")).start().await.unwrap();
    let error = double::add_task(1).on(&app).timeout(soon()).await.unwrap_err();
    assert!(failure(&error).message.contains("the task yields nothing"), "{error}");
    app.shutdown().await.unwrap();
    // One that hangs can be cancelled, and has its time limit.
    let app = builder([values::spec(), double::spec()]).executor(Bad("waits")).start().await.unwrap();
    let hangs = values::add_task().on(&app).await.unwrap();
    crate::until_async(async || hangs.status().await.unwrap() == Status::Running).await;
    hangs.cancel("enough").await.unwrap();
    let error = hangs.wait_timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&error).kind, FailureKind::Cancelled);
    let limited = double::add_task(1).on(&app).time_limit(Duration::from_millis(20)).timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&limited).kind, FailureKind::TimeLimit);
    app.shutdown().await.unwrap();
    // It may wait for whatever it likes, beside a sync body too.
    let app = builder([values::spec()]).executor(Bad("sleeps")).start().await.unwrap();
    let task = app.add_task("values", json!([])).timeout(soon()).await.unwrap();
    assert_eq!((task.returning.len(), task.final_value), (0, json!(null)));
    app.shutdown().await.unwrap();
}

type Heard = Arc<Mutex<Vec<String>>>;

/// Notes what it sees, under a name.
#[derive(Debug)]
struct Notes(&'static str, Heard);

impl Notes {
    fn say(&self, what: impl std::fmt::Display) {
        self.1.lock().unwrap().push(format!("{} {what}", self.0));
    }
}

impl Middleware for Notes {
    fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(async move {
            self.say(format_args!("begins {} {}", attempt.spec().name, attempt.args()));
            let outcome = next.run(attempt).await;
            match &outcome {
                AttemptOutcome::Completed(value) => self.say(format_args!("{value:?}")),
                AttemptOutcome::Failed(failure) => self.say(format_args!("{}", failure.message)),
                AttemptOutcome::Stopped(stopped) => self.say(format_args!("{:?}", stopped.cancelled())),
                _ => unreachable!(),
            }
            outcome
        })
    }

    fn on_yield(&self, attempt: &Context, index: u64, value: &RawValue) {
        self.say(format_args!("{} {index} {value}", attempt.attempt()));
    }
}

#[tokio::test]
async fn middlewares_are_around_each_other_in_order() {
    let heard = Heard::default();
    let (a, b, c) = (Notes("a", heard.clone()), Notes("b", heard.clone()), Notes("c", heard.clone()));
    let app = builder([counted::spec(), double::spec()])
        .layer(a)
        .layer(b)
        .spec::<double>(|s| s.layer(c))
        .start()
        .await
        .unwrap();
    assert_eq!(double::add_task(4).on(&app).timeout(soon()).await.unwrap().returning, 8);
    let args = "begins double {\"n\":4}";
    let order = [format!("a {args}"), format!("b {args}"), format!("c {args}")];
    let back = ["c Some(8)", "b Some(8)", "a Some(8)"].map(str::to_owned);
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), [order, back].concat());
    assert_eq!(counted::add_task(2).on(&app).timeout(soon()).await.unwrap().returning, [0, 1]);
    let seen: Vec<String> = heard.lock().unwrap().iter().filter(|s| s.starts_with("b 1")).cloned().collect();
    assert_eq!(seen, ["b 1 0 0", "b 1 1 1"]);
    heard.lock().unwrap().clear();
    // A second run is around as often as the first.
    double::add_task(1).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 6);
    app.shutdown().await.unwrap();
}

/// Does not let the body begin, gives another outcome, drops it half-way, or panics.
#[derive(Debug)]
struct Other(&'static str);

impl Middleware for Other {
    fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(async move {
            match self.0 {
                "instead" => AttemptOutcome::Completed(Some(Json::of(&7).unwrap())),
                "panics" => panic!("in between"),
                "saves" => match next.run(attempt).await {
                    AttemptOutcome::Failed(_) => AttemptOutcome::Completed(Some(Json::of(&-1).unwrap())),
                    outcome => outcome,
                },
                _ => {
                    let run = next.run(attempt);
                    let timed = tokio::time::timeout(Duration::from_millis(20), run).await;
                    timed.unwrap_or_else(|_| AttemptOutcome::Failed(TaskFailure::new(FailureKind::Middleware, "slow")))
                }
            }
        })
    }

    fn on_yield(&self, _: &Context, _: u64, _: &RawValue) {
        panic!("a panic here changes nothing");
    }
}

#[tokio::test]
async fn a_middleware_has_the_last_word() {
    #[task]
    async fn fails() -> Result<i64, String> {
        Err("no".to_owned())
    }
    #[task]
    async fn slow() -> i64 {
        yield_!(1);
        std::future::pending::<()>().await;
    }
    #[task]
    fn sync_slow(ctx: Context) -> i64 {
        yield_!(1);
        while !ctx.cancelled() {
            ctx.sleep_blocking(Duration::from_millis(5));
        }
    }
    let with =
        |how| builder([fails::spec(), slow::spec(), sync_slow::spec(), counted::spec()]).layer(Other(how)).start();
    let app = with("instead").await.unwrap();
    assert_eq!(fails::add_task().on(&app).timeout(soon()).await.unwrap().returning, 7);
    app.shutdown().await.unwrap();
    let app = with("saves").await.unwrap();
    assert_eq!(fails::add_task().on(&app).timeout(soon()).await.unwrap().returning, -1);
    assert_eq!(counted::add_task(2).on(&app).timeout(soon()).await.unwrap().returning, [0, 1]);
    app.shutdown().await.unwrap();
    let app = with("panics").await.unwrap();
    let error = fails::add_task().on(&app).timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&error).to_string(), "a middleware failed: it panicked: in between");
    app.shutdown().await.unwrap();
    let app = with("slow").await.unwrap();
    for name in ["slow", "sync_slow"] {
        let error = app.add_task(name, json!([])).timeout(soon()).await.unwrap_err();
        assert_eq!((failure(&error).kind, &*failure(&error).message), (FailureKind::Middleware, "slow"));
        let qtasks::WaitError::Ended(ended) = error else { panic!("{error}") };
        assert_eq!(ended.yields().len(), 1, "what was yielded is kept");
    }
    crate::until(|| app.abandoned() == 0).await;
    app.shutdown().await.unwrap();
}

/// Layers of tower: their state is one for all attempts, their errors fail the attempt.
#[tokio::test]
async fn a_layer_of_tower_is_a_middleware() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    #[task]
    async fn busy() {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        NOW.fetch_sub(1, Ordering::SeqCst);
    }
    #[task(retry = 1, backoff = none)]
    async fn hangs() {
        std::future::pending::<()>().await;
    }
    let app = builder([busy::spec(), hangs::spec()])
        .layer(Tower::new(tower::limit::GlobalConcurrencyLimitLayer::new(2)))
        .layer(Tower::new(tower::timeout::TimeoutLayer::new(Duration::from_millis(200))))
        .start()
        .await
        .unwrap();
    let all = app.add_all((0..12).map(|_| busy::add_task())).await.unwrap();
    for handle in all {
        handle.wait().await.unwrap();
    }
    assert_eq!(MOST.load(Ordering::SeqCst), 2);
    let error = hangs::add_task().on(&app).timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&error).kind, failure(&error).attempt), (FailureKind::Middleware, 2), "{error}");
    app.shutdown().await.unwrap();
}

/// Attributes name both.
#[tokio::test]
async fn the_attribute_names_what_is_around_a_body() {
    #[derive(Debug)]
    struct Negates;
    impl Middleware for Negates {
        fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
            Box::pin(async move {
                match next.run(attempt).await {
                    AttemptOutcome::Completed(Some(value)) => {
                        AttemptOutcome::Completed(Some(Json::of(&-value.get::<i64>().unwrap()).unwrap()))
                    }
                    other => other,
                }
            })
        }
    }
    #[task(middleware = Negates)]
    async fn negated(n: i64) -> i64 {
        n
    }
    #[task(middleware = [Negates, Negates])]
    async fn twice(n: i64) -> i64 {
        n
    }
    let app = app_of([negated::spec(), twice::spec()]).await;
    assert_eq!(negated::add_task(3).on(&app).timeout(soon()).await.unwrap().returning, -3);
    assert_eq!(twice::add_task(3).on(&app).timeout(soon()).await.unwrap().returning, 3);
    assert_eq!(twice::spec().middleware.len(), 2);
    app.shutdown().await.unwrap();
}
