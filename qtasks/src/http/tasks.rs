//! Tasks: added, listed, shown, cancelled, done again.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::rejection::PathRejection;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::auth::{Scope, TICKET_MAX};
use super::input::{self, Instant, Span};
use super::problem::Problem;
use super::{Answered, Inner, Shared, events};
use crate::error::ErrorKind;
use crate::handle::TaskHandle;
use crate::json::Json;
use crate::store::List;
use crate::task::{AnyTask, ArgSpec, Status, TaskId, TaskRecord, TaskSpec};
use crate::trace::TraceContext;

/// What `POST /v1/tasks` takes.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    task: String,
    args: Option<Json>,
    queue: Option<String>,
    priority: Option<i16>,
    delay: Option<Span>,
    at: Option<Instant>,
    retry: Option<u32>,
    time_limit: Option<Span>,
    idle_limit: Option<Span>,
    unique: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    expires: Option<Span>,
    retention: Option<Span>,
    #[serde(default)]
    held: bool,
}

/// A record, with what was asked for besides.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    record: TaskRecord,
    /// The values that hold, as one list; of a task that yields nothing its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    returning: Option<Json>,
    /// Its text, of a task that yields text.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

pub(super) async fn add(State(inner): Shared, request: Request) -> Answered {
    inner.access.allow(request.headers(), Scope::Add)?;
    let (parts, body) = request.into_parts();
    let new: New = input::body(Request::from_parts(parts.clone(), body), inner.body_time).await?;
    add_new(&inner, &parts, new, true).await
}

/// The body is the arguments.
pub(super) async fn add_by_route(
    State(inner): Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answered {
    inner.access.allow(request.headers(), Scope::Add)?;
    let (parts, body) = request.into_parts();
    let args = input::args(Request::from_parts(parts.clone(), body), inner.body_time).await?;
    let task = path.map(|Path(task)| task).unwrap_or_default();
    add_new(&inner, &parts, New { task, args: Some(args), ..New::default() }, false).await
}

/// Adds a task; `in_body` is whether its name stood there, and its arguments beside it.
async fn add_new(inner: &Arc<Inner>, parts: &Parts, new: New, in_body: bool) -> Answered {
    let streams = input::accepts(&parts.headers, "text/event-stream");
    if streams {
        inner.access.allow(&parts.headers, Scope::Read)?;
    }
    let key = idempotency_key(&parts.headers)?;
    let named = new.task.clone();
    let by_name = new.args.as_ref().is_some_and(|args| args.as_bytes().starts_with(b"{"));
    let handle = match task_of(inner, new, key, trace(&parts.headers)).await {
        Err(error) if error.kind() == ErrorKind::NotFound && in_body => {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_task", error.to_string()).at("/task"));
        }
        Err(error) => {
            let pointer = argument(&error.to_string(), &named, by_name, in_body);
            let problem = Problem::from(error);
            return Err(match pointer {
                Some(pointer) if !pointer.is_empty() => problem.at(pointer),
                _ => problem,
            });
        }
        Ok(handle) => handle,
    };
    if streams {
        let mut response = events::stream_of(inner, handle.id()).await?;
        response.headers_mut().insert(header::LOCATION, location(parts, handle.id()));
        return Ok(response);
    }
    added(inner, parts, &handle).await
}

/// Where in the body the argument is that an error names; else where all of them are.
fn argument(error: &str, task: &str, by_name: bool, in_body: bool) -> Option<String> {
    let of = error.strip_prefix(&format!("`{task}`: "))?;
    let name = of.strip_prefix("argument `").filter(|_| by_name).and_then(|rest| rest.split_once("`: "));
    let root = if in_body { "/args" } else { "" };
    Some(name.map_or_else(|| root.to_owned(), |(name, _)| format!("{root}/{name}")))
}

async fn task_of(
    inner: &Inner,
    new: New,
    key: Option<String>,
    trace: Option<TraceContext>,
) -> crate::Result<TaskHandle<AnyTask>> {
    let args = new.args.unwrap_or_else(Json::nothing);
    let mut task = inner.app.add_task(new.task, args);
    macro_rules! set {
        ($($setter:ident: $value:expr;)*) => { $( if let Some(value) = $value { task = task.$setter(value); } )* };
    }
    set! {
        queue: new.queue;
        priority: new.priority;
        delay: new.delay.map(|span| span.0);
        at: new.at.map(|at| at.0);
        retry: new.retry;
        time_limit: new.time_limit.map(|span| span.0);
        idle_limit: new.idle_limit.map(|span| span.0);
        unique: new.unique;
        expires: new.expires.map(|span| span.0);
        retention: new.retention.map(|span| span.0);
        idempotency_key: key;
        traceparent: trace.as_ref().map(|trace| trace.traceparent());
        tracestate: trace.as_ref().and_then(|trace| trace.tracestate());
    }
    for tag in new.tags {
        task = task.tag(tag);
    }
    if new.held {
        task = task.held();
    }
    task.await
}

/// What a client is told of a task that it has added: the values as well, if it waited for them.
async fn added(inner: &Inner, parts: &Parts, handle: &TaskHandle<AnyTask>) -> Answered {
    let mut status = StatusCode::ACCEPTED;
    let mut applied = false;
    if let Some(wait) = input::wait(&parts.headers)
        && inner.access.allow(&parts.headers, Scope::Read).is_ok()
    {
        applied = true;
        let ended = tokio::time::timeout(wait, inner.app.core().hub.ended(handle.id())).await;
        if let Ok(record) = ended {
            record?;
            status = StatusCode::OK;
        }
    }
    let record = handle.record().await?;
    let returning = if status == StatusCode::OK { Some(returning(handle, &record).await?) } else { None };
    let mut response = json(status, &Shown { record, returning, output: None });
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, location(parts, handle.id()));
    if applied {
        headers.insert("preference-applied", HeaderValue::from_static("wait"));
    }
    Ok(response)
}

