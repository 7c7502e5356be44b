//! Claims: which tasks a worker gets.

use std::collections::{HashSet, VecDeque};

use rusqlite::{Connection, OptionalExtension as _};

use super::super::limits::{Gates, Under};
use super::super::{Claim, Claimed, ClaimedTask};
use super::limits::next_claim;
use super::rows::{self, Changed, Whole, signed};
use super::tx::{Outcome, Tx, is_ready};
use crate::task::Status;

/// So many tasks that are due are queued by one claim.
const PROMOTE: usize = 1_000;

/// A claim passes over so many tasks of a pair that are too late to start.
const LATE: usize = 1_000;

impl Tx<'_> {
    pub(super) fn claim(&mut self, claim: &Claim) -> Outcome<Claimed> {
        let token = claim.token.cast_signed();
        self.state()?.mark.lease(claim.lease);
        // As bytes: one that can't be read is as one that gave nothing.
        let again: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT CAST(tasks AS BLOB) FROM claim WHERE worker = ?1 AND token = ?2")?
            .query_row((&claim.worker, token), |row| row.get(0))
            .optional()?;
        let mut tasks = Vec::new();
        if let Some(again) = again {
            for n in serde_json::from_slice::<Vec<i64>>(&again).unwrap_or_default() {
                let Some(mut task) = self.rows.by_n(n)? else { continue };
                if task.damage.is_none() && task.life.claim_again(&claim.worker, claim.lease, self.now) {
                    self.rows.save(&task.place, &task.life, Changed::Claim)?;
                    tasks.extend(self.claimed(task)?);
                }
            }
            let next_due = next_claim(self.db, claim, &self.gates(claim)?, self.now)?;
            return Ok(Claimed { tasks, next_due });
        }
        // Not all, if a million are due at once: the rest can wait for the sweep.
        self.promote(claim.max.max(PROMOTE))?;
        let mut gates = self.gates(claim)?;
        let mut lines = self.lines(claim, &gates)?;
        let (mut given, mut refused) = (Vec::new(), 0);
        while tasks.len() < claim.max && refused < LATE {
            let Some(line) = next(&mut lines, &gates) else { break };
            let n = line.heads.pop_front().expect("it has one").2;
            match self.claim_one(n, claim)? {
                Some(task) => {
                    line.allowance -= 1;
                    gates.start(&line.under);
                    given.push(n);
                    tasks.push(task);
                }
                None => refused += 1,
            }
            if line.heads.is_empty() && line.allowance > 0 {
                line.fill(self.db, claim.max - tasks.len(), self.now)?;
            }
        }
        self.keep_rates(&gates)?;
        if tasks.len() == claim.max {
            self.hint_left(claim, &gates)?;
        }
        let sql = "INSERT INTO claim (worker, token, at, tasks) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET token = excluded.token, at = excluded.at, tasks = excluded.tasks";
        self.db.prepare_cached(sql)?.execute((&claim.worker, token, signed(self.now), rows::text(&given)))?;
        Ok(Claimed { tasks, next_due: next_claim(self.db, claim, &gates, self.now)? })
    }

    /// Gives one task to a worker; `None` if it fails instead, for what is stored of it is damaged.
    fn claim_one(&mut self, n: i64, claim: &Claim) -> rusqlite::Result<Option<ClaimedTask>> {
        let Some(mut task) = self.rows.by_n(n)? else { return Ok(None) };
        if task.damage.is_some() {
            // Its pair may be what is damaged.
            if !self.heal_pairs()? {
                self.condemn_whole(task)?;
                return Ok(None);
            }
            let Some(healed) = self.rows.by_n(n)? else { return Ok(None) };
            task = healed;
            if task.damage.is_some() {
                self.condemn_whole(task)?;
                return Ok(None);
            }
        }
        let pair = task.place.pair;
        task.life.claim(&claim.worker, claim.lease, self.now);
        self.rows.save(&task.place, &task.life, Changed::Claim)?;
        self.count(pair, Status::Queued, -1);
        self.count(pair, Status::Running, 1);
        self.claimed(task)
    }

    /// What a worker gets of a task that is its own by now.
    fn claimed(&mut self, task: Whole) -> rusqlite::Result<Option<ClaimedTask>> {
        let n = task.place.n;
        match self.rows.claimed(task)? {
            Ok(task) => Ok(Some(task)),
            Err(damage) => {
                if let Some(mut found) = self.rows.find_by_n(n)? {
                    found.damage = Some(damage);
                    self.refuse(&mut found)?;
                }
                Ok(None)
            }
        }
    }

    /// Another worker may have room for what this one left.
    fn hint_left(&mut self, claim: &Claim, gates: &Gates<'_>) -> rusqlite::Result<()> {
        for offer in claim.offers.iter().filter(|o| gates.lets(o)) {
            if let Some(pair) = self.known_pair(&offer.queue, &offer.name)?
                && is_ready(self.db, pair)?
            {
                self.hint_ready(pair)?;
            }
        }
        Ok(())
    }

    /// The heads of the queues of the offered pairs.
    fn lines(&mut self, claim: &Claim, gates: &Gates<'_>) -> rusqlite::Result<Vec<Line>> {
        let mut lines = Vec::new();
        let mut offered = HashSet::new();
        for offer in claim.offers.iter().filter(|o| o.allowance > 0) {
            if !offered.insert((&offer.queue, &offer.name)) {
                continue;
            }
            let Some(under) = gates.under(offer).filter(|under| !gates.is_full(under)) else { continue };
            let Some(pair) = self.known_pair(&offer.queue, &offer.name)? else { continue };
            // With many pairs most give nothing: one look at each tells.
            let first = if claim.offers.len() > 4 { 1 } else { claim.max };
            let mut line = Line { pair, allowance: offer.allowance, under, heads: VecDeque::new(), last: None };
            line.fill(self.db, first, self.now)?;
            lines.push(line);
        }
        Ok(lines)
    }
}

