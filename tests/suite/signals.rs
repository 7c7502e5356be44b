//! What is told of a task, to whom, in which order; and that nobody who is told changes anything.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use futures::TryStreamExt as _;
use qtasks::prelude::*;
use qtasks::signals::{AfterLoop, BeforeJob, BeforeLoop, OnCancel, OnFailure, OnRetry, OnSuccess, SignalTask};
use qtasks::{Builder, EventKind, RetryPolicy, Status, TaskId, TaskSpec};

use super::{failure, soon, until};

/// What was told, in order.
type Told = Arc<Mutex<Vec<String>>>;

fn tell(told: &Told, what: impl Into<String>) {
    told.lock().unwrap().push(what.into());
}

fn taken(told: &Told) -> Vec<String> {
    std::mem::take(&mut *told.lock().unwrap())
}

fn app(specs: impl IntoIterator<Item = &'static TaskSpec>) -> Builder {
    Qtasks::builder().store(crate::store()).tasks(specs)
}

/// Everything that there is to be told.
fn listened(app: Builder, told: &Told) -> Builder {
    let [a, b, c, d, e, f, g] = std::array::from_fn(|_| Arc::clone(told));
    app.before_job(move |_: BeforeJob| tell(&a, "before_job"))
        .before_loop(move |s: BeforeLoop| tell(&b, format!("before_loop {}", s.iteration)))
        .after_loop(move |s: AfterLoop| tell(&c, format!("after_loop {} {}", s.iteration, s.output.json())))
        .on_success(move |_: OnSuccess| tell(&d, "on_success"))
        .on_failure(move |s: OnFailure| tell(&e, format!("on_failure {}", s.error.message)))
        .on_retry(move |s: OnRetry| tell(&f, format!("on_retry {}", s.error.message)))
        .on_cancel(move |s: OnCancel| tell(&g, format!("on_cancel {}", s.reason)))
}

#[task]
async fn abc() -> String {
    for x in ["a", "b", "c"] {
        yield_!(x.to_owned());
    }
}

#[task]
fn abc_sync() -> String {
    for x in ["a", "b", "c"] {
        yield_!(x.to_owned());
    }
}

const EIGHT: [&str; 8] = [
    "before_job",
    "before_loop 0",
    "after_loop 0 \"a\"",
    "before_loop 1",
    "after_loop 1 \"b\"",
    "before_loop 2",
    "after_loop 2 \"c\"",
    "on_success",
];

#[tokio::test]
async fn the_eight_signals_come_in_order() {
    let told = Told::default();
    let app = listened(app([abc::spec(), abc_sync::spec()]), &told).start().await.unwrap();
    let task = abc::add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, ["a", "b", "c"]);
    until(|| told.lock().unwrap().len() == 8).await;
    assert_eq!(taken(&told), EIGHT);
    abc_sync::add_task().on(&app).timeout(soon()).await.unwrap();
    until(|| told.lock().unwrap().len() == 8).await;
    assert_eq!(taken(&told), EIGHT);
    app.shutdown().await.unwrap();
}

#[derive(Default)]
struct Steps(Told);

#[task(generate_handler = through)]
async fn steps(state: State<Steps>) -> u64 {
    for i in 0..2 {
        tell(&state.0, format!("body {i}"));
        yield_!(i);
    }
    tell(&state.0, "the end of the body");
}

async fn through(x: u64) -> u64 {
    x * 10
}

/// A value is told after it can be read, and the body goes on after that was heard, however long it takes.
#[tokio::test]
async fn a_value_is_told_when_it_is_stored_and_before_the_body_goes_on() {
    let told = Told::default();
    let heard = Arc::clone(&told);
    let app = app([steps::spec()]).state(Steps(Arc::clone(&told))).after_loop(move |s: AfterLoop| {
        let heard = Arc::clone(&heard);
        async move {
            let app = s.task.app()?;
            let log: Vec<_> =
                app.task(s.task.id()).await?.events_from(1).take(2 + s.iteration as usize).try_collect().await?;
            let stored = log.iter().filter(|e| matches!(e.kind, EventKind::Yield { .. })).count() as u64;
            tokio::time::sleep(Duration::from_millis(20)).await;
            tell(&heard, format!("{} of {stored}: {}", s.iteration, s.output.get::<u64>()?));
            Ok::<(), qtasks::Error>(())
        }
    });
    let app = app.start().await.unwrap();
    steps::add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!(taken(&told), ["body 0", "0 of 1: 0", "body 1", "1 of 2: 10", "the end of the body"]);
    app.shutdown().await.unwrap();
}

