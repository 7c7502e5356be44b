//! How long things take to get through a file when nothing else happens.
//!
//! From an add to the start on an idle worker of the same process: the limit is a thread that writes, asked for an
//! insert by one thread and, once that is committed, for a claim by another. From a yield to a watcher in another
//! process: the limit inserts a row, and the other process looks every 5 ms whether `data_version` has changed.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use qtasks::prelude::*;
use tokio::time::{MissedTickBehavior, interval};

use super::{Other, Scratch, connect, execute, now, say, say_numbers, since, url};
use crate::on_a_runtime;
use crate::table::{Aim, Table, median, percentile, rounds};

const ITEMS: u64 = 1_000;
const PERIOD: Duration = Duration::from_millis(1);
const POLL: Duration = Duration::from_millis(5);

/// From add to start, in microseconds.
static STARTED: Mutex<Vec<f64>> = Mutex::new(Vec::new());

#[task]
async fn start(added: u64) {
    STARTED.lock().expect("nobody panics").push(since(added));
}

#[task]
async fn clock() -> u64 {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..ITEMS {
        ticks.tick().await;
        yield_!(now());
    }
}

async fn starts() -> Vec<f64> {
    let file = Scratch::new();
    let app = Qtasks::builder().store(file.url()).tasks([start::spec()]).start().await.expect("the file opens");
    for _ in 0..ITEMS {
        let handle = start::add_task(now()).on(&app).await.expect("it is added");
        handle.wait().await.expect("it completes");
        tokio::time::sleep(PERIOD).await;
    }
    app.shutdown().await.expect("it closes");
    std::mem::take(&mut STARTED.lock().expect("nobody panics"))
}

fn starts_by_hand() -> Vec<f64> {
    let file = Scratch::new();
    let db = connect(&file.path());
    execute(&db, "CREATE TABLE task (n INTEGER PRIMARY KEY, args TEXT, status INTEGER)", ());
    execute(&db, "CREATE INDEX ready ON task (n) WHERE status = 0", ());
    let (ask, asks) = channel::<(Option<u64>, Sender<String>)>();
    let mut late = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (add, answer) in asks {
                execute(&db, "BEGIN IMMEDIATE", ());
                let args = if let Some(added) = add {
                    execute(&db, "INSERT INTO task (args, status) VALUES (?1, 0)", [added.to_string()]);
                    String::new()
                } else {
                    let claim =
                        "UPDATE task SET status = 1 WHERE n = (SELECT min(n) FROM task WHERE status = 0) RETURNING args";
                    db.prepare_cached(claim).and_then(|mut s| s.query_row([], |row| row.get(0))).expect("it is there")
                };
                execute(&db, "COMMIT", ());
                answer.send(args).expect("somebody waits");
            }
        });
        let (wake, woken) = channel::<()>();
        let claims = ask.clone();
        let worker = scope.spawn(move || {
            let (answer, claimed) = channel();
            let mut late = Vec::new();
            for () in woken {
                claims.send((None, answer.clone())).expect("it takes");
                late.push(since(claimed.recv().expect("it answers").parse().expect("a number")));
            }
            late
        });
        let (answer, added) = channel();
        for _ in 0..ITEMS {
            ask.send((Some(now()), answer.clone())).expect("it takes");
            added.recv().expect("it answers");
            wake.send(()).expect("it waits");
            std::thread::sleep(PERIOD);
        }
        drop((wake, ask));
        late = worker.join().expect("it does not panic");
    });
    late
}

async fn yields() -> Vec<f64> {
    let file = Scratch::new();
    let app = Qtasks::builder().store(file.url()).tasks([clock::spec()]).start().await.expect("the file opens");
    let handle = clock::add_task().held().on(&app).await.expect("it is added");
    let path = file.path();
    let mut other = Other::new("watch", &[path.to_str().expect("it is text"), &handle.id().to_string()]);
    assert_eq!(other.line(), "ready");
    app.start_task(handle.id()).await.expect("it starts");
    handle.wait().await.expect("it completes");
    let late = other.numbers();
    app.shutdown().await.expect("it closes");
    late
}

/// Says when each value of a task came, after its yield.
pub(super) fn watch(path: &Path, id: &str) {
    let (url, id) = (url(path), id.parse().expect("it is an id"));
    on_a_runtime(async move {
        let app = Qtasks::open(url).await.expect("the file opens");
        let handle = TaskHandle::<clock>::attach(&app, id).await.expect("it is there");
        let mut values = handle.stream();
        let mut late = Vec::new();
        say("ready");
        while let Some(at) = values.try_next().await.expect("it completes") {
            late.push(since(at));
        }
        say_numbers(&late);
    });
}

fn yields_by_hand() -> Vec<f64> {
    let file = Scratch::new();
    let db = connect(&file.path());
    execute(&db, "CREATE TABLE item (seq INTEGER PRIMARY KEY, at INTEGER)", ());
    let mut other = Other::new("poll", &[file.path().to_str().expect("it is text")]);
    assert_eq!(other.line(), "ready");
    for _ in 0..ITEMS {
        std::thread::sleep(PERIOD);
        execute(&db, "INSERT INTO item (at) VALUES (?1)", [now().cast_signed()]);
    }
    other.numbers()
}

/// Says when each row came, after its insert.
pub(super) fn poll(path: &Path) {
    let db = connect(path);
    let mut version = 0;
    let (mut seq, mut late) = (0, Vec::new());
    say("ready");
    while late.len() < ITEMS as usize {
        std::thread::sleep(POLL);
        let now: i64 = db.pragma_query_value(None, "data_version", |row| row.get(0)).expect("it has one");
        if now == version {
            continue;
        }
        version = now;
        let mut new = db.prepare_cached("SELECT seq, at FROM item WHERE seq > ?1 ORDER BY seq").expect("it is SQL");
        let mut new = new.query([seq]).expect("it is SQL");
        while let Some(row) = new.next().expect("it can be read") {
            seq = row.get(0).expect("a number");
            late.push(since(row.get::<_, i64>(1).expect("a number").cast_unsigned()));
        }
    }
    say_numbers(&late);
}

pub(crate) fn run(table: &mut Table) {
    let mut row = |what: &str, ours: &dyn Fn() -> Vec<f64>, limit: &dyn Fn() -> Vec<f64>| {
        let (ours99, limit99) = (RefCell::default(), RefCell::default());
        let p50 = |late: &[f64], p99: &RefCell<Vec<f64>>| {
            assert_eq!(late.len(), ITEMS as usize);
            p99.borrow_mut().push(percentile(late, 99));
            percentile(late, 50)
        };
        let both = rounds(what, || p50(&ours(), &ours99), || p50(&limit(), &limit99));
        let (ours, limit) = (median(&ours99.borrow()), median(&limit99.borrow()));
        table.ratio(what, "us", &both, Aim::AtMost(2.0), format!("p99 {ours:.0} us, of the limit {limit:.0} us"));
    };
    row("sqlite: add to start, p50", &|| on_a_runtime(starts()), &starts_by_hand);
    row("sqlite: yield to another process, p50", &|| on_a_runtime(yields()), &yields_by_hand);
}
