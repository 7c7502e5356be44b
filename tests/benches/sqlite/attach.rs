//! A long log in a file: how soon a watcher that comes late has its first value, and what a process needs that writes
//! and watches such a log.

use std::path::Path;
use std::time::Instant;

use qtasks::prelude::*;

use super::{Other, Scratch, say_numbers, url};
use crate::on_a_runtime;
use crate::table::{Aim, Table, percentile, rounds};
use crate::yields::progress;

const YIELDS: u64 = 1_000_000;
/// Where memory is looked at for the first time.
const EARLY: u64 = 100_000;
const LATE: u64 = 900_000;
const ATTACHES: usize = 100;

async fn app(url: String) -> Qtasks {
    Qtasks::builder().store(url).tasks([progress::spec()]).start().await.expect("the file opens")
}

/// The time from the call to the first value after `seq`, in microseconds: the median.
async fn attach(handle: TaskHandle<progress>, seq: u64) -> f64 {
    let mut took = Vec::new();
    for _ in 0..ATTACHES {
        let start = Instant::now();
        let value = handle.stream_after(seq).try_next().await.expect("it can be read");
        took.push(start.elapsed().as_secs_f64() * 1e6);
        // The event before the first value says that the body started.
        assert_eq!(value.expect("there are more").index, seq.saturating_sub(1));
    }
    percentile(&took, 50)
}

/// Says how many MB this process takes when a task has yielded a part, and when it has yielded all.
pub(super) fn grow(path: &Path) {
    let url = url(path);
    on_a_runtime(async move {
        let app = app(url).await;
        let mut values = progress::add_task(YIELDS).on(&app).await.expect("it is added").stream();
        let mut resident = Vec::new();
        while let Some(value) = values.try_next().await.expect("it completes") {
            if value.index + 1 == EARLY || value.index + 1 == YIELDS {
                resident.push(rss());
            }
        }
        say_numbers(&resident);
        app.shutdown().await.expect("it closes");
    });
}

/// What is resident of this process, in MB, by Linux's own account.
fn rss() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0 / 1e6)
}

pub(crate) fn run(table: &mut Table) {
    let file = Scratch::new();
    let mut other = Other::new("grow", &[file.path().to_str().expect("it is text")]);
    let resident = other.numbers();
    let (early, all) = (resident[0], resident[1]);
    drop(other);

    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let app = runtime.block_on(app(file.url()));
    let listed = runtime.block_on(app.list(qtasks::store::List { limit: 1, ..Default::default() }));
    let id = listed.expect("it can be read").tasks[0].id;
    let handle = runtime.block_on(TaskHandle::<progress>::attach(&app, id)).expect("it is there");
    let at = |seq| runtime.block_on(runtime.spawn(attach(handle.clone(), seq))).expect("it does not panic");
    let what = "sqlite: attach at 900,000 of 1,000,000";
    let both = rounds(what, || at(LATE + 1), || at(0));
    table.ratio(what, "us", &both, Aim::AtMost(3.0), "against attach at 0");
    runtime.block_on(app.shutdown()).expect("it closes");

    let what = "sqlite: memory more at 1,000,000 yields";
    let note = format!("{all:.0} MB then, {early:.0} MB at 100,000; caches may grow to their 16 MB and 4 MB");
    table.figure(what, "MB", all - early, Aim::AtMost(20.0), note);
}
