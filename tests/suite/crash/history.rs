//! [`History`]: all that is known of a round when it is over. What was to be done, what everybody said, what the
//! store has.

use std::collections::BTreeMap;
use std::path::Path;

use qtasks::store::{Read, Store, What};
use qtasks::{Event, EventKind, FailureKind, Status, TaskId};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::orders::{LEASE, SCAN};
use super::values::{Item, NOTE_EVERY, digest, payload};
use super::witness::{Line, Said};

#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) tasks: Vec<Task>,
    /// By the number of the task.
    pub(crate) logs: BTreeMap<u32, Log>,
    /// By the name of the process.
    pub(crate) said: BTreeMap<String, Vec<Line>>,
    pub(crate) terms: Terms,
}

/// What the workers of a round were started with, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) lease: u64,
    pub(crate) scan: u64,
    pub(crate) crashes_max: u32,
}

impl Terms {
    pub(crate) fn new(crashes_max: u32) -> Self {
        let us = |d: std::time::Duration| u64::try_from(d.as_micros()).expect("short");
        Terms { lease: us(LEASE), scan: us(SCAN), crashes_max }
    }
}

/// A task that was added, and what is expected of it.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) mode: Mode,
    pub(crate) end: End,
    /// Hash of the item and stored value, in order. `None` where every attempt has its own.
    pub(crate) values: Option<Vec<(u64, u64)>>,
    /// In which gaps between values it sends an event of its own.
    pub(crate) notes: Vec<u64>,
    pub(crate) final_value: Option<u64>,
}

/// How an attempt goes on after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Plain,
    Replay,
    Resume,
    Restart,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    /// Cancelled, after as many of its values as there were.
    Cancelled,
    /// Lost too often.
    Lost,
}

impl Task {
    pub(crate) fn new(number: u32, name: &'static str, n: u64, seed: u64) -> Self {
        let mode = match name {
            "plain" => Mode::Plain,
            "resumed" => Mode::Resume,
            "restarted" => Mode::Restart,
            _ => Mode::Replay,
        };
        let item = |index| Item { index, payload: payload(seed, index) };
        let values = || (0..n).map(item).map(|i| (i.hash(mode == Mode::Replay), i.kept())).collect();
        Task {
            number,
            name,
            mode,
            end: if name == "poison" { End::Lost } else { End::Completed },
            values: match name {
                "erratic" => None,
                "plain" => Some(Vec::new()),
                _ => Some(values()),
            },
            notes: (0..n).step_by(usize::try_from(NOTE_EVERY).expect("small")).filter(|_| name == "noted").collect(),
            final_value: (name == "plain").then(|| payload(seed, u64::from(number))),
        }
    }
}

/// A task as the store has it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Log {
    pub(crate) id: String,
    pub(crate) status: Status,
    pub(crate) attempt: u32,
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    pub(crate) yields: u64,
    pub(crate) tail: u64,
    /// Place, and how many values were kept.
    pub(crate) rewinds: Vec<(u64, u64)>,
    pub(crate) final_value: Option<u64>,
    pub(crate) events: Vec<Entry>,
}

/// An event as the store has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) epoch: u64,
    pub(crate) attempt: u32,
    /// In microseconds.
    pub(crate) at: u64,
    pub(crate) kind: Kind,
    /// Of what its writer says of it.
    pub(crate) digest: u64,
    /// Of all that a reader is told.
    pub(crate) sum: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    Started,
    Yield {
        index: u64,
        hash: u64,
        value: u64,
    },
    Note {
        gap: u64,
    },
    Rewind {
        to: u64,
    },
    /// Lost with its worker, or failed and due again.
    Retry {
        lost: bool,
        due: u64,
    },
    Completed,
    Failed {
        lost: bool,
    },
    Cancelled,
}

impl Kind {
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Kind::Completed | Kind::Failed { .. } | Kind::Cancelled)
    }

    /// Whether the attempt was taken from its worker.
    pub(crate) fn is_lost(self) -> bool {
        matches!(self, Kind::Retry { lost: true, .. } | Kind::Failed { lost: true })
    }
}

fn us(at: std::time::SystemTime) -> u64 {
    let since = at.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_micros()).expect("for a long time")
}

fn kind(event: &Event) -> Kind {
    let is_lost = |kind: FailureKind| kind == FailureKind::Lost;
    match &event.kind {
        EventKind::Started { .. } => Kind::Started,
        EventKind::Yield { index, hash, value } => {
            Kind::Yield { index: *index, hash: *hash, value: value.get().expect("a number") }
        }
        EventKind::Event { index, .. } => Kind::Note { gap: *index },
        EventKind::Rewind { to } => Kind::Rewind { to: *to },
        EventKind::Retry { error, at } => Kind::Retry { lost: is_lost(error.kind), due: us(*at) },
        EventKind::Completed { .. } => Kind::Completed,
        EventKind::Failed { error } => Kind::Failed { lost: is_lost(error.kind) },
        EventKind::Cancelled { .. } => Kind::Cancelled,
        other => panic!("no task here does that: {other:?}"),
    }
}

/// Reads a task as the store has it.
pub(crate) async fn dump(store: &dyn Store, id: TaskId) -> Log {
    let record = store.get(vec![id]).await.unwrap().pop().flatten().expect("it was added");
    let (mut events, mut from_seq) = (Vec::new(), 1);
    loop {
        let slice =
            store.read(Read { id, from_seq, limit: 4096, bytes_max: usize::MAX, what: What::Events }).await.unwrap();
        for event in slice.events.iter().flat_map(|batch| batch.iter()) {
            let told = event.to_event();
            let sum = xxh3_64(&serde_json::to_vec(&told).expect("it can be written"));
            let (kind, at) = (kind(&told), us(event.at));
            let (seq, epoch, attempt) = (event.seq, event.epoch, event.attempt);
            events.push(Entry { seq, epoch, attempt, at, kind, digest: digest(&event), sum });
        }
        from_seq = slice.next_seq;
        if slice.next_seq > slice.tail {
            break;
        }
    }
    Log {
        id: id.to_string(),
        status: record.status,
        attempt: record.attempt,
        failures: record.failures,
        crashes: record.crashes,
        yields: record.yields,
        tail: record.tail,
        rewinds: record.rewinds.iter().map(|r| (r.seq, r.to)).collect(),
        final_value: record.final_value.as_ref().and_then(|v| v.get().ok()),
        events,
    }
}

/// Reads what every process of a round said. What a process was writing when it was killed has no end, and counts as
/// not said.
pub(crate) fn witnesses(dir: &Path) -> BTreeMap<String, Vec<Line>> {
    let mut said = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "witness") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{path:?}: {e}: {l}")));
        said.insert(path.file_stem().unwrap().to_str().unwrap().to_owned(), lines.collect());
    }
    said
}

/// All lines, with who said them.
impl History {
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&str, u64, &Said)> {
        self.said.iter().flat_map(|(name, lines)| lines.iter().map(move |Line(at, said)| (name.as_str(), *at, said)))
    }
}
