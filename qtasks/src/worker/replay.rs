//! [`Replay`]: how an attempt after the first goes on with the log of those before it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::sink::{Sink, Stop};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ClaimedTask, Hashed, Read, Slice, Store, What, page};
use crate::task::{FailureKind, OnRetry, TaskFailure, TaskId};

/// How many hashes are read at once; the next page is on its way while one is compared.
const PAGE: usize = 1024;
/// How long to wait before a read that failed is repeated.
const REPEAT: Duration = Duration::from_millis(100);

/// What a yield of this attempt is to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there already.
    Same,
    /// Another one is there.
    Different,
    /// The log has none at this index.
    New,
}

/// Compares what a body yields with what it yielded before.
pub(crate) struct Replay {
    store: Arc<dyn Store>,
    id: TaskId,
    /// How many yields hold in the log; 0 once there is nothing more to compare.
    count: u64,
    at: u64,
    page: VecDeque<Hashed>,
    next_seq: u64,
    ahead: Option<JoinHandle<Result<Slice>>>,
    runtime: tokio::runtime::Handle,
}

impl Replay {
    /// Prepares an attempt: sets what its sink must know, and rewinds where the mode says so.
    pub(crate) async fn prepare(
        store: &Arc<dyn Store>,
        task: &ClaimedTask,
        mode: OnRetry,
        sink: &Sink,
        runtime: &tokio::runtime::Handle,
    ) -> Replay {
        let record = &task.record;
        let mut replay = Replay {
            store: Arc::clone(store),
            id: record.id,
            count: 0,
            at: 0,
            page: VecDeque::new(),
            next_seq: 1,
            ahead: None,
            runtime: runtime.clone(),
        };
        if record.tail == 0 {
            return replay;
        }
        let mut gaps = replay.custom_events(sink).await;
        match mode {
            OnRetry::Replay => {
                replay.count = record.yields;
                sink.begin(0, gaps);
            }
            OnRetry::Resume => {
                gaps.retain(|gap, _| *gap == record.yields);
                sink.begin(record.yields, gaps);
            }
            OnRetry::Restart => {
                let void = record.yields > 0 || gaps.keys().any(|gap| *gap > 0);
                gaps.retain(|gap, _| *gap == 0);
                sink.begin(record.yields, gaps);
                if void {
                    sink.rewind(0);
                }
            }
        }
        replay
    }

    /// The hashes of the custom events that hold, by the gap between yields that they stand in. An attempt may have
    /// added some to an early gap late in the log, so all are needed before the body begins.
    async fn custom_events(&self, sink: &Sink) -> HashMap<u64, VecDeque<u64>> {
        let mut gaps: HashMap<u64, VecDeque<u64>> = HashMap::new();
        let mut from_seq = 1;
        loop {
            let Some(slice) = self.read(What::EventHashes, from_seq, sink).await else { return gaps };
            for event in slice.hashes {
                gaps.entry(event.index).or_default().push_back(event.hash);
            }
            if slice.next_seq > slice.tail {
                return gaps;
            }
            from_seq = slice.next_seq;
        }
    }

    /// Reads a page, again and again until the store answers. `None` once the task is gone or no longer ours: the
    /// attempt is stopped then, and nothing is concluded from what was not read.
    async fn read(&self, what: What, from_seq: u64, sink: &Sink) -> Option<Slice> {
        loop {
            let read = Read { id: self.id, from_seq, limit: PAGE, bytes_max: usize::MAX, what };
            match page::read_on(&*self.store, read).await {
                Ok(slice) => return Some(slice),
                // Another attempt would find the same.
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    fail(sink, &error);
                    return None;
                }
                Err(error) if error.kind() == ErrorKind::Unavailable && sink.has_lease() => {
                    crate::trouble::store_failed(&error, "a log could not be read; trying again");
                    tokio::time::sleep(REPEAT).await;
                }
                Err(error) => {
                    tracing::error!(%error, id = %self.id, "the log can't be read; the task is dropped");
                    sink.stop(Stop::Fenced);
                    return None;
                }
            }
        }
    }

    /// Whether there is still something to compare with.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.at < self.count
    }

    /// Where the comparing stopped short of the log, when the body has ended well.
    pub(crate) fn short(&self) -> Option<u64> {
        self.is_on().then_some(self.at)
    }

    /// Whether the next hash is here, so that comparing does not wait.
    pub(crate) fn is_loaded(&self) -> bool {
        !self.page.is_empty()
    }

    /// Fetches hashes until there is one, or none any more.
    pub(crate) async fn load(&mut self, sink: &Sink) {
        while !self.is_loaded() {
            let ahead = match self.ahead.take() {
                Some(reading) => reading.await.ok().and_then(Result::ok),
                None => None,
            };
            let read = match ahead {
                Some(slice) => Some(slice),
                None => self.read(What::YieldHashes, self.next_seq, sink).await,
            };
            let Some(slice) = read else { return };
            let is_last = slice.next_seq > slice.tail;
            self.take(slice);
            if is_last && !self.is_loaded() {
                let message = format!("its record tells of {} values, and its log has fewer", self.count);
                return fail(sink, &page::damaged(self.id, self.next_seq, &message));
            }
        }
    }

    /// Takes a page, and has the next one read while this one is compared.
    fn take(&mut self, slice: Slice) {
        self.next_seq = slice.next_seq;
        self.page.extend(slice.hashes);
        if self.next_seq <= slice.tail {
            let (store, id, from_seq) = (Arc::clone(&self.store), self.id, self.next_seq);
            self.ahead = Some(self.runtime.spawn(async move {
                page::read(&*store, Read { id, from_seq, limit: PAGE, bytes_max: usize::MAX, what: What::YieldHashes })
                    .await
            }));
        }
    }

    /// Compares the next yield.
    pub(crate) fn compare(&mut self, hash: u64) -> Verdict {
        if !self.is_on() {
            return Verdict::New;
        }
        if self.page.pop_front().is_some_and(|stored| stored.index == self.at && stored.hash == hash) {
            self.at += 1;
            return Verdict::Same;
        }
        self.count = 0;
        Verdict::Different
    }
}

/// Ends the attempt, and the task with it: what is stored of it can't be gone on with.
fn fail(sink: &Sink, error: &Error) {
    tracing::error!(%error, id = %sink.id(), "the task fails: its log can't be read");
    sink.stop(Stop::Fail(TaskFailure::of(FailureKind::Codec, error)));
}

impl Drop for Replay {
    fn drop(&mut self) {
        if let Some(reading) = &self.ahead {
            reading.abort();
        }
    }
}
