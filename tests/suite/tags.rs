//! Tags: what can be one, wherever a task comes from.

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::store::List;
use qtasks::{ErrorKind, Iter, TaskSpec};

use crate::{app_of, soon};

#[task]
async fn tagged(n: u64) -> u64 {
    n
}

/// Each with a character that steers a terminal, or does not show.
const BAD: [&str; 14] = [
    "\x1b[2J",
    "a\r\nb",
    "a\nb",
    "a\tb",
    "\x07",
    "a\x08",
    "a\0",
    "\x7f",
    "\u{9b}2J",
    "\u{85}",
    "a\u{202e}b",
    "\u{2028}",
    "im\u{200b}port",
    "im\u{200d}port",
];

fn assert_refused<T>(result: qtasks::Result<T>, tag: &str) {
    let Err(error) = result else { panic!("{tag:?} was taken") };
    assert_eq!(error.kind(), ErrorKind::Invalid, "{tag:?}: {error}");
    let message = error.to_string();
    assert!(message.contains("the tag ") && message.contains("control characters"), "{tag:?}: {message}");
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[tokio::test]
async fn a_tag_has_no_control_characters_whoever_adds_the_task() {
    let app = app_of([tagged::spec()]).await;
    for tag in BAD {
        assert_refused(tagged::add_task(1).on(&app).tag(tag).await, tag);
        assert_refused(tagged::add_task(1).on(&app).tag("good").tag(tag).held().await, tag);
        assert_refused(tagged::add_task(1).on(&app).group(tag).await, tag);
        assert_refused(app.add_task("tagged", [1]).tag(tag).await, tag);
        assert_refused(app.add_task("nobody_knows_it", [1]).tag(tag).unchecked().await, tag);
        assert_refused(app.add_all([tagged::add_task(1), tagged::add_task(2).tag(tag)]).await, tag);
        assert_refused(Iter::<tagged>::new().on(&app).tag(tag).run().await, tag);
        assert_refused(tagged::iter([1, 2]).on(&app).group(tag).run().await, tag);
        let schedule = app.schedule("nightly", tagged::add_task(1).tag(tag)).every(Duration::from_secs(60));
        assert_refused(schedule.await, tag);
        let debounced = tagged::add_task(1).on(&app).debounce("key", Duration::ZERO).tag(tag);
        assert_refused(debounced.await, tag);
    }
    assert_eq!(app.list(List { limit: 5, ..List::default() }).await.unwrap().tasks, [], "nothing was added");
    for tag in ["a b", "größe", "漢字", "🎉", "👩\u{200d}👩", "a:b/c=d", "'; DROP TABLE task; --", "<b>"] {
        let task = tagged::add_task(1).on(&app).tag(tag).timeout(soon()).await.unwrap();
        assert_eq!(task.record.tags, [tag]);
    }
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_function_s_own_tags_are_held_to_the_same() {
    let mut spec = TaskSpec::dynamic("odd", |_: Context, _: qtasks::Json| async { Ok::<_, String>(1) });
    spec.tags = &["good", "a\x1bb"];
    let app = qtasks::Qtasks::builder().store("memory:").tasks([]).register_spec(spec);
    assert_refused(app.start().await, "a\x1bb");
}
