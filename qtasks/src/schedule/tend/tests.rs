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
