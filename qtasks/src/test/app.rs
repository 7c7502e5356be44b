//! [`TestApp`]: an app in memory, on a clock that stands still.
//!
//! Invariant: tasks are added and watched through an app without a worker, so that handles and streams outlive the
//! workers, which are apps of their own on the same store.

use std::any::TypeId;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::stores::{Life, Mortal, Seen, Watched};
use crate::app::{Builder, Qtasks};
use crate::clock::Clock;
use crate::context::States;
use crate::error::Result;
use crate::json::Json;
use crate::store::page::Pages;
use crate::store::{Lease, List, MemoryStore, Store, Sweep};
use crate::task::{Status, TaskId, TaskRecord, TaskSpec};

/// What a worker has for its tasks. The clock stands still, so that only a worker that dies loses one.
const LEASE: Duration = Duration::from_secs(10);
const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often it is looked for what the clock has changed.
const SCAN: Duration = Duration::from_millis(20);
/// Nothing that a test does is taken away by retention.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// How long [`TestApp::drain`] waits.
const DRAIN: Duration = Duration::from_secs(10);
const PAGE: usize = 1000;

/// An app for a test: in memory, on a clock that only the test moves, with a worker in this process.
///
/// `qtasks::test::app().state(db).tasks([f::spec()]).start().await`
pub fn app() -> TestBuilder {
    TestBuilder::default()
}

type Wrap = Box<dyn FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send>;
type Set = Arc<dyn Fn(Builder) -> Builder + Send + Sync>;

/// Sets up a [`TestApp`].
#[must_use = "an app is made by `.start().await`"]
#[derive(Default)]
pub struct TestBuilder {
    states: States,
    tasks: Option<Vec<&'static TaskSpec>>,
    deaths: VecDeque<u64>,
    wrap: Option<Wrap>,
    set: Vec<Set>,
}

impl std::fmt::Debug for TestBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestBuilder").field("deaths", &self.deaths).finish_non_exhaustive()
    }
}

impl TestBuilder {
    /// A value for all task functions that take a `State` of its type.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(TypeId::of::<T>(), Arc::new(value));
        self
    }

    /// The only task functions of this app. Defaults to all that are linked into the test.
    pub fn tasks(mut self, specs: impl IntoIterator<Item = &'static TaskSpec>) -> Self {
        self.tasks = Some(specs.into_iter().collect());
        self
    }

    /// Sets anything else that an app's [`Builder`] has: `.with(|app| app.concurrency(1))`. It is called for each
    /// worker. The store, the lease and the time between looks are the test app's own.
    pub fn with(mut self, set: impl Fn(Builder) -> Builder + Send + Sync + 'static) -> Self {
        self.set.push(Arc::new(set));
        self
    }

    /// Has the worker die, as if its process were killed, when it has stored so many more yields (those of all its
    /// tasks count); another one goes on at once. Given more than once, the next worker dies after that.
    ///
    /// Each yield of a worker that is to die is stored before its body goes on, so that it dies at exactly that one.
    ///
    /// # Panics
    /// If it is 0: a worker that never stores a yield brings no task to its end.
    pub fn kill_after(mut self, yields: u64) -> Self {
        assert!(yields > 0, "`.kill_after(0)` would kill a worker before it has done anything: give at least 1");
        self.deaths.push_back(yields);
        self
    }

    /// Puts something between the workers and their store:
    /// `.store(|store| Scripted::new(store, Script::new().lose(Operation::Append, 3)))`. What the test itself does
    /// with the app goes to the store directly.
    pub fn store<S: Store>(mut self, wrap: impl FnOnce(Arc<dyn Store>) -> Arc<S> + Send + 'static) -> Self {
        self.wrap = Some(Box::new(move |store| wrap(store)));
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If an app can't be started so: see [`Builder::start`].
    pub async fn start(self) -> TestApp {
        let TestBuilder { states, tasks, deaths, wrap, set } = self;
        let clock = Clock::manual();
        let seen = Arc::<Seen>::default();
        let store: Arc<dyn Store> =
            Arc::new(Watched { store: MemoryStore::new(clock.clone()), seen: Arc::clone(&seen) });
        let wrapped = match wrap {
            Some(wrap) => wrap(Arc::clone(&store)),
            None => Arc::clone(&store),
        };
        let setup = Setup { states, tasks, set };
        let app = setup.builder(Arc::clone(&store)).open().await;
        let app = app.unwrap_or_else(|e| panic!("the test app can't be opened: {e}"));
        let workers = Workers { setup, store: wrapped, seen: Arc::clone(&seen), clock: clock.clone(), front: store };
        let life = workers.start(1, deaths.front().copied()).await;
        let life = life.unwrap_or_else(|e| panic!("the test app can't be started: {e}"));
        let broken = Arc::<Mutex<Option<String>>>::default();
        let guardian = (!deaths.is_empty()).then(|| tokio::spawn(workers.guard(life, deaths, Arc::clone(&broken))));
        TestApp { app, clock, seen, guardian, broken }
    }
}

