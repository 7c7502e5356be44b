//! One row: its log, and what the record says of it.

use super::*;

/// Batches of fewer events are merged with the one before them, where that is no larger.
const SMALL: usize = 64;

impl Row {
    /// A task that has just been added as number `n`.
    pub(super) fn new(new: NewTask, n: u64, now: u64) -> Self {
        let due = match new.due {
            Due::Now => now,
            Due::In(wait) => now.saturating_add(ms(wait)),
            Due::At(at) => to_ms(at),
        };
        let later = (due > now).then(|| from_ms(due));
        let record = TaskRecord {
            id: new.id,
            name: new.name,
            queue: new.queue,
            priority: new.priority,
            args: new.args,
            tags: new.tags,
            status: match later {
                _ if new.held => Status::Held,
                Some(_) => Status::Delayed,
                None => Status::Queued,
            },
            created_at: from_ms(now),
            updated_at: from_ms(now),
            started_at: None,
            completed_at: None,
            attempt: 0,
            epoch: 0,
            failures: 0,
            crashes: 0,
            worker: None,
            yields: 0,
            tail: 0,
            rewinds: Vec::new(),
            final_value: None,
            error: None,
            cancel_reason: None,
            retry_of: new.retry_of,
            due_at: later,
            expires_at: new.expires.map(|e| from_ms(now.saturating_add(ms(e)))),
            parent: new.parent,
            yields_high: 0,
        };
        Row {
            n,
            record,
            due,
            log: Vec::new(),
            bytes: 0,
            last_append: None,
            checkpoint: None,
            lease_until: 0,
            unique: new.unique,
            idempotency_key: new.idempotency_key,
            retry: new.retry,
            time_limit: new.time_limit,
            bare: false,
        }
    }

    /// Adds events to the log, and to what the record says of it.
    pub(super) fn store(&mut self, events: Draft, now: u64) {
        let record = &mut self.record;
        let stamp = crate::event::Stamp {
            seq: record.tail + 1,
            epoch: record.epoch,
            attempt: record.attempt,
            at: from_ms(now),
        };
        self.bytes += events.bytes() as u64;
        let batch = events.stamp(stamp);
        for event in batch.iter() {
            match event.code {
                EventCode::Yield => {
                    record.yields = event.index + 1;
                    if record.yields > record.yields_high {
                        record.yields_high = record.yields;
                        record.crashes = 0;
                    }
                }
                EventCode::Rewind => {
                    record.yields = event.index;
                    record.rewinds.push(Rewind { seq: event.seq, to: event.index });
                }
                EventCode::Completed => {
                    record.final_value = (!event.data.is_empty()).then(|| event.json());
                    record.cancel_reason = None;
                }
                EventCode::Failed => {
                    record.error = event.failure();
                    record.cancel_reason = None;
                }
                EventCode::Cancelled => record.cancel_reason = event.reason(),
                _ => {}
            }
        }
        record.tail = batch.end_seq() - 1;
        record.updated_at = from_ms(now);
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

    /// The status that the last event gives.
    pub(super) fn ended_as(&self) -> Status {
        let last = self.log.last().and_then(|b| b.iter().next_back()).map(|e| e.code);
        match last {
            Some(EventCode::Failed) => Status::Failed,
            Some(EventCode::Cancelled) => Status::Cancelled,
            last => {
                debug_assert_eq!(last, Some(EventCode::Completed), "an outcome without its event");
                Status::Completed
            }
        }
    }

    /// What its next attempt needs to know.
    pub(super) fn claimed(&self) -> ClaimedTask {
        let wanted = self.record.yields.checked_sub(1);
        let holds = |e: &crate::event::EventRef<'_>| {
            e.code == EventCode::Yield && Some(e.index) == wanted && !is_void(e, &self.record.rewinds)
        };
        let last = wanted.and_then(|_| self.log.iter().rev().find_map(|b| b.iter().rev().find(holds)));
        ClaimedTask {
            record: self.record.clone(),
            bytes: self.bytes,
            last_yield: last.map(|e| e.json()),
            checkpoint: self.checkpoint.clone(),
            retry: self.retry,
            time_limit: self.time_limit,
        }
    }

    /// Retention: what is left is the bare row.
    pub(super) fn strip(&mut self) {
        self.log = Vec::new();
        self.bytes = 0;
        self.checkpoint = None;
        self.record.args = Json::null();
        self.record.final_value = None;
        self.bare = true;
    }
}

impl State {
    pub(super) fn read(&self, read: Read) -> Result<Slice> {
        let row = self.rows.get(&read.id).ok_or_else(|| super::super::not_found(read.id))?;
        let record = &row.record;
        if row.bare {
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
                let mut room = read.limit;
                for batch in &row.log[first..] {
                    if room == 0 {
                        break;
                    }
                    let part = if batch.first_seq() >= from && batch.len() <= room {
                        batch.clone()
                    } else {
                        batch.slice(from, room)
                    };
                    room -= part.len();
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
