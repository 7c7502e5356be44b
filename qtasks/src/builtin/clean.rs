//! What is done when a built-in has ended: nothing of its parts may stay behind.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::collate::{AHEAD, REFUSED, Seal};
use super::{ITER, NAMES};
use crate::app::Core;
use crate::error::{ErrorKind, Result};
use crate::store::page::Pages;
use crate::store::{DocPut, List, Removed};
use crate::task::{Status, TaskId, TaskRecord};

/// So many parts, or wholes, are looked at in one step.
const STEP: u64 = 1000;

/// Cleans up after a built-in that has ended: parts that nobody waits for any more go, or are cancelled where they run.
/// Whether nothing is left of it; what is at work goes when it has ended.
pub(crate) async fn clean(core: &Arc<Core>, record: &TaskRecord) -> Result<bool> {
    if !record.status.is_ended() {
        return Ok(false);
    }
    removed(core, record).await
}

/// The same, of one that has ended or whose row is gone.
pub(crate) async fn removed(core: &Arc<Core>, record: &TaskRecord) -> Result<bool> {
    if !NAMES.contains(&record.name.as_str()) {
        return Ok(true);
    }
    // Before the parts are looked at: whoever adds more must see it, or be seen.
    let refuses = record.name == ITER && refuse(core, record.id).await?;
    let mut left = Vec::new();
    if record.status != Status::Completed {
        left = parts(core, record).await?;
    }
    let none_left = left.is_empty();
    if !none_left {
        core.runtime.spawn(remove_ended(Arc::clone(core), left));
    }
    // Where somebody may be adding parts this moment, they or `tidy` look once more.
    if record.name == ITER && !refuses {
        forget_seal(core, record.id).await?;
    }
    Ok(none_left)
}

/// Waits for the ends of tasks that are asked to cancel, and takes them away.
async fn remove_ended(core: Arc<Core>, ids: Vec<TaskId>) {
    for id in &ids {
        // One that is gone, or an app that is closed, is as good as one that has ended.
        let _ = core.hub.ended(*id).await;
    }
    if !core.is_closed()
        && let Err(error) = core.store.remove(ids).await
    {
        tracing::warn!(%error, "parts of a built-in task could not be taken away yet");
    }
}

/// Cleans up after a task that was cancelled while nobody was running it, if it is a built-in.
pub(crate) fn cancelled(core: &Arc<Core>, id: TaskId) {
    let core = Arc::clone(core);
    let (runtime, over) = (core.runtime.clone(), core.closed());
    // There may be many parts, and it is cancelled whatever becomes of them.
    runtime.spawn(async move {
        let cleaned = async { clean(&core, &core.hub.record(id).await?).await };
        match over.run_until_cancelled(cleaned).await {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, %id, "what a built-in task leaves could not be cleaned up yet");
            }
            _ => {}
        }
    });
}

/// Cleans up after built-ins that ended while nobody was there to do it. `known` are those of which nothing is left.
pub(crate) async fn tidy(core: &Arc<Core>, known: &mut HashSet<TaskId>) -> Result<()> {
    for doc in core.store.doc_list("iter/".to_owned()).await? {
        let Some(id) = doc.key.strip_prefix("iter/").and_then(|id| id.parse::<TaskId>().ok()) else { continue };
        match core.hub.record(id).await {
            Ok(record) => drop(clean(core, &record).await?),
            // Retention took it, or it is not added yet: an open seal expires by itself.
            Err(error) if error.kind() == ErrorKind::NotFound && Seal::of(&doc) != Some(Seal::Open) => {
                forget_seal(core, id).await?;
            }
            Err(_) => {}
        }
    }
    let mut ended = HashSet::new();
    for name in NAMES {
        let status = vec![Status::Failed, Status::Cancelled];
        let list = List { name: Some(name.to_owned()), status, limit: STEP as usize, ..List::default() };
        let mut pages = Pages::new(&*core.store, list);
        while let Some(page) = pages.next().await? {
            for record in page {
                if known.contains(&record.id) || clean(core, &record).await? {
                    ended.insert(record.id);
                }
            }
        }
    }
    *known = ended;
    Ok(())
}

/// Takes the parts of a whole away. Those that are at work are asked to cancel, and are left.
async fn parts(core: &Core, record: &TaskRecord) -> Result<Vec<TaskId>> {
    let reason = "the whole that it is a part of has ended";
    let (mut from, mut left) = (0, Vec::new());
    loop {
        let index = |i| u32::try_from(i).unwrap_or(u32::MAX);
        let ids: Vec<TaskId> = (from..from + STEP).map(|i| record.id.part(index(i))).collect();
        let removed = core.store.remove(ids.clone()).await?;
        for (id, removed) in ids.iter().zip(&removed) {
            if *removed == Removed::Unfinished {
                ask(core, *id, reason).await?;
                left.push(*id);
            }
        }
        from += STEP;
        // Those whose results were gathered are gone; those that were never added come last.
        let gathered = record.yields + AHEAD;
        if from > gathered && removed.iter().all(|r| *r == Removed::Absent) {
            break;
        }
    }
    // The source of a pipe.
    let source = record.id.part(u32::MAX);
    if core.store.remove(vec![source]).await? == [Removed::Unfinished] {
        ask(core, source, reason).await?;
        left.push(source);
    }
    Ok(left)
}

async fn ask(core: &Core, id: TaskId, reason: &str) -> Result<()> {
    match core.store.cancel(id, reason.to_owned()).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Lets no more parts be added, where somebody may be at it.
async fn refuse(core: &Core, id: TaskId) -> Result<bool> {
    let key = Seal::key(id);
    while let Some(doc) = core.store.doc_get(key.clone()).await? {
        if Seal::of(&doc) != Some(Seal::Open) {
            return Ok(false);
        }
        if core.store.doc_put(Seal::Broken.put(&key, doc.version, Some(REFUSED))).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn forget_seal(core: &Core, id: TaskId) -> Result<()> {
    let key = Seal::key(id);
    if core.store.doc_get(key.clone()).await?.is_some() {
        let put = DocPut { key, if_version: None, bytes: Vec::new(), expires: Some(Duration::ZERO) };
        core.store.doc_put(put).await?;
    }
    Ok(())
}
