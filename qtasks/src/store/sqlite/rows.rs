//! What is in a row, read and written.

use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params_from_iter};
use serde::Serialize;

use super::super::life::{Fixed, Life};
use super::super::{ClaimedTask, NewTask};
use super::cells::{Cells, Damage, bytes};
use super::log;
use super::sums::{Sum, half, join, large, split};
use crate::error::{Error, ErrorKind};
use crate::event::EventBatch;
use crate::json::Json;
use crate::task::{FailureKind, Rewind, Status, TaskId, TaskRecord};

/// The columns that the first half of a row's `sum` covers, in its order. Those of [`Life`] begin with `status`.
const LIFE: [&str; 26] = [
    "n",
    "id",
    "pair",
    "status",
    "due",
    "due_at",
    "expires",
    "updated",
    "started",
    "ended",
    "attempt",
    "epoch",
    "failures",
    "crashes",
    "worker",
    "yields",
    "yields_high",
    "tail",
    "bytes",
    "rewinds",
    "last_epoch",
    "last_after",
    "last_count",
    "cancel_reason",
    "error",
    "stripped",
];

/// The columns after those: the checksum, what its second half covers, and what it does not.
const LIFE_MORE: [&str; 4] = ["sum", "final_value", "lease_until", "retention"];

/// The columns that the first half of a row's `fixed_sum` covers beside `n`, `id` and `retention`, with those of its
/// pair.
const FIXED: [&str; 14] = [
    "p.queue",
    "p.name",
    "t.priority",
    "t.created",
    "t.tags",
    "t.retry_of",
    "t.parent",
    "t.retry",
    "t.time_limit",
    "t.idle_limit",
    "t.trace",
    "t.unique_key",
    "t.idempotency_key",
    "t.same_call",
];

/// The columns after those: the checksum, and what its second half covers.
const FIXED_MORE: &str = "t.fixed_sum, coalesce(t.args, a.args)";

/// Where a column of [`LIFE`] or [`LIFE_MORE`] is.
const fn at(name: &str) -> usize {
    let mut i = 0;
    while i < LIFE.len() {
        if same(LIFE[i], name) {
            return i;
        }
        i += 1;
    }
    let mut i = 0;
    while i < LIFE_MORE.len() {
        if same(LIFE_MORE[i], name) {
            return LIFE.len() + i;
        }
        i += 1;
    }
    panic!("there is no such column")
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// Where the columns of [`FIXED`] begin.
const FIXED_AT: usize = LIFE.len() + LIFE_MORE.len();
const FIXED_SUM: usize = FIXED_AT + FIXED.len();
const ARGS: usize = FIXED_SUM + 1;

const FROM: &str = " FROM task t LEFT JOIN pair p ON p.pair = t.pair LEFT JOIN large_args a ON a.n = t.n WHERE ";

/// The columns that an append changes: no index knows of them.
const PROGRESS: [&str; 11] = [
    "updated",
    "crashes",
    "yields",
    "yields_high",
    "tail",
    "bytes",
    "rewinds",
    "last_epoch",
    "last_after",
    "last_count",
    "cancel_reason",
];
/// The columns that an append changes which ends the task.
const END: [&str; 15] = [
    "updated",
    "crashes",
    "yields",
    "yields_high",
    "tail",
    "bytes",
    "rewinds",
    "last_epoch",
    "last_after",
    "last_count",
    "cancel_reason",
    "status",
    "ended",
    "error",
    "final_value",
];
const ALL: [&str; 24] = [
    "status",
    "due",
    "due_at",
    "expires",
    "updated",
    "started",
    "ended",
    "attempt",
    "epoch",
    "failures",
    "crashes",
    "worker",
    "yields",
    "yields_high",
    "tail",
    "bytes",
    "rewinds",
    "last_epoch",
    "last_after",
    "last_count",
    "cancel_reason",
    "error",
    "final_value",
    "lease_until",
];
const CLAIM: [&str; 7] = ["status", "updated", "started", "attempt", "epoch", "worker", "lease_until"];

const ADD: &str = "INSERT INTO task (n, id, pair, priority, created, status, due, due_at, expires, updated, attempt, \
     epoch, failures, crashes, yields, yields_high, tail, bytes, lease_until, args, tags, retry_of, parent, retry, \
     time_limit, unique_key, idempotency_key, same_call, retention, idle_limit, trace, sum, fixed_sum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?5, 0, 0, 0, 0, \
     0, 0, 0, 0, 0, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23) ON CONFLICT (id) DO NOTHING";
/// A row that stands there already is behind the tail, and of no log.
const KEEP: &str = "INSERT OR REPLACE INTO log (n, seq, epoch, attempt, at, count, heads, data, sum) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// The texts of statements, made once.
struct Texts {
    find_by_id: String,
    find_by_n: String,
    whole_by_id: String,
    whole_by_n: String,
    head: String,
    progress: String,
    end: String,
    claim: String,
    all: String,
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    let of_task = |columns: &[&str]| columns.iter().map(|c| format!("t.{c}")).collect::<Vec<_>>().join(", ");
    let life = format!("{}, {}", of_task(&LIFE), of_task(&LIFE_MORE));
    let whole = format!("SELECT {life}, {}, {FIXED_MORE}{FROM}", FIXED.join(", "));
    let update = |columns: &[&str]| {
        let set = (2..).zip(columns).map(|(i, column)| format!("{column} = ?{i}")).collect::<Vec<_>>().join(", ");
        format!("UPDATE task SET {set}, sum = ?{} WHERE n = ?1", columns.len() + 2)
    };
    Texts {
        find_by_id: format!("SELECT {life} FROM task t WHERE t.id = ?1"),
        find_by_n: format!("SELECT {life} FROM task t WHERE t.n = ?1"),
        whole_by_id: format!("{whole}t.id = ?1"),
        whole_by_n: format!("{whole}t.n = ?1"),
        head: format!("SELECT {}, t.sum FROM task t WHERE t.id = ?1", of_task(&LIFE)),
        progress: update(&PROGRESS),
        end: update(&END),
        claim: update(&CLAIM),
        all: update(&ALL),
    }
});

