//! What is in a row, read and written.

use std::time::Duration;

use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};
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
         t.last_count, t.cancel_reason, t.final_value, t.error, t.lease_until"
    };
}

/// What a record tells beside, from column 25 on: `n` is between the two.
macro_rules! fixed_columns {
    () => {
        "t.n, t.id, p.name, p.queue, t.priority, t.created, coalesce(t.args, a.args, 'null'), t.tags, t.retry_of, \
         t.parent, t.retry, t.time_limit"
    };
}

const LIFE: &str = concat!("SELECT ", life_columns!(), ", t.n, t.pair FROM task t WHERE t.id = ?1");
const FROM: &str = " FROM task t JOIN pair p ON p.pair = t.pair LEFT JOIN large_args a ON a.n = t.n WHERE ";
const WRITE: &str = "UPDATE task SET status = ?2, due = ?3, due_at = ?4, expires = ?5, updated = ?6, started = ?7, ended = ?8, \
     attempt = ?9, epoch = ?10, failures = ?11, crashes = ?12, worker = ?13, yields = ?14, yields_high = ?15, \
     tail = ?16, bytes = ?17, rewinds = ?18, last_epoch = ?19, last_after = ?20, last_count = ?21, \
     cancel_reason = ?22, final_value = ?23, error = ?24, lease_until = ?25 WHERE n = ?1";
/// What changes while the status does not: no index knows of it.
const PROGRESS: &str = "UPDATE task SET updated = ?2, crashes = ?3, yields = ?4, yields_high = ?5, tail = ?6, bytes = ?7, \
     rewinds = ?8, last_epoch = ?9, last_after = ?10, last_count = ?11, cancel_reason = ?12, lease_until = ?13 WHERE n = ?1";

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
    })
}

/// A task that is to be changed.
pub(super) struct Found {
    pub(super) n: i64,
    pub(super) pair: i64,
    pub(super) life: Life,
}

pub(super) fn find(db: &Connection, id: TaskId) -> rusqlite::Result<Option<Found>> {
    let found = |row: &Row<'_>| Ok(Found { n: row.get(24)?, pair: row.get(25)?, life: life(row)? });
    db.prepare_cached(LIFE)?.query_row([id.as_bytes()], found).optional()
}

/// Writes what became of a task; `moved`: into another status.
pub(super) fn save(db: &Connection, n: i64, life: &Life, moved: bool) -> rusqlite::Result<()> {
    let some = |n: Option<u64>| n.map_or(Value::Null, |n| Value::Integer(signed(n)));
    let words = |s: Option<&String>| s.map_or(Value::Null, |s| Value::Text(s.clone()));
    let number = |n: u64| Value::Integer(signed(n));
    let rewinds = if life.rewinds.is_empty() { Value::Null } else { Value::Text(text(&life.rewinds)) };
    let last = life.last_append;
    let last = [some(last.map(|l| l.0)), some(last.map(|l| l.1)), some(last.map(|l| l.2))];
    if !moved {
        let [a, b, c] = last;
        let values = [
            Value::Integer(n),
            number(life.updated),
            number(life.crashes.into()),
            number(life.yields),
            number(life.yields_high),
            number(life.tail),
            number(life.bytes),
            rewinds,
            a,
            b,
            c,
            words(life.cancel_reason.as_ref()),
            number(life.lease_until),
        ];
        return db.prepare_cached(PROGRESS)?.execute(params_from_iter(values)).map(drop);
    }
    let [a, b, c] = last;
    let json = life.final_value.as_ref().map(|v| v.as_str().to_owned());
    let values = [
        Value::Integer(n),
        Value::Integer(life.status as i64),
        number(life.due),
        some(life.due_at),
        some(life.expires),
        number(life.updated),
        some(life.started),
        some(life.ended),
        number(life.attempt.into()),
        number(life.epoch),
        number(life.failures.into()),
        number(life.crashes.into()),
        words(life.worker.as_ref()),
        number(life.yields),
        number(life.yields_high),
        number(life.tail),
        number(life.bytes),
        rewinds,
        a,
        b,
        c,
        words(life.cancel_reason.as_ref()),
        json.map_or(Value::Null, Value::Text),
        life.error.as_ref().map_or(Value::Null, |e| Value::Text(text(e))),
        number(life.lease_until),
    ];
    db.prepare_cached(WRITE)?.execute(params_from_iter(values)).map(drop)
}

/// A whole task.
pub(super) struct Whole {
    pub(super) n: i64,
    pub(super) life: Life,
    pub(super) fixed: Fixed,
    pub(super) retry: Option<crate::retry::RetryPolicy>,
    pub(super) time_limit: Option<Duration>,
}

impl Whole {
    pub(super) fn record(self) -> TaskRecord {
        self.life.record(self.fixed)
    }
}

fn whole(row: &Row<'_>) -> rusqlite::Result<Whole> {
    let id_of = |column| row.get::<_, Option<Id>>(column).map(|id| id.map(|id| id.0));
    let nanos: Option<i64> = row.get(35)?;
    Ok(Whole {
        n: row.get(24)?,
        life: life(row)?,
        fixed: Fixed {
            id: id(row, 25)?,
            name: row.get(26)?,
            queue: row.get(27)?,
            priority: number(row, 28)?,
            created: number(row, 29)?,
            args: json(row, 30)?.unwrap_or_else(Json::null),
            tags: parsed(row, 31)?.unwrap_or_default(),
            retry_of: id_of(32)?,
            parent: id_of(33)?,
        },
        retry: parsed(row, 34)?,
        time_limit: nanos.map(|n| if n == i64::MAX { Duration::MAX } else { Duration::from_nanos(unsigned(n)) }),
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

/// What a worker gets of a task that it has claimed.
pub(super) fn claimed(db: &Connection, task: Whole) -> rusqlite::Result<ClaimedTask> {
    let Whole { n, life, fixed, retry, time_limit } = task;
    let (mut last_yield, mut checkpoint) = (None, None);
    if life.tail > 0 {
        last_yield = last_yield_of(db, n, &life)?;
        let mut stored = db.prepare_cached("SELECT value FROM checkpoint WHERE n = ?1")?;
        checkpoint = stored.query_row([n], |row| json(row, 0)).optional()?.flatten();
    }
    let bytes = life.bytes;
    Ok(ClaimedTask { record: life.record(fixed), bytes, last_yield, checkpoint, retry, time_limit })
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

/// Writes what was appended.
pub(super) fn keep(db: &Connection, n: i64, batch: &EventBatch) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO log (n, seq, epoch, attempt, at, count, heads, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (heads, data) = batch.pack();
    let stamp = batch.stamp();
    db.prepare_cached(sql)?
        .execute((
            n,
            signed(batch.first_seq()),
            signed(stamp.epoch),
            stamp.attempt,
            signed(crate::task::time::to_ms(stamp.at)),
            i64::try_from(batch.len()).unwrap_or(i64::MAX),
            heads,
            data,
        ))
        .map(drop)
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
