//! The keeper: a thread with a runtime and a connection of its own, so that a body that blocks the app's runtime
//! loses no lease. It extends leases, sweeps, prunes, and goes on with appends that have to wait.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Worker;
use super::appender::{Appender, Job};
use super::sink::Stop;
use crate::app::Life;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{DocPut, Extended, Interest, Lease, Prune, Store, Sweep};
use crate::task::TaskId;
use crate::trouble::store_failed;

/// What the keeper needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) lease: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) scan: Duration,
    pub(crate) crashes_max: u32,
}

/// At most so many tasks in one sweep or prune.
const STEP: usize = 500;

/// Between two steps while there is more to do than one can.
const PAUSE: Duration = Duration::from_millis(20);

/// Maximum time that is spent on storing what attempts have said whose futures are gone.
const SETTLED: Duration = Duration::from_secs(1);

/// How often it is looked what is left of an app whose runtime has ended.
const LAST: Duration = Duration::from_millis(20);

/// Starts the thread. It ends with the app, or once it has given back what was running on a runtime that has ended.
pub(crate) async fn start(
    store: Arc<dyn Store>,
    times: Times,
    retention: Option<Prune>,
    worker: Option<(Weak<Worker>, Arc<Appender>, mpsc::UnboundedReceiver<Job>)>,
    life: Arc<Life>,
) -> Result<()> {
    let (ready, opened) = tokio::sync::oneshot::channel();
    let thread = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(unavailable(&error)))),
        };
        runtime.block_on(async move {
            let store = match store.on_this_runtime().await {
                Ok(store) => store,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(()));
            let heart = heartbeats(
                &store,
                times,
                worker.as_ref().map(|(worker, appender, _)| (worker.clone(), Arc::clone(appender))),
            );
            let left = worker.as_ref().map(|(worker, appender, _)| (worker.clone(), Arc::clone(appender)));
            let back = give_back(&store, times, left, &life);
            let told = worker.as_ref().map(|(worker, ..)| worker.clone());
            let sweeps = sweeps(&store, times, retention, told);
            let appends = async {
                match worker {
                    Some((_, appender, jobs)) => appender.keep(jobs).await,
                    None => std::future::pending().await,
                }
            };
            let all = async { tokio::join!(heart, back, sweeps, appends) };
            life.kept.run_until_cancelled(all).await;
        });
    };
    std::thread::Builder::new().name("qtasks-keeper".to_owned()).spawn(thread).map_err(|e| unavailable(&e))?;
    opened.await.unwrap_or_else(|e| Err(unavailable(&e)))
}

fn unavailable(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the keeper's thread does not start: {error}"))
}

/// Extends the leases of what is running.
async fn heartbeats(store: &Arc<dyn Store>, times: Times, worker: Option<(Weak<Worker>, Arc<Appender>)>) {
    let Some((worker, appender)) = worker else { return };
    loop {
        tokio::time::sleep(times.heartbeat).await;
        let Some(worker) = worker.upgrade() else { return };
        let sinks = worker.running();
        if sinks.is_empty() {
            continue;
        }
        let sent = Instant::now();
        let leases: Vec<Lease> = sinks.iter().map(|s| s.lease).collect();
        // By then the leases are over, unless this one came through.
        let wait = times.lease - times.heartbeat;
        let answered = tokio::time::timeout(wait, store.extend(leases, times.lease)).await;
        match answered {
            Ok(Ok(answers)) => {
                for (sink, answer) in sinks.iter().zip(answers) {
                    match answer {
                        Extended::Held => sink.renewed(sent),
                        Extended::Cancel(reason) => {
                            sink.renewed(sent);
                            sink.stop(Stop::Cancel(reason));
                        }
                        // It may just have ended by its owner's hand.
                        Extended::Fenced if sink.is_over() => {}
                        Extended::Fenced => sink.stop(Stop::Fenced),
                    }
                }
            }
            Ok(Err(error)) => store_failed(&error, "leases could not be extended"),
            Err(_) => tracing::warn!("leases could not be extended: the store does not answer"),
        }
        for sink in sinks.iter().filter(|s| !s.has_lease() && !s.is_over()) {
            tracing::error!(id = %sink.id(), "the lease is over and could not be extended; the task is dropped");
            appender.give_up(sink);
        }
    }
}

