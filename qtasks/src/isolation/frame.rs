//! What a worker and the process of an isolated body say to each other: a head as JSON, and bytes that neither reads.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::ResumePoint;
use crate::retry::Wish;
use crate::task::{TaskFailure, TaskId};
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
    /// The context was asked for an event, with its data.
    Event(String),
    /// For a checkpoint, with its value.
    Checkpoint,
    /// To cancel the task.
    Cancel(String),
    /// To fail the task.
    Fail(Failed),
    /// To say when all is stored.
    Flush,
}

/// A failure, and what it wants of the policy, which is not stored with it elsewhere.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failed(TaskFailure, Wish);

impl Failed {
    pub(super) fn new(failure: TaskFailure) -> Self {
        let wish = failure.wish();
        Failed(failure, wish)
    }

    pub(super) fn failure(self) -> TaskFailure {
        self.0.wishing(self.1)
    }
}

/// Says something, in one write.
pub(super) fn write(mut to: impl Write, head: &impl Serialize, body: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let mut frame = Vec::with_capacity(12 + head.len() + body.len());
    frame.extend_from_slice(&u32::try_from(head.len()).map_err(io::Error::other)?.to_le_bytes());
    frame.extend_from_slice(&(body.len() as u64).to_le_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(body);
    to.write_all(&frame)
}

/// Hears what was said; an error, too, where nobody is there any more.
pub(super) fn read<T: DeserializeOwned>(mut from: impl Read) -> io::Result<(T, Vec<u8>)> {
    let (mut head_bytes, mut body_bytes) = ([0; 4], [0; 8]);
    from.read_exact(&mut head_bytes)?;
    from.read_exact(&mut body_bytes)?;
    let head = exactly(&mut from, u64::from(u32::from_le_bytes(head_bytes)))?;
    let body = exactly(&mut from, u64::from_le_bytes(body_bytes))?;
    Ok((serde_json::from_slice(&head)?, body))
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
    use crate::task::FailureKind;

    #[test]
    fn what_is_said_is_heard() {
        let mut wire = Vec::new();
        write(&mut wire, &Report::Item { hash: u64::MAX, stored: true }, b"[1]").unwrap();
        let failure = TaskFailure::new(FailureKind::Error, "busy").wishing(Wish::After(Duration::from_millis(5)));
        write(&mut wire, &Report::Failed(Failed::new(failure)), b"").unwrap();
        let mut wire = &wire[..];
        let (item, body) = read::<Report>(&mut wire).unwrap();
        assert!(matches!(item, Report::Item { hash: u64::MAX, stored: true }));
        assert_eq!(body, b"[1]");
        let (Report::Failed(failed), _) = read::<Report>(&mut wire).unwrap() else { panic!("another") };
        let failure = failed.failure();
        assert_eq!(failure.message, "busy");
        assert_eq!(failure.wish().wait(Some(Duration::ZERO)), Some(Duration::from_millis(5)));
        assert_eq!(read::<Report>(&mut wire).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn half_a_frame_is_the_end() {
        let mut wire = Vec::new();
        write(&mut wire, &Order::Next, b"body").unwrap();
        for cut in 0..wire.len() {
            assert!(read::<Order>(&wire[..cut]).is_err(), "{cut}");
        }
    }
}
