//! `app.inspect()`, and the schemas of what task functions take and give.

use std::collections::BTreeMap;
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{Isolation, Rate, Status, StreamTask, TaskKind, TaskSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{app_of, store, store_named, until_async};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
struct Row {
    id: u32,
    name: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct WithoutSchema {
    x: u8,
}

/// Imports rows.
///
/// Not part of the description.
#[task(yield = Row, queue = "imports", priority = -2, tags("nightly"), retry = 3, time_limit = "5m", concurrency = 4,
       limit = "10/s")]
async fn import_rows(path: String, rows: Vec<Row>, limit: Option<u64>, #[default = 8] batch: u8) -> u64 {
    let _ = (path, limit, batch);
    for row in rows {
        yield_!(row);
    }
    7
}

#[task(generate_handler = length -> u64)]
async fn lengths(words: Vec<String>) -> String {
    for word in words {
        yield_!(word);
    }
}

fn length(word: String) -> u64 {
    word.into_bytes().len() as u64
}

#[task]
fn no_schema(given: WithoutSchema, plain: bool) -> Result<WithoutSchema, String> {
    let _ = plain;
    Ok(given)
}

#[task]
async fn nothing() {}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
struct Fetch {
    url: String,
    #[serde(default)]
    tries: u8,
}

#[task]
impl StreamTask for Fetch {
    async fn process(&self, ctx: Context) -> Row {
        let _ = ctx;
        Row { id: self.url.len() as u32, name: None }
    }
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

fn specs() -> [&'static TaskSpec; 5] {
    [import_rows::spec(), lengths::spec(), no_schema::spec(), nothing::spec(), Fetch::spec()]
}

#[tokio::test]
async fn an_inspection_tells_what_is_registered() {
    let app = app_of(specs()).await;
    let about = app.inspect().await.unwrap();
    let names: Vec<_> = about.tasks.iter().map(|task| task.spec.name).collect();
    assert_eq!(names, ["Fetch", "import_rows", "lengths", "no_schema", "nothing"]);
    let spec = &about.tasks[1].spec;
    assert_eq!(spec.description, Some("Imports rows."));
    assert_eq!(
        (spec.queue, spec.priority, spec.tags, spec.kind),
        ("imports", -2, &["nightly"][..], TaskKind::AsyncGen)
    );
    assert_eq!((spec.time_limit, spec.concurrency), (Some(Duration::from_secs(300)), Some(4)));
    assert!(spec.generating && spec.module.ends_with("introspection::inspect") && spec.line > 0);
    assert_eq!(spec.isolation, Isolation::None);
    let args: Vec<_> = spec.args.iter().map(|arg| (arg.name, arg.ty, arg.required, arg.default)).collect();
    assert_eq!(
        args,
        [
            ("path", "String", true, None),
            ("rows", "Vec<Row>", true, None),
            ("limit", "Option<u64>", false, None),
            ("batch", "u8", false, Some("8"))
        ]
    );

    let json = serde_json::to_value(&about).unwrap();
    let task = &json["tasks"][1];
    assert_eq!(
        (&task["name"], &task["queue"], &task["kind"]),
        (&json!("import_rows"), &json!("imports"), &json!("async_gen"))
    );
    assert_eq!(task["args"][0], json!({ "name": "path", "type": "String", "required": true, "default": null }));
    assert_eq!(task["time_limit"], json!({ "secs": 300, "nanos": 0 }));
    assert_eq!(task["schemas"], serde_json::to_value(spec.schemas()).unwrap());
    let at = json["at"].as_str().unwrap();
    assert!(at.starts_with("20") && at.ends_with('Z'), "{at}");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_function_is_told_of_under_the_name_that_it_has_here() {
    let path = format!("{}::nothing", module_path!());
    let app = Qtasks::builder().store(store()).tasks([nothing::spec()]).rename(path, "other").open().await.unwrap();
    let about = serde_json::to_string(&app.inspect().await.unwrap()).unwrap();
    let json: Value = serde_json::from_str(&about).unwrap();
    assert_eq!((&json["tasks"][0]["name"], &json["tasks"][0]["function"]), (&json!("other"), &json!("nothing")));
    assert_eq!(json["workers"], json!([]), "it has none");
}

#[test]
fn schemas_tell_what_a_task_function_takes_and_gives() {
    let row = |contract: Value| {
        json!({
            "type": "object",
            "properties": {
                "id": { "type": "integer", "format": "uint32", "minimum": 0 },
                "name": { "type": ["string", "null"] },
            },
            "required": contract,
        })
    };
    let schemas = import_rows::spec().schemas();
    assert_eq!(
        schemas.args,
        json!({
            "$schema": DRAFT,
            "type": "object",
            "properties": {
                "path": { "type": "string" },
                "rows": { "type": "array", "items": { "$ref": "#/$defs/Row" } },
                "limit": { "type": ["integer", "null"], "format": "uint64", "minimum": 0 },
                "batch": { "type": "integer", "format": "uint8", "minimum": 0, "maximum": 255 },
            },
            "required": ["path", "rows"],
            "additionalProperties": false,
            "$defs": { "Row": row(json!(["id"])) },
        })
    );
    // What is written has all its fields.
    let item = json!({ "$schema": DRAFT, "$ref": "#/$defs/Row", "$defs": { "Row": row(json!(["id", "name"])) } });
    assert_eq!(schemas.item, Some(item.clone()));
    assert_eq!(schemas.output["type"], "integer");

    let lengths = lengths::spec().schemas();
    assert_eq!(lengths.item.unwrap()["type"], "integer", "after the handler");
    assert_eq!(lengths.output, json!({ "$schema": DRAFT, "type": "null" }));

    let fetch = Fetch::spec().schemas();
    assert_eq!(fetch.args["$ref"], "#/$defs/Fetch");
    assert_eq!(fetch.args["$defs"]["Fetch"]["required"], json!(["url"]));
    assert_eq!((fetch.item, fetch.output), (Some(json!(true)), item));
}

#[test]
fn a_type_without_a_schema_is_true() {
    let schemas = no_schema::spec().schemas();
    assert_eq!(schemas.args["properties"], json!({ "given": true, "plain": { "type": "boolean" } }));
    assert_eq!((schemas.item, schemas.output), (None, json!(true)), "the `Ok` of a `Result`");
    let dynamic = TaskSpec::dynamic("d", |_: Context, _: qtasks::Json| async { Ok::<_, String>(1) }).schemas();
    assert_eq!((dynamic.args, dynamic.item, dynamic.output), (json!(true), None, json!(true)));
    assert_eq!(nothing::spec().schemas().args["required"], json!([]));
}

#[task(queue = "slow")]
async fn waits() {
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_inspection_tells_of_queues_workers_and_what_was_done() {
    let specs = [waits::spec(), nothing::spec()];
    let builder = |name: &str| Qtasks::builder().store(store_named("inspection")).tasks(specs).worker_name(name);
    let rate = Rate::new(5, Duration::from_secs(1));
    let app = builder("first").concurrency(3).queue_concurrency("slow", 7).queue_rate("slow", rate);
    let app = app.start().await.unwrap();
    let looks = builder("unused").queue_concurrency("rare", 1).open().await.unwrap();
    for _ in 0..3 {
        nothing::add_task().on(&app).timeout(crate::soon()).await.unwrap();
    }
    let slow = [waits::add_task().on(&app).await.unwrap(), waits::add_task().on(&app).await.unwrap()];
    for task in &slow {
        until_async(async || task.status().await.unwrap() == Status::Running).await;
    }
    waits::add_task().on(&app).held().await.unwrap();
    waits::add_task().on(&app).queue("other").delay(Duration::from_secs(999)).await.unwrap();
    app.pause("other").await.unwrap();

    let about = app.inspect().await.unwrap();
    let queues: BTreeMap<_, _> = about.queues.iter().map(|queue| (queue.name.as_str(), queue)).collect();
    assert_eq!(queues.keys().copied().collect::<Vec<_>>(), ["default", "other", "slow"]);
    let slow_queue = queues["slow"];
    assert_eq!((slow_queue.counts[&Status::Running], slow_queue.counts[&Status::Held]), (2, 1));
    assert_eq!((slow_queue.concurrency, slow_queue.rate, slow_queue.paused), (Some(7), Some(rate), false));
    assert_eq!((queues["other"].counts[&Status::Delayed], queues["other"].paused), (1, true));
    assert!(about.queues.iter().all(|queue| queue.served));
    assert_eq!(about.counts.len(), Status::ALL.len());
    assert_eq!((about.counts[&Status::Completed], about.counts[&Status::Failed]), (3, 0));
    let ids: Vec<_> = slow.iter().map(|task| task.id()).collect();
    let [worker] = &about.workers[..] else { panic!("{:?}", about.workers) };
    assert_eq!((worker.name.as_str(), worker.here, worker.slots, worker.abandoned), ("first", true, Some(3), Some(0)));
    assert_eq!((&worker.running, worker.built_in.len()), (&ids, 0));
    let did = about.throughput;
    assert!(did.added_per_second > did.claimed_per_second && did.claimed_per_second > did.ended_per_second, "{did:?}");
    assert!(did.ended_per_second > 0.0, "{did:?}");

    let elsewhere = looks.inspect().await.unwrap();
    let [worker] = &elsewhere.workers[..] else { panic!("{:?}", elsewhere.workers) };
    assert_eq!((worker.name.as_str(), worker.here, worker.slots), ("first", false, None));
    assert_eq!(worker.running, ids);
    assert_eq!(elsewhere.throughput.added_per_second, 0.0);
    assert!(elsewhere.queues.iter().any(|queue| queue.name == "rare" && !queue.served));
}

#[task(queue = "parts")]
async fn waits_of(part: u8) -> u8 {
    std::future::pending::<()>().await;
    part
}

#[tokio::test]
async fn what_runs_no_body_takes_no_slot() {
    let app = app_of([waits_of::spec()]).await;
    let mut iter = waits_of::iter([1, 2]).on(&app);
    let whole = iter.run().await.unwrap();
    until_async(async || app.running().await.unwrap().len() == 3).await;
    // The worker begins what it has claimed a moment after the store says that it runs.
    until_async(async || {
        let about = app.inspect().await.unwrap();
        (about.workers[0].running.len(), &about.workers[0].built_in[..]) == (2, &[whole][..])
    })
    .await;
}
