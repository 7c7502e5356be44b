//! Words that only a later version knows: nothing is damaged, and nothing stops for them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt as _;
use qtasks::prelude::*;
use qtasks::store::sqlite::Durability;
use qtasks::store::{List, SqliteStore, Store};
use qtasks::{Clock, EventKind, FailureKind, RetryPolicy, Status, TaskHandle, TaskId, WaitError};
use rusqlite::Connection;

use crate::{scratch, soon};

#[task]
async fn fine(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task]
async fn wrong(n: u64) -> Result<u64, String> {
    for i in 0..n {
        yield_!(i);
    }
    Err("no")?;
}

async fn open(path: &Path) -> Qtasks {
    let url = format!("sqlite:{}", path.display());
    let specs = [fine::spec(), wrong::spec()];
    Qtasks::builder().store(url).tasks(specs).scan(Duration::from_millis(100)).start().await.unwrap()
}

/// A file with a task that failed and one that is queued; without checksums, as an earlier version wrote it.
async fn file(sums: bool) -> (PathBuf, TaskId, TaskId) {
    let path = scratch().join("q.db");
    let app = open(&path).await;
    let failed = wrong::add_task(3).on(&app).await.unwrap();
    assert!(failed.wait().await.is_err());
    app.shutdown().await.unwrap();
    let idle =
        Qtasks::builder().store(format!("sqlite:{}", path.display())).tasks([fine::spec()]).open().await.unwrap();
    let queued = fine::add_task(3).retry(RetryPolicy::times(1)).tag("x").on(&idle).await.unwrap();
    idle.shutdown().await.unwrap();
    let ids = (failed.id(), queued.id());
    drop((failed, queued, app, idle));
    if !sums {
        forget_sums(&path);
    }
    (path, ids.0, ids.1)
}

fn forget_sums(path: &Path) {
    let db = Connection::open(path).unwrap();
    db.execute_batch(
        "UPDATE task SET sum = NULL, fixed_sum = NULL; UPDATE log SET sum = NULL; UPDATE doc SET sum = NULL;
         UPDATE count SET sum = NULL; UPDATE state SET sum = NULL; UPDATE checkpoint SET sum = NULL;",
    )
    .unwrap();
}

fn change(path: &Path, sql: &str) {
    let db = Connection::open(path).unwrap();
    assert!(db.execute(sql, []).unwrap() > 0, "{sql}");
}

