//! Yields at full speed: stored, and seen by one watcher, decoded and in order. And the memory that they take.
//!
//! The limit stores nothing: `serde_json` on one task, a bounded channel read in bulk, `serde_json` on another task.

use std::time::{Duration, Instant};

use qtasks::prelude::*;
use qtasks::{AddTask, Generates};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::table::{Aim, Table, rounds};
use crate::{memory, on_a_runtime};

const YIELDS: u64 = 1_000_000;
/// Of the producer that waits for each to be stored.
const SLOW: u64 = 100_000;

/// 40 to 47 bytes of JSON.
#[derive(Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) index: u64,
    of: u64,
    text: String,
}

impl Progress {
    pub(crate) fn at(index: u64) -> Self {
        Progress { index, of: YIELDS, text: "a row more".to_owned() }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("it is JSON")
    }
}

#[task(yields_max = 2_000_000, log_bytes_max = 1_000_000_000)]
pub(crate) async fn progress(n: u64) -> Progress {
    for i in 0..n {
        yield_!(Progress::at(i));
    }
}

#[task(yields_max = 2_000_000, log_bytes_max = 1_000_000_000)]
async fn numbers(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(yields_max = 2_000_000, log_bytes_max = 1_000_000_000)]
async fn slow(ctx: Context, n: u64) -> Progress {
    for i in 0..n {
        yield_!(Progress::at(i));
        ctx.flush().await.expect("it is stored");
    }
}

async fn app() -> Qtasks {
    let specs = [progress::spec(), numbers::spec(), slow::spec()];
    Qtasks::builder().store("memory:").tasks(specs).start().await.expect("a store in memory opens")
}

/// Yields a second.
async fn ours<F: Generates>(task: AddTask<F>, index: fn(&F::Yield) -> u64) -> f64 {
    let app = app().await;
    let task = task.on(&app);
    let start = Instant::now();
    let mut values = task.await.expect("it is added").stream();
    let mut n = 0;
    while let Some(value) = values.try_next().await.expect("it completes") {
        assert_eq!(index(&value), n);
        n += 1;
    }
    let took = start.elapsed();
    assert_eq!(n, YIELDS);
    app.shutdown().await.expect("it closes");
    YIELDS as f64 / took.as_secs_f64()
}

async fn channel<T>(make: fn(u64) -> T, index: fn(&T) -> u64) -> f64
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let start = Instant::now();
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(1024);
    tokio::spawn(async move {
        for i in 0..YIELDS {
            let item = serde_json::to_vec(&make(i)).expect("it is JSON");
            sender.send(item).await.expect("somebody receives");
        }
    });
    let receive = async move {
        let (mut n, mut items) = (0, Vec::new());
        while receiver.recv_many(&mut items, 256).await > 0 {
            for item in items.drain(..) {
                let value = serde_json::from_slice(&item).expect("it is JSON");
                assert_eq!(index(&value), n);
                n += 1;
            }
        }
        n
    };
    assert_eq!(tokio::spawn(receive).await.expect("it does not panic"), YIELDS);
    YIELDS as f64 / start.elapsed().as_secs_f64()
}

/// Bytes held for each yield of a task that has ended, beyond the JSON of its value.
async fn held<F: TaskFn>(task: AddTask<F>, n: u64) -> f64 {
    let app = app().await;
    progress::add_task(10).on(&app).timeout(Duration::from_secs(60)).await.expect("it completes");
    memory::start();
    let handle = task.on(&app).await.expect("it is added");
    while !handle.status().await.expect("it is there").is_ended() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What only the attempt and its watchers held goes.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let live = memory::live();
    memory::stop();
    let json: usize = (0..n).map(|i| serde_json::to_vec(&Progress::at(i)).expect("it is JSON").len()).sum();
    assert_eq!(handle.record().await.expect("it is there").yields, n);
    // The next one is not to count what this one still frees.
    app.shutdown().await.expect("it closes");
    drop((handle, app));
    tokio::time::sleep(Duration::from_millis(500)).await;
    (live as f64 - json as f64) / n as f64
}

pub(crate) fn run(table: &mut Table) {
    let what = "yields, 47 B each, stored and seen";
    let both = rounds(
        what,
        || on_a_runtime(ours(progress::add_task(YIELDS), |p| p.index)),
        || on_a_runtime(channel(Progress::at, |p| p.index)),
    );
    table.ratio(what, "yields/s", &both, Aim::AtLeast(0.4), "");
    let what = "yields, bare numbers, stored and seen";
    let both =
        rounds(what, || on_a_runtime(ours(numbers::add_task(YIELDS), |n| *n)), || on_a_runtime(channel(|n| n, |n| *n)));
    table.ratio(what, "yields/s", &both, Aim::AtLeast(0.4), "");
    let fast = on_a_runtime(held(progress::add_task(YIELDS), YIELDS));
    table.figure("memory of a yield beyond its JSON, full speed", "B", fast, Aim::AtMost(64.0), "");
    let slow = on_a_runtime(held(slow::add_task(SLOW), SLOW));
    table.figure("memory of a yield beyond its JSON, one by one", "B", slow, Aim::AtMost(64.0), "");
}
