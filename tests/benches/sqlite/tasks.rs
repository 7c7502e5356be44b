//! Tasks that do nothing, in a file: added, claimed, run, ended.
//!
//! Two limits, both of one table with integers for ids, and neither with leases, retries or a log. For tasks that 64
//! callers add one by one: as many threads, each of which waits for its commit; a thread that writes and commits what
//! came in the meantime together; a thread that takes at most 32 at once and says with the next claim what it did.
//! For tasks added at once: all of it on one thread, 100 tasks a transaction.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use futures::future::join_all;
use qtasks::Status;
use qtasks::prelude::*;
use rusqlite::Connection;

use super::{Scratch, connect, execute};
use crate::on_a_runtime;
use crate::table::{Aim, Table, rounds};
use crate::tasks::nothing;

const TASKS: u64 = 20_000;
const CALLERS: u64 = 64;
const CLAIM: i64 = 32;
const AT_ONCE: usize = 100;

/// Tasks a second.
fn rate(start: Instant) -> f64 {
    TASKS as f64 / start.elapsed().as_secs_f64()
}

pub(crate) async fn ours(at_once: bool) -> f64 {
    let file = Scratch::new();
    let builder = Qtasks::builder().store(file.url()).tasks([nothing::spec()]).retention_max(None, None);
    let app = builder.start().await.expect("the file opens");
    let start = Instant::now();
    if at_once {
        app.add_all((0..TASKS).map(nothing::add_task)).await.expect("they are added");
    } else {
        let add = |caller| {
            let app = app.clone();
            tokio::spawn(async move {
                for n in (caller..TASKS).step_by(CALLERS as usize) {
                    nothing::add_task(n).on(&app).await.expect("it is added");
                }
            })
        };
        for added in join_all((0..CALLERS).map(add)).await {
            added.expect("it does not panic");
        }
    }
    while completed(&app).await < TASKS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rate = rate(start);
    app.shutdown().await.expect("it closes");
    rate
}

async fn completed(app: &Qtasks) -> u64 {
    let stats = app.stats().await.expect("it can be read");
    let of = |statuses: &std::collections::BTreeMap<Status, u64>| statuses.get(&Status::Completed).copied();
    stats.queues.values().filter_map(of).sum()
}

// ---- the limits: a status is 0 for queued, 1 for running, 2 for completed

/// The number of a task, with its arguments or its result.
type Row = (i64, String);

fn table(db: &Connection) {
    let table = "CREATE TABLE task (n INTEGER PRIMARY KEY, name TEXT, args TEXT, status INTEGER, result TEXT)";
    execute(db, table, ());
    execute(db, "CREATE INDEX ready ON task (n) WHERE status = 0", ());
}

fn insert(db: &Connection, args: u64) {
    execute(db, "INSERT INTO task (name, args, status) VALUES ('nothing', ?1, 0)", [args.to_string()]);
}

/// Takes so many tasks that are queued.
fn claim(db: &Connection, max: i64) -> Vec<Row> {
    let mut head = db.prepare_cached("SELECT n, args FROM task WHERE status = 0 ORDER BY n LIMIT ?1").expect("SQL");
    let found = head.query_map([max], |row| Ok((row.get(0)?, row.get(1)?))).expect("SQL");
    let found: Vec<Row> = found.collect::<Result<_, _>>().expect("SQL");
    for (n, _) in &found {
        execute(db, "UPDATE task SET status = 1 WHERE n = ?1", [n]);
    }
    found
}

fn finish(db: &Connection, done: &[Row]) {
    for (n, result) in done {
        execute(db, "UPDATE task SET status = 2, result = ?2 WHERE n = ?1", (n, result));
    }
}

fn work(tasks: Vec<Row>) -> Vec<Row> {
    tasks.into_iter().map(|(n, args)| (n, args.parse::<u64>().expect("a number").to_string())).collect()
}

fn one_thread() -> f64 {
    let file = Scratch::new();
    let db = connect(&file.path());
    table(&db);
    let start = Instant::now();
    let all: Vec<u64> = (0..TASKS).collect();
    for some in all.chunks(AT_ONCE) {
        execute(&db, "BEGIN IMMEDIATE", ());
        some.iter().for_each(|args| insert(&db, *args));
        execute(&db, "COMMIT", ());
    }
    for _ in all.chunks(AT_ONCE) {
        execute(&db, "BEGIN IMMEDIATE", ());
        let tasks = claim(&db, AT_ONCE as i64);
        execute(&db, "COMMIT", ());
        let done = work(tasks);
        execute(&db, "BEGIN IMMEDIATE", ());
        finish(&db, &done);
        execute(&db, "COMMIT", ());
    }
    rate(start)
}

/// What the thread that writes is asked for. Every answer comes after the commit.
enum Ask {
    Add {
        args: u64,
        added: Sender<()>,
    },
    /// Takes what was done, and answers when there is something to do.
    Claim {
        done: Vec<Row>,
        tasks: Sender<Vec<Row>>,
    },
}

fn write(db: &Connection, asks: &Receiver<Ask>) {
    let mut finished = 0;
    let mut waiting: Option<Sender<Vec<Row>>> = None;
    while finished < TASKS as usize {
        let first = asks.recv().expect("there is more to do");
        let mut answers = Vec::new();
        execute(db, "BEGIN IMMEDIATE", ());
        for ask in std::iter::once(first).chain(std::iter::from_fn(|| asks.try_recv().ok())) {
            match ask {
                Ask::Add { args, added } => {
                    insert(db, args);
                    answers.push(added);
                }
                Ask::Claim { done, tasks } => {
                    finish(db, &done);
                    finished += done.len();
                    waiting = Some(tasks);
                }
            }
        }
        let claimed = if waiting.is_some() { claim(db, CLAIM) } else { Vec::new() };
        execute(db, "COMMIT", ());
        for added in answers {
            added.send(()).expect("it waits");
        }
        if !claimed.is_empty()
            && let Some(tasks) = waiting.take()
        {
            tasks.send(claimed).expect("it waits");
        }
    }
}

fn group_commit() -> f64 {
    let file = Scratch::new();
    let db = connect(&file.path());
    table(&db);
    let (ask, asks) = channel();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || write(&db, &asks));
        for caller in 0..CALLERS {
            let ask = ask.clone();
            scope.spawn(move || {
                let (added, answer) = channel();
                for args in (caller..TASKS).step_by(CALLERS as usize) {
                    ask.send(Ask::Add { args, added: added.clone() }).expect("it takes");
                    answer.recv().expect("it answers");
                }
            });
        }
        let (tasks, answer) = channel();
        let (mut left, mut done) = (TASKS as usize, Vec::new());
        while left > 0 {
            ask.send(Ask::Claim { done, tasks: tasks.clone() }).expect("it takes");
            done = work(answer.recv().expect("it answers"));
            left -= done.len();
        }
        ask.send(Ask::Claim { done, tasks }).expect("it takes");
    });
    rate(start)
}

pub(crate) fn run(table: &mut Table) {
    let what = "sqlite: no-op tasks, one by one, 64 callers";
    let both = rounds(what, || on_a_runtime(ours(false)), group_commit);
    table.ratio(what, "tasks/s", &both, Aim::AtLeast(0.5), "");
    let what = "sqlite: no-op tasks, added at once";
    let both = rounds(what, || on_a_runtime(ours(true)), one_thread);
    table.ratio(what, "tasks/s", &both, Aim::AtLeast(0.25), "");
}
