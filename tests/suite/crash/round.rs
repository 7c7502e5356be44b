//! [`Round`]: workers on one store, something to do, and what is done to them. When it is over there is a [`History`].

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use qtasks::{Qtasks, TaskId};
use serde_json::json;
use tokio::sync::watch;

use super::dice::Dice;
use super::history::{self, History, Task, Terms};
use super::orders::{Broken, Fault, Held, LEASE, Orders, Role, SCAN};
use super::process::Process;
use super::witness::{Said, Witness};

/// What is done to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    /// SIGKILL when it stands at a point.
    KillAt(Fault),
    /// SIGKILL so long after it was given something to do.
    KillAfter(Duration),
    /// SIGSTOP when it stands at a point, for so long at least, then SIGCONT.
    StopAt(Fault, Duration),
    /// SIGTERM so long after it was given something to do.
    Terminate(Duration),
}

/// A sort of tasks: the name of the function, and between how many and how many values.
pub(crate) type Work = (&'static str, u64, u64);

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) seed: u64,
    /// How many at once.
    pub(crate) workers: usize,
    /// How many of them blows are dealt to; the others are left in peace.
    pub(crate) targets: usize,
    /// How many tasks each runs at once.
    pub(crate) concurrency: usize,
    pub(crate) crashes_max: u32,
    pub(crate) watched: bool,
    pub(crate) broken: Option<Broken>,
    /// Each once, in this order, to whichever worker is free for it.
    pub(crate) blows: Vec<Blow>,
    /// Each once at first, then again for as long as there are blows left.
    pub(crate) work: Vec<Work>,
    /// Whether there are more tasks for as long as there are blows.
    pub(crate) feeds: bool,
}

impl Plan {
    /// One of its name, with a seed of its own.
    pub(crate) fn new(name: &str, seed: u64, work: &[Work]) -> Self {
        Plan {
            name: name.to_owned(),
            seed,
            workers: 2,
            targets: 2,
            concurrency: 2,
            // More than chance brings: a kill in the replay is no progress.
            crashes_max: 1_000,
            watched: false,
            broken: None,
            blows: Vec::new(),
            work: work.to_vec(),
            feeds: true,
        }
    }
}

/// A worker that does not come to its point by then is killed where it is.
const REACH: Duration = Duration::from_secs(20);
/// All that is left to do when the blows are over is done by then.
const FINISH: Duration = Duration::from_secs(90);
/// Workers that are left in peace start so much later.
const HEAD_START: Duration = Duration::from_millis(300);
/// How often the store is asked how far it is.
const LOOK: Duration = Duration::from_millis(20);
/// A zombie is given so long for what it may try.
const ZOMBIE: Duration = Duration::from_millis(600);
/// A write that takes longer waits for somebody who is stopped.
const LOCKED: Duration = Duration::from_millis(700);

/// What all parts of a round share.
pub(crate) struct Round {
    pub(crate) plan: Plan,
    pub(crate) dir: PathBuf,
    pub(crate) app: Qtasks,
    witness: Witness,
    tasks: Mutex<Vec<(Task, TaskId)>>,
    blows: Mutex<VecDeque<Blow>>,
    /// Blows that were not dealt yet.
    left: AtomicUsize,
    workers: AtomicU32,
    over: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Round {
    pub(crate) async fn open(root: &Path, plan: Plan) -> Arc<Self> {
        let dir = root.join(&plan.name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("plan.txt"), format!("{plan:#?}\n")).unwrap();
        let url = format!("sqlite:{}", dir.join("store.db").display());
        let app = Qtasks::builder().store(&url).tasks([]).lease(LEASE).scan(SCAN).crashes(plan.crashes_max);
        Arc::new(Round {
            app: app.open().await.unwrap(),
            witness: Witness::open(&dir.join("suite.witness")).unwrap(),
            tasks: Mutex::default(),
            left: AtomicUsize::new(plan.blows.len()),
            blows: Mutex::new(plan.blows.clone().into()),
            workers: AtomicU32::new(0),
            over: watch::Sender::new(false),
            dir,
            plan,
        })
    }

    /// Plays it to its end.
    pub(crate) async fn play(self: Arc<Self>) -> History {
        for work in &self.plan.work {
            self.add(*work, &mut Dice::new(self.plan.seed)).await;
        }
        let watcher = self.plan.watched.then(|| self.spawn(Role::Watch, None));
        let slots: Vec<_> = (0..self.plan.workers)
            .map(|i| {
                let round = Arc::clone(&self);
                tokio::spawn(async move { round.slot(i < round.plan.targets).await })
            })
            .collect();
        self.feed().await;
        self.over.send_replace(true);
        for slot in slots {
            slot.await.unwrap();
        }
        std::fs::write(self.dir.join("over"), "").unwrap();
        if let Some(watcher) = watcher {
            watcher.ended(FINISH).await;
        }
        // All of it is read here: other rounds need their threads meanwhile.
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || runtime.block_on(self.history())).await.unwrap()
    }

