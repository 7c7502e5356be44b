//! The suite that every store must pass: one function per promise of [`Store`], each on a fresh store with a manual
//! clock.
//!
//! ```ignore
//! qtasks::store_conformance!(my_store, |clock| async move { Some(MyStore::temporary(clock).await) });
//! ```
//! expands to a module with one test per promise. `None` means that the server is not there: the test prints `SKIP`,
//! or fails if `QTASKS_REQUIRE_STORES` is set.

#![expect(clippy::unwrap_used, reason = "a suite of tests: a panic is a promise broken")]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;

use super::*;
use crate::clock::Clock;
use crate::event::{DraftBuilder, EventCode, EventKind};
use crate::task::{FailureKind, TaskFailure};

mod copying;

pub use copying::Copying;

/// Expands to one test per promise for a store: see [`conformance`](crate::store::conformance).
#[macro_export]
macro_rules! store_conformance {
    ($name:ident, $open:expr) => {
        $crate::store_conformance!(@each $name, $open;
            an_added_task_can_be_read_again,
            adding_again_adds_nothing,
            a_batch_with_a_conflict_adds_nothing,
            an_idempotency_key_is_used_once_under_100_adds,
            a_unique_key_holds_while_the_task_does,
            a_claimed_task_is_not_claimed_twice,
            the_most_urgent_task_comes_first,
            only_what_is_offered_is_claimed,
            an_allowance_is_kept,
            the_same_token_gives_the_same_tasks,
            a_delayed_task_waits,
            a_held_task_waits_for_start,
            an_expired_task_is_never_claimed,
            seqs_are_dense,
            a_repeated_append_changes_nothing,
            an_append_needs_its_epoch_and_its_place,
            a_refused_append_leaves_the_others,
            the_end_and_its_event_are_one_step,
            a_retry_comes_back_after_its_delay,
            a_lost_lease_comes_back_with_a_higher_epoch,
            too_many_crashes_fail_the_task,
            progress_forgives_crashes,
            a_gap_in_sweeping_takes_no_lease,
            extend_tells_what_became_of_a_lease,
            extend_saves_a_lease_that_ran_out,
            release_gives_back_without_counting,
            release_under_a_cancel_ends_the_task,
            cancel_in_every_status,
            a_retry_under_a_cancel_is_cancelled,
            the_first_reason_is_kept,
            rewinds_are_kept,
            a_claim_tells_where_to_go_on,
            reading_pages_through_a_log,
            hashes_are_those_that_hold,
            lists_page_through_what_matches,
            stats_count_by_queue_and_status,
            documents_are_compared_and_set,
            documents_expire,
            hints_come_for_what_interests,
            one_idle_worker_is_woken,
            a_worker_is_woken_only_for_what_it_serves,
            pruning_takes_the_log_then_the_row,
            pruning_keeps_the_newest,
            data_comes_back_byte_for_byte,
            many_claimers_share_without_overlap,
            the_clock_is_the_store_s_own,
        );
    };
    (@each $name:ident, $open:expr; $($case:ident,)*) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $case() {
                    let open = $open;
                    $crate::store::conformance::run(stringify!($name), open, $crate::store::conformance::$case).await;
                }
            )*
        }
    };
}

/// Runs one case on a store of its own.
///
/// # Panics
/// If the case fails; if there is no store although `QTASKS_REQUIRE_STORES` is set.
pub async fn run<O, C>(name: &str, open: impl FnOnce(Clock) -> O, case: impl FnOnce(Arc<dyn Store>, Clock) -> C)
where
    O: Future<Output = Option<Arc<dyn Store>>>,
    C: Future<Output = ()>,
{
    let clock = Clock::manual();
    match open(clock.clone()).await {
        Some(store) => tokio::time::timeout(Duration::from_secs(60), case(store, clock)).await.expect("it hangs"),
        None => {
            assert!(std::env::var_os("QTASKS_REQUIRE_STORES").is_none(), "the store `{name}` is not there");
            eprintln!("SKIP: the store `{name}` is not there");
        }
    }
}

const LEASE: Duration = Duration::from_secs(10);
const SWEEP: Sweep = Sweep { max: 100, lease: LEASE, heartbeat: Duration::from_secs(3), crashes_max: 3 };

fn new(name: &str) -> NewTask {
    NewTask {
        id: TaskId::new(),
        name: name.to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        args: Json::of(&serde_json::json!({ "n": 5 })).expect("JSON"),
        tags: Vec::new(),
        due: Due::Now,
        expires: None,
        held: false,
        unique: None,
        idempotency_key: None,
        retry_of: None,
        parent: None,
        retry: None,
        time_limit: None,
    }
}

async fn add(store: &dyn Store, task: NewTask) -> TaskId {
    store.add(vec![task]).await.expect("added")[0].id
}

fn claim(worker: &str, max: usize) -> Claim {
    static TOKEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let offer = |name: &str| Offer { queue: "default".into(), name: name.into(), allowance: u32::MAX };
    let token = TOKEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let offers = [offer("a"), offer("b")].into();
    Claim { worker: worker.to_owned(), token, offers, max, lease: LEASE }
}

async fn claim_one(store: &dyn Store) -> ClaimedTask {
    let mut claimed = store.claim(claim("w", 1)).await.expect("claimed");
    claimed.tasks.pop().expect("a task is ready")
}

async fn record(store: &dyn Store, id: TaskId) -> TaskRecord {
    store.get(vec![id]).await.expect("read").pop().flatten().expect("it is there")
}

fn lease(task: &ClaimedTask) -> Lease {
    Lease { id: task.record.id, epoch: task.record.epoch }
}

fn append(task: &ClaimedTask, after_seq: u64, outcome: Outcome, write: impl FnOnce(&mut DraftBuilder)) -> Append {
    let Lease { id, epoch } = lease(task);
    Append { id, epoch, after_seq, events: Draft::one(write), checkpoint: None, outcome }
}

async fn append_one(store: &dyn Store, append: Append) -> Appended {
    store.append(vec![append]).await.expect("answered").pop().expect("one answer")
}

