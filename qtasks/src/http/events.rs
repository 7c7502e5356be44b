//! A log as server-sent events, as lines of JSON, or as a page.

use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::Stream;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::input;
use super::problem::Problem;
use super::read::{Opened, Place, Reader, View};
use super::tasks::{etag, limit_of};
use super::{Answered, Inner, Shared};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::task::TaskId;
use crate::watch::Part;

/// A client that lost its connection comes back after so long. Like all that is no event it has no empty line behind it:
/// some clients, such as httpx-sse, would take that for an event without data.
const RETRY: &[u8] = b"retry: 2000\n";

/// To whom the server goes away from.
const COME_BACK: &[u8] = b"retry: 500\n";

/// So often something is sent to whoever waits, lest somebody in between takes the connection for dead.
const BEAT: Duration = Duration::from_secs(15);

/// Frames are sent together up to so many bytes.
const TOGETHER: usize = 128 << 10;

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    Sse,
    Ndjson,
    Json,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Watch {
    from: Option<u64>,
    format: Option<Format>,
    #[serde(default)]
    view: View,
    follow: Option<u8>,
    limit: Option<usize>,
    ticket: Option<String>,
}

pub(super) async fn events(
    State(inner): Shared,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Answered {
    let (parts, _) = request.into_parts();
    let watch: Watch = input::query(&parts)?;
    let id = input::id(path);
    inner.access.allow_watching(&parts.headers, watch.ticket.as_deref(), id.as_ref().ok().copied())?;
    let id = id?;
    let format = format(&parts, &watch)?;
    let place = place(&parts, watch.from);
    let opened = Reader::open(inner.app.core(), id, &place, watch.view).await?;
    match format {
        Format::Sse if opened.past_end => Ok(StatusCode::NO_CONTENT.into_response()),
        Format::Ndjson if opened.past_end && watch.follow == Some(1) => Ok(StatusCode::NO_CONTENT.into_response()),
        Format::Sse => Ok(sse(&inner, opened)),
        Format::Ndjson => Ok(ndjson(opened, watch.follow == Some(1), inner.closing.clone())),
        Format::Json => page(&parts, opened, limit_of(watch.limit)?).await,
    }
}

/// What a client is shown of a task that it has just added.
pub(super) async fn stream_of(inner: &Arc<Inner>, id: TaskId) -> Answered {
    let opened = Reader::open(inner.app.core(), id, &Place::From(1), View::Effective).await?;
    Ok(sse(inner, opened))
}

/// Where a client begins: behind the event that it had last, else where it says, else at the start.
pub(super) fn place(parts: &Parts, from: Option<u64>) -> Place {
    match parts.headers.get("last-event-id") {
        Some(last) => Place::After(last.to_str().ok().and_then(|text| text.parse().ok())),
        None => Place::From(from.unwrap_or(1)),
    }
}

fn format(parts: &Parts, watch: &Watch) -> Result<Format, Problem> {
    let accepts = |kind| input::accepts(&parts.headers, kind);
    let format = match watch.format {
        Some(format) => format,
        None if accepts("text/event-stream") => Format::Sse,
        None if accepts("application/x-ndjson") => Format::Ndjson,
        None if accepts("application/json") => Format::Json,
        None if !parts.headers.contains_key(header::ACCEPT) || accepts("*/*") || accepts("text/*") => Format::Sse,
        None => {
            let detail = "a log is `text/event-stream`, `application/x-ndjson` or `application/json`";
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", detail));
        }
    };
    if watch.follow.is_some() && format != Format::Ndjson {
        return Err(Problem::invalid("`follow` goes with `format=ndjson`: server-sent events always follow"));
    }
    if watch.limit.is_some() && format != Format::Json {
        return Err(Problem::invalid("`limit` goes with `format=json`: a stream has no pages"));
    }
    Ok(format)
}

fn sse(inner: &Inner, opened: Opened) -> Response {
    stream_response(Body::from_stream(frames(opened, inner.closing.clone())))
}

/// A response whose body is server-sent events.
pub(super) fn stream_response(body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies would wait for more.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    (headers, body).into_response()
}

/// What comes next in a stream.
pub(super) enum Next {
    Part(Part),
    /// Nothing has come for a while.
    Word(&'static [u8]),
    /// The server goes away.
    Last(&'static [u8]),
    End,
    /// The connection is cut, so that the client comes back and is told why.
    Broken(Error),
}

pub(super) async fn next(reader: &mut Reader, closing: &CancellationToken) -> Next {
    let part = tokio::select! {
        biased;
        part = reader.next() => part,
        () = closing.cancelled() => return Next::Last(COME_BACK),
        () = tokio::time::sleep(BEAT) => return Next::Word(b": still here\n"),
    };
    match part {
        Ok(Some(part)) => Next::Part(part),
        Ok(None) => Next::End,
        Err(_) if closing.is_cancelled() => Next::Last(COME_BACK),
        Err(error) => Next::Broken(error),
    }
}

fn frames(opened: Opened, closing: CancellationToken) -> impl Stream<Item = Result<Bytes>> {
    let Opened { mut reader, reset, record, .. } = opened;
    stream! {
        yield Ok(Bytes::from_static(RETRY));
        if reset {
            let data = serde_json::json!({ "tail": record.tail });
            yield Ok(Bytes::from(format!("event: reset\ndata: {data}\n\n")));
        }
        loop {
            match next(&mut reader, &closing).await {
                Next::Part(part) => for chunk in chunks(&part, &mut reader) {
                    yield Ok(chunk);
                },
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

/// What a client is shown of a part: frames that follow each other as one, small ones together.
fn chunks(part: &Part, reader: &mut Reader) -> Vec<Bytes> {
    let shown = shown(part, reader);
    let (mut chunks, mut rest) = (Vec::new(), &shown[..]);
    while !rest.is_empty() {
        let mut bytes = 0;
        let few = rest.iter().take_while(|next| {
            bytes += next.len();
            bytes <= TOGETHER
        });
        let (together, others) = rest.split_at(few.count().max(1));
        chunks.push(match together {
            [one] => one.clone(),
            some => Bytes::from(some.concat()),
        });
        rest = others;
    }
    chunks
}

/// The frames that a client is shown, as they lie together.
fn shown(part: &Part, reader: &mut Reader) -> Vec<Bytes> {
    let mut shown = Vec::new();
    for batch in &part.batches {
        let frames = batch.frames();
        let mut from_seq = batch.first_seq();
        if !reader.shows_all(batch, &part.rewinds) {
            for event in batch.iter() {
                if !reader.shows(&event, &part.rewinds) {
                    if from_seq < event.seq {
                        shown.push(frames.between(from_seq, event.seq));
                    }
                    from_seq = event.seq + 1;
                }
            }
        }
        if from_seq < batch.end_seq() {
            shown.push(frames.between(from_seq, batch.end_seq()));
        }
    }
    shown
}

fn ndjson(opened: Opened, follow: bool, closing: CancellationToken) -> Response {
    let Opened { mut reader, record, .. } = opened;
    let lines = stream! {
        let mut seq = 0;
        while follow || seq < record.tail {
            let next = tokio::select! {
                biased;
                next = reader.next() => next,
                () = closing.cancelled() => return,
            };
            let part = match next {
                Ok(Some(part)) => part,
                Ok(None) => return,
                Err(error) => {
                    yield Err(error);
                    return;
                }
            };
            let mut lines = Vec::new();
            for event in part.batches.iter().flat_map(|batch| batch.iter()) {
                seq = event.seq;
                // One that does not follow sees what there was when it came.
                if (follow || seq <= record.tail) && reader.shows(&event, &part.rewinds) {
                    serde_json::to_writer(&mut lines, &event.to_event()).expect("events are JSON");
                    lines.push(b'\n');
                }
            }
            yield Ok(Bytes::from(lines));
        }
    };
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

#[derive(Serialize)]
struct Page {
    events: Vec<Event>,
    /// Where the next page begins.
    next: u64,
    /// Whether there is no next one.
    ended: bool,
}

async fn page(parts: &Parts, opened: Opened, limit: usize) -> Answered {
    let Opened { mut reader, record, .. } = opened;
    let tag = etag(&record, parts.uri.query());
    if let Some(tag) = &tag
        && parts.headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag)
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response());
    }
    let mut page = Page { events: Vec::new(), next: reader.next_seq(), ended: opened.past_end };
    while page.events.len() < limit && page.next <= record.tail {
        let Some(part) = reader.next().await? else { break };
        for event in part.batches.iter().flat_map(|batch| batch.iter()) {
            if page.events.len() == limit || event.seq > record.tail {
                break;
            }
            page.next = event.seq + 1;
            page.ended = event.code.is_end();
            if reader.shows(&event, &part.rewinds) {
                page.events.push(event.to_event());
            }
        }
    }
    let body = serde_json::to_vec(&page).expect("events are JSON");
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(tag) = tag {
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    }
    Ok(response)
}
