//! Clients that ask and never read, by every route that sends a log: none of them costs more than a fixed amount of
//! memory, whatever the size of the values.

use http::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::*;

/// How many clients do not read.
const CLIENTS: u64 = 60;
/// Pages that SQLite keeps for eight connections that read, of 1 MB each: the process has them, however many clients.
const PAGES_KIB: u64 = 8 * 1_024;
/// The most that each of them may cost.
const EACH_KIB_MAX: u64 = 512;
/// How often the memory is the same before it is taken for what it stays at.
const SAME: u32 = 10;

/// The ways to ask for a log.
#[derive(Debug, Clone, Copy)]
enum Ask {
    /// A path of `/v1/tasks/{id}/events`, after the log has ended.
    Ended(&'static str),
    /// The same while the log grows.
    Live(&'static str),
    /// The route of Django Streaming Coordinator, while the log grows.
    Coordinator,
    /// Server-sent events, as streams of one HTTP/2 connection.
    Http2,
}

const ASKS: [Ask; 7] = [
    Ask::Ended("?format=sse"),
    Ask::Ended("?format=ndjson"),
    Ask::Ended("?format=json&limit=1000"),
    Ask::Live("?format=sse"),
    Ask::Live("?format=ndjson&follow=1"),
    Ask::Coordinator,
    Ask::Http2,
];

/// What must be kept, so that the clients stay.
#[expect(dead_code, reason = "what is in it is held, not read")]
enum Stalled {
    Connections(Vec<TcpStream>),
    Streams(http2::SendRequest<String>, Vec<http::Response<hyper::body::Incoming>>),
}

async fn stall(server: &Serving, path: &str) -> Stalled {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.ask(path, Some(BUFFER_BYTES)).await);
    }
    Stalled::Connections(clients)
}

async fn stall_http2(server: &Serving, path: &str) -> Stalled {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(BUFFER_BYTES).initial_connection_window_size(16 << 20);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut responses = Vec::new();
    for _ in 0..CLIENTS {
        let request = Request::get(format!("http://{}{path}", server.address)).body(String::new()).unwrap();
        responses.push(sender.send_request(request).await.unwrap());
    }
    Stalled::Streams(sender, responses)
}

/// The memory of a server in KiB once it no longer changes.
async fn settled(server: &Serving) -> u64 {
    let (start, mut last, mut same) = (std::time::Instant::now(), 0, 0);
    while same < SAME {
        assert!(start.elapsed() < soon(), "the memory still grows");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = server.memory_kib("VmRSS");
        same = if now.abs_diff(last) < 64 { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// Gets what a path answers.
async fn get(server: &Serving, path: &str) -> String {
    server.answer(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
}

/// Waits until a task has ended.
async fn ended(server: &Serving, id: &str) {
    let start = std::time::Instant::now();
    while !get(server, &format!("/v1/tasks/{id}")).await.contains("\"completed\"") {
        assert!(start.elapsed() < soon(), "the task does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What each client costs that asks and never reads, in KiB.
async fn cost(store: &str, bytes: u64, ask: Ask) -> u64 {
    let url = match store {
        "sqlite" => format!("sqlite:{}", crate::scratch().join("q.db").display()),
        _ => "memory:".to_owned(),
    };
    let server = Serving::on(&url).await;
    let id = server.held((8 << 20) / bytes, bytes, 0).await;
    let start = async || {
        server.post(&format!("/v1/tasks/{id}/start"), "{}").await;
        ended(&server, &id).await;
    };
    let log = format!("/v1/tasks/{id}/events");
    // What the server keeps for all: a task that ran, a client that read all of it.
    let first = server.held((8 << 20) / bytes, bytes, 0).await;
    server.post(&format!("/v1/tasks/{first}/start"), "{}").await;
    ended(&server, &first).await;
    let read = get(&server, &format!("/v1/tasks/{first}/events?format=ndjson")).await;
    assert!(read.len() > 4 << 20, "{} bytes", read.len());
    let (before, stalled) = match ask {
        Ask::Ended(query) => {
            start().await;
            (settled(&server).await, stall(&server, &(log + query)).await)
        }
        Ask::Live(query) => {
            let before = settled(&server).await;
            let stalled = stall(&server, &(log + query)).await;
            start().await;
            (before, stalled)
        }
        Ask::Coordinator => {
            let before = settled(&server).await;
            let stalled = stall(&server, &format!("/stream/ticks/{id}")).await;
            start().await;
            (before, stalled)
        }
        Ask::Http2 => {
            start().await;
            (settled(&server).await, stall_http2(&server, &log).await)
        }
    };
    let after = settled(&server).await;
    assert!(get(&server, "/health").await.contains("OK"), "others are answered");
    drop(stalled);
    // The log itself is what a live task adds to a store in memory.
    let log_kib = if matches!(ask, Ask::Live(_) | Ask::Coordinator) { 8 << 10 } else { 0 };
    after.saturating_sub(before + log_kib + PAGES_KIB) / CLIENTS
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_costs_little_memory() {
    descriptors();
    let mut failed = Vec::new();
    for store in ["memory", "sqlite"] {
        for bytes in [100, 1_000, 50_000, 250_000] {
            let costs = join_all(ASKS.map(|ask| cost(store, bytes, ask))).await;
            for (ask, each) in ASKS.into_iter().zip(costs) {
                let case = format!("{store}, values of {bytes} bytes, {ask:?}: {each} KiB each");
                println!("{case}");
                if each > EACH_KIB_MAX {
                    failed.push(case);
                }
            }
        }
    }
    assert!(failed.is_empty(), "more than {EACH_KIB_MAX} KiB for a client that does not read:\n{}", failed.join("\n"));
}
