//! [`StreamTask`]: a task that is a value with fields, and yields through its context.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Cx, Poll};

use futures::{Stream, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use crate::context::Context;
use crate::erased::{BoxRun, Item, Read, Run, TaskValue};
use crate::json::{Json, encode};
use crate::panics::caught;
use crate::task::{FailureKind, TaskFailure, Value};
use crate::worker::threads;

/// So many items of a sync generator wait between its thread and the body.
const AHEAD: usize = 64;

/// A task with fields: what is in it is stored as its arguments, and [`process`](Self::process) does the work.
///
/// `#[task]` on the `impl` registers it under the name of the type, and adds `add_task(self)` and `spec()`. Fields are
/// read by serde: those that are left out need `#[serde(default)]`. Whatever it yields goes through the context, by
/// [`process_generator`](Context::process_generator) and its like. A second attempt runs `process` from its start; what it
/// yields again is in the log already, and is not stored again.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use qtasks::StreamTask;
/// use qtasks::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct CountUp {
///     to: u32,
/// }
///
/// #[task]
/// impl StreamTask for CountUp {
///     type Item = u32;
///
///     async fn process(&self, ctx: Context) -> Result<u32, String> {
///         ctx.send_event("start", self.to);
///         let last = ctx.process_generator(futures::stream::iter(1..=self.to)).await;
///         last.ok_or_else(|| "nothing to count".to_owned())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = qtasks::init("memory:").await?;
/// let task = CountUp { to: 3 }.add_task().timeout(Duration::from_secs(50)).await?;
/// assert_eq!((task.returning, task.final_value), (vec![1, 2, 3], 3));
/// # app.shutdown().await
/// # }
/// ```
pub trait StreamTask: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What it yields. Where the `impl` has none, `#[task]` makes it [`serde_json::Value`].
    type Item: TaskValue;
    /// What `process` returns; `#[task]` fills it in.
    type Output;

    /// Does the work.
    fn process(&self, ctx: Context) -> impl Future<Output = Self::Output> + Send;
}

