//! The thread that renews leases waits for nothing that can take long.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::store::*;
use qtasks::{Status, Store, TaskId, TaskRecord};

use crate::crash::pass::passed_on;
use crate::{scratch, soon, until};

/// Notes what is read on the keeper's thread, and how often that thread sweeps.
#[derive(Debug, Default)]
struct Notes {
    reads: Vec<&'static str>,
    sweeps: u32,
}

#[derive(Debug)]
struct Noted {
    store: Arc<dyn Store>,
    notes: Arc<Mutex<Notes>>,
}

fn is_keeper() -> bool {
    std::thread::current().name() == Some("qtasks-keeper")
}

impl Noted {
    fn read_here(&self, what: &'static str) {
        if is_keeper() {
            self.notes.lock().unwrap().reads.push(what);
        }
    }
}

impl Store for Noted {
    fn read(&self, read: Read) -> Answer<'_, Slice> {
        self.read_here("read");
        self.store.read(read)
    }
    fn get(&self, ids: Vec<TaskId>) -> Answer<'_, Vec<Option<TaskRecord>>> {
        self.read_here("get");
        self.store.get(ids)
    }
    fn list(&self, list: List) -> Answer<'_, Listed> {
        self.read_here("list");
        self.store.list(list)
    }
    fn stats(&self) -> Answer<'_, Stats> {
        self.read_here("stats");
        self.store.stats()
    }
    fn doc_get(&self, key: String) -> Answer<'_, Option<Doc>> {
        self.read_here("doc_get");
        self.store.doc_get(key)
    }
    fn doc_list(&self, prefix: String) -> Answer<'_, Vec<Doc>> {
        self.read_here("doc_list");
        self.store.doc_list(prefix)
    }
    fn sweep(&self, sweep: Sweep) -> Answer<'_, Swept> {
        if is_keeper() {
            self.notes.lock().unwrap().sweeps += 1;
        }
        self.store.sweep(sweep)
    }
    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(Noted { store, notes: Arc::clone(&self.notes) }) as Arc<dyn Store>)
        })
    }
    passed_on!(store; add claim append extend watch rest);
}

/// Watched, scheduled, cancelled, expired, run to its end: whatever a worker does meanwhile.
#[tokio::test]
async fn nothing_is_read_on_the_thread_of_heartbeats() {
    #[task(cancel_when_unwatched = "15s")]
    async fn watched(n: u32) -> u32 {
        for i in 0..n {
            tokio::time::sleep(Duration::from_millis(5)).await;
            yield_!(i);
        }
    }
    #[task(every = "1s")]
    async fn often() {}
    let notes = Arc::new(Mutex::new(Notes::default()));
    let store: Arc<dyn Store> = SqliteStore::open(scratch().join("q.db").to_str().unwrap()).unwrap();
    let store = Arc::new(Noted { store, notes: Arc::clone(&notes) });
    let told = Arc::new(Mutex::new(0));
    let on_cancel = Arc::clone(&told);
    let app = Qtasks::builder().with_store(store).tasks([watched::spec(), often::spec()]);
    let app = app.scan(Duration::from_millis(10)).lease(Duration::from_secs(1)).queues(["default"]);
    let app = app.on_cancel(move |_| *on_cancel.lock().unwrap() += 1).start().await.unwrap();
    let never = watched::add_task(1).on(&app).delay(Duration::from_secs(3600)).await.unwrap();
    watched::add_task(1).on(&app).queue("nobody").expires(Duration::from_millis(20)).await.unwrap();
    never.cancel("not needed").await.unwrap();
    let mut all = watched::iter([5, 6, 7]).on(&app);
    all.run().await.unwrap();
    let task = watched::add_task(100).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.returning.len(), 100);
    assert_eq!(all.result(soon()).await.unwrap().unwrap().len(), 3);
    until(|| *told.lock().unwrap() == 2 && notes.lock().unwrap().sweeps > 20).await;
    assert_eq!(notes.lock().unwrap().reads, [""; 0]);
    app.shutdown().await.unwrap();
}
