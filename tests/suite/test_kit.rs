//! The kit with which users test their tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use qtasks::prelude::*;
use qtasks::test::{
    Deaf, Faults, Faulty, Operation, Persistent, Script, Scripted, SentEvent, TestBuilder, assert_added, assert_yields,
    run_inline,
};
use qtasks::{FailureKind, Status, Store};
use serde_json::json;

use crate::{kinds, soon};

const HOUR: Duration = Duration::from_secs(3600);

async fn add_two(x: i64) -> i64 {
    x + 2
}

#[task(generate_handler = add_two)]
async fn kit_yields(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(n + i);
    }
}

/// A test app with the tasks of this file, some of which want this.
fn kit() -> TestBuilder {
    let specs = [
        kit_yields::spec(),
        kit_plain::spec(),
        kit_resumes::spec(),
        kit_adds::spec(),
        kit_waits::spec(),
        kit_never::spec(),
        kit_killed::spec(),
        kit_killed_sync::spec(),
    ];
    qtasks::test::app().tasks(specs).state(Arc::<Did>::default())
}

/// What a panic says.
fn said(result: Result<(), Box<dyn std::any::Any + Send>>) -> String {
    let payload = result.expect_err("it panics");
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| (*payload.downcast_ref::<&str>().unwrap()).to_owned())
}

#[task(yield = String)]
async fn kit_tells(ctx: Context, words: Vec<String>, greeting: State<String>) -> Result<usize, String> {
    ctx.send_event("begin", json!({ "words": words.len() }));
    for (i, word) in words.iter().enumerate() {
        if word.is_empty() {
            return Err(format!("word {i} is empty"));
        }
        ctx.checkpoint(&i);
        yield_!(format!("{} {word}", *greeting));
        ctx.send_event("said", word);
    }
    Ok(words.len())
}

