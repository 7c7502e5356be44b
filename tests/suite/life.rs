//! The life of a task, from adding it to its end: every way out, and what is kept of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use qtasks::prelude::*;
use qtasks::store::{Cancelled, List};
use qtasks::{EventKind, FailureKind, RetryPolicy, Status, TaskSpec, WaitError};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{app_of, failure, kinds, soon};

async fn add_two(x: i64) -> i64 {
    x + 2
}

/// Test task with a generator.
#[task(generate_handler = add_two)]
async fn test_yield(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(n + i);
    }
}

/// Opens one step at a time.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Gate(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    pub(crate) fn open(&self, steps: usize) {
        self.0.add_permits(steps);
    }
    pub(crate) async fn pass(&self) {
        self.0.acquire().await.expect("it is never closed").forget();
    }
}

#[task]
async fn gated(gate: State<Gate>, n: u32) -> u32 {
    for i in 0..n {
        gate.pass().await;
        yield_!(i);
    }
    gate.pass().await;
}

#[tokio::test]
async fn the_main_job() {
    let app = app_of([test_yield::spec()]).await;
    let task = test_yield::add_task(5).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [8, 9, 10, 11, 12]);
    assert_eq!((task.record.status, task.record.yields, task.record.attempt), (Status::Completed, 5, 1));
    let handle = test_yield::add_task(5).on(&app).await.unwrap();
    let values: Vec<i64> = handle.stream().try_collect().await.unwrap();
    assert_eq!(values, [8, 9, 10, 11, 12]);
    // A late watcher sees the same.
    let late: Vec<i64> = handle.stream().try_collect().await.unwrap();
    assert_eq!(late, values);
    let log: Vec<qtasks::Event> = handle.events_from(0).try_collect().await.unwrap();
    assert_eq!(log.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(kinds(&log), "started yield yield yield yield yield completed");
    let after: Vec<i64> = handle.stream_after(log[2].seq).try_collect().await.unwrap();
    assert_eq!(after, [10, 11, 12]);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn by_name_with_json() {
    let app = app_of([test_yield::spec(), plain::spec()]).await;
    for args in [json!({"n": 5}), json!([5])] {
        let task = app.add_task("test_yield", args).timeout(soon()).await.unwrap();
        assert_eq!(task.returning, [8, 9, 10, 11, 12].map(|n| json!(n)));
    }
    let task = app.add_task("plain", json!({"a": 1, "b": 2})).timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.final_value), (vec![json!(3)], json!(3)));
    let handle = app.add_task("test_yield", json!({"n": 1})).await.unwrap();
    let typed = TaskHandle::<test_yield>::attach(&app, handle.id()).await.unwrap();
    assert_eq!(typed.wait().await.unwrap().returning, [4]);
    let other = TaskHandle::<plain>::attach(&app, handle.id()).await.unwrap_err();
    assert_eq!(other.kind(), qtasks::ErrorKind::Invalid);
    let e = app.add_task("test_yeld", json!({})).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::NotFound);
    assert!(e.to_string().contains("\"test_yield\""), "{e}");
    for (args, wrong) in [
        (json!({}), "argument `n` (`i64`) is missing"),
        (json!({"m": 1}), "`m` is not known"),
        (json!([1, 2]), "2 given"),
        (json!(["x"]), "argument `n`: invalid type: string \"x\", expected i64"),
        (json!(7), "object or an array"),
    ] {
        let e = app.add_task("test_yield", args).await.unwrap_err();
        assert_eq!(e.kind(), qtasks::ErrorKind::Invalid);
        assert!(e.to_string().contains(wrong), "{e}");
    }
    let e = app.add_task("test_yield", json!(["x"])).unchecked().timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&e).kind, FailureKind::Codec);
    // What a worker elsewhere has published is known here too.
    let elsewhere = Qtasks::builder().store(crate::store_named("published")).tasks([test_yield::spec(), plain::spec()]);
    let elsewhere = elsewhere.start().await.unwrap();
    let here = Qtasks::builder().store(crate::store_named("published")).tasks([]).open().await.unwrap();
    let task = here.add_task("plain", json!([1, 2])).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [json!(3)]);
    for (args, wrong) in [
        (json!({"a": 1}), "argument `b` (`i64`) is missing"),
        (json!({"a": 1, "b": 2, "c": 3}), "`c` is not known: this task takes `a`, `b`"),
        (json!([1, 2, 3]), "3 given, at most 2"),
        (json!(7), "object or an array"),
    ] {
        let e = here.add_task("plain", args).await.unwrap_err();
        assert!(e.to_string().contains(wrong), "{e}");
    }
    assert_eq!(here.add_task("other", json!([])).await.unwrap_err().kind(), qtasks::ErrorKind::NotFound);
    elsewhere.shutdown().await.unwrap();
    // For workers that are deployed later.
    let later = app.add_task("not.yet", json!({"x": 1})).unchecked().await.unwrap();
    assert_eq!(later.status().await.unwrap(), Status::Queued);
}

