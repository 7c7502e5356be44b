//! Stores on a machine whose wall clock jumps.

use std::path::PathBuf;

use super::sqlite::Durability;
use super::*;
use crate::clock::{Clock, Simulated};
use crate::event::DraftBuilder;
use crate::task::TaskFailure;

const LEASE: Duration = Duration::from_secs(10);
const SWEEP: Sweep = Sweep { max: 100, lease: LEASE, heartbeat: Duration::from_secs(3), crashes_max: 3 };
const SECOND: i64 = 1_000;
const DAY: i64 = 86_400 * SECOND;
const WEEK_MAX: Prune = Prune { age: Duration::from_secs(7 * 86_400), ended_max: None, bytes_max: None, max: 100 };

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        File(std::env::temp_dir().join(format!("qtasks-clocks-{}.db", uuid::Uuid::now_v7())))
    }

    fn open(&self, clock: Clock) -> Arc<dyn Store> {
        SqliteStore::new(&self.0, Durability::Fast, clock).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-turn"] {
            let mut name = self.0.clone().into_os_string();
            name.push(end);
            let _ = std::fs::remove_file(name);
        }
    }
}

/// One store of each sort, on a machine of its own.
fn each(test: &impl AsyncFn(&Simulated, &dyn Store)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let machine = Simulated::new();
    runtime.block_on(test(&machine, &*MemoryStore::new(machine.clock())));
    let (machine, file) = (Simulated::new(), File::new());
    runtime.block_on(test(&machine, &*file.open(machine.clock())));
}

fn new(due: Due) -> NewTask {
    NewTask {
        id: TaskId::new(),
        name: "a".to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        args: Json::of(&0).unwrap(),
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
    }
}

async fn add(store: &dyn Store, task: NewTask) -> TaskId {
    store.add(vec![task]).await.unwrap()[0].id
}

async fn claim(store: &dyn Store) -> Option<Lease> {
    let offer = Offer { queue: "default".to_owned(), name: "a".to_owned(), allowance: 9 };
    let token = uuid::Uuid::now_v7().as_u64_pair().1;
    let claim =
        Claim { worker: "w".to_owned(), token, offers: [offer].into(), max: 1, lease: LEASE, limits: [].into() };
    let claimed = store.claim(claim).await.unwrap();
    claimed.tasks.first().map(|task| Lease { id: task.record.id, epoch: task.record.epoch })
}

async fn end(store: &dyn Store, lease: Lease, outcome: Outcome) {
    let events = Draft::one(|d: &mut DraftBuilder| match outcome {
        Outcome::Retry(wait) => d.retry(0, &TaskFailure::new(crate::task::FailureKind::Error, "no"), wait),
        _ => d.completed(0, b"null"),
    });
    let Lease { id, epoch } = lease;
    let append = Append { id, epoch, after_seq: 0, events, outcome, checkpoint: None, removes: Vec::new() };
    assert!(matches!(store.append(vec![append]).await.unwrap()[0], Appended::Stored { .. }));
}

async fn record(store: &dyn Store, id: TaskId) -> TaskRecord {
    store.get(vec![id]).await.unwrap().remove(0).unwrap()
}

async fn has_log(store: &dyn Store, id: TaskId) -> bool {
    store.read(Read { id, from_seq: 1, limit: 9, bytes_max: usize::MAX, what: What::Events }).await.is_ok()
}

/// How many seconds of sweeps it takes until a running task is queued again, with a wall clock that jumps before the
/// first and back after three, and how many of sweeps before.
async fn lost_after(machine: &Simulated, store: &dyn Store, jump: i64, back: bool) -> i64 {
    let id = add(store, new(Due::Now)).await;
    store.sweep(SWEEP).await.unwrap();
    claim(store).await.unwrap();
    machine.jump(jump);
    for second in 0..100 {
        if back && second == 3 {
            machine.jump(-jump);
        }
        store.sweep(SWEEP).await.unwrap();
        if record(store, id).await.status == Status::Queued {
            store.cancel(id, String::new()).await.unwrap();
            return second;
        }
        machine.pass(SECOND);
    }
    panic!("a jump by {jump} ms: still running after 100 s");
}

#[test]
fn a_lost_task_is_taken_when_its_lease_is_over_whatever_the_wall_clock_shows() {
    each(&async |machine, store| {
        for jump in [DAY, -DAY, 8 * DAY, 3_600 * SECOND, -30 * SECOND, 30 * SECOND] {
            assert_eq!(lost_after(machine, store, jump, true).await, 10, "{store:?}: {jump} ms and back");
            assert_eq!(lost_after(machine, store, jump, false).await, 10, "{store:?}: {jump} ms");
        }
    });
}

