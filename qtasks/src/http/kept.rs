//! The tokens of this user, in a file that nobody else may read or write.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::access::Access;
use super::auth::{self, Tokens};
use crate::error::{Error, Result};

/// Where tokens are kept unless it is said otherwise, below the user's folder for state.
const TOKENS_FILE: &str = "qtasks/tokens";

/// The path of the file.
fn tokens_file() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")));
    Some(state?.join(TOKENS_FILE))
}

/// Returns the first token of this user, for servers on this machine; none if there is no file.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) for a file that [`of_this_user`] refuses.
#[cfg(feature = "cli")]
pub(crate) fn own_token() -> Result<Option<String>> {
    let Some(file) = tokens_file() else { return Ok(None) };
    Ok(read(&file)?.as_deref().and_then(auth::first).map(str::to_owned))
}

/// The tokens that a server has, the file that they are in, and the one that was made if there was none.
pub(super) struct Kept {
    pub(super) access: Access,
    pub(super) file: Option<PathBuf>,
    pub(super) new: Option<String>,
}

/// Returns the tokens of the environment or of the user's file, which is made with a new one if it is not there.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) for a file without tokens, or one that other users may read, write or replace.
pub(super) fn of_this_user() -> Result<Kept> {
    if let Ok(token) = std::env::var("QTASKS_TOKEN") {
        let access = Access::Tokens(Tokens::none().with(&token, [auth::Scope::Admin])?);
        return Ok(Kept { access, file: None, new: None });
    }
    let Some(file) = tokens_file() else {
        return Err(Error::invalid("there is no folder for tokens: set `QTASKS_TOKEN`, or `HOME`"));
    };
    let mut new = None;
    let text = match read(&file)? {
        Some(text) => text,
        None => {
            let token = auth::new_token()?;
            match write_private(&file, &format!("{token} admin\n")) {
                Ok(()) => new = Some(token),
                // Another process was quicker.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(wrong(&file, &error)),
            }
            read(&file)?.ok_or_else(|| wrong(&file, &ErrorKind::NotFound.into()))?
        }
    };
    Ok(Kept { access: Access::Tokens(Tokens::parse(&text)?), file: Some(file), new })
}

fn wrong(file: &Path, error: &io::Error) -> Error {
    Error::invalid(format!("the tokens in {}: {error}", file.display()))
}

/// Reads the file if it exists, and refuses one that other users can read, write or replace.
fn read(file: &Path) -> Result<Option<String>> {
    let wrong = |error| wrong(file, &error);
    let mut text = String::new();
    match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(error)),
        Ok(mut open) => {
            #[cfg(unix)]
            private::check(file, &open.metadata().map_err(wrong)?)?;
            open.read_to_string(&mut text).map_err(wrong)?;
        }
    }
    if auth::first(&text).is_none() {
        let file = file.display();
        return Err(Error::invalid(format!(
            "there is no token in {file}: delete the file for a new one, or write one of your own into it"
        )));
    }
    Ok(Some(text))
}

/// Creates a file that only this user can read. It appears with all of its text: another process may be waiting for it.
fn write_private(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let begun = file.with_extension(format!("{}.new", uuid::Uuid::now_v7()));
    let made = options.open(&begun).and_then(|mut begun| begun.write_all(text.as_bytes()));
    let made = made.and_then(|()| match std::fs::hard_link(&begun, file) {
        // The file system has no hard links. An existing file is not replaced here either.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            options.open(file)?.write_all(text.as_bytes()).inspect_err(|_| drop(std::fs::remove_file(file)))
        }
        linked => linked,
    });
    let _ = std::fs::remove_file(&begun);
    made
}

#[cfg(unix)]
mod private {
    use std::fs::Metadata;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use crate::error::{Error, Result};

    const READ_OR_WRITE: u32 = 0o066;
    const STICKY: u32 = 0o1000;

    /// Refuses a file that other users can read, write or replace.
    pub(super) fn check(file: &Path, open: &Metadata) -> Result<()> {
        let (shown, mode) = (file.display(), open.mode() & 0o7777);
        if is_of_another(open) {
            return Err(Error::invalid(format!(
                "the tokens in {shown} are refused: the file belongs to another user (uid {}); delete it, or set \
                 `QTASKS_TOKEN`",
                open.uid()
            )));
        }
        if mode & READ_OR_WRITE != 0 {
            return Err(Error::invalid(format!(
                "the tokens in {shown} are refused: other users may read or write the file (mode {mode:04o}); run \
                 `chmod 600 {shown}`, and delete it for a new token if somebody may have"
            )));
        }
        // Symlinks are followed: the folders of the real file count.
        let Ok(whole) = file.canonicalize() else { return Ok(()) };
        if let Some(folder) = whole.parent()
            && std::fs::metadata(folder).is_ok_and(|folder| is_of_another(&folder))
        {
            let folder = folder.display();
            return Err(Error::invalid(format!(
                "the tokens in the folder {folder} are refused: it belongs to another user; set `QTASKS_TOKEN`, or give \
                 a folder of your own by `XDG_STATE_HOME`"
            )));
        }
        whole.ancestors().skip(1).try_for_each(folder)
    }

    /// Refuses a folder in which other users can replace files.
    fn folder(folder: &Path) -> Result<()> {
        // A folder that cannot be inspected is not this user's to mend.
        let Ok(of_folder) = std::fs::metadata(folder) else { return Ok(()) };
        let mode = of_folder.mode() & 0o7777;
        // With the umask 002 folders are writable by the user's own group, which has no other members.
        let by_group = mode & 0o020 != 0 && of_folder.gid() != rustix::process::getegid().as_raw();
        if (mode & 0o002 == 0 && !by_group) || mode & STICKY != 0 {
            return Ok(());
        }
        let shown = folder.display();
        Err(Error::invalid(format!(
            "the tokens in the folder {shown} are refused: other users may replace what is in it (mode {mode:04o}); run \
             `chmod go-w {shown}`, or set `QTASKS_TOKEN`"
        )))
    }

    /// Whether a file belongs to neither this user nor root. Root itself may use files of any user.
    fn is_of_another(file: &Metadata) -> bool {
        let user = rustix::process::geteuid();
        !user.is_root() && file.uid() != user.as_raw() && file.uid() != 0
    }
}
