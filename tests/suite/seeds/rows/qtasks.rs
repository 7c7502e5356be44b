//! What was found out of QTasks by running it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qtasks::prelude::*;
use qtasks::{ErrorKind, FailureKind, Qtasks, Status, WaitError};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use super::Gate;
use crate::{app_of, failure, soon};

/// There `[]` came of it too; what a generator returned besides was dropped.
#[tokio::test]
async fn an_empty_generator_gives_an_empty_list() {
    #[task(yield = u32)]
    async fn empty_async(n: u32) -> String {
        for i in 0..n {
            yield_!(i);
        }
        "that was all".to_owned()
    }
    #[task]
    fn empty_sync(n: u32) -> u32 {
        for i in 0..n {
            yield_!(i);
        }
    }
    let app = app_of([empty_async::spec(), empty_sync::spec()]).await;
    let task = empty_async::add_task(0).on(&app).timeout(soon()).await.unwrap();
    assert_eq!((task.returning, &*task.final_value), (Vec::new(), "that was all"));
    let task = empty_sync::add_task(0).on(&app).timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.record.status), (Vec::new(), Status::Completed));
}

/// In both kinds, where values are handled and where they are made.
#[tokio::test]
async fn a_value_is_handled_before_the_next_is_made() {
    static DID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    fn did(what: String) {
        DID.lock().unwrap().push(what);
    }
    async fn handle(i: u32) -> u32 {
        tokio::task::yield_now().await;
        did(format!("handled {i}"));
        i
    }
    #[task(generate_handler = handle)]
    async fn makes() -> u32 {
        for i in 0..3 {
            did(format!("made {i}"));
            yield_!(i);
        }
    }
    #[task(generate_handler = handle)]
    fn makes_sync() -> u32 {
        for i in 0..3 {
            did(format!("made {i}"));
            yield_!(i);
        }
    }
    let app = app_of([makes::spec(), makes_sync::spec()]).await;
    for name in ["makes", "makes_sync"] {
        app.add_task(name, json!([])).timeout(soon()).await.unwrap();
        let did = std::mem::take(&mut *DID.lock().unwrap()).join(", ");
        assert_eq!(did, "made 0, handled 0, made 1, handled 1, made 2, handled 2", "{name}");
    }
}

/// There `priority`, `timeout` and `task_name` could not be passed by keyword.
#[tokio::test]
async fn arguments_may_bear_the_names_of_options() {
    #[task]
    async fn named_so(priority: i16, timeout: u32, task_name: String, queue: String) -> String {
        format!("{priority} {timeout} {task_name} {queue}")
    }
    let app = app_of([named_so::spec()]).await;
    let task = named_so::add_task(1, 2, "x".into(), "y".into()).on(&app).priority(-9).timeout(soon()).await.unwrap();
    assert_eq!((&*task.returning, task.record.priority, &*task.record.queue), ("1 2 x y", -9, "default"));
    let args = json!({ "priority": 1, "timeout": 2, "task_name": "x", "queue": "y" });
    let task = app.add_task("named_so", args).timeout(soon()).await.unwrap();
    assert_eq!(task.final_value, json!("1 2 x y"));
}

/// Fails when it is to be written.
#[derive(Debug, Clone, Deserialize)]
struct Unwritten;

impl Serialize for Unwritten {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it has no words"))
    }
}

#[tokio::test]
async fn arguments_that_can_not_be_written_are_an_error_where_they_are_added() {
    #[task]
    async fn takes_it(_it: Unwritten) {}
    let app = app_of([takes_it::spec()]).await;
    let error = takes_it::add_task(Unwritten).on(&app).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Codec && error.to_string().contains("it has no words"), "{error}");
    assert!(app.list(qtasks::store::List { limit: 9, ..Default::default() }).await.unwrap().tasks.is_empty());
}

/// There `timeout=0` was always `None`, whatever became of the task.
#[tokio::test]
async fn a_wait_of_no_time_ends_with_the_handle() {
    #[task]
    async fn at_once() -> u8 {
        7
    }
    let app = app_of([at_once::spec()]).await;
    let error =
        at_once::add_task().on(&app).delay(Duration::from_millis(20)).timeout(Duration::ZERO).await.unwrap_err();
    let WaitError::TimedOut(handle) = error else { panic!("{error:?}") };
    assert_eq!(handle.wait_timeout(soon()).await.unwrap().returning, 7);
    assert_eq!(handle.wait_timeout(Duration::ZERO).await.unwrap().returning, 7, "what is over needs no time");
}

#[test]
fn every_status_has_one_word() {
    let words = ["held", "delayed", "queued", "running", "completed", "failed", "cancelled"];
    assert_eq!(Status::ALL.map(Status::as_str), words);
    for status in Status::ALL {
        assert_eq!((status.to_string().parse::<Status>().unwrap(), json!(status)), (status, json!(status.as_str())));
        assert_eq!(status.is_ended(), matches!(status, Status::Completed | Status::Failed | Status::Cancelled));
    }
}

