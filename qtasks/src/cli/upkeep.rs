//! `migrate`, `check` and `prune`: stores are kept in order.

use std::time::{Duration, SystemTime};

use super::End;
use super::out::Out;
use super::target::{self, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::store::page::Pages;
use crate::store::{Checked, List, Prune, Pruned, Read, What};
use crate::task::Status;

/// Tells of which version the tables of a store are, before and after it was opened.
pub(super) async fn migrate(url: &str, out: &Out) -> Result<End> {
    target::check(url, "migrate")?;
    let (before, after) = versions(url).await?;
    if out.json {
        out.json(&serde_json::json!({ "store": url, "before": before, "after": after }))?;
    } else if before == after {
        out.data(format_args!("{url}: schema {after}, the latest: nothing to do"))?;
    } else {
        out.data(format_args!("{url}: schema {before} -> {after}"))?;
    }
    Ok(End::Done)
}

/// Reads everything in a store, and lists what is damaged.
pub(super) fn check(url: &str, out: &Out) -> Result<End> {
    target::check(url, "check")?;
    let checked = crate::store::check(url)?;
    match out.json {
        true => out.json(&checked)?,
        false => checked.damaged.iter().try_for_each(|line| out.data(line.escape_debug()))?,
    }
    let Checked { tasks, events, damaged } = checked;
    if damaged.is_empty() {
        out.note(format_args!("{tasks} tasks with {events} events: nothing is damaged"));
        return Ok(End::Done);
    }
    out.note(format_args!("{tasks} tasks with {events} events; damaged: {}", damaged.len()));
    Ok(End::Failed)
}

#[cfg(feature = "sqlite")]
async fn versions(url: &str) -> Result<(usize, usize)> {
    use crate::store::sqlite::schema_version;
    let Some(path) = url.strip_prefix("sqlite:") else { return Err(none(url)) };
    let before = schema_version(path)?;
    // Opening it is all that it takes.
    let store = crate::store::open(url).await?;
    let after = schema_version(path)?;
    drop(store);
    Ok((before, after))
}

#[cfg(not(feature = "sqlite"))]
async fn versions(url: &str) -> Result<(usize, usize)> {
    crate::store::open(url).await?;
    Err(none(url))
}

fn none(url: &str) -> Error {
    Error::invalid(format!("`{url}` has no tables to migrate: give `sqlite:PATH`"))
}

pub(super) async fn prune(target: &Target, age: Duration, dry: bool, out: &Out) -> Result<End> {
    let pruned = if dry { would_prune(target, age).await? } else { take(target, age).await? };
    if out.json {
        out.json(&serde_json::json!({ "dry_run": dry, "logs": pruned.logs, "rows": pruned.rows }))?;
        return Ok(End::Done);
    }
    let Pruned { logs, rows, .. } = pruned;
    match dry {
        true => {
            out.data(format_args!("would take the logs of {logs} tasks, and at most {rows} bare rows"))?;
            out.note("tasks with a retention of their own are kept for that long instead");
        }
        false => out.data(format_args!("took the logs of {logs} tasks, and {rows} bare rows"))?,
    }
    Ok(End::Done)
}

async fn take(target: &Target, age: Duration) -> Result<Pruned> {
    let mut all = Pruned::default();
    loop {
        let prune = Prune { age, ..Prune::default() };
        let Pruned { logs, rows, more } = target.app("prune")?.store().prune(prune).await?;
        all.logs += logs;
        all.rows += rows;
        if !more && logs == 0 && rows == 0 {
            return Ok(all);
        }
    }
}

/// Counts what is old enough: with a log, and without one any more.
async fn would_prune(target: &Target, age: Duration) -> Result<Pruned> {
    let mut all = Pruned::default();
    let status = vec![Status::Completed, Status::Failed, Status::Cancelled];
    let store = target.app("prune")?.store();
    let now = store.now().unwrap_or_else(SystemTime::now);
    let mut pages = Pages::new(&**store, List { status, limit: 1000, ..List::default() });
    while let Some(page) = pages.next().await? {
        for record in page {
            let ended = record.completed_at.and_then(|at| now.duration_since(at).ok());
            if ended.is_none_or(|ended| ended < age) {
                continue;
            }
            let read = Read { id: record.id, from_seq: 1, limit: 1, bytes_max: usize::MAX, what: What::YieldHashes };
            match store.read(read).await {
                Ok(_) => all.logs += 1,
                // It goes like any other.
                Err(error) if error.kind() == ErrorKind::Damaged => all.logs += 1,
                Err(error) if error.kind() == ErrorKind::Gone => all.rows += 1,
                // It went in the meantime.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(all)
}
