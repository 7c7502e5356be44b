//! What becomes of damaged rows: the task of one fails, alone, and what can be made anew from the rest is.

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior};

use super::super::life::Mark;
use super::log;
use super::rows::{Changed, Found, Whole, signed, unsigned};
use super::sums::Sum;
use super::tx::{State, Tx};
use crate::clock::agreed::Agreed;
use crate::event::EventCode;
use crate::event::packed::unpack;
use crate::task::{Rewind, Status};

/// What a log tells of its task.
#[derive(Default)]
struct Told {
    tail: u64,
    yields: u64,
    yields_high: u64,
    bytes: u64,
    rewinds: Vec<Rewind>,
    ended: bool,
}

impl Tx<'_> {
    /// Ends a task whose row is damaged as failed, with what its log still tells. One that a later version wrote is
    /// left as it is.
    pub(super) fn refuse(&mut self, found: &mut Found) -> rusqlite::Result<()> {
        let Some(damage) = &found.damage else { return Ok(()) };
        let n = found.place.n;
        if damage.later || found.condemned {
            tracing::warn!(n, id = ?found.place.id, "{damage}");
            return Ok(());
        }
        tracing::error!(n, id = ?found.place.id, "a task fails: {damage}");
        let told = self.told(n)?;
        let life = &mut found.life;
        (life.tail, life.yields, life.bytes, life.rewinds) = (told.tail, told.yields, told.bytes, told.rewinds);
        life.yields_high = told.yields_high;
        let batch = life.condemn(damage.failure(), self.now, told.ended);
        self.rows.save(&found.place, life, Changed::All)?;
        if let Some(batch) = &batch {
            self.rows.keep(n, batch)?;
        }
        self.hint_moved(found.place.id, &found.life);
        self.recount = true;
        found.damage = None;
        Ok(())
    }

    /// The same for one that was to be claimed.
    pub(super) fn condemn_whole(&mut self, task: Whole) -> rusqlite::Result<()> {
        let Whole { place, life, damage, .. } = task;
        self.refuse(&mut Found { place, life, damage, condemned: false })
    }

    /// What the log of a task tells, as far as it can be read.
    fn told(&self, n: i64) -> rusqlite::Result<Told> {
        let mut told = Told::default();
        let sql = "SELECT seq, epoch, attempt, at, count, heads, sum, length(data) FROM log WHERE n = ?1 ORDER BY seq";
        let mut statement = self.db.prepare_cached(sql)?;
        let mut found = statement.query([n])?;
        while let Some(row) = found.next()? {
            let Some((stamp, count, heads)) = log::heads(n, row)? else {
                // Nothing is ever written at its place again.
                told.tail = told.tail.max(row.get::<_, i64>(0).map_or(0, unsigned));
                continue;
            };
            for (seq, head) in (stamp.seq..).zip(unpack(heads)) {
                match head.code {
                    EventCode::Yield => told.yields = head.index.saturating_add(1),
                    EventCode::Rewind => {
                        told.yields = head.index;
                        told.rewinds.push(Rewind { seq, to: head.index });
                    }
                    code => told.ended |= code.is_end(),
                }
                told.yields_high = told.yields_high.max(told.yields);
            }
            told.tail = told.tail.max(stamp.seq.saturating_add(count as u64).saturating_sub(1));
            told.bytes = told.bytes.saturating_add(row.get::<_, i64>(7).map_or(0, unsigned));
        }
        Ok(told)
    }

    /// Makes damaged rows of `pair` anew from their copies. Whether there were any.
    pub(super) fn heal_pairs(&mut self) -> rusqlite::Result<bool> {
        let healed = self.rows.sums && heal_pairs(self.db)?;
        if healed {
            self.recount = true;
            self.forget();
        }
        Ok(healed)
    }

    /// The state made anew from the rest, where it was damaged.
    pub(super) fn state_anew(&self) -> rusqlite::Result<State> {
        tracing::error!("the row of the table `state` was damaged; it is made anew");
        let most =
            |sql: &str| self.db.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).map(Option::unwrap_or_default);
        let numbers =
            [most("SELECT max(n) FROM task")?, most("SELECT max(n) FROM log")?, most("SELECT max(n) FROM garbage")?];
        let sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM task \
             WHERE status > 3 AND stripped IS NULL AND retention IS NULL";
        let (ended_tasks, ended_bytes) = self.db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let next_n = numbers.into_iter().max().unwrap_or(0).saturating_add(1);
        Ok(State { next_n, ended_tasks, ended_bytes, mark: Mark::default(), clock: Agreed::default() })
    }

    /// Counts all tasks anew.
    pub(super) fn recount_all(&mut self) -> rusqlite::Result<()> {
        self.db.prepare_cached("DELETE FROM count")?.execute([])?;
        let mut found = self.db.prepare_cached("SELECT pair, status, count(*) FROM task GROUP BY pair, status")?;
        let mut found = found.query([])?;
        while let Some(row) = found.next()? {
            let (pair, code, tasks): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            self.put_count(pair, code, tasks)?;
        }
        Ok(())
    }

    pub(super) fn put_count(&self, pair: i64, code: i64, tasks: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO count (pair, status, tasks, sum) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET tasks = excluded.tasks, sum = excluded.sum";
        let sum = self.rows.sums.then(|| count_sum(pair, code, tasks));
        self.db.prepare_cached(sql)?.execute((pair, code, tasks, sum)).map(drop)
    }
}