#[tokio::test]
async fn a_record_tells_all_of_its_task() {
    #[task(retry = 1, backoff = none)]
    async fn recorded(ctx: Context, n: u32) -> Result<u32, String> {
        for i in 0..n {
            yield_!(i);
        }
        if ctx.attempt() == 1 {
            Err("once".to_owned())?;
        }
    }
    let app = Qtasks::builder().store(crate::store()).tasks([recorded::spec()]).worker_name("w").start().await.unwrap();
    let task = recorded::add_task(3).on(&app).tag("t").timeout(soon()).await.unwrap();
    let record = app.task(task.id).await.unwrap().record().await.unwrap();
    assert_eq!(record, task.record);
    assert_eq!((&*record.name, &*record.queue, record.args.as_str()), ("recorded", "default", "{\"n\":3}"));
    assert_eq!((record.status, record.attempt, record.failures, record.yields), (Status::Completed, 2, 1, 3));
    // Begun, three values, another attempt, begun, the end.
    assert_eq!((record.tail, record.tags.len(), record.error.is_none()), (7, 1, true));
    let (started, completed) = (record.started_at.unwrap(), record.completed_at.unwrap());
    assert!(record.created_at <= started && started <= completed && completed <= record.updated_at);
    // It reads as JSON, and back.
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<qtasks::TaskRecord>(&json).unwrap(), record);
}

/// There it had no effect: they ran as 5, 0, 3, 1, 9, 2.
#[tokio::test]
async fn priority_orders_what_waits() {
    static RAN: Mutex<Vec<i16>> = Mutex::new(Vec::new());
    #[task]
    async fn runs(n: i16) {
        RAN.lock().unwrap().push(n);
    }
    let url = crate::store_named("priority-orders");
    let keep = Qtasks::builder().store(&*url).tasks([runs::spec()]).open().await.unwrap();
    let mut handles = Vec::new();
    for n in [5, 0, 3, 1, 9, 2, 0] {
        handles.push(runs::add_task(n).on(&keep).priority(n).await.unwrap());
    }
    let worker = Qtasks::builder().store(&*url).tasks([runs::spec()]).concurrency(1).start().await.unwrap();
    for handle in handles {
        handle.wait_timeout(soon()).await.unwrap();
    }
    assert_eq!(*RAN.lock().unwrap(), [0, 0, 1, 2, 3, 5, 9]);
    worker.shutdown().await.unwrap();
}

/// There a limit of 0.3 s let a sync generator run for 1.0 s, with success, while a task that does nothing waited for it.
#[tokio::test]
async fn a_sync_generator_stops_at_its_limit_of_300_ms() {
    const STEP: Duration = Duration::from_millis(300);
    const STEPS: u32 = 30;
    #[task(time_limit = "300ms")]
    fn in_steps() -> u32 {
        for i in 0..STEPS {
            yield_!(i);
            std::thread::sleep(STEP);
        }
    }
    #[task]
    async fn does_nothing() {}
    let app = app_of([in_steps::spec(), does_nothing::spec()]).await;
    let slow = in_steps::add_task().on(&app).await.unwrap();
    assert_eq!(slow.stream().try_next().await.unwrap(), Some(0));
    let begun = Instant::now();
    does_nothing::add_task().on(&app).timeout(soon()).await.unwrap();
    println!("a task that does nothing took {:?} beside a generator that blocks", begun.elapsed());
    let error = slow.wait_timeout(soon()).await.unwrap_err();
    assert_eq!(failure(&error).kind, FailureKind::TimeLimit);
    let WaitError::Ended(ended) = error else { panic!("{error:?}") };
    let kept: Vec<u32> = ended.returning().unwrap();
    let took = ended.record.completed_at.unwrap().duration_since(ended.record.started_at.unwrap()).unwrap();
    println!("a limit of 300 ms ended it after {took:?}; {} of {STEPS} values are kept", kept.len());
    assert!(kept[0] == 0 && kept.len() < 10, "{kept:?}");
    assert!(took >= STEP && took < STEPS * STEP && begun.elapsed() < STEPS * STEP);
}

