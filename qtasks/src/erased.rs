//! A run of a task with its types erased: polled for one yielded value after the other, each written into a buffer.
//!
//! The loop that drives a run is the same code for every task; what is compiled for each task is its body and one
//! [`Run`]. Everything here is safe code: what must not move is boxed, once for a run, never for a value.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{Stream, StreamExt};
use xxhash_rust::xxh3::xxh3_64;

use crate::generator::{Gen, Step};
use crate::task::{FailureKind, Never, TaskFailure, Value};

mod handler;
mod outcome;
mod value;
mod wishes;

pub use handler::{Handler, HandlerOutput, Pipe, direct, handled, handler};
pub use outcome::{OkOf, Outcome, Probe, ProbeFallback, Read, Select, TaskError, fallible, outcome, outcome_with};
pub use value::{TaskItem, TaskValue, item, never, nothing, value};
pub use wishes::{Failed, RetryOn, WishFallback, WishOf, WishProbe, Wishes, judged, wish_kind};

/// A run that may go from thread to thread.
pub type BoxRun = Pin<Box<dyn Run + Send>>;

/// A run that stays on the thread that made it.
pub type LocalBoxRun = Pin<Box<dyn Run>>;

/// What a poll of the body brought.
#[derive(Debug)]
pub enum Item {
    /// A value.
    Yield {
        /// XXH3-64, seed 0, of the item's JSON before the handler; 0 where a handler's items are not compared, as
        /// with `restart` and `resume`.
        hash: u64,
        /// Whether the JSON of the value is already in `out`, for want of a handler. Then there is nothing more to
        /// do to take it; to skip it, truncate `out`. Otherwise `poll_handle` or `skip` comes next.
        stored: bool,
    },
    /// The body returned. Its final value's JSON is in `out`; nothing is, where it has none. The last item.
    Return,
    /// The body returned an error, or a value could not be written. The last item.
    Error(Box<TaskFailure>),
}

/// A started task.
///
/// Not polled again after `Return`, `Error` or an error of the handler; after a panic it may only be dropped.
pub trait Run {
    /// Polls the body for its next value. What it writes is appended to `out`; on error `out` is as it was.
    fn poll_item(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Item>;

    /// Puts the item just yielded through the handler, and appends the JSON of its output to `out`.
    ///
    /// Gives the hash of that output where the item itself was not hashed (`restart` and `resume`): it replaces the
    /// item's. Not called where items are `stored`.
    fn poll_handle(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _out: &mut Vec<u8>,
    ) -> Poll<Result<Option<u64>, Box<TaskFailure>>> {
        Poll::Ready(Ok(None))
    }

    /// Drops the item just yielded, unhandled. Not called where items are `stored`.
    fn skip(self: Pin<&mut Self>) {}

    /// Whether the handler is async, and so must be polled within a runtime.
    fn handler_waits(&self) -> bool {
        false
    }

    /// Whether there is a place in which the body runs.
    #[doc(hidden)]
    fn has_begun(&self) -> bool {
        true
    }
}

impl fmt::Debug for dyn Run + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Run")
    }
}

impl fmt::Debug for dyn Run + Send + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Run")
    }
}

// ---- where values come from

/// Where values come from: a generator, a stream, an iterator, one call.
pub trait Source {
    /// What it yields.
    type Item;
    /// What it returns at the end.
    type Ret;
    /// The next value or, once, the end.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step<Self::Item, Self::Ret>>;
}

/// A source made of a function.
struct Steps<P, T, R>(P, PhantomData<fn() -> (T, R)>);

