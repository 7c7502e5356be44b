//! [`Worker`]: claims tasks, runs them, and gives back what it can't finish.
//!
//! Invariant: nothing is claimed before a slot is free for it, so that the most urgent task is always the next.

mod appender;
mod execute;
pub(crate) mod keeper;
pub(crate) mod lane;
mod limits;
mod replay;
pub(crate) mod run;
mod running;
mod sink;
pub(crate) mod threads;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::app::inspect::BUILT_IN_LANE;
use crate::app::meters::Meters;
use crate::app::{Config, Core, current};
use crate::builtin;
use crate::context::States;
use crate::error::Result;
use crate::executor::TaskExecutor;
use crate::middleware::Middleware;
use crate::panics::caught;
use crate::registry::Registry;
use crate::schedule;
use crate::signals::{Ending, Receivers, SignalTask, Told};
use crate::spans;
use crate::store::{Claim, ClaimedTask, Extended, Interest, Lease, Limit, Offer, Store};
use crate::task::{BUILT_IN, Status, TaskId, TaskRecord, TaskSpec};
use crate::trace::Propagator;
use appender::{Appender, Job};
use lane::Lane;
use run::After;
use running::Running;
use sink::Limits;
pub(crate) use sink::Sink;
pub(crate) use sink::Stop;

/// What a worker is made of.
pub(crate) struct Worker {
    name: Arc<str>,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    states: Arc<States>,
    meters: Arc<Meters>,
    propagator: Option<Arc<dyn Propagator>>,
    config: Arc<Config>,
    interest: Arc<Interest>,
    /// By the names of task functions; only of those around which there is something.
    around: HashMap<String, Around>,
    /// By the names of task functions; only of those that somebody asked about.
    signals: HashMap<String, Arc<Receivers>>,
    appender: Arc<Appender>,
    runtime: tokio::runtime::Handle,
    running: Arc<Running>,
    /// Of the bodies that it runs.
    bodies: Arc<Lane>,
    /// Of what runs no body but waits for others.
    built_ins: Arc<Lane>,
    offers: Mutex<Offers>,
    /// A run of a schedule has begun or ended here.
    firing: Notify,
    /// Nothing more is claimed.
    closing: CancellationToken,
    /// The attempts end where they are.
    crashed: CancellationToken,
    attempts: TaskTracker,
    abandoned: Arc<AtomicUsize>,
    closed: AtomicBool,
    /// The app that it works for.
    scope: current::Scope,
}

#[derive(Default)]
struct Offers {
    queues: BTreeSet<String>,
    all: Arc<[Offer]>,
    built_in: Arc<[Offer]>,
    limits: Arc<[Limit]>,
}

/// So many built-ins a worker takes care of at once.
const BUILT_INS: usize = 1_000;

/// How often it is looked for built-ins that nobody cleaned up after.
const TIDY: Duration = Duration::from_secs(30);

/// What there is around bodies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Around {
    pub(crate) executor: Option<Arc<dyn TaskExecutor>>,
    pub(crate) layers: Vec<Arc<dyn Middleware>>,
}

impl Around {
    /// What there is around those of one task function, in an app that has this around all; `None` if nothing is.
    fn of(&self, spec: &TaskSpec) -> Option<Around> {
        let own = spec.made.executor.clone().or_else(|| spec.executor.map(|executor| executor.make()));
        let executor = own.or_else(|| self.executor.clone());
        let named = spec.middleware.iter().map(|layer| layer.make());
        let layers: Vec<_> = self.layers.iter().cloned().chain(named).chain(spec.made.layers.iter().cloned()).collect();
        (executor.is_some() || !layers.is_empty()).then_some(Around { executor, layers })
    }
}

/// An attempt, for as long as there is a future that polls it. Where that is dropped before the attempt has ended, the
/// attempt is running no longer: its slot is free, and its lease is given back.
struct Held {
    worker: Arc<Worker>,
    sink: Arc<Sink>,
    ended: bool,
}

impl Held {
    /// All that follows from its end is done.
    fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Held { worker, sink, ended } = self;
        sink.leave_slot();
        sink.lane.look();
        match *ended {
            true => {}
            // Its lease is kept until that is stored.
            false if sink.is_ending() && !sink.is_over() => worker.appender.tell_keeper(),
            false => {
                if !sink.is_over() {
                    worker.appender.abandon(sink);
                }
                worker.running.remove(sink);
            }
        }
    }
}

