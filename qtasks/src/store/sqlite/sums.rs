//! Checksums of rows: what was stored is what is read, or the row is refused.
//!
//! A checksum is one number of two halves of XXH3-64 each cut to 32 bits: the first half covers the columns that are
//! always read together, the second one what may be large and is not always needed. A row without a checksum comes from
//! a file, or from a process, of an earlier version; it is taken as it is.
//!
//! A file that an earlier version has written gets checksums from the first time on that a process opens it alone: a
//! process of that version would change rows and leave their checksums behind.

use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, TransactionBehavior};
use xxhash_rust::xxh3::xxh3_64;

/// Gathers what a half of a checksum covers.
#[derive(Default)]
pub(super) struct Sum(Vec<u8>);

impl Sum {
    pub(super) fn new() -> Self {
        Sum(Vec::with_capacity(384))
    }

    pub(super) fn value(&mut self, value: ValueRef<'_>) -> &mut Self {
        let (kind, bytes): (u8, &[u8]) = match &value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(n) => {
                self.0.push(1);
                self.0.extend_from_slice(&n.to_le_bytes());
                return self;
            }
            ValueRef::Real(n) => (2, &n.to_le_bytes()),
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(blob) => (4, blob),
        };
        self.0.push(kind);
        if kind > 1 {
            self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            self.0.extend_from_slice(bytes);
        }
        self
    }

    pub(super) fn integer(&mut self, n: i64) -> &mut Self {
        self.value(ValueRef::Integer(n))
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.value(ValueRef::Text(text.as_bytes()))
    }

    pub(super) fn blob(&mut self, blob: &[u8]) -> &mut Self {
        self.value(ValueRef::Blob(blob))
    }

    pub(super) fn columns(&mut self, row: &Row<'_>, columns: std::ops::Range<usize>) -> rusqlite::Result<&mut Self> {
        for column in columns {
            self.value(row.get_ref(column)?);
        }
        Ok(self)
    }

    /// Returns the first half of a checksum.
    pub(super) fn half(&self) -> u32 {
        cut(xxh3_64(&self.0))
    }

    /// Returns a checksum of which the second half covers nothing.
    pub(super) fn whole(&self) -> i64 {
        join(self.half(), 0)
    }
}

/// Returns the first half of a checksum of some values.
pub(super) fn half(values: &[ValueRef<'_>]) -> u32 {
    let mut sum = Sum::new();
    for value in values {
        sum.value(*value);
    }
    sum.half()
}

fn cut(hash: u64) -> u32 {
    (hash ^ (hash >> 32)) as u32
}

/// Returns the second half of a checksum, of a value that may be large.
pub(super) fn large(value: Option<&[u8]>) -> u32 {
    value.map_or(0, |bytes| cut(xxh3_64(bytes)) | 1)
}

pub(super) fn join(first: u32, second: u32) -> i64 {
    (u64::from(first) << 32 | u64::from(second)).cast_signed()
}

/// Returns the two halves of a checksum.
pub(super) fn split(sum: i64) -> (u32, u32) {
    let sum = sum.cast_unsigned();
    ((sum >> 32) as u32, sum as u32)
}

/// Has rows get checksums from now on, unless a process of an earlier version may have the file open: then none is open
/// when another process has it to itself.
pub(super) fn turn_on(db: &mut Connection) -> rusqlite::Result<()> {
    if are_on(db)? || !is_alone(db)? {
        return Ok(());
    }
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let pairs = {
        let mut pairs = tx.prepare("SELECT pair, queue, name FROM pair")?;
        let pairs = pairs.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
        pairs.collect::<rusqlite::Result<Vec<(i64, _, _)>>>()?
    };
    for (pair, queue, name) in pairs {
        let sql = "INSERT OR REPLACE INTO pair_copy (pair, queue, name, sum) VALUES (?1, ?2, ?3, ?4)";
        tx.execute(sql, (pair, &queue, &name, super::damage::pair_sum(pair, &queue, &name)))?;
    }
    tx.execute("UPDATE state SET sums = 1", [])?;
    tx.commit()
}

/// Whether nobody else has the file open: only then does SQLite leave the WAL.
fn is_alone(db: &Connection) -> rusqlite::Result<bool> {
    let mode = |mode: &str| db.pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0));
    let waits: i64 = db.pragma_query_value(None, "busy_timeout", |row| row.get(0))?;
    db.busy_timeout(Duration::ZERO)?;
    let left = mode("delete");
    db.busy_timeout(Duration::from_millis(waits.cast_unsigned()))?;
    let alone = matches!(&left, Ok(mode) if mode == "delete");
    // Whatever came of it: the WAL is what all of them use.
    super::schema::use_wal(db)?;
    Ok(alone)
}

/// Whether rows of this file get checksums.
pub(super) fn are_on(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("SELECT sums FROM state", [], |row| row.get(0))
}
