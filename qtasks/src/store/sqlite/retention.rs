//! What is taken away: by retention, a piece at a time, and at once.

use rusqlite::OptionalExtension as _;

use super::super::life::ms;
use super::super::{Hint, KEPT_MS, Prune, Pruned, Removed};
use super::rows::{self, Found, Place, signed, unsigned};
use super::tx::{Outcome, Tx, limit};
use crate::task::{Status, TaskId};

/// Of logs that retention takes, so many rows and bytes are deleted in one step.
const GARBAGE_ROWS: i64 = 2_000;
const GARBAGE_BYTES: i64 = 8 << 20;

impl Tx<'_> {
    pub(super) fn prune(&mut self, prune: Prune) -> Outcome<Pruned> {
        let (now, old) = (signed(self.now), signed(self.now.saturating_sub(ms(prune.age))));
        let mut pruned = Pruned::default();
        let sql = "SELECT n FROM task WHERE status > 3 AND stripped IS NULL \
             AND retention IS NULL ORDER BY ended, n LIMIT ?1";
        for n in self.numbers(sql, [limit(prune.max)])? {
            let Some(found) = self.ended(n)? else { continue };
            let (at, bytes) = (signed(found.life.ended.unwrap_or_default()), signed(found.life.bytes));
            let state = self.state()?;
            let many = prune.ended_max.is_some_and(|max| unsigned(state.ended_tasks) > max)
                || prune.bytes_max.is_some_and(|max| unsigned(state.ended_bytes) > max);
            if !(at <= old || (many && at.saturating_add(signed(KEPT_MS)) <= now)) {
                break;
            }
            state.ended_tasks -= 1;
            state.ended_bytes -= bytes;
            self.strip(&found, now)?;
            pruned.logs += 1;
        }
        pruned.logs += self.prune_timed(signed(ms(prune.age)), prune.max.saturating_sub(pruned.logs))?;
        pruned.more = self.collect_garbage()?;
        pruned.rows = self.prune_rows(old, prune.max)?;
        Ok(pruned)
    }

    /// The logs of tasks whose own retention is over.
    fn prune_timed(&mut self, age: i64, max: usize) -> rusqlite::Result<usize> {
        let sql = "SELECT n FROM task WHERE status > 3 AND stripped IS NULL \
             AND retention IS NOT NULL AND ended + retention <= ?1 ORDER BY ended + retention LIMIT ?2";
        let now = signed(self.now);
        let mut stripped = 0;
        for n in self.numbers(sql, (now, limit(max)))? {
            let Some(found) = self.ended(n)? else { continue };
            // The row stays as long again; that of others goes after their age.
            let retention = signed(found.life.retention.unwrap_or_default());
            self.strip(&found, now.saturating_add(retention).saturating_sub(age))?;
            stripped += 1;
        }
        Ok(stripped)
    }

    /// An ended task whose log may be taken. One that is damaged fails instead, and is kept from then on as others are.
    fn ended(&mut self, n: i64) -> rusqlite::Result<Option<Found>> {
        let Some(mut found) = self.rows.find_by_n(n)? else { return Ok(None) };
        let damaged = found.damage.is_some() && !found.condemned;
        self.refuse(&mut found)?;
        Ok((!damaged).then_some(found))
    }

    /// Takes the log of an ended task away, and puts its row among the bare ones.
    fn strip(&mut self, found: &Found, at: i64) -> rusqlite::Result<()> {
        let n = found.place.n;
        let sound = rows::by_n(self.db, n)?.is_some_and(|whole| whole.damage.is_none());
        let sql = "UPDATE task SET stripped = ?2, bytes = 0, args = NULL, final_value = NULL WHERE n = ?1";
        self.db.prepare_cached(sql)?.execute((n, at))?;
        self.db.prepare_cached("DELETE FROM large_args WHERE n = ?1")?.execute([n])?;
        self.db.prepare_cached("DELETE FROM checkpoint WHERE n = ?1")?.execute([n])?;
        self.db.prepare_cached("INSERT OR IGNORE INTO garbage (n) VALUES (?1)")?.execute([n])?;
        if sound {
            self.rows.resum(n)?;
        }
        self.hint_moved(found.place.id, &found.life);
        Ok(())
    }

    pub(super) fn remove(&mut self, ids: &[TaskId]) -> Outcome<Vec<Removed>> {
        let mut removed = Vec::with_capacity(ids.len());
        for id in ids {
            let tail = self.remove_one(*id)?;
            if let Ok(tail) = tail {
                self.hints.push(Hint::Moved { id: *id, tail, ended: true });
            }
            removed.push(tail.map_or_else(|left| left, |_| Removed::Done));
        }
        Ok(removed)
    }

    /// Takes a task away, with all that is stored of it. Gives the tail that it had, or why it is left.
    pub(super) fn remove_one(&mut self, id: TaskId) -> rusqlite::Result<Result<u64, Removed>> {
        let Some(mut found) = self.rows.find(id)? else { return Ok(Err(Removed::Absent)) };
        self.refuse(&mut found)?;
        let Found { place: Place { n, pair, stripped, .. }, life, .. } = found;
        let (status, tail) = (life.status, signed(life.tail));
        if !status.is_ended() && life.attempt > 0 {
            return Ok(Err(Removed::Unfinished));
        }
        if status.is_ended() && stripped.is_none() && life.retention.is_none() {
            let state = self.state()?;
            state.ended_tasks -= 1;
            state.ended_bytes -= signed(life.bytes);
        }
        self.db.prepare_cached("DELETE FROM large_args WHERE n = ?1")?.execute([n])?;
        if tail > GARBAGE_ROWS {
            self.db.prepare_cached("INSERT OR IGNORE INTO garbage (n) VALUES (?1)")?.execute([n])?;
        } else if tail > 0 {
            self.db.prepare_cached("DELETE FROM log WHERE n = ?1")?.execute([n])?;
        }
        if tail > 0 {
            self.db.prepare_cached("DELETE FROM checkpoint WHERE n = ?1")?.execute([n])?;
        }
        self.delete_row(n, pair, status)?;
        Ok(Ok(life.tail))
    }

    fn delete_row(&mut self, n: i64, pair: i64, status: Status) -> rusqlite::Result<()> {
        let tags = "SELECT CAST(tags AS BLOB) FROM task WHERE n = ?1";
        let tags = self.db.prepare_cached(tags)?.query_row([n], |row| row.get::<_, Option<Vec<u8>>>(0)).optional()?;
        for tag in tags.flatten().iter().flat_map(|t| serde_json::from_slice::<Vec<String>>(t).unwrap_or_default()) {
            self.db.prepare_cached("DELETE FROM tag WHERE tag = ?1 AND n = ?2")?.execute((tag, n))?;
        }
        self.db.prepare_cached("DELETE FROM task WHERE n = ?1")?.execute([n])?;
        self.db.prepare_cached("DELETE FROM replaced WHERE n = ?1")?.execute([n])?;
        self.count(pair, status, -1);
        Ok(())
    }

    /// Deletes a piece of the logs that were taken away. Whether there is more of them.
    fn collect_garbage(&mut self) -> rusqlite::Result<bool> {
        let (mut rows, mut bytes) = (GARBAGE_ROWS, GARBAGE_BYTES);
        while rows > 0 && bytes > 0 {
            let mut next = self.db.prepare_cached("SELECT n FROM garbage LIMIT 1")?;
            let Some(n) = next.query_row([], |row| row.get::<_, i64>(0)).optional()? else { return Ok(false) };
            let sql = "SELECT 1 FROM task WHERE n = ?1 AND stripped IS NULL";
            if self.db.prepare_cached(sql)?.exists([n])? {
                tracing::error!(
                    n,
                    "a row of the table `garbage` is damaged: it names a task that is there; it is dropped"
                );
                self.db.prepare_cached("DELETE FROM garbage WHERE n = ?1")?.execute([n])?;
                continue;
            }
            let mut parts = self.db.prepare_cached("SELECT seq, length(data) FROM log WHERE n = ?1 ORDER BY seq")?;
            let mut parts = parts.query([n])?;
            let mut last = None;
            let mut whole = true;
            while let Some(part) = parts.next()? {
                if rows <= 0 || bytes <= 0 {
                    whole = false;
                    break;
                }
                last = Some(part.get::<_, i64>(0)?);
                rows -= 1;
                bytes -= part.get::<_, i64>(1)?;
            }
            drop(parts);
            if let Some(last) = last {
                self.db.prepare_cached("DELETE FROM log WHERE n = ?1 AND seq <= ?2")?.execute((n, last))?;
            }
            if whole {
                self.db.prepare_cached("DELETE FROM garbage WHERE n = ?1")?.execute([n])?;
            }
        }
        self.db.prepare_cached("SELECT 1 FROM garbage LIMIT 1")?.exists([])
    }

    fn prune_rows(&mut self, old: i64, max: usize) -> rusqlite::Result<usize> {
        let sql = "SELECT n FROM task WHERE stripped IS NOT NULL AND stripped <= ?1 \
             AND n NOT IN (SELECT n FROM garbage) ORDER BY stripped LIMIT ?2";
        let mut gone = 0;
        for n in self.numbers(sql, (old, limit(max)))? {
            let Some(mut found) = self.rows.find_by_n(n)? else { continue };
            if found.damage.is_some() {
                // What `stripped` says may be wrong: the task fails, and is kept as others are.
                found.place.stripped = None;
                self.db.prepare_cached("UPDATE task SET stripped = NULL WHERE n = ?1")?.execute([n])?;
                self.refuse(&mut found)?;
                continue;
            }
            self.delete_row(n, found.place.pair, found.life.status)?;
            gone += 1;
        }
        Ok(gone)
    }
}
