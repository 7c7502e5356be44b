//! How a generator goes on after a failed attempt: verified replay, resume, restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::store::Lease;
use qtasks::{ErrorKind, Event, EventKind, FailureKind, OnRetry, RetryPolicy, Status, TaskSpec};

use crate::{failure, kinds, soon};

/// What bodies and handlers did, for the test to see.
#[derive(Default)]
struct Seen {
    handled: std::sync::Mutex<Vec<(u32, i64)>>,
    runs: AtomicU32,
}
type Shared = Arc<Seen>;

fn at_once(retries: u32) -> RetryPolicy {
    RetryPolicy::times(retries).constant(Duration::ZERO)
}

async fn app_of(seen: &Shared, specs: impl IntoIterator<Item = &'static TaskSpec>) -> Qtasks {
    Qtasks::builder().store(crate::store()).tasks(specs).state(Arc::clone(seen)).start().await.unwrap()
}

async fn log<F: TaskFn>(handle: &TaskHandle<F>) -> Vec<Event> {
    handle.events_from(1).try_collect().await.unwrap()
}

static HANDLED: AtomicU32 = AtomicU32::new(0);
async fn counted(x: i64) -> i64 {
    HANDLED.fetch_add(1, Ordering::SeqCst);
    x * 10
}

#[task(generate_handler = counted)]
async fn fails_once(ctx: Context, at: i64) -> Result<i64, String> {
    for i in 0..5 {
        if ctx.attempt() == 1 && i == at {
            Err("first attempt")?;
        }
        yield_!(i);
    }
}

#[tokio::test]
async fn a_verified_yield_is_not_handled_nor_stored_again() {
    let seen = Shared::default();
    let app = app_of(&seen, [fails_once::spec()]).await;
    let handle = fails_once::add_task(3).on(&app).retry(at_once(1)).await.unwrap();
    let values: Vec<i64> = handle.stream().try_collect().await.unwrap();
    assert_eq!(values, [0, 10, 20, 30, 40]);
    let task = handle.wait().await.unwrap();
    assert_eq!((task.returning, task.record.attempt, task.record.failures), (values, 2, 1));
    assert_eq!(HANDLED.load(Ordering::SeqCst), 5, "each value once");
    assert_eq!(kinds(&log(&handle).await), "started yield yield yield retry started yield yield completed");
    assert!(task.record.rewinds.is_empty());
}

#[tokio::test]
async fn an_attempt_that_fails_while_verifying_changes_nothing() {
    #[task]
    async fn worse(ctx: Context) -> Result<i64, String> {
        for i in 0..4 {
            if ctx.attempt() == 1 && i == 3 || ctx.attempt() == 2 && i == 1 {
                Err("again")?;
            }
            yield_!(i);
        }
    }
    let app = app_of(&Shared::default(), [worse::spec()]).await;
    let handle = worse::add_task().on(&app).retry(at_once(2)).await.unwrap();
    let task = handle.wait().await.unwrap();
    assert_eq!((task.returning, task.record.attempt), (vec![0, 1, 2, 3], 3));
    assert_eq!(kinds(&log(&handle).await), "started yield yield yield retry started retry started yield completed");
}

/// Yields `values[attempt - 1]`, then fails unless it is the last attempt.
#[task]
async fn differs(ctx: Context, values: Vec<Vec<i64>>) -> Result<i64, String> {
    let mine = &values[ctx.attempt() as usize - 1];
    for value in mine {
        yield_!(*value);
    }
    if (ctx.attempt() as usize) < values.len() {
        Err("again")?;
    }
}

async fn attempts_of(values: &[&[i64]]) -> (Vec<i64>, String, Vec<u64>) {
    let app = app_of(&Shared::default(), [differs::spec()]).await;
    let values: Vec<Vec<i64>> = values.iter().map(|v| v.to_vec()).collect();
    let handle = differs::add_task(values).on(&app).retry(at_once(9)).await.unwrap();
    let task = handle.wait_timeout(soon()).await.unwrap();
    let log = log(&handle).await;
    let rewinds = log.iter().filter_map(|e| match e.kind {
        EventKind::Rewind { to } => Some(to),
        _ => None,
    });
    (task.returning, kinds(&log), rewinds.collect())
}

