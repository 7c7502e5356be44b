//! [`TaskLog`]: what bodies say by `tracing`, in the logs of their tasks.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Layer};

use crate::app::current;
use crate::event::LogLine;
use crate::json::Json;

/// A layer for a `tracing` subscriber: what the body of a task says while it is polled becomes a `log` event of the
/// task's log, with level, target, message and fields, beside wherever else it goes.
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt as _;
///
/// let subscriber = tracing_subscriber::registry().with(qtasks::TaskLog::new());
/// tracing::subscriber::set_global_default(subscriber).expect("none was set before");
/// ```
///
/// A handler's lines count as the body's. What an attempt says while it repeats values that are stored is left out;
/// after the last of them a line may be there twice. Lines say nothing about a task: they fail none. One that is larger
/// than a value may be is cut, and once the log is half full they are left out.
///
/// Not there: what threads and tasks say that a body spawned, what qtasks itself says, and what is printed to stdout.
#[derive(Debug, Clone)]
pub struct TaskLog {
    level: Level,
}

impl Default for TaskLog {
    fn default() -> Self {
        TaskLog { level: Level::INFO }
    }
}

impl TaskLog {
    /// For what is said at the level `info` and above.
    pub fn new() -> Self {
        TaskLog::default()
    }

    /// For what is said at this level and above. Libraries say much at `debug` and `trace`.
    #[must_use]
    pub fn level(mut self, level: Level) -> Self {
        self.level = level;
        self
    }
}

impl<S: Subscriber> Layer<S> for TaskLog {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(self.level))
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let target = metadata.target();
        // Ours may be said while a lock is held.
        if *metadata.level() > self.level || target == "qtasks" || target.starts_with("qtasks::") {
            return;
        }
        let Some(attempt) = current::attempt() else { return };
        let mut said = Said::default();
        event.record(&mut said);
        let fields = if said.fields.is_empty() { None } else { Json::of(&said.fields).ok() };
        attempt.log(LogLine { level: word(*metadata.level()), target, message: said.message, fields });
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[derive(Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn field(&mut self, field: &Field, value: impl Into<Value>) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.field(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.field(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // What is no number in JSON is a word.
        let number = serde_json::Number::from_f64(value).map(Value::Number);
        self.field(field, number.unwrap_or_else(|| value.to_string().into()));
    }
}