#[task]
async fn plain(a: i64, b: i64) -> i64 {
    a + b
}

#[task(yield = u32)]
async fn fails_at(n: u32) -> Result<String, String> {
    for i in 0..n {
        yield_!(i);
    }
    Err(format!("at {n}"))
}

async fn refuse_two(x: u32) -> Result<u32, String> {
    if x == 2 { Err("not two".to_owned()) } else { Ok(x) }
}

#[task(generate_handler = refuse_two)]
async fn handled() -> u32 {
    for i in 0..5 {
        yield_!(i);
    }
}

fn panic_at_two(x: u32) -> u32 {
    assert_ne!(x, 2, "two!");
    x
}

#[task(generate_handler = panic_at_two)]
fn handler_panics() -> u32 {
    for i in 0..5 {
        yield_!(i);
    }
}

#[task]
async fn panics() -> u32 {
    yield_!(0);
    panic!("on {}", "purpose");
}

#[task]
fn sync_panics() -> u32 {
    yield_!(0);
    panic!("on purpose");
}

#[task]
async fn not_a_number() -> f64 {
    yield_!(1.5);
    yield_!(f64::NAN);
}

#[task]
async fn large() -> String {
    yield_!("x".repeat(256 * 1024 - 2));
    yield_!("x".repeat(256 * 1024 - 1));
}

#[task(yields_max = 3)]
async fn many() -> u32 {
    for i in 0.. {
        yield_!(i);
    }
}

#[task(log_bytes_max = 10)]
fn long_log() -> u32 {
    for i in 100.. {
        yield_!(i);
    }
}

#[tokio::test]
async fn what_was_yielded_is_kept_on_every_way_out() {
    let specs = [
        fails_at::spec(),
        handled::spec(),
        handler_panics::spec(),
        panics::spec(),
        sync_panics::spec(),
        not_a_number::spec(),
        large::spec(),
        many::spec(),
        long_log::spec(),
    ];
    let app = app_of(specs).await;
    let e = fails_at::add_task(3).on(&app).timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&e).kind, &*failure(&e).message, failure(&e).attempt), (FailureKind::Error, "at 3", 1));
    let WaitError::Ended(ended) = e else { panic!("{e}") };
    assert_eq!(ended.returning::<u32>().unwrap(), [0, 1, 2]);
    assert_eq!(ended.record.status, Status::Failed);

    type Case = (&'static str, FailureKind, &'static str, Option<u64>, usize);
    let cases: [Case; 8] = [
        ("handled", FailureKind::Handler, "not two", Some(2), 2),
        ("handler_panics", FailureKind::Panic, "two!", Some(2), 2),
        ("panics", FailureKind::Panic, "on purpose", None, 1),
        ("sync_panics", FailureKind::Panic, "on purpose", None, 1),
        ("not_a_number", FailureKind::Codec, "NaN", Some(1), 1),
        ("large", FailureKind::Limit, "262145 bytes", Some(1), 1),
        ("many", FailureKind::Limit, "yields_max", Some(3), 3),
        ("long_log", FailureKind::Limit, "log_bytes_max", Some(3), 3),
    ];
    for (name, kind, message, index, kept) in cases {
        let handle = app.add_task(name, json!({})).retry(0).await.unwrap();
        let e = handle.wait_timeout(soon()).await.unwrap_err();
        let f = failure(&e);
        assert_eq!((f.kind, f.index), (kind, index), "{name}: {f:?}");
        assert!(f.message.contains(message), "{name}: {f:?}");
        let WaitError::Ended(ended) = &e else { panic!("{e}") };
        assert_eq!(ended.yields().len(), kept, "{name}");
        let mut stream = handle.stream();
        for _ in 0..kept {
            stream.try_next().await.unwrap().unwrap();
        }
        let last = stream.try_next().await.unwrap_err();
        assert_eq!(last.kind(), qtasks::ErrorKind::TaskFailed);
        assert_eq!(last.failure(), Some(f));
        assert!(stream.next().await.is_none());
    }
    // The worker lives on.
    assert!(fails_at::add_task(1).on(&app).timeout(soon()).await.is_err());
}

#[tokio::test]
async fn what_does_not_help_is_not_retried() {
    let app = app_of([not_a_number::spec(), large::spec()]).await;
    for name in ["not_a_number", "large"] {
        let e = app.add_task(name, json!({})).retry(5).timeout(soon()).await.unwrap_err();
        assert_eq!(failure(&e).attempt, 1);
    }
}

