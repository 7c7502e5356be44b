//! The `tracing` spans of what is done with tasks, all of the target `qtasks`. Where nobody listens they cost a look at a number.
//!
//! `qtasks.add` and `qtasks.attempt` are of the level `info`, `qtasks.claim` and `qtasks.append`, which are many, of
//! `trace`. They have the fields of OpenTelemetry's conventions for messaging, which `tracing-opentelemetry` makes
//! attributes of. Never in them: arguments and values.

use tracing::{Span, info_span, trace_span};

use crate::store::{Append, Claim, NewTask};
use crate::task::TaskRecord;

const TARGET: &str = "qtasks";

/// Tasks are added: a part of whatever the caller is in.
pub(crate) fn add(tasks: &[NewTask]) -> Span {
    match tasks {
        [task] => info_span!(
            target: TARGET,
            "qtasks.add",
            id = %task.id,
            name = task.name,
            queue = task.queue,
            traceparent = task.trace.as_ref().map(|trace| trace.traceparent()),
            otel.name = %format_args!("add {}", task.name),
            otel.kind = "producer",
            messaging.system = "qtasks",
            messaging.operation.name = "add",
            messaging.operation.type = "send",
            messaging.destination.name = task.queue,
            messaging.message.id = %task.id,
        ),
        tasks => info_span!(
            target: TARGET,
            "qtasks.add",
            otel.kind = "producer",
            messaging.system = "qtasks",
            messaging.operation.name = "add",
            messaging.operation.type = "send",
            messaging.batch.message_count = tasks.len(),
        ),
    }
}

/// A worker asks for tasks.
pub(crate) fn claim(claim: &Claim) -> Span {
    trace_span!(
        target: TARGET,
        parent: None,
        "qtasks.claim",
        worker = claim.worker,
        max = claim.max,
        otel.kind = "client",
        messaging.system = "qtasks",
        messaging.operation.name = "claim",
        messaging.operation.type = "receive",
    )
}

/// A worker runs a task: a span of its own, which is only told which trace the task belongs to.
pub(crate) fn attempt(record: &TaskRecord, worker: &str) -> Span {
    info_span!(
        target: TARGET,
        parent: None,
        "qtasks.attempt",
        id = %record.id,
        name = record.name,
        queue = record.queue,
        attempt = record.attempt,
        worker,
        traceparent = record.trace.as_ref().map(|trace| trace.traceparent()),
        otel.name = %format_args!("run {}", record.name),
        otel.kind = "consumer",
        messaging.system = "qtasks",
        messaging.operation.name = "run",
        messaging.operation.type = "process",
        messaging.destination.name = record.queue,
        messaging.message.id = %record.id,
    )
}

/// Events of one or more tasks are stored.
pub(crate) fn append(batch: &[Append]) -> Span {
    trace_span!(
        target: TARGET,
        parent: None,
        "qtasks.append",
        tasks = batch.len(),
        events = batch.iter().map(|append| append.events.len()).sum::<usize>(),
        otel.kind = "client",
        messaging.system = "qtasks",
        messaging.operation.name = "append",
        messaging.operation.type = "settle",
    )
}
