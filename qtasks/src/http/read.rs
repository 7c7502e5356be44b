//! [`Reader`]: one log as one client is shown it, from any place on.

use std::str::FromStr;
use std::sync::Arc;

use crate::app::Core;
use crate::error::{ErrorKind, Result};
use crate::event::{EventBatch, EventCode, EventRef, is_void};
use crate::store::{Read, What, page};
use crate::task::{Rewind, TaskId, TaskRecord};
use crate::watch::{Cursor, Part};

/// Most bytes of a log that are read for a client at once, unless a single value is larger: what a client holds that
/// stopped reading.
const PART_BYTES: usize = 64 << 10;

/// Which events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum View {
    /// What holds: no yield that a later attempt took back, and a `rewind` only where this client has such a yield.
    #[default]
    Effective,
    /// The log as it is: only so are seqs without gaps.
    All,
}

/// How far a client has read: the `id` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventId {
    pub(super) seq: u64,
    epoch: u64,
}

impl FromStr for EventId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (seq, epoch) = text.split_once('-').ok_or(())?;
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse().map_err(drop),
            false => Err(()),
        };
        Ok(EventId { seq: number(seq)?, epoch: number(epoch)? })
    }
}

/// Where a client begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// With this `seq`.
    From(u64),
    /// After the event that it names; what is no id of ours is none that is known.
    After(Option<EventId>),
}

pub(super) struct Reader {
    cursor: Cursor,
    /// What was read when the log was opened: a log that can't be read is told before the answer begins.
    first: Option<Part>,
    view: View,
    /// How many yields the client holds.
    held: u64,
    over: bool,
}

/// A log that is open.
pub(super) struct Opened {
    pub(super) record: TaskRecord,
    pub(super) reader: Reader,
    /// The client knows another history: it begins anew.
    pub(super) reset: bool,
    /// The log has ended, and the client has all of it.
    pub(super) past_end: bool,
}

impl Reader {
    pub(super) async fn open(core: &Arc<Core>, id: TaskId, place: &Place, view: View) -> Result<Opened> {
        let record = core.hub.record(id).await?;
        let after = match place {
            Place::From(seq) => Some(seq.saturating_sub(1)),
            Place::After(Some(last)) => is_known(core, id, last).await?.then_some(last.seq),
            Place::After(None) => None,
        };
        let cursor = |seq: u64| Cursor::new(Arc::clone(&core.hub), id, seq + 1).in_parts_of(PART_BYTES);
        let held = match after {
            Some(0) => Ok(0),
            // It is ahead of the log, and waits for it.
            Some(seq) if seq > record.tail => Ok(record.yields),
            Some(seq) => cursor(0).held_at(seq).await,
            None => Ok(0),
        };
        let (after, held) = match held {
            Ok(held) => (after, held),
            Err(error) if error.kind() == ErrorKind::Reset => (None, 0),
            Err(error) => return Err(error),
        };
        let past_end = record.status.is_ended() && after.is_some_and(|seq| seq >= record.tail);
        let mut cursor = cursor(after.unwrap_or(0));
        let first = if past_end || cursor.next_seq() > record.tail { None } else { cursor.next().await? };
        let reader = Reader { cursor, first, view, held, over: false };
        Ok(Opened { record, reader, reset: after.is_none(), past_end })
    }

    /// The `seq` that comes next.
    pub(super) fn next_seq(&self) -> u64 {
        let first = self.first.as_ref().and_then(|part| part.batches.first());
        first.map_or_else(|| self.cursor.next_seq(), |batch| batch.first_seq())
    }

    /// The next events, when there are some; `None` after the end. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Part>> {
        if self.over {
            return Ok(None);
        }
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.cursor.next().await,
        }
    }

    /// Whether the client is shown all of a batch, as there is nothing that is void: then it counts as shown.
    pub(super) fn shows_all(&mut self, batch: &EventBatch, rewinds: &[Rewind]) -> bool {
        if !rewinds.is_empty() {
            return false;
        }
        self.over |= batch.kinds().next_back().is_some_and(|(code, _)| code.is_end());
        if let Some(behind) = batch.kinds().rev().position(|(code, _)| code == EventCode::Yield) {
            let last = batch.event(batch.len() - 1 - behind).expect("it was there");
            self.held = last.index + 1;
        }
        true
    }

    /// Whether the client is shown an event. Asked once of each, in order.
    pub(super) fn shows(&mut self, event: &EventRef<'_>, rewinds: &[Rewind]) -> bool {
        self.over |= event.code.is_end();
        if self.view == View::All {
            return true;
        }
        match event.code {
            EventCode::Rewind => {
                let shown = self.held > event.index;
                self.held = self.held.min(event.index);
                shown
            }
            EventCode::Yield if !is_void(event, rewinds) => {
                self.held = event.index + 1;
                true
            }
            _ => !is_void(event, rewinds),
        }
    }
}

/// Whether the log has the event that a client read last.
async fn is_known(core: &Core, id: TaskId, last: &EventId) -> Result<bool> {
    if last.seq == 0 {
        return Ok(true);
    }
    let read = Read { id, from_seq: last.seq, limit: 1, bytes_max: usize::MAX, what: What::Events };
    let slice = page::read(&*core.store, read).await?;
    let event = slice.events.first().and_then(|batch| batch.event(0));
    Ok(event.is_some_and(|event| (event.seq, event.epoch) == (last.seq, last.epoch)))
}
