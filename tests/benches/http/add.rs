//! Tasks added over connections that are kept, by 64 callers at once.
//!
//! The limit is a bare axum handler that parses the same JSON and answers 202 with as many bytes of JSON.

use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use futures::future::join_all;
use http::StatusCode;
use qtasks::http::Config;
use qtasks::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::listening;
use crate::on_a_runtime;
use crate::table::{Aim, Table, rounds};

const CALLERS: usize = 64;
const CALLS: usize = 300;
const BODY: &str = r#"{"task":"plus","args":{"a":17,"b":4},"tags":["of a benchmark"]}"#;

#[task]
async fn plus(a: i64, b: i64) -> i64 {
    a + b
}

/// A connection that is kept.
struct Caller {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Caller {
    async fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("it is connected");
        let length = BODY.len();
        let head = format!(
            "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        Caller { stream, request: [head.as_bytes(), BODY.as_bytes()].concat(), answer: Vec::with_capacity(4096) }
    }

    /// Posts, and gives how long the body of the answer is.
    async fn call(&mut self) -> usize {
        self.stream.write_all(&self.request).await.expect("it reads");
        self.answer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.answer).await.expect("it answers") > 0);
            let Some(head) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let text = std::str::from_utf8(&self.answer[..head]).expect("headers are ASCII");
            assert!(text.starts_with("HTTP/1.1 202 "), "{text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("it has one");
            let length = length.parse().expect("it is a number");
            if self.answer.len() == head + 4 + length {
                return length;
            }
        }
    }
}

/// Calls a second.
async fn calls(address: SocketAddr) -> f64 {
    let mut callers = join_all((0..CALLERS).map(|_| Caller::new(address))).await;
    for caller in &mut callers {
        caller.call().await;
    }
    let begin = Instant::now();
    let calling = callers.into_iter().map(|mut caller| {
        tokio::spawn(async move {
            for _ in 0..CALLS {
                caller.call().await;
            }
        })
    });
    for done in join_all(calling.collect::<Vec<_>>()).await {
        done.expect("it does not panic");
    }
    (CALLERS * CALLS) as f64 / begin.elapsed().as_secs_f64()
}

/// With a worker in the process, that runs what is added, or without one.
async fn ours(works: bool) -> f64 {
    let builder = Qtasks::builder().store("memory:").tasks([plus::spec()]);
    let app = if works { builder.start().await } else { builder.open().await }.expect("a store opens");
    let server = app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await.expect("a free port");
    let rate = calls(server.address().expect("it has one")).await;
    app.shutdown().await.expect("it closes");
    rate
}

/// What `POST /v1/tasks` takes, as far as it is sent here.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "it is parsed, and that is all")]
struct New {
    task: String,
    args: serde_json::Value,
    tags: Vec<String>,
}

async fn limit(answer: usize) -> f64 {
    async fn add(
        State(answer): State<String>,
        body: Bytes,
    ) -> (StatusCode, [(&'static str, &'static str); 2], Vec<u8>) {
        serde_json::from_slice::<New>(&body).expect("it is JSON");
        let body = serde_json::to_vec(&answer).expect("text is JSON");
        (StatusCode::ACCEPTED, [("content-type", "application/json"), ("location", "/v1/tasks/it")], body)
    }
    let router = axum::Router::new().route("/v1/tasks", post(add)).with_state("x".repeat(answer - 2));
    calls(listening(router).await).await
}

async fn length_of_an_answer() -> usize {
    let app = Qtasks::builder().store("memory:").tasks([plus::spec()]).open().await.expect("a store opens");
    let server = app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await.expect("a free port");
    let length = Caller::new(server.address().expect("it has one")).await.call().await;
    app.shutdown().await.expect("it closes");
    length
}

pub(crate) fn run(table: &mut Table) {
    let length = on_a_runtime(length_of_an_answer());
    let what = "http: a task added, 64 callers";
    let both = rounds(what, || on_a_runtime(ours(false)), || on_a_runtime(limit(length)));
    table.ratio(what, "tasks/s", &both, Aim::AtLeast(0.5), format!("answers of {length} bytes"));
    let what = "http: the same, and run beside";
    let both = rounds(what, || on_a_runtime(ours(true)), || on_a_runtime(limit(length)));
    table.ratio(what, "tasks/s", &both, Aim::None, "by a worker of the same process");
}