/// Appends yields `from..to`, and answers the tail.
async fn yields(store: &dyn Store, task: &ClaimedTask, after: u64, from: u64, to: u64) -> u64 {
    let write = |d: &mut DraftBuilder| (from..to).for_each(|i| d.yielded(i, i * 7, i.to_string().as_bytes()));
    match append_one(store, append(task, after, Outcome::Running, write)).await {
        Appended::Stored { tail, .. } => tail,
        other => panic!("{other:?}"),
    }
}

async fn events(store: &dyn Store, id: TaskId) -> Vec<crate::Event> {
    let read = Read { id, from_seq: 1, limit: 100_000, what: What::Events };
    let slice = store.read(read).await.expect("read");
    slice.events.iter().flat_map(|b| b.iter().map(|e| e.to_event()).collect::<Vec<_>>()).collect()
}

/// Moves the clock in steps in which no sweep sees a gap.
async fn pass(store: &dyn Store, clock: &Clock, time: Duration) -> Swept {
    let mut all = Swept::default();
    let step = Duration::from_secs(2);
    let mut left = time;
    while !left.is_zero() {
        let by = left.min(step);
        clock.advance(by);
        left -= by;
        let swept = store.sweep(SWEEP).await.expect("swept");
        all.promoted += swept.promoted;
        all.requeued += swept.requeued;
        all.ended += swept.ended;
        all.expired += swept.expired;
    }
    all
}

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident($store:ident, $clock:pat) $body:block)*) => { $(
        $(#[$doc])*
        ///
        /// # Panics
        /// If the store breaks that promise.
        pub async fn $name($store: Arc<dyn Store>, $clock: Clock) $body
    )* };
}

