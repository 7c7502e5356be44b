//! [`Frames`]: events as a browser's `EventSource` reads them, encoded once for all who watch.

use bytes::Bytes;

use crate::event::{EventBatch, EventCode, EventKind, EventRef};
use crate::json::Json;

/// The events of a batch as server-sent events.
#[derive(Debug)]
pub(crate) struct Frames {
    first_seq: u64,
    bytes: Bytes,
    /// Where the frame of each event ends.
    ends: Vec<usize>,
    /// The value of the only event of the batch, if it is so large that it is not copied: it belongs behind `bytes`,
    /// and [`END`] behind it.
    value: Option<Bytes>,
}

/// Values from this size on are shared with the batch that they are in, rather than copied into a frame.
const SHARED_BYTES_MIN: usize = 32 << 10;

impl Frames {
    pub(crate) fn of(batch: &EventBatch) -> Self {
        if batch.len() == 1
            && batch.data_bytes() >= SHARED_BYTES_MIN
            && let Some(event) = batch.event(0)
            && event.code == EventCode::Yield
            && !has_lines(event.data)
        {
            let head = IdLine::of(batch).bytes.split_off(END.len());
            return Frames { first_seq: event.seq, bytes: head.into(), ends: Vec::new(), value: Some(event.bytes()) };
        }
        let mut line = IdLine::of(batch);
        let mut out = Vec::with_capacity(batch.bytes() + batch.len() * (line.bytes.len() + 8));
        let mut ends = Vec::with_capacity(batch.len());
        let has_lines = has_lines(batch.data());
        // Whether the last frame has not got its end yet: it is copied with the line that begins the next one.
        let mut open = false;
        for (at, (code, data)) in batch.kinds().enumerate() {
            if code == EventCode::Yield && !has_lines {
                out.extend_from_slice(&line.bytes[if open { 0 } else { END.len() }..]);
                out.extend_from_slice(data);
                open = true;
                ends.push(out.len() + END.len());
            } else {
                if open {
                    out.extend_from_slice(END);
                }
                open = false;
                encode(&batch.event(at).expect("within the batch"), line.alone(), &mut out);
                ends.push(out.len());
            }
            line.next();
        }
        if open {
            out.extend_from_slice(END);
        }
        Frames { first_seq: batch.first_seq(), bytes: out.into(), ends, value: None }
    }

    /// Adds the frames of the events from one `seq` up to before another, which is after it.
    pub(super) fn between(&self, from_seq: u64, to_seq: u64, frames: &mut Vec<Bytes>) {
        if let Some(value) = &self.value {
            frames.extend([self.bytes.clone(), value.clone(), Bytes::from_static(END)]);
            return;
        }
        let end = |seq: u64| match usize::try_from(seq - self.first_seq).expect("within the batch") {
            0 => 0,
            n => self.ends[n - 1],
        };
        frames.push(self.bytes.slice(end(from_seq)..end(to_seq)));
    }
}

/// The end of a frame, the line with the id of the next event, and the beginning of one with data: of the event behind
/// it a digit or two differ.
struct IdLine {
    bytes: Vec<u8>,
    /// Where the digits of the `seq` end.
    digits_end: usize,
}

/// What a frame ends with, and what the line of an id begins with.
const END: &[u8] = b"\n\n";
const ID: &[u8] = b"\n\nid: ";
const DATA: &[u8] = b"data: ";

impl IdLine {
    /// For the first event of a batch, all of which are of one epoch.
    fn of(batch: &EventBatch) -> Self {
        let (seq, epoch) = (batch.first_seq().to_string(), batch.event(0).map_or(0, |event| event.epoch).to_string());
        let bytes = [ID, seq.as_bytes(), b"-", epoch.as_bytes(), b"\n", DATA].concat();
        IdLine { bytes, digits_end: ID.len() + seq.len() }
    }

    fn next(&mut self) {
        for digit in self.bytes[ID.len()..self.digits_end].iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        self.bytes.insert(ID.len(), b'1');
        self.digits_end += 1;
    }

    fn alone(&self) -> &[u8] {
        &self.bytes[END.len()..self.bytes.len() - DATA.len()]
    }
}

/// A yield has no name, so that `onmessage` gets it; its data is its value. A custom event has its own name and data.
/// Of any other event the data is the whole event.
fn encode(event: &EventRef<'_>, id: &[u8], out: &mut Vec<u8>) {
    let custom = (event.code == EventCode::Event).then(|| event.to_event().kind);
    let name = match &custom {
        Some(EventKind::Event { name, .. }) => Some(&**name),
        _ => (event.code != EventCode::Yield).then(|| word(event.code)),
    };
    if let Some(name) = name {
        out.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    out.extend_from_slice(id);
    match &custom {
        Some(EventKind::Event { data, .. }) => lines(data.as_bytes(), out),
        _ if event.code == EventCode::Yield => lines(event.data, out),
        _ => {
            let mut json = Vec::new();
            write(event, &mut json);
            lines(&json, out);
        }
    }
}

/// Writes an event as JSON. One that is not JSON is written without its data: stores don't hand out such.
pub(super) fn write(event: &EventRef<'_>, out: &mut Vec<u8>) {
    out.reserve(event.data.len() + 256);
    let (start, mut told) = (out.len(), event.to_event());
    if let Err(error) = serde_json::to_writer(&mut *out, &told) {
        tracing::error!(%error, seq = told.seq, "an event is not JSON");
        out.truncate(start);
        told.kind = EventKind::Other { code: 0, index: event.index, data: Json::null() };
        // Numbers and words are.
        let _ = serde_json::to_writer(out, &told);
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
        EventCode::Other(_) => "other",
    }
}

/// Whether there are line ends. Looks at all of it, which is quicker than to stop at the first one.
fn has_lines(json: &[u8]) -> bool {
    json.iter().fold(false, |some, byte| some | matches!(byte, b'\n' | b'\r'))
}

/// JSON may have line ends between its words, which a field can't: a reader joins the lines again.
fn lines(json: &[u8], out: &mut Vec<u8>) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(DATA);
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}
