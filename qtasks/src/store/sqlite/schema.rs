//! Tables, and connections to them.

use std::fs::OpenOptions;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

#[cfg(unix)]
use super::owner;
use super::{Durability, damage, sums};
use crate::error::{Error, ErrorKind, Result};

/// "qtsk": what kind of SQLite file it is.
const APPLICATION_ID: i32 = 0x7174_736b;

/// Before this version two connections that write could damage a database whose WAL is reset
/// (<https://sqlite.org/releaselog/3_51_3.html>).
const VERSION_MIN: i32 = 3_051_003;

/// Each takes the schema one version further.
const MIGRATIONS: [&str; 7] = [V1, V2, V3, V4, V5, V6, V7];

/// The version that this program knows.
#[cfg(feature = "cli")]
pub(super) const LATEST: usize = MIGRATIONS.len();

/// `task` holds what every append touches; what is large or rare is elsewhere. A log row is one append: the heads of
/// its events and their data apart, so that hashes are read without the values.
const V1: &str = "
CREATE TABLE state (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    next_n INTEGER NOT NULL,
    ended_tasks INTEGER NOT NULL,
    ended_bytes INTEGER NOT NULL,
    swept_at INTEGER,
    spare_until INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (1, 1, 0, 0, NULL, 0);

CREATE TABLE pair (
    pair INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (queue, name)
) STRICT;

CREATE TABLE task (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    pair INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    created INTEGER NOT NULL,
    status INTEGER NOT NULL,
    due INTEGER NOT NULL,
    due_at INTEGER,
    expires INTEGER,
    updated INTEGER NOT NULL,
    started INTEGER,
    ended INTEGER,
    attempt INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    crashes INTEGER NOT NULL,
    worker TEXT,
    yields INTEGER NOT NULL,
    yields_high INTEGER NOT NULL,
    tail INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    rewinds TEXT,
    last_epoch INTEGER,
    last_after INTEGER,
    last_count INTEGER,
    cancel_reason TEXT,
    final_value TEXT,
    error TEXT,
    lease_until INTEGER NOT NULL,
    stripped INTEGER,
    args TEXT,
    tags TEXT,
    retry_of BLOB,
    parent BLOB,
    retry TEXT,
    time_limit INTEGER,
    unique_key TEXT,
    idempotency_key TEXT,
    same_call INTEGER
) STRICT;
CREATE UNIQUE INDEX task_id ON task (id);
CREATE INDEX task_status ON task (pair, status, n);
CREATE INDEX task_ready ON task (pair, priority, due, n) WHERE status = 2;
CREATE INDEX task_delayed ON task (due) WHERE status = 1;
CREATE INDEX task_expiring ON task (expires) WHERE expires IS NOT NULL AND attempt = 0 AND status < 3;
CREATE INDEX task_ended ON task (ended) WHERE status > 3 AND stripped IS NULL;
CREATE INDEX task_stripped ON task (stripped) WHERE stripped IS NOT NULL;
CREATE INDEX task_unique ON task (unique_key) WHERE unique_key IS NOT NULL AND status < 4;
CREATE UNIQUE INDEX task_idempotency ON task (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX task_parent ON task (parent, n) WHERE parent IS NOT NULL;

CREATE TABLE large_args (n INTEGER PRIMARY KEY, args TEXT NOT NULL) STRICT;
CREATE TABLE checkpoint (n INTEGER PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE tag (tag TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (tag, n)) STRICT, WITHOUT ROWID;
CREATE TABLE log (
    n INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    heads BLOB NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (n, seq)
) STRICT, WITHOUT ROWID;
-- Tasks whose logs are to be deleted, a piece at a time.
CREATE TABLE garbage (n INTEGER PRIMARY KEY) STRICT;

-- How many tasks of each sort there are.
CREATE TABLE count (
    pair INTEGER NOT NULL,
    status INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    PRIMARY KEY (pair, status)
) STRICT, WITHOUT ROWID;
-- The last claim of each worker.
CREATE TABLE claim (worker TEXT PRIMARY KEY, token INTEGER NOT NULL, at INTEGER NOT NULL, tasks TEXT NOT NULL) STRICT;
CREATE TABLE doc (key TEXT PRIMARY KEY, version INTEGER NOT NULL, bytes BLOB NOT NULL, expires INTEGER) STRICT;
CREATE INDEX doc_expires ON doc (expires) WHERE expires IS NOT NULL;
-- What the latest transactions did, for the other processes.
CREATE TABLE hint (k INTEGER PRIMARY KEY, writer INTEGER NOT NULL, hints TEXT NOT NULL) STRICT;
";

/// A task may have a retention of its own, in milliseconds.
const V2: &str = "
ALTER TABLE task ADD COLUMN retention INTEGER;
DROP INDEX task_ended;
CREATE INDEX task_ended ON task (ended) WHERE status > 3 AND stripped IS NULL AND retention IS NULL;
CREATE INDEX task_timed ON task (ended + retention)
    WHERE status > 3 AND stripped IS NULL AND retention IS NOT NULL;
";

/// `replaced`: which new task took the place of which last.
const V3: &str = "
CREATE TABLE replaced (n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE) STRICT;
-- Limits count by name.
CREATE INDEX pair_name ON pair (name);
";

/// The longest between two values, in nanoseconds.
const V4: &str = "
ALTER TABLE task ADD COLUMN idle_limit INTEGER;
";

/// The trace that a task belongs to, as JSON.
const V5: &str = "
ALTER TABLE task ADD COLUMN trace TEXT;
";

/// The time that the processes of a machine agree on: the offset of the boot-time clock and when it was confirmed or
/// jumped, in microseconds; and the longest lease that a worker asked for, in milliseconds.
const V6: &str = "
ALTER TABLE state ADD COLUMN clock_mark INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN clock_offset INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN clock_confirmed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN clock_jumped INTEGER;
ALTER TABLE state ADD COLUMN clock_apart INTEGER;
ALTER TABLE state ADD COLUMN clock_apart_since INTEGER;
ALTER TABLE state ADD COLUMN lease_max INTEGER NOT NULL DEFAULT 0;
";

/// Checksums of rows: see `sums`. Pairs are few, and everything hangs on them: there is a copy of each.
const V7: &str = "
ALTER TABLE state ADD COLUMN sums INTEGER NOT NULL DEFAULT 0;
ALTER TABLE state ADD COLUMN sum INTEGER;
ALTER TABLE task ADD COLUMN sum INTEGER;
ALTER TABLE task ADD COLUMN fixed_sum INTEGER;
ALTER TABLE log ADD COLUMN sum INTEGER;
ALTER TABLE checkpoint ADD COLUMN sum INTEGER;
ALTER TABLE count ADD COLUMN sum INTEGER;
ALTER TABLE doc ADD COLUMN sum INTEGER;
CREATE TABLE pair_copy (
    pair INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    name TEXT NOT NULL,
    sum INTEGER NOT NULL
) STRICT;
";

/// How long a call waits for a process that has the file for itself.
pub(super) const BUSY: Duration = Duration::from_secs(10);
/// How long a file that is opened waits for another process, which may be migrating it.
const OPENING: Duration = Duration::from_secs(30);

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Writer(Durability),
    Reader,
}

/// Makes the file, which nobody else may read, and its tables.
pub(super) fn prepare(path: &Path, durability: Durability) -> Result<Connection> {
    if rusqlite::version_number() < VERSION_MIN {
        let version = rusqlite::version();
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("SQLite {version} can damage a database that several processes write: it takes 3.51.3 or later"),
        ));
    }
    if path.is_dir() {
        return Err(Error::invalid(format!("`{}` is a directory: `sqlite:` takes the path of a file", path.display())));
    }
    let mut create = OpenOptions::new();
    create.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut create, 0o600);
    match create.open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            let message = format!("the file `{}` of the store can't be made: {error}", path.display());
            return Err(Error::new(ErrorKind::Unavailable, message).with_source(error));
        }
    }
    #[cfg(unix)]
    owner::check(path)?;
    let mut db = connect(path, Role::Writer(durability)).map_err(|e| super::to_open_error(&e, path))?;
    migrate(&mut db, path)?;
    sums::turn_on(&mut db).and_then(|()| damage::heal(&mut db)).map_err(|e| super::to_open_error(&e, path))?;
    // From here on it waits by itself: SQLite would sleep through its turns.
    db.busy_timeout(Duration::ZERO).map_err(|e| super::to_open_error(&e, path))?;
    Ok(db)
}

