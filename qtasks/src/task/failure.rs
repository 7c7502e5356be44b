//! How a task failed, as data.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::retry::Wish;

/// How a task, or one attempt of it, failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskFailure {
    /// In which of the ways that there are.
    pub kind: FailureKind,
    /// The text of the error, of the panic, or the reason.
    pub message: String,
    /// The index of the value it was about, counted from 0, where it was about one.
    pub index: Option<u64>,
    /// The attempt that failed, counted from 1; 0 if none had begun.
    pub attempt: u32,
    /// What the error itself said about another attempt; not stored.
    #[serde(skip)]
    wish: Wish,
}

/// The ways in which a task ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The body returned an error.
    Error,
    /// The handler of a yielded value returned an error.
    Handler,
    /// Body or handler panicked.
    Panic,
    /// An attempt took longer than it may.
    TimeLimit,
    /// It was cancelled, or expired.
    Cancelled,
    /// Arguments or a value could not be read or written as JSON.
    Codec,
    /// A value was too large, or there were too many.
    Limit,
    /// Its worker was lost too often.
    Lost,
    /// A middleware failed.
    Middleware,
    /// The process of an isolated body ended before the body did.
    Process,
    /// Whoever added the arguments of an [`Iter`](crate::Iter) was gone before it had added them all.
    Unsealed,
    /// A way that only a later version of qtasks knows: its word as it is stored.
    Other(&'static str),
}

/// Maximum number of unknown words that a process keeps; others are all read as `other`.
const WORDS_MAX: usize = 64;
/// Maximum length of an unknown word that is kept, in bytes.
const WORD_BYTES_MAX: usize = 64;

/// Unknown words that were read, each kept once for as long as the process lives.
static WORDS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl FailureKind {
    const KNOWN: [Self; 11] = {
        use FailureKind::{
            Cancelled, Codec, Error, Handler, Limit, Lost, Middleware, Panic, Process, TimeLimit, Unsealed,
        };
        [Error, Handler, Panic, TimeLimit, Cancelled, Codec, Limit, Lost, Middleware, Process, Unsealed]
    };

    /// Returns the kind of a word. An unknown one is kept as it is.
    fn of_word(word: &str) -> Self {
        if let Some(known) = Self::KNOWN.into_iter().find(|kind| kind.as_str() == word) {
            return known;
        }
        let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = words.get(word) {
            return FailureKind::Other(kept);
        }
        let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if words.len() >= WORDS_MAX || word.len() > WORD_BYTES_MAX || word.is_empty() || !plain {
            return FailureKind::Other("other");
        }
        let kept: &'static str = Box::leak(word.into());
        words.insert(kept);
        FailureKind::Other(kept)
    }

    /// The word for it: `error`, `time_limit` …
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::Error => "error",
            FailureKind::Handler => "handler",
            FailureKind::Panic => "panic",
            FailureKind::TimeLimit => "time_limit",
            FailureKind::Cancelled => "cancelled",
            FailureKind::Codec => "codec",
            FailureKind::Limit => "limit",
            FailureKind::Lost => "lost",
            FailureKind::Middleware => "middleware",
            FailureKind::Process => "process",
            FailureKind::Unsealed => "unsealed",
            FailureKind::Other(word) => word,
        }
    }

    /// Whether another attempt may help. What can't be written or passes a limit would do so again.
    pub fn is_retried(self) -> bool {
        !matches!(self, FailureKind::Cancelled | FailureKind::Codec | FailureKind::Limit)
    }
}

impl Serialize for FailureKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for FailureKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(FailureKind::of_word(&Cow::<'_, str>::deserialize(deserializer)?))
    }
}

impl Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PartialEq<str> for FailureKind {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for FailureKind {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl TaskFailure {
    /// A failure that is about no value in particular; the attempt is filled in by whoever ran it.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        TaskFailure { kind, message: message.into(), index: None, attempt: 0, wish: Wish::None }
    }

    /// A failure with the text of an error; an error that can show its causes (`{:#}`) does.
    #[cold]
    pub fn of(kind: FailureKind, error: &dyn Display) -> Self {
        TaskFailure::new(kind, format!("{error:#}"))
    }

    pub(crate) fn cancelled(reason: &str, attempt: u32) -> Self {
        TaskFailure { attempt, ..TaskFailure::new(FailureKind::Cancelled, reason) }
    }

    pub(crate) fn wishing(mut self, wish: Wish) -> Self {
        self.wish = wish;
        self
    }

    pub(crate) fn wish(&self) -> Wish {
        self.wish
    }

    pub(crate) fn at(mut self, index: u64) -> Self {
        self.index.get_or_insert(index);
        self
    }

    pub(crate) fn in_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

impl Display for TaskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            FailureKind::Error => "the task failed",
            FailureKind::Handler => "the handler failed",
            FailureKind::Panic => "the task panicked",
            FailureKind::TimeLimit => "the time limit was passed",
            FailureKind::Cancelled => "the task was cancelled",
            FailureKind::Codec => "a value could not be read or written",
            FailureKind::Limit => "a limit was passed",
            FailureKind::Lost => "the worker was lost",
            FailureKind::Middleware => "a middleware failed",
            FailureKind::Process => "the task's process ended",
            FailureKind::Unsealed => "not all arguments were added",
            FailureKind::Other(word) => {
                write!(f, "the task failed ({word})")?;
                ""
            }
        };
        f.write_str(what)?;
        if let Some(index) = self.index {
            write!(f, " at value {index}")?;
        }
        if self.attempt > 1 {
            write!(f, " in attempt {}", self.attempt)?;
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

impl std::error::Error for TaskFailure {}
