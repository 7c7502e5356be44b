//! What is done when a built-in has ended: nothing of its parts may stay behind.

use std::sync::Arc;

use super::collate::{AHEAD, seal_key};
use super::{ITER, NAMES};
use crate::app::Core;
use crate::error::{ErrorKind, Result};
use crate::store::{DocPut, Removed};
use crate::task::{Status, TaskId, TaskRecord};

/// So many parts are looked at in one step.
const STEP: u64 = 1000;

/// Cleans up after a built-in that has ended: parts that nobody waits for any more go, or are cancelled where they run.
pub(crate) async fn clean(core: &Core, record: &TaskRecord) -> Result<()> {
    if !NAMES.contains(&record.name.as_str()) || !record.status.is_ended() {
        return Ok(());
    }
    if record.status != Status::Completed {
        parts(core, record).await?;
    }
    if record.name == ITER {
        forget_seal(core, record.id).await?;
    }
    Ok(())
}

/// Documents of built-ins that ended while nobody was there to clean up after them.
pub(crate) async fn tidy(core: &Arc<Core>) -> Result<()> {
    for doc in core.store.doc_list("iter/".to_owned()).await? {
        let Some(id) = doc.key.strip_prefix("iter/").and_then(|id| id.parse::<TaskId>().ok()) else { continue };
        match core.hub.record(id).await {
            Ok(record) => clean(core, &record).await?,
            // Retention took it, or it was never added: an open seal expires by itself.
            Err(error) if error.kind() == ErrorKind::NotFound && doc.version > 1 => forget_seal(core, id).await?,
            Err(_) => {}
        }
    }
    Ok(())
}

async fn parts(core: &Core, record: &TaskRecord) -> Result<()> {
    let reason = "the whole that it is a part of has ended";
    let mut from = 0;
    loop {
        let index = |i| u32::try_from(i).unwrap_or(u32::MAX);
        let ids: Vec<TaskId> = (from..from + STEP).map(|i| record.id.part(index(i))).collect();
        let removed = core.store.remove(ids.clone()).await?;
        for (id, removed) in ids.iter().zip(&removed) {
            if *removed == Removed::Unfinished {
                cancel(core, *id, reason).await?;
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
        cancel(core, source, reason).await?;
    }
    Ok(())
}

async fn cancel(core: &Core, id: TaskId, reason: &str) -> Result<()> {
    match core.store.cancel(id, reason.to_owned()).await {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn forget_seal(core: &Core, id: TaskId) -> Result<()> {
    let key = seal_key(id);
    if core.store.doc_get(key.clone()).await?.is_some() {
        let put = DocPut { key, if_version: None, bytes: Vec::new(), expires: Some(std::time::Duration::ZERO) };
        core.store.doc_put(put).await?;
    }
    Ok(())
}
