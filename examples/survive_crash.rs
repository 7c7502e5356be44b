//! A worker dies in the middle of an import, another one takes over, and who watches does not notice.
//!
//! The program starts itself twice more, as workers: processes that share nothing with it but a file.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::process::{Child, Command};
use std::time::Duration;

use qtasks::prelude::*;

/// Imports in batches. It runs from the start again after a crash; what the log has already is not stored twice.
#[task]
async fn import(ctx: Context, batches: u32) -> String {
    for batch in 1..=batches {
        ctx.sleep(Duration::from_millis(100)).await;
        yield_!(format!("batch {batch} of {batches}"));
    }
}

fn app(url: &str) -> qtasks::Builder {
    // A worker that says nothing for a second is gone. The default is 10 s: short leases cost writes.
    Qtasks::builder().store(url).lease(Duration::from_secs(1)).scan(Duration::from_millis(200))
}

fn start_worker(url: &str) -> std::io::Result<Child> {
    let worker = Command::new(std::env::current_exe()?).args(["worker", url]).spawn()?;
    println!("  -- worker {} starts", worker.id());
    Ok(worker)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if let [_, role, url] = &args[..]
        && role == "worker"
    {
        return Ok(app(url).start().await?.run().await?);
    }
    let folder = std::env::temp_dir().join(format!("qtasks-survive-crash-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let url = format!("sqlite:{}", folder.join("tasks.db").display());

    // This process adds the task and watches it; it has no worker of its own.
    let here = app(&url).open().await?;
    let task = import::add_task(12).on(&here).await?;
    let mut worker = start_worker(&url)?;
    let mut values = task.stream();
    let mut seen = Vec::new();
    while let Some(value) = values.try_next().await? {
        println!("{value}");
        seen.push(value);
        if seen.len() == 5 {
            worker.kill()?; // SIGKILL: it can't clean up, nor say a word.
            worker.wait()?;
            println!("  -- worker {} is killed", worker.id());
            worker = start_worker(&url)?;
        }
    }
    let record = task.record().await?;
    println!("  -- {} in attempt {}", record.status, record.attempt);
    worker.kill()?;
    worker.wait()?;
    here.shutdown().await?;
    std::fs::remove_dir_all(&folder)?;

    assert_eq!(seen, (1..=12).map(|batch| format!("batch {batch} of 12")).collect::<Vec<_>>());
    assert_eq!(record.attempt, 2);
    Ok(())
}
