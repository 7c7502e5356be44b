//! What was found out of Simple Queue, Streaming Coordinator and django-q by running them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{Iter, Qtasks, Status};
use serde_json::json;

use super::Gate;
use crate::{app_of, kinds, soon};

#[task]
async fn steps(gate: State<Gate>, n: u32) -> u32 {
    for i in 0..n {
        gate.pass().await;
        yield_!(i);
    }
}

/// There a client got the last event, and then what was live. Here three that come at different times see the same, and
/// one that leaves and comes back sees what it missed.
#[tokio::test]
async fn a_late_client_gets_all() {
    let gate = Gate::default();
    let app = Qtasks::builder().store(crate::store()).tasks([steps::spec()]).state(gate.clone()).start().await.unwrap();
    let handle = steps::add_task(6).on(&app).await.unwrap();
    let (first, mut leaves) = (handle.events_from(0), handle.stream());
    gate.open(3);
    for i in 0..3 {
        assert_eq!(leaves.try_next().await.unwrap(), Some(i));
    }
    drop(leaves);
    let (second, seen) = (handle.events_from(0), handle.record().await.unwrap().tail);
    gate.open(3);
    handle.wait_timeout(soon()).await.unwrap();
    let rest: Vec<u32> = handle.stream_after(seen).try_collect().await.unwrap();
    assert_eq!(rest, [3, 4, 5]);
    let first: Vec<qtasks::Event> = first.try_collect().await.unwrap();
    assert_eq!(kinds(&first), "started yield yield yield yield yield yield completed");
    assert_eq!(second.try_collect::<Vec<_>>().await.unwrap(), first);
    assert_eq!(handle.events_from(0).try_collect::<Vec<_>>().await.unwrap(), first);
}

/// There a `GET` started a task, also one that another process ran already, and again one that had failed.
#[tokio::test]
async fn who_reads_a_task_does_not_start_it() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn read_only() -> Result<u32, String> {
        RUNS.fetch_add(1, Ordering::SeqCst);
        yield_!(1);
        Err("no")?;
    }
    let url = crate::store_named("who-reads");
    let start = || Qtasks::builder().store(&*url).tasks([read_only::spec()]).start();
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    let handle = read_only::add_task().on(&one).held().await.unwrap();
    for app in [&one, &two, &one] {
        let seen = app.task(handle.id()).await.unwrap();
        assert_eq!((seen.status().await.unwrap(), seen.output_stream().text()), (Status::Held, ""));
        assert!(futures::FutureExt::now_or_never(seen.events_from(0).try_next()).is_none());
    }
    assert_eq!(RUNS.load(Ordering::SeqCst), 0);
    two.start_task(handle.id()).await.unwrap();
    one.start_task(handle.id()).await.unwrap();
    handle.wait_timeout(soon()).await.unwrap_err();
    for app in [&one, &two, &one, &two] {
        let log: Vec<_> = app.task(handle.id()).await.unwrap().events_from(0).try_collect().await.unwrap();
        assert_eq!(kinds(&log), "started yield failed");
        assert_eq!(app.start_task(handle.id()).await.unwrap(), Status::Failed);
    }
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
    one.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
}

/// There `asyncio.run(start_task(…))`, as it was documented, ended the loop, and the task with it.
#[tokio::test]
async fn whoever_adds_a_task_may_leave() {
    #[task]
    async fn goes_on(gate: State<Gate>) -> u32 {
        yield_!(1);
        gate.pass().await;
        yield_!(2);
    }
    let (url, gate) = (crate::store_named("may-leave"), Gate::default());
    let builder = Qtasks::builder().store(&*url).tasks([goes_on::spec()]).state(gate.clone());
    let worker = builder.start().await.unwrap();
    let their = url.clone();
    let short = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = Qtasks::builder().store(their).tasks([]).open().await.unwrap();
            let id = goes_on::add_task().on(&app).await.unwrap().id();
            app.shutdown().await.unwrap();
            id
        })
    });
    let id = short.join().unwrap();
    gate.open(1);
    let task = TaskHandle::<goes_on>::attach(&worker, id).await.unwrap().wait_timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [1, 2]);
    worker.shutdown().await.unwrap();
}

/// There a client of a task that told nothing at its end hung for ever.
#[tokio::test]
async fn a_stream_ends_whatever_its_task_tells() {
    #[task]
    async fn tells_nothing(how: String) -> Result<u32, String> {
        yield_!(1);
        match &*how {
            "error" => Err("no")?,
            "panic" => panic!("no"),
            _ => {}
        }
    }
    let app = app_of([tells_nothing::spec()]).await;
    for (how, end) in [("well", "completed"), ("error", "failed"), ("panic", "failed")] {
        let handle = tells_nothing::add_task(how.to_owned()).on(&app).await.unwrap();
        let log = handle.events_from(0).try_collect::<Vec<_>>();
        let log = tokio::time::timeout(soon(), log).await.expect("it ends").unwrap();
        assert_eq!(kinds(&log), format!("started yield {end}"));
    }
}

