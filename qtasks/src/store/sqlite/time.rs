//! The time of the file: what the processes that share it agree on, and what moves when that jumps.

use std::time::Duration;

use rusqlite::Connection;

use super::rows::signed;
use super::tx::{Tx, read_state};
use crate::clock::Clock;

/// Sweeps that are no further apart than this go on without a gap, in milliseconds.
const GAP_MS: u64 = 10_000;

/// Takes over the time of a file that is being opened. Writes nothing: another process may be writing to the file.
pub(super) fn join(db: &Connection, clock: &Clock) -> rusqlite::Result<()> {
    clock.join(&mut read_state(db)?.clock);
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

    /// Moves what [`Life::shift`](crate::store::life::Life::shift) does of all tasks, and the rest that expires.
    fn shift(&mut self, by: i64) -> rusqlite::Result<()> {
        self.state()?.mark.shift(by);
        self.write_counts()?;
        for sql in [
            "UPDATE task SET lease_until = max(lease_until + ?1, 0) WHERE n IN (SELECT t.n FROM count c \
             CROSS JOIN task t ON t.pair = c.pair AND t.status = 3 WHERE c.status = 3 AND c.tasks > 0)",
            "UPDATE task SET due = max(due + ?1, 0), due_at = max(due_at + ?1, 0) WHERE status = 1 AND attempt > 0",
            "UPDATE task SET expires = max(expires + ?1, 0) \
             WHERE expires IS NOT NULL AND attempt = 0 AND status < 3 AND due_at IS NULL",
            "UPDATE claim SET at = max(at + ?1, 0)",
            "UPDATE doc SET expires = max(expires + ?1, 0) WHERE expires IS NOT NULL",
        ] {
            self.db.prepare_cached(sql)?.execute([by])?;
        }
        Ok(())
    }

    /// Cuts leases that are further ahead than a lease can be.
    pub(super) fn cut(&self, (latest, limit): (u64, u64)) -> rusqlite::Result<()> {
        let sql = "UPDATE task SET lease_until = ?1 WHERE n IN (SELECT t.n FROM count c \
             CROSS JOIN task t ON t.pair = c.pair AND t.status = 3 \
             WHERE c.status = 3 AND c.tasks > 0 AND t.lease_until > ?2)";
        self.db.prepare_cached(sql)?.execute((signed(latest), signed(limit)))?;
        Ok(())
    }
}