#[tokio::test]
async fn the_first_difference_rewinds_the_log() {
    let (values, log, rewinds) = attempts_of(&[&[1, 2, 3], &[1, 9, 3, 4]]).await;
    assert_eq!((values, rewinds), (vec![1, 9, 3, 4], vec![1]));
    assert_eq!(log, "started yield yield yield retry started rewind yield yield yield completed");
    // Fewer values are a difference where they end.
    let (values, log, rewinds) = attempts_of(&[&[1, 2, 3], &[1]]).await;
    assert_eq!((values, rewinds), (vec![1], vec![1]));
    assert_eq!(log, "started yield yield yield retry started rewind completed");
    let (values, _, rewinds) = attempts_of(&[&[1, 2], &[]]).await;
    assert_eq!((values, rewinds), (vec![], vec![0]));
    // Rewinds within rewinds.
    let (values, _, rewinds) = attempts_of(&[&[1, 2, 3], &[1, 2, 7, 8], &[1, 5], &[1, 5, 6]]).await;
    assert_eq!((values, rewinds), (vec![1, 5, 6], vec![2, 1]));
}

#[tokio::test]
async fn pages_of_hashes_are_compared_across_their_borders() {
    #[task]
    fn long(ctx: Context, n: i64, other: i64) -> Result<i64, String> {
        for i in 0..n {
            yield_!(if ctx.attempt() == 2 && i == other { -1 } else { i });
        }
        if ctx.attempt() == 1 {
            Err("again")?;
        }
    }
    let app = app_of(&Shared::default(), [long::spec()]).await;
    for (n, other) in [(1024, 9999), (1025, 9999), (5000, 9999), (5000, 1023), (5000, 1024), (5000, 4999)] {
        let task = long::add_task(n, other).on(&app).retry(at_once(1)).timeout(soon()).await.unwrap();
        let expected: Vec<i64> = (0..n).map(|i| if i == other { -1 } else { i }).collect();
        assert_eq!(task.returning, expected);
        let rewound: Vec<u64> = task.record.rewinds.iter().map(|r| r.to).collect();
        assert_eq!(rewound, if other < n { vec![other as u64] } else { vec![] });
    }
}

#[tokio::test]
async fn who_watched_is_told_of_a_rewind_and_who_comes_late_is_not() {
    #[task]
    async fn rewinds(ctx: Context, gate: State<Arc<tokio::sync::Semaphore>>) -> Result<i64, String> {
        for i in 0..4 {
            yield_!(i * i64::from(ctx.attempt()));
        }
        gate.acquire().await.expect("open").forget();
        if ctx.attempt() == 1 {
            Err("again")?;
        }
        yield_!(100);
    }
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let app = Qtasks::builder().store(crate::store()).tasks([rewinds::spec()]).state(Arc::clone(&gate));
    let app = app.start().await.unwrap();
    let handle = rewinds::add_task().on(&app).retry(at_once(1)).await.unwrap();
    let mut behind = handle.stream();
    let mut watching = handle.stream();
    for i in 0..4 {
        assert_eq!(watching.try_next().await.unwrap(), Some(i));
    }
    assert_eq!(behind.try_next().await.unwrap(), Some(0));
    gate.add_permits(2);
    let error = watching.try_next().await.unwrap_err();
    let ErrorKind::Rewound { to: 1, seq } = error.kind() else { panic!("{error:?}") };
    assert!(watching.next().await.is_none());
    // It keeps one value and goes on from there.
    let rest: Vec<i64> = handle.stream_after(seq).try_collect().await.unwrap();
    assert_eq!(rest, [2, 4, 6, 100]);
    let late: Vec<i64> = handle.stream().try_collect().await.unwrap();
    assert_eq!(late, [0, 2, 4, 6, 100]);
    // This one had the first page in its hands: what it is given is told to be void, or was never given.
    let mut had = vec![0];
    loop {
        match behind.try_next().await {
            Ok(Some(value)) => had.push(value),
            Ok(None) => break,
            Err(e) => {
                let ErrorKind::Rewound { to, seq } = e.kind() else { panic!("{e:?}") };
                had.truncate(usize::try_from(to).unwrap());
                behind = handle.stream_after(seq);
            }
        }
    }
    assert_eq!(had, late);
    // What held at the place that a reader begins after counts as handed out.
    let log = log(&handle).await;
    let third = log.iter().filter(|e| matches!(e.kind, EventKind::Yield { .. })).nth(2).unwrap().seq;
    let e = handle.stream_after(third).try_next().await.unwrap_err();
    assert!(matches!(e.kind(), ErrorKind::Rewound { to: 1, .. }), "{e:?}");
    let first = log.iter().find(|e| matches!(e.kind, EventKind::Yield { .. })).unwrap().seq;
    let rest: Vec<i64> = handle.stream_after(first).try_collect().await.unwrap();
    assert_eq!(rest, [2, 4, 6, 100]);
    let e = handle.stream_after(10_000).try_next().await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Reset);
}