/// An attempt that has begun, and what there is to do when it is over.
struct Begun {
    sink: Arc<Sink>,
    signals: Option<Arc<Told>>,
    /// A schedule waits for its end.
    scheduled: bool,
    /// A limit may let another go when it is stored.
    awaited: bool,
}

impl Worker {
    pub(crate) fn new(
        core: &Arc<Core>,
        store: Arc<dyn Store>,
        signals: HashMap<String, Arc<Receivers>>,
        around: &Around,
    ) -> (Arc<Self>, Arc<Appender>, tokio::sync::mpsc::UnboundedReceiver<Job>) {
        let (registry, config) = (Arc::clone(&core.registry), Arc::clone(&core.config));
        let running = Arc::<Running>::default();
        let (appender, jobs) = Appender::new(Arc::clone(&store), Arc::downgrade(&running));
        let bodies = Arc::new(Lane::new(config.worker.clone(), config.concurrency, false));
        let built_ins = Arc::new(Lane::new(format!("{}{BUILT_IN_LANE}", config.worker), BUILT_INS, true));
        let around = registry.iter().filter_map(|(name, spec)| Some((name.to_owned(), around.of(spec)?))).collect();
        let worker = Worker {
            name: config.worker.as_str().into(),
            store,
            registry,
            states: Arc::clone(&core.states),
            meters: Arc::clone(&core.meters),
            propagator: core.propagator.clone(),
            config,
            interest: core.hub.interest(),
            around,
            signals,
            appender: Arc::clone(&appender),
            runtime: tokio::runtime::Handle::current(),
            running,
            bodies,
            built_ins,
            offers: Mutex::default(),
            firing: Notify::new(),
            closing: CancellationToken::new(),
            crashed: CancellationToken::new(),
            attempts: TaskTracker::new(),
            abandoned: Arc::default(),
            closed: AtomicBool::new(false),
            scope: current::Scope::new(core),
        };
        let queues = worker.config.queues.clone().unwrap_or_else(|| worker.registry.queues());
        for queue in queues {
            worker.offer(&queue);
        }
        (Arc::new(worker), appender, jobs)
    }

    /// What it has a lease for.
    #[cfg(feature = "cli")]
    pub(crate) fn grace(&self) -> Duration {
        self.config.grace
    }

    pub(crate) fn running(&self) -> Vec<Arc<Sink>> {
        self.running.all()
    }

