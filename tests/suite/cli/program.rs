//! A program of a user's, with all of the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use qtasks::prelude::*;

/// Counts to `n`.
#[task]
async fn count(n: u64) -> u64 {
    for i in 1..=n {
        yield_!(i);
    }
}

/// Says it again.
#[task]
async fn say(text: String, #[default = 1] times: usize) -> String {
    text.repeat(times)
}

#[task(yield = u64)]
async fn sum(n: u64) -> String {
    for i in 1..=n {
        yield_!(i);
    }
    format!("{} in all", n * (n + 1) / 2)
}

/// Yields how far it is, and the last value when the file is there.
#[task]
async fn gated(until: PathBuf, before: u32) -> serde_json::Value {
    for current in 1..=before {
        yield_!(serde_json::json!({ "current": current, "total": before + 1 }));
    }
    while !until.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    yield_!(serde_json::json!({ "current": before + 1, "total": before + 1 }));
}

#[task]
async fn fails(n: u64) -> Result<u64, String> {
    for i in 1..=n {
        yield_!(i);
    }
    Err("out of paper")?;
}

/// Its second attempt begins anew, with other values.
#[task(on_retry = restart, retry = 1, backoff = none)]
async fn anew(ctx: Context) -> Result<u32, String> {
    for i in 1..=2 {
        yield_!(ctx.attempt() * 10 + i);
    }
    if ctx.attempt() == 1 {
        Err("out of luck")?;
    }
}

/// Tells in which process it runs.
#[task(isolation = "process")]
fn apart() -> u32 {
    std::process::id()
}

#[tokio::main]
async fn main() -> ExitCode {
    qtasks::cli::main().await
}
