//! What a claim of one task costs, however much else is in the file: a million more tasks that are queued, a million
//! before them that this worker can't run, a million that are delayed. The limit is the same claim with 10,000 tasks.
//!
//! Fewer than a million are taken where the environment says so: `QTASKS_BENCH_TASKS=100000`.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qtasks::store::sqlite::Durability;
use qtasks::store::{Claim, Due, NewTask, Offer, SqliteStore, Store};
use qtasks::{Clock, Json, TaskId};

use super::Scratch;
use crate::on_a_runtime;
use crate::table::{Aim, Table, median, percentile, rounds};

/// Those that the worker can run: more than all rounds take.
const FEW: u64 = 10_000;
const CLAIMS: u64 = 1_000;
const BATCH: u64 = 1_000;

struct File {
    store: Arc<SqliteStore>,
    claims: u64,
    _file: Scratch,
}

impl File {
    fn new() -> Self {
        let file = Scratch::new();
        let store = SqliteStore::new(file.path(), Durability::Fast, Clock::system()).expect("the file opens");
        File { store, claims: 0, _file: file }
    }

    fn add(self, tasks: u64, name: &str, due: Due) -> Self {
        let task = |n: u64| NewTask {
            id: TaskId::new(),
            name: name.to_owned(),
            queue: "default".to_owned(),
            priority: 0,
            args: Json::of(&[n]).expect("it is JSON"),
            tags: Vec::new(),
            due,
            expires: None,
            held: false,
            unique: None,
            replace: false,
            idempotency_key: None,
            retry_of: None,
            parent: None,
            retry: None,
            time_limit: None,
            idle_limit: None,
            retention: None,
            trace: None,
        };
        for first in (0..tasks).step_by(BATCH as usize) {
            let batch: Vec<NewTask> = (first..tasks.min(first + BATCH)).map(task).collect();
            let store = Arc::clone(&self.store);
            on_a_runtime(async move { store.add(batch).await }).expect("they are added");
        }
        self
    }

    /// The 99th percentile, in microseconds. The median goes to the others.
    fn claims(&mut self, p50: &RefCell<Vec<f64>>) -> f64 {
        let (store, first) = (Arc::clone(&self.store), self.claims);
        self.claims += CLAIMS;
        let took = on_a_runtime(async move {
            let offers: Arc<[Offer]> =
                [Offer { queue: "default".to_owned(), name: "known".to_owned(), allowance: u32::MAX }].into();
            let mut took = Vec::new();
            for token in first..first + CLAIMS {
                let (worker, lease) = ("worker".to_owned(), Duration::from_secs(600));
                let claim = Claim { worker, token, offers: Arc::clone(&offers), max: 1, lease, limits: Arc::default() };
                let start = Instant::now();
                let claimed = store.claim(claim).await.expect("it answers");
                took.push(start.elapsed().as_secs_f64() * 1e6);
                assert_eq!(claimed.tasks.len(), 1);
            }
            took
        });
        p50.borrow_mut().push(percentile(&took, 50));
        percentile(&took, 99)
    }
}

pub(crate) fn run(table: &mut Table) {
    let many = std::env::var("QTASKS_BENCH_TASKS").ok();
    let many = many.map_or(1_000_000, |n| n.parse().expect("QTASKS_BENCH_TASKS is a number"));
    let later = Due::In(Duration::from_secs(3600));
    let rows = [
        ("sqlite: claim, p99, of many queued", "known", Due::Now),
        ("sqlite: claim, p99, behind many of others", "unknown", Due::Now),
        ("sqlite: claim, p99, behind many delayed", "known", later),
    ];
    for (what, name, due) in rows {
        let mut full = File::new().add(many, name, due).add(FEW, "known", Due::Now);
        let mut small = File::new().add(FEW, "known", Due::Now);
        let (ours50, limit50) = (RefCell::default(), RefCell::default());
        let both = rounds(what, || full.claims(&ours50), || small.claims(&limit50));
        let (ours, limit) = (median(&ours50.borrow()), median(&limit50.borrow()));
        let note = format!("{many} against {FEW}; p50 {ours:.0} us, of the limit {limit:.0} us");
        table.ratio(what, "us", &both, Aim::AtMost(3.0), note);
    }
}
