//! Whatever a task does, and however often it is tried again: every reader's view is the effective log, and that is
//! what the body yielded.
//!
//! `QTASKS_PROPERTY_SEED=n` runs the cases of a seed again, `QTASKS_PROPERTY_CASES=n` so many of them. Cases that
//! failed once are kept in `property.txt` beside this file and run first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};
use qtasks::prelude::*;
use qtasks::store::conformance::{Faults, Faulty, Operation};
use qtasks::store::sqlite::Durability;
use qtasks::store::{MemoryStore, SqliteStore, Store};
use qtasks::{Clock, ErrorKind, Event, EventKind, RetryPolicy, Status, WaitError};
use serde::{Deserialize, Serialize};

use crate::soon;

/// No case takes so long.
const DEADLINE: Duration = Duration::from_secs(15);

/// What a body does next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Step {
    Yield(u8),
    Event(u8),
    /// Lets others run.
    Pause,
    Error,
    Panic,
    Cancel,
    /// Waits for the time limit, or for somebody to cancel.
    Hang,
}

/// Which function runs it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Replay,
    ReplaySync,
    Resume,
    Restart,
}

#[derive(Debug, Clone)]
struct Case {
    form: Form,
    /// What each attempt does; the last one's steps are those of any more.
    attempts: Vec<Vec<Step>>,
    /// When readers attach, in turns of the scheduler.
    readers: Vec<u8>,
    /// When somebody cancels.
    cancel: Option<u8>,
}

/// What bodies saw themselves yield, by task and attempt.
type Witness = Arc<Mutex<HashMap<(qtasks::TaskId, u32), Vec<u8>>>>;

fn see(witness: &Witness, ctx: &Context, value: u8) {
    let mut seen = witness.lock().expect("not poisoned");
    seen.entry((ctx.id(), ctx.attempt())).or_default().push(value);
}

fn steps(attempts: &[Vec<Step>], ctx: &Context) -> Vec<Step> {
    attempts[(ctx.attempt() as usize).min(attempts.len()) - 1].clone()
}

/// A value that the handler refuses is sent as 255.
fn handle(value: u8) -> Result<u8, String> {
    if value == 255 { Err("refused".to_owned()) } else { Ok(value) }
}

async fn act(step: &Step, ctx: &Context) -> Result<(), String> {
    match step {
        Step::Yield(_) => {}
        Step::Event(n) => ctx.send_event("step", n),
        Step::Pause => tokio::task::yield_now().await,
        Step::Error => return Err("an error".to_owned()),
        Step::Panic => std::panic::panic_any("a panic"),
        Step::Cancel => drop(ctx.cancel("by itself")),
        Step::Hang => std::future::pending().await,
    }
    Ok(())
}

fn act_sync(step: &Step, ctx: &Context) -> Result<(), String> {
    match step {
        Step::Pause => std::thread::yield_now(),
        Step::Hang => ctx.sleep_blocking(soon()),
        // Nothing of the rest waits.
        other => return futures::executor::block_on(act(other, ctx)),
    }
    Ok(())
}

#[task(generate_handler = handle)]
async fn replays(witness: State<Witness>, ctx: Context, attempts: Vec<Vec<Step>>) -> Result<u8, String> {
    for step in steps(&attempts, &ctx) {
        act(&step, &ctx).await?;
        if let Step::Yield(value) = step {
            see(&witness, &ctx, value);
            yield_!(value);
        }
    }
}

#[task(generate_handler = handle)]
fn replays_sync(witness: State<Witness>, ctx: Context, attempts: Vec<Vec<Step>>) -> Result<u8, String> {
    for step in steps(&attempts, &ctx) {
        act_sync(&step, &ctx)?;
        if let Step::Yield(value) = step {
            see(&witness, &ctx, value);
            yield_!(value);
        }
    }
}

#[task(generate_handler = handle)]
async fn resumes(
    witness: State<Witness>,
    ctx: Context,
    _from: Resume<u8>,
    attempts: Vec<Vec<Step>>,
) -> Result<u8, String> {
    for step in steps(&attempts, &ctx) {
        act(&step, &ctx).await?;
        if let Step::Yield(value) = step {
            see(&witness, &ctx, value);
            yield_!(value);
        }
    }
}

