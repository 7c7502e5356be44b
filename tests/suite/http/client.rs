//! Programs on the other side of HTTP: the same builders, handles and errors as in an app.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use qtasks::client::{Client, get_client};
use qtasks::http::{Config, Server, Tokens};
use qtasks::store::{Cancelled, List};
use qtasks::{ErrorKind, EventKind, RetryPolicy, Status, TaskId, WaitError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const TOKEN: &str = "client-0123456789abcdef";

async fn served(site: &Site) -> (Server, Client) {
    let config = Config::default().listen("127.0.0.1:0").tokens(Tokens::parse(TOKEN).unwrap());
    let server = site.app.serve(config).await.unwrap();
    let client = Client::new(server.url()).unwrap().token(TOKEN).timeout(soon());
    (server, client)
}

#[tokio::test]
async fn a_task_is_added_typed_and_by_name() {
    let site = Site::new().await;
    let (_server, client) = served(&site).await;
    let task = count::add_task(5).on(&client).timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.record.status), (vec![0, 1, 2, 3, 4], Status::Completed));
    let handle = plus::add_task(2, 3).on(&client).await.unwrap();
    assert_eq!(handle.wait().await.unwrap().returning, 5);
    // By name, by position and by argument; a plain task and one that yields.
    let task = client.add_task("plus", serde_json::json!({ "a": 4 })).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [Value::from(5)]);
    let handle = client.add_task("count", [3]).await.unwrap();
    let task = handle.wait().await.unwrap();
    assert_eq!(task.returning, [0, 1, 2].map(Value::from));
    assert_eq!(client.result(handle.id()).await.unwrap().returning, task.returning);
    // As an app tells it.
    let here = site.app.task(handle.id()).await.unwrap();
    assert_eq!(handle.record().await.unwrap(), here.record().await.unwrap());
    assert_eq!(client.add_task("count", [0]).timeout(soon()).await.unwrap().returning, [] as [Value; 0]);
    site.app.shutdown().await.unwrap();
}

