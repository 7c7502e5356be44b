//! [`Worker`]: claims tasks, runs them, and gives back what it can't finish.
//!
//! Invariant: nothing is claimed before a slot is free for it, so that the most urgent task is always the next.

mod appender;
pub(crate) mod keeper;
mod replay;
mod run;
mod running;
mod sink;
mod threads;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{Config, current};
use crate::context::States;
use crate::error::Result;
use crate::registry::Registry;
use crate::schedule;
use crate::signals::{Receivers, SignalTask, Told};
use crate::store::{Claim, ClaimedTask, Extended, Interest, Lease, Offer, Store};
use crate::task::TaskId;
use appender::{Appender, Job};
use run::After;
use running::Running;
use sink::{Limits, Sink, Stop};

/// What a worker is made of.
pub(crate) struct Worker {
    name: Arc<str>,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    states: Arc<States>,
    config: Arc<Config>,
    interest: Arc<Interest>,
    /// By the names of task functions; only of those that somebody asked about.
    signals: HashMap<String, Arc<Receivers>>,
    appender: Arc<Appender>,
    runtime: tokio::runtime::Handle,
    running: Arc<Running>,
    /// Slots that are taken: a body that is over needs none, though its end may not be stored yet.
    taken: AtomicUsize,
    offers: Mutex<Offers>,
    /// A slot came free, or a task may be ready.
    look: Notify,
    /// A run of a schedule has begun or ended here.
    firing: Notify,
    /// Nothing more is claimed.
    closing: CancellationToken,
    /// The attempts end where they are.
    crashed: CancellationToken,
    attempts: TaskTracker,
    abandoned: Arc<AtomicUsize>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Offers {
    queues: BTreeSet<String>,
    all: Arc<[Offer]>,
}

impl Worker {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        registry: Arc<Registry>,
        states: Arc<States>,
        config: Arc<Config>,
        interest: Arc<Interest>,
        signals: HashMap<String, Arc<Receivers>>,
    ) -> (Arc<Self>, Arc<Appender>, tokio::sync::mpsc::UnboundedReceiver<Job>) {
        let running = Arc::<Running>::default();
        let (appender, jobs) = Appender::new(Arc::clone(&store), Arc::downgrade(&running));
        let worker = Worker {
            name: config.worker.as_str().into(),
            store,
            registry,
            states,
            config,
            interest,
            signals,
            appender: Arc::clone(&appender),
            runtime: tokio::runtime::Handle::current(),
            running,
            taken: AtomicUsize::new(0),
            offers: Mutex::default(),
            look: Notify::new(),
            firing: Notify::new(),
            closing: CancellationToken::new(),
            crashed: CancellationToken::new(),
            attempts: TaskTracker::new(),
            abandoned: Arc::default(),
            closed: AtomicBool::new(false),
        };
        let queues = worker.config.queues.clone().unwrap_or_else(|| worker.registry.queues());
        for queue in queues {
            worker.offer(&queue);
        }
        (Arc::new(worker), appender, jobs)
    }

    /// What it has a lease for.
    pub(crate) fn running(&self) -> Vec<Arc<Sink>> {
        self.running.all()
    }

    /// Sync bodies whose attempts are over and that run on.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::SeqCst)
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
        self.interest.serve(offers.all.iter().map(|o| (o.queue.clone(), o.name.clone())));
        drop(offers);
        self.look.notify_one();
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

    /// A task may be ready.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Begins to work. The loop counts as one of the attempts, so that `shutdown` waits for it as well.
    pub(crate) fn start(self: &Arc<Self>, scope: current::Scope) {
        self.attempts.spawn(Arc::clone(self).run(scope));
        self.attempts.spawn(schedule::keep(Arc::clone(self), self.closing.clone()));
    }

    /// Claims and runs until told to stop.
    async fn run(self: Arc<Self>, scope: current::Scope) {
        while !self.closing.is_cancelled() {
            let free = self.config.concurrency.saturating_sub(self.taken.load(Ordering::SeqCst));
            let mut wait = None;
            if free > 0 {
                // Before the look: what comes after it is hinted at.
                self.interest.rest();
                let Some((claimed, sent)) = self.claim(free).await else { continue };
                if self.closing.is_cancelled() {
                    return self.give_back(&claimed.tasks).await;
                }
                if !claimed.tasks.is_empty() {
                    self.interest.work();
                    for task in claimed.tasks {
                        self.begin(task, sent, &scope);
                    }
                    continue;
                }
                wait = Some(claimed.next_due.map_or(self.config.times.scan, |due| due.min(self.config.times.scan)));
            }
            let looked = self.closing.run_until_cancelled(self.look.notified());
            match wait {
                // Even a task that is due this millisecond must let the clock move.
                Some(wait) => drop(tokio::time::timeout(wait.max(Duration::from_millis(1)), looked).await),
                None => drop(looked.await),
            }
        }
    }

