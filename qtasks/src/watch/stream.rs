//! [`Values`] and [`Events`]: a log as a stream, of what holds or of everything.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
#[cfg(feature = "client")]
use futures::stream::{BoxStream, StreamExt as _};
use tokio::runtime::Handle;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::{Cursor, Hub, Part, Shared};
use crate::app::current::{Lent, lend};
use crate::app::gone;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "client")]
use crate::event::EventKind;
use crate::event::{Event, EventCode, EventRef, is_void};
use crate::task::{Generates, Rewind, TaskFailure, TaskId, Value};

/// Where a stream is in the part that it reads.
struct Reader {
    /// `None` while the next part is being fetched.
    cursor: Option<Cursor>,
    fetching: Option<BoxFuture<'static, (Cursor, Fetched)>>,
    batches: std::vec::IntoIter<Shared>,
    batch: Option<Shared>,
    at: usize,
    rewinds: Arc<[Rewind]>,
    #[cfg(feature = "metrics")]
    _watching: crate::metrics::Watching,
}

type Fetched = Result<Option<Part>>;

impl Reader {
    fn new(hub: &Arc<Hub>, id: TaskId, from_seq: u64) -> Self {
        Reader {
            cursor: Some(Cursor::new(Arc::clone(hub), id, from_seq)),
            fetching: None,
            batches: Vec::new().into_iter(),
            batch: None,
            at: 0,
            rewinds: Arc::default(),
            #[cfg(feature = "metrics")]
            _watching: crate::metrics::Watching::default(),
        }
    }

