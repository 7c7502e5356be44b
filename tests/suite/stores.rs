//! Every store passes the one suite, also behind bytes.

use std::sync::Arc;

use qtasks::Clock;
use qtasks::store::conformance::Copying;
use qtasks::store::sqlite::Durability;
use qtasks::store::{MemoryStore, SqliteStore, Store};

qtasks::store_conformance!(memory, |clock| async move {
    Some(super::MemoryStore::new(clock) as super::Arc<dyn super::Store>)
});
qtasks::store_conformance!(memory_behind_bytes, |clock| async move {
    Some(super::Arc::new(super::Copying(super::MemoryStore::new(clock))) as super::Arc<dyn super::Store>)
});

/// A store in a file of its own, which goes with the test.
fn sqlite(clock: Clock) -> Arc<dyn Store> {
    SqliteStore::new(super::scratch().join("q.db"), Durability::Fast, clock).expect("it opens")
}

qtasks::store_conformance!(sqlite, |clock| async move { Some(super::sqlite(clock)) });
