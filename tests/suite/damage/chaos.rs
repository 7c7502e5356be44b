//! One random field of one random row is another one: whatever is read is right, or refused for that task alone.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use qtasks::prelude::*;
use qtasks::store::sqlite::Durability;
use qtasks::store::{Append, Claim, DocPut, List, Offer, Outcome, SqliteStore};
use qtasks::{AnyTask, Clock, ErrorKind, FailureKind, Status, TaskHandle, TaskId, TaskRecord};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::{scratch, soon};

/// How many files are damaged. `QTASKS_CHAOS_FILES` says another number.
const FILES: u64 = 240;

/// How many are tried at once.
const TOGETHER: usize = 8;

#[task]
async fn numbers(n: u64) -> u64 {
    for i in 0..n {
        yield_!(i * i);
    }
}

#[task]
async fn fails(n: u64) -> Result<u64, String> {
    for i in 0..n {
        yield_!(i);
    }
    Err("as it should")?;
}

#[task]
async fn sums(n: u64, text: String) -> String {
    format!("{n} {}", text.len())
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}

/// What is so of a task in the file that is not damaged.
struct Truth {
    record: TaskRecord,
    /// What it yields, or has yielded when it ended.
    values: Vec<serde_json::Value>,
}

async fn builder(path: &Path) -> qtasks::Builder {
    let specs = [numbers::spec(), fails::spec(), sums::spec()];
    Qtasks::builder()
        .store(format!("sqlite:{}", path.display()))
        .tasks(specs)
        .queues(["default", "other"])
        .lease(Duration::from_millis(400))
        .scan(Duration::from_millis(50))
}

/// A file with tasks in every status, a schedule, tags, large arguments, a checkpoint and a worker that died.
async fn template() -> (PathBuf, HashMap<TaskId, Truth>) {
    let path = scratch().join("template.db");
    let app = builder(&path).await.start().await.unwrap();
    for n in 1..=4 {
        numbers::add_task(n * 50).tag("even").on(&app).timeout(soon()).await.unwrap();
        assert!(fails::add_task(n).tag(format!("n{n}")).on(&app).timeout(soon()).await.is_err());
        sums::add_task(n, "x".repeat(3_000)).on(&app).timeout(soon()).await.unwrap();
    }
    app.shutdown().await.unwrap();
    let idle = builder(&path).await.open().await.unwrap();
    let held = numbers::add_task(5).held().on(&idle).await.unwrap();
    held.cancel("not wanted").await.unwrap();
    for n in 1..=4 {
        numbers::add_task(n * 10).unique(format!("u{n}")).on(&idle).await.unwrap();
        sums::add_task(n, "y".repeat(2_000)).idempotency_key(format!("k{n}")).tag("odd").on(&idle).await.unwrap();
    }
    numbers::add_task(6).delay(Duration::from_millis(1)).on(&idle).await.unwrap();
    numbers::add_task(7).queue("other").on(&idle).await.unwrap();
    let store = Arc::clone(idle.store());
    // A worker that dies with some of the values stored.
    let offers = [Offer { queue: "default".into(), name: "numbers".into(), allowance: 1 }];
    let lease = Duration::from_millis(400);
    let claim = Claim { worker: "dead".into(), token: 1, offers: offers.into(), max: 1, lease, limits: Arc::default() };
    let claimed = store.claim(claim).await.unwrap().tasks.pop().unwrap().record;
    let events = first_values(3);
    let checkpoint = Some(qtasks::Json::of(&7).unwrap());
    let append = Append {
        id: claimed.id,
        epoch: claimed.epoch,
        after_seq: claimed.tail,
        events,
        checkpoint,
        outcome: Outcome::Running,
        removes: Vec::new(),
    };
    store.append(vec![append]).await.unwrap();
    let put = |key: &str| DocPut { key: key.into(), if_version: None, bytes: b"{}".into(), expires: None };
    store.doc_put(put("pause/nothing")).await.unwrap();
    store.doc_put(put("some/document")).await.unwrap();
    let records = store.list(List { limit: 1_000, ..List::default() }).await.unwrap().tasks;
    let mut truth = HashMap::new();
    for record in records {
        let n = record.args.get::<serde_json::Value>().unwrap();
        let n = n.get("n").or_else(|| n.get(0)).and_then(serde_json::Value::as_u64).unwrap();
        let all = match &*record.name {
            "numbers" if record.status != Status::Cancelled => (0..n).map(|i| serde_json::json!(i * i)).collect(),
            "fails" => (0..n).map(|i| serde_json::json!(i)).collect(),
            _ => Vec::new(),
        };
        truth.insert(record.id, Truth { record, values: all });
    }
    idle.shutdown().await.unwrap();
    drop((store, idle, held, app));
    // The last connection is closed by the thread of the store, a moment later.
    let whole = || Connection::open(&path).unwrap().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    crate::until(|| whole().is_ok_and(|busy: i64| busy == 0)).await;
    (path, truth)
}

