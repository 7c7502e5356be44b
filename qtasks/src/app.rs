//! [`Qtasks`]: an app, which is a store, the task functions that it knows, and most often a worker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::add_task::{AddTask, Options};
use crate::builtin;
use crate::context::States;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::TaskHandle;
use crate::isolation;
use crate::json::Json;
use crate::panics::caught;
use crate::rate::Rate;
use crate::registry::{Published, Registry};
use crate::schedule;
use crate::signals;
use crate::spans;
use crate::store::{self, Added, Due, List, Listed, NewTask, Stats, Store};
use crate::task::{AnyTask, Status, TaskFn, TaskId, TaskRecord, TaskSpec};
use crate::trace::Propagator;
use crate::watch::Hub;
use crate::worker::{Worker, keeper};

mod builder;
pub(crate) mod current;
pub(crate) mod inspect;
mod life;
pub(crate) mod meters;
mod pauses;
mod told;

pub use builder::Builder;
pub use inspect::{InspectedQueue, InspectedTask, InspectedWorker, Inspection, Throughput};
use life::{Checked, Pulse};
pub(crate) use life::{Life, gone};
use meters::Meters;

/// How many tasks go to the store at once.
const ADD_BATCH: usize = 1000;

/// What can be set about an app.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) concurrency: usize,
    pub(crate) queues: Option<Vec<String>>,
    /// By queue: how many at once, and in how long.
    pub(crate) queue_limits: BTreeMap<String, (Option<u32>, Option<Rate>)>,
    pub(crate) worker: String,
    pub(crate) times: keeper::Times,
    pub(crate) grace: Duration,
    pub(crate) args_bytes_max: usize,
    pub(crate) value_bytes_max: usize,
    pub(crate) yields_max: u64,
    pub(crate) log_bytes_max: u64,
    /// Instead of the store's own.
    pub(crate) retention: Option<Duration>,
    pub(crate) retention_max: Option<(Option<u64>, Option<u64>)>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            concurrency: 32,
            queues: None,
            queue_limits: BTreeMap::new(),
            worker: worker_name(),
            times: keeper::Times {
                lease: Duration::from_secs(10),
                heartbeat: Duration::from_secs(3),
                scan: Duration::from_secs(2),
                crashes_max: 3,
            },
            grace: Duration::from_secs(25),
            args_bytes_max: 1 << 20,
            value_bytes_max: 256 << 10,
            yields_max: 100_000,
            log_bytes_max: 64 << 20,
            retention: None,
            retention_max: None,
        }
    }
}

/// A name that no other worker has: host, process, number.
fn worker_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "host".to_owned());
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    format!("{host}:{}:{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What an app is made of. Handles and streams keep it; only [`Qtasks`] keeps its worker.
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: Arc<Config>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) runtime: tokio::runtime::Handle,
    /// The thread that the app was started on: where the runtime has one thread only, that one.
    pub(crate) thread: std::thread::ThreadId,
    /// Values for bodies that run in place.
    pub(crate) states: Arc<States>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) propagator: Option<Arc<dyn Propagator>>,
    worker: OnceLock<Arc<Worker>>,
    alive: OnceLock<Weak<Alive>>,
    pub(crate) life: Arc<Life>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("store", &self.store).finish_non_exhaustive()
    }
}

/// An app: a store, the task functions it knows, and, unless only [opened](Qtasks::open), a worker.
///
/// Clones are the same app. When the last one is dropped without [`shutdown`](Qtasks::shutdown), its worker ends as
/// if its process had died: what it was running goes to another worker once the lease is over.
#[must_use = "dropping an app without `shutdown()` ends its worker as if its process had died"]
#[derive(Clone)]
pub struct Qtasks {
    core: Arc<Core>,
    /// Never read: the last clone to go takes the worker with it.
    _alive: Arc<Alive>,
}

struct Alive(Arc<Core>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.crash();
    }
}

impl fmt::Debug for Qtasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qtasks").field("store", &self.core.store).finish_non_exhaustive()
    }
}

