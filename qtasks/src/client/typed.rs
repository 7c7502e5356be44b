//! [`Yielding`]: a task function of which but the type of its values is known.

use serde::de::DeserializeOwned;

use crate::erased;
use crate::task::{AnyTask, Codec, Generates, TaskFn, TaskSpec, Value};

pub(super) struct Yielding<T>(std::marker::PhantomData<fn() -> T>);

impl<T: DeserializeOwned + 'static> TaskFn for Yielding<T> {
    type Yield = T;
    type Returning = Vec<T>;
    type Final = serde_json::Value;
    const NAME: &'static str = AnyTask::NAME;

    fn spec() -> &'static TaskSpec {
        AnyTask::spec()
    }

    fn __codec() -> Codec<Self> {
        Codec::generating(Value::read_only(), erased::value())
    }
}

impl<T: DeserializeOwned + 'static> Generates for Yielding<T> {}
