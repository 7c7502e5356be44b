//! What a task needs besides its arguments: `State`, given to the app and found by its type.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use qtasks::ErrorKind;
use qtasks::prelude::*;

/// Counts, for all tasks of a worker.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

struct Greeting(&'static str);

/// `people` travels as JSON; the others are the worker's own and are no arguments of `add_task`.
#[task]
async fn greet(greeting: State<Greeting>, counter: State<Counter>, people: Vec<String>) -> String {
    for name in people {
        let number = counter.0.fetch_add(1, Ordering::Relaxed) + 1;
        yield_!(format!("{}, {name}! You are number {number}.", greeting.0));
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    // Forgotten, it is an error when the worker starts, not when the first task runs.
    let error = Qtasks::builder().store("memory:").start().await.expect_err("no state was given");
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);

    let counter = Counter::default();
    let app =
        Qtasks::builder().store("memory:").state(Greeting("Hello")).state(counter.clone()).install().start().await?;

    for people in [vec!["Ada", "Grace"], vec!["Edsger"]] {
        let people = people.into_iter().map(str::to_owned).collect();
        let task = greet::add_task(people).timeout(Duration::from_secs(50)).await?;
        for line in &task.returning {
            println!("{line}");
        }
    }
    assert_eq!(counter.0.load(Ordering::Relaxed), 3);
    app.shutdown().await
}
