//! The values of a task as one text.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qtasks::prelude::*;
use qtasks::{ErrorKind, RetryPolicy};

use crate::{app_of, soon};

#[task]
async fn speaks(words: Vec<String>, ends_well: bool) -> Result<String, String> {
    for word in words {
        yield_!(word);
    }
    if !ends_well {
        Err("hoarse")?;
    }
}

fn words() -> Vec<String> {
    ["Downloaded ", "8192/", "10000 bytes\n", "", "ünïcode"].map(str::to_owned).into()
}

#[tokio::test]
async fn the_output_is_what_was_yielded_put_together() {
    let app = app_of([speaks::spec()]).await;
    let all = words().concat();
    for ends_well in [true, false] {
        let handle = speaks::add_task(words(), ends_well).on(&app).await.unwrap();
        let mut output = handle.output_stream();
        let mut pieces = String::new();
        let end = loop {
            match output.grown().await {
                Ok(Some(piece)) => {
                    pieces.truncate(piece.at);
                    pieces.push_str(piece.text);
                }
                Ok(None) => break None,
                Err(error) => break Some(error.kind()),
            }
        };
        assert_eq!((&pieces, output.text(), end), (&all, &*all, (!ends_well).then_some(ErrorKind::TaskFailed)));
        assert_eq!(output.grown().await.unwrap(), None);
        assert_eq!(handle.output().await.unwrap(), all);
        assert_eq!(app.task(handle.id()).await.unwrap().output().await.unwrap(), all, "by its id alone");
    }
}

static GO_ON: AtomicBool = AtomicBool::new(false);

#[task(retry = RetryPolicy::times(1).constant(Duration::ZERO))]
async fn stutters(ctx: Context) -> Result<String, String> {
    yield_!("once ".to_owned());
    if ctx.attempt() == 1 {
        yield_!("upun ".to_owned());
        while !GO_ON.load(Ordering::SeqCst) {
            ctx.sleep(Duration::from_millis(1)).await;
        }
        Err("a slip")?;
    }
    yield_!("upon a time".to_owned());
}

#[tokio::test]
async fn what_is_taken_back_is_cut_off() {
    let app = app_of([stutters::spec()]).await;
    let handle = stutters::add_task().on(&app).await.unwrap();
    let mut output = handle.output_stream();
    let mut text = String::new();
    while text != "once upun " {
        let piece = output.grown().await.unwrap().unwrap();
        text.truncate(piece.at);
        text.push_str(piece.text);
    }
    assert_eq!(handle.output().await.unwrap(), text, "while it runs");
    GO_ON.store(true, Ordering::SeqCst);
    let mut cut = false;
    while let Some(piece) = output.grown().await.unwrap() {
        cut |= piece.at < text.len();
        text.truncate(piece.at);
        text.push_str(piece.text);
    }
    assert!(cut);
    assert_eq!((text.as_str(), output.text()), ("once upon a time", "once upon a time"));
    assert_eq!(handle.output().await.unwrap(), text);
}

#[tokio::test]
async fn what_is_no_text_is_refused() {
    #[task]
    async fn numbers() -> u32 {
        yield_!(1);
    }
    let app = app_of([numbers::spec()]).await;
    let task = app.add_task("numbers", serde_json::json!([])).await.unwrap();
    task.wait_timeout(soon()).await.unwrap();
    let error = task.output().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    let rule = format!("value 0 of task {} is no string, so that it has no place in a text", task.id());
    assert_eq!(error.to_string(), rule);
    assert_eq!(task.output_stream().grown().await.unwrap_err().to_string(), rule);
}

#[task]
async fn lines(n: u32) -> String {
    for i in 0..n {
        yield_!(format!("line {i}\n"));
    }
}

/// Simple Queue reads and writes all of the text for each value: 8,000 of them take it 10 s.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_grows_by_what_comes_however_long_it_is() {
    let app = app_of([lines::spec()]).await;
    for n in [1_000, 100_000] {
        let begun = Instant::now();
        let handle = lines::add_task(n).on(&app).await.unwrap();
        let mut output = handle.output_stream();
        let mut bytes = 0;
        while let Some(piece) = output.grown().await.unwrap() {
            assert_eq!(piece.at, bytes);
            bytes += piece.text.len();
        }
        let each = begun.elapsed() / n;
        println!("{n} yields of text, watched: {each:?} each");
        let all: String = (0..n).map(|i| format!("line {i}\n")).collect();
        assert!(output.text() == all && handle.output().await.unwrap() == all);
    }
}