/// An unsigned number where SQLite has signed ones. The few that could be larger are instants that never come.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What `signed` wrote.
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(super) fn status(code: i64) -> Option<Status> {
    usize::try_from(code).ok().and_then(|i| Status::ALL.get(i).copied())
}

pub(super) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("data of our own is JSON")
}

/// Where a task is kept, with what is stored beside its life.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) n: i64,
    /// `None` where it can't be read.
    pub(super) id: Option<TaskId>,
    pub(super) pair: i64,
    pub(super) stripped: Option<i64>,
}

/// A task that is to be changed.
pub(super) struct Found {
    pub(super) place: Place,
    /// Of a damaged one, as far as it can be read, failed.
    pub(super) life: Life,
    pub(super) damage: Option<Damage>,
    /// It is stored as failed by its damage.
    pub(super) condemned: bool,
}

/// Reads the columns [`LIFE`] and [`LIFE_MORE`].
fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    let mut cells = Cells::of(row);
    let first = Sum::new().columns(row, 0..LIFE.len())?.half();
    let vouched = cells.vouched(const { at("sum") }, first, large(bytes(row, const { at("final_value") })));
    let code: i64 = cells.get(const { at("status") }, "status");
    let place = Place {
        n: cells.get(const { at("n") }, "n"),
        id: cells.some_id(const { at("id") }, "id"),
        pair: cells.get(const { at("pair") }, "pair"),
        stripped: cells.get(const { at("stripped") }, "stripped"),
    };
    if place.id.is_none() && !cells.bad.contains(&"id") {
        cells.bad.push("id");
    }
    let last = [
        ("last_epoch", const { at("last_epoch") }),
        ("last_after", const { at("last_after") }),
        ("last_count", const { at("last_count") }),
    ];
    let last = last.map(|(name, column)| cells.some_number(column, name));
    let mut life = Life {
        status: status(code).unwrap_or_else(|| {
            cells.bad.push("status");
            Status::Failed
        }),
        due: cells.number(const { at("due") }, "due"),
        due_at: cells.some_number(const { at("due_at") }, "due_at"),
        expires: cells.some_number(const { at("expires") }, "expires"),
        updated: cells.number(const { at("updated") }, "updated"),
        started: cells.some_number(const { at("started") }, "started"),
        ended: cells.some_number(const { at("ended") }, "ended"),
        attempt: cells.number(const { at("attempt") }, "attempt"),
        epoch: cells.number(const { at("epoch") }, "epoch"),
        failures: cells.number(const { at("failures") }, "failures"),
        crashes: cells.number(const { at("crashes") }, "crashes"),
        worker: cells.text(const { at("worker") }, "worker"),
        yields: cells.number(const { at("yields") }, "yields"),
        yields_high: cells.number(const { at("yields_high") }, "yields_high"),
        tail: cells.number(const { at("tail") }, "tail"),
        bytes: cells.number(const { at("bytes") }, "bytes"),
        rewinds: cells.parsed::<Vec<Rewind>>(const { at("rewinds") }, "rewinds").unwrap_or_default(),
        last_append: match last {
            [Some(epoch), Some(after), Some(count)] => Some((epoch, after, count)),
            _ => None,
        },
        cancel_reason: cells.text(const { at("cancel_reason") }, "cancel_reason"),
        final_value: cells.json(const { at("final_value") }, "final_value", vouched == Some(true)),
        error: cells.parsed(const { at("error") }, "error"),
        lease_until: cells.number(const { at("lease_until") }, "lease_until"),
        retention: cells.some_number(const { at("retention") }, "retention"),
    };
    let damage = cells.damage(vouched);
    let condemned = life.status == Status::Failed && life.error.as_ref().is_some_and(|e| e.kind == FailureKind::Codec);
    if let Some(damage) = &damage {
        refuse(&mut life, damage);
    }
    Ok(Found { place, life, damage, condemned })
}