impl Core {
    pub(crate) fn is_closed(&self) -> bool {
        self.life.over.is_cancelled()
    }

    /// Cancelled when the app is closed.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.life.over.clone()
    }

    pub(crate) fn crash(&self) {
        if self.life.gone.is_cancelled() {
            // Nothing runs; the keeper gives back what did.
            return;
        }
        if let Some(worker) = self.worker.get() {
            worker.crash();
        }
        self.life.over.cancel();
        self.life.kept.cancel();
    }

    /// The runtime has dropped what ran on it: nothing that the app is asked for can be done any more.
    fn runtime_ended(&self) {
        if self.is_closed() {
            return;
        }
        tracing::warn!("the runtime of an app has ended before the app was shut down; its tasks are given back");
        self.life.gone.cancel();
        if let Some(worker) = self.worker.get() {
            worker.orphan();
        }
        self.life.over.cancel();
    }

    /// Waits for a future at most so long; `None` if it takes longer. Whoever waits may have no runtime.
    pub(crate) async fn timed<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Result<Option<T>> {
        self.life.check()?;
        let timer = {
            let _entered = self.runtime.enter();
            tokio::time::sleep(limit)
        };
        self.life.timed(timer, future).await
    }

    /// The same until an instant.
    pub(crate) async fn timed_until<T>(
        &self,
        until: tokio::time::Instant,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>> {
        self.timed(until.saturating_duration_since(tokio::time::Instant::now()), future).await
    }

    /// Tells owners of tasks, as long as the app is open, that somebody watches them here.
    fn answer_watchers(&self, worker: Option<Weak<Worker>>) {
        let watchers = keeper::watchers(Arc::clone(&self.store), self.config.times, self.hub.interest(), worker);
        let closed = self.closed();
        self.runtime.spawn(async move { closed.run_until_cancelled(watchers).await });
    }

    /// Cancels a task. One that nobody was running has ended: those who asked are told here.
    pub(crate) async fn cancel(self: &Arc<Self>, id: TaskId, reason: String) -> Result<store::Cancelled> {
        let cancelled = self.store.cancel(id, reason).await?;
        if cancelled == store::Cancelled::Done {
            builtin::cancelled(self, id);
            if let Some(worker) = self.worker.get() {
                worker.tell_over(vec![id]);
            }
        }
        Ok(cancelled)
    }

    /// A task is added to a queue: unless the worker was told which queues to serve, it serves this one too.
    pub(crate) fn serve_also(&self, queue: &str) {
        if let Some(worker) = self.worker.get() {
            worker.serve_also(queue);
        }
    }

    /// A task to be added, in the trace that it belongs to: its own, that of the program, or that of the body that
    /// adds it.
    pub(crate) fn traced(&self, mut task: NewTask) -> NewTask {
        if task.trace.is_none() {
            let asked = self.propagator.as_ref().map(|propagator| caught(|| propagator.current()));
            let current = asked.and_then(|current| {
                current.unwrap_or_else(|failure| {
                    tracing::warn!(%failure, "the propagator panicked; a task is added without a trace");
                    None
                })
            });
            task.trace = current.or_else(|| current::trace(self));
        }
        task
    }

    /// Stores new tasks, in batches that are all or none each.
    pub(crate) async fn add(&self, tasks: Vec<NewTask>) -> Result<Vec<Added>> {
        if self.is_closed() {
            return Err(self.life.closed());
        }
        for task in &tasks {
            self.check(task)?;
            self.serve_also(&task.queue);
        }
        let span = spans::add(&tasks);
        let store = async {
            let mut added = Vec::with_capacity(tasks.len());
            let mut rest = tasks.into_iter();
            while rest.len() > 0 {
                added.extend(self.store.add(rest.by_ref().take(ADD_BATCH).collect()).await?);
            }
            Ok::<_, Error>(added)
        };
        let added = store.instrument(span).await?;
        self.meters.added.count(added.iter().filter(|added| !added.existed).count());
        Ok(added)
    }

    pub(crate) fn check(&self, task: &NewTask) -> Result<()> {
        let (bytes, max) = (task.args.as_bytes().len(), self.config.args_bytes_max);
        if bytes > max {
            let message = format!("the arguments of `{}` have {bytes} bytes, of at most {max}", task.name);
            return Err(Error::new(ErrorKind::Limit, message));
        }
        crate::task::check_name("name of the task", &task.name)?;
        crate::task::check_name("name of the queue", &task.queue)?;
        let keys = [("unique key", &task.unique), ("idempotency key", &task.idempotency_key)];
        for (what, word) in keys.into_iter().filter_map(|(what, key)| Some((what, key.as_ref()?))) {
            if word.is_empty() || word.len() > crate::task::NAME_BYTES_MAX || word.contains('\0') {
                let max = crate::task::NAME_BYTES_MAX;
                return Err(Error::invalid(format!(
                    "the {what} {word:?} can't be one: it takes 1 to {max} bytes without NUL"
                )));
            }
        }
        // A retry copies the tags of a stored task, which an earlier version may have accepted.
        let tags = if task.retry_of.is_some() { &[][..] } else { &task.tags };
        tags.iter().try_for_each(|tag| crate::task::check_tag(tag))
    }
}

