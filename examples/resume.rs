//! A task that goes on where it was, instead of doing again what it had done: `Resume`, and a checkpoint.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;
use serde::{Deserialize, Serialize};

/// What the crawl needs besides its last value.
#[derive(Default, Serialize, Deserialize)]
struct Position {
    next_page: u32,
    bytes: usize,
}

/// Fetches pages, and never one twice once its line is stored.
#[task]
async fn crawl(ctx: Context, from: Resume<String>, pages: u32) -> String {
    let Position { next_page, mut bytes } = from.checkpoint().unwrap_or_default();
    println!("  -- attempt {}: {} lines are there, on from page {next_page}", ctx.attempt(), from.count());
    for page in next_page..pages {
        ctx.sleep(Duration::from_millis(50)).await;
        bytes += 1_000 + page as usize;
        // It is stored with the line that follows, both or neither.
        ctx.checkpoint(&Position { next_page: page + 1, bytes });
        yield_!(format!("page {page}, {bytes} bytes so far"));
    }
}

async fn start(url: &str) -> qtasks::Result<Qtasks> {
    Qtasks::builder().store(url).lease(Duration::from_secs(1)).scan(Duration::from_millis(200)).start().await
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("qtasks-resume-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let url = format!("sqlite:{}", folder.join("tasks.db").display());

    let first = start(&url).await?;
    let task = crawl::add_task(8).on(&first).await?;
    let lines: Vec<String> = task.stream().take(4).try_collect().await?;
    for line in lines {
        println!("{line}");
    }
    // Dropped without `shutdown()`, an app ends as if its process had died.
    let id = task.id();
    drop((task, first));
    println!("  -- the worker is gone");

    let second = start(&url).await?;
    let task = TaskHandle::<crawl>::attach(&second, id).await?.wait().await?;
    for line in &task.returning[4..] {
        println!("{line}");
    }
    second.shutdown().await?;
    std::fs::remove_dir_all(&folder)?;

    assert_eq!(task.returning.len(), 8);
    assert_eq!(task.returning[7], "page 7, 8028 bytes so far");
    assert_eq!(task.record.attempt, 2);
    Ok(())
}
