//! Cancelling a task that runs: it stops at its next await or yield, and what it yielded is kept.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{Status, WaitError};

/// Says so when it is dropped: cleaning up needs no code of its own.
struct Connection;

impl Drop for Connection {
    fn drop(&mut self) {
        println!("the connection is closed");
    }
}

/// Would tick for ever.
#[task]
async fn ticks(ctx: Context) -> u64 {
    let _connection = Connection;
    for tick in 0.. {
        yield_!(tick);
        ctx.sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = qtasks::init("memory:").await?;
    let task = ticks::add_task().await?;

    let first: Vec<u64> = task.stream().take(3).try_collect().await?;
    println!("saw {first:?}");
    assert_eq!(first, [0, 1, 2]);

    // Returns once this is recorded; the end itself is what one waits for.
    task.cancel("seen enough").await?;
    let Err(WaitError::Ended(ended)) = task.wait().await else { unreachable!("it was cancelled") };
    println!("{}: {}", ended.record.status, ended.failure().message);
    println!("kept {} values", ended.yields().len());
    assert_eq!((ended.record.status, ended.failure().message.as_str()), (Status::Cancelled, "seen enough"));
    assert_eq!(ended.returning::<u64>()?[..3], first);

    // Cancelling what is over changes nothing.
    println!("{:?}", task.cancel("again").await?);
    app.shutdown().await
}
