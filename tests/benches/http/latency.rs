//! From a yield to a client over loopback, at 1,000 values a second.
//!
//! The limit is a bare axum server that hands formatted frames from a `tokio::sync::broadcast` to each client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use futures::future::join_all;
use qtasks::http::Config;
use qtasks::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::listening;
use crate::latency::{compared, sorted};
use crate::table::{Aim, Table};

const VALUES: u64 = 1_000;
const PERIOD: Duration = Duration::from_millis(1);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call.
fn now() -> u64 {
    START.elapsed().as_nanos() as u64
}

fn ticks() -> Interval {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[task]
async fn clock() -> u64 {
    let mut ticks = ticks();
    for _ in 0..VALUES {
        ticks.tick().await;
        yield_!(now());
    }
}

/// A client that has its response, and reads what comes.
struct Client {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Client {
    async fn open(address: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut client = Client { stream, rest: Vec::new() };
        while !client.rest.windows(11).any(|bytes| bytes == b"retry: 2000") {
            assert!(client.more().await, "it answers");
        }
        client
    }

    async fn more(&mut self) -> bool {
        self.stream.read_buf(&mut self.rest).await.expect("it sends") > 0
    }

    /// How late each value was, in microseconds.
    async fn read(mut self) -> Vec<f64> {
        let mut late = Vec::with_capacity(VALUES as usize);
        loop {
            let mut read = 0;
            while let Some(end) = self.rest[read..].iter().position(|byte| *byte == b'\n') {
                let at = self.rest[read..read + end].strip_prefix(b"data: ").and_then(number);
                late.extend(at.map(|at| (now() - at) as f64 / 1e3));
                read += end + 1;
            }
            self.rest.drain(..read);
            if late.len() == VALUES as usize || !self.more().await {
                return late;
            }
        }
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

async fn ours(watchers: usize) -> Vec<f64> {
    let app = Qtasks::builder().store("memory:").tasks([clock::spec()]).start().await.expect("a store opens");
    let server = app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await.expect("a free port");
    let task = clock::add_task().on(&app).held().await.expect("it is added");
    let path = format!("/v1/tasks/{}/events", task.id());
    let clients = open(watchers, server.address().expect("it has one"), &path).await;
    app.start_task(task.id()).await.expect("it is there");
    let late = all(clients).await;
    app.shutdown().await.expect("it closes");
    late
}

async fn limit(watchers: usize) -> Vec<f64> {
    async fn send(State(sender): State<broadcast::Sender<Bytes>>) -> ([(&'static str, &'static str); 1], Body) {
        let frames = sender.subscribe();
        let first = futures::stream::iter([Ok(Bytes::from_static(b"retry: 2000\n"))]);
        let rest = futures::stream::unfold(frames, async |mut frames| {
            let frame = frames.recv().await.ok()?;
            Some((Ok::<_, Infallible>(frame), frames))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(futures::StreamExt::chain(first, rest)))
    }
    let sender = broadcast::Sender::new(1024);
    let address = listening(axum::Router::new().route("/", get(send)).with_state(sender.clone())).await;
    let clients = open(watchers, address, "/").await;
    tokio::spawn(async move {
        let mut ticks = ticks();
        for seq in 1..=VALUES {
            ticks.tick().await;
            let _ = sender.send(Bytes::from(format!("id: {seq}-1\ndata: {}\n\n", now())));
        }
    });
    all(clients).await
}

async fn open(watchers: usize, address: SocketAddr, path: &str) -> Vec<Client> {
    join_all((0..watchers).map(|_| Client::open(address, path))).await
}

async fn all(clients: Vec<Client>) -> Vec<f64> {
    let reading: Vec<_> = clients.into_iter().map(|client| tokio::spawn(client.read())).collect();
    sorted(reading.into_iter(), VALUES as usize).await
}

pub(crate) fn run(table: &mut Table) {
    LazyLock::force(&START);
    compared(table, "http: yield to client", Aim::AtMost(2.0), ours, limit);
}
