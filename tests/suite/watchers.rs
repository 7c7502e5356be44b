//! Any watcher, any time: late, slow, many, gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::store::MemoryStore;
use qtasks::store::conformance::Deaf;
use qtasks::{Clock, ErrorKind};

use crate::soon;

#[task(yields_max = 1_000_000)]
async fn counts(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(yields_max = 1_000_000)]
fn counts_sync(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

/// Random enough to spread watchers over the life of a task.
fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

async fn a_thousand_watch<F>(handle: TaskHandle<F>, n: u64)
where
    F: qtasks::Generates<Yield = u64>,
{
    // One that never reads: it must delay nobody.
    let mut idle = handle.stream();
    assert_eq!(idle.try_next().await.unwrap(), Some(0));
    let live = Arc::new(AtomicUsize::new(0));
    let mut seed = 0x2545_f491_4f6c_dd1d;
    let watchers: Vec<_> = (0..1000)
        .map(|_| {
            let (handle, live) = (handle.clone(), Arc::clone(&live));
            let wait = Duration::from_micros(random(&mut seed) % 30_000);
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                if handle.status().await.unwrap() == qtasks::Status::Running {
                    live.fetch_add(1, Ordering::SeqCst);
                }
                let mut stream = handle.stream();
                let mut next = 0;
                while let Some(value) = stream.try_next().await.unwrap() {
                    assert_eq!(value, next);
                    next += 1;
                }
                assert_eq!(next, n);
            })
        })
        .collect();
    let all = futures::future::try_join_all(watchers);
    tokio::time::timeout(soon(), all).await.expect("they all end").unwrap();
    println!("{} of 1000 watchers attached while the task was running", live.load(Ordering::SeqCst));
    let rest: Vec<u64> = idle.try_collect().await.unwrap();
    assert_eq!(rest, (1..n).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_see_everything() {
    let app = crate::app_of([counts::spec(), counts_sync::spec()]).await;
    a_thousand_watch(counts::add_task(10_000).on(&app).await.unwrap(), 10_000).await;
    a_thousand_watch(counts_sync::add_task(10_000).on(&app).await.unwrap(), 10_000).await;
}

#[tokio::test]
async fn a_thousand_watchers_see_everything_on_one_thread() {
    let app = crate::app_of([counts::spec()]).await;
    a_thousand_watch(counts::add_task(10_000).on(&app).await.unwrap(), 10_000).await;
}

#[tokio::test]
async fn a_watcher_that_falls_behind_reads_from_the_store() {
    // More than a tail keeps.
    let n = 200_000;
    let app = crate::app_of([counts::spec()]).await;
    let handle = counts::add_task(n).on(&app).await.unwrap();
    let mut slow = handle.stream();
    assert_eq!(slow.try_next().await.unwrap(), Some(0));
    let fast: Vec<u64> = handle.stream().try_collect().await.unwrap();
    assert_eq!(fast.len() as u64, n);
    let rest: Vec<u64> = slow.try_collect().await.unwrap();
    assert_eq!(rest, fast[1..]);
}

/// Leaves, and comes back with the place that it had.
#[tokio::test]
async fn a_watcher_may_leave_and_return() {
    let app = crate::app_of([counts::spec()]).await;
    let handle = counts::add_task(5_000).on(&app).await.unwrap();
    let (mut seen, mut seq) = (Vec::new(), 0);
    loop {
        let mut events = handle.events_from(seq + 1);
        let mut over = true;
        for _ in 0..700 {
            let Some(event) = events.try_next().await.unwrap() else { break };
            assert_eq!(event.seq, seq + 1);
            seq = event.seq;
            over = false;
            if let qtasks::EventKind::Yield { value, .. } = event.kind {
                seen.push(value.get::<u64>().unwrap());
            }
        }
        if over {
            break;
        }
    }
    assert_eq!(seen, (0..5_000).collect::<Vec<_>>());
    assert_eq!(seq, 5_002);
}

#[tokio::test]
async fn without_any_hint_every_watcher_still_ends() {
    let store = Arc::new(Deaf(MemoryStore::new(Clock::system())));
    let app = Qtasks::builder().with_store(store).tasks([counts::spec()]).scan(Duration::from_millis(20));
    let app = app.start().await.unwrap();
    let handle = counts::add_task(3_000).on(&app).await.unwrap();
    let (values, task) = tokio::join!(handle.stream().try_collect::<Vec<u64>>(), handle.wait());
    assert_eq!(values.unwrap(), (0..3_000).collect::<Vec<_>>());
    assert_eq!(task.unwrap().returning.len(), 3_000);
}

#[tokio::test]
async fn retention_ends_the_streams_of_those_who_watch() {
    #[task]
    async fn short() -> u32 {
        yield_!(1);
    }
    let app = Qtasks::builder().store("memory:").tasks([short::spec()]);
    let app = app.scan(Duration::from_millis(10)).retention(Duration::from_millis(1)).start().await.unwrap();
    let handle = short::add_task().on(&app).await.unwrap();
    let mut stream = handle.stream();
    crate::until_async(async || {
        let first = handle.events_from(1).try_next().await;
        first.is_err_and(|e| matches!(e.kind(), ErrorKind::Gone | ErrorKind::NotFound))
    })
    .await;
    let e = loop {
        match stream.try_next().await {
            // It had that in its hands, or read it in time.
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(e) => break e,
        }
    };
    assert!(matches!(e.kind(), ErrorKind::Gone | ErrorKind::NotFound), "{e}");
    let e = qtasks::Error::from(handle.wait().await.unwrap_err());
    assert!(matches!(e.kind(), ErrorKind::Gone | ErrorKind::NotFound), "{e}");
}

#[tokio::test]
async fn dropping_watchers_and_handles_changes_nothing() {
    let app = crate::app_of([counts::spec()]).await;
    let handle = counts::add_task(20_000).on(&app).await.unwrap();
    for _ in 0..50 {
        let mut stream = handle.stream();
        for _ in 0..7 {
            stream.try_next().await.unwrap();
        }
    }
    let id = handle.id();
    drop(handle);
    let handle = TaskHandle::<counts>::attach(&app, id).await.unwrap();
    assert_eq!(handle.wait_timeout(soon()).await.unwrap().returning.len(), 20_000);
}

#[task]
async fn ticks(ctx: Context) -> u64 {
    for i in 0..10 {
        ctx.sleep(Duration::from_millis(20)).await;
        yield_!(i);
    }
}

/// Who waits for what is far ahead does not keep those busy who are where the log is.
#[test]
fn a_watcher_ahead_of_the_log_disturbs_no_other() {
    let (done, over) = std::sync::mpsc::channel();
    // A thread of its own: a watcher that never waits could not be stopped from within.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = crate::app_of([ticks::spec()]).await;
            let handle = ticks::add_task().on(&app).await.unwrap();
            let mut ahead = handle.events_from(8);
            let early = tokio::time::timeout(Duration::from_millis(5), ahead.next()).await;
            assert!(early.is_err(), "there is no such event yet");
            assert_eq!(handle.stream().try_collect::<Vec<_>>().await.unwrap(), (0..10).collect::<Vec<_>>());
            let rest: Vec<u64> = ahead.map_ok(|e| e.seq).try_collect().await.unwrap();
            assert_eq!(rest, [8, 9, 10, 11, 12]);
            app.shutdown().await.unwrap();
        });
        done.send(()).unwrap();
    });
    over.recv_timeout(Duration::from_secs(20)).expect("everybody sees everything");
}
