//! From a yield to its watchers, at 1,000 items a second.
//!
//! The limit is `tokio::sync::broadcast` between the same tasks of the same runtime, with nothing stored or encoded.

use std::cell::RefCell;
use std::future::Future;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use futures::future::join_all;
use qtasks::prelude::*;
use tokio::sync::broadcast;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::on_a_runtime;
use crate::table::{Aim, Table, median, rounds};

const ITEMS: u64 = 1_000;
const PERIOD: Duration = Duration::from_millis(1);
/// Until all watchers are there.
const BEFORE: Duration = Duration::from_millis(100);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since the first call.
fn now() -> u64 {
    START.elapsed().as_nanos() as u64
}

fn ticks() -> Interval {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[task]
async fn clock() -> u64 {
    tokio::time::sleep(BEFORE).await;
    let mut ticks = ticks();
    for _ in 0..ITEMS {
        ticks.tick().await;
        yield_!(now());
    }
}

/// Latencies, in microseconds.
async fn ours(watchers: usize) -> Vec<f64> {
    let app = Qtasks::builder().store("memory:").tasks([clock::spec()]).start().await.expect("a store opens");
    let handle = clock::add_task().on(&app).await.expect("it is added");
    let watch = |_| {
        let mut values = handle.stream();
        tokio::spawn(async move {
            let mut late = Vec::with_capacity(ITEMS as usize);
            while let Some(at) = values.try_next().await.expect("it completes") {
                late.push((now() - at) as f64 / 1e3);
            }
            late
        })
    };
    let late = all((0..watchers).map(watch)).await;
    app.shutdown().await.expect("it closes");
    late
}

async fn limit(watchers: usize) -> Vec<f64> {
    let (sender, _) = broadcast::channel::<u64>(1024);
    let watch = |_| {
        let mut receiver = sender.subscribe();
        tokio::spawn(async move {
            let mut late = Vec::with_capacity(ITEMS as usize);
            while let Ok(at) = receiver.recv().await {
                late.push((now() - at) as f64 / 1e3);
            }
            late
        })
    };
    let watching: Vec<_> = (0..watchers).map(watch).collect();
    tokio::spawn(async move {
        tokio::time::sleep(BEFORE).await;
        let mut ticks = ticks();
        for _ in 0..ITEMS {
            ticks.tick().await;
            sender.send(now()).expect("there are watchers");
        }
    });
    all(watching.into_iter()).await
}

async fn all(watching: impl Iterator<Item = tokio::task::JoinHandle<Vec<f64>>>) -> Vec<f64> {
    sorted(watching, ITEMS as usize).await
}

/// How late each of so many values was for each who watched, from the least on.
pub(crate) async fn sorted(
    watching: impl Iterator<Item = tokio::task::JoinHandle<Vec<f64>>>,
    values: usize,
) -> Vec<f64> {
    let late = join_all(watching).await.into_iter().map(|late| late.expect("it does not panic"));
    let late: Vec<Vec<f64>> = late.collect();
    assert!(late.iter().all(|l| l.len() == values));
    let mut late = late.concat();
    late.sort_by(f64::total_cmp);
    late
}

pub(crate) fn run(table: &mut Table) {
    LazyLock::force(&START);
    compared(table, "yield to watcher", Aim::AtMost(5.0), ours, limit);
}

/// How late values are for one and for a hundred who watch, beside the limit.
pub(crate) fn compared<A, B>(
    table: &mut Table,
    what: &str,
    aim: Aim,
    ours: impl Fn(usize) -> A,
    limit: impl Fn(usize) -> B,
) where
    A: Future<Output = Vec<f64>> + Send + 'static,
    B: Future<Output = Vec<f64>> + Send + 'static,
{
    for watchers in [1, 100] {
        let (ours99, limit99) = (RefCell::default(), RefCell::default());
        let p50 = |late: &[f64], p99: &RefCell<Vec<f64>>| {
            p99.borrow_mut().push(late[late.len() * 99 / 100]);
            late[late.len() / 2]
        };
        let what = format!("{what}, p50, {watchers} watching");
        let both = rounds(
            &what,
            || p50(&on_a_runtime(ours(watchers)), &ours99),
            || p50(&on_a_runtime(limit(watchers)), &limit99),
        );
        let (ours, limit) = (median(&ours99.borrow()), median(&limit99.borrow()));
        table.ratio(&what, "us", &both, aim, format!("p99 {ours:.0} us, of the limit {limit:.0} us"));
    }
}