/// Shows a task as failed by its damage.
fn refuse(life: &mut Life, damage: &Damage) {
    life.error = Some(damage.failure().in_attempt(life.attempt));
    life.status = Status::Failed;
    life.ended = life.ended.or(Some(life.updated));
    (life.final_value, life.cancel_reason) = (None, None);
}

/// What a reader of a log needs to know of its task.
pub(super) struct Head {
    pub(super) n: i64,
    pub(super) tail: u64,
    pub(super) ended: bool,
    pub(super) rewinds: Vec<Rewind>,
    pub(super) stripped: bool,
}

/// The task whose log is to be read; what is wrong with it, if it is damaged.
pub(super) fn head(db: &Connection, id: TaskId) -> rusqlite::Result<Option<Result<Head, Damage>>> {
    let head = |row: &Row<'_>| {
        let mut cells = Cells::of(row);
        let first = Sum::new().columns(row, 0..LIFE.len())?.half();
        // The second half is of the final value, which is not read here.
        let vouched = match row.get_ref(LIFE.len())? {
            ValueRef::Null => None,
            ValueRef::Integer(sum) => Some(split(sum).0 == first),
            _ => Some(false),
        };
        let status = status(cells.get(const { at("status") }, "status"));
        let head = Head {
            n: cells.get(const { at("n") }, "n"),
            tail: cells.number(const { at("tail") }, "tail"),
            ended: status.is_some_and(Status::is_ended),
            rewinds: cells.parsed(const { at("rewinds") }, "rewinds").unwrap_or_default(),
            stripped: cells.get::<Option<i64>>(const { at("stripped") }, "stripped").is_some(),
        };
        if status.is_none() {
            cells.bad.push("status");
        }
        Ok(cells.damage(vouched).map_or(Ok(head), Err))
    };
    db.prepare_cached(&TEXTS.head)?.query_row([id.as_bytes()], head).optional()
}