/// Where a value waits between the body and the loop that polls it.
#[derive(Default)]
pub(crate) struct Slot(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    value: Option<Json>,
    completed: Option<Json>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a value over: done when it has been taken.
    async fn put(&self, value: Json) {
        let mut value = Some(value);
        let mut put = false;
        poll_fn(|cx| {
            let mut waiting = self.lock();
            if waiting.value.is_none() {
                match value.take() {
                    Some(value) => (waiting.value, put) = (Some(value), true),
                    None if put => return Poll::Ready(()),
                    None => {}
                }
            }
            // Taken when the body waits: it is to be polled again then, also within a set of futures.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl Context {
    /// Yields a value from a [`StreamTask`]: done when it is on its way to the store.
    ///
    /// As with any yield, what can't be stored fails the task. In another task, which yields by itself, it fails the
    /// task with kind `error`; where the function is called directly, the value goes nowhere.
    pub async fn emit(&self, value: impl Serialize + Send + Sync) {
        self.emit_item(&value).await;
    }

    async fn emit_json(&self, json: Json) {
        match self.slot() {
            Some(slot) => slot.put(json).await,
            None if self.is_detached() => {}
            None => {
                let message = "only a `StreamTask` emits values through its context: yield them by `yield_!`";
                self.fail(TaskFailure::new(FailureKind::Error, message)).await;
            }
        }
    }

    /// Yields each item of a stream, and gives the last one; `None` if there is none.
    pub async fn process_generator<S>(&self, items: S) -> Option<S::Item>
    where
        S: Stream<Item: Serialize + Send + Sync> + Send,
    {
        let mut items = std::pin::pin!(items);
        let mut last = None;
        while let Some(item) = items.next().await {
            self.emit_item(&item).await;
            last = Some(item);
        }
        last
    }

    /// Yields each item of an iterator, which is pulled on a thread that may block, and gives the last one; `None` if
    /// there is none. A panic of the iterator fails the task. When the task is over, the thread ends after the item
    /// that it is at.
    pub async fn process_sync_generator<I>(&self, items: I) -> Option<I::Item>
    where
        I: IntoIterator<Item: Serialize + Send + Sync + 'static> + Send + 'static,
    {
        let (send, mut pulled) = mpsc::channel::<Result<I::Item, TaskFailure>>(AHEAD);
        let pull = move || {
            let all = || items.into_iter().try_for_each(|item| send.blocking_send(Ok(item)));
            if let Err(failure) = caught(all) {
                let _ = send.blocking_send(Err(failure));
            }
        };
        if let Err(error) = threads::run(Box::new(pull)) {
            self.starved(format!("no thread for a sync generator: {error}")).await;
        }
        let mut last = None;
        while let Some(item) = pulled.recv().await {
            match item {
                Ok(item) => {
                    self.emit_item(&item).await;
                    last = Some(item);
                }
                Err(failure) => self.fail(failure).await,
            }
        }
        last
    }

    async fn emit_item(&self, item: &(impl Serialize + Sync)) {
        match Json::of(item) {
            Ok(json) => self.emit_json(json).await,
            Err(e) => {
                let message = format!("the value could not be written: {e}");
                self.fail(TaskFailure::new(FailureKind::Codec, message)).await;
            }
        }
    }

    /// Ends a [`StreamTask`] now, with its final value: the body is dropped here. Returning from
    /// [`process`](StreamTask::process) does the same.
    pub async fn mark_completed(&self, value: impl Serialize) {
        let json = Json::of(&value);
        drop(value);
        match (json, self.slot()) {
            (Ok(json), Some(slot)) => {
                slot.lock().completed = Some(json);
                std::future::pending().await
            }
            (Ok(_), None) if self.is_detached() => {}
            (Ok(_), None) => {
                let message = "only a `StreamTask` is completed through its context: return from the body";
                self.fail(TaskFailure::new(FailureKind::Error, message)).await;
            }
            (Err(e), _) => {
                let message = format!("the final value could not be written: {e}");
                self.fail(TaskFailure::new(FailureKind::Codec, message)).await;
            }
        }
    }
}

/// A [`StreamTask`] that is being processed.
struct Processing<O, V> {
    process: Pin<Box<dyn Future<Output = O> + Send>>,
    /// What it returned; a value may still be in the slot then.
    output: Option<O>,
    slot: Arc<Slot>,
    end: Read<O, V>,
    returns: Value<V>,
}

impl<O, V> Unpin for Processing<O, V> {}

/// How a worker starts one.
#[doc(hidden)]
pub fn stream_task<T, V>(
    ctx: &Context,
    raw: &[u8],
    end: Read<T::Output, V>,
    returns: Value<V>,
) -> Result<BoxRun, TaskFailure>
where
    T: StreamTask<Output: Send + 'static>,
    V: 'static,
{
    let raw = if matches!(raw, b"" | b"null" | b"[]") { b"{}" } else { raw };
    let task: T = serde_json::from_slice(raw)
        .map_err(|e| TaskFailure::new(FailureKind::Codec, format!("the fields of the task: {e}")))?;
    let slot = Arc::<Slot>::default();
    let ctx = ctx.with_slot(Arc::clone(&slot));
    let process = Box::pin(async move { task.process(ctx).await });
    Ok(Box::pin(Processing { process, output: None, slot, end, returns }))
}

impl<O: Send, V> Run for Processing<O, V> {
    fn poll_item(self: Pin<&mut Self>, cx: &mut Cx<'_>, out: &mut Vec<u8>) -> Poll<Item> {
        let me = self.get_mut();
        if me.output.is_none()
            && let Poll::Ready(output) = me.process.as_mut().poll(cx)
        {
            me.output = Some(output);
        }
        let mut waiting = me.slot.lock();
        if let Some(value) = waiting.value.take() {
            out.extend_from_slice(value.as_bytes());
            return Poll::Ready(Item::Yield { hash: xxh3_64(value.as_bytes()), stored: true });
        }
        if let Some(value) = waiting.completed.take() {
            out.extend_from_slice(value.as_bytes());
            return Poll::Ready(Item::Return);
        }
        drop(waiting);
        let Some(output) = me.output.take() else { return Poll::Pending };
        let written = (me.end)(output).and_then(|value| {
            let wrong = |e: serde_json::Error| {
                Box::new(TaskFailure::new(FailureKind::Codec, format!("the final value could not be written: {e}")))
            };
            (me.returns.write)(&value, out).map_err(wrong)
        });
        Poll::Ready(written.map_or_else(Item::Error, |()| Item::Return))
    }
}

/// The arguments of a [`StreamTask`] that is added: its fields.
#[doc(hidden)]
pub fn fields<T: StreamTask + crate::TaskFn>(task: &T) -> crate::AddTask<T> {
    let mut out = Vec::new();
    let args = encode(task, &mut out).map(|()| Json::trusted(out.into()));
    crate::AddTask::of_args(args)
}
