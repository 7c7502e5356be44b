//! [`follow`]: a log as a stream that survives its connections.
//!
//! Invariant: an event is handed out once and in order. Whoever lost the connection says what it read last, and the
//! server goes on behind it, or says that it knows another history.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use reqwest::header::ACCEPT;
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Client;
use super::sse::{Frame, Parser};
use crate::error::{Error, ErrorKind, Result};
use crate::event::wire::Told;
use crate::event::{Event, EventKind};
use crate::json::Json;
use crate::retry::RetryPolicy;
use crate::task::TaskId;

/// A connection on which nothing comes for so long is given up: three heartbeats of the server.
const QUIET: Duration = Duration::from_secs(45);

/// So many events are read ahead of whoever takes them.
const AHEAD: usize = 256;

/// Which events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that hold, as server-sent events: of a yield its value only.
    Holding,
    /// All, as lines of JSON.
    All,
}

/// The events of a log from a `seq` on, until its end or one error. Read ahead of whoever takes them.
pub(super) fn follow(client: &Client, id: TaskId, which: Which, from: u64) -> BoxStream<'static, Result<Event>> {
    let (sink, mut events) = mpsc::channel(AHEAD);
    let follow = Follow { client: client.clone(), id, which, from, last: None, index: 0, sink };
    let reading = AbortOnDropHandle::new(client.runtime().spawn(follow.run()));
    stream::poll_fn(move |cx| {
        let _ends_with_the_stream = &reading;
        events.poll_recv(cx)
    })
    .boxed()
}

/// How long to wait after so many failures in a row: 100 ms … 5 s, a random part of it.
pub(super) fn pause(failures: u32) -> Duration {
    let policy =
        RetryPolicy::times(u32::MAX).exponential(Duration::from_millis(100), Duration::from_secs(5)).jitter(true);
    let chance = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), failures);
    policy.after(failures, chance).unwrap_or_default()
}

/// Whether asking again may help.
pub(super) fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
}

struct Follow {
    client: Client,
    id: TaskId,
    which: Which,
    /// Where it began.
    from: u64,
    /// What was read last: its `seq` and epoch.
    last: Option<(u64, u64)>,
    /// Of the next yield, counted from where it began.
    index: u64,
    sink: mpsc::Sender<Result<Event>>,
}

/// How a connection ended.
enum Read {
    /// With the log, or nobody reads any more.
    Over,
    Cut {
        /// Whether an event came by it.
        got: bool,
        /// When it was last heard of.
        at: Instant,
    },
}

impl Follow {
    async fn run(mut self) {
        if let Err(error) = self.connections().await {
            let _ = self.sink.send(Err(error)).await;
        }
    }

    async fn connections(&mut self) -> Result<()> {
        let (mut contact, mut failures) = (Instant::now(), 0);
        loop {
            let opened = self.open().await;
            let limit = self.client.inner.timeout;
            match opened {
                Ok(response) if response.status() == StatusCode::NO_CONTENT => return Ok(()),
                Ok(response) => match self.read(response).await? {
                    Read::Over => return Ok(()),
                    Read::Cut { got, at } => {
                        contact = at;
                        failures = if got { 0 } else { failures };
                    }
                },
                Err(error) if !is_passing(&error) || contact.elapsed() >= limit => return Err(error),
                Err(_) => {}
            }
            failures += 1;
            tokio::time::sleep(pause(failures).min(limit.saturating_sub(contact.elapsed()))).await;
        }
    }

    async fn open(&self) -> Result<Response> {
        let path = format!("/v1/tasks/{}/events", self.id);
        let from = self.from.to_string();
        let (kind, query): (_, &[(&str, &str)]) = match self.which {
            Which::Holding => ("text/event-stream", &[("from", &from)]),
            Which::All => ("application/x-ndjson", &[("follow", "1"), ("view", "all"), ("from", &from)]),
        };
        let mut request = self.client.request(Method::GET, &path, query).header(ACCEPT, kind);
        if let Some((seq, epoch)) = self.last {
            request = request.header("last-event-id", format!("{seq}-{epoch}"));
        }
        let sent = tokio::time::timeout(self.client.inner.timeout, self.client.send(request));
        let response = sent.await.unwrap_or_else(|_| Err(self.client.silent()))?;
        self.client.expect_kind(&response, kind)?;
        Ok(response)
    }

