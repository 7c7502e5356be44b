//! The suite that every store must pass: one function per promise of [`Store`], each on a fresh store with a manual
//! clock.
//!
//! ```ignore
//! qtasks::store_conformance!(my_store, |clock| async move { Some(MyStore::temporary(clock).await) });
//! ```
//! expands to a module with one test per promise. `None` means that the server is not there: the test prints `SKIP`,
//! or fails if `QTASKS_REQUIRE_STORES` is set. The tests use `tokio` with its features `macros` and `rt-multi-thread`.
//!
//! The same cases hold of a store that is wrapped: [`Copying`] shows that nothing works by sharing memory,
//! [`Persistent::over_faults`] that a caller which repeats its calls need not know what became of those that failed.

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
mod faulty;
mod wrapping;

pub use copying::Copying;
pub use faulty::{Faults, Faulty, Persistent};
pub use wrapping::{Deaf, Operation};

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
            a_held_task_waits_for_start,
            a_claimed_task_is_not_claimed_twice,
            the_most_urgent_task_comes_first,
            only_what_is_offered_is_claimed,
            an_allowance_is_kept,
            the_same_token_gives_the_same_tasks,
            a_delayed_task_waits,
            an_expired_task_is_never_claimed,
            a_claim_tells_where_to_go_on,
            many_claimers_share_without_overlap,
            the_clock_is_the_store_s_own,
            seqs_are_dense,
            a_repeated_append_changes_nothing,
            an_append_needs_its_epoch_and_its_place,
            a_refused_append_leaves_the_others,
            a_retry_comes_back_after_its_delay,
            rewinds_are_kept,
            a_lost_lease_comes_back_with_a_higher_epoch,
            too_many_crashes_fail_the_task,
            progress_forgives_crashes,
            a_gap_in_sweeping_takes_no_lease,
            extend_tells_what_became_of_a_lease,
            extend_saves_a_lease_that_ran_out,
            release_gives_back_without_counting,
            release_under_a_cancel_ends_the_task,
            the_end_and_its_event_are_one_step,
            cancel_in_every_status,
            a_retry_under_a_cancel_is_cancelled,
            the_first_reason_is_kept,
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
        );
    };
    (@each $name:ident, $open:expr; $($case:ident,)*) => {
        mod $name {
            $(
                // Several threads: what is claimed or put by many is so at the same time.
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
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

mod adding;
mod appending;
mod claiming;
mod documents;
mod ending;
mod fidelity;
mod hints;
mod leases;
mod reading;
mod retention;

pub use adding::*;
pub use appending::*;
pub use claiming::*;
pub use documents::*;
pub use ending::*;
pub use fidelity::*;
pub use hints::*;
pub use leases::*;
pub use reading::*;
pub use retention::*;