/// All that is there can still be listed, and what is new is run.
async fn goes_on(app: &Qtasks, what: &str) {
    let task = fine::add_task(4).on(app).timeout(soon()).await;
    assert_eq!(task.unwrap_or_else(|e| panic!("{what}: {e}")).returning, [0, 1, 2, 3], "{what}");
    let all = app.list(List { limit: 100, ..List::default() }).await;
    assert_eq!(all.unwrap_or_else(|e| panic!("{what}: {e}")).tasks.len(), 3, "{what}");
    for status in Status::ALL {
        let some = app.list(List { status: vec![status], limit: 100, ..List::default() }).await;
        some.unwrap_or_else(|e| panic!("{what}, {status}: {e}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_of_failure_of_a_later_version_is_shown_as_it_is() {
    let (path, failed, _) = file(false).await;
    change(&path, "UPDATE task SET error = replace(error, '\"error\"', '\"out_of_fuel\"') WHERE error IS NOT NULL");
    change(
        &path,
        "UPDATE log SET data = CAST(replace(CAST(data AS TEXT), '\"error\"', '\"out_of_lock\"') AS BLOB) WHERE data LIKE '%\"error\"%'",
    );
    let app = open(&path).await;
    goes_on(&app, "a kind of failure").await;
    let handle = TaskHandle::<wrong>::attach(&app, failed).await.unwrap();
    let error = handle.record().await.unwrap().failure().unwrap();
    assert_eq!((error.kind, error.kind.as_str()), (FailureKind::Other("out_of_fuel"), "out_of_fuel"));
    assert_eq!(error.message, "no");
    assert_eq!(serde_json::to_value(&error).unwrap()["kind"], "out_of_fuel");
    app.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_later_version_is_passed_over_and_shown() {
    for (code, has_hash) in [(77_u8, false), (200, true)] {
        let (path, failed, _) = file(false).await;
        // The first event, `started`, becomes one that nobody here knows.
        let db = Connection::open(&path).unwrap();
        let sql = "SELECT rowid_n, seq, heads FROM (SELECT log.n AS rowid_n, seq, heads FROM log JOIN task t ON t.n = log.n \
             WHERE t.id = ?1) ORDER BY seq LIMIT 1";
        let (n, seq, mut heads): (i64, i64, Vec<u8>) = db
            .query_row(sql, [failed.as_uuid().as_bytes()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap();
        assert_eq!(heads[0], 1, "`started` is the first");
        heads[0] = code;
        if has_hash {
            // Behind code, index, length and lateness, a byte each.
            heads.splice(4..4, [7_u8; 8]);
        }
        db.execute("UPDATE log SET heads = ?3 WHERE n = ?1 AND seq = ?2", (n, seq, heads)).unwrap();
        drop(db);
        let app = open(&path).await;
        goes_on(&app, "an event").await;
        let handle = TaskHandle::<wrong>::attach(&app, failed).await.unwrap();
        let events: Vec<_> = handle.events_from(0).try_collect().await.unwrap();
        assert!(matches!(&events[0].kind, EventKind::Other { code: c, .. } if *c == code), "{:?}", events[0]);
        assert_eq!(serde_json::to_value(&events[0]).unwrap()["kind"], "other");
        match handle.wait().await {
            Err(WaitError::Ended(ended)) => assert_eq!(ended.returning::<u64>().unwrap(), [0, 1, 2]),
            other => panic!("{other:?}"),
        }
        app.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_can_not_be_read_is_refused_alone() {
    for sums in [true, false] {
        for (column, value) in [
            ("status", "9"),
            ("tags", "'[\"x\"'"),
            ("tags", "CAST(x'ff' AS TEXT)"),
            ("retry", "'{\"policy\":\"lunar\"}'"),
            ("trace", "'?'"),
            ("error", "'{}'"),
            ("rewinds", "'[[]]'"),
            ("final_value", "'{\"open'"),
            ("args", "'not json'"),
            ("id", "x'00'"),
            ("parent", "x'01'"),
            ("retry_of", "x'01'"),
            ("tail", "4611686018427387904"),
            ("tail", "-1"),
            ("attempt", "99999999999"),
            ("priority", "99999"),
            ("pair", "4711"),
            ("worker", "CAST(x'c0' AS TEXT)"),
            ("cancel_reason", "CAST(x'c0' AS TEXT)"),
            ("time_limit", "-1"),
        ] {
            let (path, _, queued) = file(sums).await;
            let what = format!("{column} = {value}, checksums: {sums}");
            let db = Connection::open(&path).unwrap();
            let done =
                db.execute(&format!("UPDATE task SET {column} = {value} WHERE id = ?1"), [queued.as_uuid().as_bytes()]);
            assert_eq!(done.unwrap(), 1, "{what}");
            drop(db);
            let app = open(&path).await;
            let task = fine::add_task(4).on(&app).timeout(soon()).await;
            assert_eq!(task.unwrap_or_else(|e| panic!("{what}: {e}")).returning, [0, 1, 2, 3], "{what}");
            let listed = app.list(List { limit: 100, ..List::default() }).await;
            let listed = listed.unwrap_or_else(|e| panic!("{what}: {e}")).tasks;
            let expected = if column == "id" { 2 } else { 3 };
            assert_eq!(listed.len(), expected, "{what}");
            let stats = app.stats().await.unwrap_or_else(|e| panic!("{what}: {e}"));
            drop(stats);
            // With a checksum nothing else can come of it; without one, what can be read is taken as it is.
            let refused = async || match app.store().get(vec![queued]).await.unwrap().pop().flatten() {
                None => column == "id",
                Some(record) => match record.failure() {
                    Some(failure) => failure.kind == FailureKind::Codec || column == "tail",
                    None => !sums && record.status.is_ended(),
                },
            };
            tokio::time::timeout(soon(), async {
                while !refused().await {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{what}: the task is neither refused nor run"));
            app.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_status_of_a_later_version_is_left_to_it() {
    let (path, _, queued) = file(false).await;
    change(&path, "UPDATE task SET status = 11 WHERE status = 2");
    // The later version computed the checksum.
    let store = SqliteStore::new(&path, Durability::Fast, Clock::system()).unwrap();
    let record = store.get(vec![queued]).await.unwrap().pop().flatten().unwrap();
    assert_eq!(record.status, Status::Failed);
    let error = record.failure().unwrap();
    assert!(error.message.contains("column `status`"), "{error}");
    let listed = store.list(List { limit: 10, ..List::default() }).await.unwrap();
    assert_eq!(listed.tasks.len(), 2);
}
