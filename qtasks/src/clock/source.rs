//! [`Source`]: the clocks of the machine.
//!
//! If the system has it, the steady clock is the one that counts since the boot and through suspends
//! (`CLOCK_BOOTTIME`), and the boot has an id: all processes of the machine then measure by the same clock. Elsewhere
//! the steady clock is that of the process.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::agreed::Reading;

/// A reading that took longer is repeated: between its two clocks the process was not running.
const APART_MAX: i64 = 20;

/// Source of the readings.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Machine,
    #[cfg(test)]
    Simulated(std::sync::Arc<super::Simulated>),
}

impl Source {
    /// Reads the steady clock, in microseconds.
    pub(super) fn steady(&self) -> i64 {
        match self {
            Source::Machine => steady(),
            #[cfg(test)]
            Source::Simulated(simulated) => simulated.reading().steady,
        }
    }

    /// Reads both clocks at one instant.
    pub(super) fn read(&self) -> Reading {
        match self {
            Source::Machine => read(),
            #[cfg(test)]
            Source::Simulated(simulated) => simulated.reading(),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn read() -> Reading {
    let wall = || match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    };
    let once = || {
        let (before, wall, after) = (steady(), wall(), steady());
        (after - before, Reading { boot: *BOOT, wall, steady: before + (after - before) / 2 })
    };
    let mut best = once();
    for _ in 0..8 {
        if best.0 <= APART_MAX {
            break;
        }
        let next = once();
        if next.0 < best.0 {
            best = next;
        }
    }
    best.1
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn steady() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn steady() -> i64 {
    micros(PROCESS.elapsed())
}

/// Somewhere in the life of this process.
#[cfg_attr(any(target_os = "linux", target_os = "android"), expect(dead_code, reason = "the clock of other systems"))]
static PROCESS: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The boot that the steady clock counts from, or 0.
static BOOT: LazyLock<u64> = LazyLock::new(|| boot().unwrap_or(0));

#[cfg(any(target_os = "linux", target_os = "android"))]
fn boot() -> Option<u64> {
    let id = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    // The clock may be another one in a namespace of its own.
    let space = std::fs::read_link("/proc/self/ns/time").unwrap_or_default();
    let mut known = id.trim_ascii().to_vec();
    known.extend_from_slice(space.as_os_str().as_encoded_bytes());
    Some(xxhash_rust::xxh3::xxh3_64(&known).max(1))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn boot() -> Option<u64> {
    None
}