#[task(generate_handler = handle, on_retry = restart)]
async fn restarts(witness: State<Witness>, ctx: Context, attempts: Vec<Vec<Step>>) -> Result<u8, String> {
    for step in steps(&attempts, &ctx) {
        act(&step, &ctx).await?;
        if let Step::Yield(value) = step {
            see(&witness, &ctx, value);
            yield_!(value);
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..4u8).prop_map(Step::Yield),
        4 => (0..2u8).prop_map(Step::Event),
        4 => Just(Step::Pause),
        2 => Just(Step::Error),
        1 => Just(Step::Panic),
        1 => Just(Step::Cancel),
        1 => Just(Step::Hang),
        1 => Just(Step::Yield(255)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let form = prop_oneof![
        4 => Just(Form::Replay),
        2 => Just(Form::ReplaySync),
        2 => Just(Form::Resume),
        1 => Just(Form::Restart),
    ];
    let one = prop::collection::vec(step(), 0..12);
    // Half of the attempts do the same again, as most bodies do, with an end of their own.
    let again = (one, prop::collection::vec((any::<bool>(), prop::collection::vec(step(), 0..8)), 0..4));
    let attempts = again.prop_map(|(first, more)| {
        let mut attempts = vec![first];
        for (same, steps) in more {
            let mut this = Vec::new();
            if same {
                let before = attempts.last().expect("there is a first");
                this.extend(before.iter().filter(|s| matches!(s, Step::Yield(0..=254) | Step::Event(_))).cloned());
            }
            this.extend(steps);
            attempts.push(this);
        }
        attempts
    });
    let readers = prop::collection::vec(0..30u8, 0..4);
    let cancel = prop::option::weighted(0.15, 0..30u8);
    (form, attempts, readers, cancel).prop_map(|(form, attempts, readers, cancel)| Case {
        form,
        attempts,
        readers,
        cancel,
    })
}

/// Reads values to the end, going back where it is told to.
async fn reads(handle: TaskHandle<qtasks::AnyTask>, wait: u8, after: Option<(u64, Vec<u8>)>) -> Vec<u8> {
    for _ in 0..wait {
        tokio::task::yield_now().await;
    }
    let (seq, mut values) = after.unwrap_or_default();
    let mut stream = handle.stream_after(seq);
    loop {
        match stream.try_next().await {
            Ok(Some(value)) => values.push(u8::try_from(value.as_u64().expect("a number")).expect("a small one")),
            Ok(None) => return values,
            Err(e) => match e.kind() {
                ErrorKind::Rewound { to, seq } => {
                    let to = usize::try_from(to).expect("small");
                    assert!(to < values.len(), "told to keep {to} of {}", values.len());
                    values.truncate(to);
                    stream = handle.stream_after(seq);
                }
                ErrorKind::TaskFailed => return values,
                _ => panic!("{e:?}"),
            },
        }
    }
}

/// What holds of a log, computed from the events alone.
fn fold(log: &[Event]) -> Vec<u8> {
    let mut values: Vec<u8> = Vec::new();
    for event in log {
        match &event.kind {
            EventKind::Yield { index, value, .. } => {
                assert_eq!(*index, values.len() as u64, "indexes are dense");
                values.push(value.get().expect("a number"));
            }
            EventKind::Rewind { to } => values.truncate(usize::try_from(*to).expect("small")),
            _ => {}
        }
    }
    values
}

/// What holds after an attempt that saw itself yield `mine`.
fn after_attempt(form: Form, before: &[u8], mine: &[u8], completed: bool, refused: bool) -> Vec<u8> {
    match form {
        Form::Restart => mine.to_vec(),
        Form::Resume => [before, mine].concat(),
        // It failed, or was stopped, before it came to a difference; one that the handler refused is a difference.
        Form::Replay | Form::ReplaySync
            if !completed && before.starts_with(mine) && !(refused && before.len() > mine.len()) =>
        {
            before.to_vec()
        }
        Form::Replay | Form::ReplaySync => mine.to_vec(),
    }
}

/// What may hold in the end. A value that the handler refused was never stored; one that a body was stopped at, by a
/// cancel or its time limit, may not have been.
fn possible(case: &Case, log: &[Event], seen: &HashMap<u32, Vec<u8>>) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut seen = seen.clone();
    for event in log {
        let (completed, stopped) = match &event.kind {
            EventKind::Completed { .. } => (true, false),
            EventKind::Failed { error } | EventKind::Retry { error, .. } => (false, error.kind == "time_limit"),
            EventKind::Cancelled { .. } => (false, true),
            _ => continue,
        };
        // Cancelled between two attempts, or before the first.
        let Some(mut mine) = seen.remove(&event.attempt) else { continue };
        let refused = mine.last() == Some(&255);
        if refused {
            mine.pop();
        }
        let mut next = Vec::new();
        for before in &all {
            next.push(after_attempt(case.form, before, &mine, completed, refused));
            if stopped {
                // Without the last value that it saw itself yield.
                let fewer = if refused { &mine[..] } else { &mine[..mine.len().saturating_sub(1)] };
                next.push(after_attempt(case.form, before, fewer, completed, false));
            }
        }
        next.dedup();
        all = next;
    }
    all
}

async fn check(app: &Qtasks, witness: &Witness, case: &Case) {
    let name = match case.form {
        Form::Replay => "replays",
        Form::ReplaySync => "replays_sync",
        Form::Resume => "resumes",
        Form::Restart => "restarts",
    };
    let policy = RetryPolicy::times(4).constant(Duration::ZERO);
    let hangs = case.attempts.iter().flatten().any(|s| *s == Step::Hang);
    let limit = if hangs { Duration::from_millis(15) } else { soon() };
    let args = serde_json::json!({ "attempts": case.attempts });
    let handle = app.add_task(name, args).retry(policy).time_limit(limit).await.expect("added");
    let readers: Vec<_> = case.readers.iter().map(|wait| tokio::spawn(reads(handle.clone(), *wait, None))).collect();
    if let Some(wait) = case.cancel {
        for _ in 0..wait {
            tokio::task::yield_now().await;
        }
        handle.cancel("from outside").await.expect("asked");
    }
    let ended = handle.wait_timeout(DEADLINE).await;
    if let Err(WaitError::TimedOut(_)) = &ended {
        panic!("it does not end: {:#?}", handle.record().await.expect("there"));
    }
    let log: Vec<Event> = handle.events_from(1).try_collect().await.expect("read");
    let record = handle.record().await.expect("there");

    // Dense, with one end, which is the last.
    assert_eq!(log.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=record.tail).collect::<Vec<_>>());
    let ends: Vec<u64> = log
        .iter()
        .filter(|e| {
            matches!(e.kind, EventKind::Completed { .. } | EventKind::Failed { .. } | EventKind::Cancelled { .. })
        })
        .map(|e| e.seq)
        .collect();
    assert_eq!(ends, [record.tail]);
    assert!(record.status.is_ended());

    // The effective log, by the events, by what the store says is void, by the record's count.
    let effective = fold(&log);
    assert_eq!(record.yields, effective.len() as u64);
    let returned: Vec<u8> = match &ended {
        Ok(task) => {
            assert_eq!(record.status, Status::Completed);
            task.returning.iter().map(|v| u8::try_from(v.as_u64().expect("a number")).expect("small")).collect()
        }
        Err(WaitError::Ended(ended)) => ended.returning().expect("numbers"),
        Err(e) => panic!("{e:?}"),
    };
    assert_eq!(returned, effective);

    // It is what the bodies saw themselves yield.
    let seen: HashMap<u32, Vec<u8>> = {
        let all = witness.lock().expect("not poisoned");
        (1..=record.attempt).map(|a| (a, all.get(&(record.id, a)).cloned().unwrap_or_default())).collect()
    };
    let possible = possible(case, &log, &seen);
    assert!(possible.contains(&effective), "{effective:?} of {possible:?}");

    // And what everyone read, whenever they came.
    for reader in readers {
        assert_eq!(reader.await.expect("it ends"), effective);
    }
    assert_eq!(reads(handle.clone(), 0, None).await, effective);
    for seq in 1..=record.tail {
        let prefix = fold(&log[..usize::try_from(seq).expect("small")]);
        assert_eq!(reads(handle.clone(), 0, Some((seq, prefix))).await, effective, "after {seq}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().expect("a number"))
}

fn run(cases: u32, store: impl Fn() -> Arc<dyn Store>) {
    let seed = number("QTASKS_PROPERTY_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::try_from(now.expect("after 1970").as_nanos() & u128::from(u64::MAX)).expect("masked")
    });
    let cases = number("QTASKS_PROPERTY_CASES").map_or(cases, |n| u32::try_from(n).expect("not that many"));
    println!("{cases} cases of QTASKS_PROPERTY_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let corpus = FileFailurePersistence::Direct(concat!(env!("CARGO_MANIFEST_DIR"), "/suite/property.txt"));
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(corpus)),
        max_shrink_iters: 200,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let witness = Witness::default();
    let app = runtime.block_on(async {
        let specs = [replays::spec(), replays_sync::spec(), resumes::spec(), restarts::spec()];
        let app = Qtasks::builder().with_store(store()).tasks(specs).state(Arc::clone(&witness));
        app.start().await.unwrap()
    });
    // Panics of bodies are part of the game.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&"a panic") {
            hook(info);
        }
    }));
    let outcome = runner.run(&case(), |case| {
        runtime.block_on(async {
            let checked = tokio::time::timeout(DEADLINE * 2, check(&app, &witness, &case)).await;
            checked.map_err(|_| TestCaseError::fail("it hangs"))
        })
    });
    outcome.unwrap_or_else(|e| panic!("QTASKS_PROPERTY_SEED={seed}: {e}"));
}

#[test]
fn every_reader_s_view_is_the_effective_log() {
    run(2_000, || MemoryStore::new(Clock::system()));
}

#[test]
fn it_is_so_in_a_file() {
    run(300, sqlite);
}

#[test]
fn it_is_so_with_a_store_that_fails_forgets_to_answer_and_is_slow() {
    let written = &[Operation::Claim, Operation::Append];
    let percent = Faults { refused_percent: 5, lost_percent: 5, slow_percent: 23, ..Faults::default() };
    let faults = Faults { disturbed: written, ..percent };
    run(300, || Faulty::new(MemoryStore::new(Clock::system()), faults));
    run(50, || Faulty::new(sqlite(), faults));
}

fn sqlite() -> Arc<dyn Store> {
    SqliteStore::new(crate::scratch().join("q.db"), Durability::Fast, Clock::system()).unwrap()
}
