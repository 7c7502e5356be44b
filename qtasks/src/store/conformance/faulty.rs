//! [`Faulty`]: a store that can't be relied on, and [`Persistent`]: a caller that gets by with one.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::wrapping::operations;
use super::*;

/// What goes wrong with a [`Faulty`] store, in which operations, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// Another seed spreads the faults in another way. Defaults to 0.
    pub seed: u64,
    /// Per cent of the calls that fail before anything is done. Defaults to 10.
    pub refused_percent: u64,
    /// Per cent of the calls that are done, and fail all the same. Defaults to 10.
    pub lost_percent: u64,
    /// Per cent of the calls that take their time. Defaults to 20.
    pub slow_percent: u64,
    /// The operations that are disturbed. Defaults to all.
    pub disturbed: &'static [Operation],
    /// Those of them whose answers may be lost. Defaults to all.
    pub lost: &'static [Operation],
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            seed: 0,
            refused_percent: 10,
            lost_percent: 10,
            slow_percent: 20,
            disturbed: Operation::ALL,
            lost: Operation::ALL,
        }
    }
}

/// A store that fails before it has done anything, does something and loses the answer, or takes its time. Both
/// failures are [`Unavailable`](ErrorKind::Unavailable): who calls can't tell one from the other.
///
/// What happens to a call depends on the seed and on how many disturbed operations were called before it, nothing else.
#[derive(Debug)]
pub struct Faulty {
    store: Arc<dyn Store>,
    faults: Faults,
    /// Shared by those of all runtimes.
    calls: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Refused,
    Lost,
    /// Others run first, so many times.
    Behind(u64),
    Slow,
}

impl Faulty {
    /// Wraps a store.
    pub fn new(store: Arc<dyn Store>, faults: Faults) -> Arc<Self> {
        Arc::new(Faulty { store, faults, calls: Arc::default() })
    }

    /// What goes wrong with the next call.
    fn next(&self, operation: Operation) -> Option<Fault> {
        let Faults { seed, refused_percent, lost_percent, slow_percent, disturbed, lost } = self.faults;
        if !disturbed.contains(&operation) {
            return None;
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let random = spread(spread(seed).wrapping_add(call));
        let (chance, more) = (random % 100, random >> 32);
        let fails = refused_percent + lost_percent;
        match chance {
            _ if chance < refused_percent => Some(Fault::Refused),
            _ if chance < fails => lost.contains(&operation).then_some(Fault::Lost),
            _ if chance < fails + slow_percent && more % 8 == 0 => Some(Fault::Slow),
            _ if chance < fails + slow_percent => Some(Fault::Behind(more % 3 + 1)),
            _ => None,
        }
    }

    fn disturbed<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        call: impl FnOnce() -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        let unavailable = move |what: &str| Error::new(ErrorKind::Unavailable, format!("{operation:?}: {what}"));
        let fault = self.next(operation);
        Box::pin(async move {
            match fault {
                None => {}
                Some(Fault::Refused) => return Err(unavailable("the store can't be reached")),
                Some(Fault::Lost) => {
                    drop(call().await);
                    return Err(unavailable("the answer of the store is lost"));
                }
                Some(Fault::Behind(turns)) => {
                    for _ in 0..turns {
                        tokio::task::yield_now().await;
                    }
                }
                Some(Fault::Slow) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
            call().await
        })
    }
}

/// The last steps of SplitMix64: numbers that follow each other come out far apart.
fn spread(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

macro_rules! disturbed {
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            self.disturbed(Operation::$variant, move || self.store.$name($($arg),*))
        }
    )* };
}

impl Store for Faulty {
    operations!(disturbed);

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        self.disturbed(Operation::Watch, move || self.store.watch(interest))
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        let wrapped = async move {
            let store = self.store.on_this_runtime().await?;
            let calls = Arc::clone(&self.calls);
            Ok(Arc::new(Faulty { store, faults: self.faults, calls }) as Arc<dyn Store>)
        };
        self.disturbed(Operation::OnThisRuntime, move || Box::pin(wrapped))
    }

    fn durability(&self) -> &'static str {
        self.store.durability()
    }

    fn retention(&self) -> Prune {
        self.store.retention()
    }

    fn now(&self) -> Option<std::time::SystemTime> {
        self.store.now()
    }
}

/// Repeats what failed with [`Unavailable`](ErrorKind::Unavailable), with the very same arguments, until it is
/// answered: what every caller of a store may do.
#[derive(Debug)]
pub struct Persistent(pub Arc<dyn Store>);

impl Persistent {
    /// A store behind faults that its callers do not see, if it keeps what it promises of repeats.
    ///
    /// No answer is lost whose repeat differs, so that the cases of the suite keep their meaning: those operations
    /// have cases of their own, which repeat them.
    pub fn over_faults(store: Arc<dyn Store>, seed: u64) -> Arc<Self> {
        let faults = Faults { seed, lost: Operation::REPEATABLE, ..Faults::default() };
        Arc::new(Persistent(Faulty::new(store, faults)))
    }
}

/// Calls until there is an answer, which comes with the number of calls that it took.
async fn repeated<'a, T>(call: impl Fn() -> Answer<'a, T>) -> Result<(T, u64)> {
    let mut calls = 1;
    loop {
        match call().await {
            Ok(answer) => return Ok((answer, calls)),
            Err(error) if error.kind() == ErrorKind::Unavailable => tokio::task::yield_now().await,
            Err(error) => return Err(error),
        }
        calls += 1;
    }
}

macro_rules! persisted {
    (Add $name:ident($batch:ident: $ty:ty) -> $out:ty; $($rest:tt)*) => {
        fn $name(&self, $batch: $ty) -> Answer<'_, $out> {
            Box::pin(self.added($batch))
        }
        persisted! { $($rest)* }
    };
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            Box::pin(async move { Ok(repeated(|| self.0.$name($($arg.clone()),*)).await?.0) })
        }
    )* };
}

impl Persistent {
    /// A repeat finds what the call before it stored: whether that was new is only known by looking first.
    async fn added(&self, batch: Vec<NewTask>) -> Result<Vec<Added>> {
        let ids: Vec<TaskId> = batch.iter().map(|task| task.id).collect();
        let before = self.get(ids.clone()).await?;
        let mut known: HashSet<TaskId> = before.into_iter().flatten().map(|record| record.id).collect();
        let (mut added, calls) = repeated(|| self.0.add(batch.clone())).await?;
        if calls > 1 {
            for (id, added) in ids.into_iter().zip(&mut added) {
                added.existed = added.id != id || !known.insert(id);
            }
        }
        Ok(added)
    }
}

impl Store for Persistent {
    operations!(persisted);

    fn watch(&self, interest: Arc<Interest>) -> Answer<'_, Hints> {
        Box::pin(async move { Ok(repeated(|| self.0.watch(Arc::clone(&interest))).await?.0) })
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let (store, _) = repeated(|| self.0.on_this_runtime()).await?;
            Ok(Arc::new(Persistent(store)) as Arc<dyn Store>)
        })
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
