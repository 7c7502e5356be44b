//! Does the error of a body say whether to try again? The macro can't tell: this can, from the type.

use std::error::Error;
use std::marker::PhantomData;

use crate::retry::{Retry, Wish};
use crate::task::TaskFailure;

/// Reads what an error wants.
pub trait Wishes<E> {
    /// That.
    fn wish(error: &E) -> Wish;
}

/// How an error of a type is read: as [`wish_kind`] says.
#[derive(Debug)]
pub struct WishOf<const KIND: u8>;

/// An error that can't be looked into, such as a `String`.
impl<E> Wishes<E> for WishOf<0> {
    #[inline(always)]
    fn wish(_: &E) -> Wish {
        Wish::None
    }
}

/// An error of its own type.
impl<E: Error + 'static> Wishes<E> for WishOf<1> {
    fn wish(error: &E) -> Wish {
        Retry::wish_of(error)
    }
}

/// A boxed error: `Box<dyn Error + Send + Sync>`, `anyhow::Error`.
impl<E: AsRef<dyn Error + Send + Sync + 'static>> Wishes<E> for WishOf<2> {
    fn wish(error: &E) -> Wish {
        Retry::wish_of(error.as_ref())
    }
}

/// Tells what a concrete type of error is: an inherent constant wins over the trait's.
#[derive(Debug)]
pub struct WishProbe<E>(PhantomData<E>);

/// What [`WishProbe`] says of any other type.
pub trait WishFallback {
    /// No.
    const IS_ERROR: bool = false;
    /// No.
    const IS_BOXED: bool = false;
}

impl<E> WishFallback for WishProbe<E> {}

impl<E: Error + 'static> WishProbe<E> {
    /// Yes.
    pub const IS_ERROR: bool = true;
}

impl<E: AsRef<dyn Error + Send + Sync + 'static>> WishProbe<E> {
    /// Yes.
    pub const IS_BOXED: bool = true;
}

/// The number of a [`WishOf`].
pub const fn wish_kind(is_error: bool, is_boxed: bool) -> u8 {
    match (is_error, is_boxed) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    }
}

/// Of what `retry_on = …` is asked.
#[derive(Debug)]
pub enum Failed<'a, E> {
    /// An error of the body.
    With(&'a E),
    /// Any failure.
    As(&'a TaskFailure),
}

/// What `retry_on = …` takes, for a task whose error is an `E`.
#[diagnostic::on_unimplemented(
    message = "`retry_on` can't ask `{Self}` about this task",
    label = "not a function of the task's failure",
    note = "`retry_on` takes a function `fn(&E) -> bool`, E being the error in the task's `Result`, or `fn(&TaskFailure) -> bool`"
)]
pub trait RetryOn<E, M>: Sized {
    /// Whether to try again; yes, where it is asked about what it does not take.
    fn judged(self, failed: Failed<'_, E>) -> bool;
}

/// A predicate on the task's own error: of other failures it says nothing.
#[derive(Debug)]
pub struct ByError;

/// A predicate on the failure.
#[derive(Debug)]
pub struct ByFailure;

impl<E, F: Fn(&E) -> bool> RetryOn<E, ByError> for F {
    fn judged(self, failed: Failed<'_, E>) -> bool {
        if let Failed::With(error) = failed { self(error) } else { true }
    }
}

impl<E, F: Fn(&TaskFailure) -> bool> RetryOn<E, ByFailure> for F {
    fn judged(self, failed: Failed<'_, E>) -> bool {
        if let Failed::As(failure) = failed { self(failure) } else { true }
    }
}

/// Asks what `retry_on = …` names. The one place that asks what it must be.
pub fn judged<E, M, F: RetryOn<E, M>>(retry_on: F, failed: Failed<'_, E>) -> bool {
    retry_on.judged(failed)
}