struct Dropped(Arc<AtomicUsize>);
impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[task]
async fn waits_for_ever(drops: State<Arc<AtomicUsize>>) -> u32 {
    let _dropped = Dropped(Arc::clone(&drops));
    yield_!(1);
    yield_!(2);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn cancelling_a_running_task_drops_its_body() {
    let drops = Arc::new(AtomicUsize::new(0));
    let app = Qtasks::builder().store(crate::store()).tasks([waits_for_ever::spec()]).state(Arc::clone(&drops));
    let app = app.start().await.unwrap();
    let handle = waits_for_ever::add_task().on(&app).await.unwrap();
    let mut stream = handle.stream();
    assert_eq!(stream.try_next().await.unwrap(), Some(1));
    assert_eq!(stream.try_next().await.unwrap(), Some(2));
    assert_eq!(handle.cancel("enough").await.unwrap(), Cancelled::Asked);
    let e = handle.wait_timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&e).kind, &*failure(&e).message), (FailureKind::Cancelled, "enough"));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!(stream.try_next().await.unwrap_err().kind(), qtasks::ErrorKind::TaskFailed);
    assert_eq!(handle.cancel("again").await.unwrap(), Cancelled::Ended(Status::Cancelled));
    let record = handle.record().await.unwrap();
    assert_eq!((record.status, record.yields, record.cancel_reason.as_deref()), (Status::Cancelled, 2, Some("enough")));
    // A time limit drops it likewise.
    let e =
        waits_for_ever::add_task().on(&app).time_limit(Duration::from_millis(30)).timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&e).kind, FailureKind::TimeLimit);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[task]
fn sync_for_ever(drops: State<Arc<AtomicUsize>>, gate: State<std::sync::Mutex<std::sync::mpsc::Receiver<()>>>) -> u32 {
    let _dropped = Dropped(Arc::clone(&drops));
    for i in 0.. {
        yield_!(i);
        let next = gate.lock().expect("not poisoned").recv();
        if next.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_sync_generator_is_dropped_at_its_next_yield_and_its_task_ends_at_once() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (go, gate) = std::sync::mpsc::channel();
    let app = Qtasks::builder().store(crate::store()).tasks([sync_for_ever::spec()]);
    let app = app.state(Arc::clone(&drops)).state(std::sync::Mutex::new(gate)).start().await.unwrap();
    let handle = sync_for_ever::add_task().on(&app).await.unwrap();
    let mut stream = handle.stream();
    assert_eq!(stream.try_next().await.unwrap(), Some(0));
    go.send(()).unwrap();
    assert_eq!(stream.try_next().await.unwrap(), Some(1));
    handle.cancel("enough").await.unwrap();
    let e = handle.wait_timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&e).kind, FailureKind::Cancelled);
    // Its thread is still in the body, which has not come to its next yield.
    assert_eq!((drops.load(Ordering::SeqCst), app.abandoned()), (0, 1));
    go.send(()).unwrap();
    crate::until(|| drops.load(Ordering::SeqCst) == 1 && app.abandoned() == 0).await;
    assert_eq!(handle.record().await.unwrap().yields, 2);
}

#[task]
fn sleeps(ctx: Context, seconds: u64) -> bool {
    ctx.sleep_blocking(Duration::from_secs(seconds));
    ctx.cancelled()
}

#[tokio::test]
async fn a_plain_sync_task_ends_at_its_time_limit_whatever_its_thread_does() {
    let app = app_of([sleeps::spec(), plain::spec()]).await;
    let e = sleeps::add_task(3600).on(&app).time_limit(Duration::from_millis(20)).timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&e).kind, FailureKind::TimeLimit);
    crate::until(|| app.abandoned() == 0).await;
    assert!(!sleeps::add_task(0).on(&app).timeout(soon()).await.unwrap().returning);
}

#[task]
async fn cancels_itself(ctx: Context) -> u32 {
    yield_!(1);
    ctx.cancel("no more").await;
    yield_!(2);
}

#[tokio::test]
async fn a_body_can_cancel_its_own_task() {
    let app = app_of([cancels_itself::spec()]).await;
    let e = cancels_itself::add_task().on(&app).timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&e).kind, &*failure(&e).message), (FailureKind::Cancelled, "no more"));
    let WaitError::Ended(ended) = e else { panic!() };
    assert_eq!(ended.returning::<u32>().unwrap(), [1]);
}

