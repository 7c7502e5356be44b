//! What the suite tells a worker: where to work, and where to stop. The worker and the suite share this file.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The lease of every process here.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// How often each searches the store.
pub(crate) const SCAN: Duration = Duration::from_millis(300);

/// The one argument of the worker, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) role: Role,
    pub(crate) url: String,
    /// Where witnesses go; `NAME.go` there lets a process go on that stands at its point.
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    pub(crate) concurrency: usize,
    pub(crate) crashes_max: u32,
    pub(crate) fault: Option<Fault>,
    pub(crate) broken: Option<Broken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Work,
    Watch,
}

/// A point at which a process stands still: the `nth` operation of a sort, and where in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) op: Op,
    pub(crate) moment: Moment,
    pub(crate) nth: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Op {
    Claim,
    /// An append after which the task runs on.
    Append,
    /// An append that ends the attempt.
    End,
    /// A heartbeat.
    Extend,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Moment {
    Before,
    /// Before it, and only when the generator has filled its window.
    Full,
    /// In the store's transaction.
    Inside,
    /// The store has done it, and nobody was told.
    After,
}

/// A build with a bug in it, which the checker has to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Broken {
    /// What comes with an old epoch is stored all the same.
    NoFence,
    /// Watchers see events before the store has them.
    Early,
    /// A watcher that falls behind goes on with what is newest.
    SkipsOnLag,
    /// An attempt does not know what was yielded before it.
    HandlesAgain,
}

/// A task under an epoch of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) task: u32,
    pub(crate) epoch: u64,
    pub(crate) attempt: u32,
}
