//! [`Sink`]: what one attempt has to say, on its way to the store, and what the attempt is told.
//!
//! Invariant: events leave in the order they came, one append at a time; an attempt that is fenced or over says
//! nothing more.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::sync::Notify;

use super::appender::Appender;
use super::lane::Lane;
use crate::context::Attempt;
use crate::error::{Error, ErrorKind, Result};
#[cfg(feature = "tracing-log")]
use crate::event::LogLine;
use crate::event::{DraftBuilder, named_hash};
use crate::json::Json;
use crate::store::{Append, Appended, ClaimedTask, Lease, Outcome};
use crate::task::{FailureKind, TaskFailure, TaskId};

/// A generator waits for the store when so many of its events are not stored yet.
const WINDOW_EVENTS: usize = 1024;
/// Or so many bytes of them.
const WINDOW_BYTES: usize = 1 << 20;
/// Items that gather are written when there are so many.
const GATHER_EVENTS: usize = 256;

/// What a task may take, at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// It is cancelled when nobody has watched it for so long.
    pub(crate) unwatched: Option<Duration>,
    pub(crate) value_bytes: usize,
    pub(crate) yields: u64,
    pub(crate) log_bytes: u64,
    /// The longest between two values.
    pub(crate) idle: Option<Duration>,
}

/// Why an attempt is to stop.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stop {
    Cancel(String),
    /// The body can't go on, whatever it does.
    Fail(TaskFailure),
    /// The worker shuts down.
    Shutdown,
    /// The host has no thread or process for it.
    Starved(String),
    /// The task is somebody else's, or the worker is gone.
    Fenced,
}

/// What became of a yield that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It gathers with others.
    Gathering,
    /// It was written at once: let those see it who wait for it.
    Written,
    /// It was one too many to go on before the store has some of them.
    Full,
}

/// Whether a sink has more to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    More,
    Nothing,
    /// The end of the attempt is stored, or never will be.
    Over,
}

pub(crate) struct Sink {
    pub(crate) lease: Lease,
    /// Whose slots it takes one of.
    pub(crate) lane: Arc<Lane>,
    appender: Arc<Appender>,
    state: Mutex<State>,
    limits: Limits,
    me: Weak<Sink>,
    runtime: tokio::runtime::Handle,
    /// There is a `stop`: looked at on every poll of the body, without the lock.
    stopped: AtomicBool,
    /// The attempt, waiting for its body, for room or for its end to be stored.
    attempt: AtomicWaker,
    changed: Notify,
    /// Since when the body has been at its next value; looked at only where there is a limit.
    idle_since: Mutex<Option<tokio::time::Instant>>,
}

struct State {
    draft: DraftBuilder,
    outcome: Outcome,
    /// Kept with the next yield.
    checkpoint: Option<Json>,
    /// Kept with what is in the draft.
    checkpointed: Option<Json>,
    /// Tasks that go with the next yield.
    removing: Vec<TaskId>,
    /// Tasks that go with what is in the draft.
    removes: Vec<TaskId>,
    in_flight: Option<InFlight>,
    /// In the appender's queue.
    queued: bool,
    /// The attempt waits for room.
    full: bool,
    tail: u64,
    /// How many yields hold, those on the way included: the index of the next.
    yields: u64,
    /// How many of them were in the log when the attempt began: before that, lines of the body are there already.
    #[cfg(feature = "tracing-log")]
    known: u64,
    bytes: u64,
    /// The body has said something in this attempt.
    spoke: bool,
    /// Events accepted, and events stored, by this attempt.
    accepted: u64,
    stored: u64,
    /// Custom events of earlier attempts that this one may repeat, by gap.
    repeated: HashMap<u64, VecDeque<u64>>,
    stop: Option<Stop>,
    /// The body is over: it says nothing more.
    closed: bool,
    /// The end of the attempt is in the store, or will never be.
    over: bool,
    /// It is in the store; of a retry, the reason if it became a cancel.
    ended: Option<Option<String>>,
    /// When the last renewal that succeeded was sent.
    renewed: Instant,
    lease: Duration,
    /// When somebody last watched it.
    watched: Instant,
    slot: Slot,
}

/// The slot of a worker that an attempt takes.
#[derive(Clone, Copy)]
enum Slot {
    Taken,
    /// The body waits for other tasks, in so many places; they may have it meanwhile.
    Lent(u32),
    /// The body is over.
    Over,
}

struct InFlight {
    events: usize,
    bytes: usize,
    outcome: Outcome,
}