/// Opens a store, starts a worker in this process, and makes the app the default one: the shortest way to begin.
///
/// # Errors
/// As [`Builder::start`].
pub async fn init(url: impl Into<String>) -> Result<Qtasks> {
    Qtasks::builder().store(url).install().start().await
}

impl Qtasks {
    /// Opens a store without a worker: tasks can be added and watched, and wait for a worker elsewhere.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a URL of no store, [`Unavailable`](ErrorKind::Unavailable) if it can't be
    /// opened.
    pub async fn open(url: impl Into<String>) -> Result<Self> {
        Qtasks::builder().store(url).open().await
    }

    /// Sets up an app piece by piece.
    pub fn builder() -> Builder {
        Builder::default()
    }

    async fn start(builder: Builder, with_worker: bool) -> Result<Self> {
        builder.check()?;
        let Builder { url, store, states, choice, config, install, receivers, around, propagator } = builder;
        let registry = Arc::new(Registry::collect(choice)?);
        let (config, states) = (Arc::new(config), Arc::new(states));
        if with_worker {
            registry.check(&states, config.times.lease)?;
            isolation::check(&registry)?;
            schedule::check(&registry)?;
        }
        let store = match store {
            Some(store) => store,
            None => {
                let given = url.filter(|url| !url.is_empty());
                store::open(&given.or_else(|| std::env::var("QTASKS_URL").ok()).unwrap_or_default()).await?
            }
        };
        #[cfg(feature = "metrics")]
        let store = crate::metrics::metered(store);
        let life = Arc::<Life>::default();
        // What is not of the keeper's doing ends with the runtime.
        let kept = Arc::clone(&store);
        let store: Arc<dyn Store> = Arc::new(Checked { store, life: Arc::clone(&life) });
        let hub = Hub::start(Arc::clone(&store), config.times.scan, Arc::clone(&life)).await?;
        let core = Arc::new(Core {
            store: Arc::clone(&store),
            registry: Arc::clone(&registry),
            config: Arc::clone(&config),
            hub: Arc::clone(&hub),
            runtime: tokio::runtime::Handle::current(),
            thread: std::thread::current().id(),
            states: Arc::clone(&states),
            meters: Arc::default(),
            propagator,
            worker: OnceLock::new(),
            alive: OnceLock::new(),
            life: Arc::clone(&life),
        });
        tokio::spawn(Pulse(Arc::downgrade(&core)).beat(Arc::clone(&life)));
        let alive = Arc::new(Alive(Arc::clone(&core)));
        let _ = core.alive.set(Arc::downgrade(&alive));
        let app = Qtasks { _alive: alive, core };
        if install {
            app.install()?;
        }
        if !with_worker {
            app.core.answer_watchers(None);
            keeper::start(kept, config.times, None, None, life).await?;
            return Ok(app);
        }
        registry.publish(&*store).await?;
        schedule::declare(&*store, &registry).await?;
        let signals = signals::of(&registry, &receivers);
        let (worker, appender, jobs) = Worker::new(&app.core, Arc::clone(&kept), signals, &around);
        let keeps = (Arc::downgrade(&worker), appender, jobs);
        tracing::info!(worker = config.worker, store = store.durability(), "a worker starts");
        let mut retention = store.retention();
        retention.age = config.retention.unwrap_or(retention.age);
        (retention.ended_max, retention.bytes_max) =
            config.retention_max.unwrap_or((retention.ended_max, retention.bytes_max));
        app.core.answer_watchers(Some(Arc::downgrade(&worker)));
        keeper::start(kept, config.times, Some(retention), Some(keeps), life).await?;
        hub.set_worker(&worker);
        worker.start();
        let _ = app.core.worker.set(worker);
        Ok(app)
    }

