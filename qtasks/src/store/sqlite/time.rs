//! The time of the file: what the processes that share it agree on, and what moves when that jumps.

use std::time::Duration;

use rusqlite::Connection;

use super::reads;
use super::rows::{Changed, signed};
use super::tx::{Tx, read_state};
use crate::clock::Clock;

/// Sweeps that are no further apart than this go on without a gap, in milliseconds.
const GAP_MS: u64 = 10_000;

/// Takes over the time of a file that is being opened. Writes nothing: another process may be writing to the file.
pub(super) fn join(db: &Connection, clock: &Clock) -> rusqlite::Result<()> {
    clock.join(&mut read_state(db)?.0.clock);
    Ok(())
}

impl Tx<'_> {
    /// Takes over the time of the file, as every transaction does first: another process may have changed it. An offset
    /// of another boot is replaced; unless the sweeps go on without a gap, the wall clock may have been wrong since.
    pub(super) fn agree(&mut self, clock: &Clock) -> rusqlite::Result<()> {
        let state = self.state()?;
        let known = state.clock.mark != 0;
        if clock.join(&mut state.clock)
            && known
            && let Some(swept) = state.mark.swept_at
            && clock.now_ms().abs_diff(swept) > GAP_MS
        {
            state.clock.jumped = Some(state.clock.confirmed);
            state.mark.lease_max = 0;
        }
        Ok(())
    }

    /// Compares the wall clock with the time of the file. Where that jumps, moves what keeps its distance with it.
    pub(super) fn look(&mut self, clock: &Clock, lease: Duration) -> rusqlite::Result<()> {
        let state = self.state()?;
        let patience = lease.max(Duration::from_millis(state.mark.lease_max));
        let jumped = clock.look(Some(&mut state.clock), patience);
        self.now = clock.now_ms();
        // Without a clock that all of them share, the other processes would do so as well.
        match jumped {
            Some(by) if self.state()?.clock.mark != 0 => self.shift(by),
            _ => Ok(()),
        }
    }

    /// Moves what [`Life::shift`] does of all tasks, and the rest that expires.
    fn shift(&mut self, by: i64) -> rusqlite::Result<()> {
        self.state()?.mark.shift(by);
        for sql in [
            "SELECT t.n FROM pair p CROSS JOIN task t ON t.pair = p.pair AND t.status = 3",
            "SELECT n FROM task WHERE status = 1 AND attempt > 0",
            "SELECT n FROM task WHERE expires IS NOT NULL AND attempt = 0 AND status < 3 AND due_at IS NULL",
        ] {
            for n in self.numbers(sql, [])? {
                let Some(mut found) = self.rows.find_by_n(n)?.filter(|found| found.damage.is_none()) else { continue };
                found.life.shift(by);
                self.rows.save(&found.place, &found.life, Changed::All)?;
            }
        }
        self.db.prepare_cached("UPDATE claim SET at = max(at + ?1, 0)")?.execute([by])?;
        let sql = "SELECT key, version, bytes, expires, sum FROM doc WHERE expires IS NOT NULL";
        let mut docs = self.db.prepare_cached(sql)?;
        let mut rows = docs.query([])?;
        let mut moved = Vec::new();
        while let Some(row) = rows.next()? {
            moved.extend(reads::doc_of(row, 0).zip(row.get::<_, i64>(3).ok()));
        }
        for (doc, at) in moved {
            self.put_doc(&doc.key, doc.version, &doc.bytes, Some(at.saturating_add(by).max(0)))?;
        }
        Ok(())
    }

    /// Cuts leases that are further ahead than a lease can be.
    pub(super) fn cut(&self, (latest, limit): (u64, u64)) -> rusqlite::Result<()> {
        let sql = "UPDATE task SET lease_until = ?1 WHERE n IN (SELECT t.n FROM pair p \
             CROSS JOIN task t ON t.pair = p.pair AND t.status = 3 WHERE t.lease_until > ?2)";
        self.db.prepare_cached(sql)?.execute((signed(latest), signed(limit)))?;
        Ok(())
    }
}
