//! What is in a row, read and written.

use std::time::Duration;

use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, ToSql, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::ClaimedTask;
use super::super::life::{Fixed, Life};
use crate::event::{EventBatch, EventCode, Stamp};
use crate::json::Json;
use crate::task::time::from_ms;
use crate::task::{Rewind, Status, TaskId, TaskRecord};

/// The columns of a [`Life`], in its order.
macro_rules! life_columns {
    () => {
        "t.status, t.due, t.due_at, t.expires, t.updated, t.started, t.ended, t.attempt, t.epoch, t.failures, \
         t.crashes, t.worker, t.yields, t.yields_high, t.tail, t.bytes, t.rewinds, t.last_epoch, t.last_after, \
         t.last_count, t.cancel_reason, t.final_value, t.error, t.lease_until, t.retention"
    };
}

/// What a record tells beside, from column 26 on: `n` is between the two.
macro_rules! fixed_columns {
    () => {
        "t.n, t.id, p.name, p.queue, t.priority, t.created, coalesce(t.args, a.args, 'null'), t.tags, t.retry_of, \
         t.parent, t.retry, t.time_limit, t.idle_limit, t.trace"
    };
}

const LIFE: &str = concat!("SELECT ", life_columns!(), ", t.n, t.pair FROM task t WHERE t.id = ?1");
const FROM: &str = " FROM task t JOIN pair p ON p.pair = t.pair LEFT JOIN large_args a ON a.n = t.n WHERE ";
const WRITE: &str = "UPDATE task SET status = ?2, due = ?3, due_at = ?4, expires = ?5, updated = ?6, started = ?7, ended = ?8, \
     attempt = ?9, epoch = ?10, failures = ?11, crashes = ?12, worker = ?13, yields = ?14, yields_high = ?15, \
     tail = ?16, bytes = ?17, rewinds = ?18, last_epoch = ?19, last_after = ?20, last_count = ?21, \
     cancel_reason = ?22, final_value = ?23, error = ?24, lease_until = ?25 WHERE n = ?1";
/// What an append changes: no index knows of it.
const PROGRESS: &str = "UPDATE task SET updated = ?2, crashes = ?3, yields = ?4, yields_high = ?5, tail = ?6, bytes = ?7, \
     rewinds = ?8, last_epoch = ?9, last_after = ?10, last_count = ?11, cancel_reason = ?12 WHERE n = ?1";
/// The same, of one that ends the task.
const END: &str = "UPDATE task SET updated = ?2, crashes = ?3, yields = ?4, yields_high = ?5, tail = ?6, bytes = ?7, \
     rewinds = ?8, last_epoch = ?9, last_after = ?10, last_count = ?11, cancel_reason = ?12, status = ?13, \
     ended = ?14, final_value = ?15, error = ?16 WHERE n = ?1";
const CLAIM: &str = "UPDATE task SET status = ?2, updated = ?3, started = ?4, attempt = ?5, epoch = ?6, worker = ?7, lease_until = ?8 \
     WHERE n = ?1";
const ADD: &str = "INSERT INTO task (n, id, pair, priority, created, status, due, due_at, expires, updated, attempt, \
     epoch, failures, crashes, yields, yields_high, tail, bytes, lease_until, args, tags, retry_of, parent, retry, \
     time_limit, unique_key, idempotency_key, same_call, retention, idle_limit, trace) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?5, 0, 0, 0, 0, \
     0, 0, 0, 0, 0, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21) ON CONFLICT (id) DO NOTHING";
const KEEP: &str =
    "INSERT INTO log (n, seq, epoch, attempt, at, count, heads, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// An unsigned number where SQLite has signed ones. The few that could be larger are instants that never come.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What `signed` wrote.
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn number<T: TryFrom<i64> + Default>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    Ok(T::try_from(row.get(column)?).unwrap_or_default())
}

fn some_number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(unsigned))
}

pub(super) fn status(code: i64) -> Status {
    usize::try_from(code).ok().and_then(|i| Status::ALL.get(i).copied()).unwrap_or(Status::Held)
}

