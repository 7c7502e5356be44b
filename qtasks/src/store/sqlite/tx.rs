//! One transaction, and what the operations of the store do in it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::super::life::{Change, Life, Mark, ms};
use super::super::limits::PAUSES;
use super::super::{
    Added, Append, Appended, CLAIMS_KEPT_MS, Cancelled, DocPut, Extended, Hint, Lease, NewTask, Sweep, Swept,
    key_was_used, not_found,
};
use super::cells;
use super::damage::{count_sum, doc_sum, pair_sum, state_sum};
use super::rows::{self, Changed, Found, Place, Statements, nanos, signed, unsigned};
use crate::clock::agreed::{Agreed, Apart};
use crate::error::Error;
use crate::event::named_hash;
use crate::task::{Status, TaskId};

/// Larger arguments are kept apart from the row, which every append rewrites.
pub(super) const ARGS_INLINE: usize = 1_024;
/// Why a job did not succeed.
pub(super) enum Fault {
    /// It wrote nothing; what others wrote stays.
    Refused(Error),
    /// SQLite failed: nothing of the transaction stays.
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Sql(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Refused(error)
    }
}

pub(super) type Outcome<T> = Result<T, Fault>;

/// What a writer remembers between transactions, for it never changes.
#[derive(Default)]
pub(super) struct Known {
    /// Rows of the file have checksums.
    pub(super) sums: bool,
    /// By queue and name.
    pairs: HashMap<String, HashMap<String, i64>>,
    names: HashMap<i64, (String, String)>,
}

impl Known {
    fn pair(&self, queue: &str, name: &str) -> Option<i64> {
        self.pairs.get(queue)?.get(name).copied()
    }

    fn learn(&mut self, queue: &str, name: &str, pair: i64) {
        self.pairs.entry(queue.to_owned()).or_default().insert(name.to_owned(), pair);
        self.names.insert(pair, (queue.to_owned(), name.to_owned()));
    }

    /// What is known of a file that has just been opened.
    pub(super) fn of(db: &Connection) -> rusqlite::Result<Self> {
        Ok(Known { sums: super::sums::are_on(db)?, ..Known::default() })
    }

    /// A transaction was undone: what it made is not there.
    pub(super) fn forget(&mut self) {
        *self = Known { sums: self.sums, ..Known::default() };
    }
}

/// The one row of `state`.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct State {
    pub(super) next_n: i64,
    pub(super) ended_tasks: i64,
    pub(super) ended_bytes: i64,
    pub(super) mark: Mark,
    pub(super) clock: Agreed,
}

pub(super) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) rows: Statements<'a>,
    /// When the job came that is done now, or later.
    pub(super) now: u64,
    known: &'a mut Known,
    pub(super) hints: Vec<Hint>,
    /// The pairs that a hint is among those for already.
    ready: Vec<i64>,
    state: Option<(State, State)>,
    /// What changes in `count`.
    counts: BTreeMap<(i64, Status), i64>,
    /// A task was found damaged: all are counted anew.
    pub(super) recount: bool,
}

impl<'a> Tx<'a> {
    pub(super) fn new(db: &'a Connection, now: u64, known: &'a mut Known) -> Self {
        Tx {
            db,
            rows: Statements::new(db, known.sums),
            now,
            known,
            hints: Vec::new(),
            ready: Vec::new(),
            state: None,
            counts: BTreeMap::new(),
            recount: false,
        }
    }

    /// Writes what was gathered. Answers the hints to be given after the commit.
    pub(super) fn finish(mut self) -> rusqlite::Result<Vec<Hint>> {
        self.write_counts()?;
        if std::mem::take(&mut self.recount) {
            self.recount_all()?;
        }
        if let Some((before, state)) = self.state
            && before != state
        {
            let sql = "UPDATE state SET next_n = ?1, ended_tasks = ?2, ended_bytes = ?3, swept_at = ?4, \
                 spare_until = ?5, lease_max = ?6, clock_mark = ?7, clock_offset = ?8, clock_confirmed = ?9, \
                 clock_jumped = ?10, clock_apart = ?11, clock_apart_since = ?12, sum = ?13";
            let State { next_n, ended_tasks, ended_bytes, mark, clock } = state;
            self.db.prepare_cached(sql)?.execute(rusqlite::params![
                next_n,
                ended_tasks,
                ended_bytes,
                mark.swept_at.map(signed),
                signed(mark.spare_until),
                signed(mark.lease_max),
                clock.mark,
                clock.offset,
                clock.confirmed,
                clock.jumped,
                clock.apart.map(|apart| apart.by),
                clock.apart.map(|apart| apart.since),
                self.rows.sums.then(|| state_sum(&state)),
            ])?;
        }
        Ok(self.hints)
    }

