//! [`Inspection`]: what an app knows, has and does, all at once.
//!
//! Invariant: nothing of it is made before it is asked for; the store is asked for no more than what it offers anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::Serialize;

use super::Qtasks;
use crate::error::Result;
use crate::rate::Rate;
#[cfg(feature = "schema")]
use crate::schema::Schemas;
use crate::task::{Status, TaskId, TaskRecord, TaskSpec, time};

/// What a worker adds to its name where it claims what runs no body.
pub(crate) const BUILT_IN_LANE: &str = "/built-in";

/// What an app knows, has and does: from [`app.inspect()`](Qtasks::inspect).
///
/// Written as JSON: instants are RFC 3339 text in UTC, durations objects of `secs` and `nanos`, ids text.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// When it was asked for, by the clock of this process.
    #[serde(with = "time")]
    pub at: SystemTime,
    /// The task functions of this app, by name.
    pub tasks: Vec<InspectedTask>,
    /// The queues that this app serves or its task functions name, and those in which the store has tasks, by name.
    pub queues: Vec<InspectedQueue>,
    /// The worker of this app, if it has one, then those that have running tasks, by name.
    pub workers: Vec<InspectedWorker>,
    /// How many tasks the store has, per status, in all queues; every status is there.
    pub counts: BTreeMap<Status, u64>,
    /// What this app did lately.
    pub throughput: Throughput,
}

/// A task function. Its limits (`concurrency`, `rate`) are in its spec.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InspectedTask {
    /// As this app knows it, under the name that it has here: with arguments (name, type, required, default), queue,
    /// priority, retries, limits, and the place in the code. In JSON its fields stand beside `schemas`.
    #[serde(flatten)]
    pub spec: TaskSpec,
    /// What it takes and gives.
    #[cfg(feature = "schema")]
    pub schemas: Schemas,
}

/// A queue.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InspectedQueue {
    /// Its name.
    pub name: String,
    /// How many tasks of it the store has, per status; every status is there.
    pub counts: BTreeMap<Status, u64>,
    /// Whether it is [paused](Qtasks::pause), for all workers.
    pub paused: bool,
    /// Whether the worker of this app serves it.
    pub served: bool,
    /// How many of its tasks may run at once, as this app was told. `None` for any number.
    pub concurrency: Option<u32>,
    /// How many attempts at its tasks may start in how long, as this app was told. `None` for any number.
    pub rate: Option<Rate>,
}

/// A worker.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct InspectedWorker {
    /// Its name.
    pub name: String,
    /// Whether it is the worker of this app.
    pub here: bool,
    /// How many bodies it runs at once. `None` of a worker elsewhere, of which the store does not know it.
    pub slots: Option<usize>,
    /// The tasks that it has. Of workers elsewhere those among the newest 1,000 running tasks of the store.
    pub running: Vec<TaskId>,
    /// The tasks that it has and that run no body (`qtasks.…`): they take no slot.
    pub built_in: Vec<TaskId>,
    /// Sync bodies whose attempts are over but which could not be stopped. `None` of a worker elsewhere.
    pub abandoned: Option<usize>,
}

/// What an app did over the last minute, or since its start if that was later: tasks a second.
///
/// Other processes count their own: of a store that is shared, the sum is what all of them tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Throughput {
    /// Added by this app, those left out that existed.
    pub added_per_second: f64,
    /// Attempts that its worker began.
    pub claimed_per_second: f64,
    /// Ended by its worker: completed, failed or cancelled; not those to be tried again.
    pub ended_per_second: f64,
}

