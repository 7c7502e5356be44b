//! A task in a process of its own: when that crashes, exits or loops for ever, only the task ends, and what it had yielded stays.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{FailureKind, WaitError};

/// Stands for a library that crashes on some of its inputs.
fn decode(page: u32) -> String {
    match page {
        3 => std::process::abort(),
        _ => format!("page {page}\n"),
    }
}

#[task(isolation = "process", time_limit = "1min")]
fn read_scan(pages: u32) -> String {
    for page in 1..=pages {
        yield_!(decode(page));
    }
}

/// Ends although nothing in it can: after 300 ms without a value.
#[task(isolation = "process", idle_limit = "300ms")]
fn search(from: u64) -> u64 {
    yield_!(from);
    loop {
        std::hint::spin_loop();
    }
}

fn kept<F: TaskFn>(failed: Result<Task<F>, WaitError<F>>) -> (FailureKind, String, usize) {
    let Err(WaitError::Ended(ended)) = failed else { unreachable!("neither can succeed") };
    println!("{}; {} values are kept", ended.failure(), ended.yields().len());
    (ended.failure().kind, ended.failure().message.clone(), ended.yields().len())
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    // The program is started again for each attempt, and in there it comes no further than this line.
    qtasks::child_entry();

    let app = qtasks::init("memory:").await?;
    let scan = read_scan::add_task(2).timeout(Duration::from_secs(50)).await?;
    println!("{}", scan.returning.concat());
    assert_eq!(scan.returning, ["page 1\n", "page 2\n"]);

    let (kind, message, values) = kept(read_scan::add_task(4).timeout(Duration::from_secs(50)).await);
    assert_eq!((kind, values), (FailureKind::Process, 2));
    assert_eq!(message, "it was killed by signal 6 (SIGABRT)");

    let (kind, _, values) = kept(search::add_task(7).timeout(Duration::from_secs(50)).await);
    assert_eq!((kind, values), (FailureKind::TimeLimit, 1));

    println!("the worker goes on");
    app.shutdown().await
}
