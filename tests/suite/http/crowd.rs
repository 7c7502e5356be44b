//! Many who watch: those that stop reading hold nobody up, and none of them costs much.

use futures::future::join_all;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::*;

mod process;
mod stalled;

use process::{Serving, descriptors, retry_hint};

const WATCHERS: usize = 1_000;
/// Of these watchers one stops reading.
const OF: usize = 5;
/// What they watch: more than the buffers of a connection hold, 100 values a second.
const VALUES: u64 = 300;
const VALUE_BYTES: u64 = 5_000;
/// As small as it may be.
const BUFFER_BYTES: u32 = 4 << 10;
/// A quarter MiB of the log, and the connection itself.
const STALLED_KIB_MAX: f64 = 384.0;

/// Of a debug build; a release build has less, which a benchmark measures.
const IDLE_KIB_MAX: f64 = 64.0;

/// Reads a stream of values to its end, and looks whether all come in order.
struct Order {
    /// The line that has begun.
    line: Vec<u8>,
    values: u64,
    seq: u64,
    ended: bool,
}

impl Order {
    fn new() -> Self {
        Order { line: Vec::new(), values: 0, seq: 0, ended: false }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            if self.line.is_empty() {
                self.take(line);
            } else {
                self.line.extend_from_slice(line);
                let line = std::mem::take(&mut self.line);
                self.take(&line);
            }
            bytes = rest;
        }
        self.line.extend_from_slice(bytes);
    }

    fn take(&mut self, line: &[u8]) {
        let text = std::str::from_utf8(line).unwrap();
        if let Some(id) = text.strip_prefix("id: ") {
            self.seq += 1;
            assert_eq!(id.split('-').next().unwrap(), self.seq.to_string());
        } else if let Some(value) = text.strip_prefix("data: \"") {
            let value = value.trim_end_matches('"');
            assert_eq!(value.len(), usize::try_from(VALUE_BYTES).unwrap());
            assert_eq!(value.parse::<u64>().unwrap(), self.values);
            self.values += 1;
        } else if text == "event: completed" {
            self.ended = true;
        }
    }

    async fn read(mut self, mut stream: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match stream.read(&mut buffer).await.unwrap() {
                0 => break,
                n => self.feed(&buffer[..n]),
            }
        }
        // And the first and the last event.
        assert_eq!((self.values, self.seq, self.ended), (VALUES, VALUES + 2, true));
    }
}

/// Reads what all of them get, and fails if it takes too long.
async fn read_all(streams: Vec<TcpStream>) {
    let reading = join_all(streams.into_iter().map(|stream| tokio::spawn(Order::new().read(stream))));
    for read in tokio::time::timeout(soon(), reading).await.expect("they come to the end") {
        read.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_reading_holds_up_nobody_and_little_memory() {
    descriptors();
    let server = Serving::start().await;
    let id = server.held(VALUES, VALUE_BYTES, 10).await;
    let path = format!("/v1/tasks/{id}/events");
    let mut stalled = Vec::new();
    for _ in 0..WATCHERS / OF {
        stalled.push(server.ask(&path, Some(BUFFER_BYTES)).await);
    }
    let readers = server.watch(WATCHERS - stalled.len(), &path, |read| read.ends_with(b"2000\n\r\n")).await;
    let before = server.memory_kib("VmRSS");
    server.post(&format!("/v1/tasks/{id}/start"), "{}").await;
    read_all(readers).await;
    // All of it has been sent, and a fifth of those who watch have not read a byte.
    let each = (server.memory_kib("VmRSS") - before) as f64 / stalled.len() as f64;
    println!("memory of the server: {each:.1} KiB for each of {} that stopped reading", stalled.len());
    assert!(each < STALLED_KIB_MAX, "{each:.1} KiB");
    // They go on, and have missed nothing.
    let streams = stalled.into_iter().map(async |mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
    });
    read_all(join_all(streams).await).await;
    println!("at most {:.1} MiB", server.memory_kib("VmHWM") as f64 / 1024.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_costs_little_memory() {
    // Other tests have files open as well.
    let watchers = 10_000.min(descriptors().saturating_sub(2_500));
    if watchers < 10_000 {
        println!("only {watchers} watch: `ulimit -Hn` does not allow more");
    }
    let server = Serving::start().await;
    let path = format!("/v1/tasks/{}/events", server.held(1, 1, 1).await);
    let first = server.watch(200, &path, retry_hint).await;
    let before = server.memory_kib("VmRSS");
    let rest = server.watch(watchers, &path, retry_hint).await;
    let each = (server.memory_kib("VmRSS") - before) as f64 / watchers as f64;
    println!("memory of the server: {each:.1} KiB for each of {watchers} that wait");
    assert!(each < IDLE_KIB_MAX, "{each:.1} KiB");
    drop((first, rest));
}