/// The pair of which the most urgent task is next: the heads of their queues are merged.
fn next<'a>(lines: &'a mut [Line], gates: &Gates<'_>) -> Option<&'a mut Line> {
    let open = |l: &&mut Line| l.allowance > 0 && !l.heads.is_empty() && !gates.is_full(&l.under);
    lines.iter_mut().filter(open).min_by_key(|l| l.heads[0])
}

/// What is ready of one pair, the next first.
struct Line {
    pair: i64,
    allowance: u32,
    under: Under,
    /// Priority, due, *n*.
    heads: VecDeque<(i64, i64, i64)>,
    last: Option<(i64, i64, i64)>,
}

impl Line {
    /// Reads on. What is too late to start is passed over, for `sweep` to end; but a claim does not look for long for
    /// what may be behind it.
    fn fill(&mut self, db: &Connection, max: usize, now: u64) -> rusqlite::Result<()> {
        let sql = "SELECT priority, due, n, attempt = 0 AND expires IS NOT NULL AND expires <= ?5 FROM task \
             WHERE status = 2 AND pair = ?1 AND (priority, due, n) > (?2, ?3, ?4) ORDER BY priority, due, n";
        let (priority, due, n) = self.last.unwrap_or((i64::MIN, i64::MIN, i64::MIN));
        let wanted = max.min(usize::try_from(self.allowance).unwrap_or(usize::MAX)).max(1);
        let mut statement = db.prepare_cached(sql)?;
        let mut found = statement.query((self.pair, priority, due, n, signed(now)))?;
        let mut late = 0;
        while self.heads.len() < wanted
            && late < LATE
            && let Some(row) = found.next()?
        {
            let head = (row.get(0)?, row.get(1)?, row.get(2)?);
            self.last = Some(head);
            if row.get::<_, bool>(3)? {
                late += 1;
            } else {
                self.heads.push_back(head);
            }
        }
        Ok(())
    }
}
