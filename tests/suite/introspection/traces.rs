//! Which trace a task belongs to: from who adds it to each of its attempts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{ErrorKind, Propagator, StreamTask, TaskId, TraceContext};
use serde::{Deserialize, Serialize};

use crate::{app_of, soon};

/// Of a number other than 0.
fn parent(n: u64) -> String {
    format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{n:016x}-01")
}

fn told(ctx: &Context) -> String {
    let trace = ctx.trace().map_or("none", TraceContext::traceparent);
    assert_eq!(ctx.traceparent().unwrap_or("none"), trace);
    format!("{trace} {}", ctx.trace().and_then(TraceContext::tracestate).unwrap_or("none"))
}

#[task(retry = 1)]
async fn tells_trace(ctx: Context) -> Result<String, String> {
    yield_!(format!("{} {}", ctx.attempt(), told(&ctx)));
    if ctx.attempt() == 1 {
        Err("once more")?;
    }
}

#[task(retry = 1)]
async fn tells_trace_at_last(ctx: Context) -> Result<String, String> {
    if ctx.attempt() == 1 { Err("once more".to_owned()) } else { Ok(told(&ctx)) }
}

#[tokio::test]
async fn every_attempt_is_of_the_trace_that_the_task_was_added_in_also_in_a_worker_that_comes_later() {
    let url = format!("sqlite:{}", crate::scratch().join("q.db").display());
    let adds = Qtasks::builder().store(&url).tasks([tells_trace_at_last::spec()]).open().await.unwrap();
    let task = tells_trace_at_last::add_task().on(&adds).traceparent(parent(1)).tracestate("a=1,b=2").await.unwrap();
    let without = tells_trace_at_last::add_task().on(&adds).await.unwrap();
    let (id, other) = (task.id(), without.id());
    adds.shutdown().await.unwrap();
    drop((adds, task, without));

    let works = Qtasks::builder().store(&url).tasks([tells_trace_at_last::spec()]).start().await.unwrap();
    let returned = async |id: TaskId| {
        let handle = TaskHandle::<tells_trace_at_last>::attach(&works, id).await.unwrap();
        let task = handle.wait_timeout(soon()).await.unwrap();
        assert_eq!(task.record.attempt, 2);
        (task.returning, task.record.trace)
    };
    let trace = TraceContext::new(parent(1)).unwrap().with_state("a=1,b=2").unwrap();
    assert_eq!(returned(id).await, (format!("{} a=1,b=2", parent(1)), Some(trace)));
    assert_eq!(returned(other).await, ("none none".to_owned(), None));
    works.shutdown().await.unwrap();
}

#[derive(Debug, Serialize, Deserialize)]
struct Traced {}

#[task]
impl StreamTask for Traced {
    async fn process(&self, ctx: Context) -> String {
        told(&ctx)
    }
}

#[task]
async fn tells_trace_of(ctx: Context, x: u8) -> String {
    let _ = x;
    told(&ctx)
}

#[task]
async fn numbers() -> u8 {
    yield_!(1);
    yield_!(2);
}

/// What tasks have that a body adds, in all the ways there are.
#[task]
async fn adds_children(ctx: Context) -> Result<Vec<String>, qtasks::Error> {
    let mut seen = vec![told(&ctx)];
    seen.push(tells_trace_of::add_task(1).timeout(soon()).await?.returning);
    seen.push(Traced {}.add_task().timeout(soon()).await?.final_value);
    seen.push(tells_trace_of::add_task(1).traceparent(parent(9)).timeout(soon()).await?.returning);
    let mut iter = tells_trace_of::iter([1, 2]);
    iter.run().await?;
    for item in iter.result(soon()).await?.unwrap_or_default() {
        seen.push(item?);
    }
    let chain = qtasks::chain(tells_trace_of::add_task(1)).then_task(tells_trace_of::add_task(2));
    seen.push(chain.timeout(soon()).await?.final_value);
    let piped = numbers::add_task().pipe::<tells_trace_of>().timeout(soon()).await?;
    for item in piped.returning {
        seen.push(item?);
    }
    Ok(seen)
}

#[task]
fn adds_from_a_thread(ctx: Context) -> Result<Vec<String>, qtasks::Error> {
    let child = tells_trace_of::add_task(1).add_blocking()?.wait_blocking()?;
    assert_eq!(child.record.parent, Some(ctx.id()));
    Ok(vec![told(&ctx), child.returning])
}

