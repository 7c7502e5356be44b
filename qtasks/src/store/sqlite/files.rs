//! Whether the files of a store are still those that were opened.
//!
//! Whoever deletes or replaces the file of a store that is in use leaves its processes with files that have no name:
//! what they commit is gone with them. So a writer looks, before it commits anything, whether the paths still lead to
//! the files that it has open.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// How often the files are looked at, at most. Where nothing is written, each sweep makes the writer look.
const LOOK: Duration = Duration::from_millis(20);

/// The database, its WAL, and the index of that.
const ENDINGS: [&str; 3] = ["", "-wal", "-shm"];

/// The files of a store, as they were when they were first seen.
#[derive(Debug)]
pub(super) struct Files {
    paths: [PathBuf; 3],
    known: [Option<Identity>; 3],
    looked: Option<Instant>,
}

/// What stays the same of a file whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Files {
    /// Notes the files of a database that has just been opened.
    pub(super) fn of(path: &Path) -> Self {
        let paths = ENDINGS.map(|ending| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        });
        let known = paths.each_ref().map(|path| identity(path).flatten());
        Files { paths, known, looked: None }
    }

    /// Looks whether they are still there, unless that was done just before. `lost` tells the readers.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if one of them was deleted or replaced.
    pub(super) fn check(&mut self, lost: &AtomicBool) -> Result<()> {
        let was_lost = lost.load(Ordering::Relaxed);
        if !was_lost && self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let mut gone = None;
        for (path, known) in self.paths.iter().zip(&mut self.known) {
            // A file that can't be looked at tells nothing.
            let Some(found) = identity(path) else { continue };
            match known {
                None => *known = found,
                Some(known) if Some(*known) != found => gone = Some(path),
                Some(_) => {}
            }
        }
        lost.store(gone.is_some(), Ordering::Relaxed);
        let Some(path) = gone else { return Ok(()) };
        let error = replaced(path);
        if !was_lost {
            tracing::error!("{error}");
        }
        Err(error)
    }
}

/// The error of a store whose file is another one by now.
pub(super) fn replaced(path: &Path) -> Error {
    let message = format!(
        "the file `{}` of the store was deleted or replaced while it was open, and nothing is stored any more: put it \
         back, or restart this program",
        path.display()
    );
    Error::new(ErrorKind::Unavailable, message).with_told("the file of the store was deleted or replaced")
}

/// What names the file at a path: `Some(None)` if there is none, `None` if that can't be told.
fn identity(path: &Path) -> Option<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(found) => of_metadata(&found).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(None),
        Err(_) => None,
    }
}

#[cfg(unix)]
fn of_metadata(found: &std::fs::Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    Some(Identity { device: found.dev(), inode: found.ino() })
}

/// Elsewhere an open file can't be deleted or replaced.
#[cfg(not(unix))]
fn of_metadata(_: &std::fs::Metadata) -> Option<Identity> {
    None
}