    /// What is known in the end.
    async fn history(&self) -> History {
        let tasks = lock(&self.tasks).clone();
        let mut logs = BTreeMap::new();
        let mut lines = String::new();
        for (task, id) in &tasks {
            let log = history::dump(&**self.app.store(), *id).await;
            lines += &format!("{}\n", serde_json::to_string(&(task.number, task.name, &log)).unwrap());
            logs.insert(task.number, log);
        }
        std::fs::write(self.dir.join("dump.ndjson"), lines).unwrap();
        let said = history::witnesses(&self.dir);
        let tasks = tasks.into_iter().map(|(task, _)| task).collect();
        History { tasks, logs, said, terms: Terms::new(self.plan.crashes_max) }
    }

    pub(crate) async fn add(&self, (name, least, most): Work, dice: &mut Dice) -> TaskId {
        let number = u32::try_from(lock(&self.tasks).len()).expect("few") + 1;
        let n = dice.between(least, most);
        let seed = dice.roll();
        let add = || {
            let add = self.app.add_task(name, json!({ "task": number, "n": n, "seed": seed })).unchecked();
            add.idempotency_key(format!("task {number}"))
        };
        // A store that somebody has locked may not answer; the key makes a repetition harmless.
        let id = loop {
            if let Ok(handle) = add().await {
                break handle.id();
            }
            tokio::time::sleep(LOOK).await;
        };
        lock(&self.tasks).push((Task::new(number, name, n, seed), id));
        id
    }

    /// Changes what is expected of a task.
    pub(crate) fn expect(&self, id: TaskId, change: impl FnOnce(&mut Task)) {
        if let Some((task, _)) = lock(&self.tasks).iter_mut().find(|(_, other)| *other == id) {
            change(task);
        }
    }

