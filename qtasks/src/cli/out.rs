//! [`Out`]: data goes to stdout, all else to stderr.
//!
//! Invariant: nothing else in the command line writes text that may come from a task. Everything is escaped here (see
//! [`visible`]): text for people always, values and JSON when stdout is a terminal. Styles are passed beside the text,
//! never within it, so a new command cannot forget to escape.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use anstyle::Style;
use serde::Serialize;

use super::End;
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::visible;

/// Where output goes, and in what shape.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) json: bool,
    pub(super) quiet: bool,
    /// The name of this program, for commands that are proposed.
    pub(super) name: String,
    /// Stdout is a terminal.
    is_terminal: bool,
}

const RED: Style = anstyle::AnsiColor::Red.on_default().bold();

impl Out {
    pub(super) fn new(json: bool, quiet: bool, name: String) -> Self {
        Out { json, quiet, name, is_terminal: io::stdout().is_terminal() }
    }

    /// Writes a line of text.
    pub(super) fn data(&self, line: impl Display) -> Result<()> {
        write_line(&visible::escaped(&line.to_string()))
    }

    /// Writes a value as a line of JSON: escaped on a terminal, exact elsewhere.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Codec, e.to_string()))?;
        self.json_line(&line)
    }

    /// Writes a value of a task, as [`json`](Self::json) does.
    pub(super) fn value(&self, value: &Json) -> Result<()> {
        self.json_line(value.as_str())
    }

    fn json_line(&self, json: &str) -> Result<()> {
        if self.is_terminal {
            return write_line(&visible::escaped_json(json));
        }
        // Raw line breaks stand only between tokens, where a space means the same.
        match json.contains(['\n', '\r']) {
            true => write_line(&json.replace(['\n', '\r'], " ")),
            false => write_line(json),
        }
    }

    /// Writes text of a task: escaped on a terminal, exact elsewhere.
    pub(super) fn raw(&self, text: &str) -> Result<()> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        write_line(&if self.is_terminal { visible::escaped(text) } else { Cow::Borrowed(text) })
    }

    /// Writes a line for people, each part in its style, where colours are wanted.
    pub(super) fn coloured(&self, parts: &[(Style, &str)]) -> Result<()> {
        let part = |(style, text): &(Style, &str)| format!("{style}{}{style:#}", visible::escaped(text));
        let line: String = parts.iter().map(part).collect();
        writeln!(anstream::stdout().lock(), "{line}").map_err(|error| broken(&error))
    }

    /// Writes what this program itself generates, such as a man page. Not for text from tasks.
    pub(super) fn bytes(&self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Result<End> {
        let mut bytes = Vec::new();
        write(&mut bytes).and_then(|()| io::stdout().lock().write_all(&bytes)).map_err(|error| broken(&error))?;
        Ok(End::Done)
    }

    /// Writes a line about what is done to stderr.
    pub(super) fn note(&self, line: impl Display) {
        if !self.quiet {
            note(&line.to_string());
        }
    }

    /// Writes what went wrong to stderr, on one line.
    pub(super) fn error(&self, error: &dyn Display) {
        let text = error.to_string();
        let words: Vec<&str> = text.split([' ', '\n', '\t']).filter(|word| !word.is_empty()).collect();
        let line = words.join(" ");
        let _ = writeln!(anstream::stderr().lock(), "{RED}error:{RED:#} {}", visible::escaped(&line));
    }
}

fn write_line(line: &str) -> Result<()> {
    writeln!(io::stdout().lock(), "{line}").map_err(|error| broken(&error))
}

/// Writes a line to stderr.
pub(super) fn note(line: &str) {
    // Whoever has closed stderr does not want to know.
    let _ = writeln!(io::stderr().lock(), "{}", visible::escaped(line));
}

/// Returns the arguments escaped, or `None` if there is nothing to escape.
pub(super) fn shown(args: &[OsString]) -> Option<Vec<OsString>> {
    let is_hidden = |arg: &OsString| visible::first_hidden(&arg.to_string_lossy()).is_some();
    let shown = |arg: &OsString| visible::escaped(&arg.to_string_lossy()).into_owned().into();
    args.iter().any(is_hidden).then(|| args.iter().map(shown).collect())
}

/// A writer of log lines to stderr, which takes one whole line per write.
pub(super) struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        note(text.strip_suffix('\n').unwrap_or(&text));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
