//! [`SqliteStore`]: tasks and logs in a file, which several processes of one machine may share.
//!
//! SQLite in WAL mode. One thread writes, and commits what came in the meantime together; connections that read are
//! apart, and read on the thread of whoever asks, for that takes microseconds. A call that has waited 10 s for another
//! process that writes fails with [`Unavailable`](ErrorKind::Unavailable), and was not done; only heartbeats wait for as
//! long as their lease lasts. Other processes learn within 10 ms
//! what was committed here. The file must be on a local disk: WAL does not work over a network.
//!
//! `?durability=fast`, the default, is SQLite's `synchronous = NORMAL`: what was committed survives every crash of the
//! process; a crash of the operating system or a power cut may take the last commits. `?durability=strict` is `FULL`:
//! every commit waits for the disk, and survives those too. See <https://sqlite.org/pragma.html#pragma_synchronous>.
//!
//! A write beyond the file size limit (`ulimit -f`) raises SIGXFSZ, which ends the process unless it handles or ignores that
//! signal, as `qtasks::cli::main` does. The write is then an error of kind `Unavailable`.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::oneshot;

use super::listeners::Listeners;
use super::{
    Added, Answer, Append, Appended, Cancelled, Claim, Claimed, Doc, DocPut, Extended, Hints, Interest, Lease, List,
    Listed, NewTask, Prune, Pruned, Read, Removed, Slice, Stats, Store, Sweep, Swept,
};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::task::{Status, TaskId, TaskRecord};

mod cells;
#[cfg(feature = "cli")]
mod check;
mod claims;
mod damage;
mod files;
mod limits;
mod log;
#[cfg(unix)]
mod owner;
mod reads;
mod retention;
mod rows;
mod schema;
mod sums;
mod time;
mod turns;
mod tx;
mod watch;
mod writer;

use schema::Role;
use writer::{Queue, Urgency, Writer};

/// So many connections are kept for the next to read.
const READERS: usize = 8;

/// What a stored event survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// Any crash of the process. A crash of the operating system may take the last commits.
    #[default]
    Fast,
    /// A crash of the operating system as well: every commit waits for the disk.
    Strict,
}

impl Durability {
    fn synchronous(self) -> &'static str {
        match self {
            Durability::Fast => "NORMAL",
            Durability::Strict => "FULL",
        }
    }
}

/// Tasks and logs in a file.
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    path: PathBuf,
    durability: Durability,
    clock: Clock,
    queue: Arc<Queue>,
    listeners: Arc<Listeners>,
    readers: Mutex<Vec<Connection>>,
    /// Tells the hints of this store in the file from those of others.
    me: i64,
    /// The last claim gave as many tasks as it was asked for.
    more: Arc<AtomicBool>,
    /// The thread that learns what other processes did.
    watches: Mutex<bool>,
    /// The file was deleted or replaced.
    lost: Arc<AtomicBool>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The files that are open, so that all of a process share one writer, and its hints.
static OPEN: LazyLock<Mutex<Open>> = LazyLock::new(Mutex::default);

type Open = HashMap<(PathBuf, Durability), Weak<Inner>>;

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.0.path).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of which version the tables of a file are; 0 if it is not there.
#[cfg(feature = "cli")]
pub(crate) fn schema_version(path: &str) -> Result<usize> {
    schema::version_of(Path::new(parse(path)?.0))
}

/// Checks the file of a URL without its `sqlite:`.
#[cfg(feature = "cli")]
pub(crate) fn check(path: &str) -> Result<super::Checked> {
    check::file(Path::new(parse(path)?.0))
}

/// The path and the parameters of a URL without its `sqlite:`.
fn parse(path: &str) -> Result<(&str, Durability)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path == ":memory:" {
        return Err(Error::invalid("`sqlite:` takes the path of a file: `sqlite:tasks.db`; in memory it is `memory:`"));
    }
    let mut durability = Durability::default();
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        durability = match parameter {
            "durability=fast" => Durability::Fast,
            "durability=strict" => Durability::Strict,
            _ => {
                let rule = "there are `durability=fast` and `durability=strict`";
                return Err(Error::invalid(format!("`{parameter}` is no parameter of a `sqlite:` URL; {rule}")));
            }
        };
    }
    Ok((path, durability))
}

