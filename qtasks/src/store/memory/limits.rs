//! What claims are limited by, and tasks whose place another takes.

use std::ops::Bound;
use std::time::Duration;

use super::State;
use crate::store::life::Change;
use crate::store::limits::{Gates, PAUSES, Room};
use crate::store::{Added, Claim, Hint, LimitOn, NewTask, Offer};
use crate::task::TaskId;

impl State {
    /// What stands between a claim and its offers.
    pub(super) fn gates<'a>(&self, claim: &'a Claim, now: u64) -> Gates<'a> {
        let pauses = self.docs.range::<str, _>((Bound::Included(PAUSES), Bound::Unbounded));
        let pauses = pauses.map_while(|(key, doc)| Some((key.strip_prefix(PAUSES)?, doc)));
        let paused = pauses.filter(|(_, doc)| doc.expires_at.is_none_or(|at| at > now));
        let mut running = vec![0; claim.limits.len()];
        if claim.limits.iter().any(|limit| limit.concurrency.is_some()) {
            // Counted anew each time, so that nothing can be counted wrong: there are as many as workers have slots.
            for row in self.running.iter().map(|id| &self.rows[id]) {
                for (limit, running) in claim.limits.iter().zip(&mut running) {
                    *running += u64::from(limit.on.covers(&row.queue, &row.name));
                }
            }
        }
        let kept = |on: &LimitOn| self.rates.get(on).copied();
        let rooms = claim.limits.iter().zip(running);
        Gates {
            paused: paused.map(|(queue, _)| queue.to_owned()).collect(),
            rooms: rooms.map(|(limit, running)| Room::new(limit, running, kept(&limit.on), now)).collect(),
        }
    }

    /// Keeps how far rates have got.
    pub(super) fn keep_rates(&mut self, gates: &Gates<'_>) {
        for (on, next) in gates.moved() {
            self.rates.insert(on.clone(), next);
        }
    }

    /// How long until there is something to claim that is not there now.
    pub(super) fn next_claim(&self, claim: &Claim, gates: &Gates<'_>, now: u64) -> Option<Duration> {
        let ready = claim.offers.iter().filter(|o| o.allowance > 0 && self.is_ready(o));
        ready.filter_map(|o| gates.wait(o)).chain(self.next_due(now)).min()
    }

    pub(super) fn is_ready(&self, offer: &Offer) -> bool {
        let names = self.ready.get(&offer.queue);
        names.and_then(|names| names.get(&offer.name)).is_some_and(|places| !places.is_empty())
    }

    /// The task whose place a new one took last, as long as its row is there.
    pub(super) fn replaced(&self, new: TaskId) -> Option<TaskId> {
        self.replaced.get(&new).copied()
    }

    /// Puts a new task in the place of the one that has its unique key. Where that was started, it loses the key.
    pub(super) fn replace(&mut self, id: TaskId, new: &NewTask, now: u64, hints: &mut Vec<Hint>) -> Option<Added> {
        let expires = self.rows[&id].life.expires;
        let replace = |life: &mut crate::store::life::Life| {
            let replaced = life.replace(new, now);
            (replaced, if replaced { Change::Moved } else { Change::None })
        };
        let (replaced, _) = self.change(id, hints, replace)?;
        let row = self.rows.get_mut(&id)?;
        if !replaced {
            row.unique = None;
            return None;
        }
        row.args = new.args.clone();
        if let Some(before) = row.replaced_by.replace(new.id) {
            self.replaced.remove(&before);
        }
        self.replaced.insert(new.id, id);
        if let Some(at) = expires {
            self.expiring.remove(&(at, id));
        }
        if let Some(at) = row.life.expires {
            self.expiring.insert((at, id));
        }
        Some(Added { id, existed: true })
    }
}
