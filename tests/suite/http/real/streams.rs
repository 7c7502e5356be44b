//! What httpx-sse and eventsource-parser make of the streams.

use qtasks::{EventKind, Json, RetryPolicy};

use super::*;

/// An event as a client tells it: name, id and data.
type Told = (String, String, String);

/// JSON as it comes: where its lines end, there is one kind of line end.
fn lines(json: &str) -> String {
    json.replace('\r', "\n")
}

/// A log as the library has it, each event as it should come to a client.
async fn log(site: &Site, id: &str) -> Vec<Told> {
    let task = site.app.task(id.parse().unwrap()).await.unwrap();
    let events: Vec<_> = task.events_from(1).try_collect().await.unwrap();
    let told = events.iter().map(|event| {
        let whole = serde_json::to_value(event).unwrap();
        let id = format!("{}-{}", event.seq, whole["epoch"]);
        match &event.kind {
            EventKind::Yield { value, .. } => ("message".to_owned(), id, lines(value.as_str())),
            EventKind::Event { name, data, .. } => (name.clone(), id, lines(data.as_str())),
            _ => (whole["kind"].as_str().unwrap().to_owned(), id, serde_json::to_string(event).unwrap()),
        }
    });
    told.collect()
}

fn told_by(lines: &[Value]) -> Vec<Told> {
    let word = |line: &Value, at: usize| line[at].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
    lines.iter().map(|line| (word(line, 0), word(line, 1), word(line, 2))).collect()
}

