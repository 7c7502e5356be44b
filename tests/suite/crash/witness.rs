//! Witness lines: what bodies, handlers, appends and watchers did, for a checker that trusts nobody.
//!
//! Each line is one `write` to a file opened for appending, with no buffer in between: what a process said before a
//! SIGKILL is kept. The worker and the suite share this file.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::orders::{Fault, Held};

/// What a process says. Names are short where there are many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Said {
    // ---- a worker
    /// A body is about to yield an item; its hash is that of the item.
    #[serde(rename = "Y")]
    Yielded(Item),
    /// A handler was called with an item.
    #[serde(rename = "H")]
    Handled(Item),
    /// The store gave a task; the log ended with `tail` then.
    Claimed { held: Held, tail: u64, sent: u64 },
    /// The store answered a heartbeat.
    Extended { held: Held, holds: bool, sent: u64 },
    /// An append is about to be sent.
    Began(Call),
    /// The store answered an append.
    Answered(Call, Answer),
    /// The process stands at the point of its fault, and waits.
    Reached(Fault),
    /// It goes on.
    WentOn(Fault),
    /// It was told to end, and did.
    Left,

    // ---- a process that watches
    /// A watcher begins, from the start of a log.
    Attached { by: Watcher, task: u32 },
    /// A value was handed to a watcher.
    #[serde(rename = "S")]
    Seen {
        #[serde(rename = "w")]
        by: Watcher,
        #[serde(rename = "t")]
        task: u32,
        #[serde(rename = "v")]
        value: u64,
    },
    /// An event was handed to a watcher; `sum` is of all that it tells.
    #[serde(rename = "R")]
    Read {
        #[serde(rename = "w")]
        by: Watcher,
        #[serde(rename = "t")]
        task: u32,
        #[serde(rename = "s")]
        seq: u64,
        #[serde(rename = "x")]
        sum: u64,
    },
    /// A watcher of values was told to keep `to` of them.
    Rewound { by: Watcher, task: u32, to: u64, seq: u64 },
    /// A watcher came to the end: without an error, or with one of this kind.
    Closed { by: Watcher, task: u32, error: Option<String> },

    // ---- the suite
    /// A worker was killed, where it was told to stand or just so; or it died by itself.
    Killed { worker: String, at: Option<Fault>, itself: bool },
    /// A worker was stopped.
    Stopped { worker: String, at: Fault },
    /// It went on. Inside: nobody else could write meanwhile.
    Continued { worker: String, inside: bool },
    /// A worker was asked to end.
    Terminated { worker: String },
}

/// An item at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    #[serde(rename = "t")]
    pub(crate) task: u32,
    #[serde(rename = "a")]
    pub(crate) attempt: u32,
    #[serde(rename = "i")]
    pub(crate) index: u64,
    #[serde(rename = "h")]
    pub(crate) hash: u64,
}

/// An append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) task: u32,
    pub(crate) epoch: u64,
    pub(crate) after_seq: u64,
    pub(crate) events: u64,
    /// With an outcome: a cancel may put another event in the place of the last.
    pub(crate) ends: bool,
    /// Of the events, in an append with an outcome without the last.
    pub(crate) digest: u64,
}

/// What the store said to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Stored {
        tail: u64,
    },
    Fenced,
    Conflict,
    /// Whether it was stored is unknown.
    Failed,
}

/// How a watcher watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Watcher {
    /// Values, as they come.
    Live,
    /// Values, slower than they come.
    Slow,
    /// Values, after the end.
    Late,
    /// Events, as they come.
    Events,
    /// Events; leaves and returns.
    Returning,
}

/// A line: microseconds since 1970, and what was said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line(pub(crate) u64, pub(crate) Said);

/// Microseconds since 1970.
pub(crate) fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_micros()).expect("for a long time")
}

/// Where one process writes.
#[derive(Debug)]
pub(crate) struct Witness(File);

impl Witness {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        File::options().create(true).append(true).open(path).map(Witness)
    }

    pub(crate) fn say(&self, said: Said) {
        let mut line = serde_json::to_vec(&Line(now(), said)).expect("it can be written");
        line.push(b'\n');
        (&self.0).write_all(&line).expect("a witness can write");
    }
}
