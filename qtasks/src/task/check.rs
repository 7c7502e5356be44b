//! [`CheckArg`]: whether a value can be read as the type of an argument, asked where a task is added by name.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

/// Reads a value as one type, to see whether it is one.
#[derive(Clone, Copy)]
pub struct CheckArg(fn(&str) -> serde_json::Result<()>);

impl CheckArg {
    pub(crate) fn of(self, json: &str) -> serde_json::Result<()> {
        (self.0)(json)
    }
}

impl fmt::Debug for CheckArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckArg")
    }
}

/// It belongs to the type, which is compared as it is written.
impl PartialEq for CheckArg {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for CheckArg {}

/// Tells how values of a concrete type are checked: the inherent constant wins over the trait's, which is there so that
/// a type that can't be an argument is reported once.
#[derive(Debug)]
pub struct CheckProbe<T: ?Sized>(PhantomData<T>);

/// What [`CheckProbe`] says of a type that can't be read.
pub trait CheckFallback {
    /// Anything goes.
    const CHECK: CheckArg = CheckArg(|_| Ok(()));
}

impl<T: ?Sized> CheckFallback for CheckProbe<T> {}

impl<T: DeserializeOwned> CheckProbe<T> {
    /// As the worker will read it.
    pub const CHECK: CheckArg = CheckArg(|json| serde_json::from_str::<T>(json).map(drop));
}
