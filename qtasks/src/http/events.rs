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
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::frames::write;
use super::input;
use super::problem::Problem;
use super::read::{Opened, Place, Reader, View};
use super::tasks::{etag, limit_of};
use super::{Answered, Inner, Shared};
use crate::error::{Error, Result};
use crate::event::EventRef;
use crate::task::TaskId;
use crate::watch::Part;

/// A client that lost its connection comes back after so long. Like all that is no event it has no empty line behind it:
/// some clients, such as httpx-sse, would take that for an event without data.
const RETRY: &[u8] = b"retry: 2000\n";

/// To whom the server goes away from.
const COME_BACK: &[u8] = b"retry: 500\n";

/// So often something is sent to whoever waits, lest somebody in between takes the connection for dead.
const BEAT: Duration = Duration::from_secs(15);

/// Most bytes of small frames that are sent together.
const TOGETHER: usize = 128 << 10;

/// Most bytes that are given to a connection at once. A connection holds what it was given until all of it is sent.
pub(super) const PIECE: usize = 64 << 10;

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
                Next::Part(part) => for piece in chunks(part, &mut reader).into_iter().flat_map(pieces) {
                    yield Ok(piece);
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

/// Cuts what is sent to a client into pieces. Pieces of what is large are copies: the whole is held no longer than until
/// the last of them is taken, however slowly the client reads that one.
pub(super) fn pieces(mut rest: Bytes) -> impl Iterator<Item = Bytes> {
    let is_small = rest.len() <= PIECE;
    std::iter::from_fn(move || match rest.len() {
        0 => None,
        _ if is_small => Some(std::mem::take(&mut rest)),
        len => {
            let piece = Bytes::copy_from_slice(&rest.split_to(len.min(PIECE)));
            if rest.is_empty() {
                rest = Bytes::new();
            }
            Some(piece)
        }
    })
}

/// What a client is shown of a part: frames that follow each other as one, small ones together. The part itself is not
/// held while the client reads.
fn chunks(part: Part, reader: &mut Reader) -> Vec<Bytes> {
    let shown = shown(&part, reader);
    drop(part);
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
                        frames.between(from_seq, event.seq, &mut shown);
                    }
                    from_seq = event.seq + 1;
                }
            }
        }
        if from_seq < batch.end_seq() {
            frames.between(from_seq, batch.end_seq(), &mut shown);
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
                if lines.len() >= PIECE {
                    yield Ok(whole(&mut lines));
                }
                seq = event.seq;
                // One that does not follow sees what there was when it came.
                if (follow || seq <= record.tail) && reader.shows(&event, &part.rewinds) {
                    write_line(&event, &mut lines);
                }
            }
            drop(part);
            for piece in pieces(whole(&mut lines)) {
                yield Ok(piece);
            }
        }
    };
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

fn write_line(event: &EventRef<'_>, out: &mut Vec<u8>) {
    write(event, out);
    out.push(b'\n');
}

/// Takes what was written, without the room that is left behind it.
pub(super) fn whole(written: &mut Vec<u8>) -> Bytes {
    std::mem::take(written).into_boxed_slice().into()
}

async fn page(parts: &Parts, opened: Opened, limit: usize) -> Answered {
    let Opened { mut reader, record, past_end, .. } = opened;
    let tag = etag(&record, parts.uri.query());
    if let Some(tag) = &tag
        && parts.headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag)
    {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response());
    }
    // What is wrong with the log is told before the page begins.
    let start = reader.next_seq();
    let first = match start <= record.tail {
        true => reader.next().await?,
        false => None,
    };
    let body =
        Body::from_stream(page_body(reader, first, Page { next: start, tail: record.tail, limit, ended: past_end }));
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(tag) = tag {
        let headers = response.headers_mut();
        headers.insert(header::ETAG, tag);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    }
    Ok(response)
}

#[derive(Clone, Copy)]
struct Page {
    /// The `seq` where the next page begins.
    next: u64,
    /// The last `seq` that is shown.
    tail: u64,
    limit: usize,
    /// Whether there is no next page.
    ended: bool,
}

/// A page, written while it is read: `events`, then `next`, where the next page begins, and `ended`, whether there is no
/// next one. A connection holds a part of it, however large the events are.
fn page_body(mut reader: Reader, first: Option<Part>, page: Page) -> impl Stream<Item = Result<Bytes>> {
    let Page { mut next, tail, limit, mut ended } = page;
    stream! {
        let (mut events, mut part) = (0, first);
        let mut out = b"{\"events\":[".to_vec();
        while let Some(some) = part.take() {
            for event in some.batches.iter().flat_map(|batch| batch.iter()) {
                if events == limit || event.seq > tail {
                    break;
                }
                if out.len() >= PIECE {
                    yield Ok(whole(&mut out));
                }
                next = event.seq + 1;
                ended = event.code.is_end();
                if reader.shows(&event, &some.rewinds) {
                    if events > 0 {
                        out.push(b',');
                    }
                    write(&event, &mut out);
                    events += 1;
                }
            }
            drop(some);
            if out.len() >= PIECE {
                for piece in pieces(whole(&mut out)) {
                    yield Ok(piece);
                }
            }
            if events < limit && next <= tail {
                part = match reader.next().await {
                    Ok(part) => part,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                };
            }
        }
        out.extend_from_slice(format!("],\"next\":{next},\"ended\":{ended}}}").as_bytes());
        yield Ok(whole(&mut out));
    }
}