    /// The app of a core, while somebody has it.
    fn of(core: Arc<Core>) -> Option<Self> {
        let alive = core.alive.get()?.upgrade()?;
        Some(Qtasks { _alive: alive, core })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Makes this app the default one: tasks are added to it unless a call names another.
    ///
    /// # Errors
    /// [`Conflict`](ErrorKind::Conflict) while another one is installed and open;
    /// [`Unavailable`](ErrorKind::Unavailable) if the runtime of this one has ended.
    pub fn install(&self) -> Result<()> {
        self.core.life.check()?;
        current::install(self)
    }

    /// Adds a task by name, with arguments as JSON: an object by name, or an array by position.
    ///
    /// The name must be that of a task function that is linked into this program, unless
    /// [`unchecked`](AddTask::unchecked).
    pub fn add_task(&self, name: impl Into<String>, args: impl serde::Serialize) -> AddTask<AnyTask> {
        AddTask::by_name(name.into(), Json::of(&args)).on(self)
    }

    /// Adds many tasks, in batches of 1,000 that are stored as a whole or not at all.
    ///
    /// # Errors
    /// The first error; the batches before it are stored.
    pub async fn add_all<F: TaskFn>(&self, tasks: impl IntoIterator<Item = AddTask<F>>) -> Result<Vec<TaskHandle<F>>> {
        let parent = current::parent(&self.core);
        let mut new = Vec::new();
        for task in tasks {
            new.push(self.core.traced(task.into_plain().into_new(&self.core, parent).await?));
        }
        let added = self.core.add(new).await?;
        Ok(added.into_iter().map(|a| TaskHandle::new(&self.core, a.id)).collect())
    }

    /// Lets a task run that was added as [`held`](AddTask::held). A task in another status stays as it is.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn start_task(&self, id: TaskId) -> Result<Status> {
        let status = self.core.store.start(vec![id]).await?.pop().flatten();
        status.ok_or_else(|| store::not_found(id))
    }

