//! What is taken away: by retention, and at once.

use super::*;

impl State {
    /// Notes that a task has ended, with its log.
    pub(super) fn keep_ended(&mut self, id: TaskId) {
        let Some(row) = self.rows.get(&id) else { return };
        let at = row.life.ended.unwrap_or(0);
        match row.life.retention {
            Some(retention) => drop(self.timed.insert((at.saturating_add(retention), id))),
            None => {
                self.ended.insert((at, id));
                self.ended_bytes += row.life.bytes;
            }
        }
    }

    pub(super) fn remove(&mut self, id: TaskId, hints: &mut Vec<Hint>) -> Removed {
        let Some(row) = self.rows.get(&id) else { return Removed::Absent };
        if !row.life.is_removable() {
            return Removed::Unfinished;
        }
        let (status, due, tail) = (row.life.status, row.life.due, row.life.tail);
        self.delist(id, status, due);
        let Some(row) = self.rows.remove(&id) else { return Removed::Absent };
        if let Some(at) = row.life.expires {
            self.expiring.remove(&(at, id));
        }
        let at = row.life.ended.unwrap_or(0);
        if status.is_ended() && self.ended.remove(&(at, id)) {
            self.ended_bytes -= row.life.bytes;
        }
        if let Some(retention) = row.life.retention {
            self.timed.remove(&(at.saturating_add(retention), id));
        }
        if let Some(at) = row.bare {
            self.bare.remove(&(at, id));
        }
        self.forget(*row);
        hints.push(Hint::Moved { id, tail, ended: true });
        Removed::Done
    }

    /// Frees what a row that is gone was found by.
    fn forget(&mut self, row: Row) {
        self.order.remove(&row.n);
        if let Some(by) = row.replaced_by {
            self.replaced.remove(&by);
        }
        if let Some(key) = row.idempotency_key {
            self.idempotency.remove(&key);
        }
        // An ended one has given its own back, and another may have it by now.
        if let Some(key) = row.unique
            && !row.life.status.is_ended()
        {
            self.unique.remove(&(row.name, key));
        }
    }

    pub(super) fn prune(&mut self, prune: Prune, now: u64, hints: &mut Vec<Hint>) -> Pruned {
        let mut pruned = Pruned::default();
        let old = now.saturating_sub(ms(prune.age));
        while pruned.logs < prune.max
            && let Some((at, id)) = self.ended.first().copied()
        {
            let many = prune.ended_max.is_some_and(|max| self.ended.len() as u64 > max)
                || prune.bytes_max.is_some_and(|max| self.ended_bytes > max);
            if !(at <= old || (many && at.saturating_add(super::super::KEPT_MS) <= now)) {
                break;
            }
            self.ended.remove(&(at, id));
            self.ended_bytes -= self.strip(id, now, hints);
            pruned.logs += 1;
        }
        while pruned.logs < prune.max
            && let Some((until, id)) = self.timed.first().copied()
            && until <= now
        {
            self.timed.remove(&(until, id));
            // The row stays as long again; that of others goes after their age.
            let retention = self.rows[&id].life.retention.unwrap_or(0);
            self.strip(id, now.saturating_add(retention).saturating_sub(ms(prune.age)), hints);
            pruned.logs += 1;
        }
        while pruned.rows < prune.max
            && let Some((at, id)) = self.bare.first().copied()
            && at <= old
        {
            self.bare.remove(&(at, id));
            if let Some(row) = self.rows.remove(&id) {
                self.forget(*row);
            }
            pruned.rows += 1;
        }
        pruned
    }

    /// Takes the log of an ended task away, and puts its row among the bare ones. Answers the bytes of the log.
    fn strip(&mut self, id: TaskId, at: u64, hints: &mut Vec<Hint>) -> u64 {
        let row = self.rows.get_mut(&id).expect("an ended task");
        let bytes = row.life.bytes;
        row.strip();
        row.bare = Some(at);
        self.bare.insert((at, id));
        hints.push(Hint::Moved { id, tail: row.life.tail, ended: true });
        bytes
    }
}
