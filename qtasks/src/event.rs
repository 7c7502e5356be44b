//! The log of a task: [`Event`]s, the batches they travel in, and the fold that tells which of them hold.
//!
//! Invariant: an event is encoded once, by whoever makes it. From there to the last reader its bytes are shared, not
//! copied and not parsed: a [`Draft`] becomes an [`EventBatch`] when a store stamps it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::json::Json;
use crate::task::time::{from_ms, to_ms};
use crate::task::{Rewind, TaskFailure, check_name};

/// What a browser's `EventSource` calls the events of its own connection: one of ours would be taken for those.
const OF_CONNECTIONS: [&str; 3] = ["error", "message", "open"];

/// What the queue itself tells under these names: one of a body's would be taken for those.
const OF_THE_QUEUE: [&str; 9] =
    ["started", "yield", "log", "rewind", "reset", "retry", "completed", "failed", "cancelled"];

/// One entry of a task's log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Its place in the log: 1, 2, 3 … without gaps, the same for every reader.
    pub seq: u64,
    /// The epoch under which it was written.
    pub epoch: u64,
    /// The attempt that it belongs to, counted from 1; 0 before the first.
    pub attempt: u32,
    /// When the store took it.
    #[serde(with = "crate::task::time")]
    pub at: SystemTime,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What an [`Event`] tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A worker began an attempt.
    Started {
        /// The worker.
        worker: String,
    },
    /// The body yielded.
    Yield {
        /// Counted from 0.
        index: u64,
        /// XXH3-64, seed 0, of the JSON of the item before its handler; where attempts are not compared (`Resume`,
        /// `restart`), of the handler's output. In JSON it is text of 16 hexadecimal digits, for JavaScript would round
        /// the number.
        #[serde(serialize_with = "wire::hash")]
        hash: u64,
        /// The handler's output.
        value: Json,
    },
    /// The body sent an event of its own.
    Event {
        /// How many yields its attempt had made before it.
        index: u64,
        /// Its name.
        name: String,
        /// Its data.
        data: Json,
    },
    /// The body logged a line.
    Log {
        /// How many yields its attempt had made before it.
        index: u64,
        /// `info`, `warn` …
        level: String,
        /// Where it was logged.
        target: String,
        /// The line.
        message: String,
        /// What it has besides, by name: an object.
        fields: Json,
    },
    /// Yields with an index of at least `to`, and custom events after more than `to` yields, are void.
    Rewind {
        /// How many yields still hold.
        to: u64,
    },
    /// The attempt failed or was lost; the next one starts at `at`.
    Retry {
        /// How it failed.
        error: TaskFailure,
        /// When the next attempt is due; in JSON `due_at`, as the event has an `at` of its own.
        #[serde(rename = "due_at", with = "crate::task::time")]
        at: SystemTime,
    },
    /// The body came to its end. The last event.
    Completed {
        /// What it returned.
        final_value: Option<Json>,
    },
    /// The task failed for good. The last event.
    Failed {
        /// How.
        error: TaskFailure,
    },
    /// The task was cancelled. The last event.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// An event of a kind that only a later version of qtasks knows.
    Other {
        /// The number of the kind, as it is stored.
        code: u8,
        /// How many yields its attempt had made before it.
        index: u64,
        /// Its data; `null` where there is none.
        data: Json,
    },
}

/// What kind of event it is, as stores keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the `EventKind` of its name")]
pub enum EventCode {
    Started,
    Yield,
    Event,
    Log,
    Rewind,
    Retry,
    Completed,
    Failed,
    Cancelled,
    /// The number of a kind that only a later version knows.
    Other(u8),
}

impl EventCode {
    /// Whether it is the last event of a log.
    pub fn is_end(self) -> bool {
        matches!(self, EventCode::Completed | EventCode::Failed | EventCode::Cancelled)
    }
}

/// Whether a body may send an event of this name; the rule and the way out if not.
pub(crate) fn check_event_name(name: &str) -> Result<()> {
    check_name("name of the event", name)?;
    let (whose, all) = if OF_CONNECTIONS.contains(&name) {
        ("what a browser calls its connection's own", &OF_CONNECTIONS[..])
    } else if OF_THE_QUEUE.contains(&name) {
        ("what the queue calls its own", &OF_THE_QUEUE[..])
    } else {
        return Ok(());
    };
    let all = all.join("`, `");
    let way_out = match name {
        "error" => "to fail the task return an error from it",
        "completed" => "`complete` is free",
        "started" => "`start` is free",
        _ => "take another one",
    };
    Err(Error::invalid(format!("the name of the event `{name}` is {whose} (`{all}`): {way_out}")))
}

