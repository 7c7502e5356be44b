//! An import that tells how far it is, and two who watch it: one from the start, one who joins in the middle.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use qtasks::prelude::*;
use rusqlite::Connection;

const AIRPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/airports.csv");

/// Imports a CSV file of airports with progress updates.
#[task]
fn import_csv(
    ctx: Context,
    db: State<Mutex<Connection>>,
    file_path: String,
    #[default = 100] batch_size: usize,
) -> anyhow::Result<String> {
    let rows: Vec<csv::StringRecord> = csv::Reader::from_path(&file_path)?.into_records().collect::<Result<_, _>>()?;
    let total = rows.len();
    let mut progress = 0;
    for batch in rows.chunks(batch_size.max(1)) {
        save(&db, batch)?;
        progress += batch.len();
        yield_!(format!("Imported {progress}/{total} rows ({}%)\n", progress * 100 / total));
        // So that there is something to watch: the import itself takes a few milliseconds.
        ctx.sleep_blocking(Duration::from_millis(60));
    }
    yield_!(format!("Import complete: {total} rows processed"));
    Ok(())
}

/// Saves a batch as a whole or not at all, and once, however often it is asked to: a retried import begins again.
fn save(db: &Mutex<Connection>, batch: &[csv::StringRecord]) -> rusqlite::Result<()> {
    let mut db = db.lock().unwrap_or_else(PoisonError::into_inner);
    let transaction = db.transaction()?;
    for row in batch {
        let row = (&row[0], &row[1], &row[2], &row[3]);
        transaction.execute("INSERT OR REPLACE INTO airports VALUES (?, ?, ?, ?)", row)?;
    }
    transaction.commit()
}

/// Prints what a task yields while it runs, from its first value on.
async fn watch(who: &str, task: TaskHandle<import_csv>) -> qtasks::Result<Vec<String>> {
    println!("{who} joins after {} updates", task.record().await?.yields);
    let mut values = task.stream();
    let mut seen = Vec::new();
    while let Some(text) = values.try_next().await? {
        println!("{who} {}", text.trim_end());
        seen.push(text);
    }
    Ok(seen)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let db = Connection::open_in_memory()?;
    db.execute_batch("CREATE TABLE airports (faa TEXT PRIMARY KEY, name TEXT, lat REAL, lon REAL)")?;
    let app = Qtasks::builder().store("memory:").state(Mutex::new(db)).install().start().await?;

    let task = import_csv::add_task(AIRPORTS.to_owned(), 100).await?;
    let first = tokio::spawn(watch("first ", task.clone()));
    task.stream().take(7).try_collect::<Vec<_>>().await?;
    let second = tokio::spawn(watch("second", task.clone()));

    let (first, second) = (first.await??, second.await??);
    assert_eq!(first.len(), 16);
    assert_eq!(first[0], "Imported 100/1458 rows (6%)\n");
    assert_eq!(first[15], "Import complete: 1458 rows processed");
    assert_eq!(second, first);
    app.shutdown().await?;
    Ok(())
}
