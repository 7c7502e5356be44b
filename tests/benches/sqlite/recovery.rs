//! What becomes of a task whose process is killed: how long until its next attempt has begun, as a watcher sees it.
//!
//! Processes that each run a worker share a file. One after the other is killed, and another takes its place.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use qtasks::prelude::*;
use qtasks::store::List;
use qtasks::{EventKind, Resume, Status, TaskId};

use super::{Other, Scratch, say, url};
use crate::on_a_runtime;
use crate::table::{Aim, Table, percentile};

const WORKERS: usize = 10;
const TASKS: u64 = 10;
/// Each has room for more than its share: those that were killed leave theirs to the others.
const CONCURRENCY: usize = 2;

/// It makes progress in each attempt, so that it is never given up.
#[task(yields_max = 10_000_000)]
async fn beat(from: Resume<u64>) -> u64 {
    for n in from.count().. {
        yield_!(n);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn scan(lease: Duration) -> Duration {
    // In the proportion of the defaults.
    lease / 5
}

/// A worker, until it is killed.
pub(super) fn work(path: &Path, lease_ms: &str) {
    let lease = Duration::from_millis(lease_ms.parse().expect("a number"));
    let builder = Qtasks::builder().store(url(path)).tasks([beat::spec()]).lease(lease).scan(scan(lease));
    let name = std::process::id().to_string();
    on_a_runtime(async move {
        let _app = builder.worker_name(name).concurrency(CONCURRENCY).start().await.expect("the file opens");
        say("ready");
        std::future::pending::<()>().await;
    });
}

/// Which tasks were lost when and in which attempt, and how long those took that run again.
#[derive(Default)]
struct Lost {
    at: HashMap<TaskId, (u32, Instant)>,
    took: Vec<f64>,
}

fn lock(lost: &Mutex<Lost>) -> MutexGuard<'_, Lost> {
    lost.lock().expect("nobody panics")
}

/// Until the next attempt of each has begun, in milliseconds.
async fn recoveries(wanted: usize, lease: Duration, pause: Duration) -> Vec<f64> {
    let file = Scratch::new();
    let app = Qtasks::builder().store(file.url()).tasks([beat::spec()]).lease(lease).scan(scan(lease));
    let app = app.open().await.expect("the file opens");
    let handles = app.add_all((0..TASKS).map(|_| beat::add_task())).await.expect("they are added");
    let (path, lease_ms) = (file.path(), lease.as_millis().to_string());
    let start = || {
        let mut other = Other::new("work", &[path.to_str().expect("it is text"), &lease_ms]);
        assert_eq!(other.line(), "ready");
        other
    };
    let mut workers: Vec<Other> = (0..WORKERS).map(|_| start()).collect();
    let lost = Arc::new(Mutex::new(Lost::default()));
    let watching: Vec<_> =
        handles.iter().map(|handle| tokio::spawn(watch(handle.clone(), Arc::clone(&lost)))).collect();
    let mut turn = 0;
    while lock(&lost).took.len() < wanted {
        tokio::time::sleep(pause).await;
        let worker = &mut workers[turn % WORKERS];
        turn += 1;
        let name = worker.child.id().to_string();
        let killed = Instant::now();
        worker.kill();
        let running = List { status: vec![Status::Running], limit: TASKS as usize, ..List::default() };
        for record in app.list(running).await.expect("it can be read").tasks {
            if record.worker.as_ref() == Some(&name) {
                lock(&lost).at.insert(record.id, (record.attempt, killed));
            }
        }
        *worker = start();
    }
    watching.iter().for_each(tokio::task::JoinHandle::abort);
    drop(workers);
    app.shutdown().await.expect("it closes");
    lock(&lost).took.clone()
}

async fn watch(handle: TaskHandle<beat>, lost: Arc<Mutex<Lost>>) {
    let mut events = handle.events_from(0);
    while let Some(event) = events.try_next().await.expect("it can be read") {
        let mut lost = lock(&lost);
        if matches!(event.kind, EventKind::Started { .. })
            && let Some((attempt, killed)) = lost.at.get(&handle.id()).copied()
            && event.attempt > attempt
        {
            lost.at.remove(&handle.id());
            lost.took.push(killed.elapsed().as_secs_f64() * 1e3);
        }
    }
}

pub(crate) fn run(table: &mut Table) {
    for (what, wanted, lease, pause) in [
        ("sqlite: killed to running again, lease 1 s", 100, Duration::from_secs(1), Duration::from_millis(150)),
        ("sqlite: killed to running again, lease 10 s", 20, Duration::from_secs(10), Duration::from_secs(1)),
    ] {
        eprintln!("{what}");
        let took = on_a_runtime(recoveries(wanted, lease, pause));
        let (p50, p99, most) = (percentile(&took, 50), percentile(&took, 99), percentile(&took, 100));
        let bound = (lease + scan(lease) + Duration::from_secs(1)).as_millis() as f64;
        let note = format!("the longest of {}; p50 {p50:.0} ms, p99 {p99:.0} ms", took.len());
        table.figure(what, "ms", most, Aim::AtMost(bound), note);
    }
}
