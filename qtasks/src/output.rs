//! [`Output`]: the values of a task as one text that grows.
//!
//! Invariant: the text is that of the values that hold, each read once; what became void is cut off.

use std::fmt;

use futures::{FutureExt as _, StreamExt as _};

use crate::error::{Error, ErrorKind, Result};
use crate::handle::TaskHandle;
use crate::task::{Generates, TaskId};
use crate::watch::Values;

/// A value that is text: a `String`, or a JSON string of a task that is known by its name only.
#[diagnostic::on_unimplemented(
    message = "the values of this task are no text",
    label = "it yields `{Self}`, not `String`",
    note = "`output()` puts strings together; for other values there is `stream()`"
)]
pub trait Text {
    /// The text, if it is one.
    fn text(&self) -> Option<&str>;
}

impl Text for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Text for serde_json::Value {
    fn text(&self) -> Option<&str> {
        self.as_str()
    }
}

/// The text of a value, or what is wrong with it.
pub(crate) fn text<T: Text>(value: &T, index: usize, id: TaskId) -> Result<&str> {
    value.text().ok_or_else(|| {
        let message = format!("value {index} of task {id} is no string, so that it has no place in a text");
        Error::new(ErrorKind::Codec, message)
    })
}

/// What has come to a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Piece<'a> {
    /// The byte at which it begins: as many as there were, or fewer where an attempt took values back. What a reader
    /// has from there on is void.
    pub at: usize,
    /// What is there now.
    pub text: &'a str,
}

/// The text that a task yields, while it grows: from [`TaskHandle::output_stream`].
///
/// ```no_run
/// # use qtasks::prelude::*;
/// # #[task]
/// # async fn download(url: String) -> String {
/// #     yield_!(url);
/// # }
/// # async fn show() -> qtasks::Result<()> {
/// let mut output = download::add_task("https://example.org".to_owned()).await?.output_stream();
/// while let Some(piece) = output.grown().await? {
///     print!("{}", piece.text);
/// }
/// println!("{} bytes in all", output.text().len());
/// # Ok(())
/// # }
/// ```
pub struct Output<F: Generates> {
    handle: TaskHandle<F>,
    values: Values<F>,
    text: String,
    /// Where each value ends in the text: an attempt may take values back.
    ends: Vec<usize>,
    /// How the task failed, to be told after the last piece.
    failed: Option<Error>,
}

impl<F: Generates> fmt::Debug for Output<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("of", &self.handle.id())
            .field("values", &self.ends.len())
            .finish_non_exhaustive()
    }
}

impl<F: Generates> Output<F>
where
    F::Yield: Text,
{
    pub(crate) fn new(handle: TaskHandle<F>) -> Self {
        Output { values: handle.stream(), handle, text: String::new(), ends: Vec::new(), failed: None }
    }

    /// The text as far as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Waits until the text has grown, or some of it is void, and takes all that has come by then. `None` at the end of
    /// the task.
    ///
    /// # Errors
    /// At the end of a task that failed or was cancelled [`TaskFailed`](ErrorKind::TaskFailed); the text stays.
    /// [`Codec`](ErrorKind::Codec) for a value that is no text; [`Gone`](ErrorKind::Gone),
    /// [`Unavailable`](ErrorKind::Unavailable).
    ///
    /// # Cancel safety
    /// What was read when the future is dropped is in [`text`](Self::text), and in no later piece.
    pub async fn grown(&mut self) -> Result<Option<Piece<'_>>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (mut at, mut grown) = (self.text.len(), false);
        let Some(mut item) = self.values.next().await else { return Ok(None) };
        loop {
            match item {
                Ok(value) => {
                    self.text.push_str(text(&value, self.ends.len(), self.handle.id())?);
                    self.ends.push(self.text.len());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Rewound { to, seq } => at = at.min(self.taken_back(to, seq)),
                    _ if !grown => return Err(error),
                    _ => {
                        self.failed = Some(error);
                        break;
                    }
                },
            }
            grown = true;
            item = match self.values.next().now_or_never() {
                Some(Some(item)) => item,
                // It waits, or the task is over, which has its own turn.
                _ => break,
            };
        }
        self.values.rest();
        Ok(Some(Piece { at, text: &self.text[at..] }))
    }

    /// Cuts off what an attempt took back, and goes on after that. Answers where the text ends now.
    fn taken_back(&mut self, to: u64, seq: u64) -> usize {
        self.ends.truncate(usize::try_from(to).unwrap_or(usize::MAX));
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
        self.values = self.handle.stream_after(seq);
        self.text.len()
    }
}
