//! What is in the cells of a row, each of which may be damaged.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use serde::de::DeserializeOwned;

use super::sums::split;
use crate::json::Json;
use crate::task::{FailureKind, TaskFailure, TaskId};

/// An id as it is stored.
struct Id(TaskId);

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        let id = TaskId::from_bytes(value.as_blob()?);
        id.map(Id).ok_or(rusqlite::types::FromSqlError::InvalidType)
    }
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<TaskId> {
    Ok(row.get::<_, Id>(column)?.0)
}

/// Why what is stored can't be taken for what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    what: Cow<'static, str>,
    /// A later version wrote it, and may read it.
    pub(super) later: bool,
}

impl Damage {
    pub(super) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Damage { what: what.into(), later: false }
    }

    /// How the task failed, for all who ask.
    pub(super) fn failure(&self) -> TaskFailure {
        TaskFailure::new(FailureKind::Codec, self.to_string())
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.later {
            true => write!(f, "the stored task was written by a later version of qtasks: {}", self.what),
            false => write!(f, "the stored task is damaged: {}; restore the store from a copy", self.what),
        }
    }
}

/// The cells of a row, each of which may be anything.
pub(super) struct Cells<'a, 'r> {
    pub(super) row: &'a Row<'r>,
    /// The columns that can't be read.
    pub(super) bad: Vec<&'static str>,
}

impl<'a, 'r> Cells<'a, 'r> {
    pub(super) fn of(row: &'a Row<'r>) -> Self {
        Cells { row, bad: Vec::new() }
    }

    pub(super) fn get<T: FromSql + Default>(&mut self, column: usize, name: &'static str) -> T {
        self.row.get(column).unwrap_or_else(|_| self.wrong(name))
    }

    pub(super) fn wrong<T: Default>(&mut self, name: &'static str) -> T {
        self.bad.push(name);
        T::default()
    }

    pub(super) fn number<T: TryFrom<i64> + Default>(&mut self, column: usize, name: &'static str) -> T {
        let number: i64 = self.get(column, name);
        T::try_from(number).unwrap_or_else(|_| self.wrong(name))
    }

    pub(super) fn some_number(&mut self, column: usize, name: &'static str) -> Option<u64> {
        let number: Option<i64> = self.get(column, name);
        number.and_then(|n| u64::try_from(n).map_or_else(|_| self.wrong(name), Some))
    }

    /// Text, or nothing.
    pub(super) fn text(&mut self, column: usize, name: &'static str) -> Option<String> {
        self.get(column, name)
    }

    /// JSON of our own.
    pub(super) fn parsed<T: DeserializeOwned>(&mut self, column: usize, name: &'static str) -> Option<T> {
        let text = self.text(column, name)?;
        serde_json::from_str(&text).map_or_else(|_| self.wrong(name), Some)
    }

    /// JSON of a user, which a checksum may vouch for.
    pub(super) fn json(&mut self, column: usize, name: &'static str, trusted: bool) -> Option<Json> {
        let text = self.text(column, name)?;
        match trusted || crate::json::is_json(&text) {
            true => Some(Json::trusted(text.into())),
            false => self.wrong(name),
        }
    }

    pub(super) fn some_id(&mut self, column: usize, name: &'static str) -> Option<TaskId> {
        match self.row.get::<_, Option<Id>>(column) {
            Ok(id) => id.map(|id| id.0),
            Err(_) => self.wrong(name),
        }
    }

    pub(super) fn limit(&mut self, column: usize, name: &'static str) -> Option<Duration> {
        let nanos = self.some_number(column, name)?;
        Some(if nanos == i64::MAX.cast_unsigned() { Duration::MAX } else { Duration::from_nanos(nanos) })
    }

    /// Whether the halves of a checksum are right; `None` where there is none.
    pub(super) fn vouched(&self, column: usize, first: u32, second: u32) -> Option<bool> {
        match self.row.get_ref(column) {
            Ok(ValueRef::Null) => None,
            Ok(ValueRef::Integer(sum)) => Some(split(sum) == (first, second)),
            _ => Some(false),
        }
    }

    /// What is wrong with the row, if anything is. What can't be read although a checksum vouches for it is of a later
    /// version.
    pub(super) fn damage(self, vouched: Option<bool>) -> Option<Damage> {
        let columns = |bad: &[&str]| match bad {
            [one] => format!("column `{one}` can't be read"),
            many => format!("columns `{}` can't be read", many.join("`, `")),
        };
        match (vouched, &self.bad[..]) {
            (Some(false), []) => Some(Damage::new("it does not match its checksum")),
            (_, []) => None,
            (vouched, bad) => Some(Damage { what: columns(bad).into(), later: vouched == Some(true) }),
        }
    }
}

/// The bytes of a cell, whatever is in it.
pub(super) fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Option<&'a [u8]> {
    match row.get_ref(column) {
        Ok(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => Some(bytes),
        Ok(ValueRef::Null) | Err(_) => None,
        Ok(ValueRef::Integer(_) | ValueRef::Real(_)) => Some(b"\0a number"),
    }
}
