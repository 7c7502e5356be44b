//! [`Frames`]: events as a browser's `EventSource` reads them, encoded once for all who watch.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::event::{EventBatch, EventCode, EventKind, EventRef};

/// The events of a batch as server-sent events.
#[derive(Debug)]
pub(crate) struct Frames {
    first_seq: u64,
    bytes: Bytes,
    /// Where the frame of each event ends.
    ends: Vec<usize>,
}

impl Frames {
    pub(crate) fn of(batch: &EventBatch) -> Self {
        let mut out = Vec::with_capacity(batch.len() * 48);
        let mut ends = Vec::with_capacity(batch.len());
        for event in batch.iter() {
            encode(&event, &mut out);
            ends.push(out.len());
        }
        Frames { first_seq: batch.first_seq(), bytes: out.into(), ends }
    }

    /// The frames of the events from one `seq` up to before another.
    pub(super) fn between(&self, from_seq: u64, to_seq: u64) -> Bytes {
        let end = |seq: u64| match usize::try_from(seq - self.first_seq).expect("within the batch") {
            0 => 0,
            n => self.ends[n - 1],
        };
        self.bytes.slice(end(from_seq)..end(to_seq))
    }
}

/// A yield has no name, so that `onmessage` gets it; its data is its value. A custom event has its own name and data.
/// Of any other event the data is the whole event.
fn encode(event: &EventRef<'_>, out: &mut Vec<u8>) {
    let mut head = String::with_capacity(48);
    let (seq, epoch) = (event.seq, event.epoch);
    let custom = (event.code == EventCode::Event).then(|| event.to_event().kind);
    let name = match &custom {
        Some(EventKind::Event { name, .. }) => Some(&**name),
        _ => (event.code != EventCode::Yield).then(|| word(event.code)),
    };
    if let Some(name) = name {
        let _ = writeln!(head, "event: {name}");
    }
    let _ = writeln!(head, "id: {seq}-{epoch}");
    out.extend_from_slice(head.as_bytes());
    match &custom {
        Some(EventKind::Event { data, .. }) => lines(data.as_bytes(), out),
        _ if event.code == EventCode::Yield => lines(event.data, out),
        _ => lines(&serde_json::to_vec(&event.to_event()).expect("events are JSON"), out),
    }
}

/// The name of an event that is none of the body's own.
pub(super) fn word(code: EventCode) -> &'static str {
    match code {
        EventCode::Started => "started",
        EventCode::Yield => "yield",
        EventCode::Event => "event",
        EventCode::Log => "log",
        EventCode::Rewind => "rewind",
        EventCode::Retry => "retry",
        EventCode::Completed => "completed",
        EventCode::Failed => "failed",
        EventCode::Cancelled => "cancelled",
    }
}

/// JSON may have line ends between its words, which a field can't: a reader joins the lines again.
fn lines(json: &[u8], out: &mut Vec<u8>) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}
