//! [`Copying`]: a store behind bytes, so that nothing works by sharing memory.

use serde::de::DeserializeOwned;

use super::wrapping::operations;
use super::*;

/// Passes every argument and every answer of another store through JSON.
#[derive(Debug)]
pub struct Copying(pub Arc<dyn Store>);

fn copy<T: Serialize + DeserializeOwned>(value: T) -> T {
    let text = serde_json::to_vec(&value).expect("it can be written");
    drop(value);
    serde_json::from_slice(&text).expect("it can be read again")
}

macro_rules! copied {
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            Box::pin(async move { self.0.$name($(copy($arg)),*).await.map(copy) })
        }
    )* };
}

impl Store for Copying {
    operations!(copied);

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

    fn now(&self) -> Option<std::time::SystemTime> {
        self.0.now()
    }
}