/// A connection to a file that is there.
pub(super) fn connect(path: &Path, role: Role) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).and_then(|db| {
        db.busy_timeout(if role == Role::Reader { BUSY } else { OPENING })?;
        db.set_prepared_statement_cache_capacity(64);
        // Else SQLite prepares a statement anew whenever a LIMIT or what a key is compared with has another value.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        if let Role::Writer(durability) = role {
            db.pragma_update(None, "synchronous", durability.synchronous())?;
            db.pragma_update(None, "cache_size", -16_000)?;
            db.pragma_update(None, "journal_size_limit", 64 << 20)?;
            db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        } else {
            db.pragma_update(None, "query_only", true)?;
            db.pragma_update(None, "cache_size", -1_000)?;
        }
        db.pragma_update(None, "temp_store", "memory")?;
        db.pragma_update(None, "trusted_schema", false)?;
        Ok(db)
    })
}

/// Several processes may do so at once, and SQLite does not wait for the others there.
pub(super) fn use_wal(db: &Connection) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        let mode = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Ok(_) => return Ok(()),
            Err(e) if is_busy(&e) && start.elapsed() < OPENING => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(e),
        }
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Brings a file to the latest schema. One that has it is left alone: somebody else may be writing to it.
fn migrate(db: &mut Connection, path: &Path) -> Result<()> {
    let sql = |e: rusqlite::Error| super::to_open_error(&e, path);
    // Looked at before anything is changed: WAL would stay with a database of something else.
    let done = version(db, path)?;
    use_wal(db).map_err(sql)?;
    if done == MIGRATIONS.len() {
        return match db.is_readonly("main").map_err(sql)? {
            true => {
                Err(Error::new(ErrorKind::Unavailable, format!("the store `{}` may not be written", path.display())))
            }
            false => Ok(()),
        };
    }
    let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(sql)?;
    // Another process may have been quicker.
    let done = version(&tx, path)?;
    for migration in &MIGRATIONS[done..] {
        tx.execute_batch(migration).map_err(sql)?;
    }
    if done == 0 {
        // No process of an earlier version can have a new file open.
        tx.execute("UPDATE state SET sums = 1", []).map_err(sql)?;
    }
    tx.pragma_update(None, "user_version", i32::try_from(MIGRATIONS.len()).expect("few")).map_err(sql)?;
    tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(sql)?;
    tx.commit().map_err(sql)
}