#[tokio::test]
async fn delays_expiries_and_held_tasks() {
    let app = app_of([plain::spec()]).await;
    let held = plain::add_task(1, 2).on(&app).held().await.unwrap();
    let later = plain::add_task(1, 2).on(&app).delay(Duration::from_secs(3600)).await.unwrap();
    let soon_due = plain::add_task(3, 4).on(&app).delay(Duration::from_millis(30)).await.unwrap();
    let at = SystemTime::now() + Duration::from_millis(30);
    let at = plain::add_task(5, 6).on(&app).at(at).await.unwrap();
    assert_eq!(soon_due.wait_timeout(soon()).await.unwrap().returning, 7);
    assert_eq!(at.wait_timeout(soon()).await.unwrap().returning, 11);
    assert_eq!(held.status().await.unwrap(), Status::Held);
    assert_eq!(later.status().await.unwrap(), Status::Delayed);
    assert_eq!(later.cancel("no").await.unwrap(), Cancelled::Done);
    assert_eq!(app.start_task(held.id()).await.unwrap(), Status::Queued);
    assert_eq!(held.wait_timeout(soon()).await.unwrap().returning, 3);
    let late = plain::add_task(1, 1).on(&app).delay(Duration::from_secs(60)).expires(Duration::from_millis(5));
    let e = late.timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&e).kind, &*failure(&e).message), (FailureKind::Cancelled, "expired"));
}

#[tokio::test]
async fn keys_add_nothing_twice() {
    let app = app_of([plain::spec()]).await;
    let first = plain::add_task(1, 2).on(&app).idempotency_key("k").await.unwrap();
    assert_eq!(plain::add_task(1, 2).on(&app).idempotency_key("k").await.unwrap().id(), first.id());
    let e = plain::add_task(1, 3).on(&app).idempotency_key("k").await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::Conflict);
    first.wait_timeout(soon()).await.unwrap();
    assert_eq!(plain::add_task(1, 2).on(&app).idempotency_key("k").await.unwrap().id(), first.id());
    let held = plain::add_task(1, 2).on(&app).unique("u").held().await.unwrap();
    assert_eq!(plain::add_task(9, 9).on(&app).unique("u").await.unwrap().id(), held.id());
    held.cancel("over").await.unwrap();
    assert_ne!(plain::add_task(9, 9).on(&app).unique("u").await.unwrap().id(), held.id());
}

type Order = Arc<std::sync::Mutex<Vec<i16>>>;

#[task]
async fn in_order(order: State<Order>, gate: State<Gate>, priority: i16) {
    order.lock().expect("not poisoned").push(priority);
    gate.pass().await;
}

#[tokio::test]
async fn the_most_urgent_task_is_the_next_with_one_slot() {
    let (gate, order) = (Gate::default(), Order::default());
    let app = Qtasks::builder().store(crate::store()).tasks([in_order::spec()]).state(gate.clone());
    let app = app.state(Arc::clone(&order)).concurrency(1).start().await.unwrap();
    in_order::add_task(-1).on(&app).await.unwrap();
    crate::until(|| order.lock().unwrap().len() == 1).await;
    let mut handles = Vec::new();
    for priority in [5, 0, 3, 1, 9, 2] {
        handles.push(in_order::add_task(priority).on(&app).priority(priority).await.unwrap());
    }
    for handle in &handles {
        assert_eq!(handle.status().await.unwrap(), Status::Queued, "nothing is popped before a slot is free");
    }
    gate.open(7);
    for handle in &handles {
        handle.wait_timeout(soon()).await.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [-1, 0, 1, 2, 3, 5, 9]);
}

#[tokio::test]
async fn every_option_is_stored() {
    let app = app_of([plain::spec()]).await;
    let add = plain::add_task(1, 2).on(&app).queue("io").priority(-5).tag("x").tag("y").held();
    let add = add.retry(RetryPolicy::times(3)).time_limit(Duration::from_secs(5)).expires(Duration::from_secs(100));
    let record = add.await.unwrap().record().await.unwrap();
    assert_eq!((&*record.queue, record.priority, record.status), ("io", -5, Status::Held));
    assert_eq!(record.tags, ["x", "y"]);
    assert_eq!(record.args, json!({"a": 1, "b": 2}));
    let listed = app.list(List { tag: Some("y".into()), limit: 5, ..List::default() }).await.unwrap();
    assert_eq!(listed.tasks, [record]);
    for (add, wrong) in [
        (plain::add_task(1, 2).on(&app).queue("a b"), "queue"),
        (plain::add_task(1, 2).on(&app).tag(""), "tag"),
        (plain::add_task(1, 2).on(&app).unique("x".repeat(200)), "unique key"),
    ] {
        let e = add.await.unwrap_err();
        assert_eq!(e.kind(), qtasks::ErrorKind::Invalid);
        assert!(e.to_string().contains(wrong), "{e}");
    }
}

#[task(queue = "reports", priority = 7, tags("a", "b"))]
async fn with_defaults() {}

#[tokio::test]
async fn a_function_s_own_settings_are_its_tasks() {
    let app = app_of([with_defaults::spec()]).await;
    let task = with_defaults::add_task().on(&app).tag("c").tag("a").timeout(soon()).await.unwrap();
    assert_eq!((&*task.record.queue, task.record.priority), ("reports", 7));
    assert_eq!(task.record.tags, ["a", "b", "c"]);
    // A queue that no function names is served too, unless the worker was told which.
    with_defaults::add_task().on(&app).queue("elsewhere").timeout(soon()).await.unwrap();
}

