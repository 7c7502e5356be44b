//! What an app does, in numbers, for the recorder of the [`metrics`](https://docs.rs/metrics) façade that the program
//! installs (feature `metrics`): Prometheus, StatsD, or one of its own.
//!
//! Install the recorder before an app is made: what was counted before is lost, and descriptions are given when an app is made. Each
//! process tells of what it does itself: of a store that several share, the sum is the whole.
//!
//! | name | kind | labels | what |
//! | --- | --- | --- | --- |
//! | `qtasks_tasks_added_total` | counter | `task`, `queue` | tasks added; those left out that existed already |
//! | `qtasks_tasks_ended_total` | counter | `task`, `queue`, `status` | tasks ended here; `status` is `completed`, `failed` or `cancelled` |
//! | `qtasks_attempts_total` | counter | `task`, `queue` | attempts begun |
//! | `qtasks_retries_total` | counter | `task`, `queue` | attempts that failed and are followed by another |
//! | `qtasks_yields_total` | counter | `task`, `queue` | values stored; counted when a batch of them is |
//! | `qtasks_task_duration_seconds` | histogram | `task`, `queue` | how long an attempt took, to its end or failure |
//! | `qtasks_task_wait_seconds` | histogram | `task`, `queue` | from when a task was due to its first attempt, by the store's clock; time as held counts |
//! | `qtasks_running` | gauge | `task`, `queue` | tasks that workers of this process have |
//! | `qtasks_leases_lost_total` | counter | `task`, `queue` | attempts dropped because the store said that the task was somebody else's |
//! | `qtasks_append_duration_seconds` | histogram | | how long the store took for one batch of events |
//! | `qtasks_store_errors_total` | counter | `operation`, `kind` | calls of the store that failed; `operation` is that of [`Store`](crate::Store), `kind` the [`ErrorKind`](crate::ErrorKind), in snake case |
//! | `qtasks_slots` | gauge | | bodies that the workers of this process may run at once |
//! | `qtasks_watchers` | gauge | | streams of values or events that are open in this process |
//!
//! Labels have as many values as a program has task functions and queues: give no queue the name of a user or an id.
//! What qtasks runs itself (`qtasks.…`) is counted like the rest.

mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::task::Status;

pub(crate) use store::metered;

const ADDED: &str = "qtasks_tasks_added_total";
const ENDED: &str = "qtasks_tasks_ended_total";
const ATTEMPTS: &str = "qtasks_attempts_total";
const RETRIES: &str = "qtasks_retries_total";
const YIELDS: &str = "qtasks_yields_total";
const DURATION: &str = "qtasks_task_duration_seconds";
const WAIT: &str = "qtasks_task_wait_seconds";
const RUNNING: &str = "qtasks_running";
const LOST: &str = "qtasks_leases_lost_total";
const APPEND: &str = "qtasks_append_duration_seconds";
const ERRORS: &str = "qtasks_store_errors_total";
const SLOTS: &str = "qtasks_slots";
const WATCHERS: &str = "qtasks_watchers";

/// Tells the recorder what the names mean.
fn describe() {
    describe_counter!(ADDED, Unit::Count, "tasks added");
    describe_counter!(ENDED, Unit::Count, "tasks ended, by how they did");
    describe_counter!(ATTEMPTS, Unit::Count, "attempts begun");
    describe_counter!(RETRIES, Unit::Count, "attempts that failed and are followed by another");
    describe_counter!(YIELDS, Unit::Count, "values stored");
    describe_histogram!(DURATION, Unit::Seconds, "how long an attempt took");
    describe_histogram!(WAIT, Unit::Seconds, "from when a task was due to its first attempt");
    describe_gauge!(RUNNING, Unit::Count, "tasks that workers of this process have");
    describe_counter!(LOST, Unit::Count, "attempts whose task had become somebody else's");
    describe_histogram!(APPEND, Unit::Seconds, "how long the store took for a batch of events");
    describe_counter!(ERRORS, Unit::Count, "calls of the store that failed");
    describe_gauge!(SLOTS, Unit::Count, "bodies that the workers of this process may run at once");
    describe_gauge!(WATCHERS, Unit::Count, "streams that are open in this process");
}

/// What is recorded of one task function in one queue.
struct Series {
    added: Counter,
    /// Completed, failed, cancelled.
    ended: [Counter; 3],
    attempts: Counter,
    retries: Counter,
    yields: Counter,
    duration: Histogram,
    wait: Histogram,
    running: Gauge,
    lost: Counter,
}

impl Series {
    fn new(task: &str, queue: &str) -> Self {
        let labels = vec![Label::new("task", task.to_owned()), Label::new("queue", queue.to_owned())];
        let ended = [Status::Completed, Status::Failed, Status::Cancelled].map(|status| {
            let mut labels = labels.clone();
            labels.push(Label::new("status", status.as_str()));
            counter!(ENDED, labels)
        });
        Series {
            added: counter!(ADDED, labels.clone()),
            ended,
            attempts: counter!(ATTEMPTS, labels.clone()),
            retries: counter!(RETRIES, labels.clone()),
            yields: counter!(YIELDS, labels.clone()),
            duration: histogram!(DURATION, labels.clone()),
            wait: histogram!(WAIT, labels.clone()),
            running: gauge!(RUNNING, labels.clone()),
            lost: counter!(LOST, labels),
        }
    }

    fn ended(&self, status: Status) {
        let [completed, failed, cancelled] = &self.ended;
        match status {
            Status::Completed => completed.increment(1),
            Status::Failed => failed.increment(1),
            Status::Cancelled => cancelled.increment(1),
            _ => {}
        }
    }
}

/// All series of an app, by queue and task.
#[derive(Default)]
struct All(Mutex<HashMap<String, HashMap<String, Arc<Series>>>>);

impl All {
    /// That of a task function in a queue.
    fn of(&self, task: &str, queue: &str) -> Arc<Series> {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all().get(queue).and_then(|tasks| tasks.get(task)).cloned();
        known.unwrap_or_else(|| {
            // Without the lock: a recorder is not our code.
            let series = Arc::new(Series::new(task, queue));
            all().entry(queue.to_owned()).or_default().insert(task.to_owned(), Arc::clone(&series));
            series
        })
    }
}

/// A worker with so many slots begins.
pub(crate) fn slots_open(slots: usize) {
    gauge!(SLOTS).increment(slots as f64);
}

/// A worker with so many slots is over.
pub(crate) fn slots_close(slots: usize) {
    gauge!(SLOTS).decrement(slots as f64);
}

/// Counted among the watchers until it is dropped.
pub(crate) struct Watching(Gauge);

impl Default for Watching {
    fn default() -> Self {
        let watchers = gauge!(WATCHERS);
        watchers.increment(1.0);
        Watching(watchers)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
