//! The numbers that an app records, against the table in the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use qtasks::prelude::*;
use qtasks::store::{self, Lease};
use qtasks::{Status, TaskId};

use crate::{soon, until};

/// Kind, and the names of the labels in their order.
type Sort = (&'static str, Vec<String>);

#[derive(Default)]
struct Recorded {
    sorts: BTreeMap<String, BTreeSet<Sort>>,
    units: BTreeMap<String, Option<Unit>>,
    /// By name, and labels as `label=value`.
    numbers: BTreeMap<(String, String), Arc<Number>>,
}

/// All that was recorded of one series: of a counter and a gauge what it is, of a histogram each value.
#[derive(Debug, Default)]
struct Number(Mutex<(f64, Vec<f64>)>);

impl Number {
    fn add(&self, n: f64) {
        let mut number = self.0.lock().unwrap();
        number.0 += n;
        number.1.push(n);
    }
}

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }
    fn absolute(&self, _: u64) {}
}

impl GaugeFn for Number {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, _: f64) {}
}

impl HistogramFn for Number {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

#[derive(Clone, Default)]
struct Mine(Arc<Mutex<Recorded>>);

impl Mine {
    fn described(&self, name: &KeyName, unit: Option<Unit>) {
        self.0.lock().unwrap().units.insert(name.as_str().to_owned(), unit);
    }

    fn number(&self, kind: &'static str, key: &Key) -> Arc<Number> {
        let mut recorded = self.0.lock().unwrap();
        let names = key.labels().map(|label| label.key().to_owned()).collect();
        recorded.sorts.entry(key.name().to_owned()).or_default().insert((kind, names));
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::clone(recorded.numbers.entry((key.name().to_owned(), labels.join(" "))).or_default())
    }

    fn of(&self, name: &str, labels: &str) -> (f64, Vec<f64>) {
        let recorded = self.0.lock().unwrap();
        let number = recorded.numbers.get(&(name.to_owned(), labels.to_owned()));
        number.map(|number| number.0.lock().unwrap().clone()).unwrap_or_default()
    }
}

impl Recorder for Mine {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.described(&name, unit);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.described(&name, unit);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, _: SharedString) {
        self.described(&name, unit);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number("counter", key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number("gauge", key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.number("histogram", key))
    }
}

/// The recorder of this process: other tests are recorded as well, of other tasks.
static RECORDER: LazyLock<Mine> = LazyLock::new(|| {
    let recorder = Mine::default();
    metrics::set_global_recorder(recorder.clone()).expect("it is the only one");
    recorder
});

#[task(queue = "counted", retry = 1)]
async fn counted_yields(ctx: Context, values: u64) -> Result<u64, String> {
    for i in 0..values {
        yield_!(i);
    }
    if ctx.attempt() == 1 {
        Err("once more")?;
    }
}

#[task(queue = "counted")]
async fn counted_fails() -> Result<(), String> {
    Err("no".to_owned())
}

static LOSES: AtomicBool = AtomicBool::new(true);

#[task(queue = "counted")]
async fn counted_waits() {
    if LOSES.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

/// The table in the documentation: name, kind and labels.
fn table() -> BTreeMap<String, Sort> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../qtasks/src/metrics.rs");
    let docs = std::fs::read_to_string(path).unwrap();
    let rows = docs.lines().filter_map(|line| line.strip_prefix("//! | `qtasks_"));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let kind = ["counter", "gauge", "histogram"].into_iter().find(|kind| *kind == cells[1]).unwrap();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        (format!("qtasks_{}", cells[0].trim_matches('`')), (kind, labels.filter(|l| !l.is_empty()).collect()))
    });
    rows.collect()
}

