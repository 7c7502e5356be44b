//! What a worker and the process of an isolated body say to each other: a head as JSON, and bytes that neither reads.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::ResumePoint;
use crate::retry::Wish;
use crate::task::{FailureKind, TaskFailure, TaskId};
use crate::trace::TraceContext;

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first, with the arguments.
    Start(Box<Start>),
    /// Make the next value.
    Next,
    /// Put the value just made through the handler.
    Handle,
    /// Drop the value just made.
    Skip,
    /// All that was said before the last `Flush` that was not answered is stored, or never will be.
    Flushed(bool),
    /// The attempt is over; what follows is the end of the process.
    Stop,
}

/// Begins each frame, so that whatever else comes through the socket is known by its first byte.
const MAGIC: [u8; 4] = *b"\0qtf";

/// Maximum size of the head of a report, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 256 << 10;

/// Maximum size of the text of a failure or of the reason of a cancel, in bytes: escaped, it fits into a head.
const TEXT_BYTES_MAX: usize = 32 << 10;

/// What a child may send.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Maximum size of a value, or of an event with its name, in bytes.
    pub(super) value_bytes: usize,
}

/// Which body, of which attempt.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    /// Of the function in the code: an app may know it by another name.
    pub(super) function: Function,
    pub(super) name: String,
    pub(super) id: TaskId,
    pub(super) attempt: u32,
    pub(super) resume: ResumePoint,
    pub(super) trace: Option<TraceContext>,
    pub(super) limits: Limits,
}

/// Where a task function stands in the code.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Function {
    pub(super) module: String,
    pub(super) function: String,
    pub(super) line: u32,
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// A value, if it is `stored`, else one that waits for `Handle` or `Skip`.
    Item { hash: u64, stored: bool },
    /// A value from the handler.
    Handled { hash: Option<u64> },
    /// The end, with what the body returned.
    Returned,
    /// The end.
    Failed(Failed),
    /// The context was asked for an event: of what follows, so many bytes are its name, and the rest is its data.
    Event(usize),
    /// For a checkpoint, with its value.
    Checkpoint,
    /// To cancel the task.
    Cancel(String),
    /// To fail the task.
    Fail(Failed),
    /// To say when all is stored.
    Flush,
    /// The process has all that it needs, and begins.
    Ready,
    /// The host has no thread for it.
    Starved(String),
}

impl Report {
    /// Whether what follows its head is a value of the task.
    pub(super) fn has_value(&self) -> bool {
        matches!(self, Report::Item { .. } | Report::Handled { .. } | Report::Returned)
    }
}

/// A failure, and what it wants of the policy, which is not stored with it elsewhere.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failed(TaskFailure, Wish);

impl Failed {
    pub(super) fn new(mut failure: TaskFailure) -> Self {
        failure.message = short(failure.message);
        let wish = failure.wish();
        Failed(failure, wish)
    }

    pub(super) fn failure(self) -> TaskFailure {
        self.0.wishing(self.1)
    }
}

/// How an attempt ends with a value that is too large, as it does where the body is in the worker.
pub(super) fn too_large(report: &Report, bytes: u64, limits: Limits) -> TaskFailure {
    let max = limits.value_bytes;
    let limit = |message: String| TaskFailure::new(FailureKind::Limit, message);
    if matches!(report, Report::Returned) {
        return limit(format!("the returned value has {bytes} bytes, of at most {max}"));
    }
    let rule = "`value_bytes_max` of the app's builder says how many";
    // The attempt knows its index.
    limit(format!("the value has {bytes} bytes, of at most {max}: {rule}")).at(0)
}

/// A text that fits into a head, cut where it does not.
pub(super) fn short(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let keep = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let all = text.len();
        text.truncate(keep);
        let _ = write!(text, "… ({all} bytes)");
    }
    text
}

