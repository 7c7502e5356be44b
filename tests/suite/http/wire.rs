//! Over real connections: `curl`, slow and malformed requests, sockets, shutdown.

use std::process::Stdio;

use qtasks::http::{Config, Tokens};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const TOKEN: &str = "wire-0123456789abcdef";

fn config() -> Config {
    Config::default().listen("127.0.0.1:0").tokens(Tokens::parse(TOKEN).unwrap())
}

/// Sends bytes and gives all that comes back before the connection ends.
async fn raw(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(soon(), stream.read_to_end(&mut answer));
    let _ = read.await.expect("the server ends the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_watches_a_task_live() {
    let site = Site::new().await;
    let server = site.app.serve(config()).await.unwrap();
    let id = site.added(r#"{"task":"gated","args":[3]}"#).await;
    let url = format!("{}/v1/tasks/{id}/events", server.url());
    let mut curl = tokio::process::Command::new("curl");
    curl.args(["-sN", "--max-time", "60", "-H", &format!("Authorization: Bearer {TOKEN}"), &url]);
    let mut curl = curl.stdout(Stdio::piped()).spawn().expect("curl is there: `apt-get install curl`");
    let mut out = curl.stdout.take().unwrap();
    let mut parser = Parser::default();
    for expected in ["started 0", "started 0 1", "started 0 1 2 completed"] {
        site.gate.add_permits(1);
        while told(&parser.sent).join(" ") != expected {
            let mut bytes = [0; 1024];
            let n = tokio::time::timeout(soon(), out.read(&mut bytes)).await.unwrap().unwrap();
            assert_ne!(n, 0, "it ended: {:?}", told(&parser.sent));
            parser.feed(&bytes[..n]);
        }
    }
    assert!(curl.wait().await.unwrap().success());
    // It goes on behind an event that it names.
    let (bearer, last) = (format!("Authorization: Bearer {TOKEN}"), format!("Last-Event-ID: {}", parser.sent[1].id));
    let mut curl = tokio::process::Command::new("curl");
    let again = curl.args(["-sN", "--max-time", "60", "--header", &bearer, "--header", &last, &url]).output();
    let again = String::from_utf8(again.await.unwrap().stdout).unwrap();
    assert_eq!(Parser::of(&again), parser.sent[2..]);
    site.app.shutdown().await.unwrap();
}

/// While a sync generator computes, the server answers.
#[tokio::test]
async fn a_busy_task_keeps_nobody_waiting() {
    #[task]
    fn busy(stop: State<Arc<std::sync::atomic::AtomicBool>>) -> u64 {
        let mut n = 0_u64;
        while !stop.load(std::sync::atomic::Ordering::SeqCst) {
            n = n.wrapping_add(1);
        }
        yield_!(n);
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let builder = Qtasks::builder().store(crate::store()).tasks([busy::spec()]).state(Arc::clone(&stop));
    let site = Site::of(builder).await;
    let server = site.app.serve(config()).await.unwrap();
    let id = site.added(r#"{"task":"busy"}"#).await;
    for _ in 0..10 {
        let answer =
            raw(server.address().unwrap(), b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("OK"), "{answer}");
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    site.ended(&id).await;
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn malformed_requests_are_refused_and_the_server_goes_on() {
    let site = Site::new().await;
    let server = site.app.serve(config()).await.unwrap();
    let address = server.address().unwrap();
    let post = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    );
    let large = format!("GET /health HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let requests: [(&str, Vec<u8>, &str); 8] = [
        ("no request", b"hello\r\n\r\n".to_vec(), "400"),
        ("bad chunks", format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes(), "400"),
        (
            "both lengths",
            format!("{post}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").into_bytes(),
            "4",
        ),
        ("two lengths", format!("{post}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}").into_bytes(), "400"),
        ("no UTF-8", [post.as_bytes(), b"content-length: 3\r\n\r\n\"\xff\""].concat(), "4"),
        ("large headers", large.into_bytes(), "431"),
        ("no host", b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec(), "421"),
        (
            "a stranger's host",
            b"GET /health HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".to_vec(),
            "421",
        ),
    ];
    for (what, request, status) in requests {
        let answer = raw(address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
        let alive = raw(address, b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        assert!(alive.ends_with("OK"), "after {what}");
    }
    assert_eq!(site.app.stats().await.unwrap().queues.len(), 0);
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn slow_clients_lose_their_connections() {
    let site = Site::new().await;
    let short = Duration::from_millis(300);
    let server = site.app.serve(config().header_time(short).body_time(short).connections_max(1)).await.unwrap();
    let address = server.address().unwrap();
    assert_eq!(raw(address, b"GET /health HTTP/1.1\r\nhost: loc").await, "", "headers that don't come to their end");
    assert_eq!(raw(address, b"").await, "", "nothing at all");
    let body = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{{"
    );
    let answer = raw(address, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("the body did not come within 300ms"), "{answer}");
    site.app.shutdown().await.unwrap();
}

/// Who watches when the server goes is told to come back at once, and goes on with another one.
#[tokio::test]
async fn a_server_that_goes_ends_its_streams() {
    let site = Site::new().await;
    let server = site.app.serve(config()).await.unwrap();
    let id = site.added(r#"{"task":"gated","args":[2]}"#).await;
    site.gate.add_permits(1);
    let get = |address, last: &str| {
        let request = format!(
            "GET /v1/tasks/{id}/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nlast-event-id: {last}\r\nconnection: close\r\n\r\n"
        );
        tokio::spawn(async move { raw(address, request.as_bytes()).await })
    };
    let handle = site.app.task(id.parse().unwrap()).await.unwrap();
    crate::until_async(async || handle.record().await.unwrap().tail == 2).await;
    let first = get(server.address().unwrap(), "0-0");
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.shutdown().await;
    let first = first.await.unwrap();
    assert!(first.contains("data: 0\n") && first.contains("retry: 500\n"), "{first}");
    assert!(TcpStream::connect(server.address().unwrap()).await.is_err(), "it listens no more");
    let other = site.app.serve(config()).await.unwrap();
    let last = first.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    let second = get(other.address().unwrap(), &last);
    site.gate.add_permits(1);
    let second = second.await.unwrap();
    assert!(second.contains("data: 1\n") && !second.contains("data: 0\n"), "{second}");
    site.app.shutdown().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_is_the_users_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new().await;
    let folder = crate::scratch();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = folder.join("q.sock");
    let server = site.app.serve(Config::default().socket(&path).no_auth()).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("OK"));
    let busy = site.app.serve(Config::default().socket(&path).no_auth()).await.unwrap_err();
    assert!(busy.to_string().contains("a server listens at"), "{busy}");
    server.shutdown().await;
    crate::until(|| !path.exists()).await;
    // One that nobody answers at is taken away; what is none is not, nor is a folder of others used.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    site.app.serve(Config::default().socket(&path).no_auth()).await.unwrap().shutdown().await;
    let file = folder.join("file");
    std::fs::write(&file, "x").unwrap();
    let error = site.app.serve(Config::default().socket(&file).no_auth()).await.unwrap_err();
    assert!(error.to_string().contains("is no socket"), "{error}");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = site.app.serve(Config::default().socket(&path).no_auth()).await.unwrap_err();
    assert!(error.to_string().contains("others may write in"), "{error}");
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn without_tokens_it_serves_this_machine_only() {
    let site = Site::new().await;
    let error = site.app.serve(Config::default().listen("0.0.0.0:0").no_auth()).await.unwrap_err();
    assert!(error.to_string().contains("can be reached from elsewhere"), "{error}");
    site.app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await.unwrap();
    let error = site.app.serve(Config::default().listen("nowhere")).await.unwrap_err();
    assert_eq!(error.kind(), qtasks::ErrorKind::Unavailable, "{error}");
    site.app.shutdown().await.unwrap();
}
