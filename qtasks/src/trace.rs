//! [`TraceContext`]: which trace a task belongs to, as W3C writes it; [`Propagator`], where it comes from and goes to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most bytes of a `tracestate`.
const STATE_BYTES_MAX: usize = 512;

/// Which trace a task belongs to: `traceparent` and `tracestate` of
/// [W3C Trace Context](https://www.w3.org/TR/trace-context/), carried from whoever adds the task to each of its
/// attempts. Cheap to clone.
///
/// ```
/// let trace = qtasks::TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")?;
/// assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// # Ok::<_, qtasks::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceContext(Arc<Text>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Text {
    traceparent: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<Box<str>>,
}

impl TraceContext {
    /// That of a `traceparent` header.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for what is none: it takes `version-trace-parent-flags` in lower-case hexadecimal
    /// digits, 2, 32, 16 and 2 of them, neither trace nor parent all zero. Later versions than `00` may have more
    /// behind; there is no version `ff`.
    pub fn new(traceparent: impl Into<String>) -> Result<Self> {
        let traceparent = traceparent.into();
        check_parent(&traceparent)?;
        Ok(TraceContext(Arc::new(Text { traceparent: traceparent.into(), tracestate: None })))
    }

    /// The same with a `tracestate` header.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for what is not 1 to 512 bytes of printable ASCII.
    pub fn with_state(&self, tracestate: impl Into<String>) -> Result<Self> {
        let tracestate = tracestate.into();
        check_state(&tracestate)?;
        let traceparent = self.0.traceparent.clone();
        Ok(TraceContext(Arc::new(Text { traceparent, tracestate: Some(tracestate.into()) })))
    }

    /// What a builder was given, if anything.
    pub(crate) fn given(traceparent: Option<String>, tracestate: Option<String>) -> Result<Option<Self>> {
        match (traceparent, tracestate) {
            (None, None) => Ok(None),
            (Some(traceparent), None) => TraceContext::new(traceparent).map(Some),
            (Some(traceparent), Some(state)) => TraceContext::new(traceparent)?.with_state(state).map(Some),
            (None, Some(_)) => {
                Err(Error::invalid("a `tracestate` belongs to a `traceparent`: give it by `.traceparent(…)`"))
            }
        }
    }

    /// The `traceparent` header, as it was given.
    pub fn traceparent(&self) -> &str {
        &self.0.traceparent
    }

    /// The `tracestate` header, as it was given.
    pub fn tracestate(&self) -> Option<&str> {
        self.0.tracestate.as_deref()
    }

    /// The trace: 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.0.traceparent[3..35]
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.traceparent)
    }
}

fn check_parent(text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let field = |at: std::ops::Range<usize>| bytes.get(at).is_some_and(|digits| digits.iter().all(hex));
    let zero = |at: std::ops::Range<usize>| bytes[at].iter().all(|digit| *digit == b'0');
    let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
    let fields = field(0..2) && field(3..35) && field(36..52) && field(53..55);
    let rule = if !text.is_ascii() || !dashes || !fields {
        "is not of the form `version-trace-parent-flags`"
    } else if text.starts_with("ff") {
        "has the version `ff`, which there is not"
    } else if zero(3..35) {
        "has a trace of zeros"
    } else if zero(36..52) {
        "has a parent of zeros"
    } else if text.starts_with("00") && text.len() > 55 || bytes.get(55).is_some_and(|b| *b != b'-') {
        "has more behind it than its version allows"
    } else if text.len() > STATE_BYTES_MAX || !bytes.iter().all(u8::is_ascii_graphic) {
        "is too long, or has blanks in it"
    } else {
        return Ok(());
    };
    let shown: String = text.chars().take(80).collect();
    Err(Error::invalid(format!(
        "the traceparent {shown:?} {rule}: it takes 2, 32, 16 and 2 lower-case hexadecimal digits, such as \
         `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`"
    )))
}

fn check_state(text: &str) -> Result<()> {
    let printable = text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'));
    if printable && (1..=STATE_BYTES_MAX).contains(&text.len()) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    Err(Error::invalid(format!(
        "the tracestate {shown:?} can't be one: it takes 1 to {STATE_BYTES_MAX} bytes of printable ASCII; leave out \
         its last entries, or all of it"
    )))
}

/// What knows which trace the program is in: see [`Builder::trace`](crate::Builder::trace).
///
/// A function `Fn() -> Option<TraceContext>` is one. For OpenTelemetry, with the crate `tracing-opentelemetry`:
///
/// ```text
/// struct OpenTelemetry(TraceContextPropagator);
///
/// impl qtasks::Propagator for OpenTelemetry {
///     fn current(&self) -> Option<qtasks::TraceContext> {
///         let mut headers = HashMap::<String, String>::new();
///         self.0.inject_context(&tracing::Span::current().context(), &mut headers);
///         qtasks::TraceContext::new(headers.remove("traceparent")?).ok()
///     }
///
///     fn adopt(&self, attempt: &tracing::Span, trace: &qtasks::TraceContext) {
///         let headers = HashMap::from([("traceparent".to_owned(), trace.traceparent().to_owned())]);
///         let _ = attempt.set_parent(self.0.extract(&headers));
///     }
/// }
/// ```
pub trait Propagator: Send + Sync + 'static {
    /// The trace that is current on this thread, if there is one: asked for each task that is added without one.
    fn current(&self) -> Option<TraceContext>;

    /// Makes the span of an attempt a part of the trace that its task was added in. Called before the span is entered.
    /// Does nothing by default.
    fn adopt(&self, attempt: &tracing::Span, trace: &TraceContext) {
        let _ = (attempt, trace);
    }
}

impl<F: Fn() -> Option<TraceContext> + Send + Sync + 'static> Propagator for F {
    fn current(&self) -> Option<TraceContext> {
        self()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_a_traceparent_is_kept_as_it_is() {
        for good in [GOOD, "00-00000000000000000000000000000001-0000000000000001-00", &format!("cc-{}-x.y", &GOOD[3..])]
        {
            let trace = TraceContext::new(good).unwrap();
            assert_eq!((trace.traceparent(), trace.tracestate()), (good, None));
            let state = trace.with_state("vendor=1,other=a b").unwrap();
            assert_eq!((state.traceparent(), state.tracestate()), (good, Some("vendor=1,other=a b")));
            for trace in [trace, state] {
                let json = serde_json::to_string(&trace).unwrap();
                assert_eq!(serde_json::from_str::<TraceContext>(&json).unwrap(), trace);
            }
        }
    }

    #[test]
    fn what_is_none_is_refused_with_the_rule() {
        for (bad, rule) in [
            ("", "not of the form"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", "not of the form"),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", "not of the form"),
            ("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", "not of the form"),
            ("00-4bf92f3577b34da6a3ce929d0e0e473ü-00f067aa0ba902b7-1", "not of the form"),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "version `ff`"),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", "trace of zeros"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "parent of zeros"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x", "more behind it"),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x", "more behind it"),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x y", "blanks"),
        ] {
            let error = TraceContext::new(bad).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            let message = error.to_string();
            assert!(message.contains(rule) && message.contains("it takes 2, 32, 16 and 2"), "{bad}: {message}");
        }
        let trace = TraceContext::new(GOOD).unwrap();
        for bad in ["", "a=ü", "a=\n", &"a".repeat(513)] {
            assert!(trace.with_state(bad).unwrap_err().to_string().contains("it takes 1 to 512 bytes"), "{bad:?}");
        }
        assert!(TraceContext::given(None, Some("a=1".to_owned())).is_err());
    }
}
