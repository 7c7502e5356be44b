//! The rows of a log: each is one append, and is read whole or refused.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::super::life::Life;
use super::cells::{Damage, bytes};
use super::sums::{Sum, join, large, split};
use crate::event::{EventBatch, EventCode, Stamp};
use crate::json::Json;
use crate::task::time::from_ms;

/// The value of the last yield that holds; why not, if the log is damaged there.
pub(super) fn last_yield_of(db: &Connection, n: i64, life: &Life) -> rusqlite::Result<Result<Option<Json>, Damage>> {
    let Some(wanted) = life.yields.checked_sub(1) else { return Ok(Ok(None)) };
    let sql = "SELECT seq, epoch, attempt, at, count, heads, sum, data FROM log WHERE n = ?1 ORDER BY seq DESC";
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([n])?;
    while let Some(row) = rows.next()? {
        let Some(batch) = batch(n, row)? else { break };
        let holds = |e: &crate::event::EventRef<'_>| {
            e.code == EventCode::Yield && e.index == wanted && !crate::event::is_void(e, &life.rewinds)
        };
        if let Some(event) = batch.iter().rev().find(holds) {
            return Ok(Ok(Some(event.json())));
        }
    }
    Ok(Err(Damage::new(format!("its log does not have value {wanted}, which is its last"))))
}

/// The first half of the checksum of a log row.
fn half(numbers: &[i64; 6], heads: &[u8]) -> u32 {
    let mut sum = Sum::new();
    for number in numbers {
        sum.integer(*number);
    }
    sum.blob(heads).half()
}

/// Reads the columns seq, epoch, attempt, at, count, heads, sum; not the data. `None` if they are damaged.
pub(super) fn heads<'r>(n: i64, row: &'r Row<'_>) -> rusqlite::Result<Option<(Stamp, usize, &'r [u8])>> {
    let mut numbers = [n, 0, 0, 0, 0, 0];
    for (column, number) in numbers[1..].iter_mut().enumerate() {
        match row.get_ref(column)? {
            ValueRef::Integer(n) => *number = n,
            _ => return Ok(None),
        }
    }
    let Some(heads) = bytes(row, 5) else { return Ok(None) };
    let vouched = match row.get_ref(6)? {
        ValueRef::Null => true,
        ValueRef::Integer(sum) => split(sum).0 == half(&numbers, heads),
        _ => false,
    };
    let number = |i: usize| u64::try_from(numbers[i]).ok();
    let stamp = || {
        let attempt = u32::try_from(numbers[3]).ok()?;
        Some(Stamp { seq: number(1)?, epoch: number(2)?, attempt, at: from_ms(number(4)?) })
    };
    let count = usize::try_from(numbers[5]).ok();
    Ok(stamp().zip(count).filter(|_| vouched).map(|(stamp, count)| (stamp, count, heads)))
}

/// Reads the columns of [`heads`] and the data. `None` if they are damaged.
pub(super) fn batch(n: i64, row: &Row<'_>) -> rusqlite::Result<Option<EventBatch>> {
    let Some((stamp, count, heads)) = heads(n, row)? else { return Ok(None) };
    let Some(data) = bytes(row, 7) else { return Ok(None) };
    let sum: Option<i64> = row.get(6)?;
    if sum.is_some_and(|sum| split(sum).1 != large(Some(data))) {
        return Ok(None);
    }
    let batch = EventBatch::unpacked(stamp, count, heads, data.to_vec());
    Ok(batch.filter(|batch| !batch.is_empty() && (sum.is_some() || batch.is_readable())))
}

/// The checksum of a row that is to be written: of n, seq, epoch, attempt, instant and count, heads and data.
pub(super) fn sum(numbers: &[i64; 6], heads: &[u8], data: &[u8]) -> i64 {
    join(half(numbers, heads), large(Some(data)))
}
