//! The quick start of the README: a task that yields, collected and streamed.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;

async fn add_two(x: i64) -> i64 {
    x + 2
}

/// Test task with a generator.
#[task(generate_handler = add_two)]
async fn test_yield(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(n + i);
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    // A store, a worker in this process, and the default app.
    let app = qtasks::init("memory:").await?;

    // Collected: all values, once it is over.
    let task = test_yield::add_task(5).timeout(Duration::from_secs(50)).await?;
    println!("{:?}", task.returning);
    assert_eq!(task.returning, [8, 9, 10, 11, 12]);

    // Streamed: each value as soon as it is stored.
    let mut values = test_yield::add_task(5).await?.stream();
    while let Some(value) = values.try_next().await? {
        println!("{value}");
    }
    app.shutdown().await
}
