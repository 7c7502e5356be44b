//! [`Shared`]: a batch, and what is made of it once for all who watch.

use std::ops::Deref;

use crate::event::EventBatch;

/// Most bytes of data in one piece of a log that is watched, unless it is a single event.
const PIECE_BYTES: usize = 64 << 10;
/// Most events in one piece.
const PIECE_EVENTS: usize = 1024;
/// Estimated memory that an event takes beside its data, in bytes.
pub(super) const EVENT_BYTES: usize = 64;

/// Consecutive events of a log that is watched. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    batch: EventBatch,
    #[cfg(feature = "http")]
    whole: std::sync::Arc<Whole>,
}

/// What the batch may be a part of.
#[cfg(feature = "http")]
#[derive(Debug)]
struct Whole {
    batch: EventBatch,
    frames: std::sync::OnceLock<crate::http::Frames>,
}

impl Shared {
    /// Cuts a batch into pieces that do not keep each other alive: a client that stops reading in the middle of a
    /// large batch holds one of them.
    pub(super) fn pieces(batch: &EventBatch) -> impl Iterator<Item = Self> {
        let mut from_seq = batch.first_seq();
        std::iter::from_fn(move || {
            let piece = batch.slice(from_seq, PIECE_EVENTS).first_bytes(PIECE_BYTES);
            from_seq = piece.end_seq();
            (!piece.is_empty()).then(|| piece.compact().into())
        })
    }

    /// Returns about how many bytes of memory its events take.
    pub(super) fn weight(&self) -> usize {
        self.batch.data_bytes() + self.batch.len() * EVENT_BYTES
    }

    /// The part of it from `seq` on.
    pub(super) fn since(&self, seq: u64) -> Self {
        let mut part = self.clone();
        part.batch = self.batch.slice(seq, usize::MAX);
        part
    }

    /// The events, and those around them, as they go to browsers.
    #[cfg(feature = "http")]
    pub(crate) fn frames(&self) -> &crate::http::Frames {
        self.whole.frames.get_or_init(|| crate::http::Frames::of(&self.whole.batch))
    }
}

impl From<EventBatch> for Shared {
    fn from(batch: EventBatch) -> Self {
        #[cfg(feature = "http")]
        let whole = std::sync::Arc::new(Whole { batch: batch.clone(), frames: std::sync::OnceLock::new() });
        Shared {
            batch,
            #[cfg(feature = "http")]
            whole,
        }
    }
}

impl Deref for Shared {
    type Target = EventBatch;
    fn deref(&self) -> &EventBatch {
        &self.batch
    }
}
