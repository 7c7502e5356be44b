//! The limits that a worker claims with: those of the task functions it knows, and those of the queues it serves.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::app::Config;
use crate::registry::Registry;
use crate::store::{Limit, LimitOn};

/// Each worker says with each claim what it goes by: nothing of it is stored, and nothing can be out of date.
pub(super) fn of(registry: &Registry, config: &Config, queues: &BTreeSet<String>) -> Arc<[Limit]> {
    let names = registry.iter().map(|(name, spec)| Limit {
        on: LimitOn::Name(name.to_owned()),
        concurrency: spec.concurrency,
        rate: spec.rate,
    });
    let queues = config.queue_limits.iter().filter(|(queue, _)| queues.contains(*queue));
    let queues = queues.map(|(queue, (concurrency, rate))| Limit {
        on: LimitOn::Queue(queue.clone()),
        concurrency: *concurrency,
        rate: *rate,
    });
    names.chain(queues).filter(|limit| limit.concurrency.is_some() || limit.rate.is_some()).collect()
}