/// What each worker is made of.
struct Setup {
    states: States,
    tasks: Option<Vec<&'static TaskSpec>>,
    set: Vec<Set>,
}

impl Setup {
    fn builder(&self, store: Arc<dyn Store>) -> Builder {
        let mut builder = Qtasks::builder().retention(FOR_EVER).retention_max(None, None);
        builder.states(self.states.clone());
        if let Some(tasks) = &self.tasks {
            builder = builder.tasks(tasks.iter().copied());
        }
        for set in &self.set {
            builder = set(builder);
        }
        builder.lease(LEASE).scan(SCAN).with_store(store)
    }
}

/// One worker after the other.
struct Workers {
    setup: Setup,
    /// What they work with, and what is really there.
    store: Arc<dyn Store>,
    front: Arc<dyn Store>,
    seen: Arc<Seen>,
    clock: Clock,
}

fn name(number: u32) -> String {
    format!("test-{number}")
}

impl Workers {
    async fn start(&self, number: u32, yields: Option<u64>) -> Result<Arc<Life>> {
        let life = Life::new(yields);
        let store = Arc::new(Mortal { store: Arc::clone(&self.store), life: Arc::clone(&life) });
        let mut builder = self.setup.builder(store).worker_name(name(number));
        if yields.is_some() {
            // Where somebody listens, each yield is stored by itself, before the body goes on.
            builder = builder.after_loop(|_| ());
        }
        let worker = builder.start().await?;
        self.seen.replace(Some(worker));
        Ok(life)
    }

    /// Has one worker follow the other.
    async fn guard(self, mut life: Arc<Life>, mut deaths: VecDeque<u64>, broken: Arc<Mutex<Option<String>>>) {
        let mut number = 1;
        while deaths.pop_front().is_some() {
            life.died.notified().await;
            if let Some(dead) = self.seen.replace(None) {
                dead.core().crash();
            }
            let next = async {
                self.lose(&name(number)).await?;
                self.start(number + 1, deaths.front().copied()).await
            };
            match next.await {
                Ok(next) => life = next,
                Err(error) => {
                    let message = format!("no worker could follow `{}`: {error}", name(number));
                    *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
                    return;
                }
            }
            number += 1;
        }
    }

    /// Takes what a dead worker had, as happens when its leases are over.
    async fn lose(&self, worker: &str) -> Result<()> {
        let sweep = Sweep { max: PAGE, lease: LEASE, heartbeat: HEARTBEAT, crashes_max: 3 };
        loop {
            let running = list(&*self.front, vec![Status::Running]).await?;
            let its = |record: &&TaskRecord| {
                let owner = record.worker.as_deref().unwrap_or_default();
                owner.strip_prefix(worker).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let leases: Vec<Lease> = running.iter().filter(its).map(lease).collect();
            if leases.is_empty() {
                return Ok(());
            }
            self.front.extend(leases, Duration::ZERO).await?;
            let swept = self.front.sweep(sweep).await?;
            if swept.requeued + swept.ended == 0 {
                // The clock has just been moved by much: leases are spared for a while.
                self.clock.advance(Duration::from_secs(1));
            }
        }
    }
}

fn lease(record: &TaskRecord) -> Lease {
    Lease { id: record.id, epoch: record.epoch }
}

/// All records of some statuses.
async fn list(store: &dyn Store, status: Vec<Status>) -> Result<Vec<TaskRecord>> {
    Pages::new(store, List { status, limit: PAGE, ..List::default() }).all().await
}

/// A task that was added to a [`TestApp`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Added {
    /// Its id.
    pub id: TaskId,
    /// The name of its task function.
    pub name: String,
    /// Its arguments.
    pub args: Json,
}

/// An app for a test: see [`app`]. It is used as a [`Qtasks`]; dropping it ends its worker.
#[derive(Debug)]
pub struct TestApp {
    app: Qtasks,
    clock: Clock,
    seen: Arc<Seen>,
    guardian: Option<JoinHandle<()>>,
    /// Why there is no worker any more.
    broken: Arc<Mutex<Option<String>>>,
}

