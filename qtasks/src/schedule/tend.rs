//! Brings the documents of schedules and the runs in the store together. Any number of processes do so at once.
//!
//! Invariant: a run is written into the document before it is added, by compare-and-set, and is added under the id and
//! the idempotency key that stand there. So a process may die between any two steps, and another repeats them.

use std::sync::Arc;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::state::{Definition, Firing, State, has_begun};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Doc, DocPut, Store};
use crate::task::time::to_ms;
use crate::task::{TaskId, TaskRecord};
use crate::worker::Worker;

const PREFIX: &str = "schedule/";

/// A schedule that is over is remembered for so long, lest a program that stores it again has it run again.
const OVER_KEPT: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// Keeps all schedules going until the worker closes. Looks when a run has begun here, and in each scan interval.
pub(crate) async fn keep(worker: Arc<Worker>, closing: CancellationToken) {
    let (store, scan) = (Arc::clone(worker.store()), worker.scan());
    loop {
        if let Err(error) = keep_once(&*store, &worker).await {
            crate::trouble::store_failed(&error, "schedules could not be looked at");
        }
        let looked = closing.run_until_cancelled(tokio::time::timeout(scan, worker.firing().notified()));
        if looked.await.is_none() {
            return;
        }
    }
}

async fn keep_once(store: &dyn Store, worker: &Worker) -> Result<()> {
    let all = load_all(store).await?;
    if all.is_empty() {
        return Ok(());
    }
    let ids: Vec<TaskId> = all.iter().filter_map(|(_, state)| Some(state.next.as_ref()?.id)).collect();
    let mut records = store.get(ids).await?.into_iter();
    for (name, state) in all {
        worker.serve_also(&state.definition.task.queue);
        let record = state.next.as_ref().and_then(|_| records.next()?);
        // One that can't be tended does not hold up the others.
        if let Err(error) = keep_one(store, &name, &state, record.as_ref()).await {
            match error.kind() {
                ErrorKind::Unavailable => crate::trouble::store_failed(&error, "a schedule could not be tended"),
                _ => tracing::warn!(%error, schedule = name, "a schedule could not be tended"),
            }
        }
    }
    Ok(())
}

async fn keep_one(store: &dyn Store, name: &str, state: &State, record: Option<&TaskRecord>) -> Result<()> {
    let begun = record.is_some_and(has_begun);
    match store.now().map(to_ms).filter(|now| !begun && state.is_too_far(*now)) {
        Some(now) => replan(store, name, now).await,
        None if state.waits_for(record) => Ok(()),
        None => tend(store, name).await,
    }
}

/// Stores a schedule under a name, in place of what is there.
pub(crate) async fn define(store: &dyn Store, name: &str, definition: &Definition, declared: bool) -> Result<()> {
    loop {
        let (version, state) = match load(store, name).await? {
            Some((version, mut state)) => {
                let before = state.clone();
                state.define(definition.clone(), declared);
                if state == before {
                    break;
                }
                (version, state)
            }
            None => (0, State::new(definition.clone(), declared)),
        };
        if put(store, name, version, &state).await? {
            break;
        }
    }
    tend(store, name).await
}

/// Changes what is stored. Answers whether there was something.
pub(crate) async fn change(store: &dyn Store, name: &str, change: impl Fn(&mut State) + Send) -> Result<bool> {
    loop {
        let found = load(store, name).await?;
        let Some((version, mut state)) = found.filter(|(_, state)| !state.removed) else { return Ok(false) };
        change(&mut state);
        if put(store, name, version, &state).await? {
            tend(store, name).await?;
            return Ok(true);
        }
    }
}

/// Plans the run that is ahead anew, unless another process has just done so.
async fn replan(store: &dyn Store, name: &str, now: u64) -> Result<()> {
    tracing::warn!(schedule = name, "the clock of the store was turned back: the next run is planned anew");
    let take_back = |state: &mut State| {
        if state.is_too_far(now) {
            state.take_back();
        }
    };
    change(store, name, take_back).await.map(drop)
}

/// Does what is to be done for one schedule before its next run begins.
async fn tend(store: &dyn Store, name: &str) -> Result<()> {
    while let Some((version, state)) = load(store, name).await? {
        let Some(next) = step(store, name, state).await? else { return Ok(()) };
        // Where it was changed in between, the next look sees that.
        put(store, name, version, &next).await?;
    }
    Ok(())
}