/// Whatever a builder can be told arrives.
#[tokio::test]
async fn a_task_is_added_as_it_was_told() {
    let site = Site::new().await;
    let (_server, client) = served(&site).await;
    let seconds = Duration::from_secs;
    let at = SystemTime::UNIX_EPOCH + seconds(4_000_000_000) + Duration::from_millis(7);
    let told = |n| {
        let task =
            count::add_task(n).queue("slow").priority(-3).retry(2).time_limit(seconds(90)).idle_limit(seconds(5));
        let task = task.expires(seconds(9_000_000_000)).retention(Duration::from_millis(1_500)).tag("a").tag("b");
        let task = task.traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").tracestate("vendor=1");
        task.unique("u").at(at).idempotency_key("k")
    };
    let there = told(1).on(&client).await.unwrap().record().await.unwrap();
    let other = Site::new().await;
    let here = told(1).on(&other.app).await.unwrap().record().await.unwrap();
    let but_for_time = |mut record: qtasks::TaskRecord| {
        let since = record.expires_at.take().unwrap().duration_since(record.created_at).unwrap();
        (record.created_at, record.updated_at) = (at, at);
        let mut json = serde_json::to_value(&record).unwrap();
        json["id"] = since.as_secs().into();
        json
    };
    assert_eq!(there.due_at, Some(at));
    assert_eq!(but_for_time(there.clone()), but_for_time(here));
    assert_eq!(told(1).on(&client).await.unwrap().id(), there.id, "once under one key");
    let error = told(2).on(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let held = count::add_task(1).held().delay(seconds(60)).on(&client).await.unwrap();
    assert_eq!(held.status().await.unwrap(), Status::Held);
    // What HTTP has no word for is not left out silently.
    for task in [
        count::add_task(1).debounce("d", seconds(1)),
        count::add_task(1).retry(RetryPolicy::times(3).constant(seconds(1))),
        count::add_task(1).unchecked(),
        count::add_task(1).traceparent("of my own"),
    ] {
        let error = task.on(&client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
    site.app.shutdown().await.unwrap();
    other.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_verb_of_a_handle() {
    let site = Site::new().await;
    let (_server, client) = served(&site).await;
    let handle = gated::add_task(3).on(&client).await.unwrap();
    let id = handle.id();
    let mut values = handle.stream();
    let mut events = handle.events_from(0);
    for n in 0..2 {
        site.gate.add_permits(1);
        assert_eq!(values.next().await.unwrap().unwrap(), n);
    }
    let Err(WaitError::TimedOut(same)) = handle.wait_timeout(Duration::from_millis(1)).await else {
        panic!("it goes on");
    };
    assert_eq!((same.id(), same.status().await.unwrap()), (id, Status::Running));
    assert_eq!(handle.retry().await.unwrap_err().kind(), ErrorKind::Conflict, "it runs");
    let idle = handle.stream_after(3).idle_timeout(Duration::from_millis(1)).next().await.unwrap().unwrap_err();
    assert_eq!(idle.kind(), ErrorKind::TimedOut);
    assert_eq!(client.cancel(id, "enough").await.unwrap(), Cancelled::Asked);
    let Err(WaitError::Ended(ended)) = handle.wait().await else { panic!("it was cancelled") };
    assert_eq!((ended.failure().kind, &*ended.failure().message), (FailureKind::Cancelled, "enough"));
    assert_eq!(ended.returning::<u64>().unwrap(), [0, 1]);
    let error = values.next().await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.failure().unwrap()), (ErrorKind::TaskFailed, ended.failure()));
    assert!(values.next().await.is_none());
    let mut log = Vec::new();
    while let Some(event) = events.next().await {
        log.push(event.unwrap());
    }
    let here: Vec<_> = site.app.task(id).await.unwrap().events_from(0).try_collect().await.unwrap();
    assert_eq!(log, here);
    assert_eq!(crate::kinds(&log), "started yield yield cancelled");
    assert_eq!(handle.cancel("again").await.unwrap(), Cancelled::Done);
    let again = client.retry(id).await.unwrap();
    assert_eq!(again.record().await.unwrap().retry_of, Some(id));
    site.gate.add_permits(3);
    assert_eq!(again.wait().await.unwrap().returning.len(), 3);
    assert_eq!(client.cancel(again.id(), "").await.unwrap(), Cancelled::Ended(Status::Completed));
    // Known again by its id.
    let typed = qtasks::TaskHandle::<gated>::attach(&client, again.id()).await.unwrap();
    assert_eq!(typed.wait().await.unwrap().returning, [0, 1, 2]);
    let error = qtasks::TaskHandle::<plus>::attach(&client, again.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(client.attach(again.id()).await.unwrap().id(), again.id());
    let all: Vec<u64> = client.stream::<u64>(again.id()).try_collect().await.unwrap();
    assert_eq!(all, [0, 1, 2]);
    let all: Vec<u64> = client.stream_after::<u64>(again.id(), 3).try_collect().await.unwrap();
    assert_eq!(all, [2]);
    let wrong = client.stream::<String>(again.id()).next().await.unwrap().unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Codec);
    let rest: Vec<_> = client.events_from(again.id(), 4).map(|event| event.unwrap().seq).collect().await;
    assert_eq!(rest, [4, 5]);
    assert!(client.events_from(again.id(), 6).next().await.is_none(), "past the end");
    assert!(typed.stream_after(9).next().await.is_none(), "past the end");
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn lists_texts_and_failures() {
    let site = Site::new().await;
    let (_server, client) = served(&site).await;
    let staged = staged::add_task().on(&client).await.unwrap();
    assert_eq!(staged.wait().await.unwrap().returning, ["two\nlines", "ü"]);
    assert_eq!(staged.output().await.unwrap(), "two\nlinesü");
    let mut output = staged.output_stream();
    while output.grown().await.unwrap().is_some() {}
    assert_eq!(output.text(), "two\nlinesü");
    let events: Vec<_> = staged.events_from(0).try_collect().await.unwrap();
    assert!(
        matches!(&events[1].kind, EventKind::Event { name, data, .. } if name == "start" && *data == serde_json::json!({ "of": "all" }))
    );
    let failed = fails::add_task(1).retry(1).on(&client).await.unwrap();
    let error = failed.wait().await.unwrap_err();
    let here = site.app.task(failed.id()).await.unwrap();
    assert_eq!(error.failure().unwrap(), crate::failure(&here.wait().await.unwrap_err()));
    let failures = failed.failures().await.unwrap();
    assert_eq!((failures.len(), &failures), (2, &here.failures().await.unwrap()));
    for _ in 0..4 {
        count::add_task(1).tag("some").on(&client).timeout(soon()).await.unwrap();
    }
    let some = List { tag: Some("some".to_owned()), limit: 3, status: vec![Status::Completed], ..List::default() };
    let page = client.list(some.clone()).await.unwrap();
    assert_eq!(page, site.app.list(some.clone()).await.unwrap());
    let rest = client.list(List { cursor: page.next.clone(), ..some }).await.unwrap();
    assert_eq!((page.tasks.len(), rest.tasks.len(), rest.next), (3, 1, None));
    assert_eq!(client.list(List::default()).await.unwrap().tasks.len(), 6);
    site.app.shutdown().await.unwrap();
}

/// The error that a client gives, and the one that an app gives.
fn same(there: &qtasks::Error, here: &qtasks::Error) -> ErrorKind {
    assert_eq!((there.kind(), there.to_string()), (here.kind(), here.to_string()));
    assert_eq!(there.failure(), here.failure());
    there.kind()
}

#[tokio::test]
async fn errors_are_those_of_an_app() {
    let site = Site::new().await;
    let (server, client) = served(&site).await;
    let by_name = async |name: &str, args: Value| {
        let there = client.add_task(name, args.clone()).await.unwrap_err();
        same(&there, &site.app.add_task(name, args).await.unwrap_err())
    };
    assert_eq!(by_name("cuont", serde_json::json!([1])).await, ErrorKind::NotFound);
    assert_eq!(by_name("count", serde_json::json!({})).await, ErrorKind::Invalid);
    assert_eq!(by_name("plus", serde_json::json!([1, 2, 3])).await, ErrorKind::Invalid);
    let unknown = TaskId::new();
    let there = client.record(unknown).await.unwrap_err();
    assert_eq!(same(&there, &site.app.task(unknown).await.unwrap_err()), ErrorKind::NotFound);
    let there = client.stream::<u64>(unknown).next().await.unwrap().unwrap_err();
    assert_eq!(there.kind(), ErrorKind::NotFound);
    assert_eq!(client.events_from(unknown, 0).next().await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    let failed = fails::add_task(2).on(&client).await.unwrap();
    let here = qtasks::TaskHandle::<fails>::attach(&site.app, failed.id()).await.unwrap();
    let (there, ours) = (failed.wait().await.unwrap_err(), here.wait().await.unwrap_err());
    assert_eq!(same(&there.into(), &ours.into()), ErrorKind::TaskFailed);
    let (there, ours): (Vec<_>, Vec<_>) = (failed.stream().collect().await, here.stream().collect().await);
    assert_eq!(same(there[2].as_ref().unwrap_err(), ours[2].as_ref().unwrap_err()), ErrorKind::TaskFailed);
    // Who has no token, or a wrong one, is told so.
    for client in [Client::new(server.url()).unwrap(), client.clone().token("wrong-0123456789abcdef")] {
        let errors = [
            count::add_task(1).on(&client).await.unwrap_err(),
            client.record(failed.id()).await.unwrap_err(),
            client.stream::<u64>(failed.id()).next().await.unwrap().unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(error.kind() == ErrorKind::Invalid && text.contains("token"), "{text}");
            assert!(text.contains(&server.url()) && !text.contains("wrong-"), "{text}");
        }
    }
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // Bound, so that nobody else gets it, and never listened at.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    let client = Client::new(&url).unwrap().timeout(Duration::from_millis(300));
    let errors = [
        count::add_task(1).on(&client).await.unwrap_err(),
        count::add_task(1).on(&client).timeout(soon()).await.unwrap_err().into(),
        client.record(TaskId::new()).await.unwrap_err(),
        client.stream::<u64>(TaskId::new()).next().await.unwrap().unwrap_err(),
        client.events_from(TaskId::new(), 0).next().await.unwrap().unwrap_err(),
        client.result(TaskId::new()).await.unwrap_err().into(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(error.kind() == ErrorKind::Unavailable && text.contains(&url), "{text}");
    }
    // One that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", silent.local_addr().unwrap())).unwrap();
    let client = client.timeout(Duration::from_millis(300));
    for error in [
        client.record(TaskId::new()).await.unwrap_err(),
        client.stream::<u64>(TaskId::new()).next().await.unwrap().unwrap_err(),
    ] {
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("300ms"), "{error}");
    }
    // One that is no server of tasks.
    let router = axum::Router::new().fallback(async || "<html>");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = Client::new(&url).unwrap();
    for error in [
        count::add_task(1).on(&client).await.unwrap_err(),
        client.stream::<u64>(TaskId::new()).next().await.unwrap().unwrap_err(),
        client.events_from(TaskId::new(), 0).next().await.unwrap().unwrap_err(),
        Client::new("127.0.0.1:7717").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

/// A proxy in between that cuts connections.
struct Between {
    address: SocketAddr,
    /// So many connections were made.
    connections: Arc<AtomicUsize>,
}

impl Between {
    /// Cuts each connection after so many bytes of answers.
    async fn cutting(to: SocketAddr, bytes_max: impl Fn(usize) -> usize + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let made = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let n = made.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(carry(near, to, bytes_max(n)));
            }
        });
        Between { address, connections }
    }

    fn client(&self) -> Client {
        Client::new(format!("http://{}", self.address)).unwrap().token(TOKEN).timeout(soon())
    }
    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn carry(near: TcpStream, to: SocketAddr, bytes_max: usize) {
    let Ok(far) = TcpStream::connect(to).await else { return };
    let ((mut near_read, mut near), (far_read, mut far)) = (near.into_split(), far.into_split());
    let mut answers = far_read.take(bytes_max.try_into().unwrap());
    tokio::select! {
        _ = tokio::io::copy(&mut near_read, &mut far) => {}
        _ = tokio::io::copy(&mut answers, &mut near) => {}
    }
    let _ = near.shutdown().await;
}

/// Cut after every number of bytes: no gap, and nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_survives_its_connections() {
    let site = Site::new().await;
    let (server, direct) = served(&site).await;
    let done = count::add_task(100).on(&direct).timeout(soon()).await.unwrap();
    let whole: Vec<_> = direct.events_from(done.id, 0).try_collect().await.unwrap();
    // The headers, and no more than some events of each connection; and never so few that no connection gets on.
    for extra in [400, 700, 1111] {
        let between = Between::cutting(server.address().unwrap(), move |n| extra + 13 * (n % 29)).await;
        let client = between.client();
        let values: Vec<u64> = client.stream::<u64>(done.id).try_collect().await.unwrap();
        assert_eq!(values, (0..100).collect::<Vec<_>>(), "cut after {extra}");
        let cut = between.connections();
        assert!(cut > 1, "{cut} connections");
        let events: Vec<_> = client.events_from(done.id, 0).try_collect().await.unwrap();
        assert_eq!(events, whole, "cut after {extra}");
        assert!(between.connections() > cut + 1, "{} connections", between.connections());
    }
    site.app.shutdown().await.unwrap();
}

/// Cut once at every byte of the answer, its headers too, a log of three events is the same log.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_survives_a_cut_at_every_byte() {
    let site = Site::new().await;
    let (server, direct) = served(&site).await;
    let address = server.address().unwrap();
    let done = count::add_task(1).on(&direct).timeout(soon()).await.unwrap();
    let whole: Vec<_> = direct.events_from(done.id, 0).try_collect().await.unwrap();
    assert_eq!(crate::kinds(&whole), "started yield completed");
    let (id, whole) = (done.id, &whole);
    // More than either answer has: then nothing is cut.
    let cut_at = |byte: usize| async move {
        let between = Between::cutting(address, move |n| if n == 0 { byte } else { usize::MAX >> 1 }).await;
        let values: Vec<u64> = between.client().stream::<u64>(id).try_collect().await.unwrap();
        assert_eq!(values, [0], "cut at {byte}");
        let connections = between.connections();
        let between = Between::cutting(address, move |n| if n == 0 { byte } else { usize::MAX >> 1 }).await;
        let events: Vec<_> = between.client().events_from(id, 0).try_collect().await.unwrap();
        assert_eq!(&events, whole, "cut at {byte}");
        (connections > 1, between.connections() > 1)
    };
    let cuts: Vec<_> = futures::stream::iter((0..2_000).map(cut_at)).buffered(64).collect().await;
    let (values, events) = (cuts.iter().filter(|cut| cut.0).count(), cuts.iter().filter(|cut| cut.1).count());
    println!("cut {values} times, and {events}");
    assert!(values > 400 && events > 400, "{values}, {events}");
    assert!(cuts.last().is_some_and(|cut| *cut == (false, false)), "the last ones are not cut");
    site.app.shutdown().await.unwrap();
}

/// What was added is waited for over connections that break.
#[tokio::test]
async fn whoever_waits_survives_a_cut() {
    let site = Site::new().await;
    let (server, _) = served(&site).await;
    let between = Between::cutting(server.address().unwrap(), |n| if n == 0 { 4_000 } else { 1_500 }).await;
    let handle = gated::add_task(60).on(&between.client()).await.unwrap();
    let wait = tokio::spawn({
        let handle = handle.clone();
        async move { handle.wait().await }
    });
    let (mut values, mut n) = (handle.stream(), 0);
    while n < 60 {
        site.gate.add_permits(1);
        assert_eq!(values.next().await.unwrap().unwrap(), n);
        n += 1;
    }
    assert!(values.next().await.is_none());
    assert_eq!(wait.await.unwrap().unwrap().returning, (0..60).collect::<Vec<_>>());
    assert!(between.connections() > 3, "{} connections", between.connections());
    site.app.shutdown().await.unwrap();
}

/// The server goes away and comes back at the same address while streams are open.
#[tokio::test]
async fn a_stream_survives_its_server() {
    let store = crate::store_named("client-restart");
    let site = Site::of(Qtasks::builder().store(&store).tasks(SPECS())).await;
    let (server, client) = served(&site).await;
    let address = server.address().unwrap();
    let handle = gated::add_task(4).on(&client).await.unwrap();
    let (mut values, mut events) = (handle.stream(), handle.events_from(0));
    site.gate.add_permits(2);
    for n in 0..2 {
        assert_eq!(values.next().await.unwrap().unwrap(), n);
    }
    // Another app on the store serves what this one runs.
    let other = Qtasks::builder().store(&store).tasks(SPECS()).state(Arc::clone(&site.gate)).start().await.unwrap();
    server.shutdown().await;
    let config = || Config::default().listen(address.to_string()).tokens(Tokens::parse(TOKEN).unwrap());
    let again = other.serve(config()).await.unwrap();
    site.gate.add_permits(2);
    for n in 2..4 {
        assert_eq!(values.next().await.unwrap().unwrap(), n);
    }
    assert!(values.next().await.is_none());
    let mut seqs = Vec::new();
    while let Some(event) = events.next().await {
        seqs.push(event.unwrap().seq);
    }
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(handle.wait().await.unwrap().returning, [0, 1, 2, 3]);
    drop(again);
    site.app.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

/// Behind an address there may be another store by now.
#[tokio::test]
async fn a_log_that_is_another_one_is_told() {
    #[derive(Default)]
    struct Script(Mutex<Vec<String>>, AtomicUsize);
    let script = Arc::new(Script::default());
    let router = axum::Router::new().fallback({
        let script = Arc::clone(&script);
        async move |request: axum::extract::Request| {
            let last = request.headers().get("last-event-id").map_or("", |last| last.to_str().unwrap());
            let lines = request.uri().query().unwrap().contains("follow");
            script.0.lock().unwrap().push(last.to_owned());
            let event = |seq: u64| {
                format!(
                    "{{\"seq\":{seq},\"epoch\":1,\"attempt\":1,\"at\":\"2026-01-01T00:00:00Z\",\"kind\":\"later\"}}\n"
                )
            };
            let kind = if lines { "application/x-ndjson" } else { "text/event-stream" };
            let body = match (script.1.fetch_add(1, Ordering::SeqCst), lines) {
                (0, false) => ": hi\n\nid: 1-1\ndata: 7\n\nid: 2-1\nevent: own\ndata: x\n\nid: 3-1\ndata: 8".to_owned(),
                (_, false) => "event: reset\ndata: {}\n\nid: 1-5\ndata: 7\n\n".to_owned(),
                // A kind of a later version is left out.
                (0, true) => event(1) + &event(2),
                (_, true) => event(1),
            };
            ([("content-type", kind)], body)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut values = client.stream::<u64>(TaskId::new());
    assert_eq!(values.next().await.unwrap().unwrap(), 7);
    assert_eq!(values.next().await.unwrap().unwrap_err().kind(), ErrorKind::Reset);
    assert!(values.next().await.is_none());
    assert_eq!(std::mem::take(&mut *script.0.lock().unwrap()), ["", "2-1"]);
    script.1.store(0, Ordering::SeqCst);
    let mut events = client.events_from(TaskId::new(), 0);
    assert_eq!(events.next().await.unwrap().unwrap_err().kind(), ErrorKind::Reset);
    assert_eq!(*script.0.lock().unwrap(), ["", "2-1"]);
}

#[tokio::test]
async fn what_was_handed_out_and_is_void_is_told() {
    let site = Site::of(Qtasks::builder().store(crate::store()).tasks([changes::spec()])).await;
    let (_server, client) = served(&site).await;
    let there = changes::add_task().on(&client).await.unwrap();
    let here = qtasks::TaskHandle::<changes>::attach(&site.app, there.id()).await.unwrap();
    let wait = tokio::spawn({
        let there = there.clone();
        async move { there.wait().await }
    });
    let (mut remote, mut local) = (there.stream(), here.stream());
    for value in [0, 1] {
        assert_eq!((remote.next().await.unwrap().unwrap(), local.next().await.unwrap().unwrap()), (value, value));
    }
    site.gate.add_permits(2);
    let (error, ours) = (remote.next().await.unwrap().unwrap_err(), local.next().await.unwrap().unwrap_err());
    let ErrorKind::Rewound { to: 1, seq } = same(&error, &ours) else { panic!("{error}") };
    let rest: Vec<u32> = there.stream_after(seq).try_collect().await.unwrap();
    assert_eq!(rest, [2, 7]);
    assert_eq!(wait.await.unwrap().unwrap().returning, [0, 2, 7]);
    assert_eq!(there.wait().await.unwrap().returning, [0, 2, 7]);
    site.app.shutdown().await.unwrap();
}

/// Whoever waits from before the second attempt gets what holds in the end.
#[tokio::test]
async fn what_is_void_is_not_in_a_result() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"count","args":[2]}"#).await;
    site.ended(&id).await;
    let record = site.get(&format!("/v1/tasks/{id}")).await.text;
    let event = |seq: u64, kind: &str| {
        let head = format!("event: {kind}\nid: {seq}-1\ndata: {{\"seq\":{seq},\"epoch\":1,\"attempt\":2,");
        format!("{head}\"at\":\"2026-01-01T00:00:00Z\",\"kind\":\"{kind}\",\"to\":1,\"final_value\":null}}\n\n")
    };
    let values = |first: u64, values: [u64; 2]| {
        let [a, b] = values.map(|value| format!("data: {value}\n\n"));
        format!("id: {first}-1\n{a}id: {}-1\n{b}", first + 1)
    };
    let log = values(2, [10, 11]) + &event(4, "rewind") + &values(5, [12, 13]) + &event(7, "completed");
    let router = axum::Router::new().fallback(async move |request: axum::extract::Request| {
        let watches = request.uri().path().ends_with("/events");
        let (kind, body) = if watches { ("text/event-stream", log) } else { ("application/json", record) };
        ([("content-type", kind)], body)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let id = id.parse().unwrap();
    assert_eq!(client.result(id).await.unwrap().returning, [10, 12, 13].map(Value::from));
    let error = client.stream::<u64>(id).skip(2).next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Rewound { to: 1, seq: 4 });
    let error = client.stream_after::<String>(id, 1).next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("value 0 behind 1"), "{error}");
    site.app.shutdown().await.unwrap();
}

/// 200 requests, by the verbs and by the plain client, and the connections that were made for them.
async fn requests(to: SocketAddr) -> usize {
    let between = Between::cutting(to, |_| usize::MAX >> 1).await;
    let client = between.client();
    let handle = count::add_task(1).on(&client).await.unwrap();
    for _ in 0..99 {
        handle.record().await.unwrap();
    }
    let plain = client.async_client();
    for _ in 0..100 {
        let health = plain.get(format!("http://{}/health", between.address)).send().await.unwrap();
        assert_eq!(health.text().await.unwrap(), "OK");
    }
    between.connections()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_their_connections() {
    let site = Site::new().await;
    let (server, _) = served(&site).await;
    // A request that comes before the last answer was put away has another connection; none has one of its own.
    let made = requests(server.address().unwrap()).await;
    assert!(made < 20, "{made} connections for 200 requests");
    site.app.shutdown().await.unwrap();
}

/// One for the whole process, however its address is written.
#[tokio::test]
async fn a_process_has_one_client_for_a_server() {
    let site = Site::new().await;
    let (server, _) = served(&site).await;
    let between = Between::cutting(server.address().unwrap(), |_| usize::MAX >> 1).await;
    let of = |url: String| get_client(&*url).unwrap().token(TOKEN);
    let one = of(format!("http://{}", between.address));
    let added = count::add_task(1).on(&one).timeout(soon()).await.unwrap();
    for n in 0..50 {
        let slash = ["", "/"][n % 2];
        of(format!("http://{}{slash}", between.address)).record(added.id).await.unwrap();
    }
    let made = between.connections();
    assert!(made < 10, "{made} connections for 50 clients");
    // The other plain one, for those who don't await.
    let (blocking, url) = (one.sync_client(), format!("http://{}/health", server.address().unwrap()));
    let health = tokio::task::spawn_blocking(move || blocking.get(url).send().unwrap().text().unwrap());
    assert_eq!(health.await.unwrap(), "OK");
    site.app.shutdown().await.unwrap();
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_may_listen_at_a_socket() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new().await;
    let folder = crate::scratch();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let server = site.app.serve(Config::default().socket(folder.join("q.sock")).no_auth()).await.unwrap();
    let client = Client::new(server.url()).unwrap();
    let task = count::add_task(2).on(&client).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [0, 1]);
    site.app.shutdown().await.unwrap();
}

/// Without a runtime, and with another executor.
#[test]
fn a_client_needs_no_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let site = runtime.block_on(Site::new());
    let (_server, client) = runtime.block_on(served(&site));
    let task = count::add_task(3).on(&client).timeout(soon()).wait_blocking().unwrap();
    assert_eq!(task.returning, [0, 1, 2]);
    let handle = plus::add_task(1, 1).on(&client).add_blocking().unwrap();
    assert_eq!(handle.wait_blocking().unwrap().returning, 2);
    let values: Vec<u64> =
        futures::executor::block_on_stream(client.stream::<u64>(task.id)).collect::<qtasks::Result<_>>().unwrap();
    assert_eq!(values, [0, 1, 2]);
    let record = futures::executor::block_on(client.record(handle.id())).unwrap();
    assert_eq!(record.status, Status::Completed);
    // In a body or a test on one thread it blocks that one only.
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    single.block_on(async {
        assert_eq!(count::add_task(1).on(&client).timeout(soon()).wait_blocking().unwrap().returning, [0]);
    });
    runtime.block_on(site.app.shutdown()).unwrap();
}

/// Generic programs take either.
#[tokio::test]
async fn one_program_for_apps_and_clients() {
    async fn sum(on: &impl qtasks::On) -> u64 {
        count::add_task(4).on(on).timeout(soon()).await.unwrap().returning.into_iter().sum()
    }
    let site = Site::new().await;
    let (_server, client) = served(&site).await;
    assert_eq!((sum(&client).await, sum(&site.app).await, sum(&Box::new(site.app.clone())).await), (6, 6, 6));
    site.app.shutdown().await.unwrap();
}
