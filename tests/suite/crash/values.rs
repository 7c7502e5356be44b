//! What bodies yield, and what their handler makes of it. The worker and the suite share this file: what is expected
//! of a task follows from its arguments.

use qtasks::event::EventRef;
use serde::Serialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What bodies yield.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Item {
    pub(crate) index: u64,
    pub(crate) payload: u64,
}

impl Item {
    /// What the handler makes of it.
    pub(crate) fn kept(&self) -> u64 {
        mixed(self.payload ^ self.index.rotate_left(32))
    }

    /// By what the log knows it again: the item itself, or, where items are not compared, what the handler made.
    pub(crate) fn hash(&self, compared: bool) -> u64 {
        let text = if compared { serde_json::to_vec(self) } else { serde_json::to_vec(&self.kept()) };
        xxh3_64(&text.expect("numbers"))
    }
}

/// One number out of another, as if it had nothing to do with it (splitmix64).
pub(crate) fn mixed(n: u64) -> u64 {
    let z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What a body that always yields the same yields at an index.
pub(crate) fn payload(seed: u64, index: u64) -> u64 {
    mixed(seed ^ mixed(index))
}

/// The values of a generator between two custom events, where it sends some.
pub(crate) const NOTE_EVERY: u64 = 7;

/// By what a stored event is known: all that its writer says of it.
pub(crate) fn digest(event: &EventRef<'_>) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(format!("{:?}", event.code).as_bytes());
    sum.update(&event.index.to_le_bytes());
    sum.update(&event.hash.to_le_bytes());
    sum.update(event.data);
    sum.digest()
}

/// The digest of several events.
pub(crate) fn digests(each: impl IntoIterator<Item = u64>) -> u64 {
    each.into_iter().fold(0, |all, one| mixed(all ^ one))
}