/// JSON text of our own; an error for what can't be read, as for any other wrong type.
fn parsed<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let text = match row.get_ref(column)? {
        ValueRef::Null => return Ok(None),
        other => other.as_str()?,
    };
    let wrong =
        |e: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, e.into());
    serde_json::from_str(text).map(Some).map_err(wrong)
}

pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("data of our own is JSON")
}

/// A value that was JSON when it was stored.
pub(super) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Json>> {
    Ok(row.get::<_, Option<String>>(column)?.map(|text| Json::trusted(text.into())))
}

struct Id(TaskId);

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        let id = TaskId::from_bytes(value.as_blob()?);
        id.map(Id).ok_or(rusqlite::types::FromSqlError::InvalidType)
    }
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<TaskId> {
    Ok(row.get::<_, Id>(column)?.0)
}

fn life(row: &Row<'_>) -> rusqlite::Result<Life> {
    let last = (some_number(row, 17)?, some_number(row, 18)?, some_number(row, 19)?);
    Ok(Life {
        status: status(row.get(0)?),
        due: number(row, 1)?,
        due_at: some_number(row, 2)?,
        expires: some_number(row, 3)?,
        updated: number(row, 4)?,
        started: some_number(row, 5)?,
        ended: some_number(row, 6)?,
        attempt: number(row, 7)?,
        epoch: number(row, 8)?,
        failures: number(row, 9)?,
        crashes: number(row, 10)?,
        worker: row.get(11)?,
        yields: number(row, 12)?,
        yields_high: number(row, 13)?,
        tail: number(row, 14)?,
        bytes: number(row, 15)?,
        rewinds: parsed::<Vec<Rewind>>(row, 16)?.unwrap_or_default(),
        last_append: match last {
            (Some(epoch), Some(after), Some(count)) => Some((epoch, after, count)),
            _ => None,
        },
        cancel_reason: row.get(20)?,
        final_value: json(row, 21)?,
        error: parsed(row, 22)?,
        lease_until: number(row, 23)?,
        retention: some_number(row, 24)?,
    })
}

/// A task that is to be changed.
pub(super) struct Found {
    pub(super) n: i64,
    pub(super) pair: i64,
    pub(super) life: Life,
}

fn rewinds(life: &Life) -> Option<String> {
    (!life.rewinds.is_empty()).then(|| text(&life.rewinds))
}

/// Epoch, tail before, number of events.
fn last_append(life: &Life) -> (Option<i64>, Option<i64>, Option<i64>) {
    let last = life.last_append;
    (last.map(|l| signed(l.0)), last.map(|l| signed(l.1)), last.map(|l| signed(l.2)))
}

/// Statements that a transaction uses again and again: each is looked up once in it.
pub(super) struct Statements<'a> {
    db: &'a Connection,
    add: Option<CachedStatement<'a>>,
    find: Option<CachedStatement<'a>>,
    whole: Option<CachedStatement<'a>>,
    claim: Option<CachedStatement<'a>>,
    progress: Option<CachedStatement<'a>>,
    end: Option<CachedStatement<'a>>,
    keep: Option<CachedStatement<'a>>,
}

/// The statement that is kept in a place, prepared if need be.
fn kept<'s, 'a>(
    statement: &'s mut Option<CachedStatement<'a>>,
    db: &'a Connection,
    sql: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'a>> {
    if statement.is_none() {
        *statement = Some(db.prepare_cached(sql)?);
    }
    Ok(statement.as_mut().expect("just prepared"))
}

/// How much of a task is to be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// What an append changes that does not end the task: no index knows of it.
    Progress,
    /// The same, and that it has ended.
    End,
    /// What a claim changes.
    Claim,
    /// Anything.
    All,
}

impl<'a> Statements<'a> {
    pub(super) fn new(db: &'a Connection) -> Self {
        Statements { db, add: None, find: None, whole: None, claim: None, progress: None, end: None, keep: None }
    }

