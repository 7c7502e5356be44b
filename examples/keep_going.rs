//! What to do about a bad item: yield the error and go on, or fail with `?`. Either way nothing yielded is lost.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::ParseIntError;
use std::time::Duration;

use qtasks::WaitError;
use qtasks::prelude::*;

fn process(item: &str) -> Result<i64, ParseIntError> {
    item.parse::<i64>().map(|n| n * 10)
}

/// A bad item is one line among the others.
#[task]
async fn safe_generator_task(items: Vec<String>) -> String {
    for (i, item) in items.iter().enumerate() {
        match process(item) {
            Ok(result) => yield_!(format!("Item {i}: {result}\n")),
            Err(e) => yield_!(format!("Item {i}: ERROR - {e}\n")),
        }
    }
    yield_!("Processing complete\n".to_owned());
}

/// A bad item is the end of it.
#[task]
async fn strict_generator_task(items: Vec<String>) -> Result<String, ParseIntError> {
    for (i, item) in items.iter().enumerate() {
        yield_!(format!("Item {i}: {}\n", process(item)?));
    }
    yield_!("Processing complete\n".to_owned());
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = qtasks::init("memory:").await?;
    let items: Vec<String> = ["1", "2", "three", "4"].map(str::to_owned).into();

    println!("it goes on:");
    let task = safe_generator_task::add_task(items.clone()).timeout(Duration::from_secs(50)).await?;
    print!("{}", task.returning.concat());
    assert_eq!(task.returning.len(), 5);
    assert_eq!(task.returning[2], "Item 2: ERROR - invalid digit found in string\n");

    println!("\nits twin with `?`:");
    let failed = strict_generator_task::add_task(items).timeout(Duration::from_secs(50)).await;
    let Err(WaitError::Ended(ended)) = failed else { unreachable!("`three` is no number") };
    let kept: Vec<String> = ended.returning()?;
    print!("{}", kept.concat());
    println!("{}", ended.failure());
    assert_eq!(kept, ["Item 0: 10\n", "Item 1: 20\n"]);
    app.shutdown().await
}
