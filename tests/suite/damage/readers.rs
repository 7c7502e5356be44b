//! Stores whose logs are shorter than they say, or the same again and again: every reader ends with an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use qtasks::Status;
use qtasks::prelude::*;
use qtasks::store::*;
use qtasks::{Clock, ErrorKind, FailureKind, RetryPolicy, TaskHandle, TaskId, TaskRecord, WaitError};
use tower::ServiceExt as _;

use crate::crash::pass::passed_on;
use crate::soon;

/// More than one page of every reader.
const VALUES: u64 = 10_000;

#[task]
async fn many(n: u64) -> String {
    for i in 0..n {
        yield_!(i.to_string());
    }
}

/// What a store does instead of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instead {
    /// It gives nothing, and says that there is more.
    Nothing,
    /// It gives the first page again and again.
    SamePage,
    /// It gives less than its tail, and says that this was all.
    Less,
    /// It says that the log goes on without an end.
    Huge,
    /// It leaves out an event in the middle.
    Gap,
}

const ALL: [Instead; 5] = [Instead::Nothing, Instead::SamePage, Instead::Less, Instead::Huge, Instead::Gap];

/// Reads that are worse the more of them there are would not end.
const READS_MAX: usize = 10_000;

#[derive(Debug)]
struct Strange {
    store: Arc<dyn Store>,
    instead: Instead,
    reads: AtomicUsize,
}

impl Store for Strange {
    fn read(&self, read: Read) -> Answer<'_, Slice> {
        Box::pin(async move {
            let reads = self.reads.fetch_add(1, Ordering::Relaxed);
            assert!(reads < READS_MAX, "a reader goes round in circles: {read:?}");
            let asked = match self.instead {
                Instead::SamePage => Read { from_seq: 1, limit: 1_000, ..read },
                _ => read,
            };
            let mut slice = self.store.read(asked).await?;
            match self.instead {
                Instead::Nothing => {
                    slice.events.clear();
                    slice.hashes.clear();
                    slice.next_seq = read.from_seq.max(1);
                }
                Instead::SamePage => {}
                Instead::Less => {
                    slice.tail += 1;
                    if slice.next_seq == slice.tail {
                        slice.next_seq += 1;
                    }
                }
                Instead::Huge => slice.tail = 1 << 62,
                Instead::Gap => {
                    slice.hashes.retain(|hashed| hashed.index != 7);
                    let gap = |batch: &qtasks::event::EventBatch| {
                        let before = batch.slice(0, 5_usize.saturating_sub(batch.first_seq() as usize));
                        [before, batch.slice(6, usize::MAX)]
                    };
                    slice.events = slice.events.iter().flat_map(gap).filter(|part| !part.is_empty()).collect();
                }
            }
            Ok(slice)
        })
    }
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        self.store.on_this_runtime()
    }
    passed_on!(store; add claim append extend watch sweep lookups rest);
}

fn strange(store: &Arc<dyn Store>, instead: Instead) -> Arc<dyn Store> {
    Arc::new(Strange { store: Arc::clone(store), instead, reads: AtomicUsize::new(0) })
}

/// A store with a task that has ended well.
async fn with_a_log() -> (Arc<dyn Store>, TaskId) {
    let store: Arc<dyn Store> = MemoryStore::new(Clock::system());
    let app = Qtasks::builder().with_store(Arc::clone(&store)).tasks([many::spec()]).start().await.unwrap();
    let task = many::add_task(VALUES).on(&app).timeout(soon()).await.unwrap();
    app.shutdown().await.unwrap();
    (store, task.id)
}

async fn ends<T>(what: impl Future<Output = T>, name: &str, instead: Instead) -> T {
    let ended = tokio::time::timeout(soon(), what).await;
    ended.unwrap_or_else(|_| panic!("{name} does not end where the store gives {instead:?}"))
}