    /// Inserts a row, unless its id is there.
    pub(super) fn add(&mut self) -> rusqlite::Result<&mut CachedStatement<'a>> {
        kept(&mut self.add, self.db, ADD)
    }

    pub(super) fn find(&mut self, id: TaskId) -> rusqlite::Result<Option<Found>> {
        let found = |row: &Row<'_>| Ok(Found { n: row.get(25)?, pair: row.get(26)?, life: life(row)? });
        kept(&mut self.find, self.db, LIFE)?.query_row([id.as_bytes()], found).optional()
    }

    pub(super) fn by_n(&mut self, n: i64) -> rusqlite::Result<Option<Whole>> {
        kept(&mut self.whole, self.db, whole_sql(false))?.query_row([n], whole).optional()
    }

    /// Writes what became of a task.
    pub(super) fn save(&mut self, n: i64, life: &Life, changed: Changed) -> rusqlite::Result<()> {
        match changed {
            Changed::Claim => self.save_claim(n, life),
            Changed::Progress => self.save_append(n, life, false),
            Changed::End => self.save_append(n, life, true),
            Changed::All => self.save_all(n, life),
        }
    }

    fn save_claim(&mut self, n: i64, life: &Life) -> rusqlite::Result<()> {
        let claim = kept(&mut self.claim, self.db, CLAIM)?;
        let saved = claim.execute(params![
            n,
            life.status as i64,
            signed(life.updated),
            life.started.map(signed),
            life.attempt,
            signed(life.epoch),
            life.worker,
            signed(life.lease_until),
        ]);
        saved.map(drop)
    }

    fn save_append(&mut self, n: i64, life: &Life, ended: bool) -> rusqlite::Result<()> {
        let (last_epoch, last_after, last_count) = last_append(life);
        let values: [&dyn ToSql; 16] = [
            &n,
            &signed(life.updated),
            &life.crashes,
            &signed(life.yields),
            &signed(life.yields_high),
            &signed(life.tail),
            &signed(life.bytes),
            &rewinds(life),
            &last_epoch,
            &last_after,
            &last_count,
            &life.cancel_reason,
            &(life.status as i64),
            &life.ended.map(signed),
            &life.final_value.as_ref().map(Json::as_str),
            &life.error.as_ref().map(text),
        ];
        let saved = match ended {
            true => kept(&mut self.end, self.db, END)?.execute(&values[..]),
            false => kept(&mut self.progress, self.db, PROGRESS)?.execute(&values[..12]),
        };
        saved.map(drop)
    }

    fn save_all(&mut self, n: i64, life: &Life) -> rusqlite::Result<()> {
        let (last_epoch, last_after, last_count) = last_append(life);
        let saved = self.db.prepare_cached(WRITE)?.execute(params![
            n,
            life.status as i64,
            signed(life.due),
            life.due_at.map(signed),
            life.expires.map(signed),
            signed(life.updated),
            life.started.map(signed),
            life.ended.map(signed),
            life.attempt,
            signed(life.epoch),
            life.failures,
            life.crashes,
            life.worker,
            signed(life.yields),
            signed(life.yields_high),
            signed(life.tail),
            signed(life.bytes),
            rewinds(life),
            last_epoch,
            last_after,
            last_count,
            life.cancel_reason,
            life.final_value.as_ref().map(Json::as_str),
            life.error.as_ref().map(text),
            signed(life.lease_until),
        ]);
        saved.map(drop)
    }

    /// Writes what was appended.
    pub(super) fn keep(&mut self, n: i64, batch: &EventBatch) -> rusqlite::Result<()> {
        let (heads, data) = batch.pack();
        let stamp = batch.stamp();
        let at = signed(crate::task::time::to_ms(stamp.at));
        let (seq, count) = (signed(batch.first_seq()), i64::try_from(batch.len()).unwrap_or(i64::MAX));
        let values = (n, seq, signed(stamp.epoch), stamp.attempt, at, count, heads, data);
        kept(&mut self.keep, self.db, KEEP)?.execute(values).map(drop)
    }

    /// What a worker gets of a task that it has claimed.
    pub(super) fn claimed(&self, task: Whole) -> rusqlite::Result<ClaimedTask> {
        let Whole { n, life, fixed, retry, time_limit, idle_limit } = task;
        let (mut last_yield, mut checkpoint) = (None, None);
        if life.tail > 0 {
            last_yield = last_yield_of(self.db, n, &life)?;
            let mut stored = self.db.prepare_cached("SELECT value FROM checkpoint WHERE n = ?1")?;
            checkpoint = stored.query_row([n], |row| json(row, 0)).optional()?.flatten();
        }
        let bytes = life.bytes;
        Ok(ClaimedTask { record: life.record(fixed), bytes, last_yield, checkpoint, retry, time_limit, idle_limit })
    }
}