    /// Claims, again with the same token until the store answers. `None` if told to stop.
    async fn claim(&self, max: usize) -> Option<(crate::store::Claimed, Instant)> {
        let offers = Arc::clone(&self.offers.lock().unwrap_or_else(PoisonError::into_inner).all);
        let token = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), max);
        let lease = self.config.times.lease;
        let claim = Claim { worker: self.name.to_string(), token, offers, max, lease };
        let mut wait = Duration::from_millis(10);
        loop {
            let sent = Instant::now();
            match self.store.claim(claim.clone()).await {
                Ok(claimed) => return Some((claimed, sent)),
                Err(error) => tracing::warn!(%error, "no tasks could be claimed; trying again in {wait:?}"),
            }
            if self.closing.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                // What an answer that was lost gave is to be given back.
                let sent = Instant::now();
                return self.store.claim(claim).await.ok().map(|claimed| (claimed, sent));
            }
            wait = (wait * 2).min(self.config.times.scan);
        }
    }

    /// Runs a task that was claimed.
    fn begin(self: &Arc<Self>, task: ClaimedTask, sent: Instant, scope: &current::Scope) {
        let Some(spec) = self.registry.get(&task.record.name) else {
            tracing::error!(name = task.record.name, "claimed a task that was not offered");
            return;
        };
        let config = &self.config;
        let limits = Limits {
            value_bytes: config.value_bytes_max,
            yields: spec.yields_max.unwrap_or(config.yields_max),
            log_bytes: spec.log_bytes_max.unwrap_or(config.log_bytes_max),
        };
        let appender = Arc::clone(&self.appender);
        let sink = Sink::new(&task, sent, config.times.lease, limits, appender, self.runtime.clone());
        if let Some(before) = self.running.insert(Arc::clone(&sink), self.attempts.token()) {
            before.stop(Stop::Fenced);
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
        let scope = scope.within(task.record.id);
        let scheduled = task.record.tags.iter().any(|tag| tag.starts_with(schedule::TAG));
        if scheduled {
            self.firing.notify_one();
        }
        let signals = self.signals.get(&task.record.name);
        let signals = signals
            .map(|s| Arc::new(Told { receivers: Arc::clone(s), task: SignalTask::new(&task.record, spec, &scope) }));
        let job = Box::new(run::Job {
            spec,
            signals: signals.clone(),
            sink: Arc::clone(&sink),
            store: Arc::clone(&self.store),
            states: Arc::clone(&self.states),
            scope,
            worker: Arc::clone(&self.name),
            value_bytes_max: config.value_bytes_max,
            runtime: self.runtime.clone(),
            abandoned: Arc::clone(&self.abandoned),
            task,
        });
        let worker = Arc::clone(self);
        self.attempts.spawn(async move {
            let crashed = worker.crashed.clone();
            let after = crashed.run_until_cancelled(run::attempt(job)).await;
            worker.taken.fetch_sub(1, Ordering::SeqCst);
            match after {
                None => return,
                Some(After::Ends(ending)) => {
                    // Bodies that are ready to go on may end as well: they go with the same write, and then one claim
                    // fills all their slots.
                    tokio::task::yield_now().await;
                    sink.write();
                    if scheduled || signals.is_some() {
                        worker.look.notify_one();
                        sink.over().await;
                    }
                    if scheduled {
                        worker.firing.notify_one();
                    }
                    if let Some(told) = signals
                        && let Some(cancel) = sink.ended()
                    {
                        told.end(ending, cancel).await;
                    }
                }
                Some(After::GivesBack) => {
                    worker.release(vec![sink.lease]).await;
                    worker.running.remove(&sink);
                }
                Some(After::IsLost) => worker.running.remove(&sink),
            }
            worker.look.notify_one();
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

    /// Ends everything where it is, as if the process had died.
    pub(crate) fn crash(&self) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.closing.cancel();
        self.appender.kill();
        self.crashed.cancel();
        for sink in self.running.take() {
            sink.stop(Stop::Fenced);
        }
    }
}
