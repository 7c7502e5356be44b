//! What values of a task must be, and how they are written and read.

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};

use crate::json::encode;
use crate::task::{Never, Value};

/// What the type of a stored value must be: yielded (after the handler) or returned.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the type of a task's values",
    label = "cannot be sent back from a worker",
    note = "a yielded or returned value must implement `serde::Serialize` and `serde::Deserialize` (owned), and be `Send + 'static`"
)]
pub trait TaskValue: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> TaskValue for T {}

/// What the type of an item must be that a handler turns into a value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be yielded to a handler",
    label = "cannot be compared with what an earlier attempt yielded",
    note = "a second attempt skips what the first one stored, and compares hashes of its JSON: implement `serde::Serialize` (and `Send`)",
    note = "or have a second attempt start over, with `#[task(on_retry = restart)]`"
)]
pub trait TaskItem: Serialize + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Send + 'static> TaskItem for T {}

/// Values of type `T`.
#[inline(always)]
pub const fn value<T: TaskValue>() -> Value<T> {
    Value::json()
}

/// Items of type `T`, which are only hashed.
#[inline(always)]
pub fn item<T: TaskItem>() -> Value<T> {
    Value { write: |item, out| encode(item, out), read: |_| Err(serde_json::Error::custom("items are not read")) }
}

/// Of a plain task, which yields nothing.
pub const fn never() -> Value<Never> {
    Value::never()
}

/// Of a generator that returns nothing.
pub const fn nothing() -> Value<()> {
    Value::nothing()
}
