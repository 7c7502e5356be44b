//! From running attempts to the store: each has a [`Sink`]; one [`Appender`] per worker writes what is in them.
//!
//! Whoever has something to store and finds the appender idle writes at once, on its own thread; what comes while a
//! write is under way goes together with the next one. No timer delays a first item. A body that computes for long
//! after a quick second item can't hold that one back either: the keeper's thread is told of it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::{Notify, mpsc};
use tracing::Instrument as _;

use super::running::Running;
use super::sink::{Ready, Sink, Stop};
use crate::error::Result;
use crate::spans;
use crate::store::{Append, Appended, Lease, Store};

/// At most so many events in one call, but for a single task's window.
const EVENTS_MAX: usize = 4096;
/// At most so many bytes in one call, but for a single task's window.
const BYTES_MAX: usize = 4 << 20;
/// After a write, further items of a body that yields at full speed gather for so long before one of them writes.
const GATHER: Duration = Duration::from_micros(50);
/// How often one thread writes for all before it hands over.
const ROUNDS: usize = 4;
/// The first and the longest wait before a call that failed is repeated.
const REPEAT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What the keeper's thread is to do for an appender.
pub(crate) enum Job {
    /// Look whether there is something to write.
    Look,
    /// Go on with a call that has to wait.
    Call(Call),
}

/// A call under way. The batch is frozen: it is repeated as it is until the store answers.
pub(crate) struct Call {
    batch: Vec<Append>,
    sinks: Vec<Arc<Sink>>,
    answer: BoxFuture<'static, Result<Vec<Appended>>>,
}

pub(crate) struct Appender {
    store: Arc<dyn Store>,
    /// Who is over is taken out of it.
    running: Weak<Running>,
    runtime: tokio::runtime::Handle,
    /// Sinks with something to write, each once.
    queue: Mutex<VecDeque<Arc<Sink>>>,
    /// Somebody writes, and looks again when done.
    busy: AtomicBool,
    /// The keeper has been told to look, and has not yet.
    told: AtomicBool,
    last_write: Mutex<Option<Instant>>,
    keeper: mpsc::UnboundedSender<Job>,
    /// The worker is gone: nothing may be written any more.
    dead: AtomicBool,
    /// What was dropped because the store did not answer, to be given back when it does.
    given_up: Mutex<Vec<Lease>>,
    /// Attempts whose futures are gone before they ended: what they said is to be stored, and their leases given back.
    abandoned: Mutex<Vec<Arc<Sink>>>,
    /// There are such attempts.
    left: Notify,
}

impl Appender {
    pub(crate) fn new(store: Arc<dyn Store>, running: Weak<Running>) -> (Arc<Self>, mpsc::UnboundedReceiver<Job>) {
        let (keeper, jobs) = mpsc::unbounded_channel();
        let appender = Appender {
            store,
            running,
            runtime: tokio::runtime::Handle::current(),
            queue: Mutex::default(),
            busy: AtomicBool::new(false),
            told: AtomicBool::new(false),
            last_write: Mutex::default(),
            keeper,
            dead: AtomicBool::new(false),
            given_up: Mutex::default(),
            abandoned: Mutex::default(),
            left: Notify::new(),
        };
        (Arc::new(appender), jobs)
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Arc<Sink>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is written from now on: the worker crashed.
    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        self.queue().clear();
    }

    /// Drops an attempt whose lease could not be extended.
    pub(crate) fn give_up(&self, sink: &Sink) {
        sink.stop(Stop::Fenced);
        self.give_up_again(vec![sink.lease]);
    }

    pub(crate) fn give_up_again(&self, leases: Vec<Lease>) {
        if !self.dead.load(Ordering::SeqCst) {
            self.given_up.lock().unwrap_or_else(PoisonError::into_inner).extend(leases);
        }
    }