/// What is kept of an event beside its data.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// Of a yield: of its item. Of a custom event: of its name and data. Else 0.
    hash: u64,
    /// Of a yield: its index. Of a rewind: `to`. Of any other: how many yields its attempt had made before it.
    index: u64,
    /// Where its data ends.
    end: u32,
    /// Milliseconds after the batch's own instant.
    late_ms: u32,
    code: EventCode,
}

#[derive(Debug)]
struct Body {
    heads: Vec<Head>,
    bytes: Bytes,
}

impl Body {
    /// Where the data of the first `events` events ends.
    fn end_of(&self, events: u32) -> u32 {
        events.checked_sub(1).map_or(0, |last| self.heads[last as usize].end)
    }
}

/// Events on their way to a store, which gives them their place and their time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Draft(Arc<Body>);

/// Smaller drafts are not worth the moving.
const SHRUNK: usize = 16;

/// Collects events, each encoded as it is added.
#[derive(Debug, Default)]
pub(crate) struct DraftBuilder {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct StartedData<'a> {
    worker: Cow<'a, str>,
}
#[derive(Serialize, Deserialize)]
struct EventData {
    name: String,
    data: Json,
}
#[derive(Serialize, Deserialize)]
struct LogData<'a> {
    level: Cow<'a, str>,
    target: Cow<'a, str>,
    message: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fields: Option<Json>,
}
#[derive(Serialize, Deserialize)]
struct RetryData {
    error: TaskFailure,
    /// Added to the event's own time, which only the store knows, it gives the time of the next attempt.
    delay_ms: u64,
}
#[derive(Serialize, Deserialize)]
struct CancelledData {
    reason: String,
}

/// What a body said.
#[cfg(feature = "tracing-log")]
#[derive(Debug)]
pub(crate) struct LogLine<'a> {
    /// `info`, `warn` …
    pub(crate) level: &'static str,
    pub(crate) target: &'a str,
    pub(crate) message: String,
    /// An object, if there is anything in it.
    pub(crate) fields: Option<Json>,
}

#[cfg(feature = "tracing-log")]
impl LogLine<'_> {
    pub(crate) fn bytes(&self) -> usize {
        let fields = self.fields.as_ref().map_or(0, |fields| fields.as_bytes().len());
        self.target.len() + self.message.len() + fields
    }
}

impl DraftBuilder {
    pub(crate) fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }
    /// How many bytes of data there are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, code: EventCode, index: u64, hash: u64) {
        let end = u32::try_from(self.bytes.len()).expect("the window bounds a draft to a few MiB");
        self.heads.push(Head { hash, index, end, late_ms: 0, code });
    }

    fn push_json(&mut self, code: EventCode, index: u64, data: &impl Serialize) {
        serde_json::to_writer(&mut self.bytes, data).expect("data of our own is JSON");
        self.push(code, index, 0);
    }

    pub(crate) fn started(&mut self, index: u64, worker: &str) {
        // Room for this one and a short second one.
        self.bytes.reserve(worker.len() + 64);
        self.push_json(EventCode::Started, index, &StartedData { worker: worker.into() });
    }

    /// A yield, its value as JSON text.
    #[inline]
    pub(crate) fn yielded(&mut self, index: u64, hash: u64, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.push(EventCode::Yield, index, hash);
    }

    pub(crate) fn custom(&mut self, index: u64, hash: u64, name: &str, data: &Json) {
        let data = EventData { name: name.to_owned(), data: data.clone() };
        serde_json::to_writer(&mut self.bytes, &data).expect("data of our own is JSON");
        self.push(EventCode::Event, index, hash);
    }

    /// A line of the body's log.
    #[cfg(feature = "tracing-log")]
    pub(crate) fn log(&mut self, index: u64, line: &LogLine<'_>) {
        let LogLine { level, target, message, fields } = line;
        let (level, target, message) = ((*level).into(), (*target).into(), (&**message).into());
        self.push_json(EventCode::Log, index, &LogData { level, target, message, fields: fields.clone() });
    }

    pub(crate) fn rewind(&mut self, to: u64) {
        self.push(EventCode::Rewind, to, 0);
    }

    pub(crate) fn retry(&mut self, index: u64, error: &TaskFailure, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.push_json(EventCode::Retry, index, &RetryData { error: error.clone(), delay_ms });
    }

    pub(crate) fn completed(&mut self, index: u64, final_value: &[u8]) {
        self.bytes.extend_from_slice(final_value);
        self.push(EventCode::Completed, index, 0);
    }

    pub(crate) fn failed(&mut self, index: u64, error: &TaskFailure) {
        self.push_json(EventCode::Failed, index, error);
    }

    pub(crate) fn cancelled(&mut self, index: u64, reason: &str) {
        self.push_json(EventCode::Cancelled, index, &CancelledData { reason: reason.to_owned() });
    }

    /// What was collected; the builder is empty again.
    pub(crate) fn finish(&mut self) -> Draft {
        let (mut heads, mut bytes) = (std::mem::take(&mut self.heads), std::mem::take(&mut self.bytes));
        // A store may keep them for long; a few it merges with others.
        if heads.len() >= SHRUNK {
            heads.shrink_to_fit();
            bytes.shrink_to_fit();
        }
        Draft(Arc::new(Body { heads, bytes: bytes.into() }))
    }
}

