//! The thread that learns what other processes committed.
//!
//! SQLite tells nobody; but `data_version` changes with every commit of another connection, and asking for it costs
//! microseconds. What the commit did is in the table `hint`.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::super::Hint;
use super::schema::{self, Role};
use super::{Inner, lock};
use crate::error::{Error, ErrorKind, Result};

/// How often the file is looked at: a hint of another process is half of that late on average.
const POLL: Duration = Duration::from_millis(5);

/// Starts the thread, unless there is one.
pub(super) fn start(store: &Arc<Inner>) -> Result<()> {
    let mut watches = lock(&store.watches);
    if *watches {
        return Ok(());
    }
    let db = schema::connect(&store.path, Role::Reader).map_err(|e| super::to_error(&e, &store.path))?;
    // What happens from here on is hinted at.
    let last = latest(&db).map_err(|e| super::to_error(&e, &store.path))?;
    let weak = Arc::downgrade(store);
    let spawned =
        std::thread::Builder::new().name("qtasks-sqlite-watch".to_owned()).spawn(move || follow(&weak, &db, last));
    spawned.map_err(|e| {
        Error::new(ErrorKind::Unavailable, format!("the store's thread does not start: {e}")).with_source(e)
    })?;
    *watches = true;
    Ok(())
}

/// No hint has a number like this, unless it is damaged.
pub(super) const FAR: i64 = 1 << 60;

fn latest(db: &Connection) -> rusqlite::Result<i64> {
    let last: Option<i64> = db.query_row("SELECT max(k) FROM hint", [], |row| row.get(0))?;
    Ok(last.unwrap_or(0))
}

fn follow(store: &Weak<Inner>, db: &Connection, mut last: i64) {
    let mut version = None;
    loop {
        std::thread::sleep(POLL);
        let Some(store) = store.upgrade() else { return };
        let now = db.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0)).ok();
        if now == version && now.is_some() {
            continue;
        }
        match news(db, store.me, &mut last) {
            Ok(hints) => {
                version = now;
                store.listeners.tell(hints);
            }
            // It is looked at again; who waits looks by itself now and then.
            Err(error) => tracing::debug!(%error, "the hints of other processes could not be read"),
        }
    }
}

/// What others did since `last`.
fn news(db: &Connection, me: i64, last: &mut i64) -> rusqlite::Result<Vec<Hint>> {
    let mut hints = Vec::new();
    let sql = "SELECT k FROM hint ORDER BY k LIMIT 1";
    let oldest: Option<i64> = db.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    // The first of all is 1, and the latest is never deleted.
    if oldest.is_some_and(|oldest| oldest > *last + 1) {
        hints.push(Hint::Look);
    }
    let mut statement = db.prepare_cached(
        "SELECT k, writer, CASE writer WHEN ?2 THEN '' ELSE hints END FROM hint WHERE k > ?1 ORDER BY k",
    )?;
    let mut found = statement.query((*last, me))?;
    let mut latest = *last;
    while let Some(row) = found.next()? {
        latest = row.get(0)?;
        if row.get::<_, i64>(1)? != me {
            let text = row.get_ref(2)?.as_bytes().unwrap_or_default();
            // Of a version that this one can't read: looking at everything is never wrong.
            hints.extend(serde_json::from_slice::<Vec<Hint>>(text).unwrap_or_else(|_| vec![Hint::Look]));
        }
    }
    // Numbers only grow, unless one of them was damaged.
    let newest = self::latest(db)?;
    if newest < latest || newest >= FAR {
        hints.push(Hint::Look);
        latest = if newest < FAR { newest } else { latest };
    }
    *last = latest;
    Ok(hints)
}
