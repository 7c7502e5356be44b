//! Threads of our own for sync bodies: reused, outside of any runtime, and never waited for.
//!
//! A runtime waits for its own blocking threads when it ends, and in `block_on` every blocking library refuses to
//! work: hence these.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::panics::caught;

type Job = Box<dyn FnOnce() + Send>;

/// How long a thread waits for another job.
const IDLE: Duration = Duration::from_secs(10);

/// Threads without a job, the latest last.
static FREE: Mutex<Vec<(u64, Sender<Job>)>> = Mutex::new(Vec::new());

fn free() -> std::sync::MutexGuard<'static, Vec<(u64, Sender<Job>)>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a job on a thread that may block for as long as it likes.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn run(job: Job) -> std::io::Result<()> {
    let mut job = job;
    loop {
        let Some((_, thread)) = free().pop() else { break };
        match thread.send(job) {
            Ok(()) => return Ok(()),
            // It has just gone.
            Err(mpsc::SendError(back)) => job = back,
        }
    }
    #[cfg(feature = "conformance")]
    let live = Live::new()?;
    let work = move || {
        #[cfg(feature = "conformance")]
        let _live = live;
        work(job);
    };
    std::thread::Builder::new().name("qtasks-sync".to_owned()).spawn(work).map(drop)
}

fn work(first: Job) {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let me = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (sender, jobs) = mpsc::channel::<Job>();
    let mut job = first;
    loop {
        // A body's panic is caught where it is polled; this is for what it leaves behind.
        if let Err(failure) = caught(job) {
            tracing::warn!(%failure, "a thread of a sync body panicked");
        }
        free().push((me, sender.clone()));
        job = match jobs.recv_timeout(IDLE) {
            Ok(next) => next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let mut threads = free();
                let mine = threads.iter().position(|(id, _)| *id == me);
                if let Some(i) = mine {
                    threads.remove(i);
                    return;
                }
                drop(threads);
                // Somebody has just taken it to send it a job.
                match jobs.recv() {
                    Ok(next) => next,
                    Err(_) => return,
                }
            }
        };
    }
}

/// A thread, counted where a test limits how many there are: by `QTASKS_TEST_THREADS`, as a host does by `EAGAIN`.
#[cfg(feature = "conformance")]
struct Live;

#[cfg(feature = "conformance")]
static LIVE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[cfg(feature = "conformance")]
impl Live {
    fn new() -> std::io::Result<Self> {
        static MAX: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| {
            let max = std::env::var("QTASKS_TEST_THREADS").ok();
            max.and_then(|max| max.parse().ok()).unwrap_or(usize::MAX)
        });
        let live = LIVE.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let one = Live;
        match live < *MAX {
            true => Ok(one),
            false => Err(std::io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(feature = "conformance")]
impl Drop for Live {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
    }
}