/// A program that leaves after every third event, and comes back behind the last one that it has.
#[tokio::test(flavor = "multi_thread")]
async fn httpx_sse_leaves_and_comes_back() {
    let site = Site::new().await;
    let server = served(&site).await;
    let id = site.added(r#"{"task":"gated","args":[20]}"#).await;
    let mut command = python(&root("tests/clients/read.py"));
    command.args([&format!("{}/v1/tasks/{id}/events", server.url()), "3"]);
    let mut client = Client::start(command);
    // Each value comes before the next one is there.
    let mut said = client.json(1).await;
    for _ in 0..20 {
        site.gate.add_permits(1);
        said.extend(client.json(1).await);
    }
    said.extend(client.json(1).await);
    assert_eq!(told_by(&said), log(&site, &id).await);
    assert_eq!(client.rest().await, "connections: 8\n", "22 events, and a word that there are no more");
    assert_eq!(said[0][3], 2000, "when to come back stands in the first event of a stream");
    site.app.shutdown().await.unwrap();
}

/// Says, sends and yields something, fails, and yields something else.
#[task(retry = RetryPolicy::times(1).constant(Duration::ZERO))]
async fn everything(ctx: Context, gate: State<Arc<Semaphore>>) -> Result<Json, String> {
    ctx.send_event("stage", serde_json::json!({ "name": "first: of\u{2028}two" }));
    yield_!(Json::parse("{\n  \"lines\": [1,\r\n 2],\r\"text\": \"a\\nb\u{85}c\u{2028}d\"\n}").unwrap());
    tracing::warn!(rows = 3, "few: rows");
    yield_!(Json::parse(ctx.attempt().to_string()).unwrap());
    gate.acquire().await.unwrap().forget();
    if ctx.attempt() == 1 {
        Err("out of luck")?;
    }
    yield_!(Json::parse("null").unwrap());
}

/// A stream with its heartbeats, and what its client is told of.
struct Transcript {
    bytes: Vec<u8>,
    events: Vec<Told>,
}

/// Reads the rest of a stream; the time is not real.
async fn read(stream: &mut axum::body::BodyDataStream, out: &mut Vec<u8>) {
    while let Some(bytes) = stream.next().await {
        out.extend_from_slice(&bytes.unwrap());
    }
}

async fn transcripts() -> Vec<Transcript> {
    crate::task_log::listen();
    let specs = [everything::spec(), fails::spec(), gated::spec()];
    let site = Site::of(Qtasks::builder().store("memory:").tasks(specs)).await;
    let mut all = Vec::new();
    let open = async |id: &str, last: &[(&str, &str)]| {
        site.open("GET", &format!("/v1/tasks/{id}/events"), last, "").await.into_body().into_data_stream()
    };

    // An attempt that fails after a heartbeat, one that is told of by a rewind, and the end.
    let id = site.added(r#"{"task":"everything"}"#).await;
    let (mut stream, mut bytes) = (open(&id, &[]).await, Vec::new());
    while !bytes.windows(12).any(|part| part == b": still here") {
        bytes.extend_from_slice(&stream.next().await.unwrap().unwrap());
    }
    site.gate.add_permits(2);
    read(&mut stream, &mut bytes).await;
    all.push(Transcript { bytes, events: log(&site, &id).await });

    // A client of another history.
    let mut bytes = Vec::new();
    read(&mut open(&id, &[("last-event-id", "2-7")]).await, &mut bytes).await;
    let mut events: Vec<Told> =
        Parser::of(std::str::from_utf8(&bytes).unwrap()).into_iter().map(|e| (e.name, e.id, e.data)).collect();
    assert_eq!((&*events[0].0, &*events[0].1), ("reset", ""));
    // What is void does not come to it, nor does the word that it is.
    let effective: Vec<Told> = log(&site, &id).await.into_iter().filter(|e| e.0 != "rewind" && e.2 != "1").collect();
    events.splice(1.., effective);
    all.push(Transcript { bytes, events });

    let id = site.added(r#"{"task":"fails","args":[2]}"#).await;
    let mut bytes = Vec::new();
    read(&mut open(&id, &[]).await, &mut bytes).await;
    all.push(Transcript { bytes, events: log(&site, &id).await });

    let id = site.added(r#"{"task":"gated","args":[2]}"#).await;
    let (mut stream, mut bytes) = (open(&id, &[]).await, Vec::new());
    site.post(&format!("/v1/tasks/{id}/cancel"), r#"{"reason":"enough: of\nit"}"#).await;
    read(&mut stream, &mut bytes).await;
    all.push(Transcript { bytes, events: log(&site, &id).await });

    // The server goes away.
    let id = site.added(r#"{"task":"gated","args":[2]}"#).await;
    let (mut stream, mut bytes) = (open(&id, &[]).await, Vec::new());
    site.gate.add_permits(1);
    let handle = site.app.task(id.parse().unwrap()).await.unwrap();
    crate::until_async(async || handle.record().await.unwrap().tail == 2).await;
    let so_far = handle.events_from(1).take(2).count().await;
    assert_eq!(so_far, 2);
    let left = tokio::spawn({
        let app = site.app.clone();
        async move { app.shutdown().await }
    });
    read(&mut stream, &mut bytes).await;
    left.await.unwrap().unwrap();
    assert!(bytes.ends_with(b"retry: 500\n"));
    let events = Parser::of(std::str::from_utf8(&bytes).unwrap()).into_iter().map(|e| (e.name, e.id, e.data));
    all.push(Transcript { bytes, events: events.collect() });
    all
}

/// Of every kind of event, and of what is none: both parsers find what the library says, and nothing else.
#[test]
fn parsers_find_every_kind_of_event() {
    let all = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let all = all.block_on(transcripts());
    let names: std::collections::BTreeSet<&str> =
        all.iter().flat_map(|one| &one.events).map(|event| &*event.0).collect();
    let every = ["cancelled", "completed", "failed", "log", "message", "reset", "retry", "rewind", "stage", "started"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), every);
    let folder = crate::scratch();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (number, one) in all.iter().enumerate() {
        let file = folder.join(format!("{number}.sse"));
        std::fs::write(&file, &one.bytes).unwrap();
        for script in ["tests/clients/parse.mjs", "tests/clients/parse.py"] {
            let script = root(script);
            let said = runtime.block_on(async {
                let mut command = if script.ends_with("parse.py") { python(&script) } else { node(&script) };
                command.arg(&file);
                Client::start(command).rest().await
            });
            let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let text = String::from_utf8_lossy(&one.bytes);
            assert_eq!(told_by(&said), one.events, "{} of {text}", script.display());
        }
    }
}
