//! What bodies say by `tracing`.

use std::sync::Once;

use qtasks::prelude::*;
use qtasks::{EventKind, TaskLog};
use serde_json::json;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::introspection::spans::Spans;
use crate::{kinds, soon};

/// Sets the subscriber of the whole suite, of which only bodies that say something notice anything.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(TaskLog::new()).with(Spans);
        tracing::subscriber::set_global_default(subscriber).expect("nobody else sets one");
    });
}

/// Level, target, message, fields, and the yields before it.
async fn said<F: TaskFn>(handle: &TaskHandle<F>) -> Vec<(String, String, String, String, u64)> {
    let log: Vec<_> = handle.events_from(1).try_collect().await.unwrap();
    let line = |event: qtasks::Event| match event.kind {
        EventKind::Log { index, level, target, message, fields } => {
            Some((level, target, message, fields.to_string(), index))
        }
        _ => None,
    };
    log.into_iter().filter_map(line).collect()
}

fn double(x: u32) -> u32 {
    tracing::info!(x, "doubled");
    x * 2
}

#[task(generate_handler = double)]
async fn tells() -> u32 {
    tracing::info!("begins");
    yield_!(1);
    tracing::debug!("not at this level");
    tracing::warn!(target: "elsewhere", rows = 3_u64, ratio = 0.5, ok = true, who = "ada", what = ?Some(1), "odd");
    yield_!(2);
    tracing::error!(nan = f64::NAN);
}

#[task]
fn tells_blocking() -> u32 {
    tracing::info!("from a thread");
    yield_!(1);
}

#[tokio::test]
async fn what_a_body_says_is_in_its_log() {
    listen();
    let app = qtasks::test::app().tasks([tells::spec(), tells_blocking::spec()]).start().await;
    let handle = tells::add_task().on(&app).await.unwrap();
    handle.wait_timeout(soon()).await.unwrap();
    let here = module_path!();
    let line = |level: &str, target: &str, message: &str, fields: serde_json::Value, index| {
        (level.to_owned(), target.to_owned(), message.to_owned(), fields.to_string(), index)
    };
    let fields = json!({ "rows": 3, "ratio": 0.5, "ok": true, "who": "ada", "what": "Some(1)" });
    let expected = [
        line("info", here, "begins", json!({}), 0),
        line("info", here, "doubled", json!({ "x": 1 }), 0),
        line("warn", "elsewhere", "odd", fields, 1),
        line("info", here, "doubled", json!({ "x": 2 }), 1),
        line("error", here, "", json!({ "nan": "NaN" }), 2),
    ];
    assert_eq!(said(&handle).await, expected);
    let log: Vec<_> = handle.events_from(1).try_collect().await.unwrap();
    assert_eq!(kinds(&log), "started log log yield log log yield log completed");
    let handle = tells_blocking::add_task().on(&app).await.unwrap();
    handle.wait_timeout(soon()).await.unwrap();
    assert_eq!(said(&handle).await, [line("info", here, "from a thread", json!({}), 0)]);
}

#[task]
async fn repeats() -> u32 {
    for i in 0..3 {
        tracing::info!("before {i}");
        yield_!(i);
    }
}

#[tokio::test]
async fn lines_of_values_that_are_stored_are_not_repeated() {
    listen();
    let app = qtasks::test::app().tasks([repeats::spec()]).kill_after(2).start().await;
    let handle = repeats::add_task().on(&app).await.unwrap();
    let task = handle.wait_timeout(soon()).await.unwrap();
    assert_eq!((task.returning, task.record.attempt), (vec![0, 1, 2], 2));
    let lines: Vec<String> = said(&handle).await.into_iter().map(|line| line.2).collect();
    assert_eq!(lines, ["before 0", "before 1", "before 2"]);
}

#[task(log_bytes_max = 1000)]
async fn shouts() -> String {
    tracing::info!(field = "gone", "{}", "ü".repeat(200));
    for _ in 0..100 {
        tracing::info!("{}", "x".repeat(90));
    }
    for _ in 0..4 {
        yield_!("y".repeat(90));
    }
}

#[tokio::test]
async fn no_task_fails_for_what_it_says() {
    listen();
    let app = qtasks::test::app().tasks([shouts::spec()]).with(|app| app.value_bytes_max(101)).start().await;
    let handle = shouts::add_task().on(&app).await.unwrap();
    let ended = handle.wait_timeout(soon()).await;
    let lines = said(&handle).await;
    let long = &lines[0];
    assert!(long.1.len() + long.2.len() <= 101 && long.3 == "{}" && long.2.chars().all(|c| c == 'ü'), "{long:?}");
    assert!((3..=5).contains(&lines.len()), "{} lines", lines.len());
    // There is room for what it yields.
    assert!(ended.is_ok(), "{ended:?}");
}
