//! Many arguments, one list of results: `Iter` over tasks that do nothing.
//!
//! The limit is the store's own: the same tasks added at once, as in the sections `tasks` and `sqlite-tasks`, each
//! waited for there by its handle or by looking. What an `Iter` does besides is to hold the tasks back, to read what
//! became of each, and to move it from its row into the log of the whole.

use std::future::Future;
use std::time::{Duration, Instant};

use qtasks::prelude::*;

use crate::on_a_runtime;
use crate::sqlite::{self, Scratch};
use crate::table::{Aim, Table, rounds};
use crate::tasks::{self, nothing};

const ITEMS: u64 = 10_000;

/// Items a second, from the first argument to the list.
async fn ours(url: String, concurrency: usize) -> f64 {
    let builder = Qtasks::builder().store(url).tasks([nothing::spec()]).retention_max(None, None);
    let app = builder.concurrency(concurrency).start().await.expect("the store opens");
    let start = Instant::now();
    let mut iter = nothing::iter(0..ITEMS).on(&app);
    iter.run().await.expect("all are added");
    let results = iter.result(Duration::from_secs(600)).await.expect("it completes").expect("in time");
    let rate = ITEMS as f64 / start.elapsed().as_secs_f64();
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.expect("it completes"), n as u64);
    }
    app.shutdown().await.expect("it closes");
    rate
}

async fn in_a_file() -> f64 {
    let file = Scratch::new();
    ours(file.url(), 32).await
}

fn compare<A, B>(table: &mut Table, what: &str, ours: impl Fn() -> A, limit: impl Fn() -> B)
where
    A: Future<Output = f64> + Send + 'static,
    B: Future<Output = f64> + Send + 'static,
{
    let both = rounds(what, || on_a_runtime(ours()), || on_a_runtime(limit()));
    table.ratio(what, "items/s", &both, Aim::AtLeast(0.5), "limit: tasks added at once");
}

pub(crate) fn run(table: &mut Table) {
    compare(table, "items of an `Iter`", || ours("memory:".to_owned(), tasks::CONCURRENCY), || tasks::ours(true));
}

pub(crate) fn run_in_a_file(table: &mut Table) {
    compare(table, "sqlite: items of an `Iter`", in_a_file, || sqlite::tasks::ours(true));
}