#[tokio::test]
async fn arguments_over_the_limit_are_refused() {
    let app =
        Qtasks::builder().store(crate::store()).tasks([takes_text::spec()]).args_bytes_max(20).start().await.unwrap();
    // {"text":"1234567890"} has 21 bytes.
    takes_text::add_task("123456789".into()).on(&app).timeout(soon()).await.unwrap();
    let e = takes_text::add_task("1234567890".into()).on(&app).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::Limit);
    assert!(e.to_string().contains("21 bytes, of at most 20"), "{e}");
}

#[task]
async fn takes_text(text: String) -> usize {
    text.len()
}

#[tokio::test]
async fn waiting_ends_and_the_task_goes_on() {
    let gate = Gate::default();
    let app = Qtasks::builder().store(crate::store()).tasks([gated::spec()]).state(gate.clone()).start().await.unwrap();
    let e = gated::add_task(1).on(&app).timeout(Duration::from_millis(20)).await.unwrap_err();
    assert!(std::error::Error::source(&e).is_none());
    let WaitError::TimedOut(handle) = e else { panic!("{e}") };
    let mut stream = handle.stream().idle_timeout(Duration::from_millis(20));
    assert_eq!(stream.try_next().await.unwrap_err().kind(), qtasks::ErrorKind::TimedOut);
    assert!(stream.next().await.is_none());
    gate.open(2);
    assert_eq!(handle.wait().await.unwrap().returning, [0]);
    // `?` makes an `Error` of it.
    let wait = async || -> qtasks::Result<()> {
        gated::add_task(1).on(&app).timeout(Duration::from_millis(20)).await?;
        Ok(())
    };
    assert_eq!(wait().await.unwrap_err().kind(), qtasks::ErrorKind::TimedOut);
}

#[tokio::test]
async fn many_are_added_at_once() {
    let app = app_of([plain::spec()]).await;
    let handles = app.add_all((0..2500).map(|i| plain::add_task(i, 1))).await.unwrap();
    for (i, handle) in (0..).zip(&handles) {
        assert_eq!(handle.wait().await.unwrap().returning, i + 1);
    }
    let e = app.add_all((0..3).map(|i| takes_text::add_task("x".repeat(i << 20)))).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::Limit);
}

#[task]
async fn adds_another(n: i64) -> i64 {
    let added = test_yield::add_task(n).timeout(soon()).await;
    added.map_or(-1, |task| task.returning.iter().sum())
}

#[tokio::test]
async fn a_body_adds_to_the_app_that_polls_it() {
    let app = app_of([adds_another::spec(), test_yield::spec()]).await;
    let task = adds_another::add_task(2).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, 5 + 6);
    let children = app.list(List { parent: Some(task.id), limit: 9, ..List::default() }).await.unwrap().tasks;
    assert_eq!(children.len(), 1);
    assert_eq!(children[0].name, "test_yield");
}

#[tokio::test]
async fn shutdown_drains_and_gives_back() {
    let gate = Gate::default();
    let store = qtasks::store::MemoryStore::new(qtasks::Clock::system());
    let open = async |grace| {
        let app = Qtasks::builder().with_store(store.clone()).tasks([gated::spec()]).state(gate.clone());
        app.grace(grace).start().await.unwrap()
    };
    let app = open(soon()).await;
    let handle = gated::add_task(2).on(&app).await.unwrap();
    gate.open(1);
    let mut stream = handle.stream();
    assert_eq!(stream.try_next().await.unwrap(), Some(0));
    // What is running is waited for.
    let (_, shut) = tokio::join!(async { gate.open(2) }, app.shutdown());
    shut.unwrap();
    assert_eq!(handle.status().await.unwrap(), Status::Completed);
    assert_eq!(stream.try_next().await.unwrap(), Some(1));
    let e = gated::add_task(2).on(&app).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::Unavailable);

    // What is not over when the grace is, is given back, and nothing is counted.
    let app = open(Duration::ZERO).await;
    let handle = gated::add_task(3).on(&app).await.unwrap();
    gate.open(1);
    assert_eq!(handle.stream().try_next().await.unwrap(), Some(0));
    app.shutdown().await.unwrap();
    let record = handle.record().await.unwrap();
    assert_eq!((record.status, record.yields, record.failures, record.crashes), (Status::Queued, 1, 0, 0));
    // Nobody follows for a closed app; nothing hangs.
    assert_eq!(handle.wait().await.unwrap_err().to_string(), "the app is shut down");
    let app = open(soon()).await;
    gate.open(4);
    let handle = TaskHandle::<gated>::attach(&app, handle.id()).await.unwrap();
    let task = handle.wait_timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.record.attempt, task.record.rewinds), (vec![0, 1, 2], 2, vec![]));
}

