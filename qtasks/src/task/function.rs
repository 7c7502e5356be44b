//! [`TaskFn`]: what `#[task]` implements, and how values of its types are written and read.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::erased::{self, BoxRun};
use crate::json::encode;
use crate::task::spec::Start;
use crate::task::{TaskFailure, TaskKind, TaskSpec};

/// The type that goes with a task function: `#[task]` implements it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task function",
    note = "put `#[task]` on the function, and name the type that bears the function's name"
)]
pub trait TaskFn: Sized + Send + Sync + 'static {
    /// What is stored for each yield: the handler's output. [`Never`] of a plain task.
    type Yield;
    /// `Vec<Yield>` of a generator, the value of a plain task.
    type Returning;
    /// What a generator returns after its last yield; `()` where it returns nothing, and of a plain task.
    type Final;
    /// The name under which workers know it.
    const NAME: &'static str;
    /// What is registered of it.
    fn spec() -> &'static TaskSpec;
    #[doc(hidden)]
    fn __codec() -> Codec<Self>;
}

/// A task function that yields.
#[diagnostic::on_unimplemented(
    message = "this task yields nothing to stream",
    label = "the task returns once: await it instead"
)]
pub trait Generates: TaskFn {}

/// What a task that does not yield yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}

/// A task function known by its name only: arguments and values are JSON.
#[derive(Debug)]
pub struct AnyTask {}

impl TaskFn for AnyTask {
    type Yield = serde_json::Value;
    type Returning = Vec<serde_json::Value>;
    type Final = serde_json::Value;
    const NAME: &'static str = "";

    fn spec() -> &'static TaskSpec {
        fn start(_: &Context, _: &[u8]) -> Result<BoxRun, TaskFailure> {
            Err(TaskFailure::new(crate::FailureKind::Error, "a task is run by its own function"))
        }
        static SPEC: TaskSpec = TaskSpec::new("", TaskKind::AsyncGen, Start::Async(start));
        &SPEC
    }

    fn __codec() -> Codec<Self> {
        Codec::generating(erased::value(), erased::value())
    }
}

impl Generates for AnyTask {}

/// How values of one type are written and read. Got from `value::<T>()` at one place for both directions, so that a
/// type that can't be sent is reported once.
#[doc(hidden)]
pub struct Value<T> {
    pub(crate) write: fn(&T, &mut Vec<u8>) -> Result<(), serde_json::Error>,
    pub(crate) read: fn(&[u8]) -> Result<T, serde_json::Error>,
}

impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Value<T> {}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value")
    }
}

impl<T: Serialize + DeserializeOwned> Value<T> {
    pub(crate) const fn json() -> Self {
        Value { write: |v, out| encode(v, out), read: |raw| serde_json::from_slice(raw) }
    }
}

#[cfg(feature = "client")]
impl<T: DeserializeOwned> Value<T> {
    /// Of whoever only reads.
    pub(crate) const fn read_only() -> Self {
        Value {
            write: |_, _| Err(serde::ser::Error::custom("it is only read")),
            read: |raw| serde_json::from_slice(raw),
        }
    }
}

impl Value<Never> {
    pub(crate) const fn never() -> Self {
        Value { write: |v, _| match *v {}, read: |_| Err(serde::de::Error::custom("a plain task yields nothing")) }
    }
}

impl Value<()> {
    /// Of a generator that returns nothing: nothing is written, and whatever is there is read as `()`.
    pub(crate) const fn nothing() -> Self {
        Value { write: |(), _| Ok(()), read: |_| Ok(()) }
    }
}

/// How the values of a task function are read from its log.
#[doc(hidden)]
pub struct Codec<F: TaskFn> {
    pub(crate) yields: Value<F::Yield>,
    pub(crate) shape: Shape<F>,
}

pub(crate) enum Shape<F: TaskFn> {
    Generating { collect: fn(Vec<F::Yield>) -> F::Returning, final_value: Value<F::Final> },
    Plain { value: Value<F::Returning>, nothing: fn() -> F::Final },
}

impl<F: TaskFn> fmt::Debug for Codec<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("of", &F::NAME).finish_non_exhaustive()
    }
}

impl<F: TaskFn<Returning = Vec<<F as TaskFn>::Yield>>> Codec<F> {
    /// Of a generator; `final_value` is `nothing()` where it returns nothing.
    pub fn generating(yields: Value<F::Yield>, final_value: Value<F::Final>) -> Self {
        Codec { yields, shape: Shape::Generating { collect: |all| all, final_value } }
    }
}

impl<F: TaskFn<Yield = Never, Final = ()>> Codec<F> {
    /// Of a plain task.
    pub fn plain(value: Value<F::Returning>) -> Self {
        Codec { yields: Value::never(), shape: Shape::Plain { value, nothing: || () } }
    }
}

impl<F: TaskFn> Codec<F> {
    /// Reads what a completed task returned: of a generator the list of its values.
    pub(crate) fn returning(&self, raw: &[u8]) -> Result<F::Returning, serde_json::Error> {
        match &self.shape {
            // By its name alone a plain task looks like a generator: what it returned is all its values.
            Shape::Generating { collect, .. } if F::NAME.is_empty() && !raw.starts_with(b"[") => {
                (self.yields.read)(raw).map(|value| collect(vec![value]))
            }
            Shape::Generating { collect, .. } => {
                let all: Vec<&serde_json::value::RawValue> = serde_json::from_slice(raw)?;
                let all = all.into_iter().map(|raw| (self.yields.read)(raw.get().as_bytes()));
                Ok(collect(all.collect::<Result<_, _>>()?))
            }
            Shape::Plain { value, .. } => (value.read)(raw),
        }
    }

    /// Reads what a completed task returned from its effective yields and its final value.
    pub(crate) fn read<'a>(
        &self,
        yields: impl Iterator<Item = &'a [u8]>,
        final_value: Option<&[u8]>,
    ) -> Result<(F::Returning, F::Final), serde_json::Error> {
        let last = final_value.unwrap_or(b"null");
        match &self.shape {
            Shape::Generating { collect, final_value } => {
                let all: Vec<F::Yield> = yields.map(self.yields.read).collect::<Result<_, _>>()?;
                Ok((collect(all), (final_value.read)(last)?))
            }
            Shape::Plain { value, nothing } => Ok(((value.read)(last)?, nothing())),
        }
    }
}

/// Keeps a type parameter without owning a value of it.
pub(crate) type Of<F> = PhantomData<fn() -> F>;