/// How many migrations a file has had, which is left as it is; none if it is not there.
#[cfg(feature = "cli")]
pub(super) fn version_of(path: &Path) -> Result<usize> {
    match path.exists() {
        true => version(&connect(path, Role::Reader).map_err(|e| super::to_open_error(&e, path))?, path),
        false => Ok(0),
    }
}

/// How many migrations a file has had, if it is one of ours or empty.
fn version(db: &Connection, path: &Path) -> Result<usize> {
    let sql = |e: rusqlite::Error| super::to_open_error(&e, path);
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(sql);
    // In this order: both are written before tables of ours can be seen.
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(sql)?;
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let shown = path.display();
    if tables > 0 && application != APPLICATION_ID {
        return Err(Error::invalid(format!(
            "`{shown}` is a database of something else: give the store a file of its own"
        )));
    }
    usize::try_from(version).ok().filter(|v| *v <= MIGRATIONS.len()).ok_or_else(|| {
        let known = MIGRATIONS.len();
        Error::invalid(format!(
            "`{shown}` was written by a later version of qtasks (schema {version}, this one knows {known}): update this program"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_an_earlier_schema_is_brought_on() {
        let path = std::env::temp_dir().join(format!("qtasks-schema-{}.db", uuid::Uuid::now_v7()));
        let earlier = Connection::open(&path).unwrap();
        earlier.execute_batch(V1).unwrap();
        earlier.execute("INSERT INTO pair (queue, name) VALUES ('q', 'a')", []).unwrap();
        earlier.pragma_update(None, "user_version", 1).unwrap();
        earlier.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        drop(earlier);
        for _ in 0..2 {
            let db = prepare(&path, Durability::Fast).unwrap();
            assert_eq!(version(&db, &path).unwrap(), MIGRATIONS.len());
            let kept: i64 = db.query_row("SELECT count(*) FROM pair", [], |row| row.get(0)).unwrap();
            let new: i64 = db.query_row("SELECT count(*) FROM replaced", [], |row| row.get(0)).unwrap();
            assert_eq!((kept, new), (1, 0));
        }
        std::fs::remove_file(&path).unwrap();
    }

    /// What the README says of power cuts hangs on this one setting.
    #[test]
    fn a_writer_waits_for_the_disk_as_its_durability_says() {
        let path = std::env::temp_dir().join(format!("qtasks-durability-{}.db", uuid::Uuid::now_v7()));
        for (durability, level) in [(Durability::Fast, 1), (Durability::Strict, 2)] {
            let db = prepare(&path, durability).unwrap();
            let is = |name| db.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).unwrap();
            assert_eq!(is("synchronous"), level, "{durability:?}");
            let mode: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
