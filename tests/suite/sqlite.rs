//! What only a store in a file has to promise.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use qtasks::prelude::*;
use qtasks::store::sqlite::Durability;
use qtasks::store::{Claim, DocPut, Hint, Interest, Offer, SqliteStore, Store};
use qtasks::{Clock, ErrorKind, Status};
use rusqlite::Connection;

use super::{scratch, soon, until_async};

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// As another process would open it: with connections and a writer of its own.
fn apart(path: &Path) -> Arc<SqliteStore> {
    SqliteStore::new(path, Durability::Fast, Clock::system()).unwrap()
}

async fn refused(url: &str) -> qtasks::Error {
    qtasks::store::open(url).await.unwrap_err()
}

#[task]
async fn counts(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task]
fn for_ever() -> u64 {
    for i in 0.. {
        yield_!(i);
    }
}

#[task]
async fn ticks(ctx: Context, n: u64) -> u64 {
    for i in 0..n {
        ctx.sleep(Duration::from_millis(20)).await;
        yield_!(i);
    }
}

#[task]
async fn plain(a: u64, b: u64) -> u64 {
    a + b
}

#[tokio::test]
async fn what_can_not_be_a_store_is_refused_with_the_reason() {
    let folder = scratch();
    let path = folder.join("q.db");
    for (url, kind, said) in [
        ("sqlite:".to_owned(), ErrorKind::Invalid, "sqlite:tasks.db"),
        ("sqlite::memory:".to_owned(), ErrorKind::Invalid, "memory:"),
        (format!("{}?durability=maybe", url(&path)), ErrorKind::Invalid, "durability=strict"),
        (format!("{}?mode=ro", url(&path)), ErrorKind::Invalid, "`mode=ro`"),
        (url(&folder), ErrorKind::Invalid, "is a directory"),
        (url(&folder.join("no/such/q.db")), ErrorKind::Unavailable, "can't be made"),
    ] {
        let error = refused(&url).await;
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(error.to_string().contains(said), "{url}: {error}");
    }
    assert!(!path.exists(), "a URL that is wrong makes no file");

    std::fs::write(folder.join("text.db"), "this is no database, and is long enough to be taken for one ".repeat(20))
        .unwrap();
    let error = refused(&url(&folder.join("text.db"))).await;
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("is not a database"), "{error}");

    let foreign = folder.join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE mine (x)").unwrap();
    let error = refused(&url(&foreign)).await;
    assert!(error.to_string().contains("a database of something else"), "{error}");
    let tables: i64 = Connection::open(&foreign)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1, "it is left as it was");
    let mode =
        Connection::open(&foreign).unwrap().pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
    assert_eq!(mode.unwrap(), "delete", "it is left as it was");

    drop(qtasks::store::open(&url(&path)).await.unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refused(&url(&path)).await;
    assert!(error.to_string().contains("a later version"), "{error}");
}

#[tokio::test]
async fn nobody_else_may_read_the_file() {
    let folder = scratch();
    let path = folder.join("q.db");
    let app = Qtasks::builder().store(url(&path)).tasks([plain::spec()]).start().await.unwrap();
    plain::add_task(1, 2).on(&app).timeout(soon()).await.unwrap();
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.file_name());
    }
    app.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_was_stored_is_there_when_it_is_opened_again() {
    let path = scratch().join("q.db");
    for durability in ["", "?durability=fast", "?durability=strict"] {
        let url = format!("{}{durability}", url(&path));
        let app = Qtasks::builder().store(&url).tasks([counts::spec()]).start().await.unwrap();
        let id = counts::add_task(5_000).on(&app).timeout(soon()).await.unwrap().id;
        app.shutdown().await.unwrap();
        drop(app);
        let app = Qtasks::open(&url).await.unwrap();
        let again = TaskHandle::<counts>::attach(&app, id).await.unwrap();
        assert_eq!(again.wait().await.unwrap().returning, (0..5_000).collect::<Vec<_>>());
        let from = again.stream_after(4_001).try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(from, (4_000..5_000).collect::<Vec<_>>());
        app.shutdown().await.unwrap();
    }
}

