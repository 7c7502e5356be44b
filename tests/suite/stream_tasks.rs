//! Tasks that are values with fields, and yield through their context.

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{EventKind, FailureKind, Status, StreamTask};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{app_of, failure, soon};

/// Says something in each stage.
#[derive(Serialize, Deserialize)]
struct ExampleTask {
    #[serde(default = "hello")]
    message: String,
}

fn hello() -> String {
    "Hello".to_owned()
}

#[task]
impl StreamTask for ExampleTask {
    async fn process(&self, ctx: Context) -> Value {
        ctx.send_event("start", json!({ "message": self.message }));
        for step in 1..=3 {
            ctx.send_event("progress", json!({ "step": step, "total_steps": 3 }));
        }
        ctx.send_event("complete", json!({ "message": "done" }));
        json!({ "said": self.message, "times": 1.50 })
    }
}

/// What it is called, steps of its own, no final value.
#[derive(Serialize, Deserialize)]
struct MyCustomTask {
    title: String,
}

#[task(description = "custom", queue = "own", retry = 1, backoff = none)]
impl StreamTask for MyCustomTask {
    async fn process(&self, ctx: Context) -> Result<(), String> {
        ctx.send_event("start", json!({ "message": format!("Starting task: {}", self.title) }));
        for step in 1..=10 {
            ctx.send_event("progress", json!({ "step": step, "total": 10 }));
            if step == 5 && ctx.attempt() == 1 && self.title == "twice" {
                return Err("once".to_owned());
            }
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct AsyncGeneratorTask {
    items: u32,
}

#[task]
impl StreamTask for AsyncGeneratorTask {
    async fn process(&self, ctx: Context) -> Option<Value> {
        let total = self.items;
        let progress = (1..=total).map(|i| json!({ "item": i, "percentage": 100 * i / total }));
        ctx.process_generator(futures::stream::iter(progress)).await
    }
}

#[derive(Serialize, Deserialize)]
struct SyncGeneratorTask {
    items: u32,
}

#[task]
impl StreamTask for SyncGeneratorTask {
    type Item = u32;

    async fn process(&self, ctx: Context) -> Option<u32> {
        let blocking = (1..=self.items).inspect(|i| {
            assert!(tokio::runtime::Handle::try_current().is_err(), "it may block here");
            assert_ne!(*i, 13, "thirteen");
            std::thread::sleep(Duration::from_micros(100));
        });
        ctx.process_sync_generator(blocking).await
    }
}

/// Ends before its body does.
#[derive(Serialize, Deserialize)]
struct Early {}

#[task]
impl StreamTask for Early {
    type Item = u8;

    async fn process(&self, ctx: Context) -> String {
        ctx.emit(1).await;
        let (_, _) = futures::join!(ctx.emit(2), ctx.emit(3));
        ctx.mark_completed("early").await;
        unreachable!("the body ends there");
    }
}

/// The events of a log that are a task's own: name and data.
async fn own_events<F: TaskFn>(handle: &TaskHandle<F>) -> Vec<(String, Value)> {
    let log: Vec<_> = handle.events_from(0).try_collect().await.unwrap();
    let own = log.into_iter().filter_map(|e| match e.kind {
        EventKind::Event { name, data, .. } => Some((name, data.get().unwrap())),
        _ => None,
    });
    own.collect()
}

#[tokio::test]
async fn fields_are_arguments_and_the_final_value_comes_back_byte_for_byte() {
    let app = app_of([ExampleTask::spec()]).await;
    let handle = ExampleTask { message: "Hi".into() }.add_task().on(&app).await.unwrap();
    let task = handle.wait_timeout(soon()).await.unwrap();
    assert_eq!(task.record.final_value.as_ref().unwrap().as_str(), "{\"said\":\"Hi\",\"times\":1.5}");
    assert_eq!((task.record.name.as_str(), task.record.args.as_str()), ("ExampleTask", "{\"message\":\"Hi\"}"));
    let names: Vec<String> = own_events(&handle).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["start", "progress", "progress", "progress", "complete"]);
    // By name, with what serde makes up.
    let task = app.add_task("ExampleTask", json!({})).timeout(soon()).await.unwrap();
    assert_eq!(task.final_value["said"], "Hello");
    let error = app.add_task("ExampleTask", json!({ "message": 1 })).timeout(soon()).await.unwrap_err();
    assert!(failure(&error).message.starts_with("the fields of the task: "), "{error}");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_held_stream_task_is_started_once() {
    let app = app_of([MyCustomTask::spec()]).await;
    let handle = MyCustomTask { title: "mine".into() }.add_task().on(&app).held().await.unwrap();
    let id = handle.id();
    assert_eq!(handle.status().await.unwrap(), Status::Held);
    assert!(!app.is_running(id).await.unwrap());
    assert_eq!(app.start_task(id).await.unwrap(), Status::Queued);
    handle.wait_timeout(soon()).await.unwrap();
    assert_eq!(app.start_task(id).await.unwrap(), Status::Completed, "a second start changes nothing");
    let log = own_events(&handle).await;
    assert_eq!(log.len(), 11);
    assert_eq!(log[0], ("start".to_owned(), json!({ "message": "Starting task: mine" })));
    let record = handle.record().await.unwrap();
    assert_eq!((record.attempt, record.queue.as_str()), (1, "own"));
    assert_eq!(MyCustomTask::spec().description, Some("custom"));
    // A second attempt says nothing twice.
    let again = MyCustomTask { title: "twice".into() }.add_task().on(&app).await.unwrap();
    again.wait_timeout(soon()).await.unwrap();
    assert_eq!(own_events(&again).await.len(), 11);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn generators_are_stored_item_by_item_and_give_the_last() {
    let app = app_of([AsyncGeneratorTask::spec(), SyncGeneratorTask::spec(), Early::spec()]).await;
    let task = AsyncGeneratorTask { items: 5 }.add_task().on(&app).timeout(soon()).await.unwrap();
    let percents: Vec<_> = task.returning.iter().map(|v| v["percentage"].as_u64().unwrap()).collect();
    assert_eq!(percents, [20, 40, 60, 80, 100]);
    assert_eq!(task.final_value.unwrap(), task.returning[4]);
    let empty = AsyncGeneratorTask { items: 0 }.add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!((empty.returning.len(), empty.final_value), (0, None));
    let task = SyncGeneratorTask { items: 12 }.add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.final_value), ((1..=12).collect(), Some(12)));
    let error = SyncGeneratorTask { items: 20 }.add_task().on(&app).timeout(soon()).await.unwrap_err();
    assert!(failure(&error).message.contains("thirteen"), "{error}");
    let qtasks::WaitError::Ended(ended) = error else { panic!("{error}") };
    assert_eq!(ended.returning::<u32>().unwrap(), (1..=12).collect::<Vec<_>>(), "what it yielded is kept");
    let mut early = Early {}.add_task().on(&app).await.unwrap().stream();
    let mut values = Vec::new();
    while let Some(value) = early.try_next().await.unwrap() {
        values.push(value);
    }
    assert_eq!(values, [1, 2, 3]);
    let early = Early {}.add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!(early.final_value, "early");
    app.shutdown().await.unwrap();
}

/// Sends one event.
#[derive(Serialize, Deserialize)]
struct Sends {
    name: String,
}

#[task]
impl StreamTask for Sends {
    async fn process(&self, ctx: Context) {
        ctx.send_event(&self.name, 1);
    }
}

#[tokio::test]
async fn an_event_of_a_name_that_means_something_else_fails_the_task() {
    let app = app_of([Sends::spec()]).await;
    let browsers = ["error", "message", "open"];
    let ours = ["started", "yield", "log", "rewind", "reset", "retry", "completed", "failed", "cancelled"];
    for name in browsers.into_iter().chain(ours) {
        let task = Sends { name: name.into() }.add_task().on(&app).await.unwrap();
        let error = task.wait_timeout(soon()).await.unwrap_err();
        let failure = failure(&error);
        let whose = if browsers.contains(&name) {
            "what a browser calls its connection's own"
        } else {
            "what the queue calls its own"
        };
        let begins = format!("the name of the event `{name}` is {whose} (`");
        assert!(failure.kind == FailureKind::Codec && failure.message.starts_with(&begins), "{failure:?}");
        assert_eq!(own_events(&task).await, []);
    }
    for name in ["start", "progress", "complete"] {
        let task = Sends { name: name.into() }.add_task().on(&app).await.unwrap();
        task.wait_timeout(soon()).await.unwrap();
        assert_eq!(own_events(&task).await, [(name.to_owned(), json!(1))]);
    }
    app.shutdown().await.unwrap();
}

/// Thousands of yields, a crash in the middle: the log has each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_task_goes_on_after_a_crash() {
    let url = crate::store_named("stream-task-crash");
    let keep = Qtasks::open(&*url).await.unwrap();
    let start = || {
        let builder = Qtasks::builder().store(&*url).tasks([AsyncGeneratorTask::spec()]);
        builder.lease(Duration::from_millis(300)).scan(Duration::from_millis(50)).start()
    };
    let first = start().await.unwrap();
    let handle = AsyncGeneratorTask { items: 20_000 }.add_task().on(&keep).await.unwrap();
    let mut live = handle.stream();
    for i in 1..=500 {
        assert_eq!(live.try_next().await.unwrap().unwrap()["item"], i);
    }
    assert!(keep.is_running(handle.id()).await.unwrap(), "as any process sees");
    assert_eq!(keep.running().await.unwrap()[0].id, handle.id());
    drop(first);
    let second = start().await.unwrap();
    for i in 501..=20_000 {
        assert_eq!(live.try_next().await.unwrap().unwrap()["item"], i);
    }
    assert!(live.try_next().await.unwrap().is_none());
    assert!(!keep.is_running(handle.id()).await.unwrap());
    second.shutdown().await.unwrap();
    keep.shutdown().await.unwrap();
}

#[tokio::test]
async fn only_a_stream_task_yields_through_its_context() {
    #[task]
    async fn plain(ctx: Context) -> i32 {
        ctx.emit(1).await;
        1
    }
    let app = app_of([plain::spec()]).await;
    let error = plain::add_task().on(&app).timeout(soon()).await.unwrap_err();
    assert!(failure(&error).message.starts_with("only a `StreamTask` emits values"), "{error}");
    app.shutdown().await.unwrap();
    // Directly, without a queue.
    let last = AsyncGeneratorTask { items: 2 }.process(Context::detached()).await.unwrap();
    assert_eq!(last["percentage"], 100);
}

/// It goes on without anybody, unless it is told not to: then any process counts.
#[tokio::test]
async fn a_task_may_be_cancelled_when_nobody_watches() {
    #[task(cancel_when_unwatched = "2s")]
    async fn wanted(ctx: Context) -> u32 {
        for i in 0.. {
            yield_!(i);
            ctx.sleep(Duration::from_millis(5)).await;
        }
    }
    let url = crate::store_named("unwatched");
    let builder = Qtasks::builder().store(&*url).tasks([wanted::spec()]).lease(Duration::from_millis(400));
    let app = builder.start().await.unwrap();
    let other = Qtasks::builder().store(&*url).lease(Duration::from_millis(400)).open().await.unwrap();
    let handle = wanted::add_task().on(&app).await.unwrap();
    let mut live = TaskHandle::<wanted>::attach(&other, handle.id()).await.unwrap().stream();
    // More than twice as long as it may be alone.
    let watched = std::time::Instant::now();
    while watched.elapsed() < Duration::from_millis(4_500) {
        live.try_next().await.unwrap().expect("it goes on while it is watched");
    }
    drop(live);
    crate::until_async(async || handle.status().await.unwrap() == Status::Cancelled).await;
    assert_eq!(handle.record().await.unwrap().cancel_reason.as_deref(), Some("unwatched"));
    let short = Qtasks::builder().store(crate::store()).tasks([wanted::spec()]).start().await.unwrap_err();
    assert!(short.to_string().contains("`cancel_when_unwatched` is at least one and a half leases, 15s"), "{short}");
    app.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}
