//! Server-sent events over loopback, to readers that only count bytes.
//!
//! The limit is a bare axum server that sends the same frames, formatted before, in chunks of 64 KiB.

use std::net::SocketAddr;
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

use crate::table::{Aim, Rounds, Table, rounds};

pub(crate) mod add;
#[cfg(target_os = "linux")]
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod live;

const CHUNK: usize = 64 << 10;

#[task(yields_max = 1_000_000)]
async fn sent(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

/// Reads a response to its end, and gives how many bytes its body had.
async fn read(address: SocketAddr, path: String) -> usize {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let (mut bytes, mut buffer) = (0, vec![0; CHUNK]);
    loop {
        match stream.read(&mut buffer).await.expect("it answers") {
            0 => return bytes,
            n => bytes += n,
        }
    }
}

fn chunks(frames: &Bytes) -> Vec<Bytes> {
    (0..frames.len()).step_by(CHUNK).map(|at| frames.slice(at..(at + CHUNK).min(frames.len()))).collect()
}

/// A bare server that sends the same to everybody.
async fn bare(frames: Bytes) -> SocketAddr {
    async fn send(State(frames): State<Bytes>) -> Body {
        Body::from_stream(futures::stream::iter(chunks(&frames).into_iter().map(Ok::<_, std::convert::Infallible>)))
    }
    listening(axum::Router::new().route("/", get(send)).with_state(frames)).await
}

/// A bare server; a frame is not to wait for the next one.
async fn listening(router: axum::Router) -> SocketAddr {
    use axum::serve::ListenerExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Frames a second, by so many watchers of a log of so many values.
fn measured(watchers: usize, values: u64) -> Rounds {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let (app, server, path, bare) = runtime
        .block_on(runtime.spawn(async move {
            let app = Qtasks::builder().store("memory:").tasks([sent::spec()]).start().await.expect("a store opens");
            let server = app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await.expect("a free port");
            let address = server.address().expect("it has one");
            let task = sent::add_task(values).on(&app).timeout(Duration::from_secs(100)).await.expect("it ends");
            let path = format!("/v1/tasks/{}/events", task.id);
            // What is sent is what ours sends.
            let mut stream = TcpStream::connect(address).await.expect("the server listens");
            let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("it reads");
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.expect("it answers");
            let body = all.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end") + 4;
            let bare = bare(Bytes::from(all.split_off(body))).await;
            (app, address, path, bare)
        }))
        .expect("it does not panic");
    let all = |address: SocketAddr, path: String| {
        let begin = Instant::now();
        let readers = (0..watchers).map(|_| runtime.spawn(read(address, path.clone())));
        let read = runtime.block_on(join_all(readers));
        assert!(read.into_iter().all(|bytes| bytes.expect("it does not panic") > 10 * values as usize));
        watchers as f64 * values as f64 / begin.elapsed().as_secs_f64()
    };
    let what = format!("http {watchers} x {values}");
    let rounds = rounds(&what, || all(server, path.clone()), || all(bare, "/".to_owned()));
    runtime.block_on(app.shutdown()).expect("it closes");
    rounds
}

pub(crate) fn run(table: &mut Table) {
    let one = measured(1, 500_000);
    table.ratio("http: a log of 500,000, one watcher", "frames/s", &one, Aim::AtLeast(0.5), "read after its end");
    let many = measured(1_000, 1_000);
    table.ratio("http: a log of 1,000, 1,000 watchers", "frames/s", &many, Aim::AtLeast(0.5), "read after its end");
}
