//! A server in a process of its own, its memory, and those who watch.

use std::net::SocketAddr;
use std::process::Stdio;

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};

/// So many connect at once, so that none is turned away.
const AT_ONCE: usize = 200;

/// Ends with this.
pub(super) struct Serving {
    child: Child,
    pub(super) address: SocketAddr,
}

/// Raises the number of files that this process and its children may have open, and gives it.
pub(super) fn descriptors() -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the maximum");
    limit.maximum.map_or(usize::MAX, |most| most as usize)
}

/// Whether somebody who watches has been answered.
pub(super) fn retry_hint(read: &[u8]) -> bool {
    read.windows(12).any(|bytes| bytes == b"retry: 2000\n")
}

impl Serving {
    pub(super) async fn start() -> Self {
        Self::on("memory:").await
    }

    /// Starts a server on a store.
    pub(super) async fn on(store: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crowd-server"));
        command.arg(store);
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it is built");
        let mut line = String::new();
        let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
        said.read_line(&mut line).await.expect("it says where it listens");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("it says {line:?}"));
        // What else it says, it may say.
        tokio::spawn(async move { tokio::io::copy(&mut said, &mut tokio::io::sink()).await });
        Serving { child, address }
    }

    /// Its memory in KiB: `VmRSS` is what is there now, `VmHWM` the most that there was.
    pub(super) fn memory_kib(&self, which: &str) -> u64 {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(which)).expect("there is such a line");
        line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().expect("it is a number")
    }

    /// Posts JSON, and gives the answer.
    pub(super) async fn post(&self, path: &str, body: &str) -> serde_json::Value {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        let json = self.answer(&request).await;
        serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"))
    }

    /// Sends a request, and gives the body of the answer.
    pub(super) async fn answer(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("headers end");
        body.to_owned()
    }

    /// Adds a task that does not run before it is started, and gives its id: so many values of so many bytes, one
    /// every so many milliseconds.
    pub(super) async fn held(&self, values: u64, bytes: u64, every_ms: u64) -> String {
        let args = [values, bytes, every_ms];
        let body = serde_json::json!({ "task": "ticks", "args": args, "held": true });
        let record = self.post("/v1/tasks", &body.to_string()).await;
        record["id"].as_str().unwrap_or_else(|| panic!("{record}")).to_owned()
    }

    /// Asks, with a buffer of so many bytes for what comes.
    pub(super) async fn ask(&self, path: &str, buffer: Option<u32>) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes).expect("it may be small");
        }
        let mut stream = socket.connect(self.address).await.expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        stream
    }

    /// So many watch, each of whom has read what is asked for.
    pub(super) async fn watch(&self, watchers: usize, path: &str, is_there: impl Fn(&[u8]) -> bool) -> Vec<TcpStream> {
        let is_there = &is_there;
        let watching = futures::stream::iter(0..watchers).map(async |_| {
            let mut stream = self.ask(path, None).await;
            let mut read = Vec::with_capacity(512);
            while !is_there(&read) {
                if stream.read_buf(&mut read).await? == 0 {
                    let read = String::from_utf8_lossy(&read);
                    return Err(std::io::Error::other(format!("it ended after {read:?}")));
                }
            }
            Ok(stream)
        });
        let watching = watching.buffer_unordered(AT_ONCE).try_collect();
        let all = tokio::time::timeout(std::time::Duration::from_secs(300), watching).await;
        all.expect("they are answered in time").expect("they are answered")
    }
}