/// Says something, in one write.
pub(super) fn write(mut to: impl Write, head: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let mut frame = Vec::with_capacity(16 + head.len() + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&u32::try_from(head.len()).map_err(io::Error::other)?.to_le_bytes());
    frame.extend_from_slice(&(body.len() as u64).to_le_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(body);
    to.write_all(&frame)
}

/// Hears what was said; an error, too, where nobody is there any more.
///
/// # Errors
/// Of kind `InvalidData` for what is not a frame, or has a head of more than `head_max` bytes: as soon as that is
/// known, and without reading the rest.
pub(super) fn read<T: DeserializeOwned>(
    mut from: impl Read,
    head_max: usize,
    body_max: impl FnOnce(&T) -> usize,
) -> io::Result<Frame<T>> {
    magic(&mut from)?;
    let (mut head_bytes, mut body_bytes) = ([0; 4], [0; 8]);
    from.read_exact(&mut head_bytes)?;
    from.read_exact(&mut body_bytes)?;
    let (head_bytes, body_bytes) = (u32::from_le_bytes(head_bytes), u64::from_le_bytes(body_bytes));
    if head_bytes as usize > head_max {
        return Err(invalid(format!("a head of {head_bytes} bytes, of at most {head_max}")));
    }
    let head = exactly(&mut from, u64::from(head_bytes))?;
    let head = serde_json::from_slice(&head).map_err(|e| invalid(format!("a head that can't be read: {e}")))?;
    if body_bytes > body_max(&head) as u64 {
        return Ok(Frame { head, body: Err(body_bytes) });
    }
    Ok(Frame { head, body: Ok(exactly(&mut from, body_bytes)?) })
}

/// What was said, with the bytes behind it: how many there are, if they are too many to be read.
#[derive(Debug)]
pub(super) struct Frame<T> {
    pub(super) head: T,
    pub(super) body: Result<Vec<u8>, u64>,
}

/// Reads what a frame begins with, and no byte after the first that is another.
fn magic(from: &mut impl Read) -> io::Result<()> {
    for expected in MAGIC {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        if byte != [expected] {
            return Err(invalid("other bytes than a frame begins with".to_owned()));
        }
    }
    Ok(())
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn exactly(from: &mut impl Read, bytes: u64) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match from.take(bytes).read_to_end(&mut out)? as u64 == bytes {
        true => Ok(out),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Reads without a limit of the body.
    fn heard<T: DeserializeOwned>(wire: impl Read) -> io::Result<(T, Vec<u8>)> {
        read(wire, HEAD_BYTES_MAX, |_| usize::MAX).map(|frame| (frame.head, frame.body.unwrap()))
    }

    #[test]
    fn what_is_said_is_heard() {
        let mut wire = Vec::new();
        write(&mut wire, &Report::Item { hash: u64::MAX, stored: true }, b"[1]").unwrap();
        let failure = TaskFailure::new(FailureKind::Error, "busy").wishing(Wish::After(Duration::from_millis(5)));
        write(&mut wire, &Report::Failed(Failed::new(failure)), b"").unwrap();
        let mut wire = &wire[..];
        let (item, body) = heard::<Report>(&mut wire).unwrap();
        assert!(matches!(item, Report::Item { hash: u64::MAX, stored: true }));
        assert_eq!(body, b"[1]");
        let (Report::Failed(failed), _) = heard::<Report>(&mut wire).unwrap() else { panic!("another") };
        let failure = failed.failure();
        assert_eq!(failure.message, "busy");
        assert_eq!(failure.wish().wait(Some(Duration::ZERO)), Some(Duration::from_millis(5)));
        assert_eq!(heard::<Report>(&mut wire).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn half_a_frame_is_the_end() {
        let mut wire = Vec::new();
        write(&mut wire, &Order::Next, b"body").unwrap();
        for cut in 0..wire.len() {
            assert!(heard::<Order>(&wire[..cut]).is_err(), "{cut}");
        }
    }

    /// A frame that announces so many bytes of head and body.
    fn announced(head: u32, body: u64, rest: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &head.to_le_bytes(), &body.to_le_bytes(), rest].concat()
    }

    #[test]
    fn what_is_no_frame_is_refused_at_its_first_byte() {
        /// Has nothing more to say than that, and does not end.
        struct Silent<'a>(&'a [u8]);
        impl Read for Silent<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                assert!(!self.0.is_empty(), "it would wait for ever");
                self.0.read(out)
            }
        }
        let oversize = announced(u32::MAX, 0, b"");
        let no_json = announced(3, 0, b"{x}");
        let other = announced(9, 0, br#""Nothing""#);
        for garbage in [b"x" as &[u8], b"\0qq", b"hello\n", &[0xff; 16], &oversize, &no_json, &other] {
            let error = read::<Report>(Silent(garbage), HEAD_BYTES_MAX, |_| 0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{garbage:?}");
        }
    }

    #[test]
    fn a_body_that_is_too_large_is_not_read() {
        let wire = announced(6, 4 << 30, br#""Next""#);
        let frame = read::<Order>(&wire[..], HEAD_BYTES_MAX, |_| 3).unwrap();
        assert_eq!(frame.body, Err(4 << 30));
    }

    #[test]
    fn a_failure_fits_into_a_head_whatever_it_says() {
        for text in ["\u{1}".repeat(1 << 20), "ü".repeat(1 << 20), "short".to_owned()] {
            let failed = Report::Failed(Failed::new(TaskFailure::new(FailureKind::Error, text)));
            let mut wire = Vec::new();
            write(&mut wire, &failed, b"").unwrap();
            heard::<Report>(&wire[..]).unwrap();
        }
    }
}
