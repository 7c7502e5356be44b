//! `cargo bench -p qtasks-tests`: what qtasks costs, beside the least that the same work costs without it.
//!
//! Every ratio is of two figures of one run, taken in turns: ours, the limit, ours, the limit … A word chooses
//! the sections that begin with it: `cargo bench -p qtasks-tests -- yields sqlite-tasks`.

mod build;
mod direct;
mod fanout;
mod http;
mod iter;
mod latency;
mod memory;
mod sqlite;
mod table;
mod tasks;
mod yields;

use std::future::Future;

use table::Table;

/// A section: its name, and what it adds to the table.
type Section = (&'static str, fn(&mut Table));

const SECTIONS: &[Section] = &[
    ("direct", direct::run),
    ("tasks", tasks::run),
    ("yields", yields::run),
    ("latency", latency::run),
    ("fanout", fanout::run),
    ("http-log", http::run),
    ("http-live", http::live::run),
    ("http-latency", http::latency::run),
    ("http-add", http::add::run),
    #[cfg(target_os = "linux")]
    ("http-idle", http::idle::run),
    ("iter", iter::run),
    ("sqlite-yields", sqlite::yields::run),
    ("sqlite-tasks", sqlite::tasks::run),
    ("sqlite-latency", sqlite::latency::run),
    ("sqlite-claim", sqlite::claim::run),
    ("sqlite-attach", sqlite::attach::run),
    ("sqlite-recovery", sqlite::recovery::run),
    ("sqlite-iter", iter::run_in_a_file),
    ("build", build::run),
];

fn main() {
    if sqlite::is_other() {
        return;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says so when it runs benchmarks; `cargo test --all-targets` does not.
    if !args.iter().any(|arg| arg == "--bench") {
        return;
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut table = Table::default();
    for (name, run) in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|word| name.starts_with(word.as_str())) {
            run(&mut table);
        }
    }
    table.print();
}

/// Runs a future to its end as a task of a new runtime, on one of its worker threads.
fn on_a_runtime<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let task = runtime.spawn(future);
    runtime.block_on(task).expect("it does not panic")
}
