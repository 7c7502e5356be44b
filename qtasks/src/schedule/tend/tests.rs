//! Processes that die, or are overtaken, between two steps.

use std::time::Duration;

use super::*;
use crate::store::{Due, MemoryStore, NewTask};
use crate::{CatchUp, Clock, Json, Status};

const NAME: &str = "s";

fn definition(args: &str) -> Definition {
    let task = NewTask {
        id: TaskId::none(),
        name: "task".to_owned(),
        queue: "default".to_owned(),
        priority: 0,
        args: Json::parse(args).unwrap(),
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
    };
    let when = super::super::when::When::every(Duration::from_secs(3600)).unwrap();
    Definition { when, starting: None, repeats: None, catch_up: CatchUp::One, overlap: true, task }
}

async fn statuses(store: &dyn Store) -> Vec<Status> {
    let list = crate::store::List { limit: 99, ..Default::default() };
    store.list(list).await.unwrap().tasks.iter().map(|task| task.status).collect()
}

/// The document of one who died after each of so many steps of [`tend`].
async fn stored_up_to(store: &dyn Store, steps: usize) {
    put(store, NAME, 0, &State::new(definition("{}"), false)).await.unwrap();
    for _ in 0..steps {
        let (version, state) = load(store, NAME).await.unwrap().unwrap();
        let Some(next) = step(store, NAME, state).await.unwrap() else { return };
        put(store, NAME, version, &next).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_comes_after_one_that_died_finishes_the_step() {
    for steps in 0..5 {
        let store = MemoryStore::new(Clock::manual());
        stored_up_to(&*store, steps).await;
        let before = load(&*store, NAME).await.unwrap().unwrap().1.next;
        tend(&*store, NAME).await.unwrap();
        tend(&*store, NAME).await.unwrap();
        assert_eq!(statuses(&*store).await, [Status::Delayed], "after {steps} steps");
        let after = load(&*store, NAME).await.unwrap().unwrap().1.next.unwrap();
        assert!(before.is_none_or(|before| before.id == after.id));
    }
}

#[tokio::test]
async fn a_run_that_was_named_and_not_added_does_not_survive_a_pause() {
    for steps in 0..5 {
        let store = MemoryStore::new(Clock::manual());
        stored_up_to(&*store, steps).await;
        // One that is about to add what it has read.
        let (_, slow) = load(&*store, NAME).await.unwrap().unwrap();
        assert!(change(&*store, NAME, State::pause).await.unwrap());
        if let Some(firing) = &slow.next {
            store.add(vec![slow.task(NAME, firing).unwrap()]).await.unwrap();
        }
        tend(&*store, NAME).await.unwrap();
        assert!(statuses(&*store).await.iter().all(|status| *status == Status::Cancelled), "after {steps} steps");
    }
}

#[tokio::test]
async fn a_change_cancels_the_run_that_was_ahead() {
    let store = MemoryStore::new(Clock::manual());
    define(&*store, NAME, &definition("{}"), false).await.unwrap();
    let before = load(&*store, NAME).await.unwrap().unwrap();
    define(&*store, NAME, &definition("{}"), false).await.unwrap();
    assert_eq!(load(&*store, NAME).await.unwrap().unwrap(), before, "the same again changes nothing");
    define(&*store, NAME, &definition("{\"n\":1}"), false).await.unwrap();
    let mut found = statuses(&*store).await;
    found.sort_unstable();
    assert_eq!(found, [Status::Delayed, Status::Cancelled]);
}

#[tokio::test]
async fn a_guess_that_was_taken_back_does_not_stand_for_the_run_at_its_instant() {
    const HOUR: u64 = 3_600_000;
    let clock = Clock::manual();
    let store = MemoryStore::new(clock.clone());
    let mut state = State::new(definition("{}"), false);
    // By a clock that is an hour ahead of the store's.
    state.begin(to_ms(clock.now()) + HOUR).unwrap();
    let guess = state.next.clone().unwrap();
    put(&*store, NAME, 0, &state).await.unwrap();
    tend(&*store, NAME).await.unwrap();
    let first = load(&*store, NAME).await.unwrap().unwrap().1.next.unwrap();
    assert_eq!(first.at, guess.at - HOUR);
    assert_eq!(find(&*store, guess.id).await.unwrap().unwrap().status, Status::Cancelled);

    clock.advance(crate::task::time::from_ms(first.at).duration_since(clock.now()).unwrap());
    let offer = crate::store::Offer { queue: "default".to_owned(), name: "task".to_owned(), allowance: 1 };
    let claim = crate::store::Claim {
        worker: "w".to_owned(),
        token: 1,
        max: 1,
        lease: Duration::from_secs(60),
        offers: [offer].into(),
        limits: [].into(),
    };
    assert_eq!(store.claim(claim).await.unwrap().tasks[0].record.id, first.id);
    tend(&*store, NAME).await.unwrap();
    let second = load(&*store, NAME).await.unwrap().unwrap().1.next.unwrap();
    assert_eq!(second.at, guess.at);
    assert_eq!(find(&*store, second.id).await.unwrap().unwrap().status, Status::Delayed);
}

/// As [`keep`] does once.
async fn look(store: &dyn Store) -> State {
    let (_, state) = load(store, NAME).await.unwrap().unwrap();
    let record = find(store, state.next.as_ref().unwrap().id).await.unwrap();
    keep_one(store, NAME, &state, record.as_ref()).await.unwrap();
    load(store, NAME).await.unwrap().unwrap().1
}

#[tokio::test]
async fn a_run_that_was_planned_before_the_clock_was_turned_back_is_planned_anew() {
    const DAY: i64 = 86_400_000;
    for paused in [false, true] {
        let machine = crate::clock::Simulated::new();
        let store = MemoryStore::new(machine.clock());
        let when = super::super::when::When::every(Duration::from_secs(1)).unwrap();
        define(&*store, NAME, &Definition { when, ..definition("{}") }, false).await.unwrap();
        let before = look(&*store).await.next.unwrap();
        if paused {
            // What ran last was a run of a day that has not come yet.
            let run = |state: &mut State| state.last = Some(before.at);
            assert!(change(&*store, NAME, run).await.unwrap());
        }
        machine.jump(-DAY);
        let sweep = crate::store::Sweep {
            max: 9,
            lease: Duration::from_secs(10),
            heartbeat: Duration::from_secs(3),
            crashes_max: 3,
        };
        for _ in 0..12 {
            store.sweep(sweep).await.unwrap();
            machine.pass(1_000);
        }
        if paused {
            assert!(change(&*store, NAME, State::pause).await.unwrap());
            assert!(change(&*store, NAME, State::resume).await.unwrap());
        }
        let now = to_ms(store.now().unwrap());
        let after = look(&*store).await.next.unwrap();
        assert!(after.at > now && after.at <= now + 1_000, "{} ms ahead", after.at.abs_diff(now));
        assert_eq!(find(&*store, before.id).await.unwrap().unwrap().status, Status::Cancelled);
        assert_eq!(look(&*store).await.next.unwrap(), after, "once");
    }
}

#[test]
fn a_plan_changes_only_if_the_clock_was_turned_back_by_more_than_lies_between_two_runs() {
    use super::super::when::When;
    const HOUR: u64 = 3_600_000;
    let cron = |expression: &str| When::Cron { expression: expression.to_owned(), timezone: "UTC".to_owned() };
    let every = |ms| When::Every { ms };
    // 2026-01-05, 09:00.
    let ran = 1_767_603_600_000;
    for (when, back, changes) in [
        (every(1_000), 4_000, false),
        (every(1_000), 6_000, true),
        (every(HOUR), HOUR - 60_000, false),
        (every(HOUR), HOUR + 60_000, true),
        (cron("0 9 * * *"), HOUR, false),
        (cron("0 9 * * *"), 4 * HOUR, true),
        (cron("* * * * *"), 30_000, false),
        (cron("* * * * *"), 90_000, true),
        (cron("0 9 1 1 *"), 48 * HOUR, false),
        (When::Once { at: ran + HOUR }, 48 * HOUR, false),
    ] {
        let mut state = State::new(Definition { when, ..definition("{}") }, false);
        state.last = Some(ran);
        state.begin(ran + 10).unwrap();
        assert!(!state.is_too_far(ran), "a guess");
        assert!(state.confirm(ran + 10).unwrap());
        let when = state.definition.when.to_string();
        assert!(!state.is_too_far(ran + 10) && !state.is_too_far(ran + 100 * HOUR), "{when}: not turned back");
        assert_eq!(state.is_too_far(ran - back), changes, "{when}: {back} ms");
    }
}

/// A document of a later version holds up nobody, and is left as it is.
#[tokio::test]
async fn a_schedule_of_another_version_is_refused_and_left_alone() {
    let store = MemoryStore::new(Clock::manual());
    let put = DocPut {
        key: format!("{PREFIX}{NAME}"),
        if_version: Some(0),
        bytes: b"{\"when\":\"at full moon\"}".to_vec(),
        expires: None,
    };
    store.doc_put(put).await.unwrap();
    for declared in [false, true] {
        let definition = definition("{}");
        let defined = define(&*store, NAME, &definition, declared);
        let error = tokio::time::timeout(Duration::from_secs(60), defined).await.expect("an answer").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert!(load_all(&*store).await.unwrap().is_empty());
    let kept = store.doc_get(format!("{PREFIX}{NAME}")).await.unwrap().unwrap();
    assert_eq!((kept.version, &kept.bytes[..]), (1, &b"{\"when\":\"at full moon\"}"[..]));
}
