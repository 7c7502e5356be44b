//! A function that makes its stream itself is a task as well: with `stream!`, or of anything that is a stream.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;

/// Counts down, in a `stream!` of its own: the macro leaves the body alone.
#[task]
fn countdown(from: u32) -> impl Stream<Item = u32> {
    stream! {
        for n in (0..=from).rev() {
            yield n;
        }
    }
}

/// Halves numbers. In `try_stream!` there is `?`; an `Err` among the items fails the task.
#[task]
fn halves(of: Vec<u32>) -> impl Stream<Item = Result<u32, String>> {
    try_stream! {
        for n in of {
            if n % 2 == 1 {
                Err(format!("{n} is odd"))?;
            }
            yield n / 2;
        }
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = qtasks::init("memory:").await?;

    let task = countdown::add_task(3).timeout(Duration::from_secs(50)).await?;
    println!("{:?}", task.returning);
    assert_eq!(task.returning, [3, 2, 1, 0]);

    let mut values = halves::add_task(vec![4, 6, 7, 8]).await?.stream();
    let mut seen = Vec::new();
    let error = loop {
        match values.try_next().await {
            Ok(Some(value)) => seen.push(value),
            Ok(None) => unreachable!("7 is odd"),
            Err(error) => break error,
        }
    };
    println!("{seen:?}, then: {error}");
    assert_eq!(seen, [2, 3]);
    app.shutdown().await
}