    /// Ready when there is an event, or none any more.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<()>>> {
        loop {
            if self.batch.as_ref().is_some_and(|b| self.at < b.len()) {
                return Poll::Ready(Ok(Some(())));
            }
            self.at = 0;
            self.batch = self.batches.next();
            if self.batch.is_some() {
                continue;
            }
            match ready!(self.poll_part(cx))? {
                Some(part) => {
                    self.rewinds = part.rewinds;
                    self.batches = part.batches.into_iter();
                }
                None => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Fetched> {
        let Reader { cursor, fetching, .. } = self;
        let fetch = fetching.get_or_insert_with(|| {
            let mut cursor = cursor.take().expect("here unless it is fetching");
            Box::pin(async move {
                let part = cursor.next().await;
                (cursor, part)
            })
        });
        let (back, part) = ready!(fetch.as_mut().poll(cx));
        *fetching = None;
        *cursor = Some(back);
        Poll::Ready(part)
    }

    /// The event that [`poll_event`](Self::poll_event) found; the next one is behind it.
    fn take(&mut self) -> (EventRef<'_>, &[Rewind]) {
        let batch = self.batch.as_ref().expect("found");
        let event = batch.event(self.at).expect("found");
        self.at += 1;
        (event, &self.rewinds)
    }
}

/// The values of a generator task as they are stored: from [`TaskHandle::stream`](crate::TaskHandle::stream).
///
/// Ends after the last value of a completed task. Else it ends after one error: of kind
/// [`TaskFailed`](ErrorKind::TaskFailed) (cancelled tasks too), [`Rewound`](ErrorKind::Rewound),
/// [`Gone`](ErrorKind::Gone), [`Reset`](ErrorKind::Reset), [`TimedOut`](ErrorKind::TimedOut) or
/// [`Unavailable`](ErrorKind::Unavailable).
pub struct Values<F: Generates> {
    source: Source,
    value: Value<F::Yield>,
    id: TaskId,
    /// How many values this reader has, with those before its start; `None` until that is known.
    handed: Option<u64>,
    counting: Option<BoxFuture<'static, Result<u64>>>,
    after_seq: u64,
    idle: Option<Idle>,
    runtime: Handle,
    /// The runtime has ended; never of a server's.
    gone: CancellationToken,
    /// Held while a body waits for a value.
    lent: Option<Lent>,
    over: bool,
}

/// Where the events come from.
enum Source {
    Log(Box<Reader>),
    /// Those that hold, and of rewinds those that this reader has to be told.
    #[cfg(feature = "client")]
    Server(BoxStream<'static, Result<Event>>),
}

/// What an event is to one who reads values.
enum Step<T> {
    Value(u64, Result<T, serde_json::Error>),
    Rewound { to: u64, seq: u64 },
    Failed(TaskFailure),
    Over,
    Nothing,
}

impl<T> Step<T> {
    /// The event that a reader found, for one who has so many values.
    #[inline]
    fn next(reader: &mut Reader, handed: u64, value: Value<T>) -> Self {
        let (event, rewinds) = reader.take();
        match event.code {
            EventCode::Yield if !is_void(&event, rewinds) => Step::Value(event.index, (value.read)(event.data)),
            EventCode::Rewind if handed > event.index => Step::Rewound { to: event.index, seq: event.seq },
            EventCode::Completed => Step::Over,
            EventCode::Failed | EventCode::Cancelled => Step::Failed(event.failure().expect("such an event tells how")),
            _ => Step::Nothing,
        }
    }

    #[cfg(feature = "client")]
    fn of_served(event: Event, value: Value<T>) -> Self {
        match event.kind {
            EventKind::Yield { index, value: raw, .. } => Step::Value(index, (value.read)(raw.as_bytes())),
            EventKind::Rewind { to } => Step::Rewound { to, seq: event.seq },
            EventKind::Completed { .. } => Step::Over,
            EventKind::Failed { error } => Step::Failed(error),
            EventKind::Cancelled { reason } => Step::Failed(TaskFailure::cancelled(&reason, event.attempt)),
            _ => Step::Nothing,
        }
    }
}

struct Idle {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<F: Generates> fmt::Debug for Values<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("of", &self.id).field("handed", &self.handed).finish_non_exhaustive()
    }
}

impl<F: Generates> Values<F> {
    pub(crate) fn new(hub: &Arc<Hub>, id: TaskId, after_seq: u64) -> Self {
        Values {
            source: Source::Log(Box::new(Reader::new(hub, id, after_seq.saturating_add(1)))),
            value: F::__codec().yields,
            id,
            handed: (after_seq == 0).then_some(0),
            counting: None,
            after_seq,
            idle: None,
            runtime: hub.runtime.clone(),
            gone: hub.life.gone.clone(),
            lent: None,
            over: false,
        }
    }

    /// The values among events that a server sends.
    #[cfg(feature = "client")]
    pub(crate) fn served(
        events: BoxStream<'static, Result<Event>>,
        id: TaskId,
        after_seq: u64,
        runtime: &Handle,
    ) -> Self {
        Values {
            source: Source::Server(events),
            value: F::__codec().yields,
            id,
            // The server counts.
            handed: Some(0),
            counting: None,
            after_seq,
            idle: None,
            runtime: runtime.clone(),
            gone: CancellationToken::new(),
            lent: None,
            over: false,
        }
    }

    /// Ends the stream with an error of kind [`TimedOut`](ErrorKind::TimedOut) when no value comes for so long. The
    /// task goes on.
    #[must_use]
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle = Some(Idle { limit, sleep: None });
        self
    }

    /// Whoever reads has stopped waiting for a value.
    pub(crate) fn rest(&mut self) {
        self.lent = None;
    }

    /// Finds out how many values held at the place that this reader began after.
    fn poll_handed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.handed.is_some() {
            return Poll::Ready(Ok(()));
        }
        let (id, seq) = (self.id, self.after_seq);
        let source = &self.source;
        let counting = self.counting.get_or_insert_with(|| match source {
            Source::Log(reader) => {
                let hub = Arc::clone(&reader.cursor.as_ref().expect("nothing is fetched yet").hub);
                Box::pin(async move { Cursor::new(hub, id, seq).held_at(seq).await })
            }
            #[cfg(feature = "client")]
            Source::Server(_) => Box::pin(std::future::ready(Ok(0))),
        });
        self.handed = Some(ready!(counting.as_mut().poll(cx))?);
        self.counting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_value(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<F::Yield>>> {
        if let Err(error) = ready!(self.poll_handed(cx)) {
            return self.end(error);
        }
        loop {
            match ready!(self.poll_step(cx)) {
                Ok(Step::Value(index, value)) => {
                    self.handed = Some(index + 1);
                    return match value {
                        Ok(value) => Poll::Ready(Some(Ok(value))),
                        Err(e) => {
                            let message = format!("value {} of task {}: {e}", self.place_of(index), self.id);
                            self.end(Error::new(ErrorKind::Codec, message).with_source(e))
                        }
                    };
                }
                Ok(Step::Rewound { to, seq }) => {
                    let message = format!(
                        "of the values of task {}, those from {to} on are void: keep {to}, and go on with `stream_after({seq})`",
                        self.id
                    );
                    return self.end(Error::new(ErrorKind::Rewound { to, seq }, message));
                }
                Ok(Step::Failed(failure)) => {
                    return self.end(Error::task_failed(format!("task {}: {failure}", self.id), failure));
                }
                Ok(Step::Over) => {
                    self.over = true;
                    return Poll::Ready(None);
                }
                Ok(Step::Nothing) => {}
                Err(error) => return self.end(error),
            }
        }
    }

    /// Ready when there is an event, or none any more.
    #[inline]
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step<F::Yield>>> {
        Poll::Ready(match &mut self.source {
            Source::Log(reader) => match ready!(reader.poll_event(cx)) {
                Ok(Some(())) => Ok(Step::next(reader, self.handed.unwrap_or_default(), self.value)),
                Ok(None) => Ok(Step::Over),
                Err(error) => Err(error),
            },
            #[cfg(feature = "client")]
            Source::Server(events) => match ready!(events.poll_next_unpin(cx)) {
                Some(event) => event.map(|event| Step::of_served(event, self.value)),
                None => Ok(Step::Over),
            },
        })
    }

    /// Which value it is, for people: whoever began in the middle of a served log knows no more than where.
    fn place_of(&self, index: u64) -> String {
        match (&self.source, self.after_seq) {
            #[cfg(feature = "client")]
            (Source::Server(_), seq @ 1..) => format!("{index} behind {seq}"),
            _ => index.to_string(),
        }
    }

    fn end(&mut self, error: Error) -> Poll<Option<Result<F::Yield>>> {
        self.over = true;
        Poll::Ready(Some(Err(error)))
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some(Idle { limit, sleep }) = &mut self.idle else { return Poll::Pending };
        if self.gone.is_cancelled() {
            // Its timers panic.
            return Poll::Ready(gone());
        }
        let (limit, runtime) = (*limit, &self.runtime);
        let sleep = sleep.get_or_insert_with(|| {
            // Whoever polls may have none.
            let _entered = runtime.enter();
            Box::pin(tokio::time::sleep(limit))
        });
        ready!(sleep.as_mut().poll(cx));
        let message = format!("no value of task {} came within {}", self.id, humantime::format_duration(limit));
        Poll::Ready(Error::new(ErrorKind::TimedOut, message))
    }
}

impl<F: Generates> Stream for Values<F> {
    type Item = Result<F::Yield>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let me = &mut *self;
        if me.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = me.poll_value(cx) {
            me.lent = None;
            if let Some(idle) = &mut me.idle {
                idle.sleep = None;
            }
            return Poll::Ready(item);
        }
        match me.poll_idle(cx) {
            Poll::Ready(error) => {
                me.lent = None;
                me.end(error)
            }
            Poll::Pending => {
                me.lent.get_or_insert_with(lend);
                Poll::Pending
            }
        }
    }
}

impl<F: Generates> Unpin for Values<F> {}

/// A log as it is, void events included: from [`TaskHandle::events_from`](crate::TaskHandle::events_from). Ends after
/// the end of the log, or after one error.
pub struct Events {
    source: Source,
    over: bool,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("over", &self.over).finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(hub: &Arc<Hub>, id: TaskId, from_seq: u64) -> Self {
        Events { source: Source::Log(Box::new(Reader::new(hub, id, from_seq))), over: false }
    }

    /// All events, as a server sends them.
    #[cfg(feature = "client")]
    pub(crate) fn served(events: BoxStream<'static, Result<Event>>) -> Self {
        Events { source: Source::Server(events), over: false }
    }
}

impl Stream for Events {
    type Item = Result<Event>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let me = &mut *self;
        if me.over {
            return Poll::Ready(None);
        }
        Poll::Ready(match &mut me.source {
            Source::Log(reader) => match ready!(reader.poll_event(cx)) {
                Ok(Some(())) => {
                    let (event, _) = reader.take();
                    me.over = event.code.is_end();
                    Some(Ok(event.to_event()))
                }
                Ok(None) => {
                    me.over = true;
                    None
                }
                Err(error) => {
                    me.over = true;
                    Some(Err(error))
                }
            },
            #[cfg(feature = "client")]
            Source::Server(events) => ready!(events.poll_next_unpin(cx)),
        })
    }
}
