//! Tests of one's own tasks: the body alone, an app on a clock that stands still, and a worker that dies half-way.
//!
//! In a project these are functions under `#[tokio::test]`, and `qtasks` with the feature `test` is a dev-dependency.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::test::{assert_added, assert_yields, run_inline};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Adds up, and goes on where it was.
#[task]
async fn sums(ctx: Context, from: Resume<u64>, numbers: Vec<u64>) -> u64 {
    let mut sum = from.last().copied().unwrap_or(0);
    for number in numbers.iter().skip(from.count() as usize) {
        sum += number;
        if sum > 5 {
            ctx.send_event("large", sum);
        }
        yield_!(sum);
    }
}

#[task]
async fn remind(to: String) -> String {
    format!("dear {to}")
}

/// Has somebody reminded tomorrow.
#[task]
async fn order(by: String) -> Result<(), qtasks::Error> {
    remind::add_task(by).delay(DAY).await?;
    Ok(())
}

async fn the_body_alone() {
    let run = run_inline(sums::add_task(vec![1, 2, 3])).await;
    assert_yields!(run, [1, 3, 6]);
    assert_eq!((run.events.len(), &*run.events[0].name), (1, "large"));
    // As after a crash that left one value.
    let run = run_inline(sums::add_task(vec![1, 2, 3])).resuming([1]).await;
    assert_yields!(run, [3, 6]);
}

async fn nobody_sees_that_a_worker_died() -> qtasks::Result<()> {
    for yields in 1..=3 {
        let app = qtasks::test::app().kill_after(yields).start().await;
        let task = sums::add_task(vec![1, 2, 3]).on(&app).timeout(Duration::from_secs(50)).await?;
        assert_yields!(task, [1, 3, 6]);
        println!("killed after {yields}: {:?}, in {} attempts", task.returning, task.record.attempt);
    }
    Ok(())
}

async fn a_day_later() -> qtasks::Result<()> {
    let app = qtasks::test::app().start().await;
    order::add_task("ada".to_owned()).on(&app).await?;
    app.drain().await;
    assert_added!(app, "remind", { "to": "ada" }, 1);
    let reminder = app.task(app.added()[1].id).await?;
    assert!(!reminder.status().await?.is_ended());

    app.advance(DAY).await;
    app.drain().await;
    assert_eq!(reminder.wait().await?.returning, ["dear ada"]);
    println!("a day later: {}", reminder.status().await?);
    app.shutdown().await
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    the_body_alone().await;
    nobody_sees_that_a_worker_died().await?;
    a_day_later().await
}
