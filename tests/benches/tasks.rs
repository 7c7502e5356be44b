//! Tasks that do nothing: added, run, and waited for, each with its result.
//!
//! The limit keeps nothing: a channel, 64 tokio tasks that take from it, a oneshot for each result.

use std::time::Instant;

use qtasks::prelude::*;
use tokio::sync::oneshot;

use crate::on_a_runtime;
use crate::table::{Aim, Table, rounds};

const TASKS: u64 = 20_000;
pub(crate) const CONCURRENCY: usize = 64;

#[task]
pub(crate) async fn nothing(n: u64) -> u64 {
    n
}

/// Tasks a second.
fn rate(start: Instant) -> f64 {
    TASKS as f64 / start.elapsed().as_secs_f64()
}

pub(crate) async fn ours(at_once: bool) -> f64 {
    let app = Qtasks::builder()
        .store("memory:")
        .tasks([nothing::spec()])
        .concurrency(CONCURRENCY)
        .retention_max(None, None)
        .start()
        .await
        .expect("a store in memory opens");
    let start = Instant::now();
    let handles = if at_once {
        app.add_all((0..TASKS).map(nothing::add_task)).await.expect("they are added")
    } else {
        let mut handles = Vec::with_capacity(TASKS as usize);
        for n in 0..TASKS {
            handles.push(nothing::add_task(n).on(&app).await.expect("it is added"));
        }
        handles
    };
    for (n, handle) in handles.iter().enumerate() {
        let task = handle.wait().await.expect("it completes");
        assert_eq!(task.returning, n as u64);
    }
    let rate = rate(start);
    app.shutdown().await.expect("it closes");
    rate
}

async fn bare_queue() -> f64 {
    let (queue, tasks) = flume::unbounded::<(u64, oneshot::Sender<u64>)>();
    for _ in 0..CONCURRENCY {
        let tasks = tasks.clone();
        tokio::spawn(async move {
            while let Ok((n, done)) = tasks.recv_async().await {
                done.send(n).expect("somebody waits for it");
            }
        });
    }
    let start = Instant::now();
    let mut results = Vec::with_capacity(TASKS as usize);
    for n in 0..TASKS {
        let (done, result) = oneshot::channel();
        queue.send((n, done)).expect("there are tasks that take");
        results.push(result);
    }
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.await, Ok(n as u64));
    }
    rate(start)
}

pub(crate) fn run(table: &mut Table) {
    for (at_once, what) in [(true, "no-op tasks, added at once"), (false, "no-op tasks, added one by one")] {
        let both = rounds(what, || on_a_runtime(ours(at_once)), || on_a_runtime(bare_queue()));
        table.ratio(what, "tasks/s", &both, Aim::AtLeast(0.3), "");
    }
}
