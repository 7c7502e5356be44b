//! Every store passes the one suite, also behind bytes.

use std::sync::Arc;

use qtasks::store::conformance::Copying;
use qtasks::store::{MemoryStore, Store};

qtasks::store_conformance!(memory, |clock| async move {
    Some(super::MemoryStore::new(clock) as super::Arc<dyn super::Store>)
});
qtasks::store_conformance!(memory_behind_bytes, |clock| async move {
    Some(super::Arc::new(super::Copying(super::MemoryStore::new(clock))) as super::Arc<dyn super::Store>)
});