/// Where a task is found, wherever the service is nested.
fn location(parts: &Parts, id: TaskId) -> HeaderValue {
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let root = uri.path().find("/v1/").map_or("", |at| &uri.path()[..at]);
    HeaderValue::from_str(&format!("{root}/v1/tasks/{id}")).expect("a path that was sent")
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    match key.to_str() {
        Ok(key) => Ok(Some(key.trim_matches('"').to_owned())),
        Err(_) => Err(Problem::invalid("the `Idempotency-Key` has characters that are not ASCII")),
    }
}

/// The trace that a request belongs to. What is none is as if it were not there, as W3C Trace Context has it.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let trace = TraceContext::new(text("traceparent")?).ok()?;
    match text("tracestate") {
        Some(state) => Some(trace.with_state(state).unwrap_or(trace)),
        None => Some(trace),
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer can't be written: what is stored is not JSON");
            let detail = "what is stored of the task is not JSON: its store is damaged";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", detail).into_response()
        }
    }
}

async fn returning(handle: &TaskHandle<AnyTask>, record: &TaskRecord) -> crate::Result<Json> {
    if record.yields == 0 && !handle.is_generating(&record.name).await? {
        return Ok(record.final_value.clone().unwrap_or_else(Json::null));
    }
    Ok(handle.yields_as_stored().await?.list())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    status: Option<String>,
    task: Option<String>,
    queue: Option<String>,
    tag: Option<String>,
    parent: Option<TaskId>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn list(State(inner): Shared, request: Request) -> Answered {
    let (parts, _) = request.into_parts();
    inner.access.allow(&parts.headers, Scope::Read)?;
    let filter: Filter = input::query(&parts)?;
    let words = filter.status.iter().flat_map(|words| words.split(','));
    let status: Result<Vec<Status>, _> = words.map(str::parse).collect();
    let status = status.map_err(|e: <Status as std::str::FromStr>::Err| Problem::invalid(format!("`status`: {e}")))?;
    let limit = limit_of(filter.limit)?;
    let Filter { task: name, queue, tag, parent, cursor, .. } = filter;
    let listed = inner.app.list(List { status, name, queue, tag, parent, cursor, limit }).await?;
    Ok(json(StatusCode::OK, &listed))
}

/// How much is on a page.
pub(super) fn limit_of(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(50) {
        limit @ 1..=1000 => Ok(limit),
        limit => Err(Problem::invalid(format!("`limit` is {limit}: a page has 1 to 1000"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Include {
    include: Option<String>,
}

pub(super) async fn show(
    State(inner): Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answered {
    let (parts, _) = request.into_parts();
    inner.access.allow(&parts.headers, Scope::Read)?;
    let include: Include = input::query(&parts)?;
    let handle = inner.app.task(input::id(path)?).await?;
    let record = handle.record().await?;
    let tag = etag(&record, include.include.as_deref());
    if let Some(tag) = &tag
        && parts.headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag)
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response());
    }
    let mut shown = Shown { record, returning: None, output: None };
    for word in include.include.iter().flat_map(|words| words.split(',')) {
        match word {
            "returning" => shown.returning = Some(returning(&handle, &shown.record).await?),
            "output" => shown.output = Some(handle.output().await?),
            _ => return Err(Problem::invalid(format!("`include={word}`: there are `returning` and `output`"))),
        }
    }
    let mut response = json(StatusCode::OK, &shown);
    if let Some(tag) = tag {
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    }
    Ok(response)
}

/// What names an answer about a task that has ended: it stays the same.
pub(super) fn etag(record: &TaskRecord, what: Option<&str>) -> Option<HeaderValue> {
    record.status.is_ended().then_some(())?;
    let what = xxhash_rust::xxh3::xxh3_64(what.unwrap_or_default().as_bytes());
    let tag = format!("\"{}-{}-{}-{what:x}\"", record.id, record.tail, record.epoch);
    Some(HeaderValue::from_str(&tag).expect("digits and letters"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    #[serde(default)]
    reason: String,
}

pub(super) async fn cancel(
    State(inner): Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answered {
    inner.access.allow(request.headers(), Scope::Cancel)?;
    let Reason { reason } = input::body(request, inner.body_time).await?;
    let handle = inner.app.task(input::id(path)?).await?;
    handle.cancel(reason).await?;
    Ok(json(StatusCode::OK, &handle.record().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) async fn retry(
    State(inner): Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answered {
    inner.access.allow(request.headers(), Scope::Add)?;
    let (parts, body) = request.into_parts();
    let Nothing {} = input::body(Request::from_parts(parts.clone(), body), inner.body_time).await?;
    let again = inner.app.task(input::id(path)?).await?.retry().await?;
    added(&inner, &parts, &again).await
}

pub(super) async fn start(
    State(inner): Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answered {
    inner.access.allow(request.headers(), Scope::Add)?;
    let Nothing {} = input::body(request, inner.body_time).await?;
    let id = input::id(path)?;
    inner.app.start_task(id).await?;
    Ok(json(StatusCode::OK, &inner.app.task(id).await?.record().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    expires: Option<Span>,
}

#[derive(Serialize)]
struct Ticket {
    ticket: String,
    /// When it is no longer good.
    #[serde(with = "crate::task::time")]
    expires_at: SystemTime,
}

pub(super) async fn ticket(
    State(inner): Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answered {
    inner.access.allow(request.headers(), Scope::Read)?;
    let Ask { expires } = input::body(request, inner.body_time).await?;
    let id = inner.app.task(input::id(path)?).await?.id();
    let after = expires.map_or(TICKET_MAX / 24, |span| span.0);
    if after > TICKET_MAX {
        return Err(Problem::invalid("a ticket is good for at most a day").at("/expires"));
    }
    let expires_at = SystemTime::now() + after;
    let ticket = inner.access.tokens().and_then(|tokens| tokens.ticket(id, expires_at));
    // Where nobody is asked for a token, any will do.
    let ticket = ticket.unwrap_or_default();
    Ok(json(StatusCode::OK, &Ticket { ticket, expires_at }))
}

pub(super) async fn registry(State(inner): Shared, request: Request) -> Answered {
    inner.access.allow(request.headers(), Scope::Read)?;
    let functions: Vec<_> = inner.app.registered().map(|(name, spec)| Function::of(name, spec)).collect();
    Ok(json(StatusCode::OK, &serde_json::json!({ "tasks": functions })))
}

/// A task function.
#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: Option<&'a str>,
    queue: &'a str,
    generating: bool,
    args: &'a [ArgSpec],
}

impl<'a> Function<'a> {
    fn of(name: &'a str, spec: &'a TaskSpec) -> Self {
        let TaskSpec { description, queue, generating, args, .. } = *spec;
        Function { name, description, queue, generating, args }
    }
}

pub(super) async fn ready(State(inner): Shared) -> Answered {
    if inner.closing.is_cancelled() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the server is shutting down"));
    }
    inner.app.store().get(Vec::new()).await?;
    inner.ready.check(&**inner.app.store()).await?;
    Ok("OK".into_response())
}
