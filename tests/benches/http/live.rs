//! A log that is watched while it is made.
//!
//! The limit is a bare axum server over frames that are formatted before: somebody tells how many there are by now, one
//! after the other, and each client is sent all that it does not have.

use std::net::SocketAddr;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use qtasks::http::Config;
use qtasks::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{CHUNK, listening, sent};
use crate::on_a_runtime;
use crate::table::{Aim, Table, rounds};

const HINT: &[u8] = b"retry: 2000\n";

/// Connects, and has the first frame when this returns.
async fn open(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut read = Vec::new();
    while !read.windows(HINT.len()).any(|bytes| bytes == HINT) {
        assert!(stream.read_buf(&mut read).await.expect("it answers") > 0);
    }
    stream
}

/// Frames a second, from the word on.
async fn all(watchers: u64, values: u64, address: SocketAddr, path: &str, word: impl Future<Output = ()>) -> f64 {
    let mut streams = Vec::new();
    for _ in 0..watchers / 100 {
        streams.extend(join_all((0..100).map(|_| open(address, path))).await);
    }
    let readers = streams.into_iter().map(|mut stream| {
        tokio::spawn(async move {
            let (mut bytes, mut buffer) = (0, vec![0; CHUNK]);
            loop {
                match stream.read(&mut buffer).await.expect("it goes on") {
                    0 => return bytes,
                    n => bytes += n,
                }
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let begin = Instant::now();
    word.await;
    for read in join_all(readers).await {
        assert!(read.expect("it does not panic") > 10 * values as usize);
    }
    (watchers * values) as f64 / begin.elapsed().as_secs_f64()
}

async fn ours(watchers: u64, values: u64) -> f64 {
    let app = Qtasks::builder().store("memory:").tasks([sent::spec()]).start().await.expect("a store opens");
    let server = app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await.expect("a free port");
    let task = sent::add_task(values).on(&app).held().await.expect("it is added");
    let path = format!("/v1/tasks/{}/events", task.id());
    let start = async {
        app.start_task(task.id()).await.expect("it is there");
    };
    let rate = all(watchers, values, server.address().expect("it has one"), &path, start).await;
    app.shutdown().await.expect("it closes");
    rate
}

async fn limit(watchers: u64, values: u64) -> f64 {
    async fn send(State((frames, grown)): State<(Bytes, watch::Receiver<usize>)>) -> Body {
        let first = futures::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from_static(HINT))]);
        let rest = futures::stream::unfold((frames, grown, 0), async |(frames, mut grown, sent)| {
            let end = *grown.wait_for(|end| *end > sent).await.ok()?;
            Some((Ok(frames.slice(sent..end)), (frames, grown, end)))
        });
        Body::from_stream(first.chain(rest))
    }
    let (mut frames, mut ends) = (String::new(), Vec::new());
    for i in 0..values {
        frames += &format!("id: {}-1\ndata: {i}\n\n", i + 2);
        ends.push(frames.len());
    }
    let (grow, grown) = watch::channel(0);
    let router = axum::Router::new().route("/", get(send)).with_state((Bytes::from(frames), grown));
    let word = async {
        tokio::spawn(async move {
            for end in ends {
                let _ = grow.send(end);
                tokio::task::consume_budget().await;
            }
        });
    };
    all(watchers, values, listening(router).await, "/", word).await
}

pub(crate) fn run(table: &mut Table) {
    let what = "http: the same while it is made";
    let both = rounds(what, || on_a_runtime(ours(1_000, 1_000)), || on_a_runtime(limit(1_000, 1_000)));
    table.ratio(what, "frames/s", &both, Aim::AtLeast(0.5), "all watch from the start");
}