/// What the document becomes next; `None` while there is nothing to do.
async fn step(store: &dyn Store, name: &str, mut state: State) -> Result<Option<State>> {
    if !state.stale.is_empty() {
        for firing in std::mem::take(&mut state.stale) {
            cancel(store, name, &state, firing).await?;
        }
        return Ok(Some(state));
    }
    let Some(firing) = state.next.clone() else {
        if state.removed {
            return Ok(Some(state));
        }
        if !state.is_on() {
            return Ok(None);
        }
        state.begin(to_ms(store.now().unwrap_or_else(SystemTime::now)))?;
        return Ok(Some(state));
    };
    let record = find(store, firing.id).await?;
    if !state.is_on() {
        match record.filter(has_begun) {
            Some(record) => state.advance(&record)?,
            None => state.take_back(),
        }
        state.next = None;
        return Ok(Some(state));
    }
    let Some(record) = record else {
        let added = store.add(vec![state.task(name, &firing)?]).await?;
        let id = added.first().map_or(firing.id, |added| added.id);
        // Under its key is the run of a document that the store forgot.
        return Ok(Some(with_id(state, id)));
    };
    if firing.guessed {
        if state.confirm(to_ms(record.created_at))? {
            // It is due by then, or soon: either way it must not wait for whoever comes after us.
            store.start(vec![record.id]).await?;
        }
        return Ok(Some(state));
    }
    if record.status == crate::Status::Held {
        store.start(vec![record.id]).await?;
    }
    if !state.is_done_with(&record) {
        return Ok(None);
    }
    state.advance(&record)?;
    Ok(Some(state))
}

fn with_id(mut state: State, id: TaskId) -> State {
    if let Some(next) = &mut state.next {
        next.id = id;
    }
    state
}

/// Sees to it that a run which has not begun never does.
async fn cancel(store: &dyn Store, name: &str, state: &State, firing: Firing) -> Result<()> {
    let Firing { id, .. } = firing;
    let record = match find(store, id).await? {
        Some(record) => Some(record),
        None => {
            // Somebody may be about to add it: its id is taken first.
            let mut task = state.task(name, &firing)?;
            (task.held, task.idempotency_key) = (true, None);
            store.add(vec![task]).await?;
            find(store, id).await?
        }
    };
    if record.is_some_and(|record| !has_begun(&record)) {
        store.cancel(id, format!("the schedule {name} was changed")).await?;
    }
    Ok(())
}

async fn find(store: &dyn Store, id: TaskId) -> Result<Option<TaskRecord>> {
    Ok(store.get(vec![id]).await?.pop().flatten())
}

/// Stores a document in place of a version; one that is to be removed goes. Answers whether that was still there.
async fn put(store: &dyn Store, name: &str, version: u64, state: &State) -> Result<bool> {
    let gone = state.removed && state.next.is_none() && state.stale.is_empty();
    let expires = match gone {
        true => Some(std::time::Duration::ZERO),
        false => state.over.then_some(OVER_KEPT),
    };
    let bytes = serde_json::to_vec(state).expect("names and numbers");
    let put = DocPut { key: format!("{PREFIX}{name}"), if_version: Some(version), bytes, expires };
    Ok(store.doc_put(put).await?.is_some())
}

/// The document of a schedule, and its version.
pub(crate) async fn load(store: &dyn Store, name: &str) -> Result<Option<(u64, State)>> {
    let Some(doc) = store.doc_get(format!("{PREFIX}{name}")).await? else { return Ok(None) };
    match serde_json::from_slice(&doc.bytes) {
        Ok(state) => Ok(Some((doc.version, state))),
        Err(error) => {
            let way_out = "update this program, or give the schedule another name";
            let message = format!("the schedule `{name}` was stored by another version of qtasks: {way_out}");
            Err(Error::new(ErrorKind::Conflict, message).with_source(error))
        }
    }
}

/// All schedules, by name.
pub(crate) async fn load_all(store: &dyn Store) -> Result<Vec<(String, State)>> {
    let docs = store.doc_list(PREFIX.to_owned()).await?;
    let all = docs.iter().filter_map(|doc| Some((doc.key.strip_prefix(PREFIX)?.to_owned(), read(doc)?)));
    Ok(all.collect())
}

/// One that can't be read is of another version: that one tends it.
fn read(doc: &Doc) -> Option<State> {
    let state = serde_json::from_slice(&doc.bytes);
    state.inspect_err(|error| tracing::warn!(%error, key = doc.key, "a schedule of another version is left alone")).ok()
}

#[cfg(test)]
mod tests;
