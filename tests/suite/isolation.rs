//! Bodies in processes of their own, and how long a body may take for a value.

mod tasks;

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use qtasks::prelude::*;
use qtasks::{EventKind, FailureKind, Isolation, Qtasks, Status, TaskFailure, WaitError};
use tokio::process::{Child, Command};

use crate::{app_of, failure, kinds, soon};

/// A worker in a process of its own, and an app without one that adds to the same store.
async fn worker() -> (Qtasks, Child) {
    worker_by(Command::new(env!("CARGO_BIN_EXE_isolated-worker"))).await
}

/// The same, started by a command that takes the URL of the store.
async fn worker_by(mut command: Command) -> (Qtasks, Child) {
    let url = format!("sqlite:{}", crate::scratch().join("q.db").display());
    let app = Qtasks::builder().store(&url).scan(Duration::from_millis(100)).open().await.unwrap();
    let worker = command.arg(url).stdin(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    (app, worker)
}

/// A task of another process is known here by what the store says of it; to start it again changes nothing.
#[tokio::test]
async fn what_runs_in_another_process_is_running_and_is_started_once() {
    let (app, worker) = worker().await;
    let until = crate::scratch().join("until");
    let handle = tasks::Stays { until: until.clone() }.add_task().on(&app).held().await.unwrap();
    let id = handle.id();
    let is = async |running: bool| {
        assert_eq!(app.is_running(id).await.unwrap(), running);
        let all: Vec<_> = app.running().await.unwrap().into_iter().map(|record| record.id).collect();
        assert_eq!(all.contains(&id), running);
    };
    is(false).await;
    assert_eq!(app.start_task(id).await.unwrap(), Status::Queued);
    let mut events = handle.events_from(0);
    let (mut log, mut pid) = (Vec::new(), None);
    while pid.is_none() {
        let event = events.try_next().await.unwrap().unwrap();
        if let EventKind::Event { data, .. } = &event.kind {
            pid = Some(data.get::<u32>().unwrap());
        }
        log.push(event);
    }
    assert_eq!(pid, worker.id());
    is(true).await;

    let before = handle.record().await.unwrap();
    assert_eq!(app.start_task(id).await.unwrap(), Status::Running);
    let after = handle.record().await.unwrap();
    assert_eq!((before.tail, before.attempt, before.epoch), (after.tail, after.attempt, after.epoch));
    is(true).await;

    std::fs::write(until, "").unwrap();
    log.extend(events.try_collect::<Vec<_>>().await.unwrap());
    assert_eq!(crate::kinds(&log), "started event completed");
    is(false).await;
    let before = handle.record().await.unwrap();
    assert_eq!(before.final_value.as_ref().unwrap().as_str(), "\"left\"");
    assert_eq!(app.start_task(id).await.unwrap(), Status::Completed);
    assert_eq!(handle.events_from(0).try_collect::<Vec<_>>().await.unwrap(), log);
    assert_eq!(handle.record().await.unwrap(), before);
}

/// Waits until a process is gone; one that nobody waited for is not.
async fn is_gone(pid: u32) {
    crate::until(|| !Path::new(&format!("/proc/{pid}")).exists()).await;
}

/// How a task failed, and what it had yielded.
async fn failed<F: TaskFn>(handle: &TaskHandle<F>) -> (TaskFailure, Vec<u32>) {
    let error = handle.wait_timeout(soon()).await.unwrap_err();
    let WaitError::Ended(ended) = &error else { panic!("{error:?}") };
    (failure(&error).clone(), ended.returning().unwrap())
}

#[tokio::test]
async fn an_isolated_body_has_a_process_of_its_own() {
    let (app, worker) = worker().await;
    let here = tasks::here::add_task().on(&app).timeout(soon()).await.unwrap().returning;
    assert_eq!(Some(here), worker.id());
    let there = tasks::there::add_task().on(&app).timeout(soon()).await.unwrap().returning;
    let again = tasks::there::add_task().on(&app).timeout(soon()).await.unwrap().returning;
    assert!(here != there && there != again && again != here);
    is_gone(there).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let seen = tasks::trace::add_task().on(&app).traceparent(trace).timeout(soon()).await.unwrap().returning;
    assert_eq!(seen.as_deref(), Some(trace));
    let sum = tasks::adds::add_task((0..100_000).collect()).on(&app).timeout(soon()).await.unwrap().returning;
    assert_eq!(sum, 4_999_950_000);
    let many = (0..20).map(|_| tasks::there::add_task().on(&app).timeout(soon()).into_future());
    let pids: HashSet<u32> = futures::future::join_all(many).await.into_iter().map(|t| t.unwrap().returning).collect();
    assert_eq!(pids.len(), 20);
}

#[tokio::test]
async fn whatever_ends_the_process_ends_one_attempt_and_nothing_else() {
    let (app, worker) = worker().await;
    let ways = [
        ("SEGV", "it was killed by signal 11 (SIGSEGV)"),
        ("abort", "it was killed by signal 6 (SIGABRT)"),
        ("KILL", "it was killed by signal 9 (SIGKILL, as one that takes too much memory is)"),
        ("exit", "it exited with status 3"),
        ("well", "it exited with status 0"),
    ];
    for (how, message) in ways {
        let sync = tasks::breaks::add_task(how.to_owned()).on(&app).await.unwrap();
        let (why, yielded) = failed(&sync).await;
        assert_eq!((why.kind, &*why.message), (FailureKind::Process, message), "{how}");
        assert_eq!((yielded.len(), yielded[1]), (2, 2), "{how}");
        is_gone(yielded[0]).await;
        let (why, yielded) = failed(&tasks::breaks_async::add_task(how.to_owned()).on(&app).await.unwrap()).await;
        assert_eq!((why.kind, &*why.message, yielded.len()), (FailureKind::Process, message, 2), "{how}");
    }
    let here = tasks::here::add_task().on(&app).timeout(soon()).await.unwrap().returning;
    assert_eq!(Some(here), worker.id());
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_time_limit_and_by_a_cancel() {
    let (app, _worker) = worker().await;
    let limit = Duration::from_secs(2);
    let sync = tasks::breaks::add_task("loop".to_owned()).on(&app).time_limit(limit).await.unwrap();
    let looping = tasks::breaks_async::add_task("loop".to_owned()).on(&app).await.unwrap();
    let (why, yielded) = failed(&sync).await;
    assert_eq!((why.kind, &*why.message), (FailureKind::TimeLimit, "the attempt took longer than 2s"));
    assert_eq!((yielded.len(), yielded[1]), (2, 2));
    is_gone(yielded[0]).await;
    let mut stream = looping.stream();
    let pid = stream.try_next().await.unwrap().unwrap();
    assert_eq!(stream.try_next().await.unwrap(), Some(2));
    looping.cancel("enough").await.unwrap();
    assert_eq!(failed(&looping).await.0.kind, FailureKind::Cancelled);
    // It is not left to its grace: that would be 5 s.
    let over = Instant::now();
    is_gone(pid).await;
    assert!(over.elapsed() < Duration::from_secs(4), "{:?}", over.elapsed());
}

#[tokio::test]
async fn a_child_that_is_asked_to_end_has_a_grace() {
    let (app, _worker) = worker().await;
    let note = crate::scratch().join("note");
    let leaves = tasks::takes_leave::add_task(note.to_str().unwrap().to_owned(), true).on(&app).await.unwrap();
    let (why, yielded) = failed(&leaves).await;
    assert_eq!((why.kind, yielded.len()), (FailureKind::TimeLimit, 1));
    is_gone(yielded[0]).await;
    assert_eq!(std::fs::read_to_string(&note).unwrap(), "good bye");
    // One that stays all the same is killed after 5 s; its attempt has been over for long.
    let stays = tasks::takes_leave::add_task(note.to_str().unwrap().to_owned(), false).on(&app).await.unwrap();
    let pid = failed(&stays).await.1[0];
    let over = Instant::now();
    is_gone(pid).await;
    let took = over.elapsed();
    assert!((Duration::from_secs(3)..Duration::from_secs(20)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn what_an_isolated_body_has_started_ends_with_it() {
    let (app, _worker) = worker().await;
    let starts = tasks::starts::add_task().on(&app).await.unwrap();
    let pid = starts.stream().try_next().await.unwrap().unwrap();
    // Whoever has inherited it need not have waited for it.
    let runs = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(runs());
    starts.cancel("enough").await.unwrap();
    crate::until(|| !runs()).await;
}

#[tokio::test]
async fn the_child_dies_with_its_worker() {
    let (app, mut worker) = worker().await;
    let looping = tasks::breaks::add_task("loop".to_owned()).on(&app).await.unwrap();
    let pid = looping.stream().try_next().await.unwrap().unwrap();
    worker.kill().await.unwrap();
    is_gone(pid).await;
}

#[tokio::test]
async fn a_worker_that_shuts_down_gives_an_isolated_task_back() {
    let (app, worker) = worker().await;
    let looping = tasks::breaks::add_task("loop".to_owned()).on(&app).await.unwrap();
    let pid = looping.stream().try_next().await.unwrap().unwrap();
    let worker_pid = worker.id().unwrap();
    let asked = Command::new("sh").args(["-c", &format!("kill -TERM {worker_pid}")]).status().await.unwrap();
    assert!(asked.success());
    is_gone(pid).await;
    crate::until_async(async || looping.status().await.unwrap() == Status::Queued).await;
}

#[tokio::test]
async fn events_handlers_flushes_and_final_values_come_through() {
    let (app, _worker) = worker().await;
    let handle = tasks::talks::add_task().on(&app).await.unwrap();
    let task = handle.wait_timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [0, 10, 20]);
    let log: Vec<_> = handle.events_from(0).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started event yield event yield event yield event completed");
    let sent: Vec<_> = log
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Event { name, data, .. } => Some(format!("{name} {data}")),
            _ => None,
        })
        .collect();
    assert_eq!(sent, ["before 0", "before 1", "before 2", "flushed true"]);
    let record = handle.record().await.unwrap();
    assert_eq!(record.final_value.unwrap().as_str(), "\"done\"");
    let many = tasks::too_many::add_task().on(&app).await.unwrap();
    let (why, yielded) = failed(&many).await;
    assert_eq!((why.kind, why.index, &*why.message), (FailureKind::Handler, Some(3), "too many"));
    assert_eq!(yielded, [0, 10, 20]);
}

#[tokio::test]
async fn another_attempt_resumes_or_replays() {
    let (app, _worker) = worker().await;
    let resumed = tasks::resumes::add_task().on(&app).await.unwrap();
    assert_eq!(resumed.wait_timeout(soon()).await.unwrap().returning, [0, 100, 200, 500, 600, 700]);
    let replayed = tasks::replays::add_task().on(&app).await.unwrap();
    assert_eq!(replayed.wait_timeout(soon()).await.unwrap().returning, [0, 1, 2, 3, 4, 5]);
    for handle in [resumed.failures().await.unwrap(), replayed.failures().await.unwrap()] {
        assert_eq!(handle.iter().map(|f| (f.kind, f.attempt)).collect::<Vec<_>>(), [(FailureKind::Process, 1)]);
    }
    let log: Vec<_> = replayed.events_from(0).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started yield yield yield retry started yield yield yield completed");
}

#[tokio::test]
async fn a_body_fails_and_cancels_from_its_process() {
    let (app, _worker) = worker().await;
    let (why, yielded) = failed(&tasks::panics::add_task().on(&app).await.unwrap()).await;
    assert_eq!((why.kind, &*why.message, &*yielded), (FailureKind::Panic, "not again", &[1][..]));
    // What the error itself says of the wait goes before the policy's hour.
    let fails = tasks::fails::add_task().on(&app).await.unwrap();
    let e = fails.wait_timeout(soon()).await.unwrap_err();
    assert_eq!((failure(&e).kind, &*failure(&e).message), (FailureKind::Error, "no use"));
    assert_eq!(fails.record().await.unwrap().attempt, 2);
    let (why, yielded) = failed(&tasks::cancels::add_task().on(&app).await.unwrap()).await;
    assert_eq!((why.kind, &*why.message), (FailureKind::Cancelled, "had enough"));
    is_gone(yielded[0]).await;
}

#[tokio::test]
async fn a_child_has_no_app_and_an_empty_stdin_and_the_arguments_of_its_worker() {
    let (app, _worker) = worker().await;
    let (added, read, argument) = tasks::looks_around::add_task().on(&app).timeout(soon()).await.unwrap().returning;
    assert!(added.starts_with("no app in the process of an isolated task"), "{added}");
    assert_eq!(read, 0);
    assert!(argument.unwrap().starts_with("sqlite:"));
}

// ---- what the host does not have

/// Adds tasks, waits for all, and sees that none of them is any the worse for a shortage.
async fn all_are_completed<F: TaskFn<Returning = u32>>(app: &Qtasks, tasks: Vec<qtasks::AddTask<F>>) {
    let handles = app.add_all(tasks).await.unwrap();
    let mut attempts = 0;
    for handle in &handles {
        let record = handle.wait_timeout(soon()).await.unwrap().record;
        assert_eq!((record.failures, record.crashes), (0, 0));
        attempts += record.attempt;
        let log: Vec<_> = handle.events_from(0).try_collect().await.unwrap();
        assert_eq!(kinds(&log), "started completed");
    }
    assert!(attempts as usize > handles.len(), "there was no shortage");
}

#[tokio::test]
async fn without_threads_sync_tasks_are_given_back_and_all_of_them_are_done() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isolated-worker"));
    command.env("QTASKS_TEST_THREADS", "3");
    let (app, _worker) = worker_by(command).await;
    all_are_completed(&app, (0..30).map(|_| tasks::dozes::add_task()).collect()).await;
}

/// Each has a thread of its worker that hears it.
#[tokio::test]
async fn without_threads_isolated_tasks_are_given_back_and_all_of_them_are_done() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isolated-worker"));
    command.env("QTASKS_TEST_THREADS", "3");
    let (app, _worker) = worker_by(command).await;
    all_are_completed(&app, (0..12).map(|_| tasks::dozes_apart::add_task()).collect()).await;
}

