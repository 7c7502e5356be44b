//! What handles and builders ask of a server.

use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::Instant;

use super::Client;
use super::follow::{Which, follow, is_passing, pause};
use crate::add_task::Options;
use crate::app::current;
use crate::error::{Error, Result};
use crate::event::wire::Told;
use crate::event::{Event, EventKind};
use crate::json::Json;
use crate::retry::RetryPolicy;
use crate::store::{Cancelled, Due, List};
use crate::task::{Status, TaskFailure, TaskId, TaskRecord};

/// What `POST /v1/tasks` takes.
#[derive(Serialize)]
struct New<'a> {
    task: &'a str,
    args: &'a Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_limit: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_limit: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<Span>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    held: bool,
}

/// A duration as `1h 30min`.
struct Span(Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

#[derive(Serialize)]
struct At(#[serde(with = "crate::task::time")] SystemTime);

/// Of a record only what names the task.
#[derive(Deserialize)]
struct Added {
    id: TaskId,
}

#[derive(Serialize)]
struct Nothing {}

/// A page of a log.
#[derive(Deserialize)]
struct Page {
    events: Vec<Told>,
    next: u64,
    ended: bool,
}

#[derive(Deserialize)]
struct Registry<F> {
    tasks: Vec<F>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    generating: bool,
}

#[derive(Deserialize)]
struct Shown {
    output: String,
}

/// What a builder was told, as the wire has words for it.
fn new_task<'a>(task: &'a str, args: &'a Json, options: Options) -> Result<New<'a>> {
    let no_word = |setter: &str, way_out: &str| {
        Err(Error::invalid(format!("`.{setter}(…)` of `{task}` can't be said over HTTP: {way_out}")))
    };
    if options.debounce.is_some() || options.replace {
        return no_word("debounce", "add it where it is served");
    }
    if options.id.is_some() {
        return no_word("id", "the server gives ids");
    }
    let retry = match options.retry {
        Some(policy) if policy == RetryPolicy::times(policy.retries) => Some(policy.retries),
        Some(_) => return no_word("retry", "give a number, and say the waits in `#[task(backoff = …)]`"),
        None => None,
    };
    let (delay, at) = match options.due {
        Some(Due::In(delay)) => (Some(Span(delay)), None),
        Some(Due::At(at)) => (None, Some(At(at))),
        Some(Due::Now) | None => (None, None),
    };
    Ok(New {
        task,
        args,
        queue: options.queue,
        priority: options.priority,
        delay,
        at,
        retry,
        time_limit: options.time_limit.map(Span),
        idle_limit: options.idle_limit.map(Span),
        unique: options.unique,
        tags: options.tags,
        expires: options.expires.map(Span),
        retention: options.retention.map(Span),
        held: options.held,
    })
}

pub(super) fn query_of(list: List) -> Vec<(&'static str, String)> {
    let List { status, name, queue, tag, parent, cursor, limit } = list;
    let status: Vec<&str> = status.into_iter().map(Status::as_str).collect();
    let fields = [
        ("status", (!status.is_empty()).then(|| status.join(","))),
        ("task", name),
        ("queue", queue),
        ("tag", tag),
        ("parent", parent.map(|id| id.to_string())),
        ("cursor", cursor),
        ("limit", (limit > 0).then(|| limit.to_string())),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

impl Client {
    pub(crate) async fn add(&self, name: &str, args: &Json, mut options: Options) -> Result<TaskId> {
        options = options.traced()?;
        let (key, trace) = (options.idempotency_key.take(), options.trace.take().or_else(current::any_trace));
        let new = new_task(name, args, options)?;
        let mut headers: Vec<_> = key.iter().map(|key| ("idempotency-key", &**key)).collect();
        if let Some(trace) = &trace {
            headers.push(("traceparent", trace.traceparent()));
            headers.extend(trace.tracestate().map(|state| ("tracestate", state)));
        }
        let Added { id } = self.post("/v1/tasks", &new, &headers).await?;
        Ok(id)
    }

    pub(super) async fn cancel_with(&self, id: TaskId, reason: String) -> Result<Cancelled> {
        let body = serde_json::json!({ "reason": reason });
        let record: TaskRecord = self.post(&format!("/v1/tasks/{id}/cancel"), &body, &[]).await?;
        Ok(match record.status {
            Status::Cancelled => Cancelled::Done,
            status if status.is_ended() => Cancelled::Ended(status),
            _ => Cancelled::Asked,
        })
    }

    pub(super) async fn start_held(&self, id: TaskId) -> Result<Status> {
        let record: TaskRecord = self.post(&format!("/v1/tasks/{id}/start"), &Nothing {}, &[]).await?;
        Ok(record.status)
    }

    pub(crate) async fn again(&self, id: TaskId) -> Result<TaskId> {
        let Added { id } = self.post(&format!("/v1/tasks/{id}/retry"), &Nothing {}, &[]).await?;
        Ok(id)
    }

    /// Waits for the end of a task: its record, and the values that hold.
    pub(crate) async fn ended(&self, id: TaskId) -> Result<(TaskRecord, Vec<Json>)> {
        let record = self.record_at_last(id).await?;
        let mut values = Vec::new();
        let nothing_to_read = record.yields == 0 && (record.final_value.is_some() || record.failure().is_some());
        if nothing_to_read {
            return Ok((record, values));
        }
        let mut events = follow(self, id, Which::Holding, 1);
        while let Some(event) = events.next().await {
            match event?.kind {
                EventKind::Yield { value, .. } => values.push(value),
                EventKind::Rewind { to } => values.truncate(usize::try_from(to).unwrap_or(usize::MAX)),
                _ => {}
            }
        }
        let record = if record.status.is_ended() { record } else { self.record_at_last(id).await? };
        Ok((record, values))
    }

    /// The record of a task, from a server that may be away for a while.
    async fn record_at_last(&self, id: TaskId) -> Result<TaskRecord> {
        let client = self.clone();
        let asking = async move {
            let (begun, mut failures) = (Instant::now(), 0);
            loop {
                match client.record(id).await {
                    Err(error) if is_passing(&error) && begun.elapsed() < client.inner.timeout => failures += 1,
                    answer => return answer,
                }
                tokio::time::sleep(pause(failures)).await;
            }
        };
        self.run(asking).await
    }

    /// Whether the task function of a name yields; one that the server does not know may.
    pub(crate) async fn is_generating(&self, name: &str) -> Result<bool> {
        let tasks: Vec<Function> = self.functions().await?;
        Ok(tasks.iter().find(|task| task.name == name).is_none_or(|task| task.generating))
    }

    /// The task functions of the server, as what of them is wanted.
    pub(crate) async fn functions<F: DeserializeOwned + Send + 'static>(&self) -> Result<Vec<F>> {
        let Registry { tasks } = self.get("/v1/registry".to_owned(), Vec::new()).await?;
        Ok(tasks)
    }

    pub(crate) async fn failures(&self, id: TaskId) -> Result<Vec<TaskFailure>> {
        let (mut failures, mut from) = (Vec::new(), 1);
        loop {
            let query = [("format", "json"), ("view", "all"), ("limit", "1000")];
            let mut query: Vec<_> = query.map(|(name, value)| (name, value.to_owned())).into();
            query.push(("from", from.to_string()));
            let page: Page = self.get(format!("/v1/tasks/{id}/events"), query).await?;
            let events = page.events.into_iter().filter_map(|told| match told {
                Told::Event(event) => Some(event),
                Told::Unknown { .. } => None,
            });
            failures.extend(events.filter_map(failure_of));
            if page.ended || page.next <= from {
                return Ok(failures);
            }
            from = page.next;
        }
    }

    /// What a task whose values are text has yielded so far.
    pub(crate) async fn output(&self, id: TaskId) -> Result<String> {
        let query = vec![("include", "output".to_owned())];
        let Shown { output } = self.get(format!("/v1/tasks/{id}"), query).await?;
        Ok(output)
    }
}

/// How an attempt failed, of an event that says so.
fn failure_of(event: Event) -> Option<TaskFailure> {
    match event.kind {
        EventKind::Retry { error, .. } | EventKind::Failed { error } => Some(error),
        _ => None,
    }
}