/// Two that share nothing but the file hear of each other: of ready tasks, of values, of ends, of cancels.
#[tokio::test(flavor = "multi_thread")]
async fn hints_reach_other_processes() {
    let path = scratch().join("q.db");
    // Far longer than the test may take: without hints nobody would look.
    let scan = Duration::from_secs(3_600);
    let worker = Qtasks::builder().with_store(apart(&path)).scan(scan).tasks([ticks::spec(), plain::spec()]);
    let worker = worker.start().await.unwrap();
    let other = Qtasks::builder().with_store(apart(&path)).scan(scan).tasks([ticks::spec(), plain::spec()]);
    let other = other.open().await.unwrap();

    assert_eq!(plain::add_task(1, 2).on(&other).timeout(soon()).await.unwrap().returning, 3);
    let task = ticks::add_task(10).on(&other).await.unwrap();
    let seen = tokio::time::timeout(soon(), task.stream().try_collect::<Vec<_>>()).await.unwrap().unwrap();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());

    let task = ticks::add_task(1_000_000).on(&other).await.unwrap();
    task.stream().next().await.unwrap().unwrap();
    task.cancel("no longer wanted").await.unwrap();
    let ended = task.wait_timeout(soon()).await.unwrap_err();
    assert_eq!(ended.failure().unwrap().message, "no longer wanted");
    worker.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_is_told_once() {
    let path = scratch().join("q.db");
    let (a, b) = (apart(&path), apart(&path));
    let interest = Arc::new(Interest::default());
    interest.serve([("default".to_owned(), "plain".to_owned())]);
    let mut hints = b.watch(Arc::clone(&interest)).await.unwrap();
    let adds = Qtasks::builder().with_store(a).tasks([plain::spec()]).open().await.unwrap();
    for _ in 0..3 {
        interest.rest();
        plain::add_task(1, 2).on(&adds).await.unwrap();
        let hint = tokio::time::timeout(soon(), hints.next()).await.unwrap().unwrap();
        assert_eq!(hint, Hint::Ready { queue: "default".into(), name: "plain".into() });
    }
}

/// Another process may hold the lock for longer than any lease: nobody sees an error, and nothing counts as a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stands_still_costs_no_task_its_attempts() {
    let path = scratch().join("q.db");
    let lease = Duration::from_millis(300);
    let builder = Qtasks::builder().with_store(apart(&path)).lease(lease).scan(Duration::from_millis(50));
    let app = builder.tasks([ticks::spec(), plain::spec()]).start().await.unwrap();
    let task = ticks::add_task(60).on(&app).await.unwrap();
    let mut values = task.stream();
    for i in 0..5 {
        assert_eq!(values.try_next().await.unwrap(), Some(i));
    }
    let lock = Connection::open(&path).unwrap();
    lock.busy_timeout(soon()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let adds = tokio::spawn({
        let app = app.clone();
        async move { plain::add_task(1, 2).on(&app).timeout(soon()).await }
    });
    tokio::time::sleep(lease * 5).await;
    assert!(!adds.is_finished());
    lock.execute_batch("COMMIT").unwrap();
    assert_eq!(adds.await.unwrap().unwrap().returning, 3);
    let rest = tokio::time::timeout(soon(), values.try_collect::<Vec<_>>()).await.unwrap().unwrap();
    assert_eq!(rest, (5..60).collect::<Vec<_>>());
    let record = task.record().await.unwrap();
    assert_eq!((record.status, record.crashes, record.failures), (Status::Completed, 0, 0));
    let log = task.events_from(1).try_collect::<Vec<_>>().await.unwrap();
    let lost = log.iter().filter(|e| matches!(e.kind, qtasks::EventKind::Retry { .. })).count();
    assert_eq!(lost, 0, "no attempt was lost: {}", super::kinds(&log));
    app.shutdown().await.unwrap();
}

