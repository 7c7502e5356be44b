//! What claims are limited by, and tasks whose place another takes.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _};

use super::super::life::Life;
use super::super::limits::{Gates, PAUSES, Room, rate_key};
use super::super::{Added, Claim, LimitOn, NewTask, Offer};
use super::cells;
use super::damage::tasks_of;
use super::reads;
use super::rows::{self, Changed, Found, Place, signed};
use super::tx::{ARGS_INLINE, Tx, is_ready, next_due, pair_of};
use crate::task::{Status, TaskId};

/// What stands between a claim and its offers.
pub(super) fn gates<'a>(db: &Connection, claim: &'a Claim, now: u64) -> rusqlite::Result<Gates<'a>> {
    let sql = "SELECT key FROM doc WHERE key >= 'pause/' AND key < 'pause0' AND (expires IS NULL OR expires > ?1)";
    let mut paused = db.prepare_cached(sql)?;
    let mut paused = paused.query([signed(now)])?;
    let mut gates = Gates::default();
    while let Some(row) = paused.next()? {
        gates.paused.extend(row.get_ref(0)?.as_str()?.strip_prefix(PAUSES).map(str::to_owned));
    }
    for limit in &*claim.limits {
        let running = if limit.concurrency.is_some() { running(db, &limit.on)? } else { 0 };
        let kept = if limit.rate.is_some() { kept(db, &limit.on)? } else { None };
        gates.rooms.push(Room::new(limit, running, kept, now));
    }
    Ok(gates)
}

/// What is running, by the counts that have been written.
fn running(db: &Connection, on: &LimitOn) -> rusqlite::Result<u64> {
    let (sql, word) = match on {
        LimitOn::Name(name) => ("SELECT pair FROM pair WHERE name = ?1", name),
        LimitOn::Queue(queue) => ("SELECT pair FROM pair WHERE queue = ?1 AND substr(name, 1, 7) <> 'qtasks.'", queue),
    };
    let mut pairs = db.prepare_cached(sql)?;
    let mut pairs = pairs.query([word])?;
    let mut running = 0;
    while let Some(row) = pairs.next()? {
        running += tasks_of(db, row.get(0)?, Status::Running)?;
    }
    Ok(running)
}

/// How far a rate has got.
fn kept(db: &Connection, on: &LimitOn) -> rusqlite::Result<Option<u64>> {
    let doc = reads::doc(db, &rate_key(on), 0)?;
    Ok(doc.and_then(|doc| Some(u64::from_be_bytes(doc.bytes.try_into().ok()?))))
}

/// How long until there is something to claim that is not there now.
pub(super) fn next_claim(
    db: &Connection,
    claim: &Claim,
    gates: &Gates<'_>,
    now: u64,
) -> rusqlite::Result<Option<Duration>> {
    let mut next = next_due(db, now)?;
    for offer in claim.offers.iter().filter(|o| o.allowance > 0) {
        if let Some(wait) = gates.wait(offer)
            && next.is_none_or(|next| wait < next)
            && is_offered(db, offer)?
        {
            next = Some(wait);
        }
    }
    Ok(next)
}

/// Whether a task of an offer is ready.
pub(super) fn is_offered(db: &Connection, offer: &Offer) -> rusqlite::Result<bool> {
    pair_of(db, &offer.queue, &offer.name)?.map_or(Ok(false), |pair| is_ready(db, pair))
}

impl Tx<'_> {
    /// What stands between a claim and its offers, with what this transaction has done.
    pub(super) fn gates<'c>(&mut self, claim: &'c Claim) -> rusqlite::Result<Gates<'c>> {
        if claim.limits.iter().any(|limit| limit.concurrency.is_some()) {
            self.write_counts()?;
        }
        gates(self.db, claim, self.now)
    }

    /// Keeps how far rates have got, for as long as that matters.
    pub(super) fn keep_rates(&self, gates: &Gates<'_>) -> rusqlite::Result<()> {
        for (on, next) in gates.moved() {
            let key = rate_key(on);
            let version = reads::doc(self.db, &key, 0)?.map_or(0, |doc| doc.version);
            self.put_doc(&key, version + 1, &next.to_be_bytes(), Some(signed(next.div_ceil(1_000_000))))?;
        }
        Ok(())
    }

    /// The task whose place a new one took last, as long as its row is there.
    pub(super) fn replaced(&self, new: TaskId) -> rusqlite::Result<Option<TaskId>> {
        let sql = "SELECT t.id FROM replaced r JOIN task t ON t.n = r.n WHERE r.id = ?1";
        self.db.prepare_cached(sql)?.query_row([new.as_bytes()], |row| cells::id(row, 0)).optional()
    }

    /// Puts a new task in the place of the one that has its unique key. Where that was started, it loses the key.
    pub(super) fn replace(&mut self, id: TaskId, new: &NewTask) -> rusqlite::Result<Option<Added>> {
        let Some(mut found) = self.rows.find(id)? else { return Ok(None) };
        self.refuse(&mut found)?;
        let sound = rows::by_n(self.db, found.place.n)?.is_some_and(|whole| whole.damage.is_none());
        let Found { place, mut life, .. } = found;
        let Place { n, pair, .. } = place;
        let Life { status: before, .. } = life;
        if !sound || !life.replace(new, self.now) {
            self.db.prepare_cached("UPDATE task SET unique_key = NULL WHERE n = ?1")?.execute([n])?;
            if sound {
                self.rows.resum(n)?;
            }
            return Ok(None);
        }
        self.rows.save(&place, &life, Changed::All)?;
        let args = new.args.as_str();
        let inline = args.len() <= ARGS_INLINE;
        self.db.prepare_cached("UPDATE task SET args = ?2 WHERE n = ?1")?.execute((n, inline.then_some(args)))?;
        self.db.prepare_cached("DELETE FROM large_args WHERE n = ?1")?.execute([n])?;
        if !inline {
            self.db.prepare_cached("INSERT INTO large_args (n, args) VALUES (?1, ?2)")?.execute((n, args))?;
        }
        self.rows.resum(n)?;
        self.db.prepare_cached("DELETE FROM replaced WHERE n = ?1")?.execute([n])?;
        self.db.prepare_cached("INSERT INTO replaced (n, id) VALUES (?1, ?2)")?.execute((n, new.id.as_bytes()))?;
        self.count(pair, before, -1);
        self.count(pair, life.status, 1);
        self.hint(pair, &life)?;
        Ok(Some(Added { id, existed: true }))
    }
}