/// Gives back what was dropped because the store did not answer for too long. Whoever has it by now is not disturbed;
/// and where nobody has, nothing was lost, so that it is not to be counted as a crash. Heartbeats don't wait for it.
///
/// The same for attempts whose futures are gone, as all are when the runtime of the app has ended: then nothing is left
/// to keep, and the thread ends.
async fn give_back(
    store: &Arc<dyn Store>,
    times: Times,
    worker: Option<(Weak<Worker>, Arc<Appender>)>,
    life: &Arc<Life>,
) {
    let Some((worker, appender)) = worker else {
        life.gone.cancelled().await;
        return life.kept.cancel();
    };
    loop {
        let wait = if life.gone.is_cancelled() { LAST } else { times.heartbeat };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = appender.left() => {}
            () = life.gone.cancelled(), if wait != LAST => {}
        }
        appender.settle_abandoned(times.heartbeat.min(SETTLED)).await;
        let leases = appender.given_up();
        let none = leases.is_empty();
        if !none && store.release(leases.clone()).await.is_err() {
            appender.give_up_again(leases);
        }
        if none && wait == LAST && worker.upgrade().is_none_or(|worker| worker.is_idle()) {
            return life.kept.cancel();
        }
    }
}

/// Of tasks that are cancelled when nobody watches them: their owners ask, by documents `watch/{id}`, and whoever
/// watches answers, by documents `watching/{id}`, each for as long as that is so. Not on the keeper's thread: there no
/// read may hold up a heartbeat.
pub(crate) async fn watchers(
    store: Arc<dyn Store>,
    times: Times,
    interest: Arc<Interest>,
    worker: Option<Weak<Worker>>,
) {
    let every = times.lease / 2;
    let put = |key: String| DocPut { key, if_version: None, bytes: Vec::new(), expires: Some(times.lease) };
    loop {
        tokio::time::sleep(every).await;
        let round = async {
            for doc in store.doc_list("watch/".to_owned()).await? {
                let id = doc.key.strip_prefix("watch/").and_then(|id| id.parse::<TaskId>().ok());
                if id.is_some_and(|id| interest.has_task(id)) {
                    store.doc_put(put(doc.key.replacen("watch/", "watching/", 1))).await?;
                }
            }
            let worker = worker.as_ref().and_then(Weak::upgrade);
            for sink in worker.iter().flat_map(|worker| worker.running()).filter(|sink| sink.is_to_be_watched()) {
                store.doc_put(put(format!("watch/{}", sink.id()))).await?;
                sink.is_watched(store.doc_get(format!("watching/{}", sink.id())).await?.is_some());
            }
            Ok::<(), Error>(())
        };
        if let Err(error) = round.await {
            store_failed(&error, "watchers could not be told of");
        }
    }
}

/// Sets right what time has changed; every process does so, with or without a worker.
async fn sweeps(store: &Arc<dyn Store>, times: Times, retention: Option<Prune>, worker: Option<Weak<Worker>>) {
    let Times { lease, heartbeat, scan, crashes_max } = times;
    // However rarely the app looks for tasks: a short lease that ran out is to be seen, and no gap.
    let scan = scan.min(lease / 4);
    let mut turn = 0_u64;
    loop {
        let mut more = false;
        match store.sweep(Sweep { max: STEP, lease, heartbeat, crashes_max }).await {
            Ok(swept) => {
                if swept.requeued + swept.ended > 0 {
                    tracing::warn!(requeued = swept.requeued, ended = swept.ended, "tasks had lost their worker");
                }
                let most = swept.promoted.max(swept.expired).max(swept.requeued + swept.ended);
                more |= most >= STEP;
                if let Some(worker) = worker.as_ref().and_then(Weak::upgrade) {
                    worker.tell_over(swept.over);
                }
            }
            Err(error) => store_failed(&error, "the store could not be swept"),
        }
        if let Some(retention) = retention {
            match store.prune(Prune { max: STEP, ..retention }).await {
                Ok(pruned) => more |= pruned.more || pruned.logs.max(pruned.rows) >= STEP,
                Err(error) => store_failed(&error, "the store could not be pruned"),
            }
        }
        if more {
            // Others have their turn between the steps.
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        // Up to a tenth earlier, so that many processes don't sweep together.
        let early = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), turn) % 100;
        turn += 1;
        let early = u32::try_from(early).expect("a remainder of 100");
        tokio::time::sleep(scan - scan * early / 1000).await;
    }
}