#[tokio::test]
async fn without_descriptors_isolated_tasks_are_given_back_and_all_of_them_are_done() {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -n 48; exec "$0" "$@""#, env!("CARGO_BIN_EXE_isolated-worker")]);
    let (app, _worker) = worker_by(command).await;
    all_are_completed(&app, (0..30).map(|_| tasks::dozes_apart::add_task()).collect()).await;
}

// ---- what a child may not say

#[tokio::test]
async fn what_is_not_a_report_ends_the_attempt_at_once() {
    let (app, worker) = worker().await;
    let frame = |head: &str, body: u64| {
        let bytes = u32::try_from(head.len()).unwrap();
        [b"\0qtf", &bytes.to_le_bytes()[..], &body.to_le_bytes(), head.as_bytes()].concat()
    };
    let oversize = [b"\0qtf", &u32::MAX.to_le_bytes()[..], &0_u64.to_le_bytes()].concat();
    for (garbage, kind) in [
        (b"x".to_vec(), FailureKind::Process),
        (b"some text that a library prints\n".to_vec(), FailureKind::Process),
        (oversize, FailureKind::Process),
        (frame("{not json", 0), FailureKind::Process),
        (frame(r#""Nothing""#, 0), FailureKind::Process),
        (frame(r#"{"Handled":{"hash":null}}"#, 0), FailureKind::Process),
        (frame(r#"{"Event":3}"#, 0), FailureKind::Process),
        (frame(r#""Checkpoint""#, 4 << 30), FailureKind::Process),
        (frame(r#"{"Item":{"hash":1,"stored":true}}"#, 4 << 30), FailureKind::Limit),
        (frame(r#""Returned""#, u64::MAX), FailureKind::Limit),
    ] {
        let text = String::from_utf8_lossy(&garbage).into_owned();
        let handle = tasks::garbles::add_task(garbage).on(&app).await.unwrap();
        let (why, yielded) = failed(&handle).await;
        assert_eq!((why.kind, yielded.len()), (kind, 1), "{text}: {why}");
        is_gone(yielded[0]).await;
    }
    let here = tasks::here::add_task().on(&app).timeout(soon()).await.unwrap().returning;
    assert_eq!(Some(here), worker.id());
}

/// The most memory that a process has had, in MiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

#[tokio::test]
async fn what_is_too_large_stays_in_the_process_that_made_it() {
    const MUCH: usize = 200 << 20;
    let (app, worker) = worker().await;
    let pid = worker.id().unwrap();
    tasks::there::add_task().on(&app).timeout(soon()).await.unwrap();
    let before = peak(pid);
    for (how, kind, index) in [
        ("value", FailureKind::Limit, Some(1)),
        ("event", FailureKind::Limit, None),
        ("name", FailureKind::Codec, None),
        ("checkpoint", FailureKind::Limit, None),
        ("error", FailureKind::Panic, None),
        ("cancel", FailureKind::Cancelled, None),
        ("return", FailureKind::Limit, None),
    ] {
        let handle = tasks::floods::add_task(how.to_owned(), MUCH).on(&app).await.unwrap();
        let error = handle.wait_timeout(soon()).await.unwrap_err();
        let WaitError::Ended(ended) = &error else { panic!("{how}: {error:?}") };
        let why = ended.failure();
        assert_eq!((why.kind, why.index), (kind, index), "{how}: {}", why.kind);
        assert_eq!(ended.returning::<String>().unwrap(), ["first"], "{how}");
        assert!(why.message.len() < 100_000, "{how}");
    }
    let handled = tasks::floods_handled::add_task(MUCH).on(&app).await.unwrap().wait_timeout(soon()).await;
    let why = failure(&handled.unwrap_err()).clone();
    assert_eq!((why.kind, why.index), (FailureKind::Limit, Some(1)));
    let rule = "the value has 209715202 bytes, of at most 262144: `value_bytes_max` of the app's builder says how many";
    assert_eq!(why.message, rule);
    let grown = peak(pid).saturating_sub(before);
    assert!(grown < 64, "the worker took {grown} MiB more");
}

// ---- what a worker refuses

#[task(isolation = "process")]
fn takes_a_state(n: State<u32>) -> u32 {
    *n
}

#[task]
async fn not_isolated() {}

#[tokio::test]
async fn a_worker_without_child_entry_refuses_isolated_tasks() {
    // The suite's own `main` does not call it.
    let builder = || Qtasks::builder().store(crate::store());
    let error = builder().tasks([tasks::there::spec()]).start().await.unwrap_err();
    assert_eq!(error.kind(), qtasks::ErrorKind::Invalid);
    let message = error.to_string();
    assert!(message.contains("`qtasks::child_entry();` as the first line of `main`"), "{message}");
    assert!(message.contains("`there` (tests/suite/isolation/tasks.rs:"), "{message}");
    // An app without a worker may add them, and one that runs them in place may, too.
    let _ = builder().tasks([tasks::there::spec()]).open().await.unwrap();
    let app = builder().tasks([tasks::there::spec()]).spec::<tasks::there>(|s| s.isolation(Isolation::None));
    let _ = app.start().await.unwrap();
    let app = builder().tasks([not_isolated::spec()]).spec::<not_isolated>(|s| s.isolation(Isolation::Process));
    assert_eq!(app.start().await.unwrap_err().kind(), qtasks::ErrorKind::Invalid);
}

#[tokio::test]
async fn what_a_child_can_not_have_is_refused() {
    let app = Qtasks::builder().store(crate::store()).tasks([takes_a_state::spec()]).state(3_u32);
    let message = app.start().await.unwrap_err().to_string();
    assert!(message.contains("is isolated and takes `State<u32>`"), "{message}");
    let made = qtasks::TaskSpec::dynamic("made", |_, _| async { Ok::<_, String>(1) }).isolation(Isolation::Process);
    let message = app_without_tasks().register_spec(made).start().await.unwrap_err().to_string();
    assert!(message.contains("`made` (registered by hand) is isolated and was made when the program ran"), "{message}");
}

fn app_without_tasks() -> qtasks::Builder {
    Qtasks::builder().store(crate::store()).tasks([])
}

// ---- how long a body may take

#[task(idle_limit = "1s")]
async fn pauses(pauses: Vec<u64>) -> u32 {
    for (i, pause) in (0..).zip(pauses) {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        yield_!(i);
    }
}

#[task]
fn pauses_sync(ctx: Context, pauses: Vec<u64>) -> u32 {
    for (i, pause) in (0..).zip(pauses) {
        ctx.sleep_blocking(Duration::from_millis(pause));
        yield_!(i);
    }
}

const HOUR: u64 = 3_600_000;

#[tokio::test]
async fn a_body_that_takes_too_long_for_a_value_ends() {
    let app = app_of([pauses::spec(), pauses_sync::spec()]).await;
    for (waits, values) in [(vec![HOUR], 0), (vec![1, 1, HOUR], 2)] {
        let (why, yielded) = failed(&pauses::add_task(waits.clone()).on(&app).await.unwrap()).await;
        assert_eq!((why.kind, &*why.message), (FailureKind::TimeLimit, "no value for longer than 1s"));
        assert_eq!(yielded.len(), values);
        let limit = Duration::from_millis(800);
        let sync = pauses_sync::add_task(waits).on(&app).idle_limit(limit).await.unwrap();
        let (why, yielded) = failed(&sync).await;
        assert_eq!((why.kind, &*why.message), (FailureKind::TimeLimit, "no value for longer than 800ms"));
        assert_eq!(yielded.len(), values);
    }
    crate::until(|| app.abandoned() == 0).await;
}

#[tokio::test]
async fn one_that_is_slow_as_a_whole_does_not() {
    let app = app_of([pauses::spec()]).await;
    let limit = Duration::from_secs(3);
    let began = Instant::now();
    let slow = pauses::add_task(vec![250; 13]).on(&app).idle_limit(limit).timeout(soon()).await.unwrap();
    assert_eq!(slow.returning.len(), 13);
    assert!(began.elapsed() > limit);
}

#[tokio::test]
async fn what_others_do_with_a_value_does_not_count() {
    let slow = |_: qtasks::signals::AfterLoop| tokio::time::sleep(Duration::from_millis(1_500));
    let app = Qtasks::builder().store(crate::store()).tasks([pauses::spec()]).after_loop(slow).start().await.unwrap();
    let task = pauses::add_task(vec![1, 1]).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, [0, 1]);
}

#[tokio::test]
async fn an_isolated_body_that_takes_too_long_for_a_value_ends() {
    let (app, _worker) = worker().await;
    let (why, yielded) = failed(&tasks::stalls::add_task().on(&app).await.unwrap()).await;
    assert_eq!((why.kind, &*why.message), (FailureKind::TimeLimit, "no value for longer than 2s"));
    is_gone(yielded[0]).await;
}

#[task(time_limit = "300ms")]
fn sleeps_between(seconds: u64) -> u32 {
    for i in 0.. {
        yield_!(i);
        std::thread::sleep(Duration::from_secs(seconds));
    }
}

#[task]
async fn quick() -> u32 {
    7
}

/// In QTasks such a generator runs on for its second, is a "success", and all others wait for it.
#[tokio::test]
async fn a_sync_generator_stops_at_its_limit_and_delays_nobody() {
    let app = app_of([sleeps_between::spec(), quick::spec()]).await;
    let began = Instant::now();
    let slow = sleeps_between::add_task(3600).on(&app).await.unwrap();
    assert_eq!(slow.stream().try_next().await.unwrap(), Some(0));
    // While it sleeps in its body:
    assert_eq!(quick::add_task().on(&app).timeout(soon()).await.unwrap().returning, 7);
    let (why, yielded) = failed(&slow).await;
    assert_eq!((why.kind, &*yielded), (FailureKind::TimeLimit, &[0][..]));
    assert!(began.elapsed() < Duration::from_secs(1800));
}