/// The hash by which a name with JSON is known again: a custom event, a task under its idempotency key.
pub(crate) fn named_hash(name: &str, data: &Json) -> u64 {
    let mut bytes = Vec::with_capacity(name.len() + 1 + data.as_bytes().len());
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(data.as_bytes());
    xxh3_64(&bytes)
}

impl Draft {
    /// One event of a log that a store writes itself.
    pub(crate) fn one(write: impl FnOnce(&mut DraftBuilder)) -> Self {
        let mut draft = DraftBuilder::default();
        write(&mut draft);
        draft.finish()
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.0.heads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.heads.is_empty()
    }

    /// How many bytes of data there are.
    pub fn bytes(&self) -> usize {
        self.0.bytes.len()
    }

    /// The same with another last event: as many events as before.
    pub(crate) fn with_last(&self, write: impl FnOnce(u64, &mut DraftBuilder)) -> Self {
        let keep = self.0.heads.len().saturating_sub(1);
        let heads = self.0.heads[..keep].to_vec();
        let end = heads.last().map_or(0, |h| h.end as usize);
        let mut draft = DraftBuilder { heads, bytes: self.0.bytes[..end].to_vec() };
        write(self.0.heads.last().map_or(0, |h| h.index), &mut draft);
        draft.finish()
    }

    /// Gives the events their place and their time.
    pub fn stamp(self, stamp: Stamp) -> EventBatch {
        let to = self.0.heads.len();
        EventBatch { stamp, range: 0..u32::try_from(to).expect("a draft is small"), body: self.0 }
    }
}

/// What a store adds to the events that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The `seq` of the first of them.
    pub seq: u64,
    /// The task's epoch.
    pub epoch: u64,
    /// The task's attempt.
    pub attempt: u32,
    /// The store's clock.
    pub at: SystemTime,
}

/// Consecutive events of one task, as they are stored. Cheap to clone, and to cut.
#[derive(Debug, Clone)]
pub struct EventBatch {
    /// Of the whole body; the range says what of it this is.
    stamp: Stamp,
    range: Range<u32>,
    body: Arc<Body>,
}

/// An event in its batch.
#[derive(Debug, Clone, Copy)]
pub struct EventRef<'a> {
    /// Its place in the log.
    pub seq: u64,
    /// The epoch under which it was written.
    pub epoch: u64,
    /// The attempt it belongs to.
    pub attempt: u32,
    /// When the store took it.
    pub at: SystemTime,
    /// Its kind.
    pub code: EventCode,
    /// Of a yield: its index. Of a rewind: `to`. Of any other: how many yields its attempt had made before it.
    pub index: u64,
    /// Of a yield or a custom event: by what it is known again.
    pub hash: u64,
    /// Its data as it is stored: of a yield, the JSON of its value.
    pub data: &'a [u8],
    body: &'a Body,
    start: u32,
}

impl EventBatch {
    /// The `seq` of the first event.
    pub fn first_seq(&self) -> u64 {
        self.stamp.seq.saturating_add(self.range.start.into())
    }

    /// The `seq` after the last event.
    pub fn end_seq(&self) -> u64 {
        self.stamp.seq.saturating_add(self.range.end.into())
    }

