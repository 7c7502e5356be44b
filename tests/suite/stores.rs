//! Every store passes the one suite: as it is, behind bytes, and under faults.

use std::sync::Arc;

use qtasks::Clock;
use qtasks::store::conformance::{Copying, Persistent};
use qtasks::store::{MemoryStore, Store};

/// A fresh store for a case; `None` where it is not there.
type Opened = Option<Arc<dyn Store>>;

async fn memory(clock: Clock) -> Opened {
    Some(MemoryStore::new(clock))
}

async fn behind_bytes(store: impl Future<Output = Opened>) -> Opened {
    Some(Arc::new(Copying(store.await?)))
}

async fn under_faults(store: impl Future<Output = Opened>) -> Opened {
    // The same faults each time: a case that fails does so again.
    Some(Persistent::over_faults(store.await?, 1))
}

qtasks::store_conformance!(memory, super::memory);
qtasks::store_conformance!(memory_behind_bytes, |clock| super::behind_bytes(super::memory(clock)));
qtasks::store_conformance!(memory_under_faults, |clock| super::under_faults(super::memory(clock)));
