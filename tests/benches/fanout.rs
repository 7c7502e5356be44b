//! Many watchers of one task that yields at full speed: each sees every value, decoded and in order.
//!
//! The limit is `tokio::sync::broadcast` with room for all of them, with nothing stored or encoded.

use std::cell::Cell;
use std::time::Instant;

use futures::future::join_all;
use qtasks::prelude::*;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use crate::table::{Aim, Table, rounds};
use crate::{memory, on_a_runtime};

const WATCHERS: u64 = 1_000;
const YIELDS: u64 = 100_000;

#[task]
async fn numbers(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

/// Deliveries a second, and bytes at most.
async fn ours() -> (f64, isize) {
    let app = Qtasks::builder().store("memory:").tasks([numbers::spec()]).start().await.expect("a store opens");
    memory::start();
    let start = Instant::now();
    let handle = numbers::add_task(YIELDS).on(&app).await.expect("it is added");
    let watch = |_| {
        let mut values = handle.stream();
        tokio::spawn(async move {
            let mut n = 0;
            while let Some(value) = values.try_next().await.expect("it completes") {
                assert_eq!(value, n);
                n += 1;
            }
            n
        })
    };
    let rate = all((0..WATCHERS).map(watch), start).await;
    let peak = memory::peak();
    memory::stop();
    app.shutdown().await.expect("it closes");
    (rate, peak)
}

async fn limit() -> (f64, isize) {
    memory::start();
    let start = Instant::now();
    let (sender, _) = broadcast::channel::<u64>(YIELDS as usize);
    let watch = |_| {
        let mut receiver = sender.subscribe();
        tokio::spawn(async move {
            let mut n = 0;
            while let Ok(value) = receiver.recv().await {
                assert_eq!(value, n);
                n += 1;
            }
            n
        })
    };
    let watching: Vec<_> = (0..WATCHERS).map(watch).collect();
    tokio::spawn(async move {
        for i in 0..YIELDS {
            sender.send(i).expect("there are watchers");
            tokio::task::consume_budget().await;
        }
    });
    let rate = all(watching.into_iter(), start).await;
    let peak = memory::peak();
    memory::stop();
    (rate, peak)
}

async fn all(watching: impl Iterator<Item = JoinHandle<u64>>, start: Instant) -> f64 {
    for seen in join_all(watching).await {
        assert_eq!(seen.expect("it does not panic"), YIELDS);
    }
    (WATCHERS * YIELDS) as f64 / start.elapsed().as_secs_f64()
}

pub(crate) fn run(table: &mut Table) {
    let (ours_peak, limit_peak) = (Cell::new(0), Cell::new(0));
    let keep = |(rate, bytes): (f64, isize), peak: &Cell<isize>| {
        peak.set(peak.get().max(bytes));
        rate
    };
    let what = "1,000 watchers of 100,000 yields";
    let both = rounds(what, || keep(on_a_runtime(ours()), &ours_peak), || keep(on_a_runtime(limit()), &limit_peak));
    table.ratio(what, "deliveries/s", &both, Aim::None, "");
    let limit = limit_peak.get() as f64 / 1e6;
    let note = format!("the log and all watchers, at most; of the limit {limit:.1} MB");
    table.figure("1,000 watchers of 100,000 yields: memory", "MB", ours_peak.get() as f64 / 1e6, Aim::None, note);
}
