//! The README of Django Streaming Coordinator once more, now as it is written there: tasks that are values with fields,
//! by the names that they have on the page, with their events in order and their final values byte for byte.

use qtasks::prelude::*;
use qtasks::{EventKind, Status, StreamTask};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::api;
use crate::{app_of, failure, soon};

#[derive(Serialize, Deserialize)]
struct ExampleTask {
    #[serde(default = "hello")]
    message: String,
}

fn hello() -> String {
    "Hello from ExampleTask".to_owned()
}

#[task]
impl StreamTask for ExampleTask {
    async fn process(&self, ctx: Context) {
        ctx.send_event("start", json!({ "message": self.message, "total_steps": 3 }));
        for i in 1..4 {
            tokio::task::yield_now().await;
            let message = format!("Step {i} of 3");
            ctx.send_event("progress", json!({ "step": i, "total_steps": 3, "message": message }));
        }
        ctx.send_event("complete", json!({ "message": "Task completed successfully" }));
    }
}

#[derive(Serialize, Deserialize)]
struct MyCustomTask {
    title: String,
}

#[task]
impl StreamTask for MyCustomTask {
    async fn process(&self, ctx: Context) {
        ctx.send_event("start", json!({ "message": format!("Starting task: {}", self.title) }));
        for i in 0..10 {
            tokio::task::yield_now().await;
            let message = format!("Processing step {}", i + 1);
            ctx.send_event("progress", json!({ "step": i + 1, "total": 10, "message": message }));
        }
        ctx.send_event("complete", json!({ "message": "Task completed successfully" }));
    }
}

#[derive(Serialize, Deserialize)]
struct AsyncGeneratorTask {
    #[serde(default = "five")]
    count: u32,
}

fn five() -> u32 {
    5
}

#[derive(Serialize, Deserialize)]
struct Progress {
    step: u32,
    total: u32,
    percentage: f64,
}

#[task]
impl StreamTask for AsyncGeneratorTask {
    type Item = Progress;

    async fn process(&self, ctx: Context) -> Option<Progress> {
        let progress_generator = stream! {
            for i in 0..self.count {
                tokio::task::yield_now().await;
                let percentage = f64::from(i + 1) / f64::from(self.count) * 100.0;
                yield Progress { step: i + 1, total: self.count, percentage };
            }
        };

        ctx.send_event("start", json!({ "total_steps": self.count }));
        let last = ctx.process_generator(progress_generator).await;
        ctx.send_event("complete", json!({ "message": "Done" }));
        last
    }
}

#[derive(Serialize, Deserialize)]
struct SyncGeneratorTask {
    #[serde(default)]
    items: Vec<Value>,
}

#[task]
impl StreamTask for SyncGeneratorTask {
    async fn process(&self, ctx: Context) -> Option<Value> {
        let item_processor = self.items.clone().into_iter().enumerate().map(|(idx, item)| {
            let processed = format!("Processed: {}", item.as_str().unwrap_or_default());
            json!({ "index": idx, "item": item, "processed": processed })
        });

        ctx.send_event("start", json!({ "total_items": self.items.len() }));
        let last = ctx.process_sync_generator(item_processor).await;
        ctx.send_event("complete", json!({}));
        last
    }
}

#[derive(Serialize, Deserialize)]
struct HttpxFetchTask {
    url: String,
}

#[task]
impl StreamTask for HttpxFetchTask {
    async fn process(&self, ctx: Context) -> anyhow::Result<Box<RawValue>> {
        ctx.send_event("start", json!({ "url": self.url }));

        let message = format!("Fetching from {}", self.url);
        ctx.send_event("progress", json!({ "status": "fetching", "message": message }));

        let response = reqwest::get(&self.url).await?.error_for_status()?;
        let status_code = response.status().as_u16();
        let data = serde_json::from_slice(&response.bytes().await?)?;

        ctx.send_event("progress", json!({ "status": "fetched", "status_code": status_code }));
        ctx.send_event("complete", json!({ "message": "Data fetched successfully" }));
        Ok(data)
    }
}

/// The effective log of a task, as a watcher sees it who is there from before it starts, and then as one who comes late;
/// its final value as it is stored. The task is started twice.
async fn told<F: TaskFn>(app: &Qtasks, add: qtasks::AddTask<F>) -> (Vec<(String, Value)>, Option<String>) {
    let handle = add.on(app).held().await.unwrap();
    let live = handle.events_from(0);
    assert!(!app.is_running(handle.id()).await.unwrap());
    app.start_task(handle.id()).await.unwrap();
    let live: Vec<qtasks::Event> = live.try_collect().await.unwrap();
    let before = handle.record().await.unwrap();
    assert!(app.start_task(handle.id()).await.unwrap().is_ended());
    let late: Vec<qtasks::Event> = handle.events_from(0).try_collect().await.unwrap();
    assert_eq!(live, late, "a second start changes nothing");
    let record = handle.record().await.unwrap();
    assert_eq!((record.updated_at, record.attempt), (before.updated_at, 1));
    let told = late.into_iter().filter_map(|event| match event.kind {
        EventKind::Event { name, data, .. } => Some((name, data.get().unwrap())),
        EventKind::Yield { value, .. } => Some(("yield".to_owned(), value.get().unwrap())),
        _ => None,
    });
    (told.collect(), record.final_value.map(|json| json.as_str().to_owned()))
}