#[task]
async fn fails() -> Result<u64, String> {
    yield_!(1);
    Err::<(), _>("no".to_owned())?;
}

fn panics() {
    panic!("a panic");
}

/// In each place, sync and async: what becomes of the task is what becomes of it without.
#[tokio::test]
async fn a_receiver_that_panics_changes_nothing() {
    type Listen = fn(Builder) -> Builder;
    let places: [Listen; 9] = [
        |app| app.before_job(|_: BeforeJob| panics()),
        |app| app.before_loop(|_: BeforeLoop| panics()),
        |app| app.after_loop(|_: AfterLoop| panics()),
        |app| app.after_loop(async |_: AfterLoop| panics()),
        |app| app.on_success(|_: OnSuccess| panics()),
        |app| app.on_failure(|_: OnFailure| panics()),
        |app| app.on_cancel(|_: OnCancel| panics()),
        |app| app.before_loop(|_: BeforeLoop| Err::<(), _>("an error")),
        |app| app.after_loop(async |_: AfterLoop| Err::<(), _>("an error")),
    ];
    for listen in places {
        let told = Told::default();
        // Who comes after it hears all the same.
        let app = listened(listen(app([abc::spec(), abc_sync::spec(), fails::spec()])), &told).start().await.unwrap();
        assert_eq!(abc::add_task().on(&app).timeout(soon()).await.unwrap().returning, ["a", "b", "c"]);
        assert_eq!(abc_sync::add_task().on(&app).timeout(soon()).await.unwrap().returning, ["a", "b", "c"]);
        let error = fails::add_task().on(&app).timeout(soon()).await.unwrap_err();
        assert_eq!(failure(&error).message, "no");
        until(|| told.lock().unwrap().len() == 8 + 8 + 4).await;
        assert_eq!(taken(&told)[19], "on_failure no");
        app.shutdown().await.unwrap();
    }
}

#[task(retry = RetryPolicy::times(2).constant(Duration::ZERO))]
async fn third_time(ctx: Context) -> Result<u32, String> {
    yield_!(0);
    yield_!(1);
    if ctx.attempt() < 3 {
        Err(format!("attempt {}", ctx.attempt()))?;
    }
    yield_!(2);
}

/// And a value that an earlier attempt stored is not told again.
#[tokio::test]
async fn attempts_are_told_apart() {
    let told = Told::default();
    let app = listened(app([third_time::spec()]), &told).start().await.unwrap();
    third_time::add_task().on(&app).timeout(soon()).await.unwrap();
    until(|| told.lock().unwrap().len() == 12).await;
    // The next attempt may begin while it is told that the last one failed, which is stored by then.
    let (retries, rest): (Vec<_>, Vec<_>) = taken(&told).into_iter().partition(|t| t.starts_with("on_retry"));
    assert_eq!(retries, ["on_retry attempt 1", "on_retry attempt 2"]);
    let first = ["before_job", "before_loop 0", "after_loop 0 0", "before_loop 1", "after_loop 1 1"];
    let then = ["before_job", "before_job", "before_loop 2", "after_loop 2 2", "on_success"];
    assert_eq!(rest, [first, then].concat());
    app.shutdown().await.unwrap();
}

#[task]
async fn waits(ctx: Context) {
    ctx.sleep(Duration::from_secs(3_600)).await;
}

#[tokio::test]
async fn a_cancel_is_told_with_its_reason() {
    let told = Told::default();
    let app = listened(app([waits::spec()]), &told).start().await.unwrap();
    let task = waits::add_task().on(&app).await.unwrap();
    until(|| !told.lock().unwrap().is_empty()).await;
    task.cancel("enough").await.unwrap();
    task.wait().await.unwrap_err();
    until(|| told.lock().unwrap().len() == 2).await;
    assert_eq!(taken(&told), ["before_job", "on_cancel enough"]);
    app.shutdown().await.unwrap();
}