#[tokio::test]
async fn an_app_that_is_dropped_is_a_crash_and_another_takes_over() {
    let gate = Gate::default();
    let open = async || {
        let app = Qtasks::builder().store(crate::store_named("dropped")).tasks([gated::spec()]).state(gate.clone());
        // However long the scan, leases are looked at several times in one.
        app.lease(Duration::from_millis(400)).scan(Duration::from_secs(3_600)).start().await.unwrap()
    };
    let keep = Qtasks::open(&crate::store_named("dropped")).await.unwrap();
    let app = open().await;
    let handle = gated::add_task(2).on(&app).await.unwrap();
    let handle = TaskHandle::<gated>::attach(&keep, handle.id()).await.unwrap();
    gate.open(1);
    let mut stream = handle.stream();
    assert_eq!(stream.try_next().await.unwrap(), Some(0));
    drop(app);
    let app = open().await;
    gate.open(3);
    let task = handle.wait_timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.record.attempt), (vec![0, 1], 2));
    assert_eq!(stream.try_next().await.unwrap(), Some(1));
    assert_eq!(stream.try_next().await.unwrap(), None);
    let log: Vec<qtasks::Event> = handle.events_from(1).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started yield retry started yield completed");
    let EventKind::Retry { error, .. } = &log[2].kind else { panic!() };
    assert_eq!(error.kind, FailureKind::Lost);
    app.shutdown().await.unwrap();
}

#[task(name = "twice")]
async fn one() {}
mod other {
    use qtasks::prelude::*;
    #[task(name = "twice")]
    pub(super) async fn two() {}
}

#[tokio::test]
async fn a_set_that_a_worker_can_not_serve_is_refused_when_it_starts() {
    let start =
        async |specs: Vec<&'static TaskSpec>| Qtasks::builder().store(crate::store()).tasks(specs).start().await;
    let e = start(vec![one::spec(), other::two::spec()]).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::Conflict);
    assert_eq!(e.to_string().matches("life.rs:").count(), 2, "both places: {e}");
    let app = Qtasks::builder().store(crate::store()).tasks([one::spec(), other::two::spec()]);
    let app = app.rename("suite::life::other::two", "thrice").start().await.unwrap();
    other::two::add_task().on(&app).timeout(soon()).await.unwrap();
    let task = app.add_task("thrice", json!({})).timeout(soon()).await.unwrap();
    assert_eq!(task.record.name, "thrice");
    let e = start(vec![gated::spec()]).await.unwrap_err();
    assert!(e.to_string().contains("`gated`") && e.to_string().contains("State<Gate>"), "{e}");
    let e = Qtasks::builder().store(crate::store()).rename("no::such", "x").start().await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::NotFound);
    let e = Qtasks::open("postgress://x").await.unwrap_err();
    assert!(e.to_string().contains("memory:"), "{e}");
    // Registering by hand what is linked anyway is no double.
    let app = Qtasks::builder().store(crate::store()).tasks([plain::spec()]).register::<plain>().start().await.unwrap();
    plain::add_task(1, 1).on(&app).timeout(soon()).await.unwrap();
}

#[test]
fn callers_without_a_runtime_wait_on_a_channel() {
    let app = qtasks::blocking::start(Qtasks::builder().store(crate::store()).tasks([plain::spec()])).unwrap();
    let task = plain::add_task(1, 2).on(&app).timeout(soon()).wait_blocking().unwrap();
    assert_eq!(task.returning, 3);
    let handle = plain::add_task(3, 4).on(&app).add_blocking().unwrap();
    assert_eq!(handle.wait_blocking().unwrap().returning, 7);
    app.shutdown().unwrap();
}

#[tokio::test]
async fn waiting_on_the_only_thread_is_refused_not_deadlocked() {
    let app = app_of([plain::spec()]).await;
    let e = plain::add_task(1, 2).on(&app).timeout(soon()).wait_blocking().unwrap_err();
    assert!(e.to_string().contains(".await"), "{e}");
}

#[task]
fn uses_a_blocking_library(url: String) -> String {
    let get = || reqwest::blocking::get(&url).and_then(reqwest::blocking::Response::text);
    yield_!(get().unwrap_or_else(|e| e.to_string()));
    yield_!(get().unwrap_or_else(|e| e.to_string()));
}

#[tokio::test]
async fn sync_bodies_may_use_blocking_libraries() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = server.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = socket.read(&mut request).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
                socket.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    let app = app_of([uses_a_blocking_library::spec()]).await;
    let task = uses_a_blocking_library::add_task(url).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, ["hello", "hello"]);
}

