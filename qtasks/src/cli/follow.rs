//! `run` and `tail`: a task is watched to its end.

use std::future::pending;
use std::ops::Range;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;

use super::args::{Run, Tail, Watch};
use super::out::Out;
use super::progress::{Bar, Progress};
use super::target::Target;
use super::{End, call, find};
use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::json::Json;
use crate::task::{Status, TaskId, TaskRecord};

/// After so long without a worker somebody should know.
const PATIENCE: Duration = Duration::from_secs(3);

/// Adds a task, and watches it.
pub(super) async fn run(target: &Target, run: Run, out: &Out) -> Result<End> {
    let end = added(target, &run, out).await;
    target.close().await;
    end
}

async fn added(target: &Target, run: &Run, out: &Out) -> Result<End> {
    let function = target.function(&run.task).await?;
    let call = call::arguments(&run.pairs, run.args.as_deref(), &function)?;
    let id = target.add(run, call).await?;
    if run.no_wait || run.held {
        match out.json {
            true => out.json(&target.record(id).await?)?,
            false => out.data(id)?,
        }
        return Ok(End::Done);
    }
    out.note(format_args!("task {id}"));
    follow(target, id, 1..u64::MAX, &run.watch, out).await
}

/// Watches a task.
pub(super) async fn tail(target: &Target, tail: Tail, out: &Out) -> Result<End> {
    let id = find::id(target, &tail.id.id).await?;
    let end = if tail.no_follow { target.record(id).await?.tail.saturating_add(1) } else { u64::MAX };
    follow(target, id, tail.from..end, &tail.watch, out).await
}

async fn follow(target: &Target, id: TaskId, seqs: Range<u64>, watch: &Watch, out: &Out) -> Result<End> {
    let whole = watch.events || out.json;
    let events = target.events(id, seqs, whole).await?;
    let shown = Shown { target, id, whole, raw: watch.raw, out, bar: Bar::new(out), held: 0 };
    shown.until_the_end(events, watch.timeout).await
}

/// Whether an event is the last of its log.
fn is_end(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Completed { .. } | EventKind::Failed { .. } | EventKind::Cancelled { .. })
}

/// A log on its way to the terminal.
struct Shown<'a> {
    target: &'a Target,
    id: TaskId,
    /// Entries as they are, not only values.
    whole: bool,
    raw: bool,
    out: &'a Out,
    bar: Bar,
    /// How many values are shown, those before the first included.
    held: u64,
}