#[tokio::test]
async fn a_run_in_place_tells_all_that_its_body_did() {
    let words = vec!["Ada".to_owned(), "Grace".to_owned()];
    let run = run_inline(kit_tells::add_task(words)).state("hello".to_owned()).await;
    assert_yields!(run, ["hello Ada", "hello Grace"]);
    let events: Vec<(u64, &str, String)> =
        run.events.iter().map(|SentEvent { index, name, data, .. }| (*index, &**name, data.to_string())).collect();
    let [begin, ada, grace] = [r#"{"words":2}"#, r#""Ada""#, r#""Grace""#].map(str::to_owned);
    assert_eq!(events, [(0, "begin", begin), (1, "said", ada), (2, "said", grace)]);
    assert_eq!(run.checkpoints.iter().map(|c| c.get().unwrap()).collect::<Vec<usize>>(), [0, 1]);
    assert_eq!((run.returning().len(), *run.final_value()), (2, 2));

    let run = run_inline(kit_tells::add_task(vec!["Ada".to_owned(), String::new()])).state("hello".to_owned()).await;
    assert_yields!(run, ["hello Ada"]);
    assert_eq!((run.failure().kind, &*run.failure().message), (FailureKind::Error, "word 1 is empty"));
    let run = run_inline(kit_tells::add_task(vec![])).await;
    assert!(run.failure().message.contains("no state of type"), "{:?}", run.failure());
}

#[task]
fn kit_sync(ctx: Context, n: u32) -> u32 {
    for i in 0..n {
        if i == 2 {
            let _over = ctx.cancel("enough");
        }
        yield_!(i);
    }
}

#[task]
async fn kit_plain(x: i64) -> i64 {
    assert!(x > 0, "x is {x}");
    x * 2
}

#[tokio::test]
async fn bodies_of_every_kind_run_in_place() {
    assert_yields!(run_inline(kit_yields::add_task(3)).await, [6, 7, 8]);
    let cancelled = run_inline(kit_sync::add_task(5)).await;
    assert_yields!(cancelled, [0, 1]);
    assert_eq!((cancelled.failure().kind, &*cancelled.failure().message), (FailureKind::Cancelled, "enough"));
    assert_eq!(*run_inline(kit_plain::add_task(4)).await.returning(), 8);
    let panicked = run_inline(kit_plain::add_task(-1)).await;
    assert_eq!((panicked.failure().kind, &*panicked.failure().message), (FailureKind::Panic, "x is -1"));
    let app = kit().start().await;
    let by_name = run_inline(app.add_task("kit_plain", json!([4]))).await;
    assert_eq!(*by_name.returning(), [json!(8)]);
}

#[task]
async fn kit_resumes(ctx: Context, from: Resume<String>, n: u64) -> String {
    let mut sum = from.checkpoint::<u64>().unwrap_or(0);
    for i in from.count()..n {
        sum += i;
        ctx.checkpoint(&sum);
        yield_!(format!("{i}: {sum}"));
    }
}

#[tokio::test]
async fn a_run_in_place_may_begin_where_another_ended() {
    let whole = run_inline(kit_resumes::add_task(5)).await;
    let first: Vec<String> = whole.yields[..2].to_vec();
    let rest = run_inline(kit_resumes::add_task(5)).resuming(first).checkpoint(&1_u64).attempt(2).await;
    assert_yields!(rest, whole.yields[2..]);
}

#[task]
async fn kit_adds(to: String) -> i64 {
    kit_plain::add_task(7).await.unwrap();
    to.len() as i64
}

#[tokio::test]
async fn what_bodies_add_is_added() {
    let app = kit().start().await;
    run_inline(kit_adds::add_task("ada".to_owned()).on(&app)).await;
    assert_added!(app, "kit_plain", [7], 1);
    kit_adds::add_task("ada".to_owned()).on(&app).queue("another").await.unwrap();
    app.drain().await;
    assert_added!(app, "kit_plain", { "x": 7 }, 2);
    assert_added!(app, "kit_plain");
    assert_added!(app, "kit_adds", times = 1);
    assert_added!(app, "kit_adds", { "to": "ada" });
    assert_added!(app, "kit_adds", { "to": "grace" }, 0);
    kit_plain::add_task(1).on(&app).unique("one").held().await.unwrap();
    kit_plain::add_task(1).on(&app).unique("one").held().await.unwrap();
    assert_added!(app, "kit_plain", [1], 1);

    let message = said(catch_unwind(AssertUnwindSafe(|| assert_added!(app, "kit_adds", ["grace"]))));
    assert_eq!(
        message,
        "`kit_adds` was added with [\"grace\"] 0 times, where at least once is expected\n\
         its arguments: {\"to\":\"ada\"}\nothers that were added: `kit_plain`"
    );
}

#[test]
fn the_first_place_that_differs_is_shown() {
    let message = |yielded: Vec<i32>| said(catch_unwind(move || assert_yields!(yielded, [1, 2])));
    assert_eq!(message(vec![1, 3]), "at index 1 there is 3, where 2 is expected\n yielded: [1, 3]\nexpected: [1, 2]");
    assert!(message(vec![1]).starts_with("at index 1 there is nothing, where 2 is expected"));
    assert!(message(vec![1, 2, 4]).starts_with("at index 2 there is 4, where nothing is expected"));
}

#[tokio::test]
async fn the_clock_of_a_test_app_stands_still() {
    let app = kit().start().await;
    let later = kit_yields::add_task(2).on(&app).delay(HOUR).await.unwrap();
    let latest = kit_yields::add_task(3).on(&app).delay(3 * HOUR).await.unwrap();
    let now = kit_yields::add_task(1).on(&app).await.unwrap();
    app.drain().await;
    let statuses = async || {
        let mut all = Vec::new();
        for handle in [&now, &later, &latest] {
            all.push(handle.status().await.unwrap());
        }
        all
    };
    assert_eq!(statuses().await, [Status::Completed, Status::Delayed, Status::Delayed]);
    app.advance(HOUR).await;
    app.drain().await;
    assert_eq!(statuses().await, [Status::Completed, Status::Completed, Status::Delayed]);
    // By the clock itself, too.
    app.clock().advance(2 * HOUR);
    assert_yields!(latest.wait_timeout(soon()).await.unwrap(), [6, 7, 8]);
    app.shutdown().await.unwrap();
}

static OPEN: AtomicU32 = AtomicU32::new(0);

#[task]
async fn kit_waits(ctx: Context) -> u32 {
    yield_!(ctx.attempt());
    while OPEN.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    yield_!(ctx.attempt());
}

/// A worker that was alive all the while loses nothing, however far and however often the clock is moved.
#[tokio::test]
async fn a_running_task_stays_with_its_worker_when_the_clock_moves() {
    let app = kit().start().await;
    let handle = kit_waits::add_task().on(&app).await.unwrap();
    let mut values = handle.stream();
    assert_eq!(values.try_next().await.unwrap(), Some(1));
    for by in [9, 11, 9, 3600, 9, 9, 9] {
        app.advance(Duration::from_secs(by)).await;
    }
    OPEN.store(1, Ordering::SeqCst);
    let task = handle.wait_timeout(soon()).await.unwrap();
    assert_yields!(task, [1, 1]);
    assert_eq!(task.record.crashes, 0);
}

#[task]
async fn kit_never() -> u32 {
    std::future::pending().await
}

#[tokio::test]
async fn draining_ends_with_a_list_of_what_is_left() {
    let app = kit().start().await;
    let handle = kit_never::add_task().on(&app).queue("slow").await.unwrap();
    let drained = AssertUnwindSafe(app.drain_within(Duration::from_millis(50))).catch_unwind().await;
    let message = said(drained);
    let left = format!("{} `kit_never` in the queue `slow`: Running, attempt 1, 0 yields", handle.id());
    assert!(message.starts_with("not drained within 50ms; 1 tasks are left:") && message.contains(&left), "{message}");
}

/// What bodies and handlers did.
#[derive(Default)]
struct Did {
    bodies: AtomicU32,
}

#[task]
async fn kit_killed(did: State<Arc<Did>>, n: u32) -> u32 {
    did.bodies.fetch_add(1, Ordering::SeqCst);
    for i in 0..n {
        yield_!(i * 10);
    }
}

#[task]
fn kit_killed_sync(did: State<Arc<Did>>, n: u32) -> u32 {
    did.bodies.fetch_add(1, Ordering::SeqCst);
    for i in 0..n {
        yield_!(i * 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dies_after_so_many_yields_and_nobody_sees_it() {
    for sync in [false, true] {
        for deaths in [vec![1], vec![3], vec![5], vec![2, 2], vec![1, 1, 1, 1, 1]] {
            let did = Arc::<Did>::default();
            let app = deaths.iter().fold(kit().state(Arc::clone(&did)), |app, n| app.kill_after(*n));
            let app = app.start().await;
            let (values, task) = if sync {
                let handle = kit_killed_sync::add_task(5).on(&app).await.unwrap();
                (handle.stream().try_collect::<Vec<_>>().await.unwrap(), app.task(handle.id()).await.unwrap())
            } else {
                let handle = kit_killed::add_task(5).on(&app).await.unwrap();
                (handle.stream().try_collect::<Vec<_>>().await.unwrap(), app.task(handle.id()).await.unwrap())
            };
            assert_yields!(values, [0, 10, 20, 30, 40]);
            app.drain().await;
            let record = task.record().await.unwrap();
            let died = u32::try_from(deaths.len()).unwrap();
            assert_eq!(record.attempt, died + 1, "{deaths:?}");
            assert_eq!(did.bodies.load(Ordering::SeqCst), died + 1, "{deaths:?}");
            let log: Vec<_> = task.events_from(1).try_collect().await.unwrap();
            let lives =
                kinds(&log).split(" retry").map(|life| life.matches("yield").count() as u64).collect::<Vec<_>>();
            assert_eq!(lives[..deaths.len()], deaths, "{}", kinds(&log));
            app.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_body_that_resumes_can_be_killed_anywhere() {
    let whole = run_inline(kit_resumes::add_task(4)).await;
    for yields in 1..=4 {
        let app = kit().kill_after(yields).start().await;
        let task = kit_resumes::add_task(4).on(&app).timeout(soon()).await.unwrap();
        assert_yields!(task, whole.yields);
        assert_eq!((task.record.attempt, task.record.rewinds.len()), (2, 0));
    }
}

#[tokio::test]
async fn a_script_says_which_calls_go_wrong() {
    let script = Script::new().fail(Operation::Append, 1).lose(Operation::Append, 2).lose(Operation::Claim, 1);
    let (send, receive) = std::sync::mpsc::channel();
    let app = kit().store(move |store| {
        let store = Scripted::new(store, script);
        send.send(Arc::clone(&store)).unwrap();
        store
    });
    let app = app.start().await;
    let store = receive.recv().unwrap();
    let task = kit_yields::add_task(3).on(&app).timeout(soon()).await.unwrap();
    assert_yields!(task, [6, 7, 8]);
    assert_eq!((task.record.attempt, task.record.crashes), (1, 0));
    assert!(store.calls(Operation::Append) >= 3 && store.calls(Operation::Claim) >= 2);

    // Exactly those: before it is done, or after.
    let script = Script::new().fail(Operation::DocPut, 2).lose(Operation::DocPut, 3);
    let store = Scripted::new(qtasks::store::MemoryStore::new(qtasks::Clock::manual()), script);
    let put = |key: &str| {
        let put = qtasks::store::DocPut { key: key.to_owned(), if_version: None, bytes: Vec::new(), expires: None };
        store.doc_put(put)
    };
    put("a").await.unwrap();
    let refused = put("b").await.unwrap_err();
    assert_eq!(refused.to_string(), "DocPut, call 2: it fails, as the script says");
    assert_eq!(put("c").await.unwrap_err().kind(), qtasks::ErrorKind::Unavailable);
    put("d").await.unwrap();
    let keys: Vec<String> = store.doc_list(String::new()).await.unwrap().into_iter().map(|doc| doc.key).collect();
    assert_eq!(keys, ["a", "c", "d"]);
}

#[tokio::test]
async fn faults_of_every_sort_go_around_the_workers_of_a_test_app() {
    let faulty = |store| Faulty::new(store, Faults { lost: Operation::REPEATABLE, ..Faults::default() });
    let app = kit().store(move |store| Arc::new(Persistent(faulty(store)))).kill_after(2).start().await;
    assert_yields!(kit_yields::add_task(3).on(&app).timeout(soon()).await.unwrap(), [6, 7, 8]);
    let app = kit().store(|store| Arc::new(Deaf(store))).start().await;
    assert_yields!(kit_yields::add_task(3).on(&app).timeout(soon()).await.unwrap(), [6, 7, 8]);
}
