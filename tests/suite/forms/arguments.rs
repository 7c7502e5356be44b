//! What `#[task(…)]` says ends up in the spec.

use std::time::Duration;

use qtasks::{Isolation, Keep, OnRetry, RetryPolicy};

use super::*;

const QUEUE: &str = "slow";
const POLICY: RetryPolicy = RetryPolicy::times(5).constant(Duration::from_millis(1));

/// The docs
/// of it.
///
/// More of them.
#[task(
    queue = QUEUE,
    priority = -5,
    retry = 3,
    time_limit = "1h 30min",
    idle_limit = "5s",
    isolation = "process",
    tags("a", "b"),
    on_retry = restart,
    yields_max = 10_000_000,
    log_bytes_max = 1 << 40,
    keep = last(1_000),
    echo
)]
async fn all(ctx: Context) -> i64 {
    let _ = ctx;
    yield_!(1);
}

#[task(
    description = concat!("an ", "expression"),
    retry = POLICY,
    time_limit = Duration::from_secs(90),
    tags = [QUEUE, "c"],
    on_retry = "replay",
    keep = all,
    echo = false,
)]
async fn others() -> i64 {
    yield_!(1);
}

#[task(keep = last(2), executor = crate::forms::arguments::own::Executor)]
async fn resumes(from: Resume<i64>) -> i64 {
    let _ = from;
    yield_!(1);
}

#[task]
async fn none() {}

#[test]
fn arguments_of_the_attribute_are_registered() {
    let spec = all::spec();
    assert_eq!(spec.description, Some("The docs of it."));
    assert_eq!((spec.queue, spec.priority, spec.retry), ("slow", -5, RetryPolicy::times(3)));
    assert_eq!(spec.time_limit, Some(Duration::from_secs(5_400)));
    assert_eq!((spec.tags, spec.on_retry, spec.keep), (&["a", "b"][..], OnRetry::Restart, Keep::Last(1_000)));
    assert_eq!((spec.yields_max, spec.log_bytes_max), (Some(10_000_000), Some(1 << 40)));
    assert!(spec.echo);
    assert_eq!((spec.idle_limit, spec.isolation), (Some(Duration::from_secs(5)), Isolation::Process));

    let spec = others::spec();
    assert_eq!(spec.description, Some("an expression"));
    assert_eq!((spec.retry, spec.time_limit), (POLICY, Some(Duration::from_secs(90))));
    assert_eq!((spec.tags, spec.on_retry, spec.keep), (&["slow", "c"][..], OnRetry::Replay, Keep::All));
    assert!(!spec.echo);

    let spec = resumes::spec();
    assert_eq!((spec.on_retry, spec.keep), (OnRetry::Resume, Keep::Last(2)));
    assert_eq!(spec.executor.unwrap().name(), "crate::forms::arguments::own::Executor");
}

#[test]
fn what_is_not_said_is_the_default() {
    let spec = none::spec();
    assert_eq!((spec.name, spec.description, spec.queue), ("none", None, "default"));
    assert_eq!((spec.priority, spec.retry, spec.time_limit), (0, RetryPolicy::none(), None));
    assert_eq!((spec.idle_limit, spec.isolation), (None, Isolation::None));
    assert_eq!((spec.tags.len(), spec.state.len(), spec.args.len()), (0, 0, 0));
    assert_eq!((spec.yields_max, spec.log_bytes_max), (None, None));
    assert_eq!((spec.on_retry, spec.keep, spec.executor.is_none()), (OnRetry::Replay, Keep::All, true));
    assert_eq!((spec.module, spec.line > 0), (module_path!(), true));
    assert!(spec.file.ends_with("forms/arguments.rs"));
}

mod own {
    /// Does nothing of its own.
    #[derive(Debug)]
    pub(super) struct Executor;
    impl qtasks::TaskExecutor for Executor {}
}