    /// Sees to it that there is something to do until the last blow, and waits for the end of it all.
    async fn feed(&self) {
        let mut dice = Dice::new(self.plan.seed ^ 1);
        let mut since = Instant::now();
        loop {
            let ids: Vec<TaskId> = lock(&self.tasks).iter().map(|(_, id)| *id).collect();
            let records = self.app.store().get(ids).await.unwrap_or_default();
            let open = records.iter().flatten().filter(|r| !r.status.is_ended());
            let unfinished = open.clone().count();
            let left = self.left.load(Ordering::SeqCst);
            if unfinished == 0 && (left == 0 || !self.plan.feeds) {
                return;
            }
            if left > 0 {
                since = Instant::now();
            }
            if since.elapsed() > FINISH {
                let open: Vec<_> = open.map(|r| (r.id, &r.name, r.status, r.attempt, r.epoch, r.yields)).collect();
                panic!("{}: not all tasks end: {open:?}", self.dir.display());
            }
            if self.plan.feeds && left > 0 && unfinished <= self.plan.workers {
                let work = *dice.one_of(&self.plan.work);
                self.add(work, &mut dice).await;
                continue;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn say(&self, said: Said) {
        self.witness.say(said);
    }

    fn spawn(&self, role: Role, fault: Option<Fault>) -> Process {
        let n = self.workers.fetch_add(1, Ordering::SeqCst);
        let orders = Orders {
            role,
            url: format!("sqlite:{}", self.dir.join("store.db").display()),
            dir: self.dir.clone(),
            name: format!("{}-{n}", if role == Role::Work { "worker" } else { "watcher" }),
            concurrency: self.plan.concurrency,
            crashes_max: self.plan.crashes_max,
            fault,
            broken: self.plan.broken,
        };
        Process::start(&orders)
    }

    /// One worker after the other, each with its blow; then one that works on until all is over.
    async fn slot(&self, is_target: bool) {
        if !is_target {
            // Most often there is something to do for one that is to be hit.
            tokio::time::sleep(HEAD_START).await;
        }
        while !*self.over.borrow() {
            let blow = if is_target { lock(&self.blows).pop_front() } else { None };
            let fault = match blow {
                Some(Blow::KillAt(fault) | Blow::StopAt(fault, _)) => Some(fault),
                _ => None,
            };
            let mut process = self.spawn(Role::Work, fault);
            let Some(blow) = blow else {
                if self.rest(&mut process).await {
                    return;
                }
                continue;
            };
            let dealt = match blow {
                Blow::KillAt(fault) => self.kill_at(process, fault).await,
                Blow::KillAfter(wait) => self.kill_after(process, wait).await,
                Blow::StopAt(fault, wait) => self.stop_at(process, fault, wait).await,
                Blow::Terminate(wait) => self.terminate_after(process, wait).await,
            };
            if dealt {
                self.left.fetch_sub(1, Ordering::SeqCst);
            } else {
                lock(&self.blows).push_front(blow);
            }
        }
    }

    /// Works until all is over. `false` if the process died by itself before that.
    async fn rest(&self, process: &mut Process) -> bool {
        let mut over = self.over.subscribe();
        tokio::select! {
            _ = over.wait_for(|over| *over) => {}
            () = process.died() => {
                self.say(Said::Killed { worker: process.name.clone(), at: None, itself: true });
                return false;
            }
        }
        self.say(Said::Terminated { worker: process.name.clone() });
        process.signal("TERM").await;
        process.leaves().await;
        true
    }

    /// Whether a process comes to what is waited for. With nothing left to do nobody comes to anything.
    async fn comes(&self, to: impl Future<Output = bool>) -> bool {
        let mut over = self.over.subscribe();
        tokio::select! {
            came = tokio::time::timeout(REACH, to) => came.unwrap_or_default(),
            _ = over.wait_for(|over| *over) => false,
        }
    }

    async fn kill_at(&self, mut process: Process, fault: Fault) -> bool {
        let at = self.comes(process.reaches()).await.then_some(fault);
        self.killed(process, at).await
    }

    async fn kill_after(&self, mut process: Process, wait: Duration) -> bool {
        if self.comes(process.claims()).await {
            tokio::time::sleep(wait).await;
        }
        self.killed(process, None).await
    }

    async fn killed(&self, mut process: Process, at: Option<Fault>) -> bool {
        if *self.over.borrow() {
            process.kill().await;
            return true;
        }
        let itself = process.is_dead();
        self.say(Said::Killed { worker: process.name.clone(), at, itself });
        process.kill().await;
        !itself
    }

    async fn terminate_after(&self, mut process: Process, wait: Duration) -> bool {
        if self.comes(process.claims()).await {
            tokio::time::sleep(wait).await;
        }
        self.say(Said::Terminated { worker: process.name.clone() });
        process.signal("TERM").await;
        process.leaves().await;
        true
    }

    async fn stop_at(&self, mut process: Process, fault: Fault, wait: Duration) -> bool {
        if !self.comes(process.reaches()).await {
            self.killed(process, None).await;
            return *self.over.borrow();
        }
        let worker = process.name.clone();
        self.say(Said::Stopped { worker: worker.clone(), at: fault });
        process.signal("STOP").await;
        let inside = self.is_locked().await;
        let since = Instant::now();
        // Until somebody else has what it had, which nobody gets while it holds the lock.
        while since.elapsed() < wait || (!inside && since.elapsed() < REACH / 3 && !self.is_taken(&process).await) {
            tokio::time::sleep(LOOK).await;
        }
        std::fs::write(self.dir.join(format!("{worker}.go")), "").unwrap();
        self.say(Said::Continued { worker: worker.clone(), inside });
        process.signal("CONT").await;
        tokio::time::sleep(ZOMBIE).await;
        self.say(Said::Terminated { worker });
        process.signal("TERM").await;
        process.leaves().await;
        true
    }

    /// Whether nobody can write.
    async fn is_locked(&self) -> bool {
        let put =
            qtasks::store::DocPut { key: "locked".to_owned(), if_version: None, bytes: Vec::new(), expires: None };
        let store = Arc::clone(self.app.store());
        let put = tokio::spawn(async move { store.doc_put(put).await.is_ok() });
        !matches!(tokio::time::timeout(LOCKED, put).await, Ok(Ok(true)))
    }

    /// Whether somebody else has all that a process had.
    async fn is_taken(&self, process: &Process) -> bool {
        let had = process.claimed();
        let ids: Vec<TaskId> = {
            let tasks = lock(&self.tasks);
            let id = |task: u32| tasks.iter().find(|(t, _)| t.number == task).map(|(_, id)| *id);
            had.iter().filter_map(|held| id(held.task)).collect()
        };
        let records = self.app.store().get(ids).await.unwrap_or_default();
        // Where there is nobody else, that it may be taken is all there can be.
        let taken = |record: &qtasks::TaskRecord, held: Held| match self.plan.workers {
            1 => record.epoch > held.epoch,
            _ => record.attempt > held.attempt,
        };
        records.iter().flatten().zip(had).all(|(record, held)| taken(record, held) || record.status.is_ended())
    }
}
