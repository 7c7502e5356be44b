//! The operations of a store as a table, for those that wrap one: [`Copying`], [`Deaf`], [`Faulty`], [`Persistent`],
//! [`Scripted`].
//!
//! `operations!(each)` hands all but `watch`, `on_this_runtime` and `durability` to the macro `each`.

use super::*;

macro_rules! operations {
    ($each:ident) => {
        $each! {
            Add add(batch: Vec<NewTask>) -> Vec<Added>;
            Claim claim(claim: Claim) -> Claimed;
            Sweep sweep(sweep: Sweep) -> Swept;
            Append append(batch: Vec<Append>) -> Vec<Appended>;
            Extend extend(leases: Vec<Lease>, lease: Duration) -> Vec<Extended>;
            Start start(ids: Vec<TaskId>) -> Vec<Option<Status>>;
            Cancel cancel(id: TaskId, reason: String) -> Cancelled;
            Release release(leases: Vec<Lease>) -> ();
            Get get(ids: Vec<TaskId>) -> Vec<Option<TaskRecord>>;
            List list(list: List) -> Listed;
            Stats stats() -> Stats;
            Read read(read: Read) -> Slice;
            Remove remove(ids: Vec<TaskId>) -> Vec<Removed>;
            Prune prune(prune: Prune) -> Pruned;
            DocGet doc_get(key: String) -> Option<Doc>;
            DocPut doc_put(put: DocPut) -> Option<u64>;
            DocList doc_list(prefix: String) -> Vec<Doc>;
        }
    };
}

pub(crate) use operations;

macro_rules! named {
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        /// An operation of a [`Store`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $(#[doc = concat!("[`", stringify!($name), "`](Store::", stringify!($name), ").")] $variant,)*
            /// [`watch`](Store::watch).
            Watch,
            /// [`on_this_runtime`](Store::on_this_runtime).
            OnThisRuntime,
        }

        impl Operation {
            /// All that can fail.
            pub const ALL: &[Operation] = &[$(Operation::$variant,)* Operation::Watch, Operation::OnThisRuntime];
        }
    };
}

operations!(named);

impl Operation {
    /// Those that answer the same when they are repeated after an answer that was lost.
    ///
    /// The others do no harm when repeated, but answer for what they find then: `cancel` that the task has ended,
    /// `doc_put` that the version is another, `remove` that the task is not there, `sweep` and `prune` that there was less to do. A second `watch` begins
    /// a second stream of hints.
    pub const REPEATABLE: &[Operation] = &[
        Operation::Add,
        Operation::Claim,
        Operation::Append,
        Operation::Extend,
        Operation::Start,
        Operation::Release,
        Operation::Get,
        Operation::List,
        Operation::Stats,
        Operation::Read,
        Operation::DocGet,
        Operation::DocList,
        Operation::OnThisRuntime,
    ];
}

/// A store that gives no hints at all.
#[derive(Debug)]
pub struct Deaf(pub Arc<dyn Store>);

macro_rules! passed_on {
    ($($variant:ident $name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => { $(
        fn $name(&self, $($arg: $ty),*) -> Answer<'_, $out> {
            self.0.$name($($arg),*)
        }
    )* };
}

impl Store for Deaf {
    operations!(passed_on);

    fn watch(&self, _: Arc<Interest>) -> Answer<'_, Hints> {
        Box::pin(async { Ok(futures::stream::pending().boxed()) })
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move { Ok(Arc::new(Deaf(self.0.on_this_runtime().await?)) as Arc<dyn Store>) })
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