#[tokio::test]
async fn what_a_body_adds_is_of_its_trace_unless_it_is_told_otherwise() {
    let specs =
        [adds_children::spec(), adds_from_a_thread::spec(), tells_trace_of::spec(), Traced::spec(), numbers::spec()];
    let app = app_of(specs).await;
    for (trace, text) in [(Some(parent(3)), format!("{} s=1", parent(3))), (None, "none none".to_owned())] {
        let mut task = adds_children::add_task().on(&app);
        let mut sync = adds_from_a_thread::add_task().on(&app);
        if let Some(trace) = &trace {
            task = task.traceparent(trace).tracestate("s=1");
            sync = sync.traceparent(trace).tracestate("s=1");
        }
        let seen = task.timeout(soon()).await.unwrap().returning;
        assert_eq!(seen.len(), 9);
        for (i, seen) in seen.iter().enumerate() {
            let expected = if i == 3 { format!("{} none", parent(9)) } else { text.clone() };
            assert_eq!(*seen, expected, "{i}");
        }
        assert_eq!(sync.timeout(soon()).await.unwrap().returning, [text.clone(), text]);
    }
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_no_trace_is_refused_and_nothing_is_added() {
    let app = app_of([tells_trace_of::spec()]).await;
    let with = |trace: &str| tells_trace_of::add_task(1).on(&app).traceparent(trace);
    let error = with("00-xyz").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("the traceparent \"00-xyz\" is not of the form"), "{error}");
    assert_eq!(with(&parent(1)).tracestate("").await.unwrap_err().kind(), ErrorKind::Invalid);
    let error = tells_trace_of::add_task(1).on(&app).tracestate("a=1").await.unwrap_err();
    assert!(error.to_string().contains("give it by `.traceparent(…)`"), "{error}");
    let mut iter = tells_trace_of::iter([1]).on(&app).traceparent("no");
    assert_eq!(iter.run().await.unwrap_err().kind(), ErrorKind::Invalid);
    let scheduled = app.schedule("s", with(&parent(1))).every(Duration::from_secs(9));
    let error = scheduled.await.unwrap_err();
    assert!(error.to_string().contains("`.traceparent`"), "{error}");
    assert!(app.stats().await.unwrap().queues.values().all(std::collections::BTreeMap::is_empty));
    app.shutdown().await.unwrap();
}

/// Each time another trace; keeps what it is to adopt.
#[derive(Clone, Default)]
struct Counts(Arc<(AtomicU64, Mutex<Vec<String>>)>);

impl Propagator for Counts {
    fn current(&self) -> Option<TraceContext> {
        let n = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        TraceContext::new(parent(n)).ok()
    }

    fn adopt(&self, _: &tracing::Span, trace: &TraceContext) {
        self.0.1.lock().unwrap().push(trace.traceparent().to_owned());
    }
}

#[tokio::test]
async fn a_propagator_says_which_trace_and_is_told_of_attempts() {
    let counts = Counts::default();
    let specs = [tells_trace::spec(), tells_trace_of::spec()];
    let app = Qtasks::builder().store("memory:").tasks(specs).trace(counts.clone()).start().await.unwrap();
    let first = tells_trace::add_task().on(&app).timeout(soon()).await.unwrap();
    assert_eq!(first.returning.last().unwrap(), &format!("2 {} none", parent(1)));
    let given = tells_trace_of::add_task(1).on(&app).traceparent(parent(77)).timeout(soon()).await.unwrap();
    assert_eq!(given.returning, format!("{} none", parent(77)));
    assert_eq!(*counts.0.1.lock().unwrap(), [parent(1), parent(1), parent(77)]);

    // A trace is no part of what is called: under its key the task is the same, and keeps the trace that it has.
    let once = || tells_trace_of::add_task(1).on(&app).idempotency_key("k");
    let (one, two) = (once().await.unwrap(), once().await.unwrap());
    assert_eq!(one.id(), two.id());
    assert_eq!(two.wait_timeout(soon()).await.unwrap().returning, format!("{} none", parent(2)));
    app.shutdown().await.unwrap();

    let none = Qtasks::builder().store("memory:").tasks(specs).trace(|| None).start().await.unwrap();
    let task = tells_trace_of::add_task(1).on(&none).timeout(soon()).await.unwrap();
    assert_eq!(task.returning, "none none");
    none.shutdown().await.unwrap();
}
