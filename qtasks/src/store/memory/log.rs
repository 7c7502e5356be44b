//! One row: its log, and what the record says of it.

use super::*;

/// Batches of fewer events are merged with the one before them, where that is no larger.
const SMALL: usize = 64;

impl Row {
    /// A task that has just been added as number `n`.
    pub(super) fn new(new: NewTask, n: u64, now: u64) -> Self {
        let same_call = new.idempotency_key.as_ref().map_or(0, |_| named_hash(&new.name, &new.args));
        Row {
            n,
            created: now,
            life: Life::new(&new, now),
            same_call,
            id: new.id,
            name: new.name,
            queue: new.queue,
            priority: new.priority,
            args: new.args,
            tags: new.tags,
            retry_of: new.retry_of,
            parent: new.parent,
            trace: new.trace,
            log: Vec::new(),
            checkpoint: None,
            unique: new.unique,
            replaced_by: None,
            idempotency_key: new.idempotency_key,
            retry: new.retry,
            time_limit: new.time_limit,
            idle_limit: new.idle_limit,
            bare: None,
        }
    }

    /// The task for those outside.
    pub(super) fn record(&self) -> TaskRecord {
        self.life.record(Fixed {
            id: self.id,
            name: self.name.clone(),
            queue: self.queue.clone(),
            priority: self.priority,
            args: self.args.clone(),
            tags: self.tags.clone(),
            created: self.created,
            retry_of: self.retry_of,
            parent: self.parent,
            trace: self.trace.clone(),
        })
    }

    /// Adds events to the log.
    pub(super) fn keep(&mut self, batch: EventBatch) {
        self.log.push(batch);
        self.merge();
    }

    /// Merges small batches with those before them that are no larger: each event is copied a few times at most, and
    /// few small batches are left.
    fn merge(&mut self) {
        while let [.., before, last] = &self.log[..]
            && before.len() <= last.len()
            && last.len() < SMALL
            && let Some(merged) = before.merge(last)
        {
            self.log.pop();
            *self.log.last_mut().expect("there were two") = merged;
        }
    }

    /// What its next attempt needs to know.
    pub(super) fn claimed(&self) -> ClaimedTask {
        let wanted = self.life.yields.checked_sub(1);
        let holds = |e: &crate::event::EventRef<'_>| {
            e.code == EventCode::Yield && Some(e.index) == wanted && !is_void(e, &self.life.rewinds)
        };
        let last = wanted.and_then(|_| self.log.iter().rev().find_map(|b| b.iter().rev().find(holds)));
        ClaimedTask {
            record: self.record(),
            bytes: self.life.bytes,
            last_yield: last.map(|e| e.json()),
            checkpoint: self.checkpoint.clone(),
            retry: self.retry,
            time_limit: self.time_limit,
            idle_limit: self.idle_limit,
        }
    }

    /// Retention: what is left is the bare row.
    pub(super) fn strip(&mut self) {
        self.log = Vec::new();
        self.checkpoint = None;
        self.args = Json::null();
        self.life.bytes = 0;
        self.life.final_value = None;
    }
}

impl State {
    pub(super) fn read(&self, read: Read) -> Result<Slice> {
        let row = self.rows.get(&read.id).ok_or_else(|| super::super::not_found(read.id))?;
        let record = &row.life;
        if row.bare.is_some() {
            return Err(super::super::gone(read.id, record.tail));
        }
        let from = read.from_seq.max(1);
        let mut slice = Slice {
            tail: record.tail,
            ended: record.status.is_ended(),
            rewinds: record.rewinds.clone(),
            next_seq: from,
            ..Slice::default()
        };
        let first = row.log.partition_point(|b| b.end_seq() <= from);
        let code = match read.what {
            super::super::What::Events => {
                let mut room = super::super::Room::new(&read);
                for batch in &row.log[first..] {
                    let Some(part) = room.cut(batch, from) else { break };
                    slice.next_seq = part.end_seq();
                    slice.events.push(part);
                }
                return Ok(slice);
            }
            super::super::What::YieldHashes => EventCode::Yield,
            super::super::What::EventHashes => EventCode::Event,
        };
        slice.next_seq = record.tail + 1;
        let events = row.log[first..].iter().flat_map(EventBatch::iter);
        let wanted = events.filter(|e| e.seq >= from && e.code == code && !is_void(e, &record.rewinds));
        for event in wanted {
            if slice.hashes.len() == read.limit {
                slice.next_seq = event.seq;
                break;
            }
            slice.hashes.push(super::super::Hashed { seq: event.seq, index: event.index, hash: event.hash });
        }
        Ok(slice)
    }
}