    /// What the store added, of the whole body.
    #[cfg(feature = "sqlite")]
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Bytes of data, of the whole body where this is a part of one.
    pub fn bytes(&self) -> usize {
        self.body.bytes.len()
    }

    /// The part of it from `seq` on, at most `limit` events.
    #[must_use]
    pub fn slice(&self, seq: u64, limit: usize) -> Self {
        let skip = seq.saturating_sub(self.first_seq()).min(self.len() as u64);
        let start = self.range.start + u32::try_from(skip).expect("no more than there are");
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let end = start.saturating_add(limit).min(self.range.end);
        EventBatch { stamp: self.stamp, range: start..end, body: Arc::clone(&self.body) }
    }

    /// Returns the bytes of data of its own events, without the rest of the body where this is a part of one.
    pub fn data_bytes(&self) -> usize {
        (self.body.end_of(self.range.end) - self.body.end_of(self.range.start)) as usize
    }

    /// Returns the first events, as many as have at most `bytes_max` bytes of data together, but at least one if
    /// there is one.
    #[must_use]
    pub fn first_bytes(&self, bytes_max: usize) -> Self {
        let mut part = self.clone();
        if self.data_bytes() > bytes_max {
            let heads = &self.body.heads[self.range.start as usize..self.range.end as usize];
            let start = self.body.end_of(self.range.start);
            let fit = heads.partition_point(|head| (head.end - start) as usize <= bytes_max).max(1);
            part.range.end = self.range.start + u32::try_from(fit).expect("no more than there are");
        }
        part
    }

    /// Returns the same events in memory of their own, if they are only a part of a larger body.
    ///
    /// A store that reads a batch to hand out a part of it calls this, so that the part does not keep all of it alive.
    #[must_use]
    pub fn compact(self) -> Self {
        if self.range.len() == self.body.heads.len() {
            return self;
        }
        let start = self.body.end_of(self.range.start);
        let heads = &self.body.heads[self.range.start as usize..self.range.end as usize];
        let heads: Vec<Head> = heads.iter().map(|head| Head { end: head.end - start, ..*head }).collect();
        let data = &self.body.bytes[start as usize..start as usize + self.data_bytes()];
        let body = Body { heads, bytes: Bytes::copy_from_slice(data) };
        Draft(Arc::new(body)).stamp(Stamp { seq: self.first_seq(), ..self.stamp })
    }

    /// The event at a place, counted from the first of the batch.
    #[inline]
    pub fn event(&self, at: usize) -> Option<EventRef<'_>> {
        let i = self.range.start as usize + at;
        if i >= self.range.end as usize {
            return None;
        }
        let head = &self.body.heads[i];
        let start = if i == 0 { 0 } else { self.body.heads[i - 1].end };
        Some(EventRef {
            seq: self.stamp.seq.saturating_add(i as u64),
            epoch: self.stamp.epoch,
            attempt: self.stamp.attempt,
            at: from_ms(to_ms(self.stamp.at).saturating_add(head.late_ms.into())),
            code: head.code,
            index: head.index,
            hash: head.hash,
            data: &self.body.bytes[start as usize..head.end as usize],
            body: &self.body,
            start,
        })
    }

    /// The events, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = EventRef<'_>> + ExactSizeIterator {
        (0..self.len()).map(|i| self.event(i).expect("within the batch"))
    }

    /// Whether the data of all events can be read: asked of what was stored without a checksum, or came over a wire.
    pub(crate) fn is_readable(&self) -> bool {
        self.iter().all(|event| event.is_readable())
    }

    /// The kind of each event with its data, in order: what is looked at before an event is.
    #[cfg(feature = "http")]
    pub(crate) fn kinds(&self) -> impl DoubleEndedIterator<Item = (EventCode, &[u8])> {
        let heads = &self.body.heads;
        let start = |i: usize| i.checked_sub(1).map_or(0, |before| heads[before].end as usize);
        let range = self.range.start as usize..self.range.end as usize;
        range.map(move |i| (heads[i].code, &self.body.bytes[start(i)..heads[i].end as usize]))
    }

    /// The data of all events, of the whole body where this is a part of one.
    #[cfg(feature = "http")]
    pub(crate) fn data(&self) -> &[u8] {
        &self.body.bytes
    }

    /// One batch of both, if `next` follows under the same epoch: a store that keeps many small ones merges them.
    pub(crate) fn merge(&self, next: &EventBatch) -> Option<EventBatch> {
        let follows = self.end_seq() == next.first_seq()
            && self.stamp.epoch == next.stamp.epoch
            && self.stamp.attempt == next.stamp.attempt;
        let start = to_ms(self.stamp.at);
        if !follows || to_ms(next.stamp.at).checked_sub(start)? > u64::from(u32::MAX / 2) {
            return None;
        }
        let mut heads = Vec::with_capacity(self.len() + next.len());
        let mut bytes = Vec::with_capacity(self.bytes() + next.bytes());
        for event in self.iter().chain(next.iter()) {
            bytes.extend_from_slice(event.data);
            let end = u32::try_from(bytes.len()).ok()?;
            let late_ms = u32::try_from(to_ms(event.at).saturating_sub(start)).ok()?;
            heads.push(Head { hash: event.hash, index: event.index, end, late_ms, code: event.code });
        }
        let draft = Draft(Arc::new(Body { heads, bytes: bytes.into() }));
        Some(draft.stamp(Stamp { seq: self.first_seq(), ..self.stamp }))
    }
}