    /// Sync bodies whose attempts are over and that run on.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
    }

    /// The queues that it serves.
    pub(crate) fn queues(&self) -> BTreeSet<String> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner).queues.clone()
    }

    /// Serves a queue from now on.
    fn offer(&self, queue: &str) {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        if !offers.queues.insert(queue.to_owned()) {
            return;
        }
        let names = self.registry.names();
        let pair =
            |queue: &String, name: &str| Offer { queue: queue.clone(), name: name.to_owned(), allowance: u32::MAX };
        offers.all = offers.queues.iter().flat_map(|q| names.iter().map(|n| pair(q, n))).collect();
        offers.built_in = offers.queues.iter().flat_map(|q| builtin::NAMES.iter().map(|n| pair(q, n))).collect();
        offers.limits = limits::of(&self.registry, &self.config, &offers.queues);
        let served = offers.all.iter().chain(&*offers.built_in);
        self.interest.serve(served.map(|o| (o.queue.clone(), o.name.clone())));
        drop(offers);
        self.look();
    }

    /// A task was added to a queue: unless the worker was told which queues to serve, it serves this one too.
    pub(crate) fn serve_also(&self, queue: &str) {
        if self.config.queues.is_none() {
            self.offer(queue);
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn scan(&self) -> Duration {
        self.config.times.scan
    }

    /// Told when a run of a schedule has begun or ended here.
    pub(crate) fn firing(&self) -> &Notify {
        &self.firing
    }

    /// A task of a name may be ready.
    pub(crate) fn ready(&self, name: &str) {
        let lane = if name.starts_with(BUILT_IN) { &self.built_ins } else { &self.bodies };
        lane.look();
    }

    /// A task may be ready.
    pub(crate) fn look(&self) {
        self.bodies.look();
        self.built_ins.look();
    }

    /// Begins to work. The loops count as attempts, so that `shutdown` waits for them as well.
    pub(crate) fn start(self: &Arc<Self>) {
        #[cfg(feature = "metrics")]
        crate::metrics::slots_open(self.bodies.slots);
        for lane in [&self.bodies, &self.built_ins] {
            self.attempts.spawn(Arc::clone(self).run(Arc::clone(lane)));
        }
        self.attempts.spawn(Arc::clone(self).tidy());
        self.attempts.spawn(schedule::keep(Arc::clone(self), self.closing.clone()));
    }

    /// Claims and runs until told to stop.
    async fn run(self: Arc<Self>, lane: Arc<Lane>) {
        while !self.closing.is_cancelled() {
            let free = lane.free();
            let mut wait = None;
            if free > 0 {
                if !lane.built_in {
                    // Before the look: what comes after it is hinted at.
                    self.interest.rest();
                }
                let Some((claimed, sent)) = self.claim(&lane, free).await else { continue };
                if self.closing.is_cancelled() {
                    return self.give_back(&claimed.tasks).await;
                }
                if !claimed.tasks.is_empty() {
                    self.meters.claimed.count(claimed.tasks.len());
                    if !lane.built_in {
                        self.interest.work();
                    }
                    self.begin_all(claimed.tasks, &lane, sent).await;
                    continue;
                }
                wait = Some(claimed.next_due.map_or(self.config.times.scan, |due| due.min(self.config.times.scan)));
            }
            let looked = self.closing.run_until_cancelled(lane.looked());
            match wait.or_else(|| lane.grows_in()) {
                // Even a task that is due this millisecond must let the clock move.
                Some(wait) => drop(tokio::time::timeout(wait.max(Duration::from_millis(1)), looked).await),
                None => drop(looked.await),
            }
        }
    }

    /// Cleans up after built-ins whose worker died before it could.
    async fn tidy(self: Arc<Self>) {
        let every = TIDY.max(self.config.times.scan);
        let mut known = HashSet::new();
        while self.closing.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let Some(core) = self.scope.core() else { return };
            if let Err(error) = builtin::tidy(&core, &mut known).await {
                tracing::warn!(%error, "what built-in tasks left could not be looked at");
            }
        }
    }

    /// Claims, again with the same token until the store answers. `None` if told to stop.
    async fn claim(&self, lane: &Lane, max: usize) -> Option<(crate::store::Claimed, Instant)> {
        let (offers, limits) = {
            let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
            match lane.built_in {
                true => (Arc::clone(&offers.built_in), Arc::default()),
                false => (Arc::clone(&offers.all), Arc::clone(&offers.limits)),
            }
        };
        let token = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), max);
        let lease = self.config.times.lease;
        let claim = Claim { worker: lane.name.clone(), token, offers, max, lease, limits };
        let mut wait = Duration::from_millis(10);
        loop {
            let sent = Instant::now();
            match self.store.claim(claim.clone()).instrument(spans::claim(&claim)).await {
                Ok(claimed) => return Some((claimed, sent)),
                Err(error) => crate::trouble::store_failed(&error, "no tasks could be claimed; trying again"),
            }
            if self.closing.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                // What an answer that was lost gave is to be given back.
                let sent = Instant::now();
                return self.store.claim(claim).await.ok().map(|claimed| (claimed, sent));
            }
            wait = (wait * 2).min(self.config.times.scan);
        }
    }

    /// Whether others may wait for the end of the task, by a limit of how many run at once.
    fn is_awaited(&self, record: &TaskRecord) -> bool {
        let limits = &self.offers.lock().unwrap_or_else(PoisonError::into_inner).limits;
        limits.iter().any(|l| l.concurrency.is_some() && l.on.covers(&record.queue, &record.name))
    }

    /// Runs tasks that were claimed. One that can't be begun keeps neither the others nor the loop from going on.
    async fn begin_all(self: &Arc<Self>, tasks: Vec<ClaimedTask>, lane: &Arc<Lane>, sent: Instant) {
        let mut broken = Vec::new();
        for task in tasks {
            let lease = Lease { id: task.record.id, epoch: task.record.epoch };
            if let Err(failure) = caught(|| self.begin(task, lane, sent)) {
                tracing::error!(id = %lease.id, %failure, "a task could not be begun, and is given back");
                broken.push(lease);
            }
        }
        if !broken.is_empty() {
            self.release(broken).await;
            // What breaks one may break the next.
            let _ = self.closing.run_until_cancelled(tokio::time::sleep(self.config.times.scan)).await;
        }
    }

    /// Runs a task that was claimed.
    fn begin(self: &Arc<Self>, task: ClaimedTask, lane: &Arc<Lane>, sent: Instant) {
        let Some(spec) = self.spec(&task.record.name) else {
            tracing::error!(name = task.record.name, "claimed a task that was not offered");
            return;
        };
        let config = &self.config;
        let limits = Limits {
            unwatched: spec.cancel_when_unwatched,
            value_bytes: if lane.built_in { builtin::VALUE_BYTES_MAX } else { config.value_bytes_max },
            yields: spec.yields_max.unwrap_or(config.yields_max),
            log_bytes: spec.log_bytes_max.unwrap_or(config.log_bytes_max),
            idle: task.idle_limit.or(spec.idle_limit),
        };
        let appender = Arc::clone(&self.appender);
        let (lane, runtime) = (Arc::clone(lane), self.runtime.clone());
        let sink = Sink::new(&task, sent, config.times.lease, limits, appender, lane, runtime);
        let held = self.enter(&sink);
        let scheduled = task.record.tags.iter().any(|tag| tag.starts_with(schedule::TAG));
        if scheduled {
            self.firing.notify_one();
        }
        let awaited = !sink.lane.built_in && self.is_awaited(&task.record);
        let within = self.scope.within(&sink, task.record.trace.clone());
        let span = self.span(&task.record);
        let signals = self.signals.get(&task.record.name);
        let signals = signals
            .map(|s| Arc::new(Told { receivers: Arc::clone(s), task: SignalTask::new(&task.record, spec, &within) }));
        let job = Box::new(run::Job {
            spec: Arc::clone(spec),
            around: self.around.get(&task.record.name).cloned(),
            signals: signals.clone(),
            sink: Arc::clone(&sink),
            store: Arc::clone(&self.store),
            states: Arc::clone(&self.states),
            scope: within,
            worker: Arc::clone(&self.name),
            value_bytes_max: limits.value_bytes,
            runtime: self.runtime.clone(),
            span: span.clone(),
            abandoned: Arc::clone(&self.abandoned),
            task,
        });
        let begun = Begun { sink, signals, scheduled, awaited };
        let worker = Arc::clone(self);
        self.attempts.spawn(async move {
            let (held, crashed) = (held, worker.crashed.clone());
            let after = crashed.run_until_cancelled(run::attempt(job).instrument(span)).await;
            begun.sink.leave_slot();
            if let Some(after) = after {
                worker.ended(after, begun).await;
                held.ended();
            }
        });
    }

    /// The span of an attempt.
    fn span(&self, record: &TaskRecord) -> tracing::Span {
        let span = spans::attempt(record, &self.name);
        if let (Some(propagator), Some(trace)) = (&self.propagator, &record.trace)
            && let Err(failure) = caught(|| propagator.adopt(&span, trace))
        {
            tracing::warn!(id = %record.id, %failure, "the propagator panicked; the attempt has no trace");
        }
        span
    }

    /// An attempt is over: has its end written, and does what follows.
    async fn ended(&self, after: After, begun: Begun) {
        let Begun { sink, signals, scheduled, awaited } = begun;
        match after {
            After::Ends(ending) => {
                self.meters.ended.count(usize::from(!matches!(ending, Ending::Retried(..))));
                // Bodies that are ready to go on may end as well: they go with the same write, and then one claim
                // fills all their slots.
                tokio::task::yield_now().await;
                sink.write();
                if awaited || scheduled || sink.lane.built_in || signals.is_some() {
                    sink.over().await;
                }
                if scheduled {
                    self.firing.notify_one();
                }
                if sink.lane.built_in {
                    self.clean(sink.id()).await;
                }
                if let Some(told) = signals
                    && let Some(cancel) = sink.ended()
                {
                    sink.lane.look();
                    told.end(ending, cancel).await;
                }
            }
            After::GivesBack => {
                self.release(vec![sink.lease]).await;
                self.running.remove(&sink);
            }
            After::Starved(why) => {
                sink.lane.shrink(&why);
                self.release(vec![sink.lease]).await;
                self.running.remove(&sink);
            }
            After::IsLost => self.running.remove(&sink),
        }
        sink.lane.look();
    }

    /// Takes an attempt in.
    fn enter(self: &Arc<Self>, sink: &Arc<Sink>) -> Held {
        if let Some(before) = self.running.insert(Arc::clone(sink), self.attempts.token()) {
            before.stop(Stop::Fenced);
        }
        sink.lane.enter();
        if sink.lane.built_in && self.closing.is_cancelled() {
            // Claimed just before.
            sink.stop(Stop::Shutdown);
        }
        Held { worker: Arc::clone(self), sink: Arc::clone(sink), ended: false }
    }

    fn spec(&self, name: &str) -> Option<&Arc<TaskSpec>> {
        self.registry.get(name).or_else(|| builtin::shared(name))
    }

    /// Cleans up after a built-in that has ended.
    async fn clean(&self, id: TaskId) {
        let Some(core) = self.scope.core() else { return };
        let cleaned = async {
            let record: TaskRecord = core.hub.record(id).await?;
            builtin::clean(&core, &record).await
        };
        if let Err(error) = cleaned.await {
            tracing::warn!(%error, %id, "what a built-in task leaves could not be cleaned up yet");
        }
    }

    /// Tells those who asked that tasks have ended which no worker was running: cancelled, expired, lost.
    pub(crate) fn tell_over(self: &Arc<Self>, ids: Vec<TaskId>) {
        if ids.is_empty() || self.signals.is_empty() {
            return;
        }
        let worker = Arc::clone(self);
        self.runtime.spawn(async move {
            let Ok(records) = worker.store.get(ids).await else { return };
            for record in records.into_iter().flatten() {
                let Some(receivers) = worker.signals.get(&record.name) else { continue };
                let Some(spec) = worker.spec(&record.name) else { continue };
                let Some(failure) = record.failure() else { continue };
                let ending = match record.status {
                    Status::Cancelled => Ending::Cancelled(failure.message),
                    _ => Ending::Failed(failure),
                };
                let task = SignalTask::new(&record, spec, &worker.scope);
                Told { receivers: Arc::clone(receivers), task }.end(ending, None).await;
            }
        });
    }

    /// Gives back what was claimed and not begun. A worker that has crashed gives nothing back.
    async fn give_back(&self, tasks: &[ClaimedTask]) {
        let lease = |task: &ClaimedTask| Lease { id: task.record.id, epoch: task.record.epoch };
        if !tasks.is_empty() && !self.crashed.is_cancelled() {
            self.release(tasks.iter().map(lease).collect()).await;
        }
    }

    async fn release(&self, leases: Vec<Lease>) {
        if let Err(error) = self.store.release(leases).await {
            tracing::warn!(%error, "tasks could not be given back; their leases will run out");
        }
    }

    /// Somebody wants a task cancelled that may be running here.
    pub(crate) async fn cancel(&self, id: TaskId) {
        let Some(sink) = self.running.get(id) else { return };
        // The hint does not say why.
        if let Ok(answers) = self.store.extend(vec![sink.lease], self.config.times.lease).await
            && let Some(Extended::Cancel(reason)) = answers.into_iter().next()
        {
            sink.stop(Stop::Cancel(reason));
        }
    }

    /// Claims nothing more, waits for what is running at most as long as the grace, then gives the rest back.
    pub(crate) async fn shutdown(&self) -> Result<()> {
        self.closing.cancel();
        // What is ready is for others to hear.
        self.interest.work();
        self.attempts.close();
        // What they wait for may not run before another worker has it: they wait there.
        for sink in self.running().iter().filter(|sink| sink.lane.built_in) {
            sink.stop(Stop::Shutdown);
        }
        if tokio::time::timeout(self.config.grace, self.attempts.wait()).await.is_err() {
            let rest = self.running();
            tracing::warn!(tasks = rest.len(), "the grace is over; unfinished tasks are given back");
            for sink in rest {
                sink.stop(Stop::Shutdown);
            }
            // An async body that never awaits can't be dropped: its lease is left to run out.
            let _ = tokio::time::timeout(self.config.times.lease, self.attempts.wait()).await;
        }
        self.crash();
        Ok(())
    }

    /// Claims nothing more: the runtime has ended, and with it every attempt.
    pub(crate) fn orphan(&self) {
        self.closing.cancel();
        self.attempts.close();
    }

    /// Whether it has a lease for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Ends everything where it is, as if the process had died.
    pub(crate) fn crash(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        #[cfg(feature = "metrics")]
        crate::metrics::slots_close(self.bodies.slots);
        self.closing.cancel();
        self.appender.kill();
        self.crashed.cancel();
        for sink in self.running.take() {
            sink.stop(Stop::Fenced);
        }
    }
}
