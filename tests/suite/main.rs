//! One binary, a module per noun.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and say what it did")]

mod attempts;
mod cli;
mod clocks;
mod crash;
mod damage;
mod executors;
mod forms;
mod gone;
mod http;
mod introspection;
mod isolation;
mod iters;
mod keeper;
mod life;
mod limits;
mod output;
mod property;
mod retries;
mod schedules;
mod seeds;
mod signals;
mod sqlite;
mod stores;
mod stream_tasks;
mod tags;
mod task_log;
mod test_kit;
mod tidy;
mod watchers;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use qtasks::{Event, EventKind, Qtasks, TaskFailure, TaskFn, TaskSpec, WaitError};

/// Long enough for anything that does not hang.
fn soon() -> Duration {
    Duration::from_secs(60)
}

/// An app of its own with these task functions.
async fn app_of(specs: impl IntoIterator<Item = &'static TaskSpec>) -> Qtasks {
    Qtasks::builder().store(store()).tasks(specs).start().await.unwrap()
}

fn failure<F: TaskFn>(error: &WaitError<F>) -> &TaskFailure {
    error.failure().unwrap_or_else(|| panic!("{error:?}"))
}

/// The kinds of a log, in words.
fn kinds(log: &[Event]) -> String {
    let word = |e: &Event| match &e.kind {
        EventKind::Started { .. } => "started",
        EventKind::Yield { .. } => "yield",
        EventKind::Event { .. } => "event",
        EventKind::Log { .. } => "log",
        EventKind::Rewind { .. } => "rewind",
        EventKind::Retry { .. } => "retry",
        EventKind::Completed { .. } => "completed",
        EventKind::Failed { .. } => "failed",
        EventKind::Cancelled { .. } => "cancelled",
        _ => "another",
    };
    log.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The store that the tests use: `memory:`, or what the environment says, so that all of them run on each.
fn store() -> String {
    match std::env::var("QTASKS_TEST_STORE").as_deref() {
        Err(_) | Ok("memory") => "memory:".to_owned(),
        Ok("sqlite") => format!("sqlite:{}", scratch().join("q.db").display()),
        Ok(other) => panic!("`QTASKS_TEST_STORE={other}`: there are `memory` and `sqlite`"),
    }
}

/// One that several apps of a test open.
fn store_named(name: &str) -> String {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(scratch);
    match &*store() {
        "memory:" => format!("memory:{name}"),
        _ => format!("sqlite:{}", FOLDER.join(name).display()),
    }
}

/// A new folder for the files of one test. Those of runs that are over go with the next run.
fn scratch() -> PathBuf {
    static OURS: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("suite");
        for old in std::fs::read_dir(&all).into_iter().flatten().flatten() {
            if !Path::new("/proc").join(old.file_name()).exists() {
                let _ = std::fs::remove_dir_all(old.path());
            }
        }
        all.join(std::process::id().to_string())
    });
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let folder = OURS.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Waits until something is so, which no event tells.
async fn until(is_so: impl Fn() -> bool) {
    until_async(async || is_so()).await;
}

async fn until_async(mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(soon(), wait).await.expect("it comes to be so");
}
