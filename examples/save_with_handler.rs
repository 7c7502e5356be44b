//! A `generate_handler` that saves each value to a database before anybody sees it.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use qtasks::TaskId;
use qtasks::prelude::*;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

static DB: LazyLock<Mutex<Connection>> = LazyLock::new(|| {
    let db = Connection::open_in_memory().expect("a database in memory opens");
    db.execute_batch("CREATE TABLE users (task TEXT, idx INTEGER, name TEXT, PRIMARY KEY (task, idx))")
        .expect("is SQL");
    Mutex::new(db)
});

#[derive(Clone, Serialize, Deserialize)]
struct User {
    task: TaskId,
    index: i64,
    name: String,
}

// After a crash a task runs again, and its handler may be called again for a place that was saved but is not yet in the
// log, with another value if the body yields another one. So the key is (task, index), and the last value replaces those
// before it: that one is in the log.
fn save_to_db(user: User) -> rusqlite::Result<String> {
    let db = DB.lock().unwrap_or_else(PoisonError::into_inner);
    let row = (user.task.to_string(), user.index, &user.name);
    db.execute("INSERT INTO users VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET name = excluded.name", row)?;
    Ok(user.name)
}

/// Makes users. What is stored and returned of each is what the handler makes of it: its name.
#[task(generate_handler = save_to_db -> String)]
fn ids(ctx: Context) -> User {
    for index in 0..5 {
        yield_!(User { task: ctx.id(), index, name: format!("user_{index}") });
    }
}

fn saved() -> rusqlite::Result<Vec<String>> {
    let db = DB.lock().unwrap_or_else(PoisonError::into_inner);
    let mut names = db.prepare("SELECT name FROM users ORDER BY task, idx")?;
    names.query_map([], |row| row.get(0))?.collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = qtasks::init("memory:").await?;
    let task = ids::add_task().timeout(Duration::from_secs(50)).await?;
    println!("returned: {:?}", task.returning);
    println!("saved:    {:?}", saved()?);
    assert_eq!(task.returning, ["user_0", "user_1", "user_2", "user_3", "user_4"]);
    assert_eq!(saved()?, task.returning);

    // The handler again, for a place that is saved already: there is still one row, with the value that came last.
    save_to_db(User { task: task.id, index: 4, name: "another".to_owned() })?;
    assert_eq!(saved()?, ["user_0", "user_1", "user_2", "user_3", "another"]);
    app.shutdown().await?;
    Ok(())
}
