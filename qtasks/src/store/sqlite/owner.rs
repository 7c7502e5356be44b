//! Checks of who else can write to the files of a store.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::error::{Error, Result};

/// A finding about a file of a store.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Fine,
    /// Other users can write to it, which its owner has to change.
    Shared,
    /// It is world-writable, and belongs to another user.
    Planted,
}

fn judge(mode: u32, owner: u32, user: u32) -> Found {
    match mode & 0o022 {
        0 => Found::Fine,
        _ if owner != user && mode & 0o002 != 0 => Found::Planted,
        _ => Found::Shared,
    }
}

/// Refuses world-writable files of another user, who may have planted them for this process. Warns if others can write to
/// the store's file.
pub(super) fn check(path: &Path) -> Result<()> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        name
    };
    // SQLite gives these the mode of the main file, for which one warning is enough.
    ["-wal", "-shm"].iter().try_for_each(|end| check_one(Path::new(&beside(end)), false))?;
    check_one(path, true)
}

fn check_one(path: &Path, warns: bool) -> Result<()> {
    // SQLite reports files that cannot be inspected.
    let Ok(file) = std::fs::metadata(path) else { return Ok(()) };
    let (shown, mode) = (path.display(), file.mode() & 0o7777);
    match judge(mode, file.uid(), rustix::process::geteuid().as_raw()) {
        Found::Shared if !warns => Ok(()),
        Found::Fine => Ok(()),
        Found::Shared => {
            let mode = format_args!("{mode:04o}");
            tracing::warn!(path = %shown, mode, "other users may write to the store's file: run `chmod go-w` on it");
            Ok(())
        }
        Found::Planted => Err(Error::invalid(format!(
            "the store's file `{shown}` is refused: it belongs to another user (uid {}), and everybody may write to it (mode \
             {mode:04o}); have its owner run `chmod o-w {shown}`, or give the store a place of its own",
            file.uid()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_everybody_may_write_to_is_its_owners_affair_only() {
        for (mode, owner, found) in [
            (0o600, 5, Found::Fine),
            (0o644, 6, Found::Fine),
            (0o666, 5, Found::Shared),
            (0o660, 5, Found::Shared),
            (0o660, 6, Found::Shared),
            (0o666, 6, Found::Planted),
            (0o602, 0, Found::Planted),
        ] {
            assert_eq!(judge(mode, owner, 5), found, "{mode:o} of {owner}");
        }
        assert_eq!(judge(0o666, 5, 0), Found::Planted, "root is no exception");
    }
}