/// Makes damaged rows of `pair` anew when a file is opened: what a task is called hangs on them.
pub(super) fn heal(db: &mut Connection) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM pair_copy c LEFT JOIN pair p USING (pair, queue, name) WHERE p.pair IS NULL";
    if db.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    heal_pairs(&tx)?;
    tx.commit()
}

fn heal_pairs(db: &Connection) -> rusqlite::Result<bool> {
    let mut healed = false;
    let mut copies = db.prepare_cached("SELECT pair, queue, name, sum FROM pair_copy")?;
    let mut copies = copies.query([])?;
    while let Some(row) = copies.next()? {
        let (Ok(pair), Ok(queue), Ok(name)) = (row.get(0), row.get::<_, String>(1), row.get::<_, String>(2)) else {
            continue;
        };
        let sound = row.get::<_, i64>(3).is_ok_and(|sum| sum == pair_sum(pair, &queue, &name));
        let sql = "SELECT 1 FROM pair WHERE pair = ?1 AND queue = ?2 AND name = ?3";
        if !sound || db.prepare_cached(sql)?.exists((pair, &queue, &name))? {
            continue;
        }
        tracing::error!(pair, queue, name, "a row of the table `pair` was damaged; it is made anew from its copy");
        let sql = "DELETE FROM pair WHERE pair = ?1 OR (queue = ?2 AND name = ?3)";
        db.prepare_cached(sql)?.execute((pair, &queue, &name))?;
        let sql = "INSERT INTO pair (pair, queue, name) VALUES (?1, ?2, ?3)";
        db.prepare_cached(sql)?.execute((pair, &queue, &name))?;
        healed = true;
    }
    Ok(healed)
}

pub(super) fn pair_sum(pair: i64, queue: &str, name: &str) -> i64 {
    Sum::new().integer(pair).text(queue).text(name).whole()
}

pub(super) fn count_sum(pair: i64, code: i64, tasks: i64) -> i64 {
    Sum::new().integer(pair).integer(code).integer(tasks).whole()
}

/// How many tasks of a pair have a status: as it is written, or counted where that is damaged or missing.
pub(super) fn tasks_of(db: &Connection, pair: i64, status: Status) -> rusqlite::Result<u64> {
    let code = status as i64;
    let sql = "SELECT tasks, sum FROM count WHERE pair = ?1 AND status = ?2";
    let written = db.prepare_cached(sql)?.query_row((pair, code), |row| {
        let (tasks, sum) = (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1));
        Ok(tasks.ok().filter(|tasks| sum.is_ok_and(|sum| sum.is_none_or(|sum| sum == count_sum(pair, code, *tasks)))))
    });
    if let Some(tasks) = written.optional()?.flatten() {
        return Ok(unsigned(tasks));
    }
    let sql = "SELECT count(*) FROM task WHERE pair = ?1 AND status = ?2";
    db.prepare_cached(sql)?.query_row((pair, code), |row| row.get(0)).map(unsigned)
}

/// What the checksum of a document covers.
pub(super) fn doc_sum(key: &str, version: i64, bytes: &[u8], expires: Option<i64>) -> i64 {
    let mut sum = Sum::new();
    sum.text(key).integer(version).blob(bytes);
    sum.integer(expires.unwrap_or(i64::MIN)).whole()
}

/// The checksum of the state.
pub(super) fn state_sum(state: &State) -> i64 {
    let State { next_n, ended_tasks, ended_bytes, mark, clock } = *state;
    let mut sum = Sum::new();
    for number in [
        next_n,
        ended_tasks,
        ended_bytes,
        mark.swept_at.map_or(i64::MIN, signed),
        signed(mark.spare_until),
        signed(mark.lease_max),
        clock.mark,
        clock.offset,
        clock.confirmed,
        clock.jumped.unwrap_or(i64::MIN),
        clock.apart.map_or(i64::MIN, |apart| apart.by),
        clock.apart.map_or(i64::MIN, |apart| apart.since),
    ] {
        sum.integer(number);
    }
    sum.whole()
}

/// Whether the state matches its checksum.
#[cfg(feature = "cli")]
pub(super) fn is_state_sound(db: &Connection) -> rusqlite::Result<bool> {
    let (state, sum) = super::tx::read_state(db)?;
    Ok(sum.is_none_or(|sum| sum == state_sum(&state)))
}