fn first_values(n: u64) -> qtasks::event::Draft {
    let value = |i: u64| {
        let value = (i * i).to_string();
        serde_json::json!({
            "code": "yield", "index": i, "hash": xxhash_rust::xxh3::xxh3_64(value.as_bytes()), "late_ms": 0, "data": value,
        })
    };
    let started = serde_json::json!({
        "code": "started", "index": 0, "hash": 0, "late_ms": 0, "data": "{\"worker\":\"dead\"}",
    });
    let rows: Vec<_> = [started].into_iter().chain((0..n).map(value)).collect();
    serde_json::from_value(rows.into()).unwrap()
}

/// Changes one field of one row. Tells which; `None` if the file does not take the change.
fn damage(path: &Path, random: &mut Random) -> Option<String> {
    let db = Connection::open(path).unwrap();
    let tables: Vec<String> = db
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    // Half of the time where it matters most.
    let table = match random.below(2) {
        0 => ["task", "log"][random.below(2)].to_owned(),
        _ => tables[random.below(tables.len())].clone(),
    };
    let mut select = db.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
    let rows: Vec<Vec<Value>> = select
        .query_map([], |row| (0..columns.len()).map(|i| row.get(i)).collect())
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    if rows.is_empty() {
        return None;
    }
    let row = &rows[random.below(rows.len())];
    let at = random.below(columns.len());
    let value = another(&row[at], random);
    let same = columns.iter().enumerate().map(|(i, c)| format!("{c} IS ?{}", i + 2)).collect::<Vec<_>>().join(" AND ");
    let sql = format!("UPDATE {table} SET {} = ?1 WHERE {same}", columns[at]);
    let bound = [value.clone()].into_iter().chain(row.iter().cloned());
    let changed = db.execute(&sql, params_from_iter(bound)).ok()?;
    (changed == 1 && value != row[at]).then(|| format!("{table}.{}: {:?} -> {value:?}", columns[at], row[at]))
}

