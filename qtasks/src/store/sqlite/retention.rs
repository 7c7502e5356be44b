//! What is taken away: by retention, a piece at a time, and at once.

use rusqlite::OptionalExtension as _;

use super::super::life::ms;
use super::super::{Hint, KEPT_MS, Prune, Pruned, Removed};
use super::rows::{self, signed, unsigned};
use super::tx::{Outcome, Tx, limit};
use crate::task::{Status, TaskId};

/// Of logs that retention takes, so many rows and bytes are deleted in one step.
const GARBAGE_ROWS: i64 = 2_000;
const GARBAGE_BYTES: i64 = 8 << 20;

impl Tx<'_> {
    pub(super) fn prune(&mut self, prune: Prune) -> Outcome<Pruned> {
        let (now, old) = (signed(self.now), signed(self.now.saturating_sub(ms(prune.age))));
        let mut pruned = Pruned::default();
        let sql = "SELECT n, id, ended, bytes, tail FROM task WHERE status > 3 AND stripped IS NULL \
             AND retention IS NULL ORDER BY ended, n LIMIT ?1";
        let ended: Vec<(i64, TaskId, i64, i64, i64)> = self
            .db
            .prepare_cached(sql)?
            .query_map([limit(prune.max)], |row| {
                Ok((row.get(0)?, rows::id(row, 1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?
            .collect::<Result<_, _>>()?;
        for (n, id, at, bytes, tail) in ended {
            let state = self.state()?;
            let many = prune.ended_max.is_some_and(|max| unsigned(state.ended_tasks) > max)
                || prune.bytes_max.is_some_and(|max| unsigned(state.ended_bytes) > max);
            if !(at <= old || (many && at.saturating_add(signed(KEPT_MS)) <= now)) {
                break;
            }
            state.ended_tasks -= 1;
            state.ended_bytes -= bytes;
            self.strip(n, id, tail, now)?;
            pruned.logs += 1;
        }
        pruned.logs += self.prune_timed(signed(ms(prune.age)), prune.max.saturating_sub(pruned.logs))?;
        pruned.more = self.collect_garbage()?;
        pruned.rows = self.prune_rows(old, prune.max)?;
        Ok(pruned)
    }

    /// The logs of tasks whose own retention is over.
    fn prune_timed(&mut self, age: i64, max: usize) -> rusqlite::Result<usize> {
        let sql = "SELECT n, id, tail, retention FROM task WHERE status > 3 AND stripped IS NULL \
             AND retention IS NOT NULL AND ended + retention <= ?1 ORDER BY ended + retention LIMIT ?2";
        let now = signed(self.now);
        let over: Vec<(i64, TaskId, i64, i64)> = self
            .db
            .prepare_cached(sql)?
            .query_map((now, limit(max)), |row| Ok((row.get(0)?, rows::id(row, 1)?, row.get(2)?, row.get(3)?)))?
            .collect::<Result<_, _>>()?;
        for (n, id, tail, retention) in &over {
            // The row stays as long again; that of others goes after their age.
            self.strip(*n, *id, *tail, now.saturating_add(*retention).saturating_sub(age))?;
        }
        Ok(over.len())
    }

    /// Takes the log of an ended task away, and puts its row among the bare ones.
    fn strip(&mut self, n: i64, id: TaskId, tail: i64, at: i64) -> rusqlite::Result<()> {
        let sql = "UPDATE task SET stripped = ?2, bytes = 0, args = NULL, final_value = NULL WHERE n = ?1";
        self.db.prepare_cached(sql)?.execute((n, at))?;
        self.db.prepare_cached("DELETE FROM large_args WHERE n = ?1")?.execute([n])?;
        self.db.prepare_cached("DELETE FROM checkpoint WHERE n = ?1")?.execute([n])?;
        self.db.prepare_cached("INSERT INTO garbage (n) VALUES (?1)")?.execute([n])?;
        self.hints.push(Hint::Moved { id, tail: unsigned(tail), ended: true });
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
        let sql = "SELECT n, pair, status, attempt, tail, bytes, tags, args IS NULL, stripped IS NULL AND retention IS NULL \
             FROM task WHERE id = ?1";
        let found = self.db.prepare_cached(sql)?.query_row([id.as_bytes()], |row| {
            let numbers: [i64; 6] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?];
            Ok((numbers, row.get::<_, Option<String>>(6)?, row.get::<_, bool>(7)?, row.get::<_, bool>(8)?))
        });
        let Some(([n, pair, status, attempt, tail, bytes], tags, apart, counted)) = found.optional()? else {
            return Ok(Err(Removed::Absent));
        };
        let status = rows::status(status);
        if !status.is_ended() && attempt > 0 {
            return Ok(Err(Removed::Unfinished));
        }
        if status.is_ended() && counted {
            let state = self.state()?;
            state.ended_tasks -= 1;
            state.ended_bytes -= bytes;
        }
        if apart {
            self.db.prepare_cached("DELETE FROM large_args WHERE n = ?1")?.execute([n])?;
        }
        if tail > GARBAGE_ROWS {
            self.db.prepare_cached("INSERT OR IGNORE INTO garbage (n) VALUES (?1)")?.execute([n])?;
        } else if tail > 0 {
            self.db.prepare_cached("DELETE FROM log WHERE n = ?1")?.execute([n])?;
        }
        if tail > 0 {
            self.db.prepare_cached("DELETE FROM checkpoint WHERE n = ?1")?.execute([n])?;
        }
        self.delete_row(n, pair, status, tags.as_deref())?;
        Ok(Ok(unsigned(tail)))
    }

    fn delete_row(&mut self, n: i64, pair: i64, status: Status, tags: Option<&str>) -> rusqlite::Result<()> {
        for tag in tags.iter().flat_map(|t| serde_json::from_str::<Vec<String>>(t).unwrap_or_default()) {
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
        let sql = "SELECT n, pair, status, tags FROM task WHERE stripped IS NOT NULL AND stripped <= ?1 \
             AND n NOT IN (SELECT n FROM garbage) ORDER BY stripped LIMIT ?2";
        let bare: Vec<(i64, i64, i64, Option<String>)> = self
            .db
            .prepare_cached(sql)?
            .query_map((old, limit(max)), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
            .collect::<Result<_, _>>()?;
        for (n, pair, status, tags) in &bare {
            self.delete_row(*n, *pair, rows::status(*status), tags.as_deref())?;
        }
        Ok(bare.len())
    }
}
