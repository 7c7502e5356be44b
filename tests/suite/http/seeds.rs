//! The wire of Django Streaming Coordinator and of Django Simple Queue.

use super::*;

/// Sends its own `start` and `complete`, as the page's tasks do.
#[task(name = "ExampleTask", yield = Value)]
async fn example_task(ctx: Context, message: String, gate: State<Arc<Semaphore>>) -> Value {
    ctx.send_event("start", serde_json::json!({ "message": message }));
    gate.acquire().await.unwrap().forget();
    yield_!(serde_json::json!({ "step": 1, "total": 3 }));
    ctx.send_event("complete", serde_json::json!({ "message": "done" }));
    serde_json::json!({ "all": "of it" })
}

async fn site() -> Site {
    let specs = [count::spec(), gated::spec(), staged::spec(), fails::spec(), example_task::spec()];
    Site::of(Qtasks::builder().store(crate::store()).tasks(specs)).await
}

#[tokio::test]
async fn a_running_task_is_streamed_by_the_names_of_the_page() {
    let site = site().await;
    let id = site.added(r#"{"task":"ExampleTask","args":{"message":"Hello"}}"#).await;
    let live = site.open("GET", &format!("/stream/ExampleTask/{id}"), &[], "").await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    site.gate.add_permits(1);
    let text = live.into_body().collect().await.unwrap().to_bytes();
    let sent = Parser::of(std::str::from_utf8(&text).unwrap());
    assert_eq!(told(&sent).join(" "), "start progress complete", "each once: the body has sent two of them itself");
    for event in &sent {
        let data = event.json();
        let known = (&data["_task_id"], &data["_app"], &data["_model"]);
        assert_eq!(known, (&id.as_str().into(), &"suite".into(), &"ExampleTask".into()));
        assert!(data["_timestamp"].as_str().unwrap().ends_with('Z') && !event.id.is_empty());
    }
    assert_eq!((&sent[0].json()["message"], &sent[1].json()["total"]), (&"Hello".into(), &3.into()));
    // What is in the frame only is not stored.
    let ended = site.get(&format!("/stream/suite/ExampleTask/{id}")).await;
    assert_eq!((ended.status, ended.header("content-type")), (200, "application/json"));
    let ended = ended.json();
    assert_eq!(
        (&ended["status"], &ended["final_value"]),
        (&"completed".into(), &serde_json::json!({ "all": "of it" }))
    );
    assert!(ended["completed_at"].as_str().unwrap().ends_with('Z') && ended.get("error").is_none());
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_a_body_does_not_say_is_said_for_it() {
    let site = site().await;
    let id = site.added(r#"{"task":"gated","args":[2]}"#).await;
    let path = format!("/stream/gated/{id}");
    let live = site.open("GET", &path, &[], "").await.into_body();
    let (mut live, mut parser) = (live.into_data_stream(), Parser::default());
    site.gate.add_permits(1);
    while parser.sent.len() < 2 {
        parser.feed(&live.next().await.unwrap().unwrap());
    }
    // It leaves, and comes back behind what it has.
    drop(live);
    let rest = site.open("GET", &path, &[("last-event-id", &parser.last_id)], "").await.into_body();
    site.gate.add_permits(1);
    parser.feed(&rest.collect().await.unwrap().to_bytes());
    assert_eq!(told(&parser.sent).join(" "), "start progress progress complete");
    assert_eq!(parser.sent[1].json()["value"], 0, "what is no object goes under `value`");
    let failed = site.added(r#"{"task":"fails","args":[1]}"#).await;
    site.ended(&failed).await;
    let ended = site.get(&format!("/stream/fails/{failed}")).await.json();
    assert_eq!((&ended["status"], ended["error"].as_str().unwrap().contains("out of paper")), (&"failed".into(), true));
    for wrong in [format!("/stream/count/{id}"), format!("/stream/other/gated/{id}"), "/stream/gated/1".to_owned()] {
        assert_eq!(site.get(&wrong).await.problem().0, 404, "{wrong}");
    }
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_that_fails_while_it_is_watched_ends_with_an_error() {
    let site = site().await;
    let id = site.added(r#"{"task":"gated","args":[2]}"#).await;
    let live = site.open("GET", &format!("/stream/gated/{id}"), &[], "").await.into_body();
    site.post(&format!("/v1/tasks/{id}/cancel"), r#"{"reason":"no more paper"}"#).await;
    let text = live.collect().await.unwrap().to_bytes();
    let sent = Parser::of(std::str::from_utf8(&text).unwrap());
    let last = sent.last().unwrap();
    assert_eq!((last.name.as_str(), &last.json()["error_type"]), ("error", &"cancelled".into()));
    assert!(last.json()["message"].as_str().unwrap().contains("no more paper"));
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_is_polled_as_on_the_page() {
    let site = site().await;
    let id = site.added(r#"{"task":"staged"}"#).await;
    site.ended(&id).await;
    let polled = site.get(&format!("/task?task_id={id}&type=json")).await.json();
    let fields: Vec<&String> = polled.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["args", "created", "error", "id", "modified", "output", "status", "task"]);
    assert_eq!(
        (&polled["status"], &polled["output"], &polled["task"]),
        (&"Completed".into(), &"two\nlinesü".into(), &"staged".into())
    );
    let held = site.added(r#"{"task":"fails","args":[1],"held":true}"#).await;
    assert_eq!(site.get(&format!("/task?task_id={held}&type=json")).await.json()["status"], "Queued");
    site.app.start_task(held.parse().unwrap()).await.unwrap();
    site.ended(&held).await;
    let failed = site.get(&format!("/task?task_id={held}&type=json")).await.json();
    assert_eq!((&failed["status"], &failed["output"]), (&"Failed".into(), &"0\n".into()));
    assert!(failed["error"].as_str().unwrap().contains("out of paper"));
    // The page is escaped.
    let id = site.added(r#"{"task":"ExampleTask","args":{"message":"<script>alert(1)</script>"}}"#).await;
    let page = site.get(&format!("/task?task_id={id}")).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text.contains("&lt;script&gt;") && !page.text.contains("<script>"), "{}", page.text);
    for (path, status) in
        [("/task", 400), ("/task?task_id=7", 400), ("/task?task_id=00000000-0000-7000-8000-000000000000", 404)]
    {
        assert_eq!(site.get(path).await.problem().0, status, "{path}");
    }
    site.gate.add_permits(1);
    site.app.shutdown().await.unwrap();
}