#[tokio::test]
async fn an_app_records_what_the_table_says_and_nothing_else() {
    let recorder = &*RECORDER;
    let specs = [counted_yields::spec(), counted_fails::spec(), counted_waits::spec()];
    let raw = store::open("memory:counted").await.unwrap();
    let app = Qtasks::builder().store("memory:counted").tasks(specs).concurrency(3).start().await.unwrap();

    // Two attempts, the second of which repeats what is stored.
    let task = counted_yields::add_task(2_000).on(&app).delay(Duration::from_millis(30)).await.unwrap();
    let watching = task.stream();
    assert!(recorder.of("qtasks_watchers", "").0 >= 1.0);
    assert!(recorder.of("qtasks_slots", "").0 >= 3.0);
    task.wait().await.unwrap();
    drop(watching);
    let yields = "task=counted_yields queue=counted";
    let of = |name: &str| recorder.of(name, yields);
    // Recorded last of all.
    until(|| of("qtasks_running").1.len() == 4).await;
    assert_eq!(of("qtasks_tasks_added_total").0, 1.0);
    assert_eq!((of("qtasks_attempts_total").0, of("qtasks_retries_total").0), (2.0, 1.0));
    let (sum, batches) = of("qtasks_yields_total");
    assert_eq!(sum, 2_000.0);
    assert!(batches.len() < 500, "counted by the batch, not by the value: {}", batches.len());
    assert_eq!(recorder.of("qtasks_tasks_ended_total", &format!("{yields} status=completed")).0, 1.0);
    let (durations, waits) = (of("qtasks_task_duration_seconds").1, of("qtasks_task_wait_seconds").1);
    assert_eq!((durations.len(), waits.len()), (2, 1));
    assert!(durations.iter().chain(&waits).all(|seconds| (0.0..60.0).contains(seconds)), "{durations:?} {waits:?}");

    let task = counted_fails::add_task().on(&app).timeout(soon()).await;
    task.unwrap_err();
    let fails = "task=counted_fails queue=counted";
    until(|| recorder.of("qtasks_running", fails).1.len() == 2).await;
    assert_eq!(recorder.of("qtasks_tasks_ended_total", &format!("{fails} status=failed")).0, 1.0);

    // Never started.
    let held = counted_waits::add_task().on(&app).held().await.unwrap();
    held.cancel("not needed").await.unwrap();
    let waits = "task=counted_waits queue=counted";
    until(|| recorder.of("qtasks_tasks_ended_total", &format!("{waits} status=cancelled")).0 == 1.0).await;

    // Taken away from its worker, and given to it again.
    let task = counted_waits::add_task().on(&app).await.unwrap();
    until(|| recorder.of("qtasks_running", waits).0 == 1.0).await;
    let record = task.record().await.unwrap();
    LOSES.store(false, Ordering::SeqCst);
    raw.release(vec![Lease { id: record.id, epoch: record.epoch }]).await.unwrap();
    task.wait().await.unwrap();
    until(|| recorder.of("qtasks_running", waits).1.len() == 4).await;
    assert_eq!(recorder.of("qtasks_leases_lost_total", waits).0, 1.0);
    assert_eq!(task.status().await.unwrap(), Status::Completed);

    app.store().cancel(TaskId::new(), "no such task".to_owned()).await.unwrap_err();
    assert!(recorder.of("qtasks_store_errors_total", "operation=cancel kind=not_found").0 >= 1.0);
    assert!(recorder.of("qtasks_append_duration_seconds", "").1.iter().all(|seconds| (0.0..60.0).contains(seconds)));
    let slots = recorder.of("qtasks_slots", "").1;
    app.shutdown().await.unwrap();
    let after = recorder.of("qtasks_slots", "").1;
    assert!(after[slots.len()..].contains(&-3.0), "the slots are gone");

    let recorded = recorder.0.lock().unwrap();
    let sorts: BTreeMap<_, BTreeSet<_>> = table().into_iter().map(|(name, sort)| (name, [sort].into())).collect();
    assert_eq!(recorded.sorts, sorts, "recorded, and documented");
    assert_eq!(recorded.units.keys().collect::<Vec<_>>(), sorts.keys().collect::<Vec<_>>(), "described");
    for (name, unit) in &recorded.units {
        let seconds = name.ends_with("_seconds");
        assert_eq!(*unit, Some(if seconds { Unit::Seconds } else { Unit::Count }), "{name}");
    }
}

#[tokio::test]
async fn a_repeated_add_is_counted_once() {
    let recorder = &*RECORDER;
    let app = Qtasks::builder().store("memory:").tasks([counted_fails::spec()]).open().await.unwrap();
    for _ in 0..3 {
        counted_fails::add_task().on(&app).queue("keyed").idempotency_key("k").await.unwrap();
    }
    assert_eq!(recorder.of("qtasks_tasks_added_total", "task=counted_fails queue=keyed").0, 1.0);
}
