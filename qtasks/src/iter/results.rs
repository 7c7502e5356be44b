//! What comes of an [`Iter`](super::Iter): the types under which it is read.

use std::marker::PhantomData;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};

use crate::app::{Core, current};
use crate::builtin::{self, Returned};
use crate::erased;
use crate::error::{Error, ErrorKind, Result};
use crate::task::{Codec, Generates, Status, TaskFn, TaskId, TaskSpec, Value};

macro_rules! gathered {
    ($($(#[$doc:meta])* $name:ident = $built_in:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<F>(PhantomData<fn() -> F>);

        impl<F: TaskFn> TaskFn for $name<F> {
            type Yield = Result<F::Returning>;
            type Returning = Vec<Result<F::Returning>>;
            type Final = ();
            const NAME: &'static str = $built_in;

            fn spec() -> &'static TaskSpec {
                builtin::get($built_in).expect("there is one of that name")
            }

            fn __codec() -> Codec<Self> {
                let item = Value {
                    write: |_, _| Err(serde_json::Error::custom("results are not written")),
                    read: |raw| serde_json::from_slice(raw).map(|item| read::<F>(&item)),
                };
                Codec::generating(item, erased::nothing())
            }
        }

        impl<F: TaskFn> Generates for $name<F> {}
    )* };
}

gathered! {
    /// The task that gathers the results of an [`Iter`](crate::Iter) of `F`: each of its values is the result of one
    /// item.
    Iterated = builtin::ITER;
    /// The task that gathers the results of a [pipe](crate::AddTask::pipe) into `F`: each of its values is the result
    /// for one value of the source.
    Piped = builtin::PIPE;
}

/// What an item returned.
pub(super) fn read<F: TaskFn>(item: &Returned) -> Result<F::Returning> {
    read_with(item, |value| F::__codec().returning(value))
}

/// The same as a `T`.
pub(super) fn read_as<T: DeserializeOwned>(item: &Returned) -> Result<T> {
    read_with(item, |value| serde_json::from_slice(value))
}

fn read_with<T>(item: &Returned, read: impl FnOnce(&[u8]) -> serde_json::Result<T>) -> Result<T> {
    let Returned { index, id, .. } = item;
    if let Some(failure) = item.failure() {
        return Err(Error::task_failed(format!("task {id}, of argument {index}: {failure}"), failure));
    }
    read(item.value.as_ref().map_or(b"null", |value| value.as_bytes())).map_err(|e| {
        let message = format!("the result of task {id}, of argument {index}, can't be read: {e}");
        Error::new(ErrorKind::Codec, message).with_source(e)
    })
}

/// All items, waiting at most so long for them.
pub(super) async fn items<I: DeserializeOwned>(core: &Core, id: TaskId, wait: Duration) -> Result<Option<Vec<I>>> {
    let record = if wait.is_zero() {
        core.hub.record(id).await?
    } else {
        let _lent = current::lend();
        let Some(record) = core.timed(wait, core.hub.ended(id)).await? else { return Ok(None) };
        record?
    };
    if ![builtin::ITER, builtin::PIPE].contains(&record.name.as_str()) {
        let message = format!("task {id} is a `{}`, not the whole of many: wait for it by its handle", record.name);
        return Err(Error::invalid(message));
    }
    if !record.status.is_ended() {
        return Ok(None);
    }
    if record.status != Status::Completed {
        let failure = record.failure().expect("ended, and not well");
        return Err(Error::task_failed(format!("task {id}: {failure}"), failure));
    }
    let yields = core.hub.yields(id).await?;
    let read = |raw: &[u8]| {
        let wrong = |e| Error::new(ErrorKind::Codec, format!("a result of task {id} can't be read")).with_source(e);
        serde_json::from_slice(raw).map_err(wrong)
    };
    yields.iter().map(read).collect::<Result<Vec<I>>>().map(Some)
}