impl Qtasks {
    /// Tells what the app knows, has and does: task functions, queues, workers, counts and throughput. What the store
    /// tells of them is read one after the other, so that the parts may be of slightly different instants.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable).
    ///
    /// # Examples
    /// ```
    /// # use qtasks::prelude::*;
    /// #[task(queue = "mail")]
    /// async fn send_copies(to: String, copies: Option<u8>) {}
    ///
    /// # #[tokio::main] async fn main() -> qtasks::Result<()> {
    /// let app = Qtasks::builder().store("memory:").start().await?;
    /// let about = app.inspect().await?;
    /// let send = about.tasks.iter().find(|task| task.spec.name == "send_copies").expect("it is linked");
    /// assert_eq!((send.spec.queue, send.spec.args[1].required), ("mail", false));
    /// # app.shutdown().await
    /// # }
    /// ```
    pub async fn inspect(&self) -> Result<Inspection> {
        let (stats, paused, running) = (self.stats().await?, self.paused().await?, self.running().await?);
        let tasks = self.core.registry.iter().map(|(name, spec)| {
            let spec = TaskSpec::clone(spec).named(name);
            InspectedTask {
                #[cfg(feature = "schema")]
                schemas: spec.schemas(),
                spec,
            }
        });
        let served = self.core.worker.get().map(|worker| worker.queues()).unwrap_or_default();
        let limits = &self.core.config.queue_limits;
        let mut names: BTreeSet<String> = self.core.registry.queues().into_iter().collect();
        names.extend(served.iter().chain(&paused).chain(stats.queues.keys()).chain(limits.keys()).cloned());
        let mut counts = zeroes();
        let mut queues = Vec::with_capacity(names.len());
        for name in names {
            let mut own = zeroes();
            for (status, tasks) in stats.queues.get(&name).into_iter().flatten() {
                own.insert(*status, *tasks);
                *counts.entry(*status).or_default() += tasks;
            }
            let (concurrency, rate) = limits.get(&name).copied().unwrap_or_default();
            let (paused, served) = (paused.contains(&name), served.contains(&name));
            queues.push(InspectedQueue { counts: own, paused, served, concurrency, rate, name });
        }
        let meters = &self.core.meters;
        Ok(Inspection {
            at: SystemTime::now(),
            tasks: tasks.collect(),
            queues,
            workers: self.workers(running),
            counts,
            throughput: Throughput {
                added_per_second: meters.added.per_second(),
                claimed_per_second: meters.claimed.per_second(),
                ended_per_second: meters.ended.per_second(),
            },
        })
    }

    /// The worker of this app, and those that have the tasks that are running.
    fn workers(&self, running: Vec<TaskRecord>) -> Vec<InspectedWorker> {
        let here = self.core.worker.get().map(|worker| {
            let (mut running, mut built_in) = (Vec::new(), Vec::new());
            for sink in worker.running() {
                let lane = if sink.lane.built_in { &mut built_in } else { &mut running };
                lane.push(sink.id());
            }
            running.sort_unstable();
            built_in.sort_unstable();
            let (slots, abandoned) = (Some(self.core.config.concurrency), Some(worker.abandoned()));
            let name = self.core.config.worker.clone();
            InspectedWorker { name, here: true, slots, running, built_in, abandoned }
        });
        let mut elsewhere = BTreeMap::<String, InspectedWorker>::new();
        for record in running {
            let Some(worker) = record.worker else { continue };
            let name = worker.strip_suffix(BUILT_IN_LANE).unwrap_or(&worker);
            if here.as_ref().is_some_and(|here| here.name == name) {
                continue;
            }
            let of = elsewhere.entry(name.to_owned()).or_insert_with(|| InspectedWorker {
                name: name.to_owned(),
                here: false,
                slots: None,
                running: Vec::new(),
                built_in: Vec::new(),
                abandoned: None,
            });
            let lane = if name.len() < worker.len() { &mut of.built_in } else { &mut of.running };
            // The newest came first.
            lane.insert(0, record.id);
        }
        here.into_iter().chain(elsewhere.into_values()).collect()
    }
}

fn zeroes() -> BTreeMap<Status, u64> {
    Status::ALL.map(|status| (status, 0)).into()
}