#[tokio::test]
async fn custom_events_are_repeated_without_being_stored_again() {
    #[task]
    async fn with_events(ctx: Context) -> Result<i64, String> {
        ctx.send_event("begin", "a");
        for i in 0..3 {
            yield_!(i);
            ctx.send_event("stage", i);
            if i == 1 {
                // Not the same in each attempt: added, and no reason to rewind.
                ctx.send_event("attempt", ctx.attempt());
            }
            if ctx.attempt() == 1 && i == 1 {
                Err("again")?;
            }
        }
    }
    let app = app_of(&Shared::default(), [with_events::spec()]).await;
    let handle = with_events::add_task().on(&app).retry(at_once(1)).await.unwrap();
    let task = handle.wait().await.unwrap();
    assert_eq!((task.returning, task.record.rewinds), (vec![0, 1, 2], vec![]));
    let events: Vec<(u64, String, String)> = log(&handle)
        .await
        .into_iter()
        .filter_map(|e| match e.kind {
            EventKind::Event { index, name, data } => Some((index, name, data.to_string())),
            _ => None,
        })
        .collect();
    let event = |index, name: &str, data: &str| (index, name.to_owned(), data.to_owned());
    let expected = [
        event(0, "begin", "\"a\""),
        event(1, "stage", "0"),
        event(2, "stage", "1"),
        event(2, "attempt", "1"),
        event(2, "attempt", "2"),
        event(3, "stage", "2"),
    ];
    assert_eq!(events, expected);
}

#[task]
async fn resumes(seen: State<Shared>, ctx: Context, from: Resume<i64>, n: i64) -> Result<i64, String> {
    seen.runs.fetch_add(1, Ordering::SeqCst);
    let page: Option<String> = from.checkpoint();
    let mut next = from.last().map_or(0, |last| last + 1);
    assert_eq!(next, i64::try_from(from.count()).unwrap());
    assert_eq!(page, (next > 0).then(|| format!("page {}", next - 1)));
    while next < n {
        seen.handled.lock().expect("not poisoned").push((ctx.attempt(), next));
        ctx.checkpoint(&format!("page {next}"));
        yield_!(next);
        next += 1;
        if next % 3 == 0 && next < n {
            Err("again")?;
        }
    }
    // Not followed by a yield: never kept.
    ctx.checkpoint(&"lost");
}

#[tokio::test]
async fn a_body_that_resumes_goes_on_where_the_log_ends() {
    assert_eq!(resumes::spec().on_retry, OnRetry::Resume);
    let seen = Shared::default();
    let app = app_of(&seen, [resumes::spec()]).await;
    let task = resumes::add_task(10).on(&app).retry(at_once(9)).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, (0..10).collect::<Vec<_>>());
    assert!(task.record.rewinds.is_empty());
    assert_eq!(seen.runs.load(Ordering::SeqCst), 4);
    let values: Vec<i64> = seen.handled.lock().unwrap().iter().map(|(_, v)| *v).collect();
    assert_eq!(values, (0..10).collect::<Vec<_>>(), "nothing is done twice");
    // Called directly, it begins at the start.
    let direct = resumes(State::new(seen), Context::detached(), Resume::start(), 2);
    assert_eq!(direct.collect::<Vec<_>>().await, [Ok(0), Ok(1)]);
}

#[tokio::test]
async fn a_checkpoint_of_another_type_fails_the_task() {
    #[task]
    async fn changed(ctx: Context, from: Resume<i64>) -> Result<i64, String> {
        let n: Option<u64> = from.checkpoint();
        if ctx.attempt() == 1 {
            ctx.checkpoint("text");
            yield_!(1);
            Err("again")?;
        }
        yield_!(i64::try_from(n.unwrap_or_default()).unwrap_or_default());
    }
    let app = app_of(&Shared::default(), [changed::spec()]).await;
    let e = changed::add_task().on(&app).retry(at_once(3)).timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&e).kind, failure(&e).attempt), (FailureKind::Codec, 2));
    assert!(failure(&e).message.contains("checkpoint is no `u64`"), "{e}");
}