impl SqliteStore {
    /// Opens the file of a URL without its `sqlite:`: a path, with `?durability=fast` or `?durability=strict` behind
    /// it. The file is made, readable for its owner only, if it is not there; its directory must be.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for no path, an unknown parameter, a database of something else or of a later
    /// version; [`Unavailable`](ErrorKind::Unavailable) if the file can't be opened.
    pub fn open(path: &str) -> Result<Arc<dyn Store>> {
        let (path, durability) = parse(path)?;
        let store: Arc<dyn Store> = SqliteStore::shared(Path::new(path), durability)?;
        Ok(store)
    }

    /// The store of a file, shared by all of this process that open it with the same durability.
    fn shared(path: &Path, durability: Durability) -> Result<Arc<Self>> {
        let mut open = lock(&OPEN);
        let known = |path: &Path| Some((path.canonicalize().ok()?, durability));
        let inner = known(path).and_then(|key| open.get(&key)?.upgrade());
        if let Some(inner) = inner.filter(|inner| !inner.lost.load(Ordering::Relaxed)) {
            return Ok(Arc::new(SqliteStore(inner)));
        }
        let store = SqliteStore::new(path, durability, Clock::system())?;
        open.retain(|_, inner| inner.strong_count() > 0);
        if let Some(key) = known(path) {
            open.insert(key, Arc::downgrade(&store.0));
        }
        Ok(store)
    }

    /// A store with a clock of its own, and its own connections.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(path: impl AsRef<Path>, durability: Durability, clock: Clock) -> Result<Arc<Self>> {
        let path = std::path::absolute(path.as_ref()).unwrap_or_else(|_| path.as_ref().to_owned());
        let db = schema::prepare(&path, durability)?;
        let known = tx::Known::of(&db).map_err(|e| to_error(&e, &path))?;
        time::join(&db, &clock).map_err(|e| to_error(&e, &path))?;
        let (queue, listeners) = (Arc::<Queue>::default(), Arc::<Listeners>::default());
        let me = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &path).cast_signed();
        let lost = Arc::<AtomicBool>::default();
        let writer = Writer {
            files: files::Files::of(&path),
            lost: Arc::clone(&lost),
            db,
            path: path.clone(),
            queue: Arc::clone(&queue),
            clock: clock.clone(),
            listeners: Arc::clone(&listeners),
            me,
            known,
            turns: turns::Turns::beside(&path),
        };
        writer.start()?;
        let readers = Mutex::default();
        let inner = Inner {
            path,
            durability,
            clock,
            queue,
            listeners,
            readers,
            me,
            more: Arc::default(),
            watches: Mutex::new(false),
            lost,
        };
        Ok(Arc::new(SqliteStore(Arc::new(inner))))
    }

    fn write<R: Send + 'static>(
        &self,
        urgency: Urgency,
        job: impl FnMut(&mut tx::Tx<'_>) -> Result<R, tx::Fault> + Send + 'static,
    ) -> Answer<'static, R> {
        let answer = self.0.queue.push(urgency, job);
        async move { answer.await.unwrap_or_else(|_: oneshot::error::RecvError| Err(gone())) }.boxed()
    }

    fn read_now<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<R, tx::Fault>,
    ) -> Answer<'static, R> {
        let result = self.0.read(read);
        async move { result }.boxed()
    }
}

impl Inner {
    /// Reads on a connection of its own, in one snapshot.
    fn read<R>(&self, read: impl FnOnce(&Connection) -> Result<R, tx::Fault>) -> Result<R> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(files::replaced(&self.path));
        }
        let kept = lock(&self.readers).pop();
        let db = match kept {
            Some(db) => db,
            None => schema::connect(&self.path, Role::Reader).map_err(|e| to_error(&e, &self.path))?,
        };
        let snapshot = db.unchecked_transaction().map_err(|e| to_error(&e, &self.path))?;
        let result = read(&snapshot);
        // Nothing was written: there is nothing to undo.
        drop(snapshot);
        let mut readers = lock(&self.readers);
        if readers.len() < READERS {
            readers.push(db);
        }
        result.map_err(|fault| match fault {
            tx::Fault::Refused(error) => error,
            tx::Fault::Sql(error) => to_error(&error, &self.path),
        })
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the store gave no answer: it failed in the middle of a transaction")
}