#[tokio::test]
async fn sync_tasks_can_not_stall_async_ones() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let drops = Arc::new(AtomicUsize::new(0));
    let app = Qtasks::builder().store(crate::store()).tasks([sync_for_ever::spec(), plain::spec()]);
    let app = app.state(drops).state(std::sync::Mutex::new(gate)).start().await.unwrap();
    let blocked = sync_for_ever::add_task().on(&app).await.unwrap();
    assert_eq!(blocked.stream().try_next().await.unwrap(), Some(0));
    // This test has one thread, and the blocked body is not on it.
    for i in 0..100 {
        assert_eq!(plain::add_task(i, 1).on(&app).timeout(soon()).await.unwrap().returning, i + 1);
    }
    drop(go);
    blocked.wait_timeout(soon()).await.unwrap();
}

#[task]
async fn sends(ctx: Context, what: String) -> u32 {
    yield_!(1);
    match &*what {
        "name" => ctx.send_event("no spaces", 1),
        "number" => ctx.send_event("x", f64::INFINITY),
        "large" => ctx.send_event("x", "x".repeat(256 * 1024)),
        "checkpoint" => ctx.checkpoint(&"x".repeat(64 * 1024)),
        _ => {
            ctx.send_event("stage", json!({"n": 1}));
            ctx.checkpoint(&"x".repeat(64 * 1024 - 2));
            let _ = ctx.flush().await;
        }
    }
    yield_!(2);
}

#[tokio::test]
async fn an_event_that_can_not_be_stored_fails_the_task() {
    let app = app_of([sends::spec()]).await;
    for (what, kind, message) in [
        ("name", FailureKind::Codec, "\"no spaces\""),
        ("number", FailureKind::Codec, "no number inf"),
        ("large", FailureKind::Limit, "`x` has 262147 bytes"),
        ("checkpoint", FailureKind::Limit, "65538 bytes, of at most 65536"),
    ] {
        let e = sends::add_task(what.into()).on(&app).retry(3).timeout(soon()).await.unwrap_err();
        assert_eq!((failure(&e).kind, failure(&e).attempt), (kind, 1), "{e}");
        assert!(failure(&e).message.contains(message), "{e}");
        let WaitError::Ended(ended) = e else { panic!() };
        assert_eq!(ended.returning::<u32>().unwrap(), [1]);
    }
    let handle = sends::add_task("well".into()).on(&app).await.unwrap();
    assert_eq!(handle.wait().await.unwrap().returning, [1, 2]);
    let log: Vec<qtasks::Event> = handle.events_from(1).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started yield event yield completed");
    let shown = serde_json::to_value(&log[2]).unwrap();
    assert_eq!((&shown["kind"], &shown["name"], &shown["data"]["n"]), (&json!("event"), &json!("stage"), &json!(1)));
    // Directly, without a queue, it goes nowhere.
    assert_eq!(sends(Context::detached(), "well".into()).collect::<Vec<_>>().await, [1, 2]);
}

/// What `?` and threads ask of an error.
#[tokio::test]
async fn errors_convert_and_travel() {
    fn travels<T: Send + Sync + 'static>(_: &T) {}
    fn moves<T: Send + Unpin + 'static>(_: &T) {}
    async fn boxed(app: &Qtasks) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        fails_at::add_task(0).on(app).timeout(soon()).await?;
        Ok(())
    }
    async fn any(app: &Qtasks) -> anyhow::Result<()> {
        fails_at::add_task(0).on(app).timeout(soon()).await?;
        Ok(())
    }
    async fn ours(app: &Qtasks) -> qtasks::Result<()> {
        fails_at::add_task(0).on(app).timeout(soon()).await?;
        Ok(())
    }
    let app = app_of([fails_at::spec()]).await;
    travels(&fails_at::add_task(0).on(&app).timeout(soon()).await.unwrap_err());
    travels(&fails_at::add_task(0).on(&app).await.unwrap());
    moves(&fails_at::add_task(0).on(&app).await.unwrap().stream());
    assert!(boxed(&app).await.unwrap_err().to_string().ends_with("the task failed: at 0"));
    assert!(any(&app).await.unwrap_err().to_string().ends_with("the task failed: at 0"));
    let e = ours(&app).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::TaskFailed);
    assert_eq!(e.failure().map(|f| &*f.message), Some("at 0"));
    let id = fails_at::add_task(0).on(&app).await.unwrap().id();
    assert_eq!(id.to_string().parse::<qtasks::TaskId>().unwrap(), id);
    assert_eq!(serde_json::from_value::<qtasks::TaskId>(serde_json::to_value(id).unwrap()).unwrap(), id);
    assert!("nonsense".parse::<qtasks::TaskId>().is_err());
}

