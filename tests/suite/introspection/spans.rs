//! The spans of what is done with tasks.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use qtasks::prelude::*;
use qtasks::{EventKind, TaskId};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument as _, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context as InSpan, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::{app_of, soon};

/// A span that something is in: its name, and what it tells.
type Within = (&'static str, Fields);

/// A span with what it is in.
#[derive(Debug, Clone)]
struct Seen {
    name: &'static str,
    target: String,
    level: Level,
    fields: Fields,
    parent: Option<Within>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

/// Spans of tasks whose names begin with `spanned`; of others only those that tell of no task, each sort once.
static SPANS: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
/// What bodies of such tasks said, with the spans that it was said in, the innermost first.
static SAID: Mutex<Vec<(String, Vec<Within>)>> = Mutex::new(Vec::new());

/// A test that fails is not to fail the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sees all spans of the suite.
pub(crate) struct Spans;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, ctx: InSpan<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let Some(span) = ctx.span(id) else { return };
        span.extensions_mut().insert(fields.clone());
        let (name, metadata) = (span.name(), span.metadata());
        let mut seen = lock(&SPANS);
        let of_mine = fields.0.get("name").is_some_and(|name| name.starts_with("spanned"));
        let first = name.starts_with("qtasks.")
            && !fields.0.contains_key("name")
            && seen.iter().all(|s| s.name != name || s.fields.0.contains_key("name"));
        if of_mine || first {
            let parent = span.parent().map(|p| (p.name(), p.extensions().get::<Fields>().cloned().unwrap_or_default()));
            let (target, level) = (metadata.target().to_owned(), *metadata.level());
            seen.push(Seen { name, target, level, fields, parent });
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: InSpan<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(message) = fields.0.remove("message").filter(|message| message.starts_with("spanned")) else { return };
        let scope = ctx.event_scope(event).into_iter().flatten();
        let scope = scope.map(|s| (s.name(), s.extensions().get::<Fields>().cloned().unwrap_or_default()));
        lock(&SAID).push((message, scope.collect()));
    }
}

fn of(name: &str, id: TaskId) -> Vec<Seen> {
    let spans = lock(&SPANS);
    let is = |s: &&Seen| s.name == name && s.fields.0.get("id").is_some_and(|of| *of == id.to_string());
    spans.iter().filter(is).cloned().collect()
}

fn said(message: &str) -> Vec<Vec<Within>> {
    let said = lock(&SAID);
    said.iter().filter(|(what, _)| what == message).map(|(_, spans)| spans.clone()).collect()
}

fn fields<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Fields {
    Fields(all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[task(queue = "spans", retry = 1)]
async fn spanned(ctx: Context) -> Result<u8, String> {
    tracing::info!("spanned: before");
    tokio::task::yield_now().await;
    tracing::info_span!("inner").in_scope(|| tracing::info!("spanned: inside"));
    yield_!(1);
    spanned_child::add_task().timeout(soon()).await.map_err(|e| e.to_string())?;
    if ctx.attempt() == 1 {
        Err("once more")?;
    }
}

#[task]
fn spanned_child() {
    tracing::info!("spanned: on a thread");
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn what_a_body_says_is_in_the_span_of_its_attempt() {
    crate::task_log::listen();
    let app = app_of([spanned::spec(), spanned_child::spec()]).await;
    let add = spanned::add_task().on(&app).traceparent(TRACE).into_future();
    let task = add.instrument(tracing::info_span!("caller")).await.unwrap();
    task.wait_timeout(soon()).await.unwrap();

    let id = task.id().to_string();
    let [add] = &of("qtasks.add", task.id())[..] else { panic!("{:?}", of("qtasks.add", task.id())) };
    assert_eq!((add.target.as_str(), add.level), ("qtasks", Level::INFO));
    assert_eq!(add.parent, Some(("caller", Fields::default())));
    let common = [
        ("id", &*id),
        ("name", "spanned"),
        ("queue", "spans"),
        ("traceparent", TRACE),
        ("messaging.system", "qtasks"),
        ("messaging.destination.name", "spans"),
        ("messaging.message.id", &id),
    ];
    let own = [
        ("otel.name", "add spanned"),
        ("otel.kind", "producer"),
        ("messaging.operation.name", "add"),
        ("messaging.operation.type", "send"),
    ];
    assert_eq!(add.fields, fields(common.into_iter().chain(own)));

    let attempts = of("qtasks.attempt", task.id());
    let worker = task.record().await.unwrap().worker.unwrap();
    for (n, attempt) in ["1", "2"].into_iter().zip(&attempts) {
        assert_eq!((attempt.target.as_str(), attempt.level, &attempt.parent), ("qtasks", Level::INFO, &None));
        let own = [
            ("attempt", n),
            ("worker", &worker),
            ("otel.name", "run spanned"),
            ("otel.kind", "consumer"),
            ("messaging.operation.name", "run"),
            ("messaging.operation.type", "process"),
        ];
        assert_eq!(attempt.fields, fields(common.into_iter().chain(own)));
    }
    assert_eq!(attempts.len(), 2);
    let scope = |n: usize| ("qtasks.attempt", attempts[n].fields.clone());
    assert_eq!(said("spanned: before"), [[scope(0)], [scope(1)]]);
    let inner = ("inner", Fields::default());
    assert_eq!(said("spanned: inside"), [[inner.clone(), scope(0)], [inner, scope(1)]]);

    let children =
        app.list(qtasks::store::List { parent: Some(task.id()), limit: 9, ..Default::default() }).await.unwrap();
    let child = children.tasks.last().unwrap().id;
    assert_eq!(of("qtasks.add", child)[0].parent, Some(scope(0)), "it was added by the first attempt");
    let [run] = &of("qtasks.attempt", child)[..] else { panic!() };
    assert_eq!(run.fields.0["traceparent"], TRACE);
    assert!(said("spanned: on a thread").contains(&vec![("qtasks.attempt", run.fields.clone())]));

    // Beside that, it is in the log.
    let log: Vec<_> = task.events_from(1).try_collect().await.unwrap();
    let lines =
        log.iter().filter(|e| matches!(&e.kind, EventKind::Log { message, .. } if message == "spanned: before"));
    assert_eq!(lines.count(), 1, "the second attempt repeats it");
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn claims_and_appends_have_spans_that_are_off_unless_everything_is_on() {
    crate::task_log::listen();
    let app = app_of([spanned_child::spec()]).await;
    spanned_child::add_task().on(&app).timeout(soon()).await.unwrap();
    app.add_all((0..3).map(|_| spanned_child::add_task().held())).await.unwrap();
    let spans = lock(&SPANS).clone();
    let span = |name: &str| spans.iter().find(|s| s.name == name && !s.fields.0.contains_key("name")).unwrap();
    for (name, operation, kind, own) in [
        ("qtasks.claim", "claim", "receive", ["worker", "max"]),
        ("qtasks.append", "append", "settle", ["tasks", "events"]),
    ] {
        let span = span(name);
        assert_eq!((span.target.as_str(), span.level, &span.parent), ("qtasks", Level::TRACE, &None));
        assert_eq!(span.fields.0["messaging.operation.name"], operation);
        assert_eq!(span.fields.0["messaging.operation.type"], kind);
        assert!(own.iter().all(|field| span.fields.0.contains_key(*field)), "{span:?}");
        assert_eq!(span.fields.0.len(), 6, "{span:?}");
    }
    let many = &span("qtasks.add").fields.0;
    assert!(many["messaging.batch.message_count"].parse::<usize>().unwrap() > 1 && many.len() == 5, "{many:?}");
    app.shutdown().await.unwrap();
}