impl Deref for TestApp {
    type Target = Qtasks;
    fn deref(&self) -> &Qtasks {
        &self.app
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(guardian) = self.guardian.take() {
            guardian.abort();
        }
        drop(self.seen.close());
    }
}

impl TestApp {
    /// The clock of its store. It stands still unless it is moved, best by [`advance`](Self::advance).
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Moves the clock, and has the store do what is due by then. Running tasks stay with their worker, however far it
    /// goes: it was alive all the while.
    ///
    /// Only the store's time moves: delays, schedules, backoffs, rates, expiry. What a body waits for itself, and its
    /// time limit, go by tokio's clock, which `#[tokio::test(start_paused = true)]` has under control.
    ///
    /// # Panics
    /// If the store can't be asked.
    pub async fn advance(&self, by: Duration) {
        let moved = async {
            let running = list(&**self.store(), vec![Status::Running]).await?;
            self.store().extend(running.iter().map(lease).collect(), by.saturating_add(LEASE)).await?;
            self.clock.advance(by);
            self.sweep().await
        };
        moved.await.unwrap_or_else(|e| panic!("the clock can't be moved: {e}"));
    }

    /// All tasks that were added so far, by the test, by bodies and by schedules, in order; also those that are gone
    /// by now. One that was there already under its key is not added.
    pub fn added(&self) -> Vec<Added> {
        let added = self.seen.added.lock().unwrap_or_else(PoisonError::into_inner);
        added.iter().map(|(id, name, args)| Added { id: *id, name: name.clone(), args: args.clone() }).collect()
    }

    /// Waits until no task is queued, running or due by the clock; what is due later stays. It waits at most 10 s.
    ///
    /// Receivers of signals that are told of an end may still be at work then.
    ///
    /// # Panics
    /// If it takes longer, with a list of what is left.
    pub async fn drain(&self) {
        self.drain_within(DRAIN).await;
    }

    /// [`drain`](Self::drain), at most for so long.
    ///
    /// # Panics
    /// If it takes longer, with a list of what is left.
    pub async fn drain_within(&self, limit: Duration) {
        // Not tokio's clock, which may stand still or jump.
        let begun = Instant::now();
        loop {
            let mut changed = std::pin::pin!(self.seen.changed.notified());
            changed.as_mut().enable();
            let left = self.left().await.unwrap_or_else(|e| panic!("the store can't be asked what is left: {e}"));
            if left.is_empty() {
                return;
            }
            let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
            assert!(broken.is_none() && begun.elapsed() < limit, "{}", complaint(&left, limit, broken));
            let _ = tokio::time::timeout(SCAN, changed).await;
        }
    }

    async fn left(&self) -> Result<Vec<TaskRecord>> {
        self.sweep().await?;
        let mut left = list(&**self.store(), vec![Status::Queued, Status::Running, Status::Delayed]).await?;
        let now = self.clock.now();
        left.retain(|record| record.status != Status::Delayed || record.due_at.is_none_or(|due| due <= now));
        Ok(left)
    }

    /// Does what the clock says, until there is nothing more of that.
    async fn sweep(&self) -> Result<()> {
        let sweep = Sweep { max: PAGE, lease: LEASE, heartbeat: HEARTBEAT, crashes_max: 3 };
        while self.store().sweep(sweep).await?.promoted >= PAGE {}
        Ok(())
    }

    /// Shuts the worker down, which waits for what it runs, and then the app.
    ///
    /// # Errors
    /// As [`Qtasks::shutdown`].
    pub async fn shutdown(&self) -> Result<()> {
        if let Some(guardian) = &self.guardian {
            guardian.abort();
        }
        if let Some(worker) = self.seen.close() {
            worker.shutdown().await?;
        }
        self.app.shutdown().await
    }
}

/// What is left although it should not be.
fn complaint(left: &[TaskRecord], limit: Duration, broken: Option<String>) -> String {
    let mut text = broken.unwrap_or_else(|| format!("not drained within {limit:?}"));
    let _ = write!(text, "; {} tasks are left:", left.len());
    for record in left.iter().rev().take(20) {
        let TaskRecord { id, name, queue, status, attempt, yields, .. } = record;
        let _ =
            write!(text, "\n  {id} `{name}` in the queue `{queue}`: {status:?}, attempt {attempt}, {yields} yields");
    }
    if left.len() > 20 {
        text.push_str("\n  …");
    }
    text
}
