//! What a client costs that watches a task in which nothing happens: the memory of a server process.

use crate::on_a_runtime;
use crate::table::{Aim, Table};

#[path = "../../suite/http/crowd/process.rs"]
mod process;

use process::{Serving, descriptors, retry_hint};

/// Fewer where a process may not have so many connections.
const WATCHERS: usize = 10_000;

async fn kib_each() -> (f64, usize) {
    let watchers = WATCHERS.min(descriptors().saturating_sub(200));
    let server = Serving::start().await;
    let held = server.held(1, 1, 1).await;
    let path = format!("/v1/tasks/{held}/events");
    // The first ones make it ready for more.
    let first = server.watch(200, &path, retry_hint).await;
    let before = server.memory_kib("VmRSS");
    let rest = server.watch(watchers, &path, retry_hint).await;
    let after = server.memory_kib("VmRSS");
    drop((first, rest));
    ((after - before) as f64 / watchers as f64, watchers)
}

pub(crate) fn run(table: &mut Table) {
    let (kib, watchers) = on_a_runtime(kib_each());
    let note = format!("the server's memory, {watchers} watching");
    table.figure("http: an idle watcher", "KiB", kib, Aim::AtMost(20.0), note);
}