/// What the receivers of the program heard, by task.
static HEARD: LazyLock<Mutex<HashMap<TaskId, Vec<String>>>> = LazyLock::new(Mutex::default);

fn hear(task: &SignalTask, what: String) {
    HEARD.lock().unwrap().entry(task.id()).or_default().push(what);
}

#[expect(clippy::needless_pass_by_value, reason = "as signals come")]
fn attribute_after(s: AfterLoop) {
    hear(&s.task, format!("attribute {}", s.iteration));
}

async fn attribute_success(s: OnSuccess) -> Result<(), String> {
    hear(&s.task, format!("attribute success {}", s.task.attempt()));
    Ok(())
}

#[task(after_loop = attribute_after, on_success = attribute_success, before_job = |s: BeforeJob| hear(&s.task, format!("closure {}", s.task.args())))]
async fn listens(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[receiver(after_loop, task = listens)]
async fn of_one(s: AfterLoop, value: u64) {
    hear(&s.task, format!("one {} {value}", s.task.name()));
}

#[receiver(after_loop, task = listens)]
fn of_one_that_can_not_be_read(_: AfterLoop, value: Vec<String>) {
    unreachable!("{value:?}");
}

#[receiver(on_success)]
fn of_all(s: OnSuccess) {
    hear(&s.task, format!("all {}", s.task.spec().function));
}

#[tokio::test]
async fn receivers_stand_at_the_task_anywhere_in_the_program_and_at_the_app() {
    let app = app([listens::spec(), abc::spec()]).on_success(|s: OnSuccess| hear(&s.task, "app".to_owned()));
    let app = app.start().await.unwrap();
    let task = listens::add_task(1).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.record.status, Status::Completed);
    let heard = |id, n| move || HEARD.lock().unwrap().get(&id).is_some_and(|h| h.len() == n);
    until(heard(task.id, 6)).await;
    let all = ["closure {\"n\":1}", "attribute 0", "one listens 0", "attribute success 1", "all listens", "app"];
    assert_eq!(HEARD.lock().unwrap()[&task.id], all);
    // Those of one task function hear of no other.
    let other = abc::add_task().on(&app).timeout(soon()).await.unwrap();
    until(heard(other.id, 2)).await;
    assert_eq!(HEARD.lock().unwrap()[&other.id], ["all abc", "app"]);
    app.shutdown().await.unwrap();
}

/// Of those that nobody runs, the app that cancels tells, or the worker that finds them expired or lost.
#[tokio::test]
async fn the_end_of_what_nobody_runs_is_told_too() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (cancels, failures) = (Arc::clone(&heard), Arc::clone(&heard));
    let name = crate::store_named("told-of-nobody");
    let app = Qtasks::builder()
        .store(&*name)
        .tasks([endless::spec()])
        .queues(["served"])
        .lease(Duration::from_millis(400))
        .scan(Duration::from_millis(50))
        .crashes(0)
        .on_cancel(move |s: OnCancel| cancels.lock().unwrap().push(format!("cancelled: {}", s.reason)))
        .on_failure(move |s: OnFailure| failures.lock().unwrap().push(format!("{}", s.error.kind)))
        .start()
        .await
        .unwrap();
    let waiting = endless::add_task().on(&app).queue("nobody").await.unwrap();
    waiting.cancel("not needed").await.unwrap();
    crate::until(|| heard.lock().unwrap().len() == 1).await;
    endless::add_task().on(&app).queue("nobody").expires(Duration::from_millis(1)).await.unwrap();
    crate::until(|| heard.lock().unwrap().len() == 2).await;
    // A worker that dies with a task.
    let other = Qtasks::builder().store(&*name).tasks([endless::spec()]).queues(["other"]);
    let other = other.lease(Duration::from_millis(400)).start().await.unwrap();
    let lost = endless::add_task().on(&other).queue("other").await.unwrap();
    let began = TaskHandle::<endless>::attach(&app, lost.id()).await.unwrap();
    crate::until_async(async || began.status().await.unwrap() == Status::Running).await;
    drop(other);
    crate::until(|| heard.lock().unwrap().len() == 3).await;
    assert_eq!(*heard.lock().unwrap(), ["cancelled: not needed", "cancelled: expired", "lost"]);
    app.shutdown().await.unwrap();
}

#[task]
async fn endless() {
    std::future::pending::<()>().await;
}
