//! How many tasks run at once, and in how long; debounced tasks, paused queues, and what is most urgent.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::store::sqlite::Durability;
use qtasks::store::{MemoryStore, SqliteStore, Store};
use qtasks::{Builder, Clock, ErrorKind, Rate, Status};

use crate::{soon, store, store_named, until};

/// What bodies did, for the test to see.
struct Seen {
    running: AtomicUsize,
    most: AtomicUsize,
    /// Lets two go on at a time: what needs two to run at once ends only if they do.
    pair: tokio::sync::Barrier,
    words: Mutex<Vec<String>>,
}
type Shared = Arc<Seen>;

fn seen() -> Shared {
    Arc::new(Seen {
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        pair: tokio::sync::Barrier::new(2),
        words: Mutex::default(),
    })
}

impl Seen {
    async fn run_in_pairs(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.pair.wait().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    fn words(&self) -> Vec<String> {
        self.words.lock().unwrap().clone()
    }
}

#[task(concurrency = 2)]
async fn two_at_once(seen: State<Shared>) {
    seen.run_in_pairs().await;
}

#[task(queue = "narrow")]
async fn one_way(seen: State<Shared>) {
    seen.run_in_pairs().await;
}

#[task(queue = "narrow")]
async fn or_another(seen: State<Shared>) {
    seen.run_in_pairs().await;
}

#[task]
async fn says(seen: State<Shared>, word: String) {
    seen.words.lock().unwrap().push(word);
}

#[task(limit = "1/h, burst 2", priority = -5)]
async fn says_rarely(seen: State<Shared>, word: String) {
    seen.words.lock().unwrap().push(word);
}

#[task(limit = "50/s")]
async fn soon_again(n: u32) -> u32 {
    n
}

/// An app on whose worker nothing happens by itself: what it is not told, it does not see.
fn app(url: &str, seen: &Shared) -> Builder {
    let specs = [two_at_once::spec(), one_way::spec(), or_another::spec(), says::spec(), soon_again::spec()];
    Qtasks::builder().store(url).tasks(specs).scan(Duration::from_secs(3600)).state(Arc::clone(seen))
}

/// An app whose store has a clock that the test moves.
async fn app_with_clock(seen: &Shared) -> (Qtasks, Clock) {
    let clock = Clock::manual();
    let store: Arc<dyn Store> = match store().as_str() {
        "memory:" => MemoryStore::new(clock.clone()),
        _ => SqliteStore::new(crate::scratch().join("q.db"), Durability::Fast, clock.clone()).unwrap(),
    };
    let builder = Qtasks::builder().with_store(store).tasks([says::spec(), says_rarely::spec()]);
    // Nobody tells a worker that a clock was moved by hand.
    let app = builder.scan(Duration::from_millis(5)).state(Arc::clone(seen)).start().await.unwrap();
    (app, clock)
}

async fn all_end<F: TaskFn>(handles: Vec<TaskHandle<F>>) {
    for handle in handles {
        handle.wait_timeout(soon()).await.unwrap();
    }
}

#[tokio::test]
async fn no_more_run_at_once_than_the_function_allows() {
    let seen = seen();
    let url = store_named("two_at_once");
    let workers = [app(&url, &seen).start().await.unwrap(), app(&url, &seen).start().await.unwrap()];
    let tasks = (0..10).map(|_| two_at_once::add_task());
    all_end(workers[0].add_all(tasks).await.unwrap()).await;
    assert_eq!(seen.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn no_more_run_at_once_than_the_queue_allows() {
    let seen = seen();
    let app = app(&store(), &seen).queue_concurrency("narrow", 2).start().await.unwrap();
    let one = app.add_all((0..5).map(|_| one_way::add_task())).await.unwrap();
    let other = app.add_all((0..5).map(|_| or_another::add_task())).await.unwrap();
    all_end(one).await;
    all_end(other).await;
    assert_eq!(seen.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_limited_task_leaves_its_slot_to_others() {
    let seen = seen();
    let app = app(&store(), &seen).concurrency(3).start().await.unwrap();
    // The odd one has nobody to go on with: it keeps its place.
    let held: Vec<_> = app.add_all((0..9).map(|_| two_at_once::add_task().priority(-9))).await.unwrap();
    let word = says::add_task("said".into()).on(&app).await.unwrap();
    word.wait_timeout(soon()).await.unwrap();
    until(|| seen.running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(seen.most.load(Ordering::SeqCst), 2);
    let last = two_at_once::add_task().on(&app).await.unwrap();
    all_end(held).await;
    last.wait_timeout(soon()).await.unwrap();
}

#[tokio::test]
async fn a_rate_lets_tasks_start_one_after_the_other() {
    let seen = seen();
    let (app, clock) = app_with_clock(&seen).await;
    let words = ["one", "two", "three", "four"];
    for word in words {
        says_rarely::add_task(word.into()).on(&app).await.unwrap();
    }
    for started in [2, 3, 4] {
        until(|| seen.words().iter().filter(|w| *w != "other").count() == started).await;
        // What is less urgent comes after all that may start.
        let other = says::add_task("other".into()).on(&app).await.unwrap();
        other.wait_timeout(soon()).await.unwrap();
        let said: Vec<_> = seen.words().into_iter().filter(|w| w != "other").collect();
        assert_eq!(said, words[..started]);
        clock.advance(Duration::from_secs(3600));
    }
}

#[tokio::test]
async fn a_worker_wakes_when_a_rate_lets_it() {
    let app = app(&store(), &seen()).start().await.unwrap();
    // More than may start at once; nobody tells the worker when the next may.
    let handles = app.add_all((0..12).map(soon_again::add_task)).await.unwrap();
    all_end(handles).await;
    let app = self::app(&store(), &seen()).queue_rate("default", Rate::per_second(50)).start().await.unwrap();
    all_end(app.add_all((0..4).map(|_| says::add_task("x".into()))).await.unwrap()).await;
}

#[tokio::test]
async fn the_last_of_debounced_tasks_is_run() {
    let seen = seen();
    let (app, clock) = app_with_clock(&seen).await;
    let wait = Duration::from_secs(5);
    let mut ids = BTreeSet::new();
    for word in ["w", "wo", "wor", "word"] {
        let handle = says::add_task(word.into()).on(&app).debounce("typing", wait).await.unwrap();
        ids.insert(handle.id());
        clock.advance(Duration::from_secs(4));
    }
    let other = says::add_task("other".into()).on(&app).debounce("other", wait).await.unwrap();
    assert_eq!(ids.len(), 1);
    assert_eq!(seen.words(), Vec::<String>::new());
    clock.advance(Duration::from_secs(1));
    let handle = app.task(*ids.first().unwrap()).await.unwrap();
    assert_eq!(handle.wait_timeout(soon()).await.unwrap().record.args.as_str(), r#"{"word":"word"}"#);
    assert_eq!((seen.words(), other.status().await.unwrap()), (vec!["word".to_owned()], Status::Delayed));
    // It has run: the next is another.
    let next = says::add_task("more".into()).on(&app).debounce("typing", wait).await.unwrap();
    assert!(!ids.contains(&next.id()));
}

#[tokio::test]
async fn a_debounce_sets_key_and_time_itself() {
    let app = app(&store(), &seen()).open().await.unwrap();
    let wait = Duration::from_secs(5);
    let debounced = || says::add_task("x".into()).on(&app).debounce("k", wait);
    for (wrong, word) in [
        (debounced().unique("k"), "unique"),
        (debounced().delay(wait), "delay"),
        (debounced().idempotency_key("k"), "idempotency_key"),
    ] {
        let error = wrong.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with("`.debounce(…)` does not go with ") && error.to_string().contains(word));
    }
    let error = app.add_all([debounced().unique("k")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let seen = seen();
    let url = store_named("paused");
    let (caller, worker) = (app(&url, &seen).open().await.unwrap(), app(&url, &seen).queues(["q", "default"]));
    let worker = worker.start().await.unwrap();
    caller.pause("q").await.unwrap();
    caller.pause("p").await.unwrap();
    assert_eq!(worker.paused().await.unwrap(), ["p", "q"]);
    let kept = says::add_task("kept".into()).on(&caller).queue("q").priority(-9).await.unwrap();
    says::add_task("other".into()).on(&caller).timeout(soon()).await.unwrap();
    assert_eq!((kept.status().await.unwrap(), seen.words()), (Status::Queued, vec!["other".to_owned()]));
    caller.resume("q").await.unwrap();
    caller.resume("never paused").await.unwrap_err();
    kept.wait_timeout(soon()).await.unwrap();
    assert_eq!(worker.paused().await.unwrap(), ["p"]);
    drop(worker.shutdown().await);
}

#[tokio::test]
async fn the_most_urgent_is_the_next() {
    let seen = seen();
    let app = app(&store(), &seen).concurrency(1).start().await.unwrap();
    app.pause("default").await.unwrap();
    let mut handles = Vec::new();
    for priority in [5, 0, 3, 1, 9, 2] {
        handles.push(says::add_task(priority.to_string()).on(&app).priority(priority).await.unwrap());
    }
    app.resume("default").await.unwrap();
    all_end(handles).await;
    assert_eq!(seen.words(), ["0", "1", "2", "3", "5", "9"]);
}

#[tokio::test]
async fn a_limit_of_nothing_is_refused() {
    let error = app(&store(), &seen()).queue_concurrency("q", 0).start().await.unwrap_err();
    assert_eq!(error.to_string(), "`.queue_concurrency(\"q\", 0)` would run nothing: use `app.pause(\"q\")`");
    let error = app(&store(), &seen()).queue_rate("a queue", Rate::per_hour(1)).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn the_attribute_reads_rates_as_they_are_parsed() {
    const FOUR: u32 = 4;
    const NOW_AND_THEN: Rate = Rate::per_hour(3).burst(2);
    #[task(concurrency = FOUR, limit = NOW_AND_THEN)]
    async fn constants() {}
    #[task(concurrency = 1, limit = "10/s")]
    async fn second() {}
    #[task(limit = "100/m, burst 20")]
    async fn burst() {}
    #[task(limit = "5/1m 30s")]
    async fn long() {}
    #[task(limit = "1000/ h")]
    async fn hour() {}
    assert_eq!((constants::spec().concurrency, constants::spec().rate), (Some(4), Some(NOW_AND_THEN)));
    assert_eq!((second::spec().concurrency, burst::spec().concurrency), (Some(1), None));
    assert_eq!(says::spec().rate, None);
    let rates = [(second::spec(), "10/s"), (burst::spec(), "100/m, burst 20"), (long::spec(), "5/1m 30s")];
    for (spec, text) in rates.into_iter().chain([(hour::spec(), "1000/ h")]) {
        assert_eq!(spec.rate.unwrap(), text.parse::<Rate>().unwrap(), "{text}");
    }
}
