//! Many arguments, one list of results: `Iter`, chains, pipes, groups.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::store::conformance::{Faults, Faulty, Operation, Persistent};
use qtasks::store::{List, MemoryStore, Store};
use qtasks::{AnyTask, Clock, ErrorKind, FailureKind, Iter, Iterated, Status, TaskId, chain};

use crate::{app_of, failure, scratch, soon, store_named, until_async};

#[task]
async fn floor(x: f64) -> f64 {
    x.floor()
}

#[task]
fn copysign(x: f64, y: f64) -> f64 {
    x.copysign(y)
}

/// Slower the smaller `n` is.
#[task]
async fn late(n: u64, of: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis((of - n) * 5)).await;
    n
}

#[task]
async fn even(n: i64) -> Result<i64, String> {
    if n % 2 == 0 { Ok(n) } else { Err(format!("{n} is odd")) }
}

#[task]
async fn count_to(n: u32) -> u32 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task]
async fn nothing() {}

/// Waits until it may go on, or for ever.
#[task]
async fn gated(gate: State<Arc<tokio::sync::Semaphore>>, n: u32) -> u32 {
    gate.acquire().await.expect("it is never closed").forget();
    n
}

fn values<T>(results: Vec<qtasks::Result<T>>) -> Vec<T> {
    results.into_iter().map(|r| r.unwrap()).collect()
}

/// How many rows there are of the parts of a whole.
async fn parts(app: &Qtasks, whole: TaskId) -> usize {
    let list = List { parent: Some(whole), limit: 100_000, ..List::default() };
    app.list(list).await.unwrap().tasks.len()
}