/// Eight writers of their own on one file, at full speed: each waits for its turn, and none is told of a lock.
#[tokio::test(flavor = "multi_thread")]
async fn writers_of_one_file_wait_for_each_other() {
    let path = scratch().join("q.db");
    let writers = (0..8).map(|_| {
        let store = apart(&path);
        tokio::spawn(async move {
            let app = Qtasks::builder().with_store(store).tasks([plain::spec()]).open().await.unwrap();
            for i in 0..50 {
                plain::add_task(i, 1).on(&app).await.unwrap();
            }
            app.shutdown().await.unwrap();
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    let stats = apart(&path).stats().await.unwrap();
    assert_eq!(stats.queues["default"][&Status::Queued], 400);
}

/// A process that writes without a pause leaves others their turn.
#[tokio::test(flavor = "multi_thread")]
async fn who_writes_at_full_speed_lets_others_write() {
    let path = scratch().join("q.db");
    let busy = Qtasks::builder().with_store(apart(&path)).tasks([for_ever::spec()]).yields_max(u64::MAX);
    let busy = busy.log_bytes_max(u64::MAX).start().await.unwrap();
    let tasks = [for_ever::add_task().on(&busy).await.unwrap(), for_ever::add_task().on(&busy).await.unwrap()];
    tasks[1].stream().next().await.unwrap().unwrap();
    let other = Qtasks::builder().with_store(apart(&path)).tasks([plain::spec()]).open().await.unwrap();
    let mut took = Vec::new();
    for i in 0..100 {
        let start = std::time::Instant::now();
        plain::add_task(i, 1).on(&other).await.unwrap();
        took.push(start.elapsed());
    }
    took.sort();
    println!("an add beside a busy writer: p50 {:?}, worst {:?}", took[50], took[99]);
    for task in tasks {
        task.cancel("enough").await.unwrap();
        assert!(task.wait().await.unwrap_err().failure().is_some());
        assert!(task.record().await.unwrap().yields > 0);
    }
    busy.shutdown().await.unwrap();
}

/// The log of a task that retention takes goes in pieces, and its rows with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_taken_in_pieces() {
    let path = scratch().join("q.db");
    let app = Qtasks::builder().with_store(apart(&path)).tasks([counts::spec()]).yields_max(1_000_000);
    let app = app.start().await.unwrap();
    let task = counts::add_task(200_000).on(&app).await.unwrap();
    task.wait().await.unwrap();
    let db = Connection::open(&path).unwrap();
    let rows = || db.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(rows() > 0);
    let prune = qtasks::store::Prune { age: Duration::ZERO, ..app.store().retention() };
    until_async(async || {
        app.store().prune(prune).await.unwrap();
        rows() == 0
    })
    .await;
    app.shutdown().await.unwrap();
}

/// A statement that walks a whole table is quick in every test, and slow for those who have a million tasks.
#[test]
fn every_statement_finds_its_rows_by_an_index() {
    let path = scratch().join("q.db");
    drop(apart(&path));
    let db = Connection::open(&path).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../qtasks/src/store/sqlite");
    let mut checked = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        // A check reads all there is.
        if file.ends_with("check.rs") {
            continue;
        }
        let source = std::fs::read_to_string(file).unwrap().replace("\\\n", "");
        let literals = source.split('"').skip(1).step_by(2);
        let verbs = ["SELECT ", "UPDATE ", "DELETE "];
        // Those that are put together of pieces are not whole here.
        for sql in literals.filter(|l| verbs.iter().any(|v| l.starts_with(v)) && l.contains('?') && !l.contains('{')) {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            for i in 1..=plan.parameter_count() {
                plan.raw_bind_parameter(i, 1).unwrap();
            }
            let mut steps = plan.raw_query();
            while let Some(step) = steps.next().unwrap() {
                let step: String = step.get(3).unwrap();
                let large = ["task", "t", "log", "tag", "garbage", "large_args", "checkpoint", "doc", "hint"];
                let walks = large.iter().any(|table| step == format!("SCAN {table}"));
                assert!(!walks && !step.contains("TEMP B-TREE"), "{step}: {sql}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 25, "{checked} statements were found");
}

/// Who waits to write says so at once, or those who write without a pause would leave none.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_to_write_says_so() {
    let path = scratch().join("q.db");
    let app = Qtasks::builder().with_store(apart(&path)).tasks([plain::spec()]).open().await.unwrap();
    let lock = Connection::open(&path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let add = tokio::spawn({
        let app = app.clone();
        async move { plain::add_task(1, 2).on(&app).await }
    });
    let turn = std::fs::File::options().write(true).open(path.with_extension("db-turn")).unwrap();
    let waits = || matches!(turn.try_lock(), Err(std::fs::TryLockError::WouldBlock));
    let start = std::time::Instant::now();
    while !waits() {
        turn.unlock().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "nobody says that it waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    lock.execute_batch("COMMIT").unwrap();
    add.await.unwrap().unwrap();
    app.shutdown().await.unwrap();
}

/// Another process that has the lock for too long: who adds is told so, and nothing was added; a heartbeat waits on.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_too_long_for_another_process_is_refused_and_nothing_was_done() {
    let path = scratch().join("q.db");
    let store = apart(&path);
    let app = Qtasks::builder().with_store(store.clone()).tasks([plain::spec()]).open().await.unwrap();
    let lock = Connection::open(&path).unwrap();
    lock.busy_timeout(soon()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut heartbeat = store.extend(Vec::new(), soon());
    let start = std::time::Instant::now();
    let adds = (0..20).map(|i| {
        let app = app.clone();
        tokio::spawn(async move { plain::add_task(i, 2).on(&app).await })
    });
    let adds: Vec<_> = adds.collect();
    for add in futures::future::join_all(adds).await {
        let error = add.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("in use by another process"), "{error}");
    }
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(5) && waited < soon(), "{waited:?}");
    // So is who cancels.
    let cancelled = store.cancel(qtasks::TaskId::new(), "no".into()).await.unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::Unavailable, "it was not looked for");
    assert!(futures::FutureExt::now_or_never(&mut heartbeat).is_none(), "a heartbeat is never refused");
    lock.execute_batch("COMMIT").unwrap();
    assert_eq!(heartbeat.await.unwrap(), []);
    assert!(store.stats().await.unwrap().queues.is_empty(), "what was refused was not done");
    plain::add_task(1, 2).on(&app).await.unwrap();
    app.shutdown().await.unwrap();
}

/// A job that fails takes none of those with it that came meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_leaves_all_others_their_answers() {
    let path = scratch().join("q.db");
    let store: Arc<dyn Store> = apart(&path);
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "CREATE VIEW slow AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 30000) SELECT x FROM c;
         CREATE TRIGGER bad BEFORE INSERT ON doc WHEN new.key = 'bad'
         BEGIN SELECT CASE WHEN (SELECT count(*) FROM slow) > 0 THEN RAISE(ABORT, 'no') END; END;",
    )
    .unwrap();
    let put = |key: &str| store.doc_put(DocPut { key: key.into(), if_version: None, bytes: Vec::new(), expires: None });
    // The three come while the thread waits, and go together.
    raw.execute_batch("BEGIN IMMEDIATE").unwrap();
    let first = put("first");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (good, bad) = (put("good"), put("bad"));
    raw.execute_batch("COMMIT").unwrap();
    let mut urgent = Vec::new();
    for _ in 0..100 {
        urgent.push(store.extend(Vec::new(), soon()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(first.await.unwrap(), Some(1));
    assert_eq!(good.await.unwrap(), Some(1));
    assert_eq!(bad.await.unwrap_err().kind(), ErrorKind::Unavailable);
    for answer in futures::future::join_all(urgent).await {
        assert_eq!(answer.unwrap(), []);
    }
}

/// Numbers at their limit are a damage like any other, not a panic.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_at_their_limit_hold_up_no_transaction() {
    let path = scratch().join("q.db");
    let store = apart(&path);
    let app = Qtasks::builder().with_store(Arc::clone(&store) as _).tasks([plain::spec()]).open().await.unwrap();
    let task = plain::add_task(1, 2).on(&app).await.unwrap();
    let other = plain::add_task(3, 4).on(&app).await.unwrap();
    let db = Connection::open(&path).unwrap();
    let sql = "UPDATE task SET attempt = ?1, failures = ?1, crashes = ?1, epoch = ?2, yields = ?2, yields_high = ?2, \
         tail = ?2, bytes = ?2, sum = NULL WHERE id = ?3";
    db.execute(sql, (u32::MAX, i64::MAX, task.id().as_uuid().as_bytes())).unwrap();
    let offers = [Offer { queue: "default".into(), name: "plain".into(), allowance: 2 }];
    let claim =
        Claim { worker: "w".into(), token: 1, offers: offers.into(), max: 2, lease: soon(), limits: Arc::default() };
    let claimed = tokio::time::timeout(soon(), store.claim(claim)).await.expect("an answer").unwrap();
    assert!(claimed.tasks.iter().any(|claimed| claimed.record.id == other.id()), "{claimed:?}");
    for task in [&task, &other] {
        let cancelled = tokio::time::timeout(soon(), task.cancel("why".to_owned())).await;
        cancelled.expect("an answer").unwrap();
    }
    app.shutdown().await.unwrap();
}

/// To open a file that is as it should be takes no lock: somebody may be writing to it for long, or be stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_be_opened_while_somebody_writes_to_it() {
    let path = scratch().join("q.db");
    drop(apart(&path));
    let lock = Connection::open(&path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::new(&path, Durability::Fast, Clock::system()));
    let store =
        tokio::time::timeout(Duration::from_secs(10), opened).await.expect("it does not wait").unwrap().unwrap();
    assert_eq!(store.stats().await.unwrap(), qtasks::store::Stats::default());
}

/// However few tasks it is of: what retention takes is gone before as much comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_many_rows_is_taken_without_waiting_for_the_next_scan() {
    let path = scratch().join("q.db");
    let store = apart(&path);
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(
        "BEGIN; INSERT INTO garbage VALUES (7);
         WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 60000)
         INSERT INTO log SELECT 7, x, 1, 1, 1, 1, x'', x'', NULL FROM c; COMMIT",
    )
    .unwrap();
    let app = Qtasks::builder().with_store(store).tasks([plain::spec()]).start().await.unwrap();
    let rows = || raw.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, i64>(0)).unwrap();
    let start = std::time::Instant::now();
    while rows() > 0 {
        assert!(start.elapsed() < Duration::from_secs(15), "{} rows are left", rows());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    app.shutdown().await.unwrap();
}

/// Also of a process that heard of nothing before.
#[tokio::test(flavor = "multi_thread")]
async fn hints_that_were_lost_are_a_look_at_everything() {
    let path = scratch().join("q.db");
    let store = apart(&path);
    let mut hints = store.watch(Arc::new(Interest::default())).await.unwrap();
    let raw = Connection::open(&path).unwrap();
    raw.busy_timeout(soon()).unwrap();
    // As a process finds it that was stopped meanwhile.
    raw.execute("INSERT INTO hint (k, writer, hints) VALUES (5000, 1, '[]')", []).unwrap();
    let hint = tokio::time::timeout(Duration::from_secs(10), hints.next()).await;
    assert_eq!(hint.expect("a hint"), Some(Hint::Look));
}

/// What nobody started in time is in the way of nothing, however much of it there is.
#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_that_are_too_late_hold_nobody_up() {
    let clock = Clock::manual();
    let store = SqliteStore::new(scratch().join("q.db"), Durability::Fast, clock.clone()).unwrap();
    let app = Qtasks::builder().with_store(store).tasks([plain::spec()]).open().await.unwrap();
    let late = (0..20_000).map(|i| plain::add_task(i, 1).expires(Duration::from_millis(1)));
    app.add_all(late).await.unwrap();
    clock.advance(Duration::from_secs(1));
    let offers = vec![Offer { queue: "default".into(), name: "plain".into(), allowance: u32::MAX }];
    let claim = |token| {
        let lease = Duration::from_secs(10);
        Claim { worker: "w".into(), token, offers: offers.clone().into(), max: 1, lease, limits: Arc::default() }
    };
    for token in 0..20 {
        let claimed = app.store().claim(claim(token)).await.unwrap();
        assert!(claimed.tasks.is_empty());
    }
    let ready = plain::add_task(1, 1).on(&app).await.unwrap();
    let claimed = async |token| app.store().claim(claim(token)).await.unwrap().tasks.pop().map(|t| t.record.id);
    let mut token = 100;
    until_async(async || {
        token += 1;
        claimed(token).await == Some(ready.id())
    })
    .await;
    app.shutdown().await.unwrap();
}