fn another(value: &Value, random: &mut Random) -> Value {
    let flip = |bytes: &mut Vec<u8>, random: &mut Random| {
        if bytes.is_empty() {
            bytes.push(b'x');
        } else {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
    };
    match (value, random.below(4)) {
        (_, 0) => Value::Null,
        (Value::Integer(n), 1) => Value::Integer(n ^ (1 << random.below(40))),
        (Value::Integer(n), 2) => Value::Integer(n.wrapping_add(1)),
        (Value::Integer(_), _) => Value::Integer([0, -1, 3, 1 << 62, i64::MAX][random.below(5)]),
        (Value::Text(text), 1) => Value::Text(text[..text.len() / 2].to_owned()),
        (Value::Text(text), _) => {
            let mut bytes = text.clone().into_bytes();
            flip(&mut bytes, random);
            Value::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        (Value::Blob(bytes), 1) => Value::Blob(bytes[..bytes.len() / 2].to_vec()),
        (Value::Blob(bytes), _) => {
            let mut bytes = bytes.clone();
            flip(&mut bytes, random);
            Value::Blob(bytes)
        }
        (Value::Null, 1) => Value::Integer(random.below(9) as i64),
        (Value::Null, _) => Value::Text("{}".to_owned()),
        (Value::Real(_), _) => Value::Null,
    }
}

/// What of a record must be right where it is not refused.
fn shown(record: &TaskRecord) -> impl PartialEq + std::fmt::Debug + use<> {
    let TaskRecord { name, queue, priority, args, tags, created_at, retry_of, parent, .. } = record.clone();
    (name, queue, priority, args, tags, created_at, retry_of, parent)
}

fn is_refused(record: &TaskRecord) -> bool {
    record.failure().is_some_and(|f| f.kind == FailureKind::Codec)
}

/// Whether a task was read as it is. An error tells what is wrong.
async fn is_right(app: &Qtasks, id: TaskId, truth: &Truth) -> Result<bool, String> {
    let Some(record) = app.store().get(vec![id]).await.map_err(|e| e.to_string())?.pop().flatten() else {
        return Ok(false);
    };
    if is_refused(&record) {
        return Ok(false);
    }
    if shown(&record) != shown(&truth.record) {
        return Err(format!("{:?} was {:?}", shown(&record), shown(&truth.record)));
    }
    let ended = truth.record.status.is_ended();
    let expected = if ended { truth.record.status } else { Status::Completed };
    if record.status != expected || (ended && record.final_value != truth.record.final_value) {
        return Err(format!("{record:?} was {:?}", truth.record));
    }
    if ended && record.failure() != truth.record.failure() {
        return Err(format!("{:?} was {:?}", record.failure(), truth.record.failure()));
    }
    let handle = TaskHandle::<AnyTask>::attach(app, id).await.map_err(|e| e.to_string())?;
    let mut values = Vec::new();
    let mut stream = handle.stream();
    loop {
        match stream.try_next().await {
            Ok(Some(value)) => values.push(value),
            Ok(None) => break,
            Err(error) if error.kind() == ErrorKind::TaskFailed && record.status != Status::Completed => break,
            Err(error) if error.kind() == ErrorKind::Damaged => {
                // What came before the damage is right.
                return match truth.values.starts_with(&values) {
                    true => Ok(false),
                    false => Err(format!("{values:?} before {error}")),
                };
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    match values == truth.values {
        true => Ok(true),
        false => Err(format!("{values:?} was {:?}", truth.values)),
    }
}

async fn round(path: &Path, truth: &HashMap<TaskId, Truth>) -> Result<usize, String> {
    let app = builder(path).await.start().await.map_err(|e| format!("the app does not start: {e}"))?;
    let mut wrong = 0;
    for (id, truth) in truth {
        // What the damage does not touch comes to its end.
        let mut last = None;
        let ended = async {
            loop {
                let record = app.store().get(vec![*id]).await.map_err(|e| e.to_string())?.pop().flatten();
                if record.as_ref().is_none_or(|record| record.status.is_ended()) {
                    return Ok::<(), String>(());
                }
                last = record;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(soon(), ended).await.unwrap_or_else(|_| Err(format!("it does not end: {last:?}")))?;
        let right = tokio::time::timeout(soon(), is_right(&app, *id, truth)).await;
        let right = right.unwrap_or_else(|_| Err("it can't be read to its end".to_owned()));
        wrong += usize::from(!right.map_err(|e| format!("task {id}: {e}"))?);
    }
    for status in Status::ALL {
        app.list(List { status: vec![status], limit: 100, ..List::default() }).await.map_err(|e| e.to_string())?;
    }
    app.list(List { tag: Some("odd".to_owned()), limit: 100, ..List::default() }).await.map_err(|e| e.to_string())?;
    app.stats().await.map_err(|e| e.to_string())?;
    let new = numbers::add_task(3).on(&app).timeout(soon()).await.map_err(|e| format!("a new task: {e}"))?;
    if new.returning != [0, 1, 4] {
        return Err(format!("a new task returns {:?}", new.returning));
    }
    app.shutdown().await.map_err(|e| e.to_string())?;
    Ok(wrong)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_field_that_is_damaged_touches_no_other_task() {
    let seed = std::env::var("QTASKS_CHAOS_SEED").ok().map_or_else(
        || u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()),
        |seed| seed.parse().expect("QTASKS_CHAOS_SEED is a number"),
    );
    let files = std::env::var("QTASKS_CHAOS_FILES").map_or(FILES, |files| files.parse().expect("a number"));
    println!("QTASKS_CHAOS_SEED={seed}");
    let (template, truth) = template().await;
    let (truth, folder) = (&truth, scratch());
    let rounds = futures::stream::iter(0..files).map(|n| {
        let (template, path) = (template.clone(), folder.join(format!("{n}.db")));
        async move {
            let mut random = Random(seed.wrapping_add(n));
            let what = loop {
                std::fs::copy(&template, &path).unwrap();
                if let Some(what) = damage(&path, &mut random) {
                    break what;
                }
            };
            let said = format!("file {n} of QTASKS_CHAOS_SEED={seed}: {what}");
            let ended = tokio::time::timeout(soon() * 4, round(&path, truth)).await;
            let wrong = ended.unwrap_or_else(|_| Err("it does not end".to_owned()));
            let wrong = wrong.unwrap_or_else(|e| panic!("{said}: {e}"));
            assert!(wrong <= 1, "{said}: {wrong} tasks are refused");
            for ending in ["", "-wal", "-shm", "-turn"] {
                let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
            }
            wrong
        }
    });
    let refused: usize = rounds.buffer_unordered(TOGETHER).fold(0, async |all, one| all + one).await;
    println!("of {files} files, {refused} had a task that was refused");
    // Most fields of tasks and logs are covered by checksums.
    assert!(refused as u64 > files / 5, "{refused} of {files}: the damage is not noticed");
}

#[tokio::test]
async fn a_check_names_what_is_damaged_and_ends_with_1() {
    let (template, _) = template().await;
    let run = async |path: &Path, more: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_qtasks-alone"));
        let url = format!("sqlite:{}", path.display());
        command.args(["check", "--store", &url]).args(more).env_remove("QTASKS_URL");
        let ran = command.output().await.unwrap();
        (ran.status.code(), String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap())
    };
    let (code, out, err) = run(&template, &[]).await;
    assert_eq!((code, &*out), (Some(0), ""), "{err}");
    assert!(err.contains("nothing is damaged"), "{err}");
    let folder = scratch();
    for (n, sql) in [
        "UPDATE log SET data = CAST('1' || substr(data, 2) AS BLOB) WHERE seq > 1 AND length(data) > 5",
        "UPDATE task SET yields = yields + 1 WHERE status = 4 AND yields > 0",
        "DELETE FROM log WHERE (n, seq) = (SELECT n, max(seq) FROM log WHERE n = (SELECT n FROM task WHERE status = 4 AND yields > 0 LIMIT 1))",
        "UPDATE large_args SET args = args || ' '",
        "UPDATE doc SET bytes = x'00' WHERE key = 'some/document'",
        "UPDATE tag SET tag = 'none' WHERE tag = 'even'",
        "UPDATE checkpoint SET value = '8'",
        "UPDATE count SET tasks = tasks + 1",
        "UPDATE pair SET name = name || 'x'",
        "UPDATE state SET next_n = 1",
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.join(format!("{n}.db"));
        std::fs::copy(&template, &path).unwrap();
        assert!(Connection::open(&path).unwrap().execute(sql, []).unwrap() > 0, "{sql}");
        let (code, out, err) = run(&path, &[]).await;
        assert_eq!(code, Some(1), "{sql}: {out}{err}");
        assert!(!out.is_empty(), "{sql}: {err}");
        let (code, out, _) = run(&path, &["--json"]).await;
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert!(code == Some(1) && !told["damaged"].as_array().unwrap().is_empty(), "{sql}: {out}");
    }
    let (code, _, err) = run(&folder.join("none.db"), &[]).await;
    assert_eq!(code, Some(2), "{err}");
    assert!(err.contains("there is no file"), "{err}");
}

/// A store of before checksums goes on without them as long as another process has it open.
#[tokio::test]
async fn a_file_that_others_have_open_gets_no_checksums() {
    let path = scratch().join("q.db");
    let first = SqliteStore::new(&path, Durability::Fast, Clock::system()).unwrap();
    let sums = || Connection::open(&path).unwrap().query_row("SELECT sums FROM state", [], |row| row.get::<_, bool>(0));
    assert!(sums().unwrap(), "a new file has them");
    Connection::open(&path).unwrap().execute("UPDATE state SET sums = 0, sum = NULL", []).unwrap();
    let second = SqliteStore::new(&path, Durability::Fast, Clock::system()).unwrap();
    assert!(!sums().unwrap(), "another process has it open, which may be of an earlier version");
    drop((first, second));
    crate::until(|| {
        drop(SqliteStore::new(&path, Durability::Fast, Clock::system()).unwrap());
        sums().unwrap()
    })
    .await;
}
