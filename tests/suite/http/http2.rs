//! HTTP/2, where it was asked for.

use std::net::SocketAddr;
use std::process::Stdio;

use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use qtasks::http::{Config, Tokens};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const TOKEN: &str = "http2-0123456789abcdef";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame of settings without any: length 0, type 4.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn config() -> Config {
    Config::default().listen("127.0.0.1:0").tokens(Tokens::parse(TOKEN).unwrap())
}

/// What is read after these bytes until the connection ends.
async fn sent(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(soon(), stream.read_to_end(&mut answer)).await.expect("the server ends it");
    answer
}

/// One connection of HTTP/2.
struct Client {
    sender: SendRequest<String>,
    /// Until the connection ends.
    connected: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Client {
    async fn connect(address: SocketAddr) -> hyper::Result<Self> {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        Ok(Client { sender, connected: tokio::spawn(connection) })
    }

    async fn get(&mut self, address: SocketAddr, path: &str) -> hyper::Result<http::Response<Incoming>> {
        let request = http::Request::get(format!("http://{address}{path}"));
        let request = request.header("authorization", format!("Bearer {TOKEN}")).body(String::new()).unwrap();
        self.sender.send_request(request).await
    }
}

/// The events of a stream, up to its end.
async fn read(response: http::Response<Incoming>) -> String {
    let all = tokio::time::timeout(soon(), response.into_body().collect()).await.expect("it ends").unwrap();
    String::from_utf8(all.to_bytes().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_a_connection() {
    let site = Site::new().await;
    let server = site.app.serve(config().http2()).await.unwrap();
    let address = server.address().unwrap();
    let mut client = Client::connect(address).await.unwrap();
    let id = site.added(r#"{"task":"gated","args":[20]}"#).await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let response = client.get(address, &format!("/v1/tasks/{id}/events")).await.unwrap();
        assert_eq!((response.status(), response.version()), (http::StatusCode::OK, http::Version::HTTP_2));
        streams.push(response);
    }
    site.gate.add_permits(20);
    let values: Vec<String> = (0..20).map(|i| i.to_string()).collect();
    for stream in streams {
        let told = told(&Parser::of(&read(stream).await)).join(" ");
        assert_eq!(told, format!("started {} completed", values.join(" ")));
    }
    site.app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_spoken() {
    let site = Site::new().await;
    let server = site.app.serve(config().http2()).await.unwrap();
    let id = site.added(r#"{"task":"count","args":[3]}"#).await;
    let url = format!("{}/v1/tasks/{id}/events", server.url());
    for (argument, version) in [("--http2-prior-knowledge", "2"), ("--http1.1", "1.1"), ("--http1.0", "1.1")] {
        let mut curl = tokio::process::Command::new("curl");
        curl.args(["-sN", "--max-time", "60", "-w", "%{stderr}%{http_version} %{http_code}", argument]);
        curl.args(["-H", &format!("Authorization: Bearer {TOKEN}"), &url]);
        curl.stdin(Stdio::null()).kill_on_drop(true);
        let out = curl.output().await.expect("curl is there: `apt-get install curl`");
        let told = told(&Parser::of(&String::from_utf8(out.stdout).unwrap())).join(" ");
        let how = String::from_utf8(out.stderr).unwrap();
        assert!(how.ends_with(" 200") && (how.starts_with(version) || argument == "--http1.0"), "{argument}: {how}");
        assert_eq!(told, "started 0 1 2 completed", "{argument}");
    }
    site.app.shutdown().await.unwrap();
    // Who did not ask for it does not have it.
    let site = Site::new().await;
    let server = site.app.serve(config()).await.unwrap();
    let address = server.address().unwrap();
    let mut client = Client::connect(address).await.unwrap();
    assert!(client.get(address, "/health").await.is_err());
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn slow_and_idle_clients_lose_their_connections() {
    let site = Site::new().await;
    let config = config().http2().header_time(Duration::from_millis(300)).connections_max(1);
    let server = site.app.serve(config).await.unwrap();
    let address = server.address().unwrap();
    assert_eq!(sent(address, b"").await, b"", "nothing at all");
    assert_eq!(sent(address, b"PRI * HTTP/2").await, b"", "half of a beginning");
    assert_eq!(sent(address, b"GET /health HTTP/1.1\r\nhost: loc").await, b"", "half of the headers");
    let settings = sent(address, &[PREFACE, SETTINGS].concat()).await;
    // Setting 3: how many streams there may be.
    assert!(settings.windows(6).any(|setting| setting == [0, 3, 0, 0, 0, 250]), "{settings:?}");
    // One that watches is not idle.
    let id = site.added(r#"{"task":"gated","args":[1]}"#).await;
    let mut client = Client::connect(address).await.unwrap();
    let stream = client.get(address, &format!("/v1/tasks/{id}/events")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    site.gate.add_permits(1);
    assert_eq!(told(&Parser::of(&read(stream).await)).join(" "), "started 0 completed");
    // And now it is: this client gives every sign of life, and asks for nothing.
    let _ = tokio::time::timeout(soon(), client.connected).await.expect("the server ends it").unwrap();
    drop(client.sender);
    site.app.shutdown().await.unwrap();
}

/// A server that goes tells who watches to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_ends_its_streams() {
    let site = Site::new().await;
    let server = site.app.serve(config().http2()).await.unwrap();
    let id = site.added(r#"{"task":"gated","args":[1]}"#).await;
    let address = server.address().unwrap();
    let stream = Client::connect(address).await.unwrap().get(address, &format!("/v1/tasks/{id}/events")).await.unwrap();
    server.shutdown().await;
    let text = read(stream).await;
    assert!(text.ends_with("retry: 500\n"), "{text}");
    site.gate.add_permits(1);
    site.app.shutdown().await.unwrap();
}