fn names(told: &[(String, Value)]) -> String {
    told.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn example_task() {
    let app = app_of([ExampleTask::spec()]).await;
    let (log, final_value) = told(&app, ExampleTask { message: "Hello, World!".into() }.add_task()).await;
    assert_eq!(names(&log), "start progress progress progress complete");
    assert_eq!(log[0].1, json!({ "message": "Hello, World!", "total_steps": 3 }));
    assert_eq!(log[3].1, json!({ "step": 3, "total_steps": 3, "message": "Step 3 of 3" }));
    assert_eq!(log[4].1, json!({ "message": "Task completed successfully" }));
    assert_eq!(final_value.as_deref(), Some("null"));
    // By its name, with the field's default.
    let by_name = app.add_task("ExampleTask", json!({})).await.unwrap();
    let log: Vec<_> = by_name.events_from(0).try_collect().await.unwrap();
    let EventKind::Event { data, .. } = &log[1].kind else { panic!("{log:?}") };
    assert_eq!(data.get::<Value>().unwrap()["message"], "Hello from ExampleTask");
}

#[tokio::test]
async fn my_custom_task() {
    let app = app_of([MyCustomTask::spec()]).await;
    let (log, final_value) = told(&app, MyCustomTask { title: "One".into() }.add_task()).await;
    assert_eq!(names(&log), format!("start {}complete", "progress ".repeat(10)));
    assert_eq!(log[0].1, json!({ "message": "Starting task: One" }));
    assert_eq!(log[10].1, json!({ "step": 10, "total": 10, "message": "Processing step 10" }));
    assert_eq!(final_value.as_deref(), Some("null"));
}

#[tokio::test]
async fn async_generator_task() {
    let app = app_of([AsyncGeneratorTask::spec()]).await;
    let (log, final_value) = told(&app, AsyncGeneratorTask { count: 5 }.add_task()).await;
    assert_eq!(names(&log), format!("start {}complete", "yield ".repeat(5)));
    assert_eq!(log[0].1, json!({ "total_steps": 5 }));
    let percentages: Vec<f64> = log[1..6].iter().map(|(_, step)| step["percentage"].as_f64().unwrap()).collect();
    assert_eq!(percentages, [20.0, 40.0, 60.0, 80.0, 100.0]);
    assert_eq!(log[6].1, json!({ "message": "Done" }));
    // The last item, and nothing beside it.
    assert_eq!(final_value.as_deref(), Some(r#"{"step":5,"total":5,"percentage":100.0}"#));
    let by_name = app.add_task("AsyncGeneratorTask", json!({})).timeout(soon()).await.unwrap();
    assert_eq!(by_name.returning.len(), 5, "the field's default");
    let none = AsyncGeneratorTask { count: 0 }.add_task().on(&app).timeout(soon()).await.unwrap();
    assert!(none.returning.is_empty() && none.final_value.is_none());
}

#[tokio::test]
async fn sync_generator_task() {
    let app = app_of([SyncGeneratorTask::spec()]).await;
    let items = vec![json!("x"), json!("ы \"y\"")];
    let (log, final_value) = told(&app, SyncGeneratorTask { items }.add_task()).await;
    assert_eq!(names(&log), "start yield yield complete");
    assert_eq!(log[0].1, json!({ "total_items": 2 }));
    assert_eq!(log[1].1, json!({ "index": 0, "item": "x", "processed": "Processed: x" }));
    assert_eq!(log[3].1, json!({}));
    let last = r#"{"index":1,"item":"ы \"y\"","processed":"Processed: ы \"y\""}"#;
    assert_eq!(final_value.as_deref(), Some(last));
    let (log, final_value) = told(&app, SyncGeneratorTask { items: Vec::new() }.add_task()).await;
    assert_eq!((names(&log).as_str(), final_value.as_deref()), ("start complete", Some("null")));
}

#[tokio::test]
async fn httpx_fetch_task() {
    let app = app_of([HttpxFetchTask::spec()]).await;
    let url = format!("{}/data", api());
    let (log, final_value) = told(&app, HttpxFetchTask { url: url.clone() }.add_task()).await;
    let message = format!("Fetching from {url}");
    let expected = [
        ("start", json!({ "url": url })),
        ("progress", json!({ "status": "fetching", "message": message })),
        ("progress", json!({ "status": "fetched", "status_code": 200 })),
        ("complete", json!({ "message": "Data fetched successfully" })),
    ];
    assert_eq!(log, expected.map(|(name, data)| (name.to_owned(), data)));
    assert_eq!(final_value.as_deref(), Some(super::DATA), "the body as it was sent");
}

#[tokio::test]
async fn httpx_fetch_task_of_a_server_that_is_broken() {
    let app = app_of([HttpxFetchTask::spec()]).await;
    let url = format!("{}/broken", api());
    let handle = HttpxFetchTask { url: url.clone() }.add_task().on(&app).await.unwrap();
    let error = handle.wait_timeout(soon()).await.unwrap_err();
    assert_eq!((handle.status().await.unwrap(), failure(&error).kind), (Status::Failed, qtasks::FailureKind::Error));
    let status = format!("HTTP status server error (500 Internal Server Error) for url ({url})");
    assert_eq!(failure(&error).message, status);
    let log: Vec<qtasks::Event> = handle.events_from(0).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(crate::kinds(&log), "started event event failed", "what it had sent is kept");
}