/// What is written of a life: the values of [`LIFE`] and [`LIFE_MORE`], the checksum among them.
fn with_values<R>(place: &Place, life: &Life, sums: bool, write: impl FnOnce(&[ValueRef<'_>; 30]) -> R) -> R {
    let rewinds = (!life.rewinds.is_empty()).then(|| text(&life.rewinds));
    let error = life.error.as_ref().map(text);
    let last = life.last_append;
    let number = |n: u64| ValueRef::Integer(signed(n));
    let mut values = [
        ValueRef::Integer(place.n),
        blob(place.id.as_ref()),
        ValueRef::Integer(place.pair),
        ValueRef::Integer(life.status as i64),
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
        word(life.worker.as_deref()),
        number(life.yields),
        number(life.yields_high),
        number(life.tail),
        number(life.bytes),
        word(rewinds.as_deref()),
        some(last.map(|l| l.0)),
        some(last.map(|l| l.1)),
        some(last.map(|l| l.2)),
        word(life.cancel_reason.as_deref()),
        word(error.as_deref()),
        integer(place.stripped),
        ValueRef::Null,
        word(life.final_value.as_ref().map(Json::as_str)),
        number(life.lease_until),
        some(life.retention),
    ];
    if sums && place.id.is_some() {
        let second = large(life.final_value.as_ref().map(Json::as_bytes));
        values[const { at("sum") }] = ValueRef::Integer(join(half(&values[..LIFE.len()]), second));
    }
    write(&values)
}

fn integer(n: Option<i64>) -> ValueRef<'static> {
    n.map_or(ValueRef::Null, ValueRef::Integer)
}

fn some(n: Option<u64>) -> ValueRef<'static> {
    integer(n.map(signed))
}

fn word(text: Option<&str>) -> ValueRef<'_> {
    text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
}

fn blob(id: Option<&TaskId>) -> ValueRef<'_> {
    id.map_or(ValueRef::Null, |id| ValueRef::Blob(id.as_bytes()))
}

/// Statements that a transaction uses again and again: each is looked up once in it.
pub(super) struct Statements<'a> {
    db: &'a Connection,
    /// Rows of this file have checksums.
    pub(super) sums: bool,
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
    pub(super) fn new(db: &'a Connection, sums: bool) -> Self {
        let (find, whole) = (None, None);
        Statements { db, sums, add: None, find, whole, claim: None, progress: None, end: None, keep: None }
    }

    /// Inserts a row, unless its id is there.
    pub(super) fn add(&mut self) -> rusqlite::Result<&mut CachedStatement<'a>> {
        kept(&mut self.add, self.db, ADD)
    }

    pub(super) fn find(&mut self, id: TaskId) -> rusqlite::Result<Option<Found>> {
        kept(&mut self.find, self.db, &TEXTS.find_by_id)?.query_row([id.as_bytes()], found).optional()
    }

    pub(super) fn find_by_n(&mut self, n: i64) -> rusqlite::Result<Option<Found>> {
        self.db.prepare_cached(&TEXTS.find_by_n)?.query_row([n], found).optional()
    }

    pub(super) fn by_n(&mut self, n: i64) -> rusqlite::Result<Option<Whole>> {
        kept(&mut self.whole, self.db, &TEXTS.whole_by_n)?.query_row([n], whole).optional()
    }

    /// Writes what became of a task.
    pub(super) fn save(&mut self, place: &Place, life: &Life, changed: Changed) -> rusqlite::Result<()> {
        const AT_PROGRESS: [usize; 11] = places(PROGRESS);
        const AT_END: [usize; 15] = places(END);
        const AT_CLAIM: [usize; 7] = places(CLAIM);
        const AT_ALL: [usize; 24] = places(ALL);
        let sums = self.sums;
        with_values(place, life, sums, |values| {
            let bound = |columns: &[usize]| {
                let columns = [const { at("n") }]
                    .iter()
                    .chain(columns)
                    .chain(&[const { at("sum") }])
                    .copied()
                    .collect::<Vec<_>>();
                params_from_iter(columns.into_iter().map(|column| ToSqlOutput::Borrowed(values[column])))
            };
            let saved = match changed {
                Changed::Progress => kept(&mut self.progress, self.db, &TEXTS.progress)?.execute(bound(&AT_PROGRESS)),
                Changed::End => kept(&mut self.end, self.db, &TEXTS.end)?.execute(bound(&AT_END)),
                Changed::Claim => kept(&mut self.claim, self.db, &TEXTS.claim)?.execute(bound(&AT_CLAIM)),
                Changed::All => self.db.prepare_cached(&TEXTS.all)?.execute(bound(&AT_ALL)),
            };
            saved.map(drop)
        })
    }

    /// Writes what was appended.
    pub(super) fn keep(&mut self, n: i64, batch: &EventBatch) -> rusqlite::Result<()> {
        let (heads, data) = batch.pack();
        let stamp = batch.stamp();
        let at = signed(crate::task::time::to_ms(stamp.at));
        let (seq, count) = (signed(batch.first_seq()), i64::try_from(batch.len()).unwrap_or(i64::MAX));
        let (epoch, attempt) = (signed(stamp.epoch), i64::from(stamp.attempt));
        let sum = log::sum(&[n, seq, epoch, attempt, at, count], &heads, data);
        let values = (n, seq, epoch, attempt, at, count, heads, data, sum);
        kept(&mut self.keep, self.db, KEEP)?.execute(values).map(drop)
    }

    /// What a worker gets of a task that it has claimed; why not, if what is stored of it is damaged.
    pub(super) fn claimed(&self, task: Whole) -> rusqlite::Result<Result<ClaimedTask, Damage>> {
        let Whole { place, life, fixed, retry, time_limit, idle_limit, .. } = task;
        let (mut last_yield, mut stored) = (None, None);
        if life.tail > 0 {
            last_yield = match log::last_yield_of(self.db, place.n, &life)? {
                Ok(last) => last,
                Err(damage) => return Ok(Err(damage)),
            };
            stored = match checkpoint(self.db, place.n)? {
                Ok(checkpoint) => checkpoint,
                Err(damage) => return Ok(Err(damage)),
            };
        }
        let bytes = life.bytes;
        let record = life.record(fixed);
        Ok(Ok(ClaimedTask { record, bytes, last_yield, checkpoint: stored, retry, time_limit, idle_limit }))
    }

    /// Computes the checksums of a row anew, where what they cover was changed by hand.
    pub(super) fn resum(&mut self, n: i64) -> rusqlite::Result<()> {
        if !self.sums {
            return Ok(());
        }
        let sums = |row: &Row<'_>| {
            let life = Sum::new().columns(row, 0..LIFE.len())?.half();
            let fixed = fixed_half(row)?;
            Ok((join(life, large(bytes(row, const { at("final_value") }))), join(fixed, large(bytes(row, ARGS)))))
        };
        let found = self.db.prepare_cached(&TEXTS.whole_by_n)?.query_row([n], sums).optional()?;
        let Some((life, fixed)) = found else { return Ok(()) };
        let sql = "UPDATE task SET sum = ?2, fixed_sum = ?3 WHERE n = ?1";
        self.db.prepare_cached(sql)?.execute((n, life, fixed)).map(drop)
    }
}