impl Store for SqliteStore {
    fn add(&self, batch: Vec<NewTask>) -> Answer<'_, Vec<Added>> {
        self.write(Urgency::Normal, move |tx| tx.add(&batch))
    }

    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        // Most often there is nothing, and no transaction is needed to see that; but after a claim that gave as many as
        // were asked for there is more.
        if !self.0.more.swap(false, Ordering::Relaxed) {
            let now = self.0.clock.now_ms();
            if let Ok(Some(nothing)) = self.0.read(|db| reads::nothing_to_claim(db, &claim, now)) {
                return async move { Ok(nothing) }.boxed();
            }
        }
        let more = Arc::clone(&self.0.more);
        self.write(Urgency::Normal, move |tx| {
            let claimed = tx.claim(&claim)?;
            more.store(claimed.tasks.len() == claim.max, Ordering::Relaxed);
            Ok(claimed)
        })
    }

    fn sweep(&self, sweep: Sweep) -> Answer<'_, Swept> {
        let clock = self.0.clock.clone();
        self.write(Urgency::Normal, move |tx| {
            tx.look(&clock, sweep.lease)?;
            tx.sweep(sweep)
        })
    }

    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>> {
        self.write(Urgency::Normal, move |tx| tx.append(&batch))
    }

    fn extend(&self, leases: Vec<Lease>, lease: Duration) -> Answer<'_, Vec<Extended>> {
        self.write(Urgency::Heartbeat, move |tx| tx.extend(&leases, lease))
    }

    fn start(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<Status>>> {
        self.write(Urgency::Normal, move |tx| tx.start(&ids))
    }

    fn cancel(&self, id: TaskId, reason: String) -> Answer<'_, Cancelled> {
        self.write(Urgency::Soon, move |tx| tx.cancel(id, &reason))
    }

    fn release(&self, leases: Vec<Lease>) -> Answer<'_, ()> {
        self.write(Urgency::Normal, move |tx| tx.release(&leases))
    }

    fn get(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<TaskRecord>>> {
        self.read_now(|db| reads::get(db, &ids))
    }

    fn list(&self, list: List) -> Answer<'_, Listed> {
        self.read_now(|db| reads::list(db, &list))
    }

    fn stats(&self) -> Answer<'_, Stats> {
        self.read_now(reads::stats)
    }

    fn read(&self, read: Read) -> Answer<'_, Slice> {
        self.read_now(|db| reads::read(db, read))
    }

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        let watching = watch::start(&self.0);
        let hints = self.0.listeners.add(interest);
        async move { watching.map(|()| hints) }.boxed()
    }

    fn remove(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Removed>> {
        self.write(Urgency::Normal, move |tx| tx.remove(&ids))
    }

    fn prune(&self, prune: Prune) -> Answer<'_, Pruned> {
        let clock = self.0.clock.clone();
        self.write(Urgency::Normal, move |tx| match clock.is_settling(Some(&tx.state()?.clock)) {
            true => Ok(Pruned::default()),
            false => tx.prune(prune),
        })
    }

    fn doc_get(&self, key: String) -> Answer<'_, Option<Doc>> {
        let now = self.0.clock.now_ms();
        self.read_now(|db| Ok(reads::doc(db, &key, now)?))
    }

    fn doc_put(&self, put: DocPut) -> Answer<'_, Option<u64>> {
        self.write(Urgency::Normal, move |tx| tx.doc_put(&put))
    }

    fn doc_list(&self, prefix: String) -> Answer<'_, Vec<Doc>> {
        let now = self.0.clock.now_ms();
        self.read_now(|db| reads::docs(db, &prefix, now))
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        // The connections are driven by no runtime: the thread that writes is the store's own, and lets heartbeats pass.
        let this: Arc<dyn Store> = Arc::new(SqliteStore(Arc::clone(&self.0)));
        async move { Ok(this) }.boxed()
    }

    fn durability(&self) -> &'static str {
        match self.0.durability {
            Durability::Fast => "in a file: stored events survive the process; a crash of the system may take the last",
            Durability::Strict => "in a file: stored events survive the process and a crash of the system",
        }
    }

    fn now(&self) -> Option<SystemTime> {
        Some(self.0.clock.now())
    }

    fn retention(&self) -> Prune {
        Prune::default()
    }
}

