//! [`Error`]: every public error but a task's own, which is a [`TaskFailure`].
//!
//! A kind says what the caller can do about it, never which crate failed.

use std::fmt;

use crate::task::TaskFailure;

/// A `Result` whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong outside of a task's own body: [`kind`](Error::kind) says what can be done about it.
pub struct Error {
    kind: ErrorKind,
    message: Box<str>,
    failure: Option<Box<TaskFailure>>,
    /// Cause that may be told to anybody: no path, no SQL, nothing that was stored.
    told: Option<&'static str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such task, name or document.
    NotFound,
    /// It was there, and retention has taken it.
    Gone,
    /// It contradicts what is there: another version, other arguments under one key, a second default app.
    Conflict,
    /// The task belongs to another worker by now.
    Fenced,
    /// The call itself is wrong: mend it.
    Invalid,
    /// No app to add the task to: call [`init`](crate::init) first, or `.on(&app)`.
    NoApp,
    /// A value could not be written as JSON, or read from it.
    Codec,
    /// A limit was passed.
    Limit,
    /// The task ended without success: [`Error::failure`] tells how.
    TaskFailed,
    /// The wait was over before the task.
    TimedOut,
    /// Values that this stream had handed out are void from index `to` on: keep `to` of them and go on with
    /// `stream_after(seq)`.
    Rewound {
        /// How many of the values handed out still hold.
        to: u64,
        /// The place in the log to go on from.
        seq: u64,
    },
    /// The store lost what it had shown: read again from the start.
    Reset,
    /// The stored data of a task or a document is not what was written: restore it from a copy.
    Damaged,
    /// The store can't be reached, or the app is shut down: try again later.
    Unavailable,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorKind::NotFound => "not found",
            ErrorKind::Gone => "gone",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Fenced => "fenced",
            ErrorKind::Invalid => "invalid",
            ErrorKind::NoApp => "no app",
            ErrorKind::Codec => "codec",
            ErrorKind::Limit => "limit",
            ErrorKind::TaskFailed => "task failed",
            ErrorKind::TimedOut => "timed out",
            ErrorKind::Rewound { .. } => "rewound",
            ErrorKind::Reset => "reset",
            ErrorKind::Damaged => "damaged",
            ErrorKind::Unavailable => "unavailable",
        })
    }
}

impl Error {
    /// Makes an error of a kind, with a message in lower case that names the thing, the rule and the way out.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into().into(), failure: None, told: None, source: None }
    }

    /// Adds what caused it, for [`source`](std::error::Error::source).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds the cause in words that may be told to anybody, such as a client of a server.
    #[cfg(any(feature = "http", feature = "sqlite"))]
    #[must_use]
    pub(crate) fn with_told(mut self, cause: &'static str) -> Self {
        self.told = Some(cause);
        self
    }

    /// Returns the cause in words that may be told to anybody, if there are any.
    #[cfg(feature = "http")]
    pub(crate) fn told(&self) -> Option<&'static str> {
        self.told
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn task_failed(message: String, failure: TaskFailure) -> Self {
        Error { failure: Some(Box::new(failure)), ..Error::new(ErrorKind::TaskFailed, message) }
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// How the task ended, where the kind is [`TaskFailed`](ErrorKind::TaskFailed).
    pub fn failure(&self) -> Option<&TaskFailure> {
        self.failure.as_deref()
    }

    /// The same kind and message again, for a second reader of one failed read. The source stays with the first.
    pub(crate) fn again(&self) -> Self {
        let Error { kind, message, failure, told, .. } = self;
        Error { kind: *kind, message: message.clone(), failure: failure.clone(), told: *told, source: None }
    }
}

/// What it says, for a `main` that returns it; with `{:#?}` its parts.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        let Error { kind, message, failure, source, .. } = self;
        let mut parts = f.debug_struct("Error");
        parts.field("kind", kind).field("message", message).field("failure", failure).field("source", source).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}