const fn places<const N: usize>(names: [&str; N]) -> [usize; N] {
    let mut all = [0; N];
    let mut i = 0;
    while i < N {
        all[i] = at(names[i]);
        i += 1;
    }
    all
}

fn fixed_half(row: &Row<'_>) -> rusqlite::Result<u32> {
    let mut sum = Sum::new();
    sum.value(row.get_ref(const { at("n") })?)
        .value(row.get_ref(const { at("id") })?)
        .value(row.get_ref(const { at("retention") })?);
    Ok(sum.columns(row, FIXED_AT..FIXED_SUM)?.half())
}

/// The checkpoint of a task.
pub(super) fn checkpoint(db: &Connection, n: i64) -> rusqlite::Result<Result<Option<Json>, Damage>> {
    let read = |row: &Row<'_>| {
        let mut cells = Cells::of(row);
        let vouched = cells.vouched(1, Sum::new().integer(n).half(), large(bytes(row, 0)));
        let value = cells.json(0, "checkpoint", vouched == Some(true));
        Ok(cells.damage(vouched).map_or(Ok(value), Err))
    };
    let stored = db.prepare_cached("SELECT value, sum FROM checkpoint WHERE n = ?1")?.query_row([n], read);
    Ok(stored.optional()?.unwrap_or(Ok(None)))
}

/// The checksum of a checkpoint.
pub(super) fn checkpoint_sum(n: i64, value: &Json) -> i64 {
    join(Sum::new().integer(n).half(), large(Some(value.as_bytes())))
}

/// A whole task.
pub(super) struct Whole {
    pub(super) place: Place,
    pub(super) life: Life,
    pub(super) fixed: Fixed,
    pub(super) retry: Option<crate::retry::RetryPolicy>,
    pub(super) time_limit: Option<Duration>,
    pub(super) idle_limit: Option<Duration>,
    pub(super) damage: Option<Damage>,
}