#[tokio::test]
async fn floor_over_a_hundred_numbers() {
    let app = app_of([floor::spec()]).await;
    let mut numbers = floor::iter((0..100).map(|i| f64::from(i) + 0.5)).on(&app);
    assert_eq!(numbers.length(), 100);
    let id = numbers.run().await.unwrap();
    let expected: Vec<f64> = (0..100).map(f64::from).collect();
    assert_eq!(values(numbers.result(soon()).await.unwrap().unwrap()), expected);
    assert_eq!(numbers.length(), 100);
    // From anywhere, by the id.
    assert_eq!(values(app.result::<f64>(id, Duration::ZERO).await.unwrap().unwrap()), expected);
    let records = app.fetch(id, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(records.len(), 100);
    assert_eq!(records[7].args, serde_json::json!({ "x": 7.5 }));
    assert_eq!((records[7].status, records[7].parent), (Status::Completed, Some(id)));
    assert_eq!(records[7].final_value.as_ref().unwrap().as_str(), "7.0");
    assert_eq!(parts(&app, id).await, 0, "their rows are gone");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn copysign_of_three_pairs() {
    let app = app_of([copysign::spec()]).await;
    let mut pairs = Iter::<copysign>::new().on(&app);
    for (i, x) in [1, 2, 3].into_iter().enumerate() {
        assert_eq!(pairs.append((x, -1)), i + 1);
    }
    assert!(pairs.result(Duration::ZERO).await.unwrap().is_none(), "not run yet");
    assert!(pairs.fetch(soon()).await.unwrap().is_none(), "not run yet");
    pairs.run().await.unwrap();
    assert_eq!(values(pairs.result(soon()).await.unwrap().unwrap()), [-1.0, -2.0, -3.0]);
    // An `append` makes it another list.
    assert_eq!(pairs.append((4, -1)), 4);
    assert!(pairs.result(soon()).await.unwrap().is_none());
    pairs.run().await.unwrap();
    assert_eq!(values(pairs.result(soon()).await.unwrap().unwrap()), [-1.0, -2.0, -3.0, -4.0]);
    // What all have in common; by name; from a stream.
    let mut common = Iter::<copysign>::new().on(&app).with("y", -1);
    common.append(5.0);
    common.append(6.0);
    common.run().await.unwrap();
    assert_eq!(values(common.result(soon()).await.unwrap().unwrap()), [-5.0, -6.0]);
    let named = [1.0, 2.0].map(|x| BTreeMap::from([("y", -1.0), ("x", x)]));
    let mut named = Iter::<copysign>::of_stream(futures::stream::iter(named)).on(&app);
    named.run().await.unwrap();
    assert_eq!(values(named.result(soon()).await.unwrap().unwrap()), [-1.0, -2.0]);
    let mut by_name = app.iter("copysign", [(1, -1), (2, 1)]);
    by_name.run().await.unwrap();
    assert_eq!(values(by_name.result(soon()).await.unwrap().unwrap()), [[-1.0], [2.0]]);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn results_come_in_the_order_of_the_arguments_or_as_they_finish() {
    let app = app_of([late::spec()]).await;
    let mut ordered = late::iter((0..8).map(|n| (n, 8))).on(&app);
    let live: Vec<u64> = values(ordered.stream().await.unwrap().try_collect().await.unwrap());
    assert_eq!(live, (0..8).collect::<Vec<_>>());
    let mut finished = late::iter((0..8).map(|n| (n, 8))).on(&app).unordered();
    let live: Vec<u64> = values(finished.stream().await.unwrap().try_collect().await.unwrap());
    assert_ne!(live, (0..8).collect::<Vec<_>>(), "the first is the slowest");
    let mut sorted = live.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..8).collect::<Vec<_>>());
    assert_eq!(values(finished.result(soon()).await.unwrap().unwrap()), live);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_that_fails_leaves_the_others_alone() {
    let app = app_of([even::spec()]).await;
    let mut numbers = even::iter(0..5).on(&app);
    let id = numbers.run().await.unwrap();
    let results = numbers.result(soon()).await.unwrap().unwrap();
    let shown: Vec<_> = results.iter().map(|r| r.as_ref().map_err(|e| (e.kind(), e.failure().unwrap().kind))).collect();
    let odd = (ErrorKind::TaskFailed, FailureKind::Error);
    assert_eq!(shown, [Ok(&0), Err(odd), Ok(&2), Err(odd), Ok(&4)]);
    assert!(results[3].as_ref().unwrap_err().to_string().contains("3 is odd"));
    let statuses: Vec<_> = numbers.fetch(soon()).await.unwrap().unwrap().iter().map(|r| r.status).collect();
    assert_eq!(statuses[..2], [Status::Completed, Status::Failed]);
    let whole = app.task(id).await.unwrap().record().await.unwrap();
    assert_eq!((whole.status, &*whole.name), (Status::Completed, "qtasks.iter"));
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_empty_one_completes_with_nothing() {
    let app = app_of([floor::spec()]).await;
    let mut none = floor::iter([]).on(&app);
    none.run().await.unwrap();
    assert!(none.result(soon()).await.unwrap().unwrap().is_empty());
    assert!(none.fetch(soon()).await.unwrap().unwrap().is_empty());
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn generators_give_lists_that_can_be_flattened() {
    let app = app_of([count_to::spec()]).await;
    let mut counts = count_to::iter([2, 0, 3]).on(&app);
    counts.run().await.unwrap();
    assert_eq!(values(counts.result(soon()).await.unwrap().unwrap()), [vec![0, 1], vec![], vec![0, 1, 2]]);
    let flat: Vec<u32> = counts.handle().unwrap().stream().flatten().try_collect().await.unwrap();
    assert_eq!(flat, [0, 1, 0, 1, 2]);
    app.shutdown().await.unwrap();
}

/// Ten thousand from an iterator that counts how far it was read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_arguments_are_read_as_they_are_needed() {
    static READ: AtomicUsize = AtomicUsize::new(0);
    let app = app_of([floor::spec()]).await;
    let lazy = (0..10_000).map(|i| {
        READ.fetch_add(1, Ordering::SeqCst);
        f64::from(i)
    });
    let mut numbers = floor::iter(lazy).on(&app);
    let mut results = numbers.stream().await.unwrap();
    assert!(READ.load(Ordering::SeqCst) < 2_500, "no more than the first batches are read by then");
    let (mut index, mut most) = (0, 0);
    while let Some(result) = results.try_next().await.unwrap() {
        assert_eq!(result.unwrap(), f64::from(index));
        index += 1;
        if index % 500 == 0 {
            let stats = app.stats().await.unwrap();
            let of = |status| stats.queues["default"].get(&status).copied().unwrap_or_default();
            // The whole is one of those that run.
            most = most.max(of(Status::Queued) + of(Status::Running));
        }
    }
    assert_eq!(index, 10_000);
    assert!(most <= 257, "{most} were let go at once");
    let id = numbers.handle().unwrap().id();
    assert_eq!(values(app.result::<f64>(id, soon()).await.unwrap().unwrap()).len(), 10_000);
    until_async(async || parts(&app, id).await == 0).await;
    until_async(async || app.store().doc_list("iter/".to_owned()).await.unwrap().is_empty()).await;
    app.shutdown().await.unwrap();
}

/// As a body that waits needs no slot, those it waits for may have it.
#[tokio::test]
async fn a_parent_in_the_only_slot_gets_the_results_of_its_items() {
    #[task]
    async fn parent(n: i64) -> qtasks::Result<Vec<i64>> {
        let one = even::add_task(2).await?.wait().await.map_err(qtasks::Error::from)?.returning;
        let mut numbers = even::iter((0..n).map(|i| 2 * i));
        numbers.run().await?;
        let mut all = values(numbers.result(soon()).await?.expect("in time"));
        let mut live = count_to::add_task(3).await?.stream();
        while let Some(value) = live.try_next().await? {
            all.push(i64::from(value));
        }
        all.push(one);
        Ok(all)
    }
    #[task]
    fn blocking_parent() -> Result<i64, String> {
        even::add_task(8).timeout(soon()).wait_blocking().map(|t| t.returning).map_err(|e| e.to_string())
    }
    let specs = [parent::spec(), blocking_parent::spec(), even::spec(), count_to::spec()];
    let app = Qtasks::builder().store(crate::store()).tasks(specs).concurrency(1).start().await.unwrap();
    let task = parent::add_task(10).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 0, 1, 2, 2]);
    assert_eq!(blocking_parent::add_task().on(&app).timeout(soon()).await.unwrap().returning, 8);
    app.shutdown().await.unwrap();
}

/// Without waiting there is one at a time, also after some have waited.
#[tokio::test]
async fn a_slot_that_was_lent_is_taken_back() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    #[task]
    async fn busy() {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        NOW.fetch_sub(1, Ordering::SeqCst);
    }
    #[task]
    async fn waits() -> qtasks::Result<()> {
        nothing::add_task().timeout(soon()).await?;
        Ok(())
    }
    let specs = [busy::spec(), waits::spec(), nothing::spec()];
    let app = Qtasks::builder().store(crate::store()).tasks(specs).concurrency(1).start().await.unwrap();
    for _ in 0..5 {
        waits::add_task().on(&app).timeout(soon()).await.unwrap();
    }
    let all: Vec<_> = app.add_all((0..10).map(|_| busy::add_task())).await.unwrap();
    for handle in all {
        handle.wait().await.unwrap();
    }
    assert_eq!(MOST.load(Ordering::SeqCst), 1);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_can_t_be_an_argument_is_told_by_its_place() {
    let app = app_of([copysign::spec(), nothing::spec(), floor::spec()]).await;
    let mut iter = Iter::<copysign>::new().on(&app);
    iter.append((1, 2));
    iter.append((1, 2, 3));
    let error = iter.run().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "argument 1 of the `Iter`: 3 values, for at most 2 arguments");
    let mut iter = Iter::<copysign>::new().on(&app).with("z", 1);
    iter.append(1);
    let error = iter.run().await.unwrap_err().to_string();
    assert_eq!(error, "argument 0 of the `Iter`: `z` is not an argument of this task: it takes x, y");
    let mut iter = Iter::<floor>::new().on(&app);
    iter.append(f64::NAN);
    assert_eq!(iter.run().await.unwrap_err().kind(), ErrorKind::Codec);
    let mut iter = floor::iter([1.0]).on(&app);
    iter.run().await.unwrap();
    let error = iter.run().await.unwrap_err();
    assert!(error.to_string().contains("have been read by an earlier run"), "{error}");
    let error = app.iter("flor", [1]).run().await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("\"floor\"")), (ErrorKind::NotFound, true), "{error}");
    // An argument that is wrong in a later batch ends the whole.
    let mut late = Iter::<copysign>::new().on(&app);
    for i in 0..3_000 {
        late.append((i, 1));
    }
    late.append(("a", 1, 2));
    assert_eq!(late.run().await.unwrap_err().kind(), ErrorKind::Invalid);
    let wholes = List { name: Some("qtasks.iter".into()), limit: 1, ..List::default() };
    let whole = app.list(wholes).await.unwrap().tasks[0].id;
    let ended = app.task(whole).await.unwrap().wait_timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&ended).kind, FailureKind::Unsealed);
    until_async(async || parts(&app, whole).await == 0).await;
    // Of another task there is no list.
    let plain = nothing::add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!(app.result::<()>(plain.id, soon()).await.unwrap_err().kind(), ErrorKind::Invalid);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn in_place_there_is_no_queue() {
    #[task]
    fn twice(n: i64) -> i64 {
        for _ in 0..2 {
            yield_!(n);
        }
    }
    #[task]
    async fn breaks(n: u32) -> u32 {
        assert!(n != 1, "one");
        tokio::time::sleep(Duration::from_millis(1)).await;
        n
    }
    let app = Qtasks::builder().store(crate::store()).open().await.unwrap();
    let mut iter = twice::iter(1..=3).on(&app).inline();
    iter.run().await.unwrap();
    assert_eq!(values(iter.result(Duration::ZERO).await.unwrap().unwrap()), [[1, 1], [2, 2], [3, 3]]);
    let mut iter = breaks::iter(0..3).on(&app).inline();
    iter.run().await.unwrap();
    let results = iter.result(Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(results[0].as_ref().unwrap(), &0);
    assert_eq!(results[1].as_ref().unwrap_err().failure().unwrap().kind, FailureKind::Panic);
    assert_eq!(results[2].as_ref().unwrap(), &2);
    assert!(app.list(List { limit: 9, ..List::default() }).await.unwrap().tasks.is_empty(), "nothing is stored");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn cancelling_the_whole_leaves_nothing_behind() {
    let gate = Arc::new(tokio::sync::Semaphore::new(3));
    let app = Qtasks::builder()
        .store(crate::store())
        .tasks([gated::spec()])
        .state(Arc::clone(&gate))
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let mut iter = gated::iter(0..2_000).on(&app);
    iter.run().await.unwrap();
    let whole = iter.handle().unwrap();
    let mut live = whole.stream();
    for n in 0..3 {
        assert_eq!(live.try_next().await.unwrap().unwrap().unwrap(), n);
    }
    whole.cancel("enough").await.unwrap();
    let error = whole.wait_timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&error).message, "enough");
    assert_eq!(iter.result(soon()).await.unwrap_err().kind(), ErrorKind::TaskFailed);
    // Those that ran are cancelled, and go then; the others are as if they had never been there.
    let id = whole.id();
    until_async(async || {
        let left = app.list(List { parent: Some(id), limit: 9_999, ..List::default() }).await.unwrap().tasks;
        left.is_empty()
    })
    .await;
    until_async(async || app.store().doc_list("iter/".to_owned()).await.unwrap().is_empty()).await;
    app.shutdown().await.unwrap();
}