impl EventRef<'_> {
    /// Returns the data, sharing the batch's memory.
    #[cfg(feature = "http")]
    pub(crate) fn bytes(&self) -> Bytes {
        let start = self.start as usize;
        self.body.bytes.slice(start..start + self.data.len())
    }

    /// The data as JSON of its own, sharing the batch's memory; `null` where there is none.
    pub fn json(&self) -> Json {
        if self.data.is_empty() {
            return Json::null();
        }
        let start = self.start as usize;
        Json::trusted(self.body.bytes.slice(start..start + self.data.len()))
    }

    /// How the attempt or the task failed, of an event that says so.
    pub(crate) fn failure(&self) -> Option<TaskFailure> {
        match self.to_event().kind {
            EventKind::Failed { error } | EventKind::Retry { error, .. } => Some(error),
            EventKind::Cancelled { reason } => Some(TaskFailure::cancelled(&reason, self.attempt)),
            _ => None,
        }
    }

    /// The reason, of a `cancelled` event.
    pub(crate) fn reason(&self) -> Option<String> {
        match self.to_event().kind {
            EventKind::Cancelled { reason } => Some(reason),
            _ => None,
        }
    }

    /// The event for those outside.
    pub fn to_event(&self) -> Event {
        let index = self.index;
        let kind = match self.code {
            EventCode::Started => {
                EventKind::Started { worker: self.read(|d: StartedData<'_>| d.worker.into_owned()).unwrap_or_default() }
            }
            EventCode::Yield => EventKind::Yield { index, hash: self.hash, value: self.json() },
            EventCode::Event => {
                let (name, data) = self.read(|d: EventData| (d.name, d.data)).unwrap_or((String::new(), Json::null()));
                EventKind::Event { index, name, data }
            }
            EventCode::Log => {
                let words =
                    |d: LogData<'_>| (d.level.into_owned(), d.target.into_owned(), d.message.into_owned(), d.fields);
                let (level, target, message, fields) = self.read(words).unwrap_or_default();
                EventKind::Log { index, level, target, message, fields: fields.unwrap_or_else(Json::nothing) }
            }
            EventCode::Rewind => EventKind::Rewind { to: index },
            EventCode::Retry => {
                let (error, delay) = self.read(|d: RetryData| (d.error, d.delay_ms)).unwrap_or((unread(), 0));
                EventKind::Retry { error, at: from_ms(to_ms(self.at).saturating_add(delay)) }
            }
            EventCode::Completed => EventKind::Completed { final_value: (!self.data.is_empty()).then(|| self.json()) },
            EventCode::Failed => EventKind::Failed { error: self.read(|e| e).unwrap_or_else(unread) },
            EventCode::Cancelled => {
                EventKind::Cancelled { reason: self.read(|d: CancelledData| d.reason).unwrap_or_default() }
            }
            EventCode::Other(code) => EventKind::Other { code, index, data: self.json() },
        };
        Event { seq: self.seq, epoch: self.epoch, attempt: self.attempt, at: self.at, kind }
    }

    fn read<D: serde::de::DeserializeOwned, R>(&self, get: impl FnOnce(D) -> R) -> Option<R> {
        serde_json::from_slice(self.data).ok().map(get)
    }

    /// Whether the data is what an event of this kind has.
    fn is_readable(&self) -> bool {
        let is_json = || std::str::from_utf8(self.data).is_ok_and(crate::json::is_json);
        match self.code {
            EventCode::Yield => is_json(),
            EventCode::Completed | EventCode::Other(_) => self.data.is_empty() || is_json(),
            EventCode::Rewind => self.data.is_empty(),
            EventCode::Started => self.read(|_: StartedData<'_>| ()).is_some(),
            EventCode::Event => self.read(|_: EventData| ()).is_some(),
            EventCode::Log => self.read(|_: LogData<'_>| ()).is_some(),
            EventCode::Retry => self.read(|_: RetryData| ()).is_some(),
            EventCode::Failed => self.read(|_: TaskFailure| ()).is_some(),
            EventCode::Cancelled => self.read(|_: CancelledData| ()).is_some(),
        }
    }
}

/// Stands for a failure written by a version that this one can't read.
#[cold]
fn unread() -> TaskFailure {
    TaskFailure::new(crate::task::FailureKind::Codec, "the stored failure could not be read")
}

/// Whether a yield or a custom event no longer holds. Other events always do.
#[inline]
pub fn is_void(event: &EventRef<'_>, rewinds: &[Rewind]) -> bool {
    voided(event.code, event.seq, event.index, rewinds)
}

#[inline]
fn voided(code: EventCode, seq: u64, index: u64, rewinds: &[Rewind]) -> bool {
    !rewinds.is_empty()
        && rewinds.iter().any(|r| {
            r.seq > seq
                && match code {
                    EventCode::Yield => r.to <= index,
                    EventCode::Event | EventCode::Log => r.to < index,
                    _ => false,
                }
        })
}

/// An event on the wire of a store that copies everything.
#[derive(Serialize, Deserialize)]
struct Row {
    code: EventCode,
    index: u64,
    hash: u64,
    late_ms: u32,
    data: String,
}

#[derive(Serialize, Deserialize)]
struct Rows {
    seq: u64,
    epoch: u64,
    attempt: u32,
    at_ms: u64,
    rows: Vec<Row>,
}

fn rows<'a>(events: impl Iterator<Item = EventRef<'a>>, at: SystemTime) -> Vec<Row> {
    let row = |e: EventRef<'_>| Row {
        code: e.code,
        index: e.index,
        hash: e.hash,
        late_ms: u32::try_from(to_ms(e.at).saturating_sub(to_ms(at))).unwrap_or(u32::MAX),
        data: String::from_utf8_lossy(e.data).into_owned(),
    };
    events.map(row).collect()
}

fn body(rows: Vec<Row>) -> Result<Draft, std::num::TryFromIntError> {
    let mut draft = DraftBuilder::default();
    for row in rows {
        draft.bytes.extend_from_slice(row.data.as_bytes());
        let end = u32::try_from(draft.bytes.len())?;
        let Row { code, index, hash, late_ms, .. } = row;
        draft.heads.push(Head { hash, index, end, late_ms, code });
    }
    Ok(draft.finish())
}

impl Serialize for Draft {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let at = from_ms(0);
        let batch = self.clone().stamp(Stamp { seq: 1, epoch: 0, attempt: 0, at });
        rows(batch.iter(), at).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Draft {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let draft = body(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
        let stamp = Stamp { seq: 1, epoch: 0, attempt: 0, at: from_ms(0) };
        match draft.clone().stamp(stamp).is_readable() {
            true => Ok(draft),
            false => Err(serde::de::Error::custom("the data of an event can't be read")),
        }
    }
}

impl Serialize for EventBatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Stamp { epoch, attempt, at, .. } = self.stamp;
        let rows = rows(self.iter(), at);
        Rows { seq: self.first_seq(), epoch, attempt, at_ms: to_ms(at), rows }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EventBatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Rows { seq, epoch, attempt, at_ms, rows } = Rows::deserialize(deserializer)?;
        let draft = body(rows).map_err(serde::de::Error::custom)?;
        let batch = draft.stamp(Stamp { seq, epoch, attempt, at: from_ms(at_ms) });
        match batch.is_readable() {
            true => Ok(batch),
            false => Err(serde::de::Error::custom("the data of an event can't be read")),
        }
    }
}

#[cfg(feature = "sqlite")]
pub(crate) mod packed;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
