//! The wire of Django Streaming Coordinator and of Django Simple Queue, for clients that were written for those: over
//! the same readers, tokens and limits as the rest. No other file knows of it.

use std::sync::Arc;
use std::time::SystemTime;

use async_stream::stream;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::Stream;
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::auth::Scope;
use super::events::{self, Next};
use super::input;
use super::problem::Problem;
use super::read::{Opened, Reader, View};
use super::tasks;
use super::{Answered, Inner, Shared};
use crate::event::{Event, EventKind};
use crate::handle::TaskHandle;
use crate::task::{AnyTask, Status, TaskFailure, TaskId, TaskRecord};

/// What is added to the routes.
pub(super) fn routes() -> Router<Arc<Inner>> {
    Router::new()
        .route("/stream/{task}/{id}", get(of_task))
        .route("/stream/{app}/{task}/{id}", get(of_app))
        .route("/task", get(task))
}

// ---- Django Streaming Coordinator

type Three = (String, String, String);

async fn of_app(State(inner): Shared, path: Result<Path<Three>, PathRejection>, request: Request) -> Answered {
    let Path((app, task, id)) = path.map_err(|_| unknown())?;
    watch(&inner, Some(&app), &task, &id, request).await
}

async fn of_task(
    State(inner): Shared,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Answered {
    let Path((task, id)) = path.map_err(|_| unknown())?;
    watch(&inner, None, &task, &id, request).await
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no task of this name with this id")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ticket {
    ticket: Option<String>,
}

async fn watch(inner: &Arc<Inner>, app: Option<&str>, task: &str, id: &str, request: Request) -> Answered {
    let (parts, _) = request.into_parts();
    let Ticket { ticket } = input::query(&parts)?;
    let id: Result<TaskId, _> = id.parse();
    inner.access.allow_watching(&parts.headers, ticket.as_deref(), id.as_ref().ok().copied())?;
    let id = id.map_err(|_| unknown())?;
    let opened = Reader::open(inner.app.core(), id, &events::place(&parts, None), View::Effective).await?;
    let own = crate_of(inner, &opened.record.name);
    if opened.record.name != task || app.is_some_and(|app| own.as_deref().is_some_and(|own| own != app)) {
        return Err(unknown());
    }
    if opened.record.status.is_ended() {
        return Ok(tasks::json(StatusCode::OK, &ended(&opened.record)));
    }
    let frame = Frame { id, app: own.unwrap_or_default(), task: task.to_owned() };
    Ok(events::stream_response(Body::from_stream(frames(inner, opened, frame))))
}

/// The crate of a task function that is known here.
fn crate_of(inner: &Inner, name: &str) -> Option<String> {
    let (_, spec) = inner.app.registered().find(|(known, _)| *known == name)?;
    spec.module.split("::").next().map(str::to_owned)
}

/// What is told of a task that has ended.
fn ended(record: &TaskRecord) -> Value {
    let at = record.completed_at.map(|at| humantime::format_rfc3339_millis(at).to_string());
    let mut told = json!({ "status": record.status, "final_value": record.final_value, "completed_at": at });
    if let Some(failure) = record.failure() {
        told["error"] = failure.message.into();
    }
    told
}

/// What every frame tells of its task.
struct Frame {
    id: TaskId,
    app: String,
    task: String,
}

impl Frame {
    fn of(&self, event: &Event, name: &str, data: Value) -> String {
        let mut data = match data {
            Value::Object(data) => data,
            Value::Null => Map::new(),
            value => Map::from_iter([("value".to_owned(), value)]),
        };
        data.insert("_task_id".to_owned(), self.id.to_string().into());
        data.insert("_app".to_owned(), self.app.clone().into());
        data.insert("_model".to_owned(), self.task.clone().into());
        data.insert("_timestamp".to_owned(), instant(event.at).into());
        format!("event: {name}\nid: {}-{}\ndata: {}\n\n", event.seq, event.epoch, Value::Object(data))
    }

    fn error(&self, event: &Event, failure: &TaskFailure) -> String {
        self.of(event, "error", json!({ "message": failure.message, "error_type": failure.kind }))
    }
}

fn instant(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Which of the events that bodies may send themselves are still to be sent for them.
struct Own {
    start: Option<Event>,
    complete: bool,
}

impl Own {
    /// What a client is sent of an event.
    fn told(&mut self, frame: &Frame, event: Event) -> String {
        let mut out = String::new();
        if let Some(start) = self.start.take()
            && !matches!(&event.kind, EventKind::Event { name, .. } if name == "start")
        {
            out = frame.of(&start, "start", Value::Null);
        }
        let value = |json: &crate::Json| json.get().unwrap_or(Value::Null);
        match &event.kind {
            // The body may be about to say so itself.
            EventKind::Started { .. } if event.attempt == 1 => self.start = Some(event),
            EventKind::Yield { value: of, .. } => out += &frame.of(&event, "progress", value(of)),
            EventKind::Event { name, data, .. } => {
                self.complete |= name == "complete";
                out += &frame.of(&event, name, value(data));
            }
            EventKind::Completed { final_value } if !self.complete => {
                out += &frame.of(&event, "complete", final_value.as_ref().map_or(Value::Null, value));
            }
            EventKind::Failed { error } => out += &frame.error(&event, error),
            EventKind::Cancelled { reason } => {
                out += &frame.error(&event, &TaskFailure::cancelled(reason, event.attempt));
            }
            _ => {}
        }
        out
    }
}

fn frames(inner: &Inner, opened: Opened, frame: Frame) -> impl Stream<Item = crate::Result<Bytes>> + use<> {
    let closing = inner.closing.clone();
    let Opened { mut reader, .. } = opened;
    stream! {
        let mut own = Own { start: None, complete: false };
        loop {
            match events::next(&mut reader, &closing).await {
                Next::Part(part) => {
                    let mut out = Vec::new();
                    for event in part.batches.iter().flat_map(|batch| batch.iter()) {
                        if out.len() >= events::PIECE {
                            yield Ok(events::whole(&mut out));
                        }
                        if reader.shows(&event, &part.rewinds) {
                            out.extend_from_slice(own.told(&frame, event.to_event()).as_bytes());
                        }
                    }
                    drop(part);
                    for piece in events::pieces(events::whole(&mut out)) {
                        yield Ok(piece);
                    }
                }
                Next::Word(word) => yield Ok(Bytes::from_static(word)),
                Next::Last(word) => {
                    yield Ok(Bytes::from_static(word));
                    return;
                }
                Next::End => return,
                Next::Broken(error) => {
                    yield Err(error);
                    return;
                }
            }
        }
    }
}

// ---- Django Simple Queue

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Poll {
    task_id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

async fn task(State(inner): Shared, request: Request) -> Answered {
    let (parts, _) = request.into_parts();
    inner.access.allow(&parts.headers, Scope::Read)?;
    let poll: Poll = input::query(&parts)?;
    let Some(id) = poll.task_id else {
        return Err(Problem::invalid("the address needs `task_id=…`"));
    };
    let id = id.parse().map_err(|_| Problem::invalid(format!("`task_id={id}` is no id of a task")))?;
    let handle = inner.app.task(id).await?;
    let record = handle.record().await?;
    let told = json!({
        "id": record.id,
        "task": record.name,
        "args": record.args,
        "status": status(record.status),
        "output": output(&handle).await?,
        "error": record.failure().map(|failure| failure.message),
        "created": instant(record.created_at),
        "modified": instant(record.updated_at),
    });
    match poll.kind.as_deref() {
        Some("json") => Ok(tasks::json(StatusCode::OK, &told)),
        Some(other) => Err(Problem::invalid(format!("`type={other}`: there is `json`, or nothing for a page"))),
        None => Ok(page(&told)),
    }
}

/// The text of a task that yields text; of others their values, a line each.
async fn output(handle: &TaskHandle<AnyTask>) -> crate::Result<String> {
    match handle.output().await {
        Err(error) if error.kind() == crate::ErrorKind::Codec => {
            let yields = handle.yields_as_stored().await?;
            Ok(yields.iter().map(|raw| String::from_utf8_lossy(raw) + "\n").collect())
        }
        text => text,
    }
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Held | Status::Delayed | Status::Queued => "Queued",
        Status::Running => "In progress",
        Status::Completed => "Completed",
        Status::Failed => "Failed",
        Status::Cancelled => "Cancelled",
    }
}

fn page(told: &Value) -> Response {
    let rows: String = told.as_object().into_iter().flatten().fold(String::new(), |rows, (name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{rows}<dt>{name}</dt><dd><pre>{}</pre></dd>", escaped(&text))
    });
    let html = format!("<!doctype html><meta charset=utf-8><title>task</title><dl>{rows}</dl>");
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, "default-src 'none'")];
    (headers, html).into_response()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
