//! Reading logs and lists from any store, with the guarantee that a loop over pages comes to an end.
//!
//! Invariant: every reader in this crate gets its pages from here. A page that does not go on from where it was asked to,
//! that has gaps, or that brings nothing although the log has more is an error of kind
//! [`Damaged`](ErrorKind::Damaged); it is never asked for again and again.

use super::{List, Listed, Read, Slice, Store, What};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventCode;
use crate::task::{TaskId, TaskRecord};

/// Reads a page of a log and checks it.
///
/// # Errors
/// As [`Store::read`]; [`Damaged`](ErrorKind::Damaged), naming the task and the place, for a page that can't be right.
pub(crate) async fn read(store: &dyn Store, read: Read) -> Result<Slice> {
    checked(read, store.read(read).await?)
}

/// Reads the page after another one. Lets other tasks of the runtime run first: a store that answers at once would keep
/// a thread for as long as the log is.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_on(store: &dyn Store, next: Read) -> Result<Slice> {
    tokio::task::yield_now().await;
    read(store, next).await
}

/// The error for a log of which the stored data can't be right, at `seq`.
pub(crate) fn damaged(id: TaskId, seq: u64, what: &str) -> Error {
    let way_out = "restore the store from a copy, or read the values before that place";
    Error::new(ErrorKind::Damaged, format!("the log of task {id} is damaged at seq {seq}: {what}; {way_out}"))
}

/// Checks a page that was asked for by `read`.
///
/// # Errors
/// [`Damaged`](ErrorKind::Damaged).
pub(crate) fn checked(read: Read, slice: Slice) -> Result<Slice> {
    match fault(read, &slice) {
        None => Ok(slice),
        Some((seq, what)) => Err(damaged(read.id, seq, what)),
    }
}

/// The place where a page is wrong, and how.
fn fault(read: Read, slice: &Slice) -> Option<(u64, &'static str)> {
    let from = read.from_seq.max(1);
    if read.what != What::Events {
        return hashes_fault(from, slice);
    }
    let mut next = from;
    let mut index = None;
    for batch in &slice.events {
        if batch.first_seq() != next || batch.is_empty() {
            return Some((next, "the events do not follow each other"));
        }
        next = batch.end_seq();
        if next > slice.tail.saturating_add(1) {
            return Some((slice.tail, "it goes on behind its last event"));
        }
        for event in batch.iter() {
            if event.code.is_end() != (slice.ended && event.seq == slice.tail) {
                return Some((event.seq, "its end is not where its task has ended"));
            }
            match (event.code, index) {
                (EventCode::Yield, Some(expected)) if expected != event.index => {
                    return Some((event.seq, "the indexes of its values do not follow each other"));
                }
                (EventCode::Yield, _) => index = event.index.checked_add(1),
                (EventCode::Rewind, Some(yields)) if event.index > yields => {
                    return Some((event.seq, "it takes back values that it never had"));
                }
                (EventCode::Rewind, _) => index = Some(event.index),
                _ => {}
            }
        }
    }
    let more = from <= slice.tail && read.limit > 0;
    if more && slice.events.is_empty() {
        return Some((from, "events are missing"));
    }
    (slice.next_seq != next).then_some((next, "the next page is not where this one ends"))
}

fn hashes_fault(from: u64, slice: &Slice) -> Option<(u64, &'static str)> {
    let mut last = None;
    for hashed in &slice.hashes {
        if hashed.seq < from || hashed.seq >= slice.next_seq || last.is_some_and(|last| hashed.seq <= last) {
            return Some((hashed.seq, "the events do not follow each other"));
        }
        last = Some(hashed.seq);
    }
    let stays = slice.next_seq <= from && from <= slice.tail;
    stays.then_some((from, "events are missing"))
}

/// All pages of a list, one after the other.
pub(crate) struct Pages<'a> {
    store: &'a dyn Store,
    list: List,
    over: bool,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(store: &'a dyn Store, list: List) -> Self {
        Pages { store, list, over: false }
    }

    /// Returns the next page; `None` after the last.
    ///
    /// # Errors
    /// As [`Store::list`]; [`Damaged`](ErrorKind::Damaged) for a page that leads back to itself.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<TaskRecord>>> {
        if self.over {
            return Ok(None);
        }
        if self.list.cursor.is_some() {
            tokio::task::yield_now().await;
        }
        let Listed { tasks, next } = self.store.list(self.list.clone()).await?;
        self.over = next.is_none();
        if next.is_some() && next == self.list.cursor {
            let message = "a list of tasks comes to no end: its next page is the same again";
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        self.list.cursor = next;
        Ok(Some(tasks))
    }

    /// Returns the records of all pages together.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) async fn all(mut self) -> Result<Vec<TaskRecord>> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
        }
        Ok(all)
    }
}