    /// Writes what changed in `count` so far.
    pub(super) fn write_counts(&mut self) -> rusqlite::Result<()> {
        for ((pair, status), by) in std::mem::take(&mut self.counts) {
            if by == 0 {
                continue;
            }
            let code = status as i64;
            let sql = "SELECT tasks, sum FROM count WHERE pair = ?1 AND status = ?2";
            let mut written = self.db.prepare_cached(sql)?;
            let written =
                written.query_row((pair, code), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)));
            match written.optional()? {
                None => self.put_count(pair, code, by)?,
                Some((tasks, sum)) if sum.is_none_or(|sum| sum == count_sum(pair, code, tasks)) => {
                    self.put_count(pair, code, tasks + by)?;
                }
                Some(_) => self.recount = true,
            }
        }
        Ok(())
    }

    pub(super) fn state(&mut self) -> rusqlite::Result<&mut State> {
        if self.state.is_none() {
            let (state, sum) = read_state(self.db)?;
            let now = match sum.is_none_or(|sum| sum == state_sum(&state)) {
                true => state,
                false => self.state_anew()?,
            };
            self.state = Some((state, now));
        }
        Ok(&mut self.state.as_mut().expect("just read").1)
    }

    pub(super) fn count(&mut self, pair: i64, status: Status, by: i64) {
        *self.counts.entry((pair, status)).or_default() += by;
    }

    /// The number of a pair of queue and name, which is made if need be.
    fn pair(&mut self, queue: &str, name: &str) -> rusqlite::Result<i64> {
        if let Some(pair) = self.known_pair(queue, name)? {
            return Ok(pair);
        }
        let pair = self.db.prepare_cached("INSERT INTO pair (queue, name) VALUES (?1, ?2)")?.insert((queue, name))?;
        let sql = "INSERT OR REPLACE INTO pair_copy (pair, queue, name, sum) VALUES (?1, ?2, ?3, ?4)";
        self.db.prepare_cached(sql)?.execute((pair, queue, name, pair_sum(pair, queue, name)))?;
        self.known.learn(queue, name, pair);
        Ok(pair)
    }

    /// The number of a pair, if it has one.
    pub(super) fn known_pair(&mut self, queue: &str, name: &str) -> rusqlite::Result<Option<i64>> {
        if let Some(pair) = self.known.pair(queue, name) {
            return Ok(Some(pair));
        }
        let pair = pair_of(self.db, queue, name)?;
        if let Some(pair) = pair {
            self.known.learn(queue, name, pair);
        }
        Ok(pair)
    }

    pub(super) fn hint_ready(&mut self, pair: i64) -> rusqlite::Result<()> {
        if self.ready.contains(&pair) {
            return Ok(());
        }
        self.ready.push(pair);
        if !self.known.names.contains_key(&pair) {
            let mut named = self.db.prepare_cached("SELECT queue, name FROM pair WHERE pair = ?1")?;
            let names = named.query_row([pair], |row| Ok((row.get(0)?, row.get(1)?)))?;
            self.known.names.insert(pair, names);
        }
        let (queue, name) = &self.known.names[&pair];
        self.hints.push(Hint::Ready { queue: queue.clone(), name: name.clone() });
        Ok(())
    }

    /// Hints at a task that became ready, or will be before all others.
    pub(super) fn hint(&mut self, pair: i64, life: &Life) -> rusqlite::Result<()> {
        let ready = match life.status {
            Status::Queued => true,
            Status::Delayed => {
                let mut sooner =
                    self.db.prepare_cached("SELECT EXISTS (SELECT 1 FROM task WHERE status = 1 AND due < ?1)")?;
                !sooner.query_row([signed(life.due)], |row| row.get::<_, bool>(0))?
            }
            _ => false,
        };
        if ready { self.hint_ready(pair) } else { Ok(()) }
    }

    /// Has something happen to a task, and keeps what comes of it. `None` if there is no such task.
    fn change<R>(
        &mut self,
        id: TaskId,
        happen: impl FnOnce(&mut Life) -> (R, Change),
    ) -> rusqlite::Result<Option<(R, Option<i64>)>> {
        match self.rows.find(id)? {
            Some(found) => self.change_found(found, happen).map(Some),
            None => Ok(None),
        }
    }

    /// The same for a task that was found. One that is damaged fails first, and nothing else is touched.
    fn change_found<R>(
        &mut self,
        mut found: Found,
        happen: impl FnOnce(&mut Life) -> (R, Change),
    ) -> rusqlite::Result<(R, Option<i64>)> {
        self.refuse(&mut found)?;
        let Found { place, mut life, .. } = found;
        let Place { n, pair, id, .. } = place;
        let before = life.status;
        let (result, change) = happen(&mut life);
        if matches!(change, Change::None) {
            return Ok((result, None));
        }
        let moved = life.status != before;
        let changed = match (before, life.status) {
            _ if !moved => Changed::Progress,
            (Status::Running, Status::Completed) => Changed::End,
            _ => Changed::All,
        };
        self.rows.save(&place, &life, changed)?;
        if let Change::Wrote(batch) = &change {
            self.rows.keep(n, batch)?;
            self.hint_moved(id, &life);
        }
        if moved {
            self.count(pair, before, -1);
            self.count(pair, life.status, 1);
            if life.status.is_ended() && life.retention.is_none() {
                let state = self.state()?;
                state.ended_tasks += 1;
                state.ended_bytes += signed(life.bytes);
            }
            self.hint(pair, &life)?;
        }
        Ok((result, Some(n)))
    }

    /// Forgets what is known of pairs.
    pub(super) fn forget(&mut self) {
        self.known.forget();
    }

    pub(super) fn hint_moved(&mut self, id: Option<TaskId>, life: &Life) {
        self.hints.extend(id.map(|id| Hint::Moved { id, tail: life.tail, ended: life.status.is_ended() }));
    }

    /// The same for something that answers nothing: whether it changed the task.
    fn move_(&mut self, id: TaskId, happen: impl FnOnce(&mut Life) -> Change) -> rusqlite::Result<bool> {
        Ok(self.change(id, |life| ((), happen(life)))?.is_some_and(|((), n)| n.is_some()))
    }

    /// The same for the task of a number.
    fn move_n(
        &mut self,
        n: i64,
        happen: impl FnOnce(&mut Life) -> Change,
    ) -> rusqlite::Result<Option<(Status, Option<TaskId>)>> {
        let Some(found) = self.rows.find_by_n(n)? else { return Ok(None) };
        let (id, damaged) = (found.place.id, found.damage.is_some());
        let (status, moved) = self.change_found(found, |life| {
            let change = happen(life);
            (life.status, change)
        })?;
        Ok((moved.is_some() || damaged).then_some((status, id)))
    }

    pub(super) fn numbers(&self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<i64>> {
        let mut statement = self.db.prepare_cached(sql)?;
        statement.query_map(values, |row| row.get(0))?.collect()
    }

    // ---- the operations, in the order of the trait

    pub(super) fn add(&mut self, batch: &[NewTask]) -> Outcome<Vec<Added>> {
        let mut first: HashMap<&str, &NewTask> = HashMap::new();
        for new in batch {
            let Some(key) = new.idempotency_key.as_deref() else { continue };
            if self.is_stored(new.id)? {
                continue;
            }
            let mut keyed = self.db.prepare_cached("SELECT same_call FROM task WHERE idempotency_key = ?1")?;
            let stored: Option<i64> = keyed.query_row([key], |row| row.get(0)).optional()?;
            let same = match stored {
                Some(stored) => stored == named_hash(&new.name, &new.args).cast_signed(),
                None => first.insert(key, new).is_none_or(|f| f.name == new.name && f.args == new.args),
            };
            if !same {
                return Err(key_was_used(key).into());
            }
        }
        batch.iter().map(|new| self.add_one(new)).collect()
    }

    fn keyed(&self, key: &str) -> rusqlite::Result<Option<TaskId>> {
        let mut statement = self.db.prepare_cached("SELECT id FROM task WHERE idempotency_key = ?1")?;
        statement.query_row([key], |row| cells::id(row, 0)).optional()
    }

    fn is_stored(&self, id: TaskId) -> rusqlite::Result<bool> {
        self.db.prepare_cached("SELECT 1 FROM task WHERE id = ?1")?.exists([id.as_bytes()])
    }

    fn existing(&self, new: &NewTask) -> rusqlite::Result<Option<TaskId>> {
        let keyed = new.idempotency_key.is_some() || new.unique.is_some();
        if keyed && self.is_stored(new.id)? {
            return Ok(Some(new.id));
        }
        if new.replace
            && let Some(id) = self.replaced(new.id)?
        {
            return Ok(Some(id));
        }
        if let Some(key) = &new.idempotency_key
            && let Some(id) = self.keyed(key)?
        {
            return Ok(Some(id));
        }
        Ok(None)
    }

    /// The unfinished task that has the unique key of a new one.
    fn rival(&self, new: &NewTask) -> rusqlite::Result<Option<TaskId>> {
        let Some(key) = &new.unique else { return Ok(None) };
        let sql = "SELECT t.id FROM task t JOIN pair p ON p.pair = t.pair \
             WHERE t.unique_key = ?1 AND t.status < 4 AND p.name = ?2";
        self.db.prepare_cached(sql)?.query_row((key, &new.name), |row| cells::id(row, 0)).optional()
    }

    fn add_one(&mut self, new: &NewTask) -> Outcome<Added> {
        if let Some(id) = self.existing(new)? {
            return Ok(Added { id, existed: true });
        }
        if let Some(id) = self.rival(new)? {
            let added = if new.replace { self.replace(id, new)? } else { Some(Added { id, existed: true }) };
            if let Some(added) = added {
                return Ok(added);
            }
        }
        let life = Life::new(new, self.now);
        let pair = self.pair(&new.queue, &new.name)?;
        let n = self.state()?.next_n;
        if !self.insert(n, pair, new, &life)? {
            return Ok(Added { id: new.id, existed: true });
        }
        self.state()?.next_n += 1;
        for tag in &new.tags {
            self.db.prepare_cached("INSERT OR IGNORE INTO tag (tag, n) VALUES (?1, ?2)")?.execute((tag, n))?;
        }
        self.count(pair, life.status, 1);
        self.hint(pair, &life)?;
        Ok(Added { id: new.id, existed: false })
    }

    /// Whether the id was new.
    fn insert(&mut self, n: i64, pair: i64, new: &NewTask, life: &Life) -> rusqlite::Result<bool> {
        let args = new.args.as_str();
        let inline = args.len() <= ARGS_INLINE;
        let place = Place { n, id: Some(new.id), pair, stripped: None };
        let sums = self.rows.sums.then(|| rows::sums_of_new(&place, new, life, self.now));
        let inserted = self.rows.add()?.execute(rusqlite::params![
            n,
            new.id.as_bytes(),
            pair,
            new.priority,
            signed(self.now),
            life.status as i64,
            signed(life.due),
            life.due_at.map(signed),
            life.expires.map(signed),
            inline.then_some(args),
            (!new.tags.is_empty()).then(|| rows::text(&new.tags)),
            new.retry_of.as_ref().map(TaskId::as_bytes),
            new.parent.as_ref().map(TaskId::as_bytes),
            new.retry.as_ref().map(rows::text),
            new.time_limit.map(nanos),
            new.unique,
            new.idempotency_key,
            rows::same_call(new),
            life.retention.map(signed),
            new.idle_limit.map(nanos),
            new.trace.as_ref().map(rows::text),
            sums.map(|sums| sums.0),
            sums.map(|sums| sums.1),
        ])?;
        if inserted == 1 && !inline {
            self.db.prepare_cached("INSERT INTO large_args (n, args) VALUES (?1, ?2)")?.execute((n, args))?;
        }
        Ok(inserted == 1)
    }

    pub(super) fn promote(&mut self, max: usize) -> rusqlite::Result<usize> {
        let sql = "SELECT n FROM task WHERE status = 1 AND due <= ?1 ORDER BY due LIMIT ?2";
        let due = self.numbers(sql, (signed(self.now), limit(max)))?;
        let now = self.now;
        let mut promoted = 0;
        for n in due {
            promoted += usize::from(self.move_n(n, |life| life.promote(now))?.is_some());
        }
        Ok(promoted)
    }

    pub(super) fn sweep(&mut self, sweep: Sweep) -> Outcome<Swept> {
        let now = self.now;
        let mark = &mut self.state()?.mark;
        let may_lose = mark.sweep(sweep, now);
        let latest = mark.latest(sweep, now);
        self.cut(latest)?;
        let mut swept = Swept { promoted: self.promote(sweep.max)?, ..Swept::default() };
        let sql = "SELECT n FROM task WHERE expires IS NOT NULL AND attempt = 0 AND status < 3 AND expires <= ?1 \
             ORDER BY expires LIMIT ?2";
        for n in self.numbers(sql, (signed(now), limit(sweep.max)))? {
            if let Some((_, id)) = self.move_n(n, |life| life.expire(now))? {
                swept.expired += 1;
                swept.over.extend(id);
            }
        }
        // The presence of workers that are gone, and documents past their time.
        let old = signed(now.saturating_sub(CLAIMS_KEPT_MS));
        self.db.prepare_cached("DELETE FROM claim WHERE at < ?1")?.execute([old])?;
        self.db.prepare_cached("DELETE FROM doc WHERE expires <= ?1")?.execute([signed(now)])?;
        if !may_lose {
            return Ok(swept);
        }
        for n in self.lost(sweep.max)? {
            match self.move_n(n, |life| life.lose(sweep.crashes_max, now))? {
                Some((status, id)) if status.is_ended() => {
                    swept.ended += 1;
                    swept.over.extend(id);
                }
                Some(_) => swept.requeued += 1,
                None => {}
            }
        }
        Ok(swept)
    }

    /// Running tasks whose lease is over. There are never more of them than workers can run.
    fn lost(&self, max: usize) -> rusqlite::Result<Vec<i64>> {
        let sql = "SELECT t.n FROM pair p CROSS JOIN task t ON t.pair = p.pair AND t.status = 3 \
             WHERE t.lease_until <= ?1 LIMIT ?2";
        self.numbers(sql, (signed(self.now), limit(max)))
    }

    pub(super) fn append(&mut self, batch: &[Append]) -> Outcome<Vec<Appended>> {
        let mut answers = Vec::with_capacity(batch.len());
        for append in batch {
            let now = self.now;
            let answer = self.change(append.id, |life| life.append(append.clone(), now))?;
            let Some((answer, changed)) = answer else {
                answers.push(Appended::Fenced);
                continue;
            };
            if let (Some(n), Some(checkpoint)) = (changed, &append.checkpoint) {
                let sql = "INSERT INTO checkpoint (n, value, sum) VALUES (?1, ?2, ?3) \
                     ON CONFLICT DO UPDATE SET value = excluded.value, sum = excluded.sum";
                let sum = self.rows.sums.then(|| rows::checkpoint_sum(n, checkpoint));
                self.db.prepare_cached(sql)?.execute((n, checkpoint.as_str(), sum))?;
            }
            if changed.is_some() {
                for id in &append.removes {
                    // What is not over stays.
                    let _ = self.remove_one(*id)?;
                }
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    pub(super) fn extend(&mut self, leases: &[Lease], lease: Duration) -> Outcome<Vec<Extended>> {
        self.state()?.mark.lease(lease);
        let until = self.now.saturating_add(ms(lease));
        let mut answers = Vec::with_capacity(leases.len());
        for lease in leases {
            let Some(mut found) = self.rows.find(lease.id)? else {
                answers.push(Extended::Fenced);
                continue;
            };
            self.refuse(&mut found)?;
            let n = found.place.n;
            let answer = found.life.extend(lease.epoch, until);
            if answer != Extended::Fenced {
                let mut extend = self.db.prepare_cached("UPDATE task SET lease_until = ?2 WHERE n = ?1")?;
                extend.execute((n, signed(until)))?;
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    pub(super) fn start(&mut self, ids: &[TaskId]) -> Outcome<Vec<Option<Status>>> {
        let now = self.now;
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            let started = self.change(*id, |life| {
                let change = life.start(now);
                (life.status, change)
            })?;
            all.push(started.map(|(status, _)| status));
        }
        Ok(all)
    }

    pub(super) fn cancel(&mut self, id: TaskId, reason: &str) -> Outcome<Cancelled> {
        let now = self.now;
        let cancelled = self.change(id, |life| life.cancel(reason.to_owned(), now))?;
        let (cancelled, _) = cancelled.ok_or_else(|| not_found(id))?;
        if cancelled == Cancelled::Asked {
            self.hints.push(Hint::Cancel { id });
        }
        Ok(cancelled)
    }

    pub(super) fn release(&mut self, leases: &[Lease]) -> Outcome<()> {
        let now = self.now;
        for lease in leases {
            self.move_(lease.id, |life| life.release(lease.epoch, now))?;
        }
        Ok(())
    }

    pub(super) fn put_doc(&self, key: &str, version: u64, bytes: &[u8], expires: Option<i64>) -> rusqlite::Result<()> {
        let sql = "INSERT INTO doc (key, version, bytes, expires, sum) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT DO UPDATE SET version = excluded.version, bytes = excluded.bytes, \
             expires = excluded.expires, sum = excluded.sum";
        let sum = self.rows.sums.then(|| doc_sum(key, signed(version), bytes, expires));
        self.db.prepare_cached(sql)?.execute((key, signed(version), bytes, expires, sum)).map(drop)
    }

    pub(super) fn doc_put(&mut self, put: &DocPut) -> Outcome<Option<u64>> {
        let version = super::reads::doc(self.db, &put.key, self.now)?.map_or(0, |doc| doc.version);
        if put.if_version.is_some_and(|wanted| wanted != version) {
            return Ok(None);
        }
        let expires = put.expires.map(|e| signed(self.now.saturating_add(ms(e))));
        self.put_doc(&put.key, version + 1, &put.bytes, expires)?;
        if put.key.starts_with(PAUSES) {
            self.hints.push(Hint::Look);
        }
        Ok(Some(version + 1))
    }
}

/// The row of `state`, and its checksum.
pub(super) fn read_state(db: &Connection) -> rusqlite::Result<(State, Option<i64>)> {
    let sql = "SELECT next_n, ended_tasks, ended_bytes, swept_at, spare_until, lease_max, clock_mark, clock_offset, \
         clock_confirmed, clock_jumped, clock_apart, clock_apart_since, sum FROM state";
    db.prepare_cached(sql)?.query_row([], |row| {
        let apart = row.get::<_, Option<i64>>(10)?.zip(row.get::<_, Option<i64>>(11)?);
        let state = State {
            next_n: row.get(0)?,
            ended_tasks: row.get(1)?,
            ended_bytes: row.get(2)?,
            mark: Mark {
                swept_at: row.get::<_, Option<i64>>(3)?.map(unsigned),
                spare_until: unsigned(row.get(4)?),
                lease_max: unsigned(row.get(5)?),
            },
            clock: Agreed {
                mark: row.get(6)?,
                offset: row.get(7)?,
                confirmed: row.get(8)?,
                jumped: row.get(9)?,
                apart: apart.map(|(by, since)| Apart { by, since }),
            },
        };
        Ok((state, row.get(12)?))
    })
}

pub(super) fn limit(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn pair_of(db: &Connection, queue: &str, name: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = db.prepare_cached("SELECT pair FROM pair WHERE queue = ?1 AND name = ?2")?;
    statement.query_row((queue, name), |row| row.get(0)).optional()
}

/// Whether a task of a pair is ready.
pub(super) fn is_ready(db: &Connection, pair: i64) -> rusqlite::Result<bool> {
    let mut statement = db.prepare_cached("SELECT 1 FROM task WHERE status = 2 AND pair = ?1 LIMIT 1")?;
    statement.exists([pair])
}

/// How long until the next delayed task is due.
pub(super) fn next_due(db: &Connection, now: u64) -> rusqlite::Result<Option<Duration>> {
    let mut statement = db.prepare_cached("SELECT due FROM task WHERE status = 1 ORDER BY due LIMIT 1")?;
    let due = statement.query_row([], |row| row.get::<_, i64>(0)).optional()?;
    Ok(due.map(|due| Duration::from_millis(unsigned(due).saturating_sub(now))))
}
