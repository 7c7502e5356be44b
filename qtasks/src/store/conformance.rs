//! The suite that every store must pass: one function per promise of [`Store`], each on a fresh store with a manual
//! clock.
//!
//! ```
//! # use std::sync::Arc;
//! # use qtasks::Clock;
//! # use qtasks::store::{MemoryStore, Store};
//! async fn mine(clock: Clock) -> Option<Arc<dyn Store>> {
//!     Some(MemoryStore::new(clock))
//! }
//!
//! qtasks::store_conformance!(my_store, super::mine);
//! # fn main() {}
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
use futures::future::LocalBoxFuture;

use super::*;
use crate::clock::Clock;
use crate::event::{DraftBuilder, EventCode, EventKind};
use crate::task::{FailureKind, TaskFailure};

mod copying;
mod faulty;
mod scripted;
mod wrapping;

pub use copying::Copying;
pub use faulty::{Faults, Faulty, Persistent};
pub use scripted::{Script, Scripted};
#[cfg(feature = "test")]
pub(crate) use wrapping::operations;
pub use wrapping::{Deaf, Operation};

/// Expands to one test per promise for a store: see [`conformance`](crate::store::conformance).
#[macro_export]
macro_rules! store_conformance {
    ($name:ident, $open:expr) => {
        $crate::store_conformance!(@each $name, $open;
            // adding.rs
            an_added_task_can_be_read_again,
            a_trace_is_kept_as_it_was_given,
            adding_again_adds_nothing,
            a_batch_with_a_conflict_adds_nothing,
            an_idempotency_key_is_used_once_under_100_adds,
            a_unique_key_holds_while_the_task_does,
            a_held_task_waits_for_start,
            an_id_twice_in_a_batch_is_one_task,
            a_key_twice_in_a_batch_is_one_task,
            a_unique_key_holds_under_50_adds,
            keys_that_look_alike_are_others,
            a_large_batch_is_added_in_order,
            an_empty_batch_is_answered_empty,
            unknown_ids_are_told,
            a_key_outlives_the_log,
            an_id_answers_before_its_key,
            an_id_answers_before_its_unique_key,
            // claiming.rs
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
            a_held_task_is_never_claimed,
            no_room_takes_nothing,
            priorities_go_to_their_limits,
            due_in_any_year,
            durations_may_be_for_ever,
            numbers_go_to_their_limits,
            a_claim_brings_the_task_s_own_limits,
            a_cancel_and_a_claim_agree,
            an_epoch_is_the_clock_or_one_more,
            a_pair_offered_twice_is_one,
            a_repeated_claim_renews_the_lease,
            // appending.rs
            seqs_are_dense,
            a_repeated_append_changes_nothing,
            an_append_needs_its_epoch_and_its_place,
            a_refused_append_leaves_the_others,
            a_retry_comes_back_after_its_delay,
            rewinds_are_kept,
            an_append_is_known_again_after_the_task_moved_on,
            an_append_after_another_tail_is_refused,
            an_owner_s_append_keeps_the_epoch,
            a_checkpoint_goes_with_its_append,
            two_appends_of_one_task_are_taken_in_order,
            one_of_many_appends_is_taken,
            // leases.rs
            a_lost_lease_comes_back_with_a_higher_epoch,
            too_many_crashes_fail_the_task,
            progress_forgives_crashes,
            a_gap_in_sweeping_takes_no_lease,
            extend_tells_what_became_of_a_lease,
            extend_saves_a_lease_that_ran_out,
            release_gives_back_without_counting,
            release_under_a_cancel_ends_the_task,
            a_sweep_needs_no_worker,
            a_sweep_tells_what_it_ended,
            a_sweep_that_finds_nothing_is_marked,
            a_gap_is_counted_once,
            a_sweep_does_no_more_than_it_is_told,
            a_budget_of_no_crash_fails_at_once,
            epoch_and_attempt_only_grow,
            a_lease_may_be_extended_for_ever,
            a_short_lease_comes_back_too,
            // ending.rs
            the_end_and_its_event_are_one_step,
            cancel_in_every_status,
            a_retry_under_a_cancel_is_cancelled,
            the_first_reason_is_kept,
            asking_a_running_task_to_cancel_moves_nothing,
            what_was_yielded_is_kept,
            // reading.rs
            reading_pages_through_a_log,
            reading_stops_at_a_number_of_bytes,
            hashes_are_those_that_hold,
            lists_page_through_what_matches,
            stats_count_by_queue_and_status,
            reading_past_the_tail_is_empty,
            lists_match_every_word_of_a_filter,
            lists_match_whole_words,
            pages_hold_still_while_tasks_are_added,
            a_cursor_of_nothing_is_invalid,
            stats_follow_every_step,
            // documents.rs
            documents_are_compared_and_set,
            documents_expire,
            one_of_50_puts_wins,
            a_document_begins_again_after_it_expired,
            a_put_sets_a_new_end,
            prefixes_are_no_patterns,
            documents_are_bytes,
            // hints.rs
            hints_come_for_what_interests,
            one_idle_worker_is_woken,
            a_worker_is_woken_only_for_what_it_serves,
            every_end_is_hinted,
            hints_that_nobody_reads_delay_nobody,
            hints_may_be_lost,
            watching_again_takes_over,
            // retention.rs
            pruning_takes_the_log_then_the_row,
            pruning_keeps_the_newest,
            keys_are_freed_with_the_row,
            pruning_goes_in_small_steps,
            age_counts_from_the_end,
            a_bare_row_still_answers,
            a_task_may_have_a_retention_of_its_own,
            what_has_ended_or_never_began_can_be_removed,
            a_removed_task_leaves_nothing_behind,
            an_append_removes_in_the_same_step,
            a_refused_append_removes_nothing,
            // fidelity.rs
            data_comes_back_byte_for_byte,
            json_keeps_its_spelling,
            nothing_is_not_null,
            text_comes_back_as_it_went_in,
            every_kind_comes_back,
            // repeating.rs
            a_repeated_cancel_keeps_the_first,
            a_repeated_release_is_harmless,
            a_repeated_document_put_shows_in_the_document,
            a_repeated_sweep_loses_nothing,
            a_repeated_prune_goes_on,
            a_repeated_start_changes_nothing,
            a_repeated_add_finds_its_tasks,
            a_repeated_claim_takes_no_more,
            a_repeated_batch_is_taken_once,
            // debouncing.rs
            the_last_arguments_are_run,
            arguments_of_any_size_are_replaced,
            a_replaced_task_is_due_earlier_or_later,
            a_replaced_task_stays_held,
            a_task_that_was_started_is_not_replaced,
            a_repeated_replacement_changes_nothing,
            a_replacement_renews_the_time_to_start,
            replacements_at_once_are_one_task,
            // limits.rs
            concurrency_is_what_is_running,
            a_limit_of_a_queue_leaves_built_ins_out,
            a_limit_of_a_name_counts_all_queues,
            a_limit_of_a_queue_counts_all_names,
            limits_of_name_and_queue_hold_at_once,
            a_limited_name_hides_no_other,
            a_rate_is_kept,
            every_attempt_counts_for_a_rate,
            the_next_is_due_when_delay_or_rate_is,
            a_repeated_claim_starts_nothing_more,
            limits_are_those_of_the_claim,
            many_claimers_share_a_limit,
            what_has_no_room_wakes_nobody,
            a_paused_queue_is_left_alone,
            a_pause_is_told_to_everyone,
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

/// A case on its way.
pub type Case = LocalBoxFuture<'static, ()>;

/// Runs one case on a store of its own.
///
/// # Panics
/// If the case fails; if there is no store although `QTASKS_REQUIRE_STORES` is set.
pub async fn run<O>(name: &str, open: impl FnOnce(Clock) -> O, case: fn(Arc<dyn Store>, Clock) -> Case)
where
    O: Future<Output = Option<Arc<dyn Store>>>,
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
    store.add(vec![task]).await.expect("added")[0].id
}

fn claim(worker: &str, max: usize) -> Claim {
    static TOKEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let offer = |name: &str| Offer { queue: "default".into(), name: name.into(), allowance: u32::MAX };
    let token = TOKEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let offers = [offer("a"), offer("b")].into();
    Claim { worker: worker.to_owned(), token, offers, max, lease: LEASE, limits: Arc::default() }
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
    Append { id, epoch, after_seq, events: Draft::one(write), checkpoint: None, outcome, removes: Vec::new() }
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
    let read = Read { id, from_seq: 1, limit: 100_000, bytes_max: usize::MAX, what: What::Events };
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
        all.over.extend(swept.over);
    }
    all
}

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident($store:ident, $clock:pat) $body:block)*) => { $(
        $(#[$doc])*
        ///
        /// # Panics
        /// If the store breaks that promise.
        // Boxed, so that it is compiled once, not in each test of each store.
        pub fn $name($store: Arc<dyn Store>, $clock: Clock) -> Case {
            Box::pin(async move $body)
        }
    )* };
}

mod adding;
mod appending;
mod claiming;
mod debouncing;
mod documents;
mod ending;
mod fidelity;
mod hints;
mod leases;
mod limits;
mod reading;
mod repeating;
mod retention;

pub use adding::*;
pub use appending::*;
pub use claiming::*;
pub use debouncing::*;
pub use documents::*;
pub use ending::*;
pub use fidelity::*;
pub use hints::*;
pub use leases::*;
pub use limits::*;
pub use reading::*;
pub use repeating::*;
pub use retention::*;