cases! {
    /// What was added is there, with every field.
    an_added_task_can_be_read_again(store, clock) {
        let task = NewTask {
            priority: -3,
            tags: vec!["x".into(), "y".into()],
            queue: "io".into(),
            parent: Some(TaskId::new()),
            expires: Some(Duration::from_secs(60)),
            ..new("a")
        };
        let id = add(&*store, task.clone()).await;
        let r = record(&*store, id).await;
        assert_eq!((r.id, &*r.name, &*r.queue, r.priority), (task.id, "a", "io", -3));
        assert_eq!((r.status, r.attempt, r.tail, r.yields), (Status::Queued, 0, 0, 0));
        assert_eq!((r.tags, r.args, r.parent), (task.tags, task.args, task.parent));
        assert_eq!((r.created_at, r.updated_at), (clock.now(), clock.now()));
        assert_eq!(r.expires_at, Some(clock.now() + Duration::from_secs(60)));
        assert_eq!((r.started_at, r.completed_at, r.due_at), (None, None, None));
        assert_eq!(store.get(vec![TaskId::new()]).await.unwrap(), [None]);
        assert!(events(&*store, id).await.is_empty());
    }

    /// An id that is stored already answers that task.
    adding_again_adds_nothing(store, _) {
        let task = new("a");
        assert_eq!(store.add(vec![task.clone()]).await.unwrap(), [Added { id: task.id, existed: false }]);
        assert_eq!(store.add(vec![task.clone()]).await.unwrap(), [Added { id: task.id, existed: true }]);
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks.len(), 1);
        assert!(store.add(vec![task.clone()]).await.unwrap()[0].existed);
        assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks.len(), 1);
    }

    /// All of a batch or none of it.
    a_batch_with_a_conflict_adds_nothing(store, _) {
        let key = |name: &str| NewTask { idempotency_key: Some("k".into()), ..new(name) };
        add(&*store, key("a")).await;
        let error = store.add(vec![new("a"), key("b"), new("a")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let other_args = NewTask { args: Json::null(), ..key("a") };
        assert_eq!(store.add(vec![other_args]).await.unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(store.list(List { limit: 9, ..List::default() }).await.unwrap().tasks.len(), 1);
    }

    /// One task per idempotency key, also under 100 adds at once.
    an_idempotency_key_is_used_once_under_100_adds(store, _) {
        let adds = (0..100).map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { add(&*store, NewTask { idempotency_key: Some("k".into()), ..new("a") }).await })
        });
        let ids: BTreeSet<_> = futures::future::join_all(adds).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(ids.len(), 1);
        // Also after the end.
        let task = claim_one(&*store).await;
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let again = NewTask { idempotency_key: Some("k".into()), ..new("a") };
        assert_eq!(add(&*store, again).await, task.record.id);
    }

    /// One unfinished task per name and unique key.
    a_unique_key_holds_while_the_task_does(store, _) {
        let unique = |name: &str| NewTask { unique: Some("k".into()), ..new(name) };
        let first = add(&*store, unique("a")).await;
        assert_eq!(add(&*store, unique("a")).await, first);
        assert_ne!(add(&*store, unique("b")).await, first);
        let task = claim_one(&*store).await;
        assert_eq!(task.record.id, first);
        assert_eq!(add(&*store, unique("a")).await, first);
        append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        assert_ne!(add(&*store, unique("a")).await, first);
    }

    /// Each task to one caller.
    a_claimed_task_is_not_claimed_twice(store, clock) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        assert_eq!((task.record.id, task.record.status, task.record.attempt), (id, Status::Running, 1));
        assert_eq!((task.record.worker.as_deref(), task.record.started_at), (Some("w"), Some(clock.now())));
        assert!(task.record.epoch >= 1);
        assert!(store.claim(claim("v", 9)).await.unwrap().tasks.is_empty());
    }

    /// Priority, then due, then the order of adding.
    the_most_urgent_task_comes_first(store, clock) {
        let late = add(&*store, NewTask { due: Due::In(Duration::from_secs(5)), ..new("a") }).await;
        clock.advance(Duration::from_secs(6));
        let mut ids = Vec::new();
        for (name, priority) in [("a", 5), ("b", 0), ("a", 0), ("b", -7), ("a", 0), ("b", 5)] {
            ids.push(add(&*store, NewTask { priority, ..new(name) }).await);
        }
        let claimed = store.claim(claim("w", 99)).await.unwrap().tasks;
        let order: Vec<_> = claimed.iter().map(|t| t.record.id).collect();
        assert_eq!(order, [ids[3], late, ids[1], ids[2], ids[4], ids[0], ids[5]]);
    }

    /// A worker gets what it offers to run, however much else there is.
    only_what_is_offered_is_claimed(store, _) {
        for name in ["x", "y", "a"] {
            add(&*store, new(name)).await;
        }
        add(&*store, NewTask { queue: "io".into(), ..new("a") }).await;
        let claimed = store.claim(claim("w", 9)).await.unwrap().tasks;
        assert_eq!(claimed.len(), 1);
        assert_eq!((&*claimed[0].record.name, &*claimed[0].record.queue), ("a", "default"));
    }

    /// At most as many of a pair as it allows.
    an_allowance_is_kept(store, _) {
        for _ in 0..5 {
            add(&*store, new("a")).await;
            add(&*store, new("b")).await;
        }
        let offer = |name: &str, allowance| Offer { queue: "default".into(), name: name.into(), allowance };
        let offers = [offer("a", 2), offer("b", 0)].into();
        let claimed = store.claim(Claim { offers, ..claim("w", 9) }).await.unwrap().tasks;
        assert_eq!(claimed.iter().map(|t| &*t.record.name).collect::<Vec<_>>(), ["a", "a"]);
    }

    /// A repeated claim costs no attempt.
    the_same_token_gives_the_same_tasks(store, _) {
        for _ in 0..3 {
            add(&*store, new("a")).await;
        }
        let asked = claim("w", 2);
        let first = store.claim(asked.clone()).await.unwrap().tasks;
        let again = store.claim(asked.clone()).await.unwrap().tasks;
        assert_eq!(first, again);
        assert_eq!(again[0].record.attempt, 1);
        append_one(&*store, append(&first[0], 0, Outcome::Ended, |d| d.completed(0, b"1"))).await;
        let rest = store.claim(asked).await.unwrap().tasks;
        assert_eq!(rest.iter().map(|t| t.record.id).collect::<Vec<_>>(), [first[1].record.id]);
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks.len(), 1);
    }

    /// Not before it is due; a claim says how long that is.
    a_delayed_task_waits(store, clock) {
        let delayed = add(&*store, NewTask { due: Due::In(Duration::from_secs(5)), ..new("a") }).await;
        let at = clock.now() + Duration::from_secs(8);
        let later = add(&*store, NewTask { due: Due::At(at), ..new("a") }).await;
        let past = add(&*store, NewTask { due: Due::At(clock.now() - LEASE), ..new("a") }).await;
        let claimed = store.claim(claim("w", 9)).await.unwrap();
        assert_eq!(claimed.tasks.iter().map(|t| t.record.id).collect::<Vec<_>>(), [past]);
        assert_eq!(claimed.next_due, Some(Duration::from_secs(5)));
        let r = record(&*store, later).await;
        assert_eq!((r.status, r.due_at), (Status::Delayed, Some(at)));
        clock.advance(Duration::from_secs(5));
        assert_eq!(store.claim(claim("w", 9)).await.unwrap().tasks[0].record.id, delayed);
        clock.advance(Duration::from_secs(3));
        assert_eq!(store.sweep(SWEEP).await.unwrap().promoted, 1);
        assert_eq!(record(&*store, later).await.status, Status::Queued);
    }

    /// Stored, and not run before it is started.
    a_held_task_waits_for_start(store, clock) {
        let held = add(&*store, NewTask { held: true, ..new("a") }).await;
        let due = Due::In(Duration::from_secs(5));
        let delayed = add(&*store, NewTask { held: true, due, ..new("a") }).await;
        clock.advance(Duration::from_secs(1));
        assert!(store.claim(claim("w", 9)).await.unwrap().tasks.is_empty());
        let answers = store.start(vec![held, delayed, TaskId::new()]).await.unwrap();
        assert_eq!(answers, [Some(Status::Queued), Some(Status::Delayed), None]);
        assert_eq!(claim_one(&*store).await.record.id, held);
        assert_eq!(store.start(vec![held]).await.unwrap(), [Some(Status::Running)]);
    }

    /// Too late is never, and ends `cancelled`.
    an_expired_task_is_never_claimed(store, clock) {
        let expires = Some(Duration::from_secs(5));
        let late = add(&*store, NewTask { expires, ..new("a") }).await;
        let held = add(&*store, NewTask { expires, held: true, ..new("a") }).await;
        let started = add(&*store, NewTask { expires, priority: -1, ..new("a") }).await;
        assert_eq!(claim_one(&*store).await.record.id, started);
        clock.advance(Duration::from_secs(5));
        assert!(store.claim(claim("v", 9)).await.unwrap().tasks.is_empty());
        assert_eq!(store.sweep(SWEEP).await.unwrap().expired, 2);
        for id in [late, held] {
            let r = record(&*store, id).await;
            assert_eq!((r.status, r.cancel_reason.as_deref()), (Status::Cancelled, Some("expired")));
            assert_eq!(events(&*store, id).await.len(), 1);
        }
        assert_eq!(record(&*store, started).await.status, Status::Running);
    }

    /// 1, 2, 3 … whatever batches they came in.
    seqs_are_dense(store, clock) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let mut tail = 0;
        for (from, to) in [(0, 1), (1, 4), (4, 5), (5, 300), (300, 301)] {
            clock.advance(Duration::from_millis(10));
            tail = yields(&*store, &task, tail, from, to).await;
        }
        let all = events(&*store, task.record.id).await;
        assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=301).collect::<Vec<_>>());
        let index = |e: &crate::Event| match &e.kind {
            EventKind::Yield { index, hash, value } => {
                assert_eq!((*hash, value.as_str()), (index * 7, &*index.to_string()));
                *index
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(all.iter().map(index).collect::<Vec<_>>(), (0..301).collect::<Vec<_>>());
        let r = record(&*store, task.record.id).await;
        assert_eq!((r.tail, r.yields, r.yields_high, r.updated_at), (301, 301, 301, clock.now()));
        assert!(all.windows(2).all(|w| w[0].at <= w[1].at));
    }

    /// An answer that was lost can be asked for again.
    a_repeated_append_changes_nothing(store, _) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let some = append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"));
        let stored = Appended::Stored { tail: 1, cancel: None };
        assert_eq!(append_one(&*store, some.clone()).await, stored);
        assert_eq!(append_one(&*store, some.clone()).await, stored);
        let end = append(&task, 1, Outcome::Ended, |d| d.completed(1, b"2"));
        let stored = Appended::Stored { tail: 2, cancel: None };
        assert_eq!(append_one(&*store, end.clone()).await, stored);
        assert_eq!(append_one(&*store, end).await, stored);
        assert_eq!(append_one(&*store, some).await, Appended::Fenced);
        assert_eq!(events(&*store, task.record.id).await.len(), 2);
    }

    /// Refused for another epoch and for another tail.
    an_append_needs_its_epoch_and_its_place(store, clock) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 2).await;
        let misplaced = append(&task, 1, Outcome::Running, |d| d.yielded(1, 1, b"1"));
        assert_eq!(append_one(&*store, misplaced).await, Appended::Conflict { tail: 2 });
        let mut other = append(&task, 2, Outcome::Running, |d| d.yielded(2, 1, b"1"));
        other.epoch -= 1;
        assert_eq!(append_one(&*store, other.clone()).await, Appended::Fenced);
        other.id = TaskId::new();
        assert_eq!(append_one(&*store, other).await, Appended::Fenced);
        pass(&*store, &clock, LEASE + Duration::from_secs(2)).await;
        let zombie = append(&task, 2, Outcome::Running, |d| d.yielded(2, 1, b"1"));
        assert_eq!(append_one(&*store, zombie).await, Appended::Fenced);
        assert_eq!(record(&*store, task.record.id).await.yields, 2);
    }

    /// One entry never affects another.
    a_refused_append_leaves_the_others(store, _) {
        for _ in 0..3 {
            add(&*store, new("a")).await;
        }
        let tasks = store.claim(claim("w", 3)).await.unwrap().tasks;
        let mut batch: Vec<_> =
            tasks.iter().map(|t| append(t, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"))).collect();
        batch[1].epoch += 1;
        let answers = store.append(batch).await.unwrap();
        let stored = Appended::Stored { tail: 1, cancel: None };
        assert_eq!(answers, [stored.clone(), Appended::Fenced, stored]);
    }

    /// Status and last event change together, and never again.
    the_end_and_its_event_are_one_step(store, clock) {
        let failure = TaskFailure::new(FailureKind::Error, "no").in_attempt(1);
        type End = Box<dyn FnOnce(&mut DraftBuilder) + Send>;
        let error = failure.clone();
        let ends: Vec<(Status, End)> = vec![
            (Status::Completed, Box::new(|d| d.completed(1, b"[1]"))),
            (Status::Failed, Box::new(move |d| d.failed(1, &error))),
            (Status::Cancelled, Box::new(|d| d.cancelled(1, "why"))),
        ];
        for (status, end) in ends {
            let id = add(&*store, new("a")).await;
            let task = claim_one(&*store).await;
            let write = |d: &mut DraftBuilder| {
                d.started(0, "w");
                d.yielded(0, 1, b"1");
                end(d);
            };
            append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
            let r = record(&*store, id).await;
            assert_eq!((r.status, r.completed_at, r.tail, r.yields), (status, Some(clock.now()), 3, 1));
            assert_eq!(r.final_value, (status == Status::Completed).then(|| Json::of(&[1]).unwrap()));
            assert_eq!(r.error, (status == Status::Failed).then(|| failure.clone()));
            assert_eq!(r.cancel_reason.as_deref(), (status == Status::Cancelled).then_some("why"));
            let more = append(&task, 3, Outcome::Running, |d| d.yielded(1, 1, b"1"));
            assert_eq!(append_one(&*store, more).await, Appended::Fenced);
            assert_eq!(store.cancel(id, "x".into()).await.unwrap(), Cancelled::Ended(status));
        }
    }

    /// Queued again when the backoff is over.
    a_retry_comes_back_after_its_delay(store, clock) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let (failure, wait) = (TaskFailure::new(FailureKind::Error, "no"), Duration::from_secs(5));
        let retry = append(&task, 0, Outcome::Retry(wait), |d| d.retry(0, &failure, wait));
        append_one(&*store, retry.clone()).await;
        assert_eq!(append_one(&*store, retry).await, Appended::Stored { tail: 1, cancel: None });
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.failures, r.due_at), (Status::Delayed, 1, Some(clock.now() + wait)));
        let EventKind::Retry { at, .. } = &events(&*store, id).await[0].kind else { panic!() };
        assert_eq!(*at, clock.now() + wait);
        assert!(store.claim(claim("w", 1)).await.unwrap().tasks.is_empty());
        clock.advance(wait);
        let again = claim_one(&*store).await;
        assert_eq!((again.record.attempt, again.record.failures), (2, 1));
        assert!(again.record.epoch > task.record.epoch);
    }

    /// Any process that sweeps brings it back.
    a_lost_lease_comes_back_with_a_higher_epoch(store, clock) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 1).await;
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(pass(&*store, &clock, LEASE - Duration::from_secs(1)).await.requeued, 0);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(1)).await.requeued, 1);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.crashes, r.failures, r.yields), (Status::Queued, 1, 0, 1));
        assert!(r.epoch > task.record.epoch);
        let EventKind::Retry { error, .. } = &events(&*store, id).await[1].kind else { panic!() };
        assert_eq!(error.kind, FailureKind::Lost);
        let again = claim_one(&*store).await;
        assert_eq!(again.record.attempt, 2);
        assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Fenced]);
    }

    /// A poison task ends.
    too_many_crashes_fail_the_task(store, clock) {
        let id = add(&*store, new("a")).await;
        for crash in 1..=4 {
            assert_eq!(claim_one(&*store).await.record.attempt, crash);
            pass(&*store, &clock, LEASE).await;
        }
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.error.map(|e| e.kind)), (Status::Failed, Some(FailureKind::Lost)));
        assert!(matches!(events(&*store, id).await.last().unwrap().kind, EventKind::Failed { .. }));
    }

    /// A task that gets further each time is no poison.
    progress_forgives_crashes(store, clock) {
        let id = add(&*store, new("a")).await;
        let mut tail = 0;
        for i in 0..8 {
            let task = claim_one(&*store).await;
            tail = yields(&*store, &task, tail, i, i + 1).await + 1;
            pass(&*store, &clock, LEASE).await;
        }
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.crashes, r.yields), (Status::Queued, 1, 8));
    }

    /// A machine that slept loses nothing before it had the time to say that it is there.
    a_gap_in_sweeping_takes_no_lease(store, clock) {
        let id = add(&*store, new("a")).await;
        store.sweep(SWEEP).await.unwrap();
        let task = claim_one(&*store).await;
        clock.advance(Duration::from_secs(3600));
        assert_eq!(store.sweep(SWEEP).await.unwrap().requeued, 0);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(3)).await.requeued, 0);
        assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Held]);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(8)).await.requeued, 0);
        assert_eq!(pass(&*store, &clock, Duration::from_secs(4)).await.requeued, 1);
        assert_eq!(record(&*store, id).await.status, Status::Queued);
    }

    /// Held, fenced, or asked to cancel.
    extend_tells_what_became_of_a_lease(store, _) {
        for _ in 0..3 {
            add(&*store, new("a")).await;
        }
        let tasks = store.claim(claim("w", 3)).await.unwrap().tasks;
        store.cancel(tasks[1].record.id, "why".into()).await.unwrap();
        store.release(vec![lease(&tasks[2])]).await.unwrap();
        let answers = store.extend(tasks.iter().map(lease).collect(), LEASE).await.unwrap();
        assert_eq!(answers, [Extended::Held, Extended::Cancel("why".into()), Extended::Fenced]);
    }

    /// A lease that ran out and was not taken is renewed.
    extend_saves_a_lease_that_ran_out(store, clock) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        clock.advance(LEASE * 2);
        assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Held]);
        store.sweep(SWEEP).await.unwrap();
        assert_eq!(pass(&*store, &clock, Duration::from_secs(9)).await.requeued, 0);
    }

    /// Unharmed, and without an event.
    release_gives_back_without_counting(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 2).await;
        store.release(vec![lease(&task)]).await.unwrap();
        store.release(vec![lease(&task)]).await.unwrap();
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.crashes, r.failures, r.tail), (Status::Queued, 0, 0, 2));
        assert!(r.epoch > task.record.epoch);
        let late = append(&task, 2, Outcome::Running, |d| d.yielded(2, 1, b"1"));
        assert_eq!(append_one(&*store, late).await, Appended::Fenced);
        assert_eq!(claim_one(&*store).await.record.attempt, 2);
    }

    /// What was to be cancelled is not given to anybody again.
    release_under_a_cancel_ends_the_task(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        store.cancel(id, "why".into()).await.unwrap();
        store.release(vec![lease(&task)]).await.unwrap();
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.cancel_reason.as_deref()), (Status::Cancelled, Some("why")));
        assert!(matches!(&events(&*store, id).await[0].kind, EventKind::Cancelled { reason } if reason == "why"));
    }

    /// At once unless it is running.
    cancel_in_every_status(store, clock) {
        let running = add(&*store, new("a")).await;
        claim_one(&*store).await;
        let queued = add(&*store, new("a")).await;
        let held = add(&*store, NewTask { held: true, ..new("a") }).await;
        let delayed = add(&*store, NewTask { due: Due::In(LEASE), ..new("a") }).await;
        for id in [queued, held, delayed] {
            assert_eq!(store.cancel(id, "why".into()).await.unwrap(), Cancelled::Done);
            let r = record(&*store, id).await;
            assert_eq!((r.status, r.completed_at, r.tail), (Status::Cancelled, Some(clock.now()), 1));
            assert_eq!(store.cancel(id, "again".into()).await.unwrap(), Cancelled::Ended(Status::Cancelled));
        }
        assert_eq!(store.cancel(running, "why".into()).await.unwrap(), Cancelled::Asked);
        assert_eq!(record(&*store, running).await.status, Status::Running);
        clock.advance(LEASE * 2);
        assert!(store.claim(claim("v", 9)).await.unwrap().tasks.is_empty());
        let error = store.cancel(TaskId::new(), "why".into()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        store.sweep(SWEEP).await.unwrap();
        pass(&*store, &clock, LEASE * 2).await;
        assert_eq!(record(&*store, running).await.status, Status::Cancelled);
    }

    /// A cancelled task does not come back.
    a_retry_under_a_cancel_is_cancelled(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        store.cancel(id, "why".into()).await.unwrap();
        let write = |d: &mut DraftBuilder| {
            d.yielded(0, 1, b"1");
            d.retry(1, &TaskFailure::new(FailureKind::Error, "no"), LEASE);
        };
        append_one(&*store, append(&task, 0, Outcome::Retry(LEASE), write)).await;
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.yields, r.tail), (Status::Cancelled, 1, 2));
        assert!(matches!(&events(&*store, id).await[1].kind, EventKind::Cancelled { reason } if reason == "why"));
    }

    /// Of several reasons the first.
    the_first_reason_is_kept(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        store.cancel(id, "one".into()).await.unwrap();
        store.cancel(id, "two".into()).await.unwrap();
        let answer = append_one(&*store, append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"))).await;
        assert_eq!(answer, Appended::Stored { tail: 1, cancel: Some("one".into()) });
        // The owner's stored end wins.
        append_one(&*store, append(&task, 1, Outcome::Ended, |d| d.completed(1, b"2"))).await;
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.cancel_reason), (Status::Completed, None));
    }

    /// `get`, `claim` and `read` tell what is void.
    rewinds_are_kept(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let write = |d: &mut DraftBuilder| {
            (0..4).for_each(|i| d.yielded(i, i, b"1"));
            d.rewind(2);
            d.yielded(2, 9, b"2");
        };
        append_one(&*store, append(&task, 0, Outcome::Running, write)).await;
        let rewinds = [Rewind { seq: 5, to: 2 }];
        let r = record(&*store, id).await;
        assert_eq!((r.yields, r.yields_high, &*r.rewinds), (3, 4, &rewinds[..]));
        let read = Read { id, from_seq: 3, limit: 9, what: What::Events };
        assert_eq!(store.read(read).await.unwrap().rewinds, rewinds);
        store.release(vec![lease(&task)]).await.unwrap();
        assert_eq!(claim_one(&*store).await.record.rewinds, rewinds);
    }

    /// Tail, yields, bytes, the last value that holds, the checkpoint.
    a_claim_tells_where_to_go_on(store, _) {
        add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        assert_eq!((task.bytes, &task.last_yield, &task.checkpoint), (0, &None, &None));
        let write = |d: &mut DraftBuilder| {
            d.yielded(0, 1, b"\"kept\"");
            d.yielded(1, 1, b"\"void\"");
            d.rewind(1);
            d.custom(1, 5, "x", &Json::null());
        };
        let checkpoint = Some(Json::of(&[1, 2]).unwrap());
        let some = Append { checkpoint: checkpoint.clone(), ..append(&task, 0, Outcome::Running, write) };
        append_one(&*store, some).await;
        store.release(vec![lease(&task)]).await.unwrap();
        let again = claim_one(&*store).await;
        assert_eq!((again.record.tail, again.record.yields), (4, 1));
        assert_eq!((again.last_yield, again.checkpoint), (Some(Json::of("kept").unwrap()), checkpoint));
        assert!(again.bytes >= 12, "{}", again.bytes);
    }

    /// In order and without overlap, whatever the size of the pages.
    reading_pages_through_a_log(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let mut tail = 0;
        for (from, to) in [(0, 100), (100, 101), (101, 250)] {
            tail = yields(&*store, &task, tail, from, to).await;
        }
        append_one(&*store, append(&task, tail, Outcome::Ended, |d| d.completed(250, b""))).await;
        for limit in [1, 7, 100, 1000] {
            let (mut seqs, mut from_seq) = (Vec::new(), 0);
            loop {
                let slice = store.read(Read { id, from_seq, limit, what: What::Events }).await.unwrap();
                assert_eq!((slice.tail, slice.ended), (251, true));
                let page: Vec<_> = slice.events.iter().flat_map(|b| b.iter().map(|e| e.seq).collect::<Vec<_>>()).collect();
                assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                assert_eq!(slice.next_seq, page[page.len() - 1] + 1);
                from_seq = slice.next_seq;
                seqs.extend(page);
            }
            assert_eq!(seqs, (1..=251).collect::<Vec<_>>(), "pages of {limit}");
        }
        let read = Read { id: TaskId::new(), from_seq: 1, limit: 1, what: What::Events };
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// Without the void ones, in pages.
    hashes_are_those_that_hold(store, _) {
        let id = add(&*store, new("a")).await;
        let task = claim_one(&*store).await;
        let write = |d: &mut DraftBuilder| {
            d.custom(0, 70, "x", &Json::null());
            (0..6).for_each(|i| d.yielded(i, 10 + i, b"1"));
            d.custom(6, 71, "x", &Json::null());
            d.rewind(4);
            d.custom(4, 72, "x", &Json::null());
            d.yielded(4, 24, b"1");
        };
        append_one(&*store, append(&task, 0, Outcome::Running, write)).await;
        let mut found = Vec::new();
        let mut from_seq = 1;
        loop {
            let slice = store.read(Read { id, from_seq, limit: 2, what: What::YieldHashes }).await.unwrap();
            assert!(slice.events.is_empty() && slice.hashes.len() <= 2);
            found.extend(slice.hashes.iter().map(|h| (h.index, h.hash)));
            if slice.next_seq > slice.tail {
                break;
            }
            from_seq = slice.next_seq;
        }
        assert_eq!(found, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 24)]);
        let slice = store.read(Read { id, from_seq: 1, limit: 9, what: What::EventHashes }).await.unwrap();
        assert_eq!(slice.hashes.iter().map(|h| (h.index, h.hash)).collect::<Vec<_>>(), [(0, 70), (4, 72)]);
    }

    /// The newest first, by any filter, page by page.
    lists_page_through_what_matches(store, _) {
        let mut ids = Vec::new();
        for i in 0..10 {
            let tags = if i % 2 == 0 { vec!["even".to_owned()] } else { Vec::new() };
            let queue = if i < 5 { "default" } else { "io" }.to_owned();
            let name = if i % 3 == 0 { "a" } else { "b" };
            ids.push(add(&*store, NewTask { tags, queue, parent: (i > 7).then(|| ids[0]), ..new(name) }).await);
        }
        let list = |filter: List| {
            let store = Arc::clone(&store);
            async move {
                let (mut found, mut cursor) = (Vec::new(), None);
                loop {
                    let page = store.list(List { cursor, limit: 3, ..filter.clone() }).await.unwrap();
                    assert!(page.tasks.len() <= 3);
                    found.extend(page.tasks.iter().map(|t| t.id));
                    cursor = page.next;
                    if cursor.is_none() {
                        return found;
                    }
                }
            }
        };
        let pick = |of: &[usize]| of.iter().map(|i| ids[*i]).collect::<Vec<_>>();
        assert_eq!(list(List::default()).await, pick(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]));
        assert_eq!(list(List { tag: Some("even".into()), ..List::default() }).await, pick(&[8, 6, 4, 2, 0]));
        assert_eq!(list(List { name: Some("a".into()), ..List::default() }).await, pick(&[9, 6, 3, 0]));
        assert_eq!(list(List { queue: Some("io".into()), ..List::default() }).await, pick(&[9, 8, 7, 6, 5]));
        assert_eq!(list(List { parent: Some(ids[0]), ..List::default() }).await, pick(&[9, 8]));
        claim_one(&*store).await;
        assert_eq!(list(List { status: vec![Status::Running], ..List::default() }).await, pick(&[0]));
        let bad = List { cursor: Some("nonsense".into()), limit: 1, ..List::default() };
        assert_eq!(store.list(bad).await.unwrap_err().kind(), ErrorKind::Invalid);
    }

    /// By queue and status.
    stats_count_by_queue_and_status(store, _) {
        for queue in ["default", "default", "io"] {
            add(&*store, NewTask { queue: queue.into(), ..new("a") }).await;
        }
        claim_one(&*store).await;
        let stats = store.stats().await.unwrap();
        assert_eq!(stats.queues["default"], [(Status::Queued, 1), (Status::Running, 1)].into());
        assert_eq!(stats.queues["io"], [(Status::Queued, 1)].into());
    }

    /// A put needs the version that its writer knows.
    documents_are_compared_and_set(store, _) {
        let put = |key: &str, if_version, bytes: &[u8]| DocPut {
            key: key.into(), if_version, bytes: bytes.to_vec(), expires: None,
        };
        assert_eq!(store.doc_get("k/1".into()).await.unwrap(), None);
        assert_eq!(store.doc_put(put("k/1", Some(3), b"x")).await.unwrap(), None);
        let first = store.doc_put(put("k/1", Some(0), b"x")).await.unwrap().unwrap();
        assert_eq!(store.doc_put(put("k/1", Some(0), b"y")).await.unwrap(), None);
        let second = store.doc_put(put("k/1", Some(first), b"y\0")).await.unwrap().unwrap();
        assert!(second > first);
        assert_eq!(store.doc_put(put("k/1", Some(first), b"z")).await.unwrap(), None);
        store.doc_put(put("k/0", None, b"0")).await.unwrap().unwrap();
        store.doc_put(put("l", None, b"0")).await.unwrap().unwrap();
        let doc = Doc { key: "k/1".into(), version: second, bytes: b"y\0".to_vec() };
        assert_eq!(store.doc_get("k/1".into()).await.unwrap().as_ref(), Some(&doc));
        let docs = store.doc_list("k/".into()).await.unwrap();
        assert_eq!(docs.iter().map(|d| &*d.key).collect::<Vec<_>>(), ["k/0", "k/1"]);
    }

    /// By themselves, by the store's clock.
    documents_expire(store, clock) {
        let expires = Some(Duration::from_secs(5));
        let put = |if_version| DocPut { key: "k".into(), if_version, bytes: b"x".to_vec(), expires };
        assert!(store.doc_put(put(Some(0))).await.unwrap().is_some());
        clock.advance(Duration::from_secs(4));
        assert!(store.doc_get("k".into()).await.unwrap().is_some());
        clock.advance(Duration::from_secs(1));
        assert_eq!(store.doc_get("k".into()).await.unwrap(), None);
        assert!(store.doc_list(String::new()).await.unwrap().is_empty());
        assert!(store.doc_put(put(Some(0))).await.unwrap().is_some());
    }

    /// For watched tasks and served queues; cancels for everyone.
    hints_come_for_what_interests(store, _) {
        let interest = Arc::new(Interest::default());
        let mut hints = store.watch(Arc::clone(&interest)).await.unwrap();
        let id = add(&*store, new("a")).await;
        interest.add_task(id);
        let task = claim_one(&*store).await;
        yields(&*store, &task, 0, 0, 1).await;
        let hint = async |hints: &mut Hints| loop {
            match hints.next().await.expect("hints go on") {
                Hint::Look => {}
                hint => return hint,
            }
        };
        assert_eq!(hint(&mut hints).await, Hint::Moved { id, tail: 1, ended: false });
        store.cancel(id, "why".into()).await.unwrap();
        assert_eq!(hint(&mut hints).await, Hint::Cancel { id });
        append_one(&*store, append(&task, 1, Outcome::Ended, |d| d.cancelled(1, "why"))).await;
        assert_eq!(hint(&mut hints).await, Hint::Moved { id, tail: 2, ended: true });
        interest.serve([("default".to_owned(), "a".to_owned())]);
        interest.rest();
        add(&*store, new("a")).await;
        assert_eq!(hint(&mut hints).await, Hint::Ready { queue: "default".into(), name: "a".into() });
    }

    /// Not all of them for one task.
    one_idle_worker_is_woken(store, _) {
        let mut listeners = Vec::new();
        for _ in 0..3 {
            let interest = Arc::new(Interest::default());
            interest.serve([("default".to_owned(), "a".to_owned())]);
            interest.rest();
            listeners.push((store.watch(Arc::clone(&interest)).await.unwrap(), interest));
        }
        for awake in 1..=3 {
            add(&*store, new("a")).await;
            let mut woken = 0;
            for (hints, interest) in &mut listeners {
                // A hint is there at once or not at all: `wake` answers no more once it was told.
                let told = tokio::time::timeout(Duration::from_millis(200), hints.next()).await;
                if told.is_ok() {
                    assert!(!interest.wake("default", "a"));
                    woken += 1;
                }
            }
            assert_eq!(woken, 1, "at task {awake}");
        }
    }

    /// And one that can run it.
    a_worker_is_woken_only_for_what_it_serves(store, _) {
        let listen = async |name: &str| {
            let interest = Arc::new(Interest::default());
            interest.serve([("default".to_owned(), name.to_owned())]);
            interest.rest();
            (store.watch(Arc::clone(&interest)).await.unwrap(), interest)
        };
        let (_b_hints, b) = listen("b").await;
        let (mut a_hints, _a) = listen("a").await;
        add(&*store, new("a")).await;
        let told = tokio::time::timeout(Duration::from_secs(10), a_hints.next()).await.unwrap();
        assert_eq!(told, Some(Hint::Ready { queue: "default".into(), name: "a".into() }));
        assert!(b.wake("default", "b"), "it still rests");
    }

    /// First `Gone`, later `NotFound`, never an empty log.
    pruning_takes_the_log_then_the_row(store, clock) {
        let id = add(&*store, NewTask { idempotency_key: Some("k".into()), ..new("a") }).await;
        let task = claim_one(&*store).await;
        let write = |d: &mut DraftBuilder| {
            d.yielded(0, 1, b"1");
            d.completed(1, b"[1]");
        };
        append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
        let keep = Prune { age: Duration::from_secs(60), ended_max: None, bytes_max: None, max: 10 };
        let read = Read { id, from_seq: 1, limit: 9, what: What::Events };
        clock.advance(Duration::from_secs(59));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned::default());
        clock.advance(Duration::from_secs(1));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 1, rows: 0 });
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::Gone);
        let r = record(&*store, id).await;
        assert_eq!((r.status, r.yields, r.final_value), (Status::Completed, 1, None));
        clock.advance(Duration::from_secs(60));
        assert_eq!(store.prune(keep).await.unwrap(), Pruned { logs: 0, rows: 1 });
        assert_eq!(store.read(read).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(store.get(vec![id]).await.unwrap(), [None]);
    }

    /// By number and by bytes, the oldest go first; what runs is never touched.
    pruning_keeps_the_newest(store, clock) {
        let running = add(&*store, new("b")).await;
        claim_one(&*store).await;
        let mut ids = Vec::new();
        for _ in 0..6 {
            ids.push(add(&*store, new("a")).await);
            let task = claim_one(&*store).await;
            append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, b"\"0123456789\""))).await;
            clock.advance(Duration::from_secs(1));
        }
        clock.advance(Duration::from_secs(30));
        let day = Duration::from_secs(86_400);
        let count = Prune { age: day, ended_max: Some(4), bytes_max: None, max: 1 };
        assert_eq!(store.prune(count).await.unwrap().logs, 1, "no more than it was told");
        assert_eq!(store.prune(Prune { max: 9, ..count }).await.unwrap().logs, 1);
        let bytes = Prune { age: day, ended_max: None, bytes_max: Some(24), max: 9 };
        assert_eq!(store.prune(bytes).await.unwrap().logs, 2);
        for (i, id) in ids.iter().enumerate() {
            let read = store.read(Read { id: *id, from_seq: 1, limit: 9, what: What::Events }).await;
            assert_eq!(read.is_ok(), i >= 4, "task {i}");
        }
        assert_eq!(record(&*store, running).await.status, Status::Running);
    }

    /// Whatever JSON can hold.
    data_comes_back_byte_for_byte(store, _) {
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        let values = [
            r#""\u0000 nul, \u2028 line, ü, 🦀""#, "\"\u{2028}\"", "18446744073709551615", "-9223372036854775808",
            "1e308", "-0.0", "0.1", "\"\"", "[]", "{}", "null", "[[[[[[[[[[1]]]]]]]]]]", " {\"b\": 1,  \"a\":2} ", &long,
        ];
        let args = Json::parse(r#"{"b":1,"a":[18446744073709551615,"\u0000"]}"#).unwrap();
        let id = add(&*store, NewTask { args: args.clone(), ..new("a") }).await;
        let task = claim_one(&*store).await;
        assert_eq!(task.record.args, args);
        let write = |d: &mut DraftBuilder| {
            for (i, value) in (0..).zip(values) {
                d.yielded(i, u64::MAX - i, value.as_bytes());
            }
            d.custom(values.len() as u64, 1, "x", &args);
            d.completed(values.len() as u64, long.as_bytes());
        };
        append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
        let read = Read { id, from_seq: 1, limit: 99, what: What::Events };
        let slice = store.read(read).await.unwrap();
        let all: Vec<_> = slice.events.iter().flat_map(|b| b.iter().collect::<Vec<_>>()).collect();
        for ((i, value), event) in (0..).zip(values).zip(&all) {
            assert_eq!(event.code, EventCode::Yield);
            assert_eq!((event.index, event.hash), (i, u64::MAX - i));
            assert!(event.data == value.as_bytes(), "value {i}");
        }
        let EventKind::Event { data, .. } = all[values.len()].to_event().kind else { panic!() };
        assert_eq!(data, args);
        assert_eq!(record(&*store, id).await.final_value.unwrap().as_str(), long);
    }

    /// 16 at once, 400 tasks, each to one.
    many_claimers_share_without_overlap(store, _) {
        for _ in 0..4 {
            store.add((0..100).map(|_| new("a")).collect()).await.unwrap();
        }
        let claimers = (0..16).map(|i| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claimed = store.claim(claim(&format!("w{i}"), 7)).await.unwrap();
                    if claimed.tasks.is_empty() {
                        return mine;
                    }
                    mine.extend(claimed.tasks.into_iter().map(|t| t.record.id));
                    tokio::task::yield_now().await;
                }
            })
        });
        let all: Vec<_> = futures::future::join_all(claimers).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(all.len(), 400);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 400);
    }

    /// Its stamps are its own, and epochs never fall behind it.
    the_clock_is_the_store_s_own(store, clock) {
        let id = add(&*store, new("a")).await;
        clock.advance(Duration::from_secs(100));
        let task = claim_one(&*store).await;
        let ms = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        assert_eq!(u128::from(task.record.epoch), ms);
        append_one(&*store, append(&task, 0, Outcome::Running, |d| d.yielded(0, 1, b"1"))).await;
        let event = &events(&*store, id).await[0];
        assert_eq!((event.at, event.epoch, event.attempt), (clock.now(), task.record.epoch, 1));
        store.release(vec![lease(&task)]).await.unwrap();
        assert!(claim_one(&*store).await.record.epoch > task.record.epoch + 1);
    }
}
