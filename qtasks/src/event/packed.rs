//! How a store keeps a batch in one row: what is told of each event apart from the events' data.
//!
//! Per event: the code (a byte), then index, length of the data and milliseconds after the batch's instant as LEB128;
//! of a yield and a custom event also the hash, 8 bytes, little endian. Codes that later versions add have a hash from
//! 128 on, and none below, so that this version can read past them.

use super::{Body, Draft, EventBatch, EventCode, Head, Stamp, voided};
use crate::task::Rewind;

/// What is told of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) code: EventCode,
    pub(crate) index: u64,
    pub(crate) hash: u64,
    bytes: u32,
    late_ms: u32,
}

impl Packed {
    /// Whether it no longer holds, at its place in the log.
    pub(crate) fn is_void(&self, seq: u64, rewinds: &[Rewind]) -> bool {
        voided(self.code, seq, self.index, rewinds)
    }
}

impl EventCode {
    /// The kinds in the order of their codes, of which the first is 1.
    const ALL: [Self; 9] = {
        use EventCode::{Cancelled, Completed, Event, Failed, Log, Retry, Rewind, Started, Yield};
        [Started, Yield, Event, Log, Rewind, Retry, Completed, Failed, Cancelled]
    };

    /// Returns the kind of a code that was stored; `None` for 0, which is not a code.
    fn from_u8(code: u8) -> Option<Self> {
        let at = usize::from(code.checked_sub(1)?);
        Some(Self::ALL.get(at).copied().unwrap_or(EventCode::Other(code)))
    }

    /// Returns the code under which it is stored.
    fn to_u8(self) -> u8 {
        match self {
            EventCode::Other(code) => code,
            known => Self::ALL.iter().position(|kind| *kind == known).map_or(0, |at| at as u8 + 1),
        }
    }

    fn has_hash(self) -> bool {
        matches!(self, EventCode::Yield | EventCode::Event | EventCode::Other(128..))
    }
}

fn write(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Reads what [`EventBatch::pack`] wrote; ends early where that is damaged.
pub(crate) fn unpack(mut heads: &[u8]) -> impl Iterator<Item = Packed> {
    std::iter::from_fn(move || {
        let (code, rest) = heads.split_first()?;
        let code = EventCode::from_u8(*code)?;
        heads = rest;
        let index = read(&mut heads)?;
        let bytes = u32::try_from(read(&mut heads)?).ok()?;
        let late_ms = u32::try_from(read(&mut heads)?).ok()?;
        let mut hash = 0;
        if code.has_hash() {
            let (eight, rest) = heads.split_first_chunk::<8>()?;
            hash = u64::from_le_bytes(*eight);
            heads = rest;
        }
        Some(Packed { code, index, hash, bytes, late_ms })
    })
}

impl EventBatch {
    /// What is told of its events, and their data.
    pub(crate) fn pack(&self) -> (Vec<u8>, &[u8]) {
        let mut out = Vec::with_capacity(self.len() * 16);
        let heads = &self.body.heads[self.range.start as usize..self.range.end as usize];
        let start = self.range.start.checked_sub(1).map_or(0, |before| self.body.heads[before as usize].end);
        let mut end = start;
        for head in heads {
            out.push(head.code.to_u8());
            write(head.index, &mut out);
            write(u64::from(head.end - end), &mut out);
            write(u64::from(head.late_ms), &mut out);
            if head.code.has_hash() {
                out.extend_from_slice(&head.hash.to_le_bytes());
            }
            end = head.end;
        }
        (out, &self.body.bytes[start as usize..end as usize])
    }

    /// The batch that was packed; `None` if the two don't belong together.
    pub(crate) fn unpacked(stamp: Stamp, count: usize, heads: &[u8], data: Vec<u8>) -> Option<Self> {
        let mut end = 0_u32;
        // What `count` says may be damaged; an event takes four bytes at least.
        let mut all = Vec::with_capacity(count.min(heads.len() / 4));
        for Packed { code, index, hash, bytes, late_ms } in unpack(heads) {
            end = end.checked_add(bytes)?;
            all.push(Head { hash, index, end, late_ms, code });
        }
        if all.len() != count || end as usize != data.len() {
            return None;
        }
        Some(Draft(std::sync::Arc::new(Body { heads: all, bytes: data.into() })).stamp(stamp))
    }
}
