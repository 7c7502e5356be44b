//! `qtasks::__private`: all that generated code may name. No promise is made about any of it.

pub use crate::add_task::{AddTask, add_task};
pub use crate::args::{Arg, ArgsReader, ArgsWriter, TaskArg, arg};
pub use crate::context::{Context, FromContext};
pub use crate::erased::{
    BoxRun, Handler, HandlerOutput, Item, LocalBoxRun, OkOf, Outcome, OwnStream, Pipe, Probe, ProbeFallback, Read, Run,
    Select, Source, TaskError, TaskItem, TaskValue, boxed, boxed_local, direct, fallible, from_call, from_future,
    from_gen, from_iter, from_later_iter, from_later_stream, from_stream, handled, handler, item, never, nothing,
    outcome, outcome_with, value,
};
pub use crate::erased::{Failed, RetryOn, WishFallback, WishOf, WishProbe, Wishes, judged, wish_kind};
pub use crate::executor::{ExecutorSpec, TaskExecutor};
pub use crate::generator::{Co, Gen, IterGen, TryGen, TryIterGen, generator};
pub use crate::iter::{Iter, iter};
pub use crate::middleware::MiddlewareSpec;
pub use crate::rate::Rate;
pub use crate::registry::Registration;
pub use crate::retry::{RetryPolicy, Wish};
pub use crate::schema::{SchemaFallback, SchemaOf, SchemaProbe, Types};
pub use crate::signals::{Declared, Registered, hear, hear_value};
pub use crate::stream_task::{StreamTask, fields, stream_task};
pub use crate::task::{
    ArgSpec, CheckArg, CheckFallback, CheckProbe, Codec, Generates, Isolation, Keep, Never, OnRetry, ScheduleSpec,
    Start, StateSpec, TaskFailure, TaskFn, TaskKind, TaskSpec,
};
pub use futures::Stream;
pub use inventory;
pub use serde_json::Value as JsonValue;
pub use std::vec::Vec;

use crate::task::NAME_BYTES_MAX;

/// Refuses, at compile time, a name of a task that can't be one: for names that are no literals.
pub const fn checked_name(name: &'static str) -> &'static str {
    let bytes = name.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= NAME_BYTES_MAX, "the name of a task has 1 to 128 bytes");
    let mut i = 0;
    while i < bytes.len() {
        let known = bytes[i].is_ascii_alphanumeric() || matches!(bytes[i], b'_' | b'.' | b':' | b'-');
        assert!(known, "the name of a task is made of letters, digits, `_`, `.`, `:` and `-`");
        i += 1;
    }
    name
}

/// Refuses, at compile time, a concurrency that lets nothing run: for numbers that are no literals.
pub const fn checked_concurrency(tasks: u32) -> u32 {
    assert!(tasks > 0, "a concurrency of 0 would run nothing");
    tasks
}
