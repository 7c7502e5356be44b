//! Yields at full speed into a file: stored, and seen by a watcher of each task, decoded and in order.
//!
//! The limit has one row for each, inserted on one thread, 100 a transaction. Nobody reads them.

use std::time::Instant;

use futures::future::join_all;
use qtasks::prelude::*;

use super::{Scratch, connect, execute};
use crate::on_a_runtime;
use crate::table::{Aim, Table, rounds};
use crate::yields::{Progress, progress};

const YIELDS: u64 = 320_000;
const AT_ONCE: usize = 100;

/// Yields a second.
async fn ours(tasks: u64) -> f64 {
    let file = Scratch::new();
    let builder = Qtasks::builder().store(file.url()).tasks([progress::spec()]).concurrency(64);
    let app = builder.start().await.expect("the file opens");
    let each = YIELDS / tasks;
    let start = Instant::now();
    let handles = app.add_all((0..tasks).map(|_| progress::add_task(each))).await.expect("they are added");
    let watch = |handle: &TaskHandle<progress>| {
        let mut values = handle.stream();
        tokio::spawn(async move {
            let mut n = 0;
            while let Some(value) = values.try_next().await.expect("it completes") {
                assert_eq!(value.index, n);
                n += 1;
            }
            n
        })
    };
    for seen in join_all(handles.iter().map(watch)).await {
        assert_eq!(seen.expect("it does not panic"), each);
    }
    let rate = YIELDS as f64 / start.elapsed().as_secs_f64();
    app.shutdown().await.expect("it closes");
    rate
}

/// Rows a second. The tasks take turns, each with a transaction.
fn rows(tasks: u64) -> f64 {
    let file = Scratch::new();
    let db = connect(&file.path());
    let table = "CREATE TABLE item (task INTEGER, seq INTEGER, text TEXT, PRIMARY KEY (task, seq)) WITHOUT ROWID";
    execute(&db, table, ());
    let each: Vec<(u64, String)> = (0..YIELDS / tasks).map(|i| (i, Progress::at(i).json())).collect();
    let start = Instant::now();
    for items in each.chunks(AT_ONCE) {
        for task in 0..tasks {
            execute(&db, "BEGIN IMMEDIATE", ());
            for (seq, text) in items {
                execute(&db, "INSERT INTO item VALUES (?1, ?2, ?3)", (task.cast_signed(), seq.cast_signed(), text));
            }
            execute(&db, "COMMIT", ());
        }
    }
    YIELDS as f64 / start.elapsed().as_secs_f64()
}

pub(crate) fn run(table: &mut Table) {
    for (tasks, aim) in [(1, 0.35), (64, 0.4)] {
        let what = format!("sqlite: yields of {tasks} at once, stored, seen");
        let both = rounds(&what, || on_a_runtime(ours(tasks)), || rows(tasks));
        table.ratio(&what, "yields/s", &both, Aim::AtLeast(aim), "");
    }
}