impl Shown<'_> {
    async fn until_the_end(
        mut self,
        mut events: BoxStream<'static, Result<Event>>,
        most: Option<Duration>,
    ) -> Result<End> {
        let mut interrupted = pin!(async {
            if tokio::signal::ctrl_c().await.is_err() {
                pending::<()>().await;
            }
        });
        let mut late = pin!(async {
            match most {
                Some(most) => tokio::time::sleep(most).await,
                None => pending().await,
            }
        });
        let mut patience = pin!(tokio::time::sleep(PATIENCE));
        let mut patient = true;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut interrupted => return Ok(self.detached()),
                () = &mut late => return Ok(self.too_late(most.unwrap_or_default())),
                () = &mut patience, if patient => {
                    patient = false;
                    self.lonely().await;
                    continue;
                }
            };
            patient = false;
            let Some(event) = event.transpose()? else { return self.after_the_end().await };
            self.event(&event)?;
            if is_end(&event.kind) {
                return self.after_the_end().await;
            }
        }
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        if self.whole {
            self.bar.data(|| self.out.json(event))?;
        }
        match &event.kind {
            EventKind::Started { .. } => self.bar.says(&format!("attempt {}", event.attempt)),
            EventKind::Yield { index, value, .. } => {
                self.held = index + 1;
                self.value(value)?;
                self.progress(value);
            }
            EventKind::Event { data, .. } => self.progress(data),
            EventKind::Log { level, message, .. } => self.note(format_args!("{level}: {message}")),
            EventKind::Rewind { to } if self.held > *to => {
                self.held = *to;
                self.note(format_args!("the values from number {} on no longer hold; they come again", to + 1));
            }
            EventKind::Retry { error, at } => {
                let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
                let (attempt, wait) =
                    (event.attempt, Duration::from_millis(wait.as_millis().div_ceil(100) as u64 * 100));
                let wait = humantime::format_duration(wait);
                self.note(format_args!("attempt {attempt}: {error}; the next one is due in {wait}"));
            }
            _ => {}
        }
        Ok(())
    }

    fn value(&self, value: &Json) -> Result<()> {
        if self.whole {
            return Ok(());
        }
        let text = self.raw.then(|| value.get::<String>().ok()).flatten();
        self.bar.data(|| match text {
            Some(text) => self.out.raw(&text),
            None => self.out.value(value),
        })
    }

    fn progress(&self, value: &Json) {
        if self.bar.is_seen()
            && let Some(progress) = value.get::<Value>().ok().as_ref().and_then(Progress::of)
        {
            self.bar.show(progress);
        }
    }

    /// What is said of the task where its log is not shown as it is.
    fn note(&self, line: impl std::fmt::Display) {
        if !self.whole {
            self.bar.aside(|| self.out.note(line));
        }
    }

    /// The last that is said of a task that has ended.
    async fn after_the_end(self) -> Result<End> {
        let record = self.target.record(self.id).await?;
        let Shown { target, id, out, .. } = self;
        let is_shown = self.whole;
        drop(self.bar);
        Ok(match record.status {
            Status::Failed => {
                let failure = record.failure().map(|failure| failure.to_string()).unwrap_or_default();
                out.error(&format_args!("task {id} (`{}`): {failure}", record.name));
                End::Failed
            }
            Status::Cancelled => {
                let reason = record.cancel_reason.as_deref().unwrap_or_default();
                out.error(&format_args!("task {id} (`{}`) was cancelled: {reason}", record.name));
                End::Cancelled
            }
            _ => {
                let value = record.final_value.as_ref().filter(|value| value.as_bytes() != b"null");
                if let (Some(value), false) = (value, is_shown) {
                    final_value(target, &record, value, self.raw, out).await?;
                }
                End::Done
            }
        })
    }

    fn detached(self) -> End {
        let Shown { id, out, target, .. } = self;
        drop(self.bar);
        // The terminal has written `^C`.
        out.note("");
        if target.is_here {
            out.note(format_args!("task {id} ends here: it was in the memory of this process"));
        } else {
            let name = &out.name;
            out.note(format_args!("task {id} goes on: `{name} tail {id}` comes back, `{name} cancel {id}` ends it"));
        }
        End::Detached
    }

    fn too_late(self, most: Duration) -> End {
        let Shown { id, out, .. } = self;
        drop(self.bar);
        let (most, name) = (humantime::format_duration(most), &out.name);
        out.error(&format_args!(
            "task {id} was not over in {most}: it goes on, and `{name} tail {id}` comes back to it"
        ));
        End::TimedOut
    }

    /// Nothing has come for a while.
    async fn lonely(&self) {
        // Where nobody answers now, the stream of events goes on trying.
        let Ok(record) = self.target.record(self.id).await else { return };
        if record.status == Status::Queued && record.attempt == 0 {
            let (name, url) = (&record.name, &self.target.url);
            self.note(format_args!("no worker has it yet: is one that knows `{name}` running on `{url}`?"));
        }
    }
}

/// What a task returned: the value of a plain one is its data, that of a generator is said beside its values.
async fn final_value(target: &Target, record: &TaskRecord, value: &Json, raw: bool, out: &Out) -> Result<()> {
    if record.yields > 0 || target.is_generating(record).await? {
        out.note(format_args!("final value: {value}"));
        return Ok(());
    }
    match value.get::<String>() {
        Ok(text) if raw => out.raw(&text),
        _ => out.value(value),
    }
}