/// There the end of one task closed what another one still used, and an error closed nothing.
#[tokio::test]
async fn what_a_body_holds_is_dropped_on_every_way_out_and_of_no_other_task() {
    static HELD: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    struct Held(&'static str);
    impl Held {
        fn new(by: &'static str) -> Self {
            HELD.lock().unwrap().push(by);
            Held(by)
        }
    }
    impl Drop for Held {
        fn drop(&mut self) {
            HELD.lock().unwrap().retain(|by| *by != self.0);
        }
    }
    #[task]
    async fn stays(gate: State<Gate>) -> u8 {
        let _held = Held::new("stays");
        yield_!(1);
        gate.pass().await;
    }
    #[task(time_limit = "50ms")]
    async fn leaves(ctx: Context, how: String) -> Result<u8, String> {
        let _held = Held::new("leaves");
        yield_!(1);
        match &*how {
            "error" => Err("no")?,
            "panic" => panic!("no"),
            "limit" => ctx.sleep(Duration::from_secs(3600)).await,
            "cancel" => ctx.cancel("no").await,
            _ => {}
        }
        yield_!(2);
    }
    let gate = Gate::default();
    let app = Qtasks::builder().store(crate::store()).tasks([stays::spec(), leaves::spec()]).state(gate.clone());
    let app = app.start().await.unwrap();
    let other = stays::add_task().on(&app).await.unwrap();
    other.stream().try_next().await.unwrap();
    for how in ["well", "error", "panic", "limit", "cancel"] {
        let done = leaves::add_task(how.to_owned()).on(&app).timeout(soon()).await;
        assert_eq!(done.is_ok(), how == "well", "{how}");
        crate::until(|| *HELD.lock().unwrap() == ["stays"]).await;
    }
    gate.open(1);
    other.wait_timeout(soon()).await.unwrap();
    crate::until(|| HELD.lock().unwrap().is_empty()).await;
}

/// There it was one dictionary per class in the memory of a worker.
#[tokio::test]
async fn a_state_is_shared_by_the_tasks_of_an_app_and_by_no_other() {
    #[task]
    async fn counts_up(count: State<Arc<AtomicU32>>) -> u32 {
        count.fetch_add(1, Ordering::SeqCst)
    }
    let app = async || {
        let app = Qtasks::builder().store(crate::store()).tasks([counts_up::spec()]);
        app.state(Arc::<AtomicU32>::default()).start().await.unwrap()
    };
    let (one, two) = (app().await, app().await);
    for (app, expected) in [(&one, 0), (&one, 1), (&two, 0), (&one, 2)] {
        assert_eq!(counts_up::add_task().on(app).timeout(soon()).await.unwrap().returning, expected);
    }
}

/// There it ended the loop of the broker, and with it the server.
#[tokio::test]
async fn a_name_with_a_colon_stops_nothing() {
    #[task(name = "mail:send:1")]
    async fn with_colons(to: String) -> String {
        to
    }
    #[task]
    async fn without() -> u8 {
        1
    }
    let app = app_of([with_colons::spec(), without::spec()]).await;
    let task = with_colons::add_task("a:b".into()).on(&app).queue("q:1").tag("t:1").timeout(soon()).await.unwrap();
    assert_eq!((&*task.record.name, &*task.returning), ("mail:send:1", "a:b"));
    assert_eq!(app.add_task("mail:send:1", json!(["c"])).timeout(soon()).await.unwrap().final_value, json!("c"));
    assert_eq!(without::add_task().on(&app).timeout(soon()).await.unwrap().returning, 1);
}

/// There an async generator, an async handler and a coroutine failed in a sync app.
#[test]
fn a_program_without_a_runtime_runs_every_kind() {
    async fn handled(i: u32) -> u32 {
        i * 10
    }
    #[task(generate_handler = handled)]
    async fn gen_async() -> u32 {
        yield_!(1);
        yield_!(2);
    }
    #[task(generate_handler = handled)]
    fn gen_sync() -> u32 {
        yield_!(1);
        yield_!(2);
    }
    #[task]
    async fn coroutine() -> [u32; 2] {
        tokio::time::sleep(Duration::from_millis(1)).await;
        [10, 20]
    }
    #[task]
    fn function() -> [u32; 2] {
        [10, 20]
    }
    let specs = [gen_async::spec(), gen_sync::spec(), coroutine::spec(), function::spec()];
    let app = qtasks::blocking::start(Qtasks::builder().store(crate::store()).tasks(specs)).unwrap();
    let expected = vec![10, 20];
    assert_eq!(gen_async::add_task().on(&app).timeout(soon()).wait_blocking().unwrap().returning, expected);
    assert_eq!(gen_sync::add_task().on(&app).timeout(soon()).wait_blocking().unwrap().returning, expected);
    assert_eq!(coroutine::add_task().on(&app).timeout(soon()).wait_blocking().unwrap().returning, [10, 20]);
    assert_eq!(function::add_task().on(&app).timeout(soon()).wait_blocking().unwrap().returning, [10, 20]);
    app.shutdown().unwrap();
}

/// There the items were gone.
#[tokio::test]
async fn cancel_inside_keeps_the_items() {
    #[task]
    async fn gives_up(ctx: Context) -> u32 {
        yield_!(1);
        yield_!(2);
        ctx.cancel("enough").await;
        yield_!(3);
    }
    let app = app_of([gives_up::spec()]).await;
    let handle = gives_up::add_task().on(&app).await.unwrap();
    let WaitError::Ended(ended) = handle.wait_timeout(soon()).await.unwrap_err() else { panic!("it has ended") };
    assert_eq!(ended.returning::<u32>().unwrap(), [1, 2]);
    assert_eq!((ended.record.status, ended.record.cancel_reason.as_deref()), (Status::Cancelled, Some("enough")));
    // By who comes later, too.
    let mut late = handle.stream();
    assert_eq!((late.try_next().await.unwrap(), late.try_next().await.unwrap()), (Some(1), Some(2)));
    assert_eq!(late.try_next().await.unwrap_err().kind(), ErrorKind::TaskFailed);
}