    async fn read(&mut self, mut response: Response) -> Result<Read> {
        let (mut parser, mut frames, mut line) = (Parser::default(), Vec::new(), Vec::new());
        let (before, mut at) = (self.last, Instant::now());
        while let Ok(Ok(Some(bytes))) = tokio::time::timeout(QUIET, response.chunk()).await {
            match self.which {
                Which::Holding => {
                    parser.feed(&bytes, &mut frames);
                    for frame in frames.drain(..) {
                        let event = self.of_frame(frame)?;
                        if self.hand_out(event).await {
                            return Ok(Read::Over);
                        }
                    }
                }
                Which::All => {
                    line.extend_from_slice(&bytes);
                    let whole = line.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
                    for text in line[..whole].split(|b| *b == b'\n').filter(|text| !text.is_empty()) {
                        let event = self.of_line(text)?;
                        if self.hand_out(event).await {
                            return Ok(Read::Over);
                        }
                    }
                    line.drain(..whole);
                }
            }
            at = Instant::now();
        }
        Ok(Read::Cut { got: self.last != before, at })
    }

    /// Whether that was the last one, or nobody reads any more.
    async fn hand_out(&self, event: Option<Event>) -> bool {
        use EventKind::{Cancelled, Completed, Failed};
        let Some(event) = event else { return false };
        let over = matches!(event.kind, Completed { .. } | Failed { .. } | Cancelled { .. });
        self.sink.send(Ok(event)).await.is_err() || over
    }

    /// Notes that an event was read; `false` if it was before.
    fn is_next(&mut self, seq: u64, epoch: u64) -> Result<bool> {
        if self.last.is_some_and(|(last, _)| seq <= last) {
            return match self.which {
                Which::Holding => Ok(false),
                // Lines have no word for it.
                Which::All => Err(self.reset()),
            };
        }
        self.last = Some((seq, epoch));
        Ok(true)
    }

    fn reset(&self) -> Error {
        let message = format!("the log of task {} is not the one that was read: read again from the start", self.id);
        Error::new(ErrorKind::Reset, message)
    }

    fn unread(&self, what: &dyn std::fmt::Display) -> Error {
        Error::new(ErrorKind::Codec, format!("an event of task {} can't be read: {what}", self.id))
    }

    fn of_line(&mut self, text: &[u8]) -> Result<Option<Event>> {
        let told: Told = serde_json::from_slice(text).map_err(|e| self.unread(&e))?;
        let (seq, epoch) = match &told {
            Told::Event(event) => (event.seq, event.epoch),
            Told::Unknown { seq, epoch, .. } => (*seq, *epoch),
        };
        let event = match told {
            Told::Event(event) => Some(event),
            Told::Unknown { .. } => None,
        };
        Ok(self.is_next(seq, epoch)?.then_some(event).flatten())
    }

    /// What a frame tells to one who reads values: of a yield the hash, and of what a body sent the rest, are not sent.
    fn of_frame(&mut self, frame: Frame) -> Result<Option<Event>> {
        let Frame { name, id, data } = frame;
        if name.as_deref() == Some("reset") {
            return Err(self.reset());
        }
        let numbers = id.split_once('-').and_then(|(seq, epoch)| Some((seq.parse().ok()?, epoch.parse().ok()?)));
        let (seq, epoch) = numbers.ok_or_else(|| self.unread(&format!("its id is {id:?}")))?;
        if !self.is_next(seq, epoch)? {
            return Ok(None);
        }
        let Some(name) = name else {
            let value = Json::parse(data).map_err(|e| self.unread(&e))?;
            let kind = EventKind::Yield { index: self.index, hash: 0, value };
            self.index += 1;
            return Ok(Some(Event { seq, epoch, attempt: 0, at: std::time::UNIX_EPOCH, kind }));
        };
        // Any other name is one of the body's, which says nothing to whoever reads values.
        let told = ["rewind", "completed", "failed", "cancelled"].contains(&&*name);
        told.then(|| serde_json::from_str(&data)).transpose().map_err(|e| self.unread(&e))
    }
}
