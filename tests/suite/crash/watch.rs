//! Watchers of every sort, of all tasks that there are, each saying what it was handed.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::store::List;
use qtasks::{AnyTask, Error, ErrorKind, Event, TaskRecord};
use serde::Deserialize;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::xxh3_64;

use super::witness::{Said, Watcher, Witness};

/// How often new tasks are looked for.
const LOOK: Duration = Duration::from_millis(20);
/// One who returns leaves after so many events.
const STAY: usize = 500;
/// A slow one rests after so many values.
const REST: usize = 100;

/// Watches until `over` is there and every watcher is at the end; then all tasks once more, from the start.
pub(crate) async fn watch(app: &Qtasks, witness: Witness, over: &Path) {
    let witness = Arc::new(witness);
    let (mut known, mut watchers) = (HashSet::new(), JoinSet::new());
    loop {
        // In this order: what was there before it was over is watched.
        let last = over.exists();
        for (task, handle) in new(app, &mut known).await {
            let (w, h) = (&witness, &handle);
            watchers.spawn(values(Arc::clone(w), h.clone(), task, Watcher::Live));
            watchers.spawn(values(Arc::clone(w), h.clone(), task, Watcher::Slow));
            watchers.spawn(events(Arc::clone(w), h.clone(), task, Watcher::Events));
            watchers.spawn(events(Arc::clone(w), h.clone(), task, Watcher::Returning));
        }
        if last {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    while watchers.join_next().await.is_some() {}
    for (task, handle) in new(app, &mut HashSet::new()).await {
        values(Arc::clone(&witness), handle, task, Watcher::Late).await;
    }
    witness.say(Said::Left);
}

/// Generator tasks that were not known.
async fn new(app: &Qtasks, known: &mut HashSet<qtasks::TaskId>) -> Vec<(u32, TaskHandle<AnyTask>)> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let Ok(page) = app.list(List { limit: 100, cursor, ..List::default() }).await else { return found };
        for record in page.tasks {
            // The newest come first.
            if !known.insert(record.id) {
                return found;
            }
            if record.name != "plain"
                && let Ok(handle) = app.task(record.id).await
            {
                found.push((number(&record), handle));
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return found;
        }
    }
}

fn number(record: &TaskRecord) -> u32 {
    #[derive(Deserialize)]
    struct Args {
        task: u32,
    }
    let Args { task } = record.args.get().expect("all tasks here have one");
    task
}

/// How a stream closed.
fn closed(error: Option<&Error>) -> Option<String> {
    error.map(|e| match e.kind() {
        ErrorKind::TaskFailed => "ended".to_owned(),
        kind => format!("{kind:?}: {e}"),
    })
}

async fn values(witness: Arc<Witness>, handle: TaskHandle<AnyTask>, task: u32, by: Watcher) {
    witness.say(Said::Attached { by, task });
    let mut stream = handle.stream();
    let mut seen = 0;
    loop {
        match stream.try_next().await {
            Ok(Some(value)) => {
                witness.say(Said::Seen { by, task, value: value.as_u64().unwrap_or_default() });
                seen += 1;
                if by == Watcher::Slow && seen % REST == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            Ok(None) => return witness.say(Said::Closed { by, task, error: None }),
            Err(error) => match error.kind() {
                ErrorKind::Rewound { to, seq } => {
                    witness.say(Said::Rewound { by, task, to, seq });
                    stream = handle.stream_after(seq);
                }
                _ => return witness.say(Said::Closed { by, task, error: closed(Some(&error)) }),
            },
        }
    }
}

/// By what an event is known, whoever reads it.
fn sum(event: &Event) -> u64 {
    xxh3_64(&serde_json::to_vec(event).expect("it can be written"))
}

async fn events(witness: Arc<Witness>, handle: TaskHandle<AnyTask>, task: u32, by: Watcher) {
    witness.say(Said::Attached { by, task });
    let mut seq = 0;
    loop {
        let mut events = handle.events_from(seq + 1);
        let mut stayed = 0;
        while by != Watcher::Returning || stayed < STAY {
            match events.try_next().await {
                Ok(Some(event)) => {
                    seq = event.seq;
                    stayed += 1;
                    witness.say(Said::Read { by, task, seq, sum: sum(&event) });
                }
                Ok(None) => return witness.say(Said::Closed { by, task, error: None }),
                Err(error) => return witness.say(Said::Closed { by, task, error: closed(Some(&error)) }),
            }
        }
    }
}