    /// A handle for a task whose function is not known here.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn task(&self, id: TaskId) -> Result<TaskHandle<AnyTask>> {
        TaskHandle::attach(self, id).await
    }

    /// Whether a worker has the task, in whatever process: while its lease holds.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound), [`Unavailable`](ErrorKind::Unavailable).
    pub async fn is_running(&self, id: TaskId) -> Result<bool> {
        Ok(self.core.hub.record(id).await?.status == Status::Running)
    }

    /// The tasks that workers have, in whatever process, the newest first, at most 1,000.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub async fn running(&self) -> Result<Vec<TaskRecord>> {
        let running = List { status: vec![Status::Running], limit: 1000, ..List::default() };
        Ok(self.list(running).await?.tasks)
    }

    /// Records that match, the newest first.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a cursor that is none, [`Unavailable`](ErrorKind::Unavailable).
    pub async fn list(&self, list: List) -> Result<Listed> {
        self.core.store.list(list).await
    }

    /// How many tasks there are.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable).
    pub async fn stats(&self) -> Result<Stats> {
        self.core.store.stats().await
    }

    /// The task functions that the app knows, by the names they have here.
    pub fn registered(&self) -> impl Iterator<Item = (&str, &TaskSpec)> {
        self.core.registry.iter().map(|(name, spec)| (name, &**spec))
    }

    /// Sync bodies whose attempts are over (cancelled, or too slow) but which could not be stopped, and run on.
    pub fn abandoned(&self) -> usize {
        self.core.worker.get().map_or(0, |worker| worker.abandoned())
    }

    /// The store, for those who want to ask it directly.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.core.store
    }

    /// Stops claiming, waits for running tasks up to the grace, gives the rest back unharmed, and closes the app. It
    /// is no longer the default one then.
    ///
    /// A task that could not be given back is logged, and comes back when its lease is over.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if the runtime that the app was started on has ended: all that was
    /// running there is given back by then, or soon is.
    pub async fn shutdown(&self) -> Result<()> {
        self.core.life.check()?;
        if let Some(worker) = self.core.worker.get() {
            worker.shutdown().await?;
        }
        // It may have ended meanwhile.
        self.core.life.check()?;
        self.core.life.over.cancel();
        self.core.life.kept.cancel();
        Ok(())
    }

    /// Runs until SIGTERM or Ctrl-C, then shuts down; a second one ends the wait for what is running, which others go on
    /// with when its leases are over. No signal is handled otherwise.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if signals can't be received.
    pub async fn run(&self) -> Result<()> {
        self.run_until_told(|| ()).await
    }

    /// How long a shutdown may wait for tasks that are running here.
    #[cfg(feature = "cli")]
    pub(crate) fn busy_for(&self) -> Option<Duration> {
        let worker = self.core.worker.get().filter(|worker| !worker.running().is_empty())?;
        Some(worker.grace())
    }

    /// The same; says so when it is told to end.
    pub(crate) async fn run_until_told(&self, told: impl FnOnce()) -> Result<()> {
        let mut signals = told::Signals::new()?;
        signals.next().await;
        told();
        tokio::select! {
            over = self.shutdown() => over,
            () = signals.next() => {
                tracing::warn!("told to end at once; unfinished tasks come back when their leases are over");
                Ok(())
            }
        }
    }
}

/// What a task is unless it says otherwise: its function's own settings.
pub(crate) struct Defaults<'a> {
    pub(crate) queue: &'a str,
    pub(crate) priority: i16,
    pub(crate) tags: Vec<String>,
}

impl<'a> Defaults<'a> {
    pub(crate) fn of(spec: &TaskSpec) -> Self {
        let tags = spec.tags.iter().map(|t| (*t).to_owned()).collect();
        Defaults { queue: spec.queue, priority: spec.priority, tags }
    }

    pub(crate) fn published(published: &'a Published) -> Self {
        Defaults { queue: &published.queue, priority: published.priority, tags: published.tags.clone() }
    }

    pub(crate) fn none() -> Self {
        Defaults { queue: "default", priority: 0, tags: Vec::new() }
    }
}

/// Makes a [`NewTask`] of what a builder was told, and of what its function sets.
pub(crate) fn new_task(
    name: String,
    defaults: Defaults<'_>,
    args: Json,
    options: Options,
    parent: Option<TaskId>,
) -> NewTask {
    let Defaults { queue, priority, mut tags } = defaults;
    for tag in options.tags {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    NewTask {
        id: options.id.unwrap_or_default(),
        queue: options.queue.unwrap_or_else(|| queue.to_owned()),
        priority: options.priority.unwrap_or(priority),
        name,
        args,
        tags,
        due: options.due.unwrap_or(Due::Now),
        expires: options.expires,
        held: options.held,
        unique: options.unique,
        replace: options.replace,
        idempotency_key: options.idempotency_key,
        retry_of: None,
        parent,
        retry: options.retry,
        time_limit: options.time_limit,
        idle_limit: options.idle_limit,
        retention: options.retention,
        trace: options.trace,
    }
}
