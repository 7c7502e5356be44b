//! Executors: what is done with the values of a generator. And a middleware around every attempt.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{Attempt, AttemptOutcome, BoxFuture, Executed, Execution, Middleware, Next, TaskExecutor};

/// One value instead of many: their sum.
#[derive(Debug)]
struct Sum;

impl TaskExecutor for Sum {
    fn run_task_gen<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        Box::pin(async move {
            let mut sum = 0;
            while let Some(value) = run.next::<i64>().await? {
                sum += value;
            }
            run.emit(&sum).await?;
            run.finish().await
        })
    }
}

#[derive(Debug)]
struct Even;

impl TaskExecutor for Even {
    fn run_task_gen<'a>(&'a self, run: &'a mut Execution) -> BoxFuture<'a, Executed> {
        Box::pin(async move {
            while let Some(value) = run.next::<i64>().await? {
                if value % 2 == 0 {
                    run.emit(&value).await?;
                }
            }
            run.finish().await
        })
    }
}

/// Says how an attempt ended.
#[derive(Debug)]
struct Said;

impl Middleware for Said {
    fn attempt<'a>(&'a self, attempt: Attempt, next: Next) -> BoxFuture<'a, AttemptOutcome> {
        Box::pin(async move {
            let name = attempt.spec().name;
            let outcome = next.run(attempt).await;
            println!("{name} ended: {outcome:?}");
            outcome
        })
    }
}

#[task(executor = Sum)]
async fn total(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(i);
    }
}

#[task]
fn numbers(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(i);
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = Qtasks::builder().store("memory:").executor(Even).layer(Said).start().await?;
    let soon = Duration::from_secs(50);
    assert_eq!(total::add_task(4).on(&app).timeout(soon).await?.returning, [10]);
    assert_eq!(numbers::add_task(7).on(&app).timeout(soon).await?.returning, [2, 4, 6]);
    app.shutdown().await
}
