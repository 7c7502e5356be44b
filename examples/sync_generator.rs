//! A generator that is not `async`: it may block, and hold what can't be sent to another thread.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::rc::Rc;
use std::time::Duration;

use qtasks::prelude::*;

const AIRPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/airports.csv");

/// Finds the airports of a time zone.
///
/// It runs on a thread of its own, outside of any async runtime: reading a file, waiting for a lock or a blocking HTTP
/// client stall nothing else.
#[task]
fn airports_in(file_path: String, zone: String) -> io::Result<String> {
    let zone: Rc<str> = zone.into();
    for line in BufReader::new(File::open(file_path)?).lines() {
        let line = line?;
        if line.ends_with(&*zone) {
            yield_!(line.split(',').nth(1).unwrap_or_default().to_owned());
        }
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = qtasks::init("memory:").await?;

    let honolulu = airports_in::add_task(AIRPORTS.to_owned(), "Pacific/Honolulu".to_owned());
    let found = honolulu.timeout(Duration::from_secs(50)).await?.returning;
    for name in &found {
        println!("{name}");
    }
    assert_eq!(found.len(), 18);

    // A file that is not there: `?` fails the task, with the text of the error.
    let missing = airports_in::add_task("nowhere.csv".to_owned(), String::new());
    let error = missing.timeout(Duration::from_secs(50)).await.expect_err("there is no such file");
    println!("{error}");
    app.shutdown().await
}
