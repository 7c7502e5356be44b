//! What a failed attempt is followed by, as the function, its errors and its predicate say.

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{EventKind, FailureKind, Retry, RetryPolicy, Status, TaskFailure, TaskSpec};

use crate::{app_of, failure, kinds, soon};

const AT_ONCE: RetryPolicy = RetryPolicy::times(3).constant(Duration::ZERO);
const LONG: Duration = Duration::from_secs(24 * 3600);

/// How it failed in each attempt, once it has.
async fn failures<F: TaskFn>(handle: &TaskHandle<F>) -> Vec<(u32, String)> {
    let _ = handle.wait_timeout(soon()).await;
    handle.failures().await.unwrap().into_iter().map(|f| (f.attempt, f.message)).collect()
}

#[derive(Debug)]
enum Trouble {
    Passing,
    Lasting,
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

fn passes(error: &Trouble) -> bool {
    matches!(error, Trouble::Passing)
}

#[tokio::test]
async fn a_predicate_on_the_error_of_the_task_decides() {
    #[task(retry = AT_ONCE, retry_on = passes)]
    async fn plain(ctx: Context) -> Result<u32, Trouble> {
        if ctx.attempt() < 3 { Err(Trouble::Passing) } else { Err(Trouble::Lasting) }
    }
    #[task(retry = AT_ONCE, retry_on = |error: &Trouble| matches!(error, Trouble::Passing))]
    fn yields(ctx: Context) -> Result<u32, Trouble> {
        yield_!(1);
        if ctx.attempt() < 2 {
            Err(Trouble::Passing)?;
        }
        Err(Trouble::Lasting)?;
    }
    /// It says nothing of what is not an error of the body.
    #[task(retry = AT_ONCE, retry_on = passes)]
    async fn panics(ctx: Context) -> Result<u32, Trouble> {
        assert!(ctx.attempt() == 2, "once");
        Err(Trouble::Lasting)
    }
    let app = app_of([plain::spec(), yields::spec(), panics::spec()]).await;
    let plain = plain::add_task().on(&app).await.unwrap();
    let expected = [(1, "Passing".to_owned()), (2, "Passing".to_owned()), (3, "Lasting".to_owned())];
    assert_eq!(failures(&plain).await, expected);
    let yields = yields::add_task().on(&app).await.unwrap();
    assert_eq!(failures(&yields).await, [(1, "Passing".to_owned()), (2, "Lasting".to_owned())]);
    let panics = panics::add_task().on(&app).await.unwrap();
    assert_eq!(failures(&panics).await, [(1, "once".to_owned()), (2, "Lasting".to_owned())]);
    app.shutdown().await.unwrap();
}

fn is_error(failure: &TaskFailure) -> bool {
    failure.kind == FailureKind::Error && failure.attempt < 3
}

#[tokio::test]
async fn a_predicate_on_the_failure_decides() {
    #[task(retry = AT_ONCE, retry_on = is_error)]
    async fn text() -> Result<(), String> {
        Err("text".to_owned())
    }
    #[task(retry = AT_ONCE, retry_on = is_error)]
    async fn no_result() -> u32 {
        panic!("a panic is no error")
    }
    #[task(retry = AT_ONCE, retry_on = |_: &TaskFailure| panic!("the policy decides"))]
    async fn alias() -> anyhow::Result<()> {
        anyhow::bail!("alias")
    }
    let app = app_of([text::spec(), no_result::spec(), alias::spec()]).await;
    assert_eq!(failures(&text::add_task().on(&app).await.unwrap()).await.len(), 3);
    assert_eq!(failures(&no_result::add_task().on(&app).await.unwrap()).await.len(), 1);
    assert_eq!(failures(&alias::add_task().on(&app).await.unwrap()).await.len(), 4);
    app.shutdown().await.unwrap();
}

/// An error that holds another.
#[derive(Debug)]
struct Outer(Retry);

impl std::fmt::Display for Outer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl std::error::Error for Outer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl From<Retry> for Outer {
    fn from(retry: Retry) -> Self {
        Outer(retry)
    }
}

/// First at once, whatever the policy, then not again.
fn wish(attempt: u32) -> Result<(), Retry> {
    if attempt == 1 { Err(Retry::now().because("busy")) } else { Err(Retry::never("no use")) }
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;
type Aliased<T> = Result<T, Outer>;

#[task]
async fn own(ctx: Context) -> Result<(), Retry> {
    wish(ctx.attempt())
}
#[task]
async fn boxed(ctx: Context) -> Result<(), Boxed> {
    wish(ctx.attempt())?;
    Ok(())
}
#[task]
async fn any(ctx: Context) -> anyhow::Result<()> {
    use anyhow::Context as _;
    wish(ctx.attempt()).context("with more")
}
#[task]
async fn nested(ctx: Context) -> Result<(), Outer> {
    Ok(wish(ctx.attempt())?)
}
#[task]
async fn aliased(ctx: Context) -> Aliased<()> {
    Ok(wish(ctx.attempt())?)
}
#[task]
async fn generating(ctx: Context) -> Result<u32, Retry> {
    yield_!(7);
    wish(ctx.attempt())?;
}
#[task(yield = u32)]
fn with_final_value(ctx: Context) -> anyhow::Result<String> {
    yield_!(7);
    wish(ctx.attempt())?;
    Ok("end".to_owned())
}
#[task]
fn streamed(ctx: Context) -> impl Iterator<Item = Result<u32, Outer>> {
    [Ok(1), wish(ctx.attempt()).map(|()| 2).map_err(Outer)].into_iter()
}

#[tokio::test]
async fn a_retry_is_found_in_the_error_wherever_it_is() {
    async fn check<F: TaskFn>(app: &Qtasks, task: qtasks::AddTask<F>) {
        let handle = task.on(app).retry(RetryPolicy::times(9).constant(LONG)).await.unwrap();
        let found: Vec<u32> = failures(&handle).await.into_iter().map(|(attempt, _)| attempt).collect();
        assert_eq!(found, [1, 2], "{handle:?}");
        assert_eq!(handle.status().await.unwrap(), Status::Failed);
    }
    let specs: [&TaskSpec; 8] = [
        own::spec(),
        boxed::spec(),
        any::spec(),
        nested::spec(),
        aliased::spec(),
        generating::spec(),
        with_final_value::spec(),
        streamed::spec(),
    ];
    let app = app_of(specs).await;
    check(&app, own::add_task()).await;
    check(&app, boxed::add_task()).await;
    check(&app, any::add_task()).await;
    check(&app, nested::add_task()).await;
    check(&app, aliased::add_task()).await;
    check(&app, generating::add_task()).await;
    check(&app, with_final_value::add_task()).await;
    check(&app, streamed::add_task()).await;
    let own = own::add_task().on(&app).retry(9).await.unwrap();
    assert_eq!(failures(&own).await, [(1, "busy".to_owned()), (2, "no use".to_owned())]);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_retry_chooses_the_wait_and_adds_no_attempt() {
    #[task]
    async fn later() -> Result<(), Retry> {
        Err(Retry::after(LONG).because("tomorrow"))
    }
    #[task]
    async fn always() -> Result<(), Retry> {
        Err(Retry::now())
    }
    let app = app_of([later::spec(), always::spec()]).await;
    let handle = later::add_task().on(&app).retry(AT_ONCE).await.unwrap();
    let events = handle.events_from(1).take(2).try_collect::<Vec<_>>().await.unwrap();
    let EventKind::Retry { error, at } = &events[1].kind else { panic!("{events:?}") };
    assert_eq!(error.message, "tomorrow");
    assert_eq!(at.duration_since(events[1].at).unwrap(), LONG);
    assert_eq!(handle.failures().await.unwrap().len(), 1, "of a task that goes on as well");
    // None is left, and none was to begin with.
    assert_eq!(failures(&always::add_task().on(&app).retry(2).await.unwrap()).await.len(), 3);
    assert_eq!(failures(&always::add_task().on(&app).await.unwrap()).await.len(), 1);
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn every_attempt_tells_how_it_failed() {
    #[task(retry = 2, backoff = none)]
    async fn fails(ctx: Context) -> Result<u32, String> {
        yield_!(1);
        Err(format!("attempt {}", ctx.attempt()))?;
    }
    let app = app_of([fails::spec()]).await;
    let handle = fails::add_task().on(&app).await.unwrap();
    let error = handle.wait().await.unwrap_err();
    let all = handle.failures().await.unwrap();
    assert_eq!(
        all.iter().map(|f| (f.attempt, &*f.message)).collect::<Vec<_>>(),
        [(1, "attempt 1"), (2, "attempt 2"), (3, "attempt 3")]
    );
    assert_eq!(all.last(), Some(failure(&error)));
    let log: Vec<_> = handle.events_from(1).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started yield retry started retry started failed");
    app.shutdown().await.unwrap();
}

#[test]
fn the_backoff_of_the_attribute_is_the_policy() {
    #[task(retry = 3, backoff = exponential("1s", max = "5m", jitter))]
    async fn both() {}
    #[task(retry = 3, backoff = exponential("2s"))]
    async fn plain() {}
    #[task(retry = AT_ONCE, backoff = fixed("10s"))]
    async fn fixed() {}
    #[task(retry = 3, backoff = none)]
    async fn none() {}
    let secs = Duration::from_secs;
    let times = RetryPolicy::times(3);
    assert_eq!(both::spec().retry, times.exponential(secs(1), secs(300)).jitter(true));
    assert_eq!(plain::spec().retry, times.exponential(secs(2), secs(300)).jitter(false));
    assert_eq!(fixed::spec().retry, times.constant(secs(10)));
    assert_eq!(none::spec().retry, times.constant(Duration::ZERO));
}
