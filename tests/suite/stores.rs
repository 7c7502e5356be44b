//! Every store passes the one suite: as it is, behind bytes, and under faults.

use std::sync::Arc;

use qtasks::Clock;
use qtasks::store::conformance::{Copying, Faults, Faulty, Persistent};
use qtasks::store::sqlite::Durability;
use qtasks::store::{DocPut, MemoryStore, SqliteStore, Store};

/// A fresh store for a case; `None` where it is not there.
type Opened = Option<Arc<dyn Store>>;

async fn memory(clock: Clock) -> Opened {
    Some(MemoryStore::new(clock))
}

async fn sqlite(clock: Clock) -> Opened {
    let store = SqliteStore::new(crate::scratch().join("q.db"), Durability::Fast, clock);
    Some(store.expect("it opens"))
}

async fn behind_bytes(store: impl Future<Output = Opened>) -> Opened {
    Some(Arc::new(Copying(store.await?)))
}

async fn under_faults(store: impl Future<Output = Opened>) -> Opened {
    // The same faults each time, so that a case that fails does so again, unless others are asked for.
    let seed = std::env::var("QTASKS_FAULTS_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    Some(Persistent::over_faults(store.await?, seed))
}

qtasks::store_conformance!(memory, super::memory);
qtasks::store_conformance!(memory_behind_bytes, |clock| super::behind_bytes(super::memory(clock)));
qtasks::store_conformance!(memory_under_faults, |clock| super::under_faults(super::memory(clock)));

qtasks::store_conformance!(sqlite, super::sqlite);
qtasks::store_conformance!(sqlite_behind_bytes, |clock| super::behind_bytes(super::sqlite(clock)));
qtasks::store_conformance!(sqlite_under_faults, |clock| super::under_faults(super::sqlite(clock)));

/// A case that is not in the list would never be run.
#[test]
fn every_case_is_in_the_list() {
    let suite = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../qtasks/src/store/conformance");
    let list = std::fs::read_to_string(suite.with_extension("rs")).unwrap();
    let mut cases = 0;
    for file in std::fs::read_dir(suite).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in source.lines().filter(|line| line.ends_with(") {")) {
            let Some((name, _)) = line.trim().split_once("(store, ") else { continue };
            assert!(list.contains(&format!("            {name},\n")), "the case {name} is in no list");
            cases += 1;
        }
    }
    assert!(cases > 100, "{cases}");
}

#[tokio::test]
async fn a_seed_gives_the_same_faults_again() {
    let faults = async |seed| {
        let faults = Faults { seed, ..Faults::default() };
        let raw = MemoryStore::new(Clock::manual());
        let faulty = Faulty::new(Arc::clone(&raw) as Arc<dyn Store>, faults);
        let (mut answers, mut stored) = (Vec::new(), 0);
        for _ in 0..500 {
            let put = DocPut { key: "k".into(), if_version: None, bytes: Vec::new(), expires: None };
            answers.push(faulty.doc_put(put).await.ok());
            stored = raw.doc_get("k".into()).await.unwrap().map_or(0, |doc| doc.version);
        }
        let lost = stored - answers.iter().flatten().count() as u64;
        let refused = 500 - stored;
        assert!((20..90).contains(&lost) && (20..90).contains(&refused), "{lost} lost, {refused} refused");
        answers
    };
    assert_eq!(faults(7).await, faults(7).await);
    assert_ne!(faults(7).await, faults(8).await);
}
