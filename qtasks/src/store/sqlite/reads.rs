//! What is read, each in one snapshot.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use super::super::{
    Claim, Claimed, Doc, Hashed, List, Listed, Read, Room, Slice, Stats, What, cursor, gone, not_found, page,
};
use super::damage::{doc_sum, tasks_of};
use super::limits::{gates, is_offered, next_claim};
use super::log;
use super::rows::{self, Head, signed, unsigned};
use super::tx::{Fault, limit, next_due};
use crate::error::{Error, ErrorKind};
use crate::event::EventCode;
use crate::event::packed::unpack;
use crate::task::{Status, TaskId, TaskRecord};

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
        records.push(rows::by_id(db, *id)?.and_then(rows::Whole::record));
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
        let record = rows::by_n(db, n)?.and_then(rows::Whole::record);
        // The index of tags may be damaged.
        let has_tag = |r: &TaskRecord| list.tag.as_ref().is_none_or(|tag| r.tags.contains(tag));
        tasks.extend(record.filter(|record| has_tag(record)));
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

/// The pairs and statuses that match.
fn sorts(db: &Connection, list: &List) -> rusqlite::Result<Vec<(i64, i64)>> {
    let sql = "SELECT pair FROM pair WHERE (?1 IS NULL OR name = ?1) AND (?2 IS NULL OR queue = ?2)";
    let mut statement = db.prepare_cached(sql)?;
    let pairs = statement.query_map((&list.name, &list.queue), |row| row.get(0))?;
    let pairs = pairs.collect::<rusqlite::Result<Vec<i64>>>()?;
    let wanted = Status::ALL.into_iter().filter(|s| list.status.is_empty() || list.status.contains(s));
    let wanted: Vec<i64> = wanted.map(|status| status as i64).collect();
    Ok(pairs.into_iter().flat_map(|pair| wanted.iter().map(move |status| (pair, *status))).collect())
}

pub(super) fn stats(db: &Connection) -> Result<Stats, Fault> {
    let mut statement = db.prepare_cached("SELECT pair, queue FROM pair")?;
    let mut found = statement.query([])?;
    let mut queues: BTreeMap<String, BTreeMap<Status, u64>> = BTreeMap::new();
    while let Some(row) = found.next()? {
        let (pair, Ok(queue)) = (row.get(0)?, row.get::<_, String>(1)) else { continue };
        for status in Status::ALL {
            let tasks = tasks_of(db, pair, status)?;
            if tasks > 0 {
                *queues.entry(queue.clone()).or_default().entry(status).or_default() += tasks;
            }
        }
    }
    Ok(Stats { queues })
}

