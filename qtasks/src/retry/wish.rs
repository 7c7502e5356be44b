//! [`Retry`]: the error by which a body says whether, and when, it is to be tried again.

use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The error of a body that knows better than its policy when another attempt may help.
///
/// Return it as the error of the task, or as (the source of) a boxed one, such as `anyhow::Error`: by `?` it becomes
/// either. It chooses the wait, or that there is no other attempt; it does not add one: each counts against the
/// `retry = n` of the task, and a task without retries fails.
///
/// ```
/// use std::time::Duration;
///
/// use qtasks::Retry;
/// use qtasks::prelude::*;
///
/// #[task(retry = 5)]
/// async fn call(status: u16, body: String) -> Result<String, Retry> {
///     match status {
///         200 => Ok(body),
///         429 => Err(Retry::after(Duration::from_secs(60)).because("too many requests")),
///         503 => Err(Retry::now()),
///         other => Err(Retry::never(format!("status {other}"))),
///     }
/// }
/// # fn main() {}
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    wait: Option<Duration>,
    reason: Option<Box<str>>,
}

impl Retry {
    /// Another attempt begins after so long, whatever the policy's wait.
    pub fn after(wait: Duration) -> Self {
        Retry { wait: Some(wait), reason: None }
    }

    /// Another attempt begins at once.
    pub fn now() -> Self {
        Retry::after(Duration::ZERO)
    }

    /// No other attempt: the task has failed.
    pub fn never(reason: impl Into<String>) -> Self {
        Retry { wait: None, reason: Some(reason.into().into()) }
    }

    /// What went wrong: the message of the failure.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into().into());
        self
    }

    /// What the error of a body wants, as far as it, or what caused it, is a [`Retry`].
    pub(crate) fn wish_of(error: &(dyn Error + 'static)) -> Wish {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(retry) = error.downcast_ref::<Retry>() {
                return retry.wait.map_or(Wish::Never, Wish::After);
            }
            cause = error.source();
        }
        Wish::None
    }
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reason, self.wait) {
            (Some(reason), _) => f.write_str(reason),
            (None, Some(wait)) if wait.is_zero() => f.write_str("to be tried again at once"),
            (None, Some(wait)) => write!(f, "to be tried again after {}", humantime::format_duration(wait)),
            (None, None) => f.write_str("not to be tried again"),
        }
    }
}

impl Error for Retry {}

/// What a failure wants of the policy. It goes with a failure inside of the worker only: two failures that differ in
/// nothing else are the same.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub enum Wish {
    /// What the policy says.
    #[default]
    None,
    /// Its own wait.
    After(Duration),
    /// No other attempt.
    Never,
}

impl Wish {
    /// The wait, given that of the policy.
    pub(crate) fn wait(self, policy: Option<Duration>) -> Option<Duration> {
        match self {
            Wish::None => policy,
            Wish::After(wait) => policy.map(|_| wait),
            Wish::Never => None,
        }
    }

    /// What a predicate has to say where the error itself says nothing.
    #[must_use]
    pub fn or_if(self, retried: impl FnOnce() -> bool) -> Self {
        match self {
            Wish::None if !retried() => Wish::Never,
            wish => wish,
        }
    }
}

impl PartialEq for Wish {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Wish {}

impl Hash for Wish {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
