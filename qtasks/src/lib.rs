#![doc = include_str!("../../README.md")]
#![doc(html_no_source)]

pub mod error;
pub mod json;
pub mod task;

pub mod event;
mod rate;
pub mod retry;
mod trace;
mod visible;

pub mod generator;

mod args;
pub mod context;
mod erased;
mod registry;
mod schema;
mod spans;
mod trouble;

mod clock;
pub mod store;

mod builtin;
mod executor;
mod isolation;
#[cfg(feature = "metrics")]
pub mod metrics;
mod middleware;
mod panics;
pub mod schedule;
pub mod signals;
mod watch;
mod worker;

mod add_task;
mod app;
pub mod blocking;
mod chain;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
mod group;
mod handle;
#[cfg(feature = "http")]
pub mod http;
mod inline;
mod iter;
mod output;
mod place;
mod stream_task;
#[cfg(feature = "test")]
pub mod test;
#[cfg(feature = "tracing-log")]
mod tracing_log;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use add_task::AddTask;
pub use app::{Builder, InspectedQueue, InspectedTask, InspectedWorker, Inspection, Qtasks, Throughput, init};
pub use chain::{Chain, Chained, chain};
pub use clock::Clock;
pub use context::{Context, FromContext, Resume, State};
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind};
pub use executor::{Executed, Execution, ExecutorSpec, TaskExecutor};
pub use group::Group;
pub use handle::{Ended, TaskHandle, WaitError};
pub use isolation::child_entry;
pub use iter::{Iter, Iterated, Piped};
pub use json::Json;
pub use middleware::{
    Attempt, AttemptOutcome, AttemptService, BoxError, Middleware, MiddlewareSpec, Next, Stopped, Tower,
};
pub use output::{Output, Piece, Text};
pub use place::On;
pub use rate::Rate;
pub use retry::{Retry, RetryPolicy};
pub use schedule::{CatchUp, Schedule, ScheduleHandle};
#[cfg(feature = "schema")]
pub use schema::Schemas;
pub use store::Store;
pub use stream_task::StreamTask;
pub use task::{
    AnyTask, ArgSpec, FailureKind, Generates, Isolation, Keep, Never, OnRetry, ScheduleSpec, Status, Task, TaskFailure,
    TaskFn, TaskId, TaskKind, TaskRecord, TaskSpec,
};
pub use trace::{Propagator, TraceContext};
#[cfg(feature = "tracing-log")]
pub use tracing_log::TaskLog;
pub use watch::{Events, Values};

pub use async_stream::{stream, try_stream};
pub use futures::future::BoxFuture;
pub use futures::{Stream, StreamExt, TryStreamExt};
pub use qtasks_macros::{receiver, task, tasks};

/// What most programs use: `use qtasks::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Context, Qtasks, Resume, State, Stream, StreamExt, Task, TaskFn, TaskHandle, TryStreamExt, receiver, stream,
        task, tasks, try_stream, yield_,
    };
}

/// Yields a value from the body of a function marked [`#[task]`](macro@task).
///
/// The attribute replaces it; on its own it is an error.
#[macro_export]
macro_rules! yield_ {
    (@in_a_task) => {};
    ($($value:tt)*) => {
        ::core::compile_error!("`yield_!` works only directly in the body of a function marked `#[task]`")
    };
}
