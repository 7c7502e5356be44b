//! A check of a whole file: reads everything, changes nothing, and names what is damaged.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::super::{Checked, Read, What, page};
use super::rows::{self, Whole};
use super::schema::{self, Role};
use super::tx::Fault;
use super::{damage, reads, to_open_error};
use crate::error::{Error, Result};
use crate::event::{EventCode, is_void};
use crate::task::Status;

/// How many events are read at once.
const PAGE: usize = 4096;

/// Checks the file at a path, in one snapshot: processes that have it open go on.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) if there is no file, if it is not a store, or of another version.
pub(super) fn file(path: &Path) -> Result<Checked> {
    let sql = |e: rusqlite::Error| to_open_error(&e, path);
    if !path.exists() {
        return Err(Error::invalid(format!("there is no file `{}` to check", path.display())));
    }
    if schema::version_of(path)? < schema::LATEST {
        let shown = path.display();
        return Err(Error::invalid(format!("`{shown}` is of an earlier version: `migrate` it first")));
    }
    let db = schema::connect(path, Role::Reader).map_err(sql)?;
    let snapshot = db.unchecked_transaction().map_err(sql)?;
    all(&snapshot).map_err(sql)
}

fn all(db: &Connection) -> rusqlite::Result<Checked> {
    let mut checked = Checked::default();
    let mut pages = db.prepare("PRAGMA integrity_check(100)")?;
    for line in pages.query_map([], |row| row.get::<_, String>(0))? {
        let line = line?;
        if line != "ok" {
            checked.damaged.push(format!("the file: {line}"));
        }
    }
    let mut numbers = db.prepare("SELECT n FROM task ORDER BY n")?;
    for n in numbers.query_map([], |row| row.get::<_, i64>(0))? {
        let n = n?;
        checked.tasks += 1;
        match rows::by_n(db, n)? {
            Some(task) => one(db, task, &mut checked)?,
            None => checked.damaged.push(format!("task number {n} is in an index only")),
        }
    }
    orphans(db, &mut checked)?;
    documents(db, &mut checked)?;
    tables(db, &mut checked)?;
    Ok(checked)
}

/// Checks a task with its log.
fn one(db: &Connection, task: Whole, checked: &mut Checked) -> rusqlite::Result<()> {
    let Whole { place, life, fixed, damage, .. } = task;
    let shown = place.id.map_or_else(|| format!("number {}", place.n), |id| id.to_string());
    if let Some(damage) = damage {
        checked.damaged.push(format!("task {shown}: {damage}"));
        return Ok(());
    }
    let tagged = tags(db, place.n)?;
    if tagged != fixed.tags.iter().cloned().collect() {
        checked.damaged.push(format!("task {shown}: the index of tags does not have the same tags as the task"));
    }
    if let Err(damage) = rows::checkpoint(db, place.n)? {
        checked.damaged.push(format!("task {shown}: {damage}"));
    }
    let Some(id) = place.id.filter(|_| place.stripped.is_none()) else { return Ok(()) };
    let (mut from_seq, mut yields) = (1, 0);
    while from_seq <= life.tail {
        let read = Read { id, from_seq, limit: PAGE, bytes_max: usize::MAX, what: What::Events };
        let slice = match reads::read(db, read) {
            Ok(slice) => page::checked(read, slice),
            Err(Fault::Refused(error)) => Err(error),
            Err(Fault::Sql(error)) => return Err(error),
        };
        let slice = match slice {
            Ok(slice) => slice,
            Err(error) => {
                checked.damaged.push(error.to_string());
                return Ok(());
            }
        };
        let events = slice.events.iter().flat_map(|batch| batch.iter());
        for event in events {
            checked.events += 1;
            if event.code == EventCode::Yield && !is_void(&event, &life.rewinds) {
                yields += 1;
            }
        }
        from_seq = slice.next_seq;
    }
    if yields != life.yields {
        let told = life.yields;
        checked.damaged.push(format!("task {shown}: its log has {yields} values, and its row tells of {told}"));
    }
    Ok(())
}

fn tags(db: &Connection, n: i64) -> rusqlite::Result<BTreeSet<String>> {
    let mut tags = db.prepare_cached("SELECT tag FROM tag WHERE n = ?1")?;
    tags.query_map([n], |row| row.get::<_, String>(0))?.collect()
}

/// What belongs to no task.
fn orphans(db: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    for (table, sql) in [
        ("log", "SELECT DISTINCT n FROM log WHERE n NOT IN (SELECT n FROM task) AND n NOT IN (SELECT n FROM garbage)"),
        ("large_args", "SELECT n FROM large_args WHERE n NOT IN (SELECT n FROM task)"),
        ("checkpoint", "SELECT n FROM checkpoint WHERE n NOT IN (SELECT n FROM task)"),
        ("tag", "SELECT DISTINCT n FROM tag WHERE n NOT IN (SELECT n FROM task)"),
        ("garbage", "SELECT g.n FROM garbage g JOIN task t ON t.n = g.n WHERE t.stripped IS NULL"),
    ] {
        let mut found = db.prepare(sql)?;
        for n in found.query_map([], |row| row.get::<_, i64>(0))? {
            checked.damaged.push(format!("table `{table}`: number {} is not of a task that it can be of", n?));
        }
    }
    Ok(())
}

fn documents(db: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let mut keys = db.prepare("SELECT CAST(key AS BLOB), key, version, bytes, expires, sum FROM doc")?;
    let mut found = keys.query([])?;
    while let Some(row) = found.next()? {
        if reads::doc_of(row, 1).is_none() {
            let key: Vec<u8> = row.get(0)?;
            checked.damaged.push(format!("the document `{}`", String::from_utf8_lossy(&key).escape_debug()));
        }
    }
    Ok(())
}

/// What is kept about all tasks. It is made anew when it is needed.
fn tables(db: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM pair_copy c LEFT JOIN pair p USING (pair, queue, name) WHERE p.pair IS NULL";
    let pairs: i64 = db.query_row(sql, [], |row| row.get(0))?;
    if pairs > 0 {
        checked.damaged.push(format!("table `pair`: {pairs} rows; they are made anew from their copies"));
    }
    let mut pairs = db.prepare("SELECT pair FROM pair")?;
    for pair in pairs.query_map([], |row| row.get::<_, i64>(0))? {
        let pair = pair?;
        for status in Status::ALL {
            let sql = "SELECT count(*) FROM task WHERE pair = ?1 AND status = ?2";
            let there: i64 = db.prepare_cached(sql)?.query_row((pair, status as i64), |row| row.get(0))?;
            let sql = "SELECT tasks FROM count WHERE pair = ?1 AND status = ?2";
            let written = db.prepare_cached(sql)?.query_row((pair, status as i64), |row| row.get::<_, i64>(0));
            if written.optional()?.unwrap_or(0) != there {
                checked.damaged.push(format!("table `count`: pair {pair}, {status}; it is counted anew"));
            }
        }
    }
    if !damage::is_state_sound(db)? {
        checked.damaged.push("table `state`; it is made anew".to_owned());
    }
    Ok(())
}