impl Sink {
    pub(crate) fn new(
        task: &ClaimedTask,
        claimed: Instant,
        lease: Duration,
        limits: Limits,
        appender: Arc<Appender>,
        lane: Arc<Lane>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Self> {
        let record = &task.record;
        let state = State {
            draft: DraftBuilder::default(),
            outcome: Outcome::Running,
            checkpoint: None,
            checkpointed: None,
            removing: Vec::new(),
            removes: Vec::new(),
            in_flight: None,
            queued: false,
            full: false,
            tail: record.tail,
            yields: record.yields,
            #[cfg(feature = "tracing-log")]
            known: record.yields,
            bytes: task.bytes,
            spoke: false,
            accepted: 0,
            stored: 0,
            repeated: HashMap::new(),
            stop: None,
            closed: false,
            over: false,
            ended: None,
            renewed: claimed,
            lease,
            watched: Instant::now(),
            slot: Slot::Taken,
        };
        let lease = Lease { id: record.id, epoch: record.epoch };
        Arc::new_cyclic(|me| Sink {
            lease,
            lane,
            appender,
            state: Mutex::new(state),
            limits,
            me: me.clone(),
            runtime,
            stopped: AtomicBool::new(false),
            attempt: AtomicWaker::new(),
            changed: Notify::new(),
            idle_since: Mutex::default(),
        })
    }

    pub(crate) fn id(&self) -> TaskId {
        self.lease.id
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.attempt.wake();
        self.changed.notify_waiters();
    }

    /// Whom to wake when something changes for the attempt.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.attempt.register(waker);
    }

    // ---- what the attempt says

    /// The first event of the attempt. It waits for the next one, or for the body to wait.
    pub(crate) fn started(&self, worker: &str) {
        let mut state = self.state();
        let index = state.yields;
        state.draft.started(index, worker);
        state.accepted += 1;
    }

