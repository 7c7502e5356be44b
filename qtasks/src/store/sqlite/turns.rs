//! Turns between the processes that write one file.
//!
//! SQLite's lock goes to whoever asks in the right moment, and a process that writes without a pause leaves only moments.
//! So who waits says so, by a shared lock on a file beside, and who has just written and sees it leaves a pause. It is a
//! courtesy: nothing but speed depends on it, and a process that is stopped while it waits holds nobody up.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

/// How often one who waits looks whether it is its turn.
pub(super) const LOOK: Duration = Duration::from_micros(100);
/// The pause: a few looks long.
const PAUSE: Duration = Duration::from_micros(500);

/// The file; `None` where it can't be made.
pub(super) struct Turns(Option<File>);

/// As long as it lives, others know that somebody waits.
pub(super) struct Waiting<'a>(&'a File);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // A lock that can't be given back goes with the process.
        let _ = self.0.unlock();
    }
}

impl Turns {
    pub(super) fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push("-turn");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use rustix::fs::OFlags;
            use std::os::unix::fs::OpenOptionsExt as _;
            // Others may write to the folder: no symlink is followed, and a FIFO does not block.
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
            options.mode(0o600).custom_flags(flags.bits().cast_signed());
        }
        Turns(options.open(name).ok())
    }

    /// Says that this process waits. `None` if that could not be said now.
    pub(super) fn wait(&self) -> Option<Waiting<'_>> {
        let file = self.0.as_ref()?;
        file.try_lock_shared().ok().map(|()| Waiting(file))
    }

    /// Leaves a pause if another process waits.
    pub(super) fn let_others(&self) {
        let Some(file) = &self.0 else { return };
        match file.try_lock() {
            Ok(()) => drop(Waiting(file)),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(std::fs::TryLockError::Error(_)) => {}
        }
    }
}
