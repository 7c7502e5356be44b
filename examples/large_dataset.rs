//! 25,500 rows of a database read through a cursor, in constant memory: a line for each 1,000, and a summary.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::{Path, PathBuf};

use qtasks::prelude::*;
use rusqlite::Connection;

const RECORDS: i64 = 25_500;

/// Processes records in chunks with progress.
///
/// A connection, its statement and its rows are no values that could be sent to another thread. This is a sync
/// generator, so it may hold them across its yields.
#[task]
fn process_large_dataset(database: PathBuf) -> rusqlite::Result<String> {
    let db = Connection::open(database)?;
    let total: i64 = db.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
    let mut statement = db.prepare("SELECT id, text FROM records ORDER BY id")?;
    let mut records = statement.query([])?;

    let (mut processed, mut bytes) = (0_i64, 0);
    while let Some(record) = records.next()? {
        // One record is in memory at a time.
        bytes += record.get_ref(1)?.as_str()?.len();
        processed += 1;
        if processed % 1_000 == 0 {
            yield_!(format!("Processed {processed}/{total} records\n"));
        }
    }
    yield_!(format!("Complete: processed {processed} records, {bytes} bytes\n"));
    Ok(())
}

fn fill(database: &Path) -> rusqlite::Result<()> {
    let mut db = Connection::open(database)?;
    let all = db.transaction()?;
    all.execute_batch("DROP TABLE IF EXISTS records; CREATE TABLE records (id INTEGER PRIMARY KEY, text TEXT)")?;
    {
        let mut insert = all.prepare("INSERT INTO records VALUES (?, ?)")?;
        for id in 1..=RECORDS {
            insert.execute((id, format!("record {id:05}")))?;
        }
    }
    all.commit()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let database = std::env::temp_dir().join(format!("qtasks-large-dataset-{}.db", std::process::id()));
    fill(&database)?;
    let app = qtasks::init("memory:").await?;

    let mut lines = process_large_dataset::add_task(database.clone()).await?.stream();
    let mut seen = Vec::new();
    while let Some(line) = lines.try_next().await? {
        print!("{line}");
        seen.push(line);
    }
    assert_eq!(seen.len(), 26);
    assert_eq!(seen[0], "Processed 1000/25500 records\n");
    assert_eq!(seen[25], "Complete: processed 25500 records, 306000 bytes\n");
    app.shutdown().await?;
    std::fs::remove_file(database)?;
    Ok(())
}