/// Crashes of workers, one after the other: each result is there once, in both orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_may_die_while_results_are_gathered() {
    for ordered in [true, false] {
        let name = format!("iter-crash-{ordered}");
        let keep = Qtasks::open(store_named(&name)).await.unwrap();
        let start = || {
            let builder = Qtasks::builder().store(store_named(&name)).tasks([even::spec()]);
            builder.lease(Duration::from_millis(300)).scan(Duration::from_millis(50)).start()
        };
        let mut iter = even::iter((0..3_000).map(|i| 2 * i)).on(&keep);
        if !ordered {
            iter = iter.unordered();
        }
        iter.run().await.unwrap();
        let mut live = iter.handle().unwrap().stream();
        let mut seen = Vec::new();
        for crash in 0..4 {
            let app = start().await.unwrap();
            let until = if crash < 3 { (crash + 1) * 500 } else { 3_000 };
            while seen.len() < until {
                seen.push(live.try_next().await.unwrap().unwrap().unwrap());
            }
            if crash == 3 {
                assert!(live.try_next().await.unwrap().is_none());
            }
            // Not shut down: as if its process had died.
            drop(app);
        }
        let expected: Vec<i64> = (0..3_000).map(|i| 2 * i).collect();
        if ordered {
            assert_eq!(seen, expected);
        }
        seen.sort_unstable();
        assert_eq!(seen, expected);
        keep.shutdown().await.unwrap();
    }
}

