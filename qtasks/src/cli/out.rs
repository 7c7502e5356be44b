//! [`Out`]: data goes to stdout, all else to stderr.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;

use super::End;
use crate::error::{Error, ErrorKind, Result};

/// Where output goes, and in what shape.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) json: bool,
    pub(super) quiet: bool,
    /// The name of this program, for commands that are proposed.
    pub(super) name: String,
}

const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();

impl Out {
    /// A line of data.
    pub(super) fn data(&self, line: impl Display) -> Result<()> {
        writeln!(io::stdout().lock(), "{line}").map_err(|error| broken(&error))
    }

    /// A line of JSON.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Codec, e.to_string()))?;
        self.data(line)
    }

    /// A line for people, with colours where they are wanted.
    pub(super) fn coloured(&self, line: impl Display) -> Result<()> {
        writeln!(anstream::stdout().lock(), "{line}").map_err(|error| broken(&error))
    }

    /// Data that is made as a whole.
    pub(super) fn bytes(&self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Result<End> {
        let mut bytes = Vec::new();
        write(&mut bytes).and_then(|()| io::stdout().lock().write_all(&bytes)).map_err(|error| broken(&error))?;
        Ok(End::Done)
    }

    /// Something about what is done.
    pub(super) fn note(&self, line: impl Display) {
        if !self.quiet {
            // Whoever has closed stderr does not want to know.
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
    }

    /// What went wrong, on one line.
    pub(super) fn error(&self, error: &dyn Display) {
        let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = writeln!(anstream::stderr().lock(), "{RED}error:{RED:#} {line}");
    }
}

fn broken(error: &io::Error) -> Error {
    let kind = error.kind();
    Error::new(ErrorKind::Unavailable, format!("stdout can't be written: {error}")).with_source(io::Error::from(kind))
}

/// Whether an error says that nobody reads what is written.
pub(super) fn is_unread(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
}