    /// Yields from index `to` on are void; the next one has that index.
    pub(crate) fn rewind(&self, to: u64) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.draft.rewind(to);
        state.accepted += 1;
        state.yields = to;
        #[cfg(feature = "tracing-log")]
        {
            state.known = to;
        }
        state.repeated.retain(|gap, _| *gap == to);
    }

    /// Sets how many yields hold where the body begins, and what it may repeat of custom events.
    pub(crate) fn begin(&self, yields: u64, repeated: HashMap<u64, VecDeque<u64>>) {
        let mut state = self.state();
        state.yields = yields;
        state.repeated = repeated;
    }

    /// A yield that is in the log already.
    pub(crate) fn verified(&self) {
        let mut state = self.state();
        if !state.closed {
            state.yields += 1;
        }
    }

    /// A new yield.
    pub(crate) fn yielded(&self, hash: u64, value: &[u8]) -> Result<Accepted, TaskFailure> {
        let mut state = self.state();
        let index = state.yields;
        if state.closed {
            return Ok(Accepted::Gathering);
        }
        self.limits.check(index, value.len(), state.bytes)?;
        state.draft.yielded(index, hash, value);
        state.yields += 1;
        state.bytes += value.len() as u64;
        state.accepted += 1;
        if let Some(checkpoint) = state.checkpoint.take() {
            state.checkpointed = Some(checkpoint);
        }
        if !state.removing.is_empty() {
            let removing = std::mem::take(&mut state.removing);
            state.removes.extend(removing);
        }
        Ok(self.accepted_one(state))
    }

    /// A line of the body's log. One that is too large is cut, and none is kept once the log is half full: a task does
    /// not fail for what it says, and has room for what it yields.
    #[cfg(feature = "tracing-log")]
    pub(crate) fn log(&self, mut line: LogLine<'_>) {
        let mut state = self.state();
        if state.closed || state.yields < state.known {
            return;
        }
        let over = line.bytes().saturating_sub(self.limits.value_bytes);
        if over > 0 {
            line.fields = None;
            let mut keep = self.limits.value_bytes.saturating_sub(line.target.len()).min(line.message.len());
            while !line.message.is_char_boundary(keep) {
                keep -= 1;
            }
            line.message.truncate(keep);
        }
        if state.bytes + line.bytes() as u64 > self.limits.log_bytes / 2 {
            return;
        }
        let (gap, before) = (state.yields, state.draft.bytes());
        state.draft.log(gap, &line);
        state.bytes += (state.draft.bytes() - before) as u64;
        state.accepted += 1;
        self.accepted_one(state);
    }

    /// Has what was accepted written: now if nothing was lately, else soon together with what follows.
    fn accepted_one(&self, mut state: MutexGuard<'_, State>) -> Accepted {
        let events = state.draft.len();
        state.spoke = true;
        let otherwise = if state.room() { Accepted::Gathering } else { Accepted::Full };
        let first = !state.queued;
        let in_flight = state.in_flight.is_some();
        if first && !in_flight {
            state.queued = true;
        }
        drop(state);
        if in_flight {
            // Whoever settles that puts this one into the queue again.
            return otherwise;
        }
        if first {
            self.appender.enqueue(self.me.upgrade().expect("in use"));
            if self.appender.is_rested() {
                self.appender.write();
                return Accepted::Written;
            }
            self.appender.tell_keeper();
        } else if events.is_multiple_of(GATHER_EVENTS) {
            self.appender.write();
            return Accepted::Written;
        }
        otherwise
    }

    /// Writes what there is: the body waits, or is over.
    pub(crate) fn write(&self) {
        let mut state = self.state();
        if state.draft.is_empty() || state.in_flight.is_some() {
            return;
        }
        let first = !std::mem::replace(&mut state.queued, true);
        drop(state);
        if first {
            self.appender.enqueue(self.me.upgrade().expect("in use"));
        }
        self.appender.write();
    }

    /// The body is over; how the attempt ends is still to be said.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// The attempt is over before its body began. Answers whether nothing of it was said: then nothing is stored.
    pub(crate) fn forget(&self) -> bool {
        let mut state = self.state();
        state.closed = true;
        let unsaid = !state.spoke && state.stored == 0 && state.in_flight.is_none();
        if unsaid {
            state.draft = DraftBuilder::default();
            state.accepted = 0;
        }
        unsaid
    }

    /// Whether the attempt has said how it ends.
    pub(crate) fn is_ending(&self) -> bool {
        self.state().outcome != Outcome::Running
    }

    /// The last event of the attempt, with what becomes of the task. It waits for the next write, whoever makes it.
    pub(crate) fn end(&self, outcome: Outcome, event: impl FnOnce(u64, &mut DraftBuilder)) {
        let mut state = self.state();
        state.closed = true;
        let index = state.yields;
        event(index, &mut state.draft);
        state.accepted += 1;
        state.outcome = outcome;
        if state.in_flight.is_none() && !std::mem::replace(&mut state.queued, true) {
            drop(state);
            self.appender.enqueue(self.me.upgrade().expect("in use"));
        }
    }

    // ---- what the appender takes, and answers

    /// All that there is to write.
    pub(crate) fn take(&self) -> Option<Append> {
        let mut state = self.state();
        state.queued = false;
        if state.draft.is_empty() || state.in_flight.is_some() || state.over {
            return None;
        }
        let outcome = state.outcome;
        let (events, bytes) = (state.draft.len(), state.draft.bytes());
        state.in_flight = Some(InFlight { events, bytes, outcome });
        let Lease { id, epoch } = self.lease;
        let checkpoint = state.checkpointed.take();
        let removes = std::mem::take(&mut state.removes);
        Some(Append { id, epoch, after_seq: state.tail, events: state.draft.finish(), checkpoint, outcome, removes })
    }

    pub(crate) fn settle(&self, answer: Appended) -> Ready {
        let mut state = self.state();
        let Some(in_flight) = state.in_flight.take() else { return Ready::Nothing };
        match answer {
            Appended::Stored { tail, cancel } => {
                state.tail = tail;
                state.stored += in_flight.events as u64;
                state.over = in_flight.outcome != Outcome::Running;
                match in_flight.outcome {
                    Outcome::Running => {}
                    Outcome::Ended => state.ended = Some(None),
                    Outcome::Retry(_) => state.ended = Some(cancel.clone()),
                }
                if let Some(reason) = cancel
                    && !state.over
                {
                    self.stop_locked(&mut state, Stop::Cancel(reason));
                }
            }
            Appended::Fenced => self.stop_locked(&mut state, Stop::Fenced),
            Appended::Conflict { tail } => {
                let known = state.tail;
                let id = self.lease.id;
                tracing::error!(%id, known, tail, "the log has another tail than its writer knows; the task is dropped");
                self.stop_locked(&mut state, Stop::Fenced);
            }
        }
        let over = state.over;
        let more = !state.draft.is_empty() && !over;
        state.queued = more;
        // An attempt that does not wait for this is not woken: it may be the one that writes.
        let waits = std::mem::take(&mut state.full) || state.stop.is_some();
        drop(state);
        if waits {
            self.attempt.wake();
        }
        self.changed.notify_waiters();
        match more {
            _ if over => Ready::Over,
            true => Ready::More,
            false => Ready::Nothing,
        }
    }

    // ---- what the attempt is told

    /// Tells the attempt to stop. The first reason counts, but nothing counts against being fenced.
    pub(crate) fn stop(&self, stop: Stop) {
        self.stop_locked(&mut self.state(), stop);
        self.wake();
    }

    fn stop_locked(&self, state: &mut State, stop: Stop) {
        let fenced = stop == Stop::Fenced;
        if fenced {
            state.closed = true;
            state.over = true;
        }
        if state.stop.is_none() || fenced {
            state.stop = Some(stop);
        }
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Why the attempt is to stop, if it is.
    #[inline]
    pub(crate) fn asked_to_stop(&self) -> Option<Stop> {
        if self.stopped.load(Ordering::Relaxed) { self.state().stop.clone() } else { None }
    }

    /// Ready when the generator may go on: there is room, or a reason to stop.
    pub(crate) fn poll_room(&self, cx: &std::task::Context<'_>) -> Poll<()> {
        self.attempt.register(cx.waker());
        let mut state = self.state();
        state.full = !state.room() && state.stop.is_none();
        if state.full { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Waits until `of` says something.
    async fn until<R>(&self, of: impl Fn(&State) -> Option<R>) -> R {
        loop {
            if let Some(result) = of(&self.state()) {
                return result;
            }
            let changed = self.changed.notified();
            futures::pin_mut!(changed);
            changed.as_mut().enable();
            // Once more, now that no change can be missed.
            if let Some(result) = of(&self.state()) {
                return result;
            }
            changed.await;
        }
    }

    /// Done when all is stored that was accepted.
    ///
    /// # Errors
    /// If it never will be. The stop of a shutdown does not keep events from being stored.
    pub(crate) async fn drained(&self) -> Result<()> {
        let all = self.state().accepted;
        self.stored_up_to(all).await
    }

    /// Done when the end of the attempt is stored, or never will be.
    pub(crate) async fn over(&self) {
        self.until(|state| state.over.then_some(())).await;
    }

    /// Where the end of the attempt is stored: the reason, if it became a cancel there.
    pub(crate) fn ended(&self) -> Option<Option<String>> {
        self.state().ended.clone()
    }

    async fn stored_up_to(&self, all: u64) -> Result<()> {
        let stored = |state: &State| {
            if state.stored >= all { Some(Ok(())) } else { state.over.then(|| Err(fenced(self.lease.id))) }
        };
        self.until(stored).await
    }

    // ---- the slot

    /// The body waits for another task, which may have its slot.
    pub(crate) fn lend(&self) {
        let mut state = self.state();
        state.slot = match state.slot {
            Slot::Taken => {
                self.lane.leave();
                self.lane.look();
                Slot::Lent(1)
            }
            Slot::Lent(n) => Slot::Lent(n + 1),
            Slot::Over => Slot::Over,
        };
    }

    /// It waits no longer.
    pub(crate) fn take_back(&self) {
        let mut state = self.state();
        state.slot = match state.slot {
            Slot::Lent(1) => {
                self.lane.enter();
                Slot::Taken
            }
            Slot::Lent(n) => Slot::Lent(n - 1),
            other => other,
        };
    }

    /// The body is over, and takes no slot any more.
    pub(crate) fn leave_slot(&self) {
        let mut state = self.state();
        if let Slot::Taken = std::mem::replace(&mut state.slot, Slot::Over) {
            self.lane.leave();
        }
    }

    // ---- how long the body takes

    /// The body begins to make a value, or has made it.
    #[inline]
    pub(crate) fn makes(&self, begins: bool) {
        if self.limits.idle.is_some() {
            *self.idle_since() = begins.then(tokio::time::Instant::now);
        }
    }

    fn idle_since(&self) -> MutexGuard<'_, Option<tokio::time::Instant>> {
        self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_idle_limit(&self) -> bool {
        self.limits.idle.is_some()
    }

    /// Done when the body has been at one value for longer than it may: gives how long that is.
    pub(crate) async fn idled(&self) -> Duration {
        let Some(limit) = self.limits.idle else { return std::future::pending().await };
        loop {
            let since = *self.idle_since();
            // Where it is at none, none that it begins now can be too late before then.
            let due = since.unwrap_or_else(tokio::time::Instant::now).checked_add(limit);
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => return std::future::pending().await,
            }
            if since.is_some() && since == *self.idle_since() {
                return limit;
            }
        }
    }

    // ---- the lease

    /// A renewal that was sent at `sent` succeeded.
    pub(crate) fn renewed(&self, sent: Instant) {
        let mut state = self.state();
        state.renewed = state.renewed.max(sent);
    }

    /// Whether it matters that somebody watches.
    pub(crate) fn is_to_be_watched(&self) -> bool {
        self.limits.unwatched.is_some()
    }

    /// Somebody watches it, or nobody does: too long, and it is cancelled.
    pub(crate) fn is_watched(&self, watched: bool) {
        let mut state = self.state();
        if watched {
            state.watched = Instant::now();
        } else if self.limits.unwatched.is_some_and(|limit| state.watched.elapsed() >= limit) {
            drop(state);
            self.stop(Stop::Cancel("unwatched".to_owned()));
        }
    }

    /// Whether the lease may still hold, by this process's own clock.
    pub(crate) fn has_lease(&self) -> bool {
        let state = self.state();
        !state.over && state.renewed.elapsed() <= state.lease
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().over
    }

    /// How many yields hold for the attempt.
    pub(crate) fn yields(&self) -> u64 {
        self.state().yields
    }
}

impl State {
    fn room(&self) -> bool {
        let (events, bytes) = self.in_flight.as_ref().map_or((0, 0), |f| (f.events, f.bytes));
        self.draft.len() + events < WINDOW_EVENTS && self.draft.bytes() + bytes < WINDOW_BYTES
    }
}

impl Limits {
    fn check(&self, index: u64, value_bytes: usize, log_bytes: u64) -> Result<(), TaskFailure> {
        let limit = |message: String| Err(TaskFailure::new(FailureKind::Limit, message).at(index));
        if value_bytes > self.value_bytes {
            let message = format!("the value has {value_bytes} bytes, of at most {}", self.value_bytes);
            return limit(message + ": `value_bytes_max` of the app's builder says how many");
        }
        if index >= self.yields {
            return limit(format!("more than {} values: raise it by `#[task(yields_max = …)]`", self.yields));
        }
        self.check_log(value_bytes, log_bytes).map_or_else(limit, Ok)
    }

    /// The message, if so many bytes more are too many for the log.
    fn check_log(&self, more: usize, log_bytes: u64) -> Result<(), String> {
        if log_bytes + more as u64 <= self.log_bytes {
            return Ok(());
        }
        Err(format!("a log of more than {} bytes: raise it by `#[task(log_bytes_max = …)]`", self.log_bytes))
    }
}

fn fenced(id: TaskId) -> Error {
    Error::new(ErrorKind::Fenced, format!("the attempt at task {id} is over"))
}

impl Attempt for Sink {
    fn send_event(&self, name: &str, data: Json) -> Result<()> {
        let mut state = self.state();
        if state.closed {
            return Err(fenced(self.lease.id));
        }
        let hash = named_hash(name, &data);
        let gap = state.yields;
        if let Some(stored) = state.repeated.get_mut(&gap)
            && stored.front() == Some(&hash)
        {
            stored.pop_front();
            return Ok(());
        }
        let bytes = name.len() + data.as_bytes().len();
        if bytes > self.limits.value_bytes {
            let message = format!("the event `{name}` has {bytes} bytes, of at most {}", self.limits.value_bytes);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.limits.check_log(bytes, state.bytes).map_err(|message| Error::new(ErrorKind::Limit, message))?;
        let before = state.draft.bytes();
        state.draft.custom(gap, hash, name, &data);
        state.bytes += (state.draft.bytes() - before) as u64;
        state.accepted += 1;
        self.accepted_one(state);
        Ok(())
    }

    fn checkpoint(&self, data: Json) -> Result<()> {
        let mut state = self.state();
        if state.closed {
            return Err(fenced(self.lease.id));
        }
        state.checkpoint = Some(data);
        Ok(())
    }

    fn removes(&self, id: TaskId) {
        self.state().removing.push(id);
    }

    fn flushed(&self) -> BoxFuture<'static, Result<()>> {
        let me = self.me.upgrade().expect("in use");
        Box::pin(async move {
            me.write();
            let all = me.state().accepted;
            me.stored_up_to(all).await
        })
    }

    fn cancel(&self, reason: String) {
        self.stop(Stop::Cancel(reason));
    }

    fn is_cancelled(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> BoxFuture<'static, ()> {
        let me = self.me.upgrade().expect("in use");
        Box::pin(async move { me.until(|state| state.stop.as_ref().map(|_| ())).await })
    }

    fn fail(&self, failure: TaskFailure) {
        self.stop(Stop::Fail(failure));
    }

    fn starved(&self, why: String) {
        self.stop(Stop::Starved(why));
    }

    fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.clone()
    }
}