impl Whole {
    /// The record of the task; of a damaged one, as failed. `None` if not even its id can be read.
    pub(super) fn record(self) -> Option<TaskRecord> {
        if let Some(damage) = &self.damage {
            let Place { n, id, .. } = self.place;
            let named = id.map_or_else(|| format!("number {n}"), |id| id.to_string());
            let error = Error::new(ErrorKind::Damaged, format!("task {named}: {damage}"));
            crate::trouble::store_failed(&error, "a task is shown as failed, for what is stored of it can't be read");
        }
        self.place.id.is_some().then(|| self.life.record(self.fixed))
    }
}

/// Reads the columns of [`found`], then [`FIXED`] and [`FIXED_MORE`].
fn whole(row: &Row<'_>) -> rusqlite::Result<Whole> {
    let Found { place, mut life, mut damage, .. } = found(row)?;
    let mut cells = Cells::of(row);
    let vouched = cells.vouched(FIXED_SUM, fixed_half(row)?, large(bytes(row, ARGS)));
    let column = |i: usize| FIXED_AT + i;
    let fixed = Fixed {
        id: place.id.unwrap_or_default(),
        queue: cells.get(column(0), "queue"),
        name: cells.get(column(1), "name"),
        priority: cells.number(column(2), "priority"),
        created: cells.number(column(3), "created"),
        args: cells.json(ARGS, "args", vouched == Some(true)).unwrap_or_else(Json::null),
        tags: cells.parsed(column(4), "tags").unwrap_or_default(),
        retry_of: cells.some_id(column(5), "retry_of"),
        parent: cells.some_id(column(6), "parent"),
        trace: cells.parsed(column(10), "trace"),
    };
    let (retry, time_limit) = (cells.parsed(column(7), "retry"), cells.limit(column(8), "time_limit"));
    let idle_limit = cells.limit(column(9), "idle_limit");
    if damage.is_none() {
        damage = cells.damage(vouched);
        if let Some(damage) = &damage {
            refuse(&mut life, damage);
        }
    }
    Ok(Whole { place, life, fixed, retry, time_limit, idle_limit, damage })
}

/// A time limit as it is stored, in nanoseconds; 292 years are no limit.
pub(super) fn nanos(limit: Duration) -> i64 {
    i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn by_id(db: &Connection, id: TaskId) -> rusqlite::Result<Option<Whole>> {
    db.prepare_cached(&TEXTS.whole_by_id)?.query_row([id.as_bytes()], whole).optional()
}

pub(super) fn by_n(db: &Connection, n: i64) -> rusqlite::Result<Option<Whole>> {
    db.prepare_cached(&TEXTS.whole_by_n)?.query_row([n], whole).optional()
}

/// The checksums of a task that is to be added.
pub(super) fn sums_of_new(place: &Place, new: &NewTask, life: &Life, created: u64) -> (i64, i64) {
    let first = with_values(place, life, false, |values| half(&values[..LIFE.len()]));
    let tags = (!new.tags.is_empty()).then(|| text(&new.tags));
    let (retry, trace) = (new.retry.as_ref().map(text), new.trace.as_ref().map(text));
    let fixed = half(&[
        ValueRef::Integer(place.n),
        blob(place.id.as_ref()),
        some(life.retention),
        word(Some(&new.queue)),
        word(Some(&new.name)),
        ValueRef::Integer(new.priority.into()),
        ValueRef::Integer(signed(created)),
        word(tags.as_deref()),
        blob(new.retry_of.as_ref()),
        blob(new.parent.as_ref()),
        word(retry.as_deref()),
        integer(new.time_limit.map(nanos)),
        integer(new.idle_limit.map(nanos)),
        word(trace.as_deref()),
        word(new.unique.as_deref()),
        word(new.idempotency_key.as_deref()),
        integer(same_call(new)),
    ]);
    (join(first, 0), join(fixed, large(Some(new.args.as_bytes()))))
}

/// By what a call under an idempotency key is known again.
pub(super) fn same_call(new: &NewTask) -> Option<i64> {
    let key = new.idempotency_key.as_ref();
    key.map(|_| crate::event::named_hash(&new.name, &new.args).cast_signed())
}
