//! [`Shared`]: a batch, and what is made of it once for all who watch.

use std::ops::Deref;

use crate::event::EventBatch;

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