/// One at a time in a process: the only test that installs an app.
#[tokio::test]
async fn one_app_is_the_default_one() {
    let e = plain::add_task(1, 2).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::NoApp);
    assert!(e.to_string().contains("qtasks::init"), "{e}");
    let app = app_of([plain::spec()]).await;
    app.install().unwrap();
    assert_eq!(plain::add_task(1, 2).timeout(soon()).await.unwrap().returning, 3);
    let other = app_of([plain::spec()]).await;
    assert_eq!(other.install().unwrap_err().kind(), qtasks::ErrorKind::Conflict);
    app.shutdown().await.unwrap();
    assert_eq!(plain::add_task(1, 2).await.unwrap_err().kind(), qtasks::ErrorKind::NoApp);
    other.install().unwrap();
    drop(other);
    let last = app_of([plain::spec()]).await;
    last.install().unwrap();
    last.shutdown().await.unwrap();
    // One whose runtime has ended gives way to another, and until then says what is wrong.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let builder = Qtasks::builder().store(crate::store()).tasks([plain::spec()]).install();
    let gone = runtime.spawn(async move { builder.start().await }).await.unwrap().unwrap();
    runtime.shutdown_background();
    crate::until_async(async || gone.stats().await.is_err()).await;
    let e = plain::add_task(1, 2).await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::Unavailable, "{e}");
    assert!(e.to_string().contains("the runtime of this app has ended"), "{e}");
    let next = app_of([plain::spec()]).await;
    next.install().unwrap();
    assert_eq!(plain::add_task(1, 2).timeout(soon()).await.unwrap().returning, 3);
    next.shutdown().await.unwrap();
}

/// What was claimed when the shutdown came is not left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_leaves_nothing_running() {
    let adds = Qtasks::open(&crate::store_named("shutdown")).await.unwrap();
    for _ in 0..100 {
        let app = Qtasks::builder().store(crate::store_named("shutdown")).tasks([plain::spec()]).start().await.unwrap();
        let tasks = adds.add_all((0..40).map(|i| plain::add_task(i, 1))).await.unwrap();
        tokio::task::yield_now().await;
        app.shutdown().await.unwrap();
        for task in tasks {
            let record = task.record().await.unwrap();
            assert_ne!(record.status, Status::Running);
            assert_eq!(record.crashes, 0);
        }
    }
}

/// A worker that rests looks again when something is due earlier than it thought.
#[tokio::test]
async fn a_delayed_task_starts_when_it_is_due_on_an_idle_worker() {
    let app = Qtasks::builder().store(crate::store()).tasks([plain::spec()]).scan(soon()).start().await.unwrap();
    // It rests now, for as long as a scan takes.
    plain::add_task(1, 2).on(&app).timeout(soon() / 2).await.unwrap();
    let wait = Duration::from_millis(50);
    plain::add_task(1, 2).on(&app).delay(wait * 2).timeout(soon() / 2).await.unwrap();
    let late = plain::add_task(1, 2).on(&app).delay(wait * 20).await.unwrap();
    plain::add_task(1, 2).on(&app).delay(wait).timeout(soon() / 2).await.unwrap();
    late.wait_timeout(soon() / 2).await.unwrap();
}

#[test]
fn streams_and_waits_need_no_runtime_of_their_own() {
    let gate = Gate::default();
    let app = Qtasks::builder().store(crate::store()).tasks([gated::spec()]).state(gate.clone());
    let app = qtasks::blocking::start(app).unwrap();
    let handle = gated::add_task(1).on(&app).add_blocking().unwrap();
    let idle = handle.stream().idle_timeout(Duration::from_millis(10)).try_collect::<Vec<_>>();
    let e = futures::executor::block_on(idle).unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::TimedOut);
    let e = futures::executor::block_on(handle.wait_timeout(Duration::from_millis(10))).unwrap_err();
    assert!(matches!(e, WaitError::TimedOut(_)), "{e}");
    gate.open(2);
    assert_eq!(futures::executor::block_on(handle.wait_timeout(soon())).unwrap().returning, [0]);
    app.shutdown().unwrap();
}

#[tokio::test]
async fn a_blocking_thread_may_wait_though_the_runtime_has_one_thread() {
    let app = app_of([plain::spec()]).await;
    let add = plain::add_task(1, 2).on(&app).timeout(soon());
    let waited = tokio::task::spawn_blocking(move || add.wait_blocking().map(|task| task.returning)).await.unwrap();
    assert_eq!(waited.unwrap(), 3);
}

#[tokio::test]
async fn places_and_limits_beyond_all_bounds_are_taken() {
    let app = app_of([test_yield::spec()]).await;
    let handle = test_yield::add_task(1).on(&app).await.unwrap();
    handle.wait_timeout(soon()).await.unwrap();
    let e = handle.stream_after(u64::MAX).try_next().await.unwrap_err();
    assert_eq!(e.kind(), qtasks::ErrorKind::Reset);
    assert!(handle.events_from(u64::MAX).next().await.is_none());
    assert_eq!(app.list(List { limit: usize::MAX, ..List::default() }).await.unwrap().tasks.len(), 1);
}