/// A process of its own that adds arguments, and is killed before or after the last. It is this test again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_starter_may_die_once_all_arguments_are_added() {
    const NAME: &str = "iters::the_starter_may_die_once_all_arguments_are_added";
    if let Ok(file) = std::env::var("QTASKS_ITER_STARTER") {
        let sealed = std::env::var("QTASKS_ITER_SEALED").is_ok();
        let app = Qtasks::builder().store(file).lease(Duration::from_secs(1)).open().await.unwrap();
        let endless = futures::stream::iter(0..2_500).map(|i| 2 * i);
        let mut iter = if sealed {
            Iter::<even>::of_stream(endless).on(&app)
        } else {
            Iter::<even>::of_stream(endless.chain(futures::stream::pending())).on(&app)
        };
        iter.run().await.unwrap();
        std::future::pending::<()>().await;
    }
    for sealed in [true, false] {
        let file = format!("sqlite:{}", scratch().join("q.db").display());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env("QTASKS_ITER_STARTER", &file).stdout(Stdio::null());
        if sealed {
            command.env("QTASKS_ITER_SEALED", "1");
        }
        let mut starter = command.spawn().unwrap();
        let watch = Qtasks::open(&*file).await.unwrap();
        let wanted = if sealed { "sealed" } else { "open" };
        until_async(async || {
            let docs = watch.store().doc_list("iter/".to_owned()).await.unwrap();
            let added: u64 = watch.stats().await.unwrap().queues.values().flat_map(BTreeMap::values).sum();
            docs.iter().any(|doc| String::from_utf8_lossy(&doc.bytes).contains(wanted)) && added >= 1_999
        })
        .await;
        let whole = List { name: Some("qtasks.iter".into()), limit: 1, ..List::default() };
        let whole = watch.list(whole).await.unwrap().tasks[0].id;
        starter.kill().unwrap();
        starter.wait().unwrap();
        let builder = Qtasks::builder().store(&*file).tasks([even::spec()]);
        let app = builder.lease(Duration::from_secs(1)).scan(Duration::from_millis(50)).start().await.unwrap();
        if sealed {
            let all = values(app.result::<i64>(whole, soon()).await.unwrap().unwrap());
            assert_eq!(all, (0..2_500).map(|i| 2 * i).collect::<Vec<i64>>());
        } else {
            let ended = app.task(whole).await.unwrap().wait_timeout(soon()).await.unwrap_err();
            assert_eq!(failure(&ended).kind, FailureKind::Unsealed, "{ended}");
        }
        until_async(async || parts(&app, whole).await == 0).await;
        app.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_key_makes_it_one_whole() {
    let app = app_of([even::spec()]).await;
    let keyed = || even::iter([2, 4, 6]).on(&app).idempotency_key("once").cached(Duration::from_secs(3600));
    let (mut first, mut second) = (keyed(), keyed());
    let id = first.run().await.unwrap();
    assert_eq!(second.run().await.unwrap(), id);
    assert_eq!(values(second.result(soon()).await.unwrap().unwrap()), [2, 4, 6]);
    assert_eq!(parts(&app, id).await, 0);
    // Held, then let go; found by its group.
    let mut held = even::iter([2, 4]).on(&app).held().group("numbers").queue("other");
    let id = held.run().await.unwrap();
    assert!(held.result(Duration::ZERO).await.unwrap().is_none());
    assert_eq!(app.group("numbers").count().await.unwrap(), BTreeMap::from([(Status::Held, 1)]));
    app.start_task(id).await.unwrap();
    assert_eq!(values(held.result(soon()).await.unwrap().unwrap()), [2, 4]);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_key_makes_it_one_chain_and_one_pipe() {
    let app = app_of([even::spec(), double::spec(), count_to::spec()]).await;
    let both = chain(even::add_task(2)).then::<double>().then_task(double::add_task(4));
    let both = both.add_task().on(&app).idempotency_key("chain").await.unwrap();
    let again = chain(even::add_task(2)).then::<double>().then_task(double::add_task(4));
    assert_eq!(again.add_task().on(&app).idempotency_key("chain").await.unwrap().id(), both.id());
    assert_eq!(both.wait_timeout(soon()).await.unwrap().final_value, 8);
    let piped = async || count_to::add_task(3).pipe::<double>().on(&app).idempotency_key("pipe").await.unwrap();
    assert_eq!(piped().await.id(), piped().await.id());
    assert_eq!(piped().await.wait_timeout(soon()).await.unwrap().returning.len(), 3);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_whole_tells_when_it_is_done() {
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (on_end, on_value) = (Arc::clone(&heard), Arc::clone(&heard));
    let app = Qtasks::builder()
        .store(crate::store())
        .tasks([even::spec()])
        .on_success(move |s: qtasks::signals::OnSuccess| on_end.lock().unwrap().push(s.task.name().to_owned()))
        .after_loop(move |s: qtasks::signals::AfterLoop| on_value.lock().unwrap().push(s.task.name().to_owned()))
        .start()
        .await
        .unwrap();
    let mut iter = even::iter([2, 4]).on(&app);
    iter.run().await.unwrap();
    iter.result(soon()).await.unwrap().unwrap();
    until_async(async || heard.lock().unwrap().len() == 3).await;
    let mut heard = heard.lock().unwrap().clone();
    heard.sort();
    assert_eq!(heard, ["even", "even", "qtasks.iter"]);
    app.shutdown().await.unwrap();
}

#[task]
async fn double(n: i64) -> i64 {
    2 * n
}

#[task]
async fn sum(values: Vec<u32>) -> u32 {
    values.iter().sum()
}

#[task]
async fn show(n: u32, unit: String) -> String {
    format!("{n} {unit}")
}

#[tokio::test]
async fn a_chain_passes_on_what_each_returns() {
    let specs = [count_to::spec(), sum::spec(), show::spec(), even::spec(), double::spec(), nothing::spec()];
    let app = Qtasks::builder().store(crate::store()).tasks(specs).concurrency(1).start().await.unwrap();
    let metres = chain(count_to::add_task(5)).then::<sum>().then_with::<show>("unit", "m");
    let task = metres.add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.final_value, "10 m");
    let steps: Vec<_> = task.returning.iter().map(|s| s["value"].clone()).collect();
    assert_eq!(serde_json::to_string(&steps).unwrap(), "[[0,1,2,3,4],10,\"10 m\"]");
    assert_eq!(parts(&app, task.id).await, 0);
    // It stops at the first that fails.
    let stops = chain(even::add_task(3)).then::<double>().then::<double>().add_task().on(&app);
    let error = stops.timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&error).message, "step 1 of the chain (`even`): 3 is odd");
    let other = List { name: Some("double".into()), limit: 9, ..List::default() };
    assert!(app.list(other).await.unwrap().tasks.is_empty(), "the next was never added");
    // One that takes nothing of the one before it.
    let own = chain(double::add_task(1)).then_task(double::add_task(4)).add_task().on(&app);
    assert_eq!(own.timeout(soon()).await.unwrap().final_value, 8);
    let error = chain(double::add_task(1)).then::<nothing>().add_task().on(&app).await.unwrap_err();
    assert!(error.to_string().contains("`nothing` has no argument left"), "{error}");
    let error = chain(double::add_task(1)).then_with::<show>("units", 1).add_task().on(&app).await.unwrap_err();
    assert_eq!(error.to_string(), "`show` has no argument `units`: it takes n, unit");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pipe_feeds_each_value_to_another_task() {
    #[task]
    async fn breaks_off() -> Result<i64, String> {
        yield_!(1);
        yield_!(2);
        Err("no more".to_owned())?;
    }
    #[task]
    async fn numbers(n: i64) -> i64 {
        for i in 0..n {
            yield_!(i);
        }
    }
    let specs = [numbers::spec(), double::spec(), breaks_off::spec()];
    let app = Qtasks::builder().store(crate::store()).tasks(specs).concurrency(1).start().await.unwrap();
    let piped = numbers::add_task(600).pipe::<double>().on(&app).timeout(soon()).await.unwrap();
    assert_eq!(values(piped.returning), (0..600).map(|i| 2 * i).collect::<Vec<i64>>());
    assert_eq!(values(app.result::<i64>(piped.id, soon()).await.unwrap().unwrap()).len(), 600);
    let error = breaks_off::add_task().pipe::<double>().on(&app).timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&error).message, "the source of the pipe: no more");
    let qtasks::WaitError::Ended(ended) = error else { panic!("{error}") };
    assert_eq!(ended.yields().len(), 2, "what was fed is gathered");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_group_is_counted_cancelled_and_deleted() {
    let app = app_of([even::spec(), count_to::spec()]).await;
    let group = app.group("night");
    assert!(group.fetch().await.unwrap().is_empty());
    let all = (0..4).map(|n| even::add_task(n).group("night"));
    app.add_all(all).await.unwrap();
    app.add_task("count_to", [3]).group("night").await.unwrap();
    let held = even::add_task(6).on(&app).group("night").held().await.unwrap();
    let other = even::add_task(8).on(&app).group("day").timeout(soon()).await.unwrap();
    until_async(async || group.count().await.unwrap().values().sum::<usize>() == 6).await;
    until_async(async || group.count().await.unwrap().get(&Status::Failed) == Some(&2)).await;
    until_async(async || group.count().await.unwrap().get(&Status::Completed) == Some(&3)).await;
    let results: Vec<serde_json::Value> = group.results().await.unwrap();
    assert_eq!(serde_json::to_string(&results).unwrap(), "[0,2,[0,1,2]]");
    let failures: Vec<String> = group.failures().await.unwrap().into_iter().map(|(_, f)| f.message).collect();
    assert_eq!(failures, ["1 is odd", "3 is odd"]);
    assert_eq!(group.cancel("late").await.unwrap(), 1);
    group.wait().await.unwrap();
    assert_eq!(held.status().await.unwrap(), Status::Cancelled);
    assert_eq!(group.delete().await.unwrap(), 6);
    assert!(group.fetch().await.unwrap().is_empty());
    assert_eq!(held.status().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(app.task(other.id).await.unwrap().status().await.unwrap(), Status::Completed);
    app.shutdown().await.unwrap();
}

/// The types of handles may be named.
#[tokio::test]
async fn a_whole_can_be_attached_to() {
    let app = app_of([even::spec()]).await;
    let mut iter = even::iter([2]).on(&app);
    let id = iter.run().await.unwrap();
    let handle = TaskHandle::<Iterated<even>>::attach(&app, id).await.unwrap();
    assert_eq!(values(handle.wait().await.unwrap().returning), [2]);
    let any = TaskHandle::<AnyTask>::attach(&app, id).await.unwrap().wait().await.unwrap();
    assert_eq!(any.returning[0]["value"], 2);
    let error = TaskHandle::<even>::attach(&app, id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    app.shutdown().await.unwrap();
}

/// Its first owner dies with some results gathered, the others held back or at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unordered_whole_is_taken_over_with_items_that_were_never_let_go() {
    let name = "iter-taken-over";
    let keep = Qtasks::open(store_named(name)).await.unwrap();
    let gate = Arc::new(tokio::sync::Semaphore::new(20));
    let start = || {
        let builder = Qtasks::builder().store(store_named(name)).tasks([gated::spec()]).state(Arc::clone(&gate));
        builder.lease(Duration::from_millis(300)).scan(Duration::from_millis(50)).start()
    };
    let mut iter = gated::iter(0..600).on(&keep).unordered();
    iter.run().await.unwrap();
    let mut live = iter.handle().unwrap().stream();
    let first = start().await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 20 {
        seen.push(live.try_next().await.unwrap().unwrap().unwrap());
    }
    drop(first);
    gate.add_permits(10_000);
    let second = start().await.unwrap();
    let rest = tokio::time::timeout(soon(), live.try_collect::<Vec<_>>()).await.expect("it goes on").unwrap();
    seen.extend(values(rest));
    seen.sort_unstable();
    assert_eq!(seen, (0..600).collect::<Vec<_>>());
    second.shutdown().await.unwrap();
    keep.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_worker_that_shuts_down_hands_wholes_on() {
    for ordered in [true, false] {
        let name = format!("iter-handed-on-{ordered}");
        let keep = Qtasks::open(store_named(&name)).await.unwrap();
        let gate = Arc::new(tokio::sync::Semaphore::new(40));
        let start = || {
            let builder = Qtasks::builder().store(store_named(&name)).tasks([gated::spec()]).state(Arc::clone(&gate));
            builder.grace(Duration::from_millis(20)).scan(Duration::from_millis(50)).start()
        };
        let mut iter = gated::iter(0..600).on(&keep);
        if !ordered {
            iter = iter.unordered();
        }
        iter.run().await.unwrap();
        let mut live = iter.handle().unwrap().stream();
        let first = start().await.unwrap();
        for _ in 0..30 {
            live.try_next().await.unwrap().unwrap().unwrap();
        }
        first.shutdown().await.unwrap();
        let whole = iter.handle().unwrap();
        assert_eq!(whole.status().await.unwrap(), Status::Queued, "it waits for another worker");
        gate.add_permits(10_000);
        let second = start().await.unwrap();
        assert_eq!(values(iter.result(soon()).await.unwrap().unwrap()).len(), 600);
        second.shutdown().await.unwrap();
        keep.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_whole_that_never_began_leaves_nothing_behind() {
    let app = Qtasks::builder().store(crate::store()).tasks([even::spec()]).open().await.unwrap();
    // Queued, as nobody works; in a batch whose length was known, and in several.
    for length in [10, 2_500] {
        let mut iter = even::iter(0..length).on(&app);
        let id = iter.run().await.unwrap();
        assert_eq!(parts(&app, id).await, length as usize);
        iter.handle().unwrap().cancel("not today").await.unwrap();
        until_async(async || parts(&app, id).await == 0).await;
        // By its group.
        let mut iter = even::iter(0..length).on(&app).group("g");
        let id = iter.run().await.unwrap();
        assert_eq!(app.group("g").cancel("not today").await.unwrap(), 1);
        until_async(async || parts(&app, id).await == 0).await;
        assert_eq!(app.group("g").delete().await.unwrap(), 1);
        let mut iter = even::iter(0..length).on(&app).group("g").held();
        let id = iter.run().await.unwrap();
        assert_eq!(app.group("g").delete().await.unwrap(), 1);
        until_async(async || parts(&app, id).await == 0).await;
    }
    until_async(async || app.store().doc_list("iter/".to_owned()).await.unwrap().is_empty()).await;
    app.shutdown().await.unwrap();
}

/// Whoever ended it, and whether or not they lived to clean up.
#[tokio::test(start_paused = true)]
async fn what_an_ended_whole_left_is_found_later() {
    let keep = Qtasks::open("memory:iter-left").await.unwrap();
    let mut iter = keep.iter("even", 0..10).unchecked();
    let id = iter.run().await.unwrap();
    // As a sweep does, or a worker that dies at once.
    keep.store().cancel(id, "by the store".to_owned()).await.unwrap();
    assert_eq!(parts(&keep, id).await, 10);
    let app = Qtasks::builder().store("memory:iter-left").tasks([even::spec()]).start().await.unwrap();
    until_async(async || parts(&keep, id).await == 0).await;
    app.shutdown().await.unwrap();
    keep.shutdown().await.unwrap();
}

/// Of arguments that come one by one, results come one by one.
#[tokio::test]
async fn results_do_not_wait_for_more_arguments() {
    let app = app_of([even::spec()]).await;
    let (send, receive) = futures::channel::mpsc::unbounded();
    let mut iter = Iter::<even>::of_stream(receive).on(&app);
    let mut live = iter.stream().await.unwrap();
    for n in [2, 4, 6] {
        send.unbounded_send(n).unwrap();
        let result = tokio::time::timeout(soon(), live.try_next()).await.expect("it comes").unwrap();
        assert_eq!(result.unwrap().unwrap(), n);
    }
    drop(send);
    assert!(live.try_next().await.unwrap().is_none());
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_whole_that_is_cancelled_stops_its_starter() {
    let builder = Qtasks::builder().store(crate::store()).tasks([even::spec()]);
    let app = builder.lease(Duration::from_secs(2)).start().await.unwrap();
    for more in [0, 1_500] {
        let (send, receive) = futures::channel::mpsc::unbounded();
        (0..1_000).for_each(|n| send.unbounded_send(2 * n).unwrap());
        let mut iter = Iter::<even>::of_stream(receive).on(&app);
        let starter = tokio::spawn(async move { iter.run().await });
        let list =
            List { name: Some("qtasks.iter".into()), limit: 1, status: vec![Status::Running], ..List::default() };
        until_async(async || !app.list(list.clone()).await.unwrap().tasks.is_empty()).await;
        let whole = app.list(list.clone()).await.unwrap().tasks[0].id;
        let whole = app.task(whole).await.unwrap();
        whole.cancel("enough").await.unwrap();
        let ended = whole.wait_timeout(soon()).await.unwrap_err();
        assert_eq!(failure(&ended).message, "enough");
        until_async(async || parts(&app, whole.id()).await == 0).await;
        // More come, too late, or none for ever.
        (0..more).for_each(|n| drop(send.unbounded_send(2 * n)));
        let error = tokio::time::timeout(soon(), starter).await.expect("it ends").unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains("cancelled"), "{error}");
        until_async(async || parts(&app, whole.id()).await == 0).await;
        until_async(async || app.store().doc_list("iter/".to_owned()).await.unwrap().is_empty()).await;
    }
    app.shutdown().await.unwrap();
}

/// On one thread, from an iterator that holds it up for longer than a lease.
#[tokio::test]
async fn slow_arguments_do_not_make_a_whole_give_up() {
    let builder = Qtasks::builder().store(crate::store()).tasks([even::spec()]);
    let app = builder.lease(Duration::from_millis(300)).start().await.unwrap();
    let slow = (0..2_000).map(|n| {
        std::thread::sleep(Duration::from_micros(500));
        2 * n
    });
    let mut iter = even::iter(slow).on(&app);
    iter.run().await.unwrap();
    assert_eq!(values(iter.result(soon()).await.unwrap().unwrap()).len(), 2_000);
    app.shutdown().await.unwrap();
}

/// Its attempt is over: what it waits for does not get the slot of the attempt after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_was_left_behind_lends_nobody_elses_slot() {
    static SECOND: AtomicUsize = AtomicUsize::new(0);
    static GO_ON: std::sync::Mutex<Option<std::sync::mpsc::Sender<()>>> = std::sync::Mutex::new(None);
    #[task]
    async fn child() -> usize {
        SECOND.load(Ordering::SeqCst)
    }
    #[task(retry = 1)]
    fn left_behind(ctx: Context) -> u32 {
        if ctx.attempt() == 1 {
            let (send, receive) = std::sync::mpsc::channel();
            *GO_ON.lock().unwrap() = Some(send);
            receive.recv().unwrap();
            let during = child::add_task().timeout(soon()).wait_blocking().unwrap().returning;
            SECOND.store(10 + during, Ordering::SeqCst);
        } else {
            SECOND.store(1, Ordering::SeqCst);
            GO_ON.lock().unwrap().take().unwrap().send(()).unwrap();
            std::thread::sleep(Duration::from_millis(150));
            SECOND.store(0, Ordering::SeqCst);
        }
        ctx.attempt()
    }
    let specs = [child::spec(), left_behind::spec()];
    let app = Qtasks::builder().store(crate::store()).tasks(specs).concurrency(1).start().await.unwrap();
    let task = left_behind::add_task().on(&app).time_limit(Duration::from_millis(400)).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, 2);
    until_async(async || SECOND.load(Ordering::SeqCst) >= 10).await;
    assert_eq!(SECOND.load(Ordering::SeqCst), 10, "the child did not run beside the second attempt");
    app.shutdown().await.unwrap();
}

/// Whatever the store loses, the list is right and complete.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_loses_no_result() {
    for seed in 0..12 {
        let percent = Faults { seed, refused_percent: 5, lost_percent: 5, slow_percent: 20, ..Faults::default() };
        let memory = || MemoryStore::new(Clock::system());
        // What is read or written while it is gathered; and all, behind a caller that repeats.
        let written = [Operation::Claim, Operation::Append, Operation::Start, Operation::Get, Operation::DocGet];
        let faults = Faults { disturbed: Box::leak(Box::new(written)), ..percent };
        let stores: [Arc<dyn Store>; 2] = [Faulty::new(memory(), faults), Persistent::over_faults(memory(), seed)];
        for store in stores {
            let builder = Qtasks::builder().with_store(store).tasks([even::spec(), count_to::spec()]);
            let app = builder.scan(Duration::from_millis(50)).start().await.unwrap();
            let mut ordered = even::iter((0..1_500).map(|n| 2 * n)).on(&app);
            let mut unordered = count_to::iter((0..300).map(|n| n % 3)).on(&app).unordered();
            ordered.run().await.unwrap();
            unordered.run().await.unwrap();
            let list = again(async || ordered.result(soon()).await).await.unwrap();
            assert_eq!(values(list), (0..1_500).map(|n| 2 * n).collect::<Vec<_>>());
            let lists = again(async || unordered.result(soon()).await).await.unwrap();
            assert_eq!(values(lists).iter().map(Vec::len).sum::<usize>(), 300);
            app.shutdown().await.unwrap();
        }
    }
}

/// As often as the store can't be reached.
async fn again<T>(call: impl AsyncFn() -> qtasks::Result<T>) -> T {
    loop {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            other => return other.unwrap(),
        }
    }
}
