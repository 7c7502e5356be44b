//! `GET /metrics`: what is in the store, for Prometheus, and what this process counts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::IntoResponse as _;
use http::header;

use super::auth::Scope;
use super::{Answered, Shared};
use crate::panics::caught;
use crate::task::Status;

/// The text format of Prometheus.
const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of a recorder.
#[derive(Clone)]
pub(super) struct Recorded(Arc<dyn Fn() -> String + Send + Sync>);

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorded")
    }
}

impl Recorded {
    pub(super) fn new(text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Recorded(Arc::new(text))
    }
}

pub(super) async fn metrics(State(inner): Shared, request: Request) -> Answered {
    inner.access.allow(request.headers(), Scope::Read)?;
    let (stats, paused) = (inner.app.stats().await?, inner.app.paused().await?);
    let mut text = gauges(&stats.queues, &paused);
    if let Some(Recorded(recorded)) = &inner.recorded {
        // What this program counts must not keep the store's own numbers from being read.
        match caught(|| recorded()) {
            Ok(recorded) => text += &recorded,
            Err(failure) => tracing::warn!(%failure, "the text of the recorder is left out of `/metrics`"),
        }
    }
    Ok(([(header::CONTENT_TYPE, KIND)], text).into_response())
}

/// Names of queues have no character that would have to be escaped.
fn gauges(queues: &BTreeMap<String, BTreeMap<Status, u64>>, paused: &[String]) -> String {
    let mut text = String::from("# HELP qtasks_tasks tasks in the store\n# TYPE qtasks_tasks gauge\n");
    for (queue, counts) in queues {
        for status in Status::ALL {
            let count = counts.get(&status).copied().unwrap_or_default();
            let _ = writeln!(text, "qtasks_tasks{{queue=\"{queue}\",status=\"{status}\"}} {count}");
        }
    }
    text += "# HELP qtasks_queue_paused whether no worker takes tasks of it\n# TYPE qtasks_queue_paused gauge\n";
    let unknown = paused.iter().filter(|queue| !queues.contains_key(*queue));
    for queue in queues.keys().chain(unknown) {
        let _ = writeln!(text, "qtasks_queue_paused{{queue=\"{queue}\"}} {}", u8::from(paused.contains(queue)));
    }
    text
}