pub(super) fn read(db: &Connection, read: Read) -> Result<Slice, Fault> {
    let head = rows::head(db, read.id)?.ok_or_else(|| not_found(read.id))?;
    let refused = |damage| Error::new(ErrorKind::Damaged, format!("task {}: {damage}", read.id));
    let Head { n, tail, ended, rewinds, stripped } = head.map_err(refused)?;
    if stripped {
        return Err(gone(read.id, tail).into());
    }
    let from = read.from_seq.max(1);
    let mut slice = Slice { tail, ended, rewinds, next_seq: from, ..Slice::default() };
    if from > tail {
        return Ok(slice);
    }
    match read.what {
        What::Events => events(db, n, read, &mut slice)?,
        What::YieldHashes => hashes(db, n, read, EventCode::Yield, &mut slice)?,
        What::EventHashes => hashes(db, n, read, EventCode::Event, &mut slice)?,
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

/// Why a log can't be read on.
const BROKEN: &str = "the stored events are missing, or are not those that were written";

fn events(db: &Connection, n: i64, read: Read, slice: &mut Slice) -> Result<(), Fault> {
    let mut statement = db.prepare_cached(from_seq!("seq, epoch, attempt, at, count, heads, sum, data"))?;
    let mut found = statement.query((n, signed(slice.next_seq)))?;
    let mut room = Room::new(&Read { bytes_max: read.bytes_max.min(PAGE_BYTES), ..read });
    while !room.is_full()
        && let Some(row) = found.next()?
    {
        if !slice.events.is_empty() && row.get::<_, i64>(0).is_ok_and(|seq| unsigned(seq) < slice.next_seq) {
            // Another row has its place.
            continue;
        }
        let batch = log::batch(n, row)?.filter(|b| b.first_seq() <= slice.next_seq && slice.next_seq < b.end_seq());
        let Some(batch) = batch else {
            // What is before it can be read.
            return match slice.events.is_empty() {
                true => Err(page::damaged(read.id, slice.next_seq, BROKEN).into()),
                false => Ok(()),
            };
        };
        let Some(part) = room.cut(&batch, slice.next_seq) else { break };
        slice.next_seq = part.end_seq();
        slice.events.push(part.compact());
    }
    Ok(())
}

fn hashes(db: &Connection, n: i64, read: Read, code: EventCode, slice: &mut Slice) -> Result<(), Fault> {
    let from = slice.next_seq;
    let mut statement = db.prepare_cached(from_seq!("seq, epoch, attempt, at, count, heads, sum"))?;
    let mut found = statement.query((n, signed(from)))?;
    let mut next = from;
    while let Some(row) = found.next()? {
        let part = log::heads(n, row)?.filter(|(stamp, ..)| stamp.seq <= next);
        let Some((stamp, count, heads)) = part else { break };
        let before = next;
        for (seq, head) in (stamp.seq..).zip(unpack(heads).take(count)) {
            next = next.max(seq + 1);
            if seq < from || head.code != code || head.is_void(seq, &slice.rewinds) {
                continue;
            }
            if slice.hashes.len() == read.limit {
                slice.next_seq = seq;
                return Ok(());
            }
            slice.hashes.push(Hashed { seq, index: head.index, hash: head.hash });
        }
        if next == before || next != stamp.seq.saturating_add(count as u64) {
            break;
        }
    }
    if next <= slice.tail {
        return Err(page::damaged(read.id, next, BROKEN).into());
    }
    slice.next_seq = next;
    Ok(())
}

pub(super) fn doc(db: &Connection, key: &str, now: u64) -> rusqlite::Result<Option<Doc>> {
    let sql = "SELECT key, version, bytes, expires, sum FROM doc WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
    let found = db.prepare_cached(sql)?.query_row((key, signed(now)), |row| Ok(sound_doc(row))).optional()?;
    Ok(found.flatten())
}

/// Reads the columns key, version, bytes, expires, sum, from one on; `None` if they are damaged.
pub(super) fn doc_of(row: &rusqlite::Row<'_>, at: usize) -> Option<Doc> {
    let (key, version) = (row.get::<_, String>(at).ok()?, row.get::<_, i64>(at + 1).ok()?);
    let bytes = row.get::<_, Vec<u8>>(at + 2).ok()?;
    let (expires, sum): (Option<i64>, Option<i64>) = (row.get(at + 3).ok()?, row.get(at + 4).ok()?);
    let sound = sum.is_none_or(|sum| sum == doc_sum(&key, version, &bytes, expires));
    sound.then_some(Doc { key, version: unsigned(version), bytes })
}

/// A document. One that is damaged is as one that is not there, and can be put anew.
fn sound_doc(row: &rusqlite::Row<'_>) -> Option<Doc> {
    let doc = doc_of(row, 0);
    if doc.is_none() {
        let key = row.get_ref(0).ok().and_then(|key| key.as_bytes().ok()).map(String::from_utf8_lossy);
        let message = format!("the document {key:?} is damaged: restore the store from a copy");
        let error = Error::new(ErrorKind::Damaged, message);
        crate::trouble::store_failed(&error, "a stored document is taken for one that is not there");
    }
    doc
}

pub(super) fn docs(db: &Connection, prefix: &str, now: u64) -> Result<Vec<Doc>, Fault> {
    let sql = "SELECT key, version, bytes, expires, sum FROM doc \
         WHERE key >= ?1 AND (expires IS NULL OR expires > ?2) ORDER BY key";
    let mut statement = db.prepare_cached(sql)?;
    let mut found = statement.query((prefix, signed(now)))?;
    let mut docs = Vec::new();
    while let Some(row) = found.next()? {
        match row.get_ref(0)?.as_bytes() {
            Ok(key) if key.starts_with(prefix.as_bytes()) => docs.extend(sound_doc(row)),
            Ok(_) => break,
            Err(_) => {}
        }
    }
    Ok(docs)
}
