//! What is read, each in one snapshot.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::super::{
    Claim, Claimed, Doc, Hashed, List, Listed, Read, Room, Slice, Stats, What, cursor, gone, not_found,
};
use super::limits::{gates, is_offered, next_claim};
use super::rows::{self, signed, unsigned};
use super::tx::{Fault, limit, next_due};
use crate::event::EventCode;
use crate::event::packed::unpack;
use crate::task::{Rewind, Status, TaskId, TaskRecord};

/// Most bytes of events that are read at once, whatever is asked for, though never less than one event.
const PAGE_BYTES: usize = 4 << 20;

/// The answer to a claim for which nothing is there; `None` if something may be.
pub(super) fn nothing_to_claim(db: &Connection, claim: &Claim, now: u64) -> Result<Option<Claimed>, Fault> {
    let due = next_due(db, now)?;
    if due.is_some_and(|due| due.is_zero()) {
        return Ok(None);
    }
    let mut again = db.prepare_cached("SELECT 1 FROM claim WHERE worker = ?1 AND token = ?2")?;
    if again.exists((&claim.worker, claim.token.cast_signed()))? {
        return Ok(None);
    }
    // Only what is ready can be kept waiting.
    let mut kept = None;
    for offer in &*claim.offers {
        if is_offered(db, offer)? {
            if kept.is_none() {
                kept = Some(gates(db, claim, now)?);
            }
            if kept.as_ref().is_some_and(|gates| gates.lets(offer)) {
                return Ok(None);
            }
        }
    }
    let next_due = kept.map_or(Ok(due), |gates| next_claim(db, claim, &gates, now))?;
    Ok(Some(Claimed { tasks: Vec::new(), next_due }))
}

pub(super) fn get(db: &Connection, ids: &[TaskId]) -> Result<Vec<Option<TaskRecord>>, Fault> {
    let mut records = Vec::with_capacity(ids.len());
    for id in ids {
        records.push(rows::by_id(db, *id)?.map(rows::Whole::record));
    }
    Ok(records)
}

pub(super) fn list(db: &Connection, list: &List) -> Result<Listed, Fault> {
    let before = i64::try_from(cursor(list)?).unwrap_or(i64::MAX);
    let wanted = limit(list.limit).saturating_add(1);
    let mut found = numbers(db, list, before, wanted)?;
    found.sort_unstable_by(|a, b| b.cmp(a));
    let more = found.len() > list.limit;
    found.truncate(list.limit);
    let next = found.last().filter(|_| more).map(ToString::to_string);
    let mut tasks = Vec::with_capacity(found.len());
    for n in found {
        tasks.extend(rows::by_n(db, n)?.map(rows::Whole::record));
    }
    Ok(Listed { tasks, next })
}

/// The numbers of tasks that match, at least the `wanted` latest before `before`.
fn numbers(db: &Connection, list: &List, before: i64, wanted: i64) -> rusqlite::Result<Vec<i64>> {
    let number = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    if list.tag.is_none() && list.parent.is_none() {
        if list.status.is_empty() && list.name.is_none() && list.queue.is_none() {
            let mut all = db.prepare_cached("SELECT n FROM task WHERE n < ?1 ORDER BY n DESC LIMIT ?2")?;
            return all.query_map((before, wanted), number)?.collect();
        }
        let mut found = Vec::new();
        for (pair, status) in sorts(db, list)? {
            let sql = "SELECT n FROM task WHERE pair = ?1 AND status = ?2 AND n < ?3 ORDER BY n DESC LIMIT ?4";
            let mut some = db.prepare_cached(sql)?;
            for n in some.query_map((pair, status, before, wanted), number)? {
                found.push(n?);
            }
        }
        return Ok(found);
    }
    let (from, mut values) = match (&list.tag, list.parent) {
        (Some(tag), _) => {
            ("tag g JOIN task t ON t.n = g.n WHERE g.tag = ? AND g.n < ?", vec![Value::Text(tag.clone())])
        }
        (None, parent) => {
            let parent = parent.map_or(Value::Null, |p| Value::Blob(p.as_bytes().to_vec()));
            ("task t WHERE t.parent = ? AND t.n < ?", vec![parent])
        }
    };
    values.push(Value::Integer(before));
    let mut sql = format!("SELECT t.n FROM {from}");
    if let (Some(_), Some(parent)) = (&list.tag, list.parent) {
        sql += " AND t.parent = ?";
        values.push(Value::Blob(parent.as_bytes().to_vec()));
    }
    if !list.status.is_empty() {
        let codes: Vec<String> = list.status.iter().map(|s| (*s as i64).to_string()).collect();
        sql += &format!(" AND t.status IN ({})", codes.join(", "));
    }
    for (column, value) in [("name", &list.name), ("queue", &list.queue)] {
        if let Some(value) = value {
            sql += &format!(" AND t.pair IN (SELECT pair FROM pair WHERE {column} = ?)");
            values.push(Value::Text(value.clone()));
        }
    }
    sql += " ORDER BY t.n DESC LIMIT ?";
    values.push(Value::Integer(wanted));
    db.prepare_cached(&sql)?.query_map(params_from_iter(values), number)?.collect()
}

