//! Tasks over HTTP: added, watched, left and come back to.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use qtasks::http::{Service, service};
use qtasks::prelude::*;
use qtasks::{FailureKind, RetryPolicy, TaskSpec};
use serde_json::Value;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use crate::soon;

mod access;
mod client;
#[cfg(target_os = "linux")]
mod crowd;
mod events;
mod http2;
mod openapi;
mod pages;
mod real;
mod seeds;
mod tasks;
mod wire;

#[task]
async fn count(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(description = "Adds two numbers.")]
async fn plus(a: i64, #[default = 1] b: i64) -> i64 {
    a + b
}

/// Yields a value for each permit.
#[task]
async fn gated(n: u64, gate: State<Arc<Semaphore>>) -> u64 {
    for i in 0..n {
        gate.acquire().await.unwrap().forget();
        yield_!(i);
    }
}

#[task]
async fn staged(ctx: Context) -> String {
    ctx.send_event("start", serde_json::json!({ "of": "all" }));
    yield_!("two\nlines".to_owned());
    ctx.send_event("progress", 50);
    yield_!("ü".to_owned());
}

#[task]
async fn fails(n: u64) -> Result<u64, String> {
    for i in 0..n {
        yield_!(i);
    }
    Err("out of paper")?;
}

/// Yields something else in its second attempt.
#[task(retry = RetryPolicy::times(3).constant(Duration::ZERO))]
async fn changes(ctx: Context, gate: State<Arc<Semaphore>>) -> Result<u32, String> {
    yield_!(0);
    yield_!(ctx.attempt());
    gate.acquire().await.unwrap().forget();
    if ctx.attempt() == 1 {
        Err("once")?;
    }
    yield_!(7);
}

/// An app, and what answers for it.
struct Site {
    app: Qtasks,
    service: Service,
    gate: Arc<Semaphore>,
}

/// What came back.
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
    /// The problem that it is: its code, and the field that is wrong.
    fn problem(&self) -> (u16, String, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.text);
        let problem = self.json();
        assert_eq!((problem["status"].as_u64(), &problem["type"]), (Some(self.status.into()), &"about:blank".into()));
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        let word = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        (self.status, word("code"), word("pointer"))
    }
}

const SPECS: fn() -> [&'static TaskSpec; 5] =
    || [count::spec(), plus::spec(), gated::spec(), staged::spec(), fails::spec()];

impl Site {
    async fn new() -> Self {
        Self::of(Qtasks::builder().store(crate::store()).tasks(SPECS())).await
    }

    async fn of(builder: qtasks::Builder) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let app = builder.state(Arc::clone(&gate)).start().await.unwrap();
        Site { service: service(&app).no_auth(), app, gate }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.call("POST", path, &[("content-type", "application/json")], body).await
    }

    /// Adds a task by its JSON, and gives its id.
    async fn added(&self, body: &str) -> String {
        let added = self.post("/v1/tasks", body).await;
        assert_eq!(added.status, 202, "{}", added.text);
        added.json()["id"].as_str().unwrap().to_owned()
    }

    async fn ended(&self, id: &str) {
        let _ = self.app.task(id.parse().unwrap()).await.unwrap().wait_timeout(soon()).await;
    }

    async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> http::Response<Body> {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.service.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(soon(), body.collect()).await.expect("it comes to its end").unwrap();
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }
}

/// A server-sent event, as a browser understands it.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    name: String,
    id: String,
    data: String,
}

impl Sent {
    fn seq(&self) -> u64 {
        self.id.split('-').next().unwrap().parse().unwrap()
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// Reads server-sent events as the standard says: what is not closed by an empty line is no event.
#[derive(Default)]
struct Parser {
    rest: Vec<u8>,
    last_id: String,
    open: Option<Sent>,
    sent: Vec<Sent>,
}

impl Parser {
    fn of(text: &str) -> Vec<Sent> {
        let mut parser = Parser::default();
        parser.feed(text.as_bytes());
        parser.sent
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.line(std::str::from_utf8(&line[..end]).unwrap());
        }
    }

    fn line(&mut self, line: &str) {
        if line.is_empty() {
            if let Some(mut event) = self.open.take()
                && !event.data.is_empty()
            {
                event.data.pop();
                self.last_id.clone_from(&event.id);
                self.sent.push(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let event = self.open.get_or_insert_with(|| Sent {
            name: "message".to_owned(),
            id: String::new(),
            data: String::new(),
        });
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => value.clone_into(&mut event.id),
            "data" => {
                event.data.push_str(value);
                event.data.push('\n');
            }
            "" | "retry" => {}
            other => panic!("no field of ours: {other}"),
        }
    }
}

/// The names of events, and the data of those without.
fn told(sent: &[Sent]) -> Vec<String> {
    sent.iter().map(|e| if e.name == "message" { e.data.clone() } else { e.name.clone() }).collect()
}
