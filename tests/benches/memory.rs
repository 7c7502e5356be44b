//! An allocator that counts, when it is told to.
#![expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts for the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Counters that every thread writes to would slow down what is measured beside memory.
static ON: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    if ON.load(Relaxed) {
        let more = sign * isize::try_from(bytes).expect("no layout is larger");
        let live = LIVE.fetch_add(more, Relaxed) + more;
        if more > 0 {
            PEAK.fetch_max(live, Relaxed);
        }
    }
}

// SAFETY: all is the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Counts from here on; what was allocated before and is freed later counts as less than nothing.
pub(crate) fn start() {
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    ON.store(true, Relaxed);
}

/// Counts no more.
pub(crate) fn stop() {
    ON.store(false, Relaxed);
}

/// Bytes that are held beyond those at the start.
pub(crate) fn live() -> isize {
    LIVE.load(Relaxed)
}

/// The most that were held at any time.
pub(crate) fn peak() -> isize {
    PEAK.load(Relaxed)
}