/// The pairs and statuses that match, of which there are tasks.
fn sorts(db: &Connection, list: &List) -> rusqlite::Result<Vec<(i64, i64)>> {
    let sql = "SELECT c.pair, c.status FROM count c JOIN pair p ON p.pair = c.pair \
         WHERE c.tasks > 0 AND (?1 IS NULL OR p.name = ?1) AND (?2 IS NULL OR p.queue = ?2)";
    let mut statement = db.prepare_cached(sql)?;
    let sorts = statement.query_map((&list.name, &list.queue), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sorts = sorts.collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    let wanted = |status: i64| list.status.is_empty() || list.status.contains(&rows::status(status));
    Ok(sorts.into_iter().filter(|(_, status)| wanted(*status)).collect())
}

pub(super) fn stats(db: &Connection) -> Result<Stats, Fault> {
    let sql = "SELECT p.queue, c.status, sum(c.tasks) FROM count c JOIN pair p ON p.pair = c.pair \
         GROUP BY p.queue, c.status HAVING sum(c.tasks) > 0";
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query([])?;
    let mut queues: BTreeMap<String, BTreeMap<Status, u64>> = BTreeMap::new();
    while let Some(row) = found.next()? {
        queues.entry(row.get(0)?).or_default().insert(rows::status(row.get(1)?), unsigned(row.get(2)?));
    }
    Ok(Stats { queues })
}

pub(super) fn read(db: &Connection, read: Read) -> Result<Slice, Fault> {
    let sql = "SELECT n, tail, status, rewinds, stripped FROM task WHERE id = ?1";
    let head = db.prepare_cached(sql)?.query_row([read.id.as_bytes()], |row| {
        let rewinds: Option<String> = row.get(3)?;
        let rewinds = rewinds.map(|r| serde_json::from_str::<Vec<Rewind>>(&r).unwrap_or_default());
        let stripped: Option<i64> = row.get(4)?;
        Ok((row.get::<_, i64>(0)?, unsigned(row.get(1)?), rows::status(row.get(2)?), rewinds, stripped.is_some()))
    });
    let (n, tail, status, rewinds, stripped) = head.optional()?.ok_or_else(|| not_found(read.id))?;
    if stripped {
        return Err(gone(read.id, tail).into());
    }
    let from = read.from_seq.max(1);
    let rewinds = rewinds.unwrap_or_default();
    let mut slice = Slice { tail, ended: status.is_ended(), rewinds, next_seq: from, ..Slice::default() };
    if from > tail {
        return Ok(slice);
    }
    match read.what {
        What::Events => {
            let room = Room::new(&Read { bytes_max: read.bytes_max.min(PAGE_BYTES), ..read });
            events(db, n, from, room, &mut slice)?;
        }
        What::YieldHashes => hashes(db, n, from, read.limit, EventCode::Yield, &mut slice)?,
        What::EventHashes => hashes(db, n, from, read.limit, EventCode::Event, &mut slice)?,
    }
    Ok(slice)
}

/// The batch that has `seq`, and those after it.
macro_rules! from_seq {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM log WHERE n = ?1 AND seq >= \
             coalesce((SELECT seq FROM log WHERE n = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1), 0) ORDER BY seq"
        )
    };
}

fn events(db: &Connection, n: i64, from: u64, mut room: Room, slice: &mut Slice) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached(from_seq!("seq, epoch, attempt, at, count, heads, data"))?;
    let mut found = statement.query((n, signed(from)))?;
    while !room.is_full()
        && let Some(row) = found.next()?
        && let Some(part) = room.cut(&rows::batch(row)?, from)
    {
        slice.next_seq = part.end_seq();
        slice.events.push(part.compact());
    }
    Ok(())
}

fn hashes(
    db: &Connection,
    n: i64,
    from: u64,
    limit: usize,
    code: EventCode,
    slice: &mut Slice,
) -> rusqlite::Result<()> {
    slice.next_seq = slice.tail + 1;
    let mut statement = db.prepare_cached(from_seq!("seq, heads"))?;
    let mut found = statement.query((n, signed(from)))?;
    while let Some(row) = found.next()? {
        let first = unsigned(row.get(0)?);
        for (seq, head) in (first..).zip(unpack(row.get_ref(1)?.as_blob()?)) {
            if seq < from || head.code != code || head.is_void(seq, &slice.rewinds) {
                continue;
            }
            if slice.hashes.len() == limit {
                slice.next_seq = seq;
                return Ok(());
            }
            slice.hashes.push(Hashed { seq, index: head.index, hash: head.hash });
        }
    }
    Ok(())
}

pub(super) fn doc(db: &Connection, key: String, now: u64) -> Result<Option<Doc>, Fault> {
    let sql = "SELECT version, bytes FROM doc WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
    let found = db.prepare_cached(sql)?.query_row((&key, signed(now)), |row| Ok((row.get(0)?, row.get(1)?))).optional();
    Ok(found?.map(|(version, bytes)| Doc { key, version: unsigned(version), bytes }))
}

pub(super) fn docs(db: &Connection, prefix: &str, now: u64) -> Result<Vec<Doc>, Fault> {
    let sql = "SELECT key, version, bytes FROM doc WHERE key >= ?1 AND (expires IS NULL OR expires > ?2) ORDER BY key";
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query((prefix, signed(now)))?;
    let mut docs = Vec::new();
    while let Some(row) = found.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        docs.push(Doc { key, version: unsigned(row.get(1)?), bytes: row.get(2)? });
    }
    Ok(docs)
}