#[test]
fn a_worker_that_lives_loses_nothing_by_a_jump_that_lasts() {
    each(&async |machine, store| {
        for jump in [DAY, -DAY, 20 * SECOND, -20 * SECOND] {
            let id = add(store, new(Due::Now)).await;
            let lease = claim(store).await.unwrap();
            for second in 0..60 {
                if second == 5 {
                    machine.jump(jump);
                }
                if second % 3 == 0 {
                    let held = store.extend(vec![lease], LEASE).await.unwrap();
                    assert_eq!(held, [Extended::Held], "{store:?}: {jump} ms, {second} s");
                }
                store.sweep(SWEEP).await.unwrap();
                machine.pass(SECOND);
            }
            let ahead = to_wall(machine) - to_ms(store.now().unwrap()).cast_signed();
            assert!(ahead.abs() < 2, "{store:?}: the new time was adopted, and is {ahead} ms behind");
            assert_eq!(record(store, id).await.crashes, 0);
            end(store, lease, Outcome::Ended).await;
        }
    });
}

fn to_ms(at: SystemTime) -> u64 {
    crate::task::time::to_ms(at)
}

fn to_wall(machine: &Simulated) -> i64 {
    machine.reading().wall / 1_000
}

#[test]
fn retention_takes_nothing_by_a_clock_that_has_just_jumped() {
    each(&async |machine, store| {
        let id = add(store, new(Due::Now)).await;
        let own = add(store, NewTask { retention: Some(Duration::from_secs(3_600)), ..new(Due::Now) }).await;
        for _ in 0..2 {
            let lease = claim(store).await.unwrap();
            end(store, lease, Outcome::Ended).await;
        }
        let prune = async |seconds| {
            for _ in 0..seconds {
                machine.pass(SECOND);
                store.sweep(SWEEP).await.unwrap();
                store.prune(WEEK_MAX).await.unwrap();
                if !has_log(store, id).await || !has_log(store, own).await {
                    return false;
                }
            }
            true
        };
        assert!(prune(2).await);
        machine.jump(8 * DAY);
        assert!(prune(3).await, "{store:?}: 8 days for 3 s");
        machine.jump(-8 * DAY);
        assert!(prune(3).await);
        machine.jump(8 * DAY);
        assert!(prune(5 * 60).await, "{store:?}: 8 days for 5 minutes");
        assert!(!prune(60).await, "{store:?}: the new time is never believed");
    });
}

#[test]
fn what_waits_for_a_duration_waits_no_longer_by_a_jump_that_lasts() {
    each(&async |machine, store| {
        let retried = add(store, new(Due::Now)).await;
        let lease = claim(store).await.unwrap();
        end(store, lease, Outcome::Retry(Duration::from_secs(20))).await;
        let expires = NewTask { expires: Some(Duration::from_secs(30)), ..new(Due::Now) };
        let expiring = add(store, expires).await;
        let key = "a document".to_owned();
        let expires = Some(Duration::from_secs(40));
        store.doc_put(DocPut { key: key.clone(), if_version: None, bytes: Vec::new(), expires }).await.unwrap();
        machine.jump(-DAY);
        for second in 0..60 {
            store.sweep(SWEEP).await.unwrap();
            let queued = record(store, retried).await.status == Status::Queued;
            assert_eq!(queued, second >= 20, "{store:?} {second}");
            let expired = record(store, expiring).await.status == Status::Cancelled;
            assert_eq!(expired, second >= 30, "{store:?} {second}");
            let there = store.doc_get(key.clone()).await.unwrap().is_some();
            assert_eq!(there, second < 40, "{store:?} {second}");
            machine.pass(SECOND);
        }
    });
}

