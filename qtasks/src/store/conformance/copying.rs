//! [`Copying`]: a store behind bytes, so that nothing works by sharing memory.

use serde::de::DeserializeOwned;

use super::*;

/// Passes every argument and every answer of another store through JSON.
#[derive(Debug)]
pub struct Copying(pub Arc<dyn Store>);

fn copy<T: Serialize + DeserializeOwned>(value: T) -> T {
    let text = serde_json::to_vec(&value).expect("it can be written");
    drop(value);
    serde_json::from_slice(&text).expect("it can be read again")
}

/// Copies what goes in and what comes out of each operation.
macro_rules! copied {
    ($($name:ident($arg:ident: $ty:ty) -> $out:ty;)*) => { $(
        fn $name(&self, $arg: $ty) -> Answer<'_, $out> {
            Box::pin(async move { self.0.$name(copy($arg)).await.map(copy) })
        }
    )* };
}

impl Store for Copying {
    copied! {
        add(batch: Vec<NewTask>) -> Vec<Added>;
        claim(claim: Claim) -> Claimed;
        sweep(sweep: Sweep) -> Swept;
        append(batch: Vec<Append>) -> Vec<Appended>;
        start(ids: Vec<TaskId>) -> Vec<Option<Status>>;
        release(leases: Vec<Lease>) -> ();
        get(ids: Vec<TaskId>) -> Vec<Option<TaskRecord>>;
        list(list: List) -> Listed;
        read(read: Read) -> Slice;
        prune(prune: Prune) -> Pruned;
        doc_get(key: String) -> Option<Doc>;
        doc_put(put: DocPut) -> Option<u64>;
        doc_list(prefix: String) -> Vec<Doc>;
    }

    fn extend(&self, leases: Vec<Lease>, lease: Duration) -> Answer<'_, Vec<Extended>> {
        Box::pin(async move { self.0.extend(copy(leases), lease).await.map(copy) })
    }

    fn cancel(&self, id: TaskId, reason: String) -> Answer<'_, Cancelled> {
        Box::pin(async move { self.0.cancel(copy(id), copy(reason)).await.map(copy) })
    }

    fn stats(&self) -> Answer<'_, Stats> {
        Box::pin(async move { self.0.stats().await.map(copy) })
    }

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        Box::pin(async move { Ok(self.0.watch(interest).await?.map(copy).boxed()) })
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move { Ok(Arc::new(Copying(self.0.on_this_runtime().await?)) as Arc<dyn Store>) })
    }

    fn durability(&self) -> &'static str {
        self.0.durability()
    }

    fn retention(&self) -> Prune {
        self.0.retention()
    }
}