#[task(on_retry = restart)]
async fn restarts(ctx: Context) -> Result<i64, String> {
    for i in 0..3 {
        yield_!(i);
    }
    if ctx.attempt() == 1 {
        Err("again")?;
    }
}

#[tokio::test]
async fn a_restart_rewinds_to_the_start() {
    let app = app_of(&Shared::default(), [restarts::spec()]).await;
    let handle = restarts::add_task().on(&app).retry(at_once(1)).await.unwrap();
    let task = handle.wait().await.unwrap();
    assert_eq!(task.returning, [0, 1, 2]);
    let expected = "started yield yield yield retry started rewind yield yield yield completed";
    assert_eq!(kinds(&log(&handle).await), expected);
}

#[tokio::test]
async fn panics_and_time_limits_are_retried_too() {
    #[task]
    async fn troubled(ctx: Context) -> u32 {
        yield_!(0);
        match ctx.attempt() {
            1 => panic!("once"),
            2 => std::future::pending::<()>().await,
            _ => yield_!(1),
        }
    }
    #[task]
    fn troubled_sync(ctx: Context) -> u32 {
        yield_!(0);
        match ctx.attempt() {
            1 => panic!("once"),
            2 => ctx.sleep_blocking(Duration::from_secs(3600)),
            _ => yield_!(1),
        }
    }
    let app = app_of(&Shared::default(), [troubled::spec(), troubled_sync::spec()]).await;
    for name in ["troubled", "troubled_sync"] {
        let add = app.add_task(name, serde_json::json!({})).retry(at_once(2)).time_limit(Duration::from_millis(50));
        let handle = add.await.unwrap();
        let task = handle.wait_timeout(soon()).await.unwrap();
        assert_eq!((task.returning.len(), task.record.attempt), (2, 3));
        let failures: Vec<FailureKind> = log(&handle)
            .await
            .into_iter()
            .filter_map(|e| match e.kind {
                EventKind::Retry { error, .. } => Some(error.kind),
                _ => None,
            })
            .collect();
        assert_eq!(failures, [FailureKind::Panic, FailureKind::TimeLimit]);
    }
}

#[tokio::test]
async fn retries_wait_and_end() {
    #[task(retry = RetryPolicy::times(2).constant(Duration::from_millis(20)))]
    async fn always(ctx: Context) -> Result<(), String> {
        Err(format!("attempt {}", ctx.attempt()))
    }
    let app = app_of(&Shared::default(), [always::spec()]).await;
    let handle = always::add_task().on(&app).await.unwrap();
    let e = handle.wait_timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&e).attempt, &*failure(&e).message), (3, "attempt 3"));
    let log = log(&handle).await;
    assert_eq!(kinds(&log), "started retry started retry started failed");
    for pair in log.windows(2) {
        if let EventKind::Retry { at, .. } = &pair[0].kind {
            assert_eq!(*at, pair[0].at + Duration::from_millis(20));
            assert!(pair[1].at >= *at, "the next attempt starts when it is due");
        }
    }
    let none = always::add_task().on(&app).retry(0).timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&none).attempt, 1);
}

#[task]
async fn outlives_its_lease(ctx: Context) -> u32 {
    ctx.sleep(Duration::from_millis(if ctx.attempt() == 1 { 600 } else { 3_000 })).await;
    yield_!(ctx.attempt());
}

/// A worker gets a task again while its attempt before does not know yet that it has lost it, as after the process was
/// stopped: the end of that one is not the end of the new one's heartbeats.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_gets_its_own_lost_task_again_keeps_it() {
    let builder = Qtasks::builder().store(crate::store()).lease(Duration::from_secs(1)).scan(Duration::from_millis(50));
    let app = builder.tasks([outlives_its_lease::spec()]).start().await.unwrap();
    let handle = outlives_its_lease::add_task().on(&app).await.unwrap();
    crate::until_async(async || handle.status().await.unwrap() == Status::Running).await;
    let lease = Lease { id: handle.id(), epoch: handle.record().await.unwrap().epoch };
    app.store().release(vec![lease]).await.unwrap();
    let task = handle.wait_timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.record.attempt, task.record.crashes), (vec![2], 2, 0));
    app.shutdown().await.unwrap();
}
