//! The store in a file: each section beside the same work by hand, with the same settings of SQLite.

pub(crate) mod attach;
pub(crate) mod claim;
pub(crate) mod latency;
pub(crate) mod recovery;
pub(crate) mod tasks;
pub(crate) mod yields;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

/// What a process that this program starts is to do.
const ROLE: &str = "QTASKS_BENCH_ROLE";

/// A folder of its own for a file; it goes when this is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("there is room for a folder");
        Scratch(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("q.db")
    }

    pub(crate) fn url(&self) -> String {
        url(&self.path())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The store's threads may still close it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// A connection for a limit, set up as the store's own.
fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).expect("the file opens");
    let set = "PRAGMA journal_mode = wal; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16000; \
         PRAGMA wal_autocheckpoint = 4000; PRAGMA temp_store = memory;";
    db.execute_batch(set).expect("it can be set");
    db.busy_timeout(std::time::Duration::from_secs(30)).expect("it can be set");
    // Else SQLite prepares some statements anew for each value.
    db.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).expect("it can be set");
    db
}

fn execute(db: &Connection, sql: &str, values: impl rusqlite::Params) {
    db.prepare_cached(sql).and_then(|mut s| s.execute(values)).expect("it is SQL");
}

/// Nanoseconds since 1970: the same for all processes.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_nanos() as u64
}

/// Microseconds since then.
fn since(at: u64) -> f64 {
    now().saturating_sub(at) as f64 / 1e3
}

/// Another process of this program. It is killed when this is dropped.
struct Other {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Other {
    fn new(role: &str, args: &[&str]) -> Self {
        let this = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(this);
        let mut child = command.args(args).env(ROLE, role).stdout(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("it is piped"));
        Other { child, said }
    }

    /// The next line that it says.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it can be read");
        line.trim_end().to_owned()
    }

    /// The next line, as numbers.
    fn numbers(&mut self) -> Vec<f64> {
        self.line().split_whitespace().map(|n| n.parse().expect("it says numbers")).collect()
    }

    /// Kills it as a crash would.
    fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it is ours");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does what another process of this program asked for. `false` if none did.
pub(crate) fn is_other() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = Path::new(&args[0]);
    match role.as_str() {
        "watch" => latency::watch(path, &args[1]),
        "poll" => latency::poll(path),
        "grow" => attach::grow(path),
        "work" => recovery::work(path, &args[1]),
        _ => panic!("no such role: {role}"),
    }
    true
}

/// Says something to the process that started this one.
#[expect(clippy::print_stdout, reason = "it reads that")]
fn say(line: &str) {
    println!("{line}");
}

/// Says numbers to the process that started this one.
fn say_numbers(numbers: &[f64]) {
    let words: Vec<String> = numbers.iter().map(|n| format!("{n:.1}")).collect();
    say(&words.join(" "));
}