    /// Takes an attempt whose future is gone: whoever polls nothing extends no lease either.
    pub(super) fn abandon(&self, sink: &Arc<Sink>) {
        sink.close();
        if self.dead.load(Ordering::SeqCst) {
            return sink.stop(Stop::Fenced);
        }
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(sink));
        self.left.notify_one();
    }

    /// Done when there is something to give back that was not there before.
    pub(super) async fn left(&self) {
        self.left.notified().await;
    }

    /// Stores what abandoned attempts have said, waiting at most so long, and gives them up.
    pub(super) async fn settle_abandoned(&self, wait: Duration) {
        let abandoned = std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        if abandoned.is_empty() {
            return;
        }
        let stored = abandoned.iter().map(|sink| {
            sink.write();
            tokio::time::timeout(wait, sink.drained())
        });
        futures::future::join_all(stored).await;
        abandoned.iter().filter(|sink| !sink.is_over()).for_each(|sink| self.give_up(sink));
    }

    /// What was dropped since the last call.
    pub(crate) fn given_up(&self) -> Vec<Lease> {
        std::mem::take(&mut *self.given_up.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A sink has something to write that was not there before.
    pub(crate) fn enqueue(&self, sink: Arc<Sink>) {
        self.queue().push_back(sink);
    }

    /// Whether an item that comes now should be written at once, rather than gather with those after it.
    pub(crate) fn is_rested(&self) -> bool {
        let last = self.last_write.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|at| at.elapsed() >= GATHER)
    }

    /// Has somebody look soon, in case that nothing else makes them.
    pub(crate) fn tell_keeper(&self) {
        if !self.told.swap(true, Ordering::SeqCst) {
            // Without a keeper the worker is gone, and nothing is to be written.
            let _ = self.keeper.send(Job::Look);
        }
    }

    /// Writes what there is, unless somebody does already.
    pub(crate) fn write(&self) {
        for _ in 0..ROUNDS {
            if self.busy.swap(true, Ordering::SeqCst) {
                return;
            }
            let Some(mut call) = self.collect() else {
                self.busy.store(false, Ordering::SeqCst);
                // Something may have come between the look and the store.
                if self.queue().is_empty() {
                    return;
                }
                continue;
            };
            // A sync body's thread has no runtime, which a store's connection may need.
            let entered = self.runtime.enter();
            // Nor is what a store says by `tracing` said by the body: each line would bring forth the next.
            #[cfg(feature = "tracing-log")]
            let outside = crate::app::current::leave();
            let answer = pin!(&mut call.answer).as_mut().poll_unpin_once();
            #[cfg(feature = "tracing-log")]
            drop(outside);
            drop(entered);
            match answer {
                Poll::Ready(Ok(answers)) => self.settle(&call, answers),
                pending => {
                    if pending.is_ready() {
                        // A future that is done can't be asked again: the keeper begins with the first repetition.
                        call.answer = self.call(call.batch.clone());
                    }
                    let _ = self.keeper.send(Job::Call(call));
                    return;
                }
            }
        }
        self.tell_keeper();
    }

    /// The next batch: the sinks take turns, each with all that it has.
    fn collect(&self) -> Option<Call> {
        if self.dead.load(Ordering::SeqCst) {
            self.queue().clear();
            return None;
        }
        let (mut events, mut bytes) = (0, 0);
        let (mut batch, mut sinks) = (Vec::new(), Vec::new());
        while events < EVENTS_MAX && bytes < BYTES_MAX {
            let Some(sink) = self.queue().pop_front() else { break };
            if let Some(append) = sink.take() {
                events += append.events.len();
                bytes += append.events.bytes();
                batch.push(append);
                sinks.push(sink);
            } else if sink.is_over() {
                self.over(&sink);
            }
        }
        if batch.is_empty() {
            return None;
        }
        let answer = self.call(batch.clone());
        Some(Call { batch, sinks, answer })
    }

    fn call(&self, batch: Vec<Append>) -> BoxFuture<'static, Result<Vec<Appended>>> {
        let store = Arc::clone(&self.store);
        let span = spans::append(&batch);
        Box::pin(async move { store.append(batch).await }.instrument(span))
    }

    /// Tells the sinks what became of their events.
    fn settle(&self, call: &Call, answers: Vec<Appended>) {
        *self.last_write.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        for (sink, answer) in call.sinks.iter().zip(answers) {
            match sink.settle(answer) {
                Ready::More => self.enqueue(Arc::clone(sink)),
                Ready::Over => self.over(sink),
                Ready::Nothing => {}
            }
        }
        self.busy.store(false, Ordering::SeqCst);
    }

    fn over(&self, sink: &Sink) {
        if let Some(running) = self.running.upgrade() {
            running.remove(sink);
        }
    }

    /// What the keeper's thread does all the time.
    pub(crate) async fn keep(&self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(job) = jobs.recv().await {
            match job {
                Job::Look => {
                    self.told.store(false, Ordering::SeqCst);
                    self.write();
                }
                Job::Call(call) => {
                    self.finish(call).await;
                    self.write();
                }
            }
        }
    }

    /// Repeats a call until it is answered, or until nobody holds a lease for it any more.
    async fn finish(&self, mut call: Call) {
        let mut wait = REPEAT.0;
        loop {
            match (&mut call.answer).await {
                Ok(answers) => return self.settle(&call, answers),
                Err(error) if !self.dead.load(Ordering::SeqCst) && call.sinks.iter().any(|s| s.has_lease()) => {
                    crate::trouble::store_failed(&error, "the store did not take events; they are sent again");
                }
                Err(_) => {
                    call.sinks.iter().filter(|s| !s.is_over()).for_each(|s| self.give_up(s));
                    let lost = vec![Appended::Fenced; call.sinks.len()];
                    return self.settle(&call, lost);
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(REPEAT.1);
            call.answer = self.call(call.batch.clone());
        }
    }
}

/// Polls a future once, with nobody to be woken.
trait PollOnce: Future {
    fn poll_unpin_once(self: std::pin::Pin<&mut Self>) -> Poll<Self::Output> {
        self.poll(&mut Context::from_waker(Waker::noop()))
    }
}
impl<F: Future + ?Sized> PollOnce for F {}