fn is_damage(error: &qtasks::Error, id: TaskId) -> bool {
    error.kind() == ErrorKind::Damaged && error.to_string().contains(&id.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_ends_with_an_error_that_names_task_and_place() {
    let (store, id) = with_a_log().await;
    for instead in ALL {
        let app = Qtasks::builder().with_store(strange(&store, instead)).tasks([many::spec()]).open().await.unwrap();
        let handle = || async { TaskHandle::<many>::attach(&app, id).await.unwrap() };
        let task = handle().await;
        match ends(task.wait(), "wait", instead).await {
            Err(WaitError::Store(error)) => assert!(is_damage(&error, id), "{instead:?}: {error}"),
            other => panic!("{instead:?}: {other:?}"),
        }
        let error = ends(task.output(), "output", instead).await.unwrap_err();
        assert!(is_damage(&error, id), "{instead:?}: {error}");
        assert!(error.to_string().contains("at seq "), "{error}");
        let error = ends(task.failures(), "failures", instead).await.err();
        assert!(error.as_ref().is_none_or(|e| is_damage(e, id)), "{instead:?}: {error:?}");
        let values = async { handle().await.stream().try_collect::<Vec<String>>().await };
        let error = ends(values, "stream", instead).await.unwrap_err();
        assert!(is_damage(&error, id), "{instead:?}: {error}");
        let after = async { handle().await.stream_after(5_000).try_collect::<Vec<String>>().await };
        let after = ends(after, "stream_after", instead).await;
        assert!(
            after.as_ref().map_or_else(|e| is_damage(e, id), |_| instead == Instead::Gap),
            "{instead:?}: {after:?}"
        );
        let events = async { handle().await.events_from(0).try_collect::<Vec<_>>().await };
        let error = ends(events, "events_from", instead).await.unwrap_err();
        assert!(is_damage(&error, id), "{instead:?}: {error}");
        let text = async {
            let mut output = handle().await.output_stream();
            while output.grown().await?.is_some() {}
            Ok::<(), qtasks::Error>(())
        };
        let error = ends(text, "output_stream", instead).await.unwrap_err();
        assert!(is_damage(&error, id), "{instead:?}: {error}");
        app.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_500_for_that_task_and_goes_on_with_the_others() {
    let (store, id) = with_a_log().await;
    for instead in ALL {
        let app = Qtasks::builder().with_store(strange(&store, instead)).tasks([many::spec()]).open().await.unwrap();
        let service = qtasks::http::service(&app).no_auth();
        let get = |path: String, accept: &'static str| {
            let request = axum::http::Request::get(path).header("accept", accept).header("host", "127.0.0.1");
            service.clone().oneshot(request.body(axum::body::Body::empty()).unwrap())
        };
        for (path, accept) in [
            (format!("/v1/tasks/{id}?include=returning"), "*/*"),
            (format!("/v1/tasks/{id}?include=output"), "*/*"),
            (format!("/v1/tasks/{id}/events?from=1"), "text/event-stream"),
            (format!("/v1/tasks/{id}/events?from=1"), "application/x-ndjson"),
            (format!("/v1/tasks/{id}/events?from=1&limit=1000"), "application/json"),
        ] {
            let asked = async {
                let response = get(path.clone(), accept).await.unwrap();
                let status = response.status();
                // Of a stream the status is told before the damage is met: then it is cut.
                let mut body = response.into_body().into_data_stream();
                let mut cut = false;
                while let Some(bytes) = body.next().await {
                    cut |= bytes.is_err();
                }
                (status, cut)
            };
            let (status, cut) = ends(asked, &path, instead).await;
            let first_pages_are_right = matches!(instead, Instead::Huge | Instead::SamePage | Instead::Less);
            let told = status == 500 || cut || (accept == "application/json" && first_pages_are_right && status == 200);
            assert!(told, "{instead:?} {path} {accept}: {status}");
        }
        assert_eq!(get("/v1/tasks".to_owned(), "*/*").await.unwrap().status(), 200);
        assert_eq!(get("/health".to_owned(), "*/*").await.unwrap().status(), 200);
        app.shutdown().await.unwrap();
    }
}

#[task(retry = RetryPolicy::times(3).constant(Duration::ZERO))]
async fn again(ctx: Context, n: u64) -> Result<u64, String> {
    for i in 0..n {
        yield_!(i);
    }
    if ctx.attempt() < 3 {
        Err("once more")?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_can_not_read_what_was_before_it_fails_its_task() {
    for instead in [Instead::Nothing, Instead::SamePage, Instead::Huge, Instead::Gap] {
        let store = strange(&(MemoryStore::new(Clock::system()) as Arc<dyn Store>), instead);
        let app = Qtasks::builder().with_store(store).tasks([again::spec(), many::spec()]).start().await.unwrap();
        let handle = again::add_task(3_000).on(&app).await.unwrap();
        let record = async {
            loop {
                let record = handle.record().await.unwrap();
                if record.status.is_ended() {
                    return record;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let record: TaskRecord = ends(record, "a second attempt", instead).await;
        let error = record.failure();
        // A gap in the hashes is a difference like any other: what was there is made anew.
        let right = match instead {
            Instead::Gap => error.is_none(),
            _ => error.as_ref().is_some_and(|e| e.kind == FailureKind::Codec && e.message.contains("damaged")),
        };
        assert!(right, "{instead:?}: {error:?}");
        app.shutdown().await.unwrap();
    }
}

/// A list that leads back to itself.
#[derive(Debug)]
struct Circular {
    store: Arc<dyn Store>,
    lists: AtomicUsize,
}

impl Store for Circular {
    fn list(&self, list: List) -> Answer<'_, Listed> {
        Box::pin(async move {
            assert!(self.lists.fetch_add(1, Ordering::Relaxed) < READS_MAX, "{list:?}");
            let mut listed = self.store.list(List { cursor: None, ..list }).await?;
            listed.next = Some("7".to_owned());
            Ok(listed)
        })
    }
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        self.store.on_this_runtime()
    }
    fn get(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<TaskRecord>>> {
        self.store.get(ids)
    }
    fn stats(&self) -> Answer<'_, Stats> {
        self.store.stats()
    }
    fn doc_get(&self, key: String) -> Answer<'_, Option<Doc>> {
        self.store.doc_get(key)
    }
    fn doc_list(&self, prefix: String) -> Answer<'_, Vec<Doc>> {
        self.store.doc_list(prefix)
    }
    passed_on!(store; add claim append extend read watch sweep rest);
}

#[tokio::test]
async fn a_list_that_leads_back_to_itself_is_an_error() {
    let store = MemoryStore::new(Clock::system()) as Arc<dyn Store>;
    let app = Qtasks::builder()
        .with_store(Arc::new(Circular { store, lists: AtomicUsize::new(0) }))
        .tasks([many::spec()])
        .open()
        .await
        .unwrap();
    many::add_task(3).tag("group:g").on(&app).await.unwrap();
    let error = ends(app.group("g").fetch(), "a group", Instead::SamePage).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}
