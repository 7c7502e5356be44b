//! Workers in processes of their own, whose wall clocks a test moves by libfaketime: leases, schedules and retention go
//! on by the time that the store keeps.
//!
//! The boot-time clock and the timers of a process are left alone, as they are when the wall clock of a real machine
//! jumps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use qtasks::store::sqlite::Durability;
use qtasks::store::{List, SqliteStore, Store};
use qtasks::{Clock, Qtasks, Status, TaskId, TaskRecord};
use serde_json::json;

use super::crash::dice::Dice;
use super::crash::history::{self, Kind, Log, Task};
use super::crash::orders::{LEASE, Orders, Role, SCAN};
use super::crash::process::Process;
use super::{scratch, soon, until_async};

const DAY: i64 = 86_400;
const HALF_A_DAY: Duration = Duration::from_secs(43_200);
/// How long the wall clock of a machine is wrong.
const WRONG: Duration = Duration::from_secs(3);
/// In this time a worker extends its leases and sweeps.
const BEATS: Duration = Duration::from_millis(900);

/// The library that stands between a process and the wall clock.
fn library() -> PathBuf {
    let places = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"];
    let below = |dir: &str| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders = places.iter().flat_map(|dir| below(dir).chain([PathBuf::from(dir)]));
    let mut found = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists()).expect("libfaketime, of the Debian package `faketime`")
}

/// The wall clock of some processes.
#[derive(Clone)]
struct Wall(PathBuf);

impl Wall {
    fn new(dir: &Path, name: &str) -> Self {
        let wall = Wall(dir.join(format!("{name}.wall")));
        wall.set(0);
        wall
    }

    /// Puts it so many seconds ahead of the wall clock of the machine.
    fn set(&self, ahead: i64) {
        // At once: a process reads the file whenever it asks for the time.
        let new = self.0.with_extension("new");
        std::fs::write(&new, format!("{ahead:+}\n")).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let one = || "1".to_owned();
        vec![
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.display().to_string()),
            ("FAKETIME_NO_CACHE", one()),
            // By version of the library.
            ("FAKETIME_DONT_FAKE_MONOTONIC", one()),
            ("DONT_FAKE_MONOTONIC", one()),
            ("NO_FAKE_STAT", one()),
        ]
    }
}

/// A store in a file, with workers of which each has a wall clock.
struct Place {
    dir: PathBuf,
    /// Opened without a keeper: nobody but the workers says what time it is.
    store: Arc<dyn Store>,
    tasks: Vec<(Task, TaskId)>,
}