#[tokio::test]
async fn a_process_whose_clock_is_a_day_ahead_goes_on_by_the_time_of_the_file() {
    let (right, wrong, file) = (Simulated::new(), Simulated::new(), File::new());
    wrong.jump(right.reading().wall / 1_000 - wrong.reading().wall / 1_000 + DAY);
    let (a, b) = (file.open(right.clock()), file.open(wrong.clock()));
    let pass = |ms| {
        right.pass(ms);
        wrong.pass(ms);
    };
    a.sweep(SWEEP).await.unwrap();
    let id = add(&*b, new(Due::Now)).await;
    let lease = claim(&*b).await.unwrap();
    for second in 0..60 {
        if second % 3 == 0 {
            assert_eq!(b.extend(vec![lease], LEASE).await.unwrap(), [Extended::Held], "{second} s");
        }
        a.sweep(SWEEP).await.unwrap();
        b.sweep(SWEEP).await.unwrap();
        pass(SECOND);
    }
    assert_eq!(a.now(), b.now());
    assert_eq!(to_ms(a.now().unwrap()).cast_signed(), to_wall(&right));
    // It dies, and the other goes on.
    drop(b);
    let mut waited = 60 - 57;
    while record(&*a, id).await.status == Status::Running {
        a.sweep(SWEEP).await.unwrap();
        pass(SECOND);
        waited += 1;
    }
    assert_eq!(waited, 11, "the lease was over after 10 s, and found at the next sweep");
    // One that is opened by the wrong clock alone keeps the time of the file at first.
    drop(a);
    let b = file.open(wrong.clock());
    assert_eq!(to_ms(b.now().unwrap()).cast_signed(), to_wall(&right));
    for _ in 0..12 {
        b.sweep(SWEEP).await.unwrap();
        pass(SECOND);
    }
    assert_eq!(to_ms(b.now().unwrap()).cast_signed(), to_wall(&wrong));
}

#[tokio::test]
async fn after_a_reboot_the_time_of_a_file_is_that_of_the_wall_clock_and_retention_waits() {
    let (machine, file) = (Simulated::new(), File::new());
    let store = file.open(machine.clock());
    let id = add(&*store, new(Due::Now)).await;
    let lease = claim(&*store).await.unwrap();
    end(&*store, lease, Outcome::Ended).await;
    let running = add(&*store, new(Due::Now)).await;
    claim(&*store).await.unwrap();
    store.sweep(SWEEP).await.unwrap();
    drop(store);
    machine.reboot(60 * SECOND);
    machine.jump(8 * DAY);
    let store = file.open(machine.clock());
    for second in 0..300 {
        store.sweep(SWEEP).await.unwrap();
        store.prune(WEEK_MAX).await.unwrap();
        assert!(has_log(&*store, id).await, "taken {second} s after a reboot");
        machine.pass(SECOND);
    }
    assert_eq!(record(&*store, running).await.status, Status::Queued);
    store.prune(WEEK_MAX).await.unwrap();
    assert!(!has_log(&*store, id).await);
}

/// As an earlier version leaves it, whose clock is the wall clock.
#[tokio::test]
async fn a_lease_and_a_mark_of_a_clock_that_was_ahead_are_cut() {
    let (ahead, clock, file) = (Clock::manual(), Clock::manual(), File::new());
    ahead.advance(Duration::from_secs(86_400));
    let dead = file.open(ahead.clone());
    dead.sweep(SWEEP).await.unwrap();
    let id = add(&*dead, new(Due::Now)).await;
    claim(&*dead).await.unwrap();
    // A gap: leases are spared.
    ahead.advance(LEASE * 9);
    dead.extend(vec![Lease { id, epoch: record(&*dead, id).await.epoch }], LEASE).await.unwrap();
    dead.sweep(SWEEP).await.unwrap();
    drop(dead);
    let store = file.open(clock.clone());
    store.sweep(SWEEP).await.unwrap();
    for second in 0..9 {
        assert_eq!(record(&*store, id).await.status, Status::Running, "{second} s");
        clock.advance(Duration::from_secs(1));
        store.sweep(SWEEP).await.unwrap();
    }
    clock.advance(Duration::from_secs(2));
    store.sweep(SWEEP).await.unwrap();
    assert_eq!(record(&*store, id).await.status, Status::Queued);
}

#[tokio::test]
async fn a_lease_longer_than_the_sweepers_is_not_cut() {
    let (clock, file) = (Clock::manual(), File::new());
    let (slow, quick) = (file.open(clock.clone()), file.open(clock.clone()));
    let id = add(&*slow, new(Due::Now)).await;
    let lease = claim(&*slow).await.unwrap();
    slow.extend(vec![lease], LEASE * 100).await.unwrap();
    for _ in 0..999 {
        clock.advance(Duration::from_secs(1));
        quick.sweep(SWEEP).await.unwrap();
        assert_eq!(record(&*quick, id).await.status, Status::Running);
    }
    clock.advance(Duration::from_secs(1));
    quick.sweep(SWEEP).await.unwrap();
    assert_eq!(record(&*quick, id).await.status, Status::Queued);
}
