//! The clients of the seeds' pages, as `examples/clients` has them: only address, id and token are others.

use super::*;

/// A task that does as those of the page: it says itself how it starts, how far it is and that it is done.
#[task]
async fn example(ctx: Context, message: String, gate: State<Arc<Semaphore>>) -> Value {
    ctx.send_event("start", serde_json::json!({ "message": message, "total_steps": 3 }));
    for step in 1..=3 {
        gate.acquire().await.unwrap().forget();
        yield_!(serde_json::json!({ "step": step, "total_steps": 3 }));
    }
    ctx.send_event("complete", serde_json::json!({ "message": "done" }));
}

/// Text that grows, as the page's generator functions make it.
#[task]
async fn grows(gate: State<Arc<Semaphore>>) -> Result<String, String> {
    for step in ["one\n", "two\n"] {
        gate.acquire().await.unwrap().forget();
        yield_!(step.to_owned());
    }
    Err("no more paper")?;
}

async fn site() -> Site {
    let specs = [example::spec(), gated::spec(), grows::spec()];
    Site::of(Qtasks::builder().store(crate::store()).tasks(specs)).await
}

/// The name and the data of a line, without what differs from run to run.
fn plain(line: &str, id: &str) -> (String, Value) {
    let (name, data) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
    let mut data: Value = serde_json::from_str(data).unwrap_or_else(|e| panic!("{e}: {line}"));
    let fields = data.as_object_mut().unwrap();
    assert_eq!(fields.remove("_task_id"), Some(id.into()), "{line}");
    assert_eq!((fields.remove("_app"), fields.remove("_model").is_some()), (Some("suite".into()), true), "{line}");
    assert!(fields.remove("_timestamp").unwrap().as_str().unwrap().ends_with('Z'), "{line}");
    (name.to_owned(), data)
}

/// Follows one task to its end with a client, live, and one that is cancelled.
async fn follows(site: &Site, watch: impl AsyncFn(&str, &str) -> Client) {
    let id = site.added(r#"{"task":"example","args":{"message":"Hello"}}"#).await;
    let mut client = watch("example", &id).await;
    let mut said = vec![plain(&client.line().await.unwrap(), &id)];
    for _ in 0..3 {
        site.gate.add_permits(1);
        said.push(plain(&client.line().await.unwrap(), &id));
    }
    said.push(plain(client.rest().await.trim_end(), &id));
    let step = |step: u32| ("progress".to_owned(), serde_json::json!({ "step": step, "total_steps": 3 }));
    let start = ("start".to_owned(), serde_json::json!({ "message": "Hello", "total_steps": 3 }));
    let complete = ("complete".to_owned(), serde_json::json!({ "message": "done" }));
    assert_eq!(said, [start, step(1), step(2), step(3), complete]);

    let id = site.added(r#"{"task":"gated","args":[2]}"#).await;
    let mut client = watch("gated", &id).await;
    site.gate.add_permits(1);
    let progress = [client.line().await.unwrap(), client.line().await.unwrap()];
    assert_eq!(plain(&progress[0], &id), ("start".to_owned(), serde_json::json!({})), "said for it");
    assert_eq!(plain(&progress[1], &id), ("progress".to_owned(), serde_json::json!({ "value": 0 })));
    site.post(&format!("/v1/tasks/{id}/cancel"), r#"{"reason":"enough"}"#).await;
    let (name, error) = plain(client.rest().await.trim_end(), &id);
    assert_eq!((&*name, &error["error_type"]), ("error", &"cancelled".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_httpx_program_follows_a_task() {
    let site = site().await;
    let server = served(&site).await;
    let ended = std::sync::Mutex::new(String::new());
    follows(&site, async |task, id| {
        let url = format!("{}/stream/suite/{task}/{id}", server.url());
        url.clone_into(&mut ended.lock().unwrap());
        let mut command = python(&root("examples/clients/watch.py"));
        command.arg(url);
        Client::start(command)
    })
    .await;
    // The last one has ended: there is nothing to stream.
    let mut command = python(&root("examples/clients/watch.py"));
    command.arg(&*ended.lock().unwrap());
    let said = Client::start(command).rest().await;
    let said: Value = serde_json::from_str(said.strip_prefix("ended: ").unwrap()).unwrap();
    assert_eq!((&said["status"], said["error"].is_string()), (&"cancelled".into(), true));
    site.app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_follows_a_task_under_node() {
    let site = site().await;
    let server = served(&site).await;
    follows(&site, async |task, id| {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let ask = http.post(format!("{}/v1/tasks/{id}/ticket", server.url())).bearer_auth(TOKEN);
        let made = ask.header("content-type", "application/json").send().await.unwrap();
        assert_eq!(made.status(), 200);
        let made: Value = serde_json::from_str(&made.text().await.unwrap()).unwrap();
        let mut command = node(&root("examples/clients/watch.mjs"));
        let ticket = made["ticket"].as_str().unwrap();
        command.arg(format!("{}/stream/suite/{task}/{id}?ticket={ticket}", server.url()));
        Client::start(command)
    })
    .await;
    site.app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_polled_by_the_program_of_the_page() {
    let site = site().await;
    let server = served(&site).await;
    let id = site.added(r#"{"task":"grows"}"#).await;
    let mut command = python(&root("examples/clients/poll.py"));
    command.args([format!("{}/task", server.url()), id.clone()]);
    let mut client = Client::start(command);
    let mut status = String::new();
    for output in ["''", "'one\\n'"] {
        // It may look before the task runs.
        let line = client.line().await.unwrap();
        let (first, text) = line.split_once(": ").unwrap();
        assert_eq!(text, output);
        first.clone_into(&mut status);
        site.gate.add_permits(1);
    }
    assert_eq!(status, "In progress");
    let said = client.rest().await;
    assert!(said.contains("'one\\ntwo\\n'\n") && said.ends_with("no more paper\n"), "{said}");
    assert!(said.lines().last().unwrap().starts_with("Failed: "), "{said}");
    site.app.shutdown().await.unwrap();
}