/// What a caller can do about an error of SQLite on opening a file: it may be the wrong one.
fn to_open_error(error: &rusqlite::Error, path: &Path) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            let shown = path.display();
            Error::invalid(format!("`{shown}` is not a database: give the store a file of its own"))
        }
        _ => to_error(error, path),
    }
}

/// What a caller can do about an error of SQLite.
fn to_error(error: &rusqlite::Error, path: &Path) -> Error {
    let shown = path.display();
    let (message, told) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            (format!("the disk of the store `{shown}` is full"), "the disk of the store is full")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            (format!("the store `{shown}` may not be written"), "the store may not be written")
        }
        Some(ErrorCode::CannotOpen) => (format!("the store `{shown}` can't be opened"), "the store can't be opened"),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            (format!("the store `{shown}` is damaged: restore it from a copy"), "the store is damaged")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => return busy(path).with_source(error.to_string()),
        _ => (format!("the store `{shown}` failed"), "the store failed"),
    };
    // The code and the text of SQLite; what was bound to the statement is not in it.
    Error::new(ErrorKind::Unavailable, message).with_told(told).with_source(error.to_string())
}

/// The error of a call that waited too long for another process.
fn busy(path: &Path) -> Error {
    let shown = path.display();
    let message =
        format!("the store `{shown}` has been in use by another process for too long: is one of them stopped?");
    Error::new(ErrorKind::Unavailable, message).with_told("the store is in use by another process")
}

/// Where a transaction is, for tests that stop a process in the middle of one.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    Begun,
    BeforeCommit,
    Committed,
}

#[cfg(feature = "conformance")]
type Hook = Box<dyn Fn(Point) + Send + Sync>;

#[cfg(feature = "conformance")]
static HOOK: std::sync::OnceLock<Hook> = std::sync::OnceLock::new();

/// Has a function called in every transaction of this process. Only the first call counts.
#[doc(hidden)]
#[cfg(feature = "conformance")]
pub fn on_transaction(hook: impl Fn(Point) + Send + Sync + 'static) {
    let _ = HOOK.set(Box::new(hook));
}

fn hook(point: Point) {
    #[cfg(feature = "conformance")]
    if let Some(hook) = HOOK.get() {
        hook(point);
    }
    let _ = point;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_without_the_path_and_without_sql() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t (x BLOB NOT NULL); PRAGMA max_page_count = 3").unwrap();
        let full = db.execute("INSERT INTO t VALUES (zeroblob(100000))", []).unwrap_err();
        let refused = db.execute("INSERT INTO t VALUES (NULL)", []).unwrap_err();
        db.pragma_update(None, "query_only", true).unwrap();
        let read_only = db.execute("INSERT INTO t VALUES (1)", []).unwrap_err();
        let path = Path::new("/home/somebody/secret.db");
        for (error, told) in [
            (to_error(&full, path), "the disk of the store is full"),
            (to_error(&read_only, path), "the store may not be written"),
            (to_error(&refused, path), "the store failed"),
            (busy(path), "the store is in use by another process"),
        ] {
            assert_eq!((error.kind(), error.told()), (ErrorKind::Unavailable, Some(told)));
            assert!(error.to_string().contains("secret.db"), "those who run it see which: {error}");
            assert_eq!(error.again().told(), Some(told));
        }
    }

    /// A bug of ours costs an answer, not all of them from then on.
    #[tokio::test]
    async fn a_panic_in_a_transaction_does_not_end_the_store() {
        let path = std::env::temp_dir().join(format!("qtasks-panic-{}.db", uuid::Uuid::now_v7()));
        let store = SqliteStore::new(&path, Durability::Fast, Clock::system()).unwrap();
        let panics: Result<()> = store.write(Urgency::Normal, |_| panic!("a bug of ours")).await;
        assert_eq!(panics.unwrap_err().kind(), ErrorKind::Unavailable);
        let put = DocPut { key: "k".to_owned(), if_version: Some(0), bytes: Vec::new(), expires: None };
        assert_eq!(store.doc_put(put).await.unwrap(), Some(1));
        drop(store);
        for ending in ["", "-wal", "-shm", "-turn"] {
            let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
        }
    }
}