/// There a result of `None` could not be waited for, since it was taken for none.
#[tokio::test]
async fn results_of_nothing_can_be_waited_for() {
    #[task]
    async fn nothing(_n: u32) {}
    #[task]
    async fn perhaps(n: u32) -> Option<u32> {
        (n > 0).then_some(n)
    }
    let app = app_of([nothing::spec(), perhaps::spec()]).await;
    let mut nothings = Iter::<nothing>::new().on(&app);
    assert_eq!((nothings.append(1), nothings.append(2), nothings.length()), (1, 2, 2));
    nothings.run().await.unwrap();
    assert_eq!(nothings.result(soon()).await.unwrap().unwrap().len(), 2);
    let mut some = perhaps::iter([0, 1, 0]).on(&app);
    some.run().await.unwrap();
    let results: Vec<_> = some.result(soon()).await.unwrap().unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(results, [None, Some(1), None]);
    let none = app.add_task("perhaps", json!([0])).timeout(soon()).await.unwrap();
    assert_eq!((none.record.status, none.final_value), (Status::Completed, json!(null)));
}

/// There a task that ran for longer than `retry` was run a second time beside itself.
#[tokio::test]
async fn a_task_that_outlives_its_lease_runs_once() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    const LEASE: Duration = Duration::from_secs(1);
    #[task]
    async fn long(ctx: Context) -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst);
        ctx.sleep(LEASE * 5 / 2).await;
        yield_!(1);
    }
    let url = crate::store_named("outlives");
    let start = || Qtasks::builder().store(&*url).tasks([long::spec()]).lease(LEASE).scan(LEASE / 10).start();
    let (one, two) = (start().await.unwrap(), start().await.unwrap());
    let task = long::add_task().on(&one).timeout(soon()).await.unwrap();
    assert_eq!((task.returning.len(), task.record.attempt, RUNS.load(Ordering::SeqCst)), (1, 1, 1));
    one.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
}

/// There a list was kept for ever, or for as long as it was told in two places.
#[tokio::test]
async fn a_list_is_kept_as_long_as_it_is_told() {
    const HOUR: Duration = Duration::from_secs(3600);
    #[task]
    async fn same(n: u32) -> u32 {
        n
    }
    let app = qtasks::test::app().tasks([same::spec()]).start().await;
    let mut list = same::iter([1, 2]).on(&app).cached(HOUR * 24 * 30);
    let mut short = same::iter([3]).on(&app).cached(HOUR);
    let (kept, gone) = (list.run().await.unwrap(), short.run().await.unwrap());
    app.drain().await;
    let results = async |id| app.result::<u32>(id, Duration::ZERO).await;
    assert_eq!(results(gone).await.unwrap().unwrap().len(), 1);
    for _ in 0..3 {
        app.advance(HOUR).await;
        app.drain().await;
    }
    crate::until_async(async || results(gone).await.is_err()).await;
    assert_eq!(results(kept).await.unwrap().unwrap().len(), 2);
    app.shutdown().await.unwrap();
}

/// There a worker slept for 3 to 9 s between any two tasks, or looked each 10 ms.
#[tokio::test]
async fn a_worker_that_waits_is_told_of_a_task() {
    #[task]
    async fn quick() -> u8 {
        1
    }
    let builder = Qtasks::builder().store(crate::store()).tasks([quick::spec()]).scan(Duration::from_secs(3600));
    let app = builder.start().await.unwrap();
    for _ in 0..20 {
        quick::add_task().on(&app).timeout(soon()).await.unwrap();
    }
}

/// There a receiver that raised made a completed task a failed one, and was told of both.
#[tokio::test]
async fn a_task_that_completed_stays_completed() {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    #[task]
    async fn completes() -> u8 {
        yield_!(1);
    }
    let builder = Qtasks::builder().store(crate::store()).tasks([completes::spec()]);
    let builder = builder.on_success(|_: qtasks::signals::OnSuccess| -> Result<(), String> {
        TOLD.fetch_add(1, Ordering::SeqCst);
        Err("the receiver fails".to_owned())
    });
    let builder = builder.on_failure(|_: qtasks::signals::OnFailure| {
        TOLD.fetch_add(100, Ordering::SeqCst);
    });
    let app = builder.start().await.unwrap();
    let handle = completes::add_task().on(&app).await.unwrap();
    assert_eq!(handle.wait_timeout(soon()).await.unwrap().returning, [1]);
    crate::until(|| TOLD.load(Ordering::SeqCst) == 1).await;
    assert_eq!(handle.status().await.unwrap(), Status::Completed);
    let cancelled = handle.cancel("too late").await.unwrap();
    assert_eq!(cancelled, qtasks::store::Cancelled::Ended(Status::Completed));
    app.shutdown().await.unwrap();
    assert_eq!(TOLD.load(Ordering::SeqCst), 1);
}
