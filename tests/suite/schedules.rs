//! Tasks that are added by themselves: one run per instant, whoever works, and whatever happens in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qtasks::prelude::*;
use qtasks::store::sqlite::Durability;
use qtasks::store::{List, MemoryStore, SqliteStore};
use qtasks::{CatchUp, Clock, ErrorKind, ScheduleHandle, Status, Store, TaskRecord, TaskSpec};

use crate::{scratch, soon, until_async};

const SECOND: Duration = Duration::from_secs(1);

#[task]
async fn tick(n: u32) -> u32 {
    n
}

/// Ends when it is told to.
#[task]
async fn slow(gate: State<Arc<tokio::sync::Semaphore>>) {
    gate.acquire().await.unwrap().forget();
}

/// An app that looks often: the clock of its store is moved by hand.
async fn app_on(store: Arc<dyn Store>, specs: impl IntoIterator<Item = &'static TaskSpec>) -> Qtasks {
    let app = Qtasks::builder().with_store(store).tasks(specs).scan(Duration::from_millis(5));
    app.state(Arc::new(tokio::sync::Semaphore::new(0))).start().await.unwrap()
}

async fn memory_app(clock: &Clock) -> Qtasks {
    app_on(MemoryStore::new(clock.clone()), [tick::spec()]).await
}

fn open_file(folder: &std::path::Path, clock: &Clock) -> Arc<dyn Store> {
    SqliteStore::new(folder.join("q.db"), Durability::Fast, clock.clone()).unwrap()
}

/// The runs of a schedule, the earliest first.
async fn runs(app: &Qtasks, name: &str) -> Vec<TaskRecord> {
    let list = List { tag: Some(format!("schedule:{name}")), limit: 1000, ..List::default() };
    let mut tasks = app.list(list).await.unwrap().tasks;
    tasks.retain(|task| task.started_at.is_some());
    tasks.sort_by_key(due);
    tasks
}

/// When a run was due.
fn due(task: &TaskRecord) -> SystemTime {
    let due = task.tags.iter().find_map(|tag| tag.strip_prefix("due:")).unwrap();
    humantime::parse_rfc3339(due).unwrap()
}

/// The clock goes to the next run of a schedule, and that starts.
async fn next_run(clock: &Clock, schedule: &ScheduleHandle) -> SystemTime {
    let before = schedule.record().await.unwrap();
    let next = before.next.expect("it goes on");
    clock.advance(next.duration_since(clock.now()).unwrap_or_default());
    until_async(async || schedule.record().await.unwrap().runs > before.runs).await;
    next
}

#[tokio::test]
async fn a_schedule_runs_at_each_instant_until_it_has_repeated_itself() {
    let clock = Clock::manual();
    let app = memory_app(&clock).await;
    let schedule = app.schedule("ticks", tick::add_task(7).priority(3).tag("x")).every(30 * SECOND).repeats(4);
    let schedule = schedule.await.unwrap();
    let mut expected = Vec::new();
    for _ in 0..4 {
        expected.push(next_run(&clock, &schedule).await);
    }
    let after = schedule.record().await.unwrap();
    assert_eq!((after.next, after.runs, after.last), (None, 4, expected.last().copied()));
    let runs = runs(&app, "ticks").await;
    assert_eq!(runs.iter().map(due).collect::<Vec<_>>(), expected);
    assert!(expected.windows(2).all(|pair| pair[1] == pair[0] + 30 * SECOND));
    let millis = expected[0].duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    assert_eq!(millis % 30_000, 0, "at full and half minutes");
    for run in runs {
        assert_eq!(
            (run.priority, run.args.as_str(), &run.tags[..2]),
            (3, "{\"n\":7}", &["x".to_owned(), "schedule:ticks".to_owned()][..])
        );
    }
    // Stored again, it is over all the same: a program does so each time it starts.
    app.schedule("ticks", tick::add_task(7).priority(3).tag("x")).every(30 * SECOND).repeats(4).await.unwrap();
    assert_eq!(schedule.record().await.unwrap().next, None);
    app.shutdown().await.unwrap();
}