impl Place {
    /// One with something to do: the names of task functions, and how many values each.
    async fn new(work: &[(&'static str, u64)], every: Option<Duration>) -> Self {
        let dir = scratch();
        let path = dir.join("store.db");
        let app = Qtasks::builder().store(format!("sqlite:{}", path.display())).tasks([]).open().await.unwrap();
        let mut tasks = Vec::new();
        for ((name, n), number) in work.iter().zip(1..) {
            let seed = u64::from(number) * 7;
            let added = app.add_task(*name, json!({ "task": number, "n": n, "seed": seed })).unchecked().await;
            tasks.push((Task::new(number, name, *n, seed), added.unwrap().id()));
        }
        if let Some(every) = every {
            let task = app.add_task("plain", json!({ "task": 99, "n": 1, "seed": 1 })).unchecked();
            app.schedule("ticks", task).every(every).await.unwrap();
        }
        app.shutdown().await.unwrap();
        drop(app);
        let store = SqliteStore::new(path, Durability::Fast, Clock::system()).unwrap();
        Place { dir, store, tasks }
    }

    fn worker(&self, name: &str, wall: &Wall) -> Process {
        let orders = Orders {
            role: Role::Work,
            url: format!("sqlite:{}", self.dir.join("store.db").display()),
            dir: self.dir.clone(),
            name: name.to_owned(),
            concurrency: 2,
            crashes_max: 100,
            fault: None,
            broken: None,
        };
        Process::start_in(&orders, &wall.environment())
    }

    async fn records(&self) -> Vec<TaskRecord> {
        let ids = self.tasks.iter().map(|(_, id)| *id).collect();
        self.store.get(ids).await.unwrap().into_iter().map(Option::unwrap).collect()
    }

    /// Waits until all tasks have ended. Says which did not.
    async fn ended(&self) {
        let since = Instant::now();
        loop {
            let open = self.records().await.into_iter().filter(|r| !r.status.is_ended()).collect::<Vec<_>>();
            if open.is_empty() {
                return;
            }
            let told = || open.iter().map(|r| (&r.name, r.status, r.attempt)).collect::<Vec<_>>();
            assert!(since.elapsed() < soon(), "after {:?} there are {:?}", since.elapsed(), told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asserts that every log is that of a task which nobody disturbed.
    async fn check(&self) {
        for (task, id) in &self.tasks {
            let log = history::dump(&*self.store, *id).await;
            assert_eq!(log.status, Status::Completed, "{}", task.name);
            let values = task.values.as_ref().expect("every attempt yields the same");
            assert_eq!(&values_of(&log), values, "{} {}", task.name, task.number);
            let places: Vec<u64> = log.events.iter().map(|event| event.seq).collect();
            assert_eq!(places, (1..=log.tail).collect::<Vec<_>>(), "{} {}", task.name, task.number);
        }
    }

    /// How a worker's own wall clock differed from ours with what it said last. Nobody is tested by a clock that does
    /// not jump.
    async fn says_so(&self, worker: &str, ahead: i64) {
        until_async(async || {
            let last = history::witnesses(&self.dir).remove(worker).and_then(|lines| lines.last().map(|line| line.0));
            let wall = super::crash::witness::now().cast_signed() + ahead * 1_000_000;
            last.is_some_and(|at| (at.cast_signed() - wall).abs() < 60_000_000)
        })
        .await;
    }

    /// The runs of the schedule that have ended, by when.
    async fn runs(&self) -> Vec<SystemTime> {
        let list =
            List { name: Some("plain".to_owned()), status: vec![Status::Completed], limit: 999, ..List::default() };
        self.store.list(list).await.unwrap().tasks.iter().filter_map(|run| run.completed_at).collect()
    }
}

fn values_of(log: &Log) -> Vec<(u64, u64)> {
    let mut values = Vec::new();
    for event in &log.events {
        match event.kind {
            Kind::Yield { index, hash, value } => {
                assert_eq!(index, values.len() as u64, "{}", log.id);
                values.push((hash, value));
            }
            Kind::Rewind { to } => values.truncate(usize::try_from(to).unwrap()),
            _ => {}
        }
    }
    values
}

async fn dies(ahead: i64, back: bool) {
    let place = Place::new(&[("slow", 300)], None).await;
    let wall = Wall::new(&place.dir, "machine");
    let mut dead = place.worker("dead", &wall);
    assert!(dead.claims().await);
    // It extends its lease by a clock that is ahead; by one that is behind it no longer can.
    if ahead < 0 {
        dead.kill().await;
    }
    wall.set(ahead);
    if ahead > 0 {
        place.says_so("dead", ahead).await;
        tokio::time::sleep(BEATS).await;
        dead.kill().await;
    }
    let mut other = place.worker("other", &wall);
    tokio::time::sleep(WRONG).await;
    if back {
        wall.set(0);
    }
    place.ended().await;
    place.check().await;
    let record = &place.records().await[0];
    assert_eq!((record.attempt, record.crashes), (2, 0), "{ahead} s");
    other.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_while_the_wall_clock_is_a_day_off_is_noticed() {
    tokio::join!(dies(DAY, true), dies(DAY, false), dies(-DAY, true), dies(-DAY, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_goes_on_after_the_wall_clock_went_a_day_back() {
    let place = Place::new(&[], Some(Duration::from_secs(1))).await;
    let wall = Wall::new(&place.dir, "machine");
    let mut worker = place.worker("worker", &wall);
    until_async(async || place.runs().await.len() >= 2).await;
    wall.set(-DAY);
    until_async(async || {
        let runs = place.runs().await;
        runs.iter().filter(|at| **at < SystemTime::now() - HALF_A_DAY).count() >= 3
    })
    .await;
    worker.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_goes_on_after_the_wall_clock_was_a_day_ahead() {
    let place = Place::new(&[], Some(Duration::from_secs(1))).await;
    let wall = Wall::new(&place.dir, "machine");
    let mut worker = place.worker("worker", &wall);
    wall.set(DAY);
    let ahead = |at: &SystemTime| *at > SystemTime::now() + HALF_A_DAY;
    until_async(async || place.runs().await.iter().any(ahead)).await;
    wall.set(0);
    let since = SystemTime::now();
    until_async(async || {
        let runs = place.runs().await;
        runs.iter().filter(|at| **at > since && !ahead(at)).count() >= 3
    })
    .await;
    worker.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_kept_while_the_wall_clock_is_eight_days_ahead() {
    let place = Place::new(&[("steady", 10), ("slow", 600)], None).await;
    let wall = Wall::new(&place.dir, "machine");
    let mut worker = place.worker("worker", &wall);
    until_async(async || place.records().await[0].status == Status::Completed).await;
    wall.set(8 * DAY);
    place.says_so("worker", 8 * DAY).await;
    tokio::time::sleep(WRONG).await;
    // Another process that begins just now, whose sweeps come first.
    let mut other = place.worker("other", &wall);
    tokio::time::sleep(BEATS).await;
    wall.set(0);
    place.ended().await;
    place.check().await;
    worker.kill().await;
    other.kill().await;
}

async fn one_off(ahead: i64) {
    let place = Place::new(&[("slow", 100); 16], None).await;
    let (right, wrong) = (Wall::new(&place.dir, "right"), Wall::new(&place.dir, "wrong"));
    wrong.set(ahead);
    let mut workers = [place.worker("one", &right), place.worker("two", &right)];
    assert!(workers[0].claims().await);
    let mut off = place.worker("off", &wrong);
    assert!(off.claims().await);
    place.says_so("off", ahead).await;
    place.ended().await;
    place.check().await;
    // A worker that gets no processor for a second may lose one.
    let attempts: Vec<u32> = place.records().await.iter().map(|record| record.attempt).collect();
    assert!(attempts.iter().all(|attempt| *attempt <= 3), "{ahead} s: {attempts:?} attempts");
    for worker in workers.iter_mut().chain([&mut off]) {
        worker.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_whose_wall_clock_is_a_day_off_disturbs_nobody() {
    tokio::join!(one_off(DAY), one_off(-DAY));
}

/// How far wall clocks jump, in seconds.
const JUMPS: [i64; 14] = [0, 1, -1, 2, -3, 30, -45, 600, -3_600, 7_200, DAY, -DAY, 8 * DAY, -365 * DAY];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_ends_and_no_log_differs_while_wall_clocks_jump_at_random() {
    let seed = std::env::var("QTASKS_CRASH_SEED").map_or_else(|_| super::crash::witness::now(), |s| s.parse().unwrap());
    println!("the jumps of QTASKS_CRASH_SEED={seed}");
    let mut dice = Dice::new(seed);
    let sorts = ["slow", "slow", "slow", "noted", "resumed", "restarted", "failing", "steady_sync"];
    let work: Vec<_> = (0..72).map(|i| (sorts[i % sorts.len()], dice.between(100, 250))).collect();
    let place = Place::new(&work, None).await;
    let walls = ["a", "b", "c"].map(|name| Wall::new(&place.dir, name));
    let mut workers: Vec<Process> =
        walls.iter().enumerate().map(|(i, wall)| place.worker(&format!("worker-{i}"), wall)).collect();
    let open = async || place.records().await.iter().filter(|record| !record.status.is_ended()).count();
    let mut jump = 0;
    // The last jump comes while all slots are taken, and all else is done.
    while open().await > workers.len() * 2 {
        assert!(jump < 500, "seed {seed}: {} tasks are left", open().await);
        jump += 1;
        tokio::time::sleep(Duration::from_millis(dice.between(100, 1_200))).await;
        let ahead = *dice.one_of(&JUMPS);
        match dice.between(0, 1) {
            0 => walls.iter().for_each(|wall| wall.set(ahead)),
            _ => dice.one_of(&walls).set(ahead),
        }
        if jump % 5 == 0 {
            let i = jump % workers.len();
            workers[i].kill().await;
            workers[i] = place.worker(&format!("worker-{i}-{jump}"), &walls[i]);
        }
    }
    let since = Instant::now();
    place.ended().await;
    let allowed = LEASE + SCAN + Duration::from_secs(5);
    println!("after {jump} jumps the last tasks ended within {:?}; {allowed:?} are promised", since.elapsed());
    place.check().await;
    let attempts: Vec<u32> = place.records().await.iter().map(|record| record.attempt - record.failures).collect();
    assert!(attempts.iter().all(|attempt| *attempt <= 12), "seed {seed}: {attempts:?} attempts");
    for worker in &mut workers {
        worker.kill().await;
    }
}