/// A whole task.
pub(super) struct Whole {
    pub(super) n: i64,
    pub(super) life: Life,
    pub(super) fixed: Fixed,
    pub(super) retry: Option<crate::retry::RetryPolicy>,
    pub(super) time_limit: Option<Duration>,
    pub(super) idle_limit: Option<Duration>,
}

impl Whole {
    pub(super) fn record(self) -> TaskRecord {
        self.life.record(self.fixed)
    }
}

fn whole(row: &Row<'_>) -> rusqlite::Result<Whole> {
    let id_of = |column| row.get::<_, Option<Id>>(column).map(|id| id.map(|id| id.0));
    let limit = |column| {
        let nanos: Option<i64> = row.get(column)?;
        Ok::<_, rusqlite::Error>(
            nanos.map(|n| if n == i64::MAX { Duration::MAX } else { Duration::from_nanos(unsigned(n)) }),
        )
    };
    Ok(Whole {
        n: row.get(25)?,
        life: life(row)?,
        fixed: Fixed {
            id: id(row, 26)?,
            name: row.get(27)?,
            queue: row.get(28)?,
            priority: number(row, 29)?,
            created: number(row, 30)?,
            args: json(row, 31)?.unwrap_or_else(Json::null),
            tags: parsed(row, 32)?.unwrap_or_default(),
            retry_of: id_of(33)?,
            parent: id_of(34)?,
            trace: parsed(row, 38)?,
        },
        retry: parsed(row, 35)?,
        time_limit: limit(36)?,
        idle_limit: limit(37)?,
    })
}

/// A time limit as it is stored, in nanoseconds; 292 years are no limit.
pub(super) fn nanos(limit: Duration) -> i64 {
    i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn by_id(db: &Connection, id: TaskId) -> rusqlite::Result<Option<Whole>> {
    let sql = whole_sql(true);
    db.prepare_cached(sql)?.query_row([id.as_bytes()], whole).optional()
}

pub(super) fn by_n(db: &Connection, n: i64) -> rusqlite::Result<Option<Whole>> {
    db.prepare_cached(whole_sql(false))?.query_row([n], whole).optional()
}

/// The text that reads a whole task, by id or by number.
fn whole_sql(by_id: bool) -> &'static str {
    use std::sync::LazyLock;
    static BY_ID: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {}, {}{FROM}t.id = ?1", life_columns!(), fixed_columns!()));
    static BY_N: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {}, {}{FROM}t.n = ?1", life_columns!(), fixed_columns!()));
    if by_id { &BY_ID } else { &BY_N }
}

fn last_yield_of(db: &Connection, n: i64, life: &Life) -> rusqlite::Result<Option<Json>> {
    let Some(wanted) = life.yields.checked_sub(1) else { return Ok(None) };
    let sql = "SELECT seq, epoch, attempt, at, count, heads, data FROM log WHERE n = ?1 ORDER BY seq DESC";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([n])?;
    while let Some(row) = rows.next()? {
        let batch = batch(row)?;
        let holds = |e: &crate::event::EventRef<'_>| {
            e.code == EventCode::Yield && e.index == wanted && !crate::event::is_void(e, &life.rewinds)
        };
        if let Some(event) = batch.iter().rev().find(holds) {
            return Ok(Some(event.json()));
        }
    }
    Ok(None)
}

/// Reads the columns seq, epoch, attempt, at, count, heads, data.
pub(super) fn batch(row: &Row<'_>) -> rusqlite::Result<EventBatch> {
    let stamp =
        Stamp { seq: number(row, 0)?, epoch: number(row, 1)?, attempt: number(row, 2)?, at: from_ms(number(row, 3)?) };
    let batch = EventBatch::unpacked(stamp, number(row, 4)?, row.get_ref(5)?.as_blob()?, row.get(6)?);
    batch.ok_or_else(|| {
        rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Blob, "a damaged log".into())
    })
}