/// Three workers on one store: each instant has one run.
async fn three_workers(clock: Clock, stores: [Arc<dyn Store>; 3]) {
    let mut apps = Vec::new();
    for store in stores {
        apps.push(app_on(store, [tick::spec()]).await);
    }
    let all = CatchUp::All { max: 1000 };
    for app in &apps {
        app.schedule("all", tick::add_task(1)).every(SECOND).catch_up(all).await.unwrap();
    }
    let schedule = apps[0].schedule_handle("all");
    let mut expected = BTreeSet::new();
    for _ in 0..20 {
        expected.insert(next_run(&clock, &schedule).await);
    }
    // And what is due together is done one after the other.
    clock.advance(10 * SECOND);
    until_async(async || schedule.record().await.unwrap().runs == 30).await;
    let last = *expected.last().unwrap();
    expected.extend((1..=10).map(|n| last + n * SECOND));
    let found: Vec<SystemTime> = runs(&apps[0], "all").await.iter().map(due).collect();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    for app in apps {
        app.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_on_one_memory_run_each_instant_once() {
    let clock = Clock::manual();
    let store: Arc<dyn Store> = MemoryStore::new(clock.clone());
    three_workers(clock, std::array::from_fn(|_| Arc::clone(&store))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_workers_on_one_file_run_each_instant_once() {
    let (clock, folder) = (Clock::manual(), scratch());
    let stores = std::array::from_fn(|_| open_file(&folder, &clock));
    three_workers(clock, stores).await;
}

#[tokio::test]
async fn a_schedule_goes_on_when_its_file_is_opened_again() {
    let (clock, folder) = (Clock::manual(), scratch());
    let open = || open_file(&folder, &clock);
    let mut expected = Vec::new();
    for policy in [CatchUp::One, CatchUp::Skip, CatchUp::All { max: 3 }] {
        let app = app_on(open(), [tick::spec()]).await;
        let schedule = app.schedule("kept", tick::add_task(1)).every(60 * SECOND).catch_up(policy).await.unwrap();
        for _ in 0..2 {
            expected.push(next_run(&clock, &schedule).await);
        }
        until_async(async || schedule.record().await.unwrap().next > expected.last().copied()).await;
        let next = schedule.record().await.unwrap().next.unwrap();
        app.shutdown().await.unwrap();

        // Nobody is there for five instants, and a half.
        clock.advance(next.duration_since(clock.now()).unwrap() + 4 * 60 * SECOND + 30 * SECOND);
        let app = app_on(open(), [tick::spec()]).await;
        let schedule = app.schedule_handle("kept");
        match policy {
            CatchUp::Skip => {}
            CatchUp::One => expected.push(next),
            // The first of them was stored before they were gone.
            CatchUp::All { .. } => expected.extend([0, 2, 3, 4].map(|n| next + n * 60 * SECOND)),
        }
        until_async(async || schedule.record().await.unwrap().next == Some(next + 5 * 60 * SECOND)).await;
        expected.push(next_run(&clock, &schedule).await);
        let found: Vec<SystemTime> = runs(&app, "kept").await.iter().map(due).collect();
        assert_eq!(found, expected, "{policy:?}");
        app.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_paused_schedule_runs_nothing_and_a_removed_one_is_gone() {
    let clock = Clock::manual();
    let app = memory_app(&clock).await;
    let schedule = app.schedule("p", tick::add_task(1)).cron("0 * * * *").timezone("Europe/Berlin").await.unwrap();
    let first = next_run(&clock, &schedule).await;
    schedule.pause().await.unwrap();
    let paused = schedule.record().await.unwrap();
    assert!(paused.paused && paused.next.is_none() && paused.when == "cron 0 * * * * (Europe/Berlin)");
    clock.advance(3 * 3600 * SECOND);
    app.add_task("tick", [9]).timeout(soon()).await.unwrap();
    assert_eq!(runs(&app, "p").await.len(), 1);
    // Stored again, it stays paused.
    app.schedule("p", tick::add_task(2)).cron("0 * * * *").timezone("Europe/Berlin").await.unwrap();
    assert!(schedule.record().await.unwrap().paused);
    schedule.resume().await.unwrap();
    assert_eq!(schedule.record().await.unwrap().next, Some(first + 4 * 3600 * SECOND));
    next_run(&clock, &schedule).await;
    assert_eq!(runs(&app, "p").await.last().unwrap().args.as_str(), "{\"n\":2}");

    schedule.remove().await.unwrap();
    assert_eq!(schedule.record().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(app.schedules().await.unwrap().is_empty());
    clock.advance(2 * 3600 * SECOND);
    app.add_task("tick", [9]).timeout(soon()).await.unwrap();
    assert_eq!(runs(&app, "p").await.len(), 2);
    let left =
        app.list(List { status: vec![Status::Delayed, Status::Queued, Status::Held], limit: 9, ..List::default() });
    assert_eq!(left.await.unwrap().tasks, []);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_clock_of_the_store_decides_not_that_of_the_process() {
    let clock = Clock::manual();
    clock.advance(1000 * 3600 * SECOND);
    let app = memory_app(&clock).await;
    let schedule = app.schedule("s", tick::add_task(1)).every(3600 * SECOND).await.unwrap();
    let next = schedule.record().await.unwrap().next.unwrap();
    assert!(next > clock.now() && next <= clock.now() + 3600 * SECOND);
    assert_eq!(next_run(&clock, &schedule).await, next);
    assert_eq!(runs(&app, "s").await.len(), 1);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_schedule_without_overlap_waits_for_the_end_of_its_run() {
    let clock = Clock::manual();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let app = Qtasks::builder().with_store(MemoryStore::new(clock.clone())).tasks([slow::spec(), tick::spec()]);
    let app = app.state(Arc::clone(&gate)).scan(Duration::from_millis(5)).start().await.unwrap();
    let schedule = app.schedule("slow", slow::add_task()).every(SECOND).overlap(false).await.unwrap();
    let first = schedule.record().await.unwrap().next.unwrap();
    clock.advance(first.duration_since(clock.now()).unwrap());
    until_async(async || !runs(&app, "slow").await.is_empty()).await;
    let other = app.schedule("other", tick::add_task(1)).every(SECOND).await.unwrap();
    for _ in 0..5 {
        next_run(&clock, &other).await;
    }
    assert_eq!(runs(&app, "slow").await.len(), 1);
    gate.add_permits(1);
    until_async(async || schedule.record().await.unwrap().next == Some(first + 6 * SECOND)).await;
    gate.add_permits(1);
    next_run(&clock, &schedule).await;
    assert_eq!(runs(&app, "slow").await.len(), 2);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_single_run_comes_once_and_at_once_if_it_is_late() {
    let clock = Clock::manual();
    let app = memory_app(&clock).await;
    let at = clock.now() + 3600 * SECOND;
    let later = app.schedule("later", tick::add_task(1)).once(at).await.unwrap();
    let late = app.schedule("late", tick::add_task(2)).once(clock.now() - SECOND).await.unwrap();
    until_async(async || late.record().await.unwrap().runs == 1).await;
    assert_eq!(runs(&app, "later").await.len(), 0);
    next_run(&clock, &later).await;
    app.schedule("late", tick::add_task(2)).once(clock.now() - 3601 * SECOND).await.unwrap();
    assert_eq!(late.record().await.unwrap().next, None);
    assert_eq!((runs(&app, "later").await.len(), runs(&app, "late").await.len()), (1, 1));
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_can_not_be_scheduled_is_told() {
    let clock = Clock::manual();
    let app = memory_app(&clock).await;
    let day = 24 * 3600 * SECOND;
    let wrong = [
        (app.schedule("a b", tick::add_task(1)).every(day), "contains ' '"),
        (app.schedule("n".repeat(97), tick::add_task(1)).every(day), "at most 96"),
        (app.schedule("a", tick::add_task(1)), "does not say when"),
        (app.schedule("a", tick::add_task(1)).every(day).cron("0 0 * * *"), "by one of"),
        (app.schedule("a", tick::add_task(1)).every(day).timezone("UTC"), "goes with `.cron`"),
        (app.schedule("a", tick::add_task(1)).every(Duration::ZERO), "too often"),
        (app.schedule("a", tick::add_task(1)).every(day).repeats(0), "at least 1"),
        (app.schedule("a", tick::add_task(1)).cron("0 25 * * *"), "not a cron expression"),
        (app.schedule("a", tick::add_task(1)).cron("0 2 * * *").timezone("Mars/Base"), "not a time zone"),
        (app.schedule("a", tick::add_task(1)).cron("0 2 30 2 *"), "never comes"),
        (app.schedule("a", tick::add_task(1).delay(day)).every(day), "sets `.delay` or `.at`"),
        (app.schedule("a", tick::add_task(1).unique("k")).every(day), "sets `.unique`"),
    ];
    for (schedule, message) in wrong {
        let error = schedule.await.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(message), "{message}: {error}");
    }
    assert!(app.schedules().await.unwrap().is_empty());
    app.shutdown().await.unwrap();
}

fn get_employees() -> [&'static str; 2] {
    ["ada@example.org", "grace@example.org"]
}

async fn log_notification(msg: String) -> String {
    msg
}

/// The seed's, by its attribute.
#[task(every = "1s", generate_handler = log_notification)]
fn send_notifications() -> String {
    for employee in get_employees() {
        yield_!(format!("notified {employee}"));
    }
}

#[tokio::test]
async fn the_seeds_notifications_go_out_every_second() {
    let clock = Clock::manual();
    let store: Arc<dyn Store> = MemoryStore::new(clock.clone());
    let app = app_on(Arc::clone(&store), [send_notifications::spec()]).await;
    let schedule = app.schedule_handle("send_notifications");
    assert_eq!(schedule.record().await.unwrap().when, "every 1s");
    for _ in 0..3 {
        let at = next_run(&clock, &schedule).await;
        let run = runs(&app, "send_notifications").await.pop().unwrap();
        assert_eq!(due(&run), at);
        let handle = TaskHandle::<send_notifications>::attach(&app, run.id).await.unwrap();
        let task = handle.wait().await.unwrap();
        assert_eq!(task.returning, ["notified ada@example.org", "notified grace@example.org"]);
    }
    app.shutdown().await.unwrap();

    // A program that no longer declares it takes it out; one that does not know the task leaves it.
    #[task(name = "send_notifications")]
    async fn not_by_itself() {}
    let app = app_on(Arc::clone(&store), [tick::spec()]).await;
    assert_eq!(app.schedules().await.unwrap().len(), 1);
    app.shutdown().await.unwrap();
    let app = app_on(store, [not_by_itself::spec()]).await;
    assert!(app.schedules().await.unwrap().is_empty());
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wrong_attribute_is_told_when_a_worker_starts() {
    #[task(cron = "0 9 * * Mon-Fri", timezone = "Europe/Berlim")]
    async fn misspelt() {}
    let app = Qtasks::builder().store("memory:").tasks([misspelt::spec()]).start().await;
    let error = app.unwrap_err().to_string();
    assert!(error.contains("`misspelt` (") && error.contains("schedules.rs:"), "{error}");
    assert!(error.contains("\"Europe/Berlim\" is not a time zone"), "{error}");
}