impl<P, T, R> Source for Steps<P, T, R>
where
    P: FnMut(&mut Context<'_>) -> Poll<Step<T, R>>,
{
    type Item = T;
    type Ret = R;
    #[inline(always)]
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step<T, R>> {
        (self.0)(cx)
    }
}

fn steps<P, T, R>(poll: P) -> Steps<P, T, R>
where
    P: FnMut(&mut Context<'_>) -> Poll<Step<T, R>>,
{
    Steps(poll, PhantomData)
}

/// The values of a body that yields, and what it returns.
#[inline]
pub fn from_gen<T, F: Future>(generator: Gen<T, F>) -> impl Source<Item = T, Ret = F::Output> {
    let mut generator = Box::pin(generator);
    steps(move |cx| generator.as_mut().poll_step(cx))
}

/// What `#[task(stream)]` must hand out.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stream",
    label = "not a stream",
    note = "`#[task(stream)]` is for functions that hand out a `Stream`; for an iterator or a collection write `#[task(iterator)]`"
)]
pub trait OwnStream {
    /// What it yields.
    type Item;
    /// [`Stream::poll_next`].
    fn poll_own(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>>;
}

#[diagnostic::do_not_recommend]
impl<S: Stream> OwnStream for S {
    type Item = S::Item;
    #[inline(always)]
    fn poll_own(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.poll_next(cx)
    }
}

/// The items of a function's own stream.
#[inline]
pub fn from_stream<S: OwnStream>(stream: S) -> impl Source<Item = S::Item, Ret = ()> {
    let mut stream = Box::pin(stream);
    steps(move |cx| stream.as_mut().poll_own(cx).map(|item| item.map_or(Step::Return(()), Step::Yield)))
}

/// The items of a function's own iterator.
#[inline]
pub fn from_iter<I: IntoIterator>(items: I) -> impl Source<Item = I::Item, Ret = ()> {
    let mut items = items.into_iter();
    steps(move |_| Poll::Ready(items.next().map_or(Step::Return(()), Step::Yield)))
}

/// The items of the stream that an `async fn` returns.
#[inline]
pub fn from_later_stream<S: Stream, F: Future<Output = S>>(made: F) -> impl Source<Item = S::Item, Ret = ()> {
    from_stream(futures::stream::once(made).flatten())
}

/// The items of the iterator that an `async fn` returns.
#[inline]
pub fn from_later_iter<I: IntoIterator, F: Future<Output = I>>(made: F) -> impl Source<Item = I::Item, Ret = ()> {
    from_stream(futures::stream::once(made).flat_map(futures::stream::iter))
}

/// What a plain `async fn` returns.
#[inline]
pub fn from_future<F: Future>(future: F) -> impl Source<Item = Never, Ret = F::Output> {
    let mut future = Box::pin(future);
    steps(move |cx| future.as_mut().poll(cx).map(Step::Return))
}

/// What a plain `fn` returns.
#[inline]
pub fn from_call<R, C: FnOnce() -> R>(call: C) -> impl Source<Item = Never, Ret = R> {
    let mut call = Some(call);
    steps(move |_| Poll::Ready(Step::Return(call.take().expect("a run is not polled after its end")())))
}

// ---- the run

struct SourceRun<S: Source, T, U, V> {
    source: S,
    pipe: Pipe<S::Item, T, U>,
    yields: Value<U>,
    end: Read<S::Ret, V>,
    returns: Value<V>,
    /// The item that waits for `poll_handle` or `skip`.
    held: Option<T>,
    /// An item's JSON, only written to be hashed.
    scratch: Vec<u8>,
}

// Nothing in it is pinned with it: sources box what they poll.
impl<S: Source, T, U, V> Unpin for SourceRun<S, T, U, V> {}

impl<S: Source, T, U, V> Run for SourceRun<S, T, U, V> {
    fn poll_item(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Item> {
        let me = self.get_mut();
        let item = match ready!(me.source.poll_step(cx)) {
            Step::Yield(item) => me.take(item, out),
            Step::Return(value) => {
                (me.end)(value).and_then(|value| write(&value, me.returns, out)).map(|()| Item::Return)
            }
        };
        Poll::Ready(item.unwrap_or_else(Item::Error))
    }

    fn poll_handle(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Option<u64>, Box<TaskFailure>>> {
        let me = self.get_mut();
        let Pipe::Handler { handler, items, .. } = &mut me.pipe else {
            return Poll::Ready(Ok(None));
        };
        let value = ready!(handler.poll(cx, me.held.take()));
        let start = out.len();
        let written = value.and_then(|value| write(&value, me.yields, out));
        Poll::Ready(written.map(|()| items.is_none().then(|| xxh3_64(&out[start..]))))
    }

    fn skip(self: Pin<&mut Self>) {
        self.get_mut().held = None;
    }

    fn handler_waits(&self) -> bool {
        matches!(&self.pipe, Pipe::Handler { handler, .. } if handler.waits())
    }
}

impl<S: Source, T, U, V> SourceRun<S, T, U, V> {
    #[inline]
    fn take(&mut self, item: S::Item, out: &mut Vec<u8>) -> Result<Item, Box<TaskFailure>> {
        match &self.pipe {
            Pipe::Direct(read) => {
                let (item, start) = (read(item)?, out.len());
                write(&item, self.yields, out)?;
                Ok(Item::Yield { hash: xxh3_64(&out[start..]), stored: true })
            }
            Pipe::Handler { read, items, .. } => {
                let item = read(item)?;
                let mut hash = 0;
                if let Some(how) = *items {
                    self.scratch.clear();
                    write(&item, how, &mut self.scratch)?;
                    hash = xxh3_64(&self.scratch);
                }
                self.held = Some(item);
                Ok(Item::Yield { hash, stored: false })
            }
        }
    }
}

/// Appends the JSON of a value.
#[inline]
fn write<T>(value: &T, how: Value<T>, out: &mut Vec<u8>) -> Result<(), Box<TaskFailure>> {
    (how.write)(value, out).map_err(|e| unwritable(&e))
}

#[cold]
fn unwritable(e: &serde_json::Error) -> Box<TaskFailure> {
    Box::new(TaskFailure::new(FailureKind::Codec, format!("the value could not be written: {e}")))
}

/// A run for the async threads.
pub fn boxed<S, T, U, V>(
    source: S,
    pipe: Pipe<S::Item, T, U>,
    yields: Value<U>,
    end: Read<S::Ret, V>,
    returns: Value<V>,
) -> BoxRun
where
    S: Source + Send + 'static,
    T: Send + 'static,
    U: 'static,
    V: 'static,
{
    Box::pin(SourceRun { source, pipe, yields, end, returns, held: None, scratch: Vec::new() })
}

/// A run for a thread that may block.
pub fn boxed_local<S, T, U, V>(
    source: S,
    pipe: Pipe<S::Item, T, U>,
    yields: Value<U>,
    end: Read<S::Ret, V>,
    returns: Value<V>,
) -> LocalBoxRun
where
    S: Source + 'static,
    T: 'static,
    U: 'static,
    V: 'static,
{
    Box::pin(SourceRun { source, pipe, yields, end, returns, held: None, scratch: Vec::new() })
}

#[cfg(test)]
mod tests;
