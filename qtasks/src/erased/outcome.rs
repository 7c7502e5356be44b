//! Is what comes out of a body a `Result`? The macro can't always tell: this can, from the type.

use std::fmt::Display;
use std::marker::PhantomData;

use super::wishes::{WishOf, Wishes};
use crate::task::{FailureKind, Never, TaskFailure};

/// What the error of a task must be.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    label = "does not implement `Display`",
    note = "the text of an error is what is sent back from a worker: implement `std::fmt::Display` for `{Self}`"
)]
pub trait TaskError: Display {}

#[diagnostic::do_not_recommend]
impl<T: Display> TaskError for T {}

/// `Select<true>` reads a value as a `Result`, `Select<false>` as itself.
#[derive(Debug)]
pub struct Select<const RESULT: bool>;

/// What comes out of a body, read as `M` says.
pub trait Outcome<M> {
    /// What it is if all went well.
    type Ok;
    /// What it is if not.
    type Err;
    /// Reads it.
    ///
    /// # Errors
    /// Of kind `error`, with the text of the error that it holds, and what that wants.
    fn outcome<W: Wishes<Self::Err>>(self) -> Result<Self::Ok, Box<TaskFailure>>;
}

/// How what comes out of a body is read.
pub type Read<A, B> = fn(A) -> Result<B, Box<TaskFailure>>;

/// How a `T` is read as `M` says. The one place that asks for the bounds of that.
#[inline(always)]
pub fn outcome<M, T: Outcome<M>>() -> Read<T, T::Ok> {
    T::outcome::<WishOf<0>>
}

/// The same, with what its error wants read as `W` says.
#[inline(always)]
pub fn outcome_with<M, T: Outcome<M>, W: Wishes<T::Err>>() -> Read<T, T::Ok> {
    T::outcome::<W>
}

/// How a `Result` is read whose types are both known. The one place that asks for what its error must be.
#[inline(always)]
pub fn fallible<T, E: TaskError, W: Wishes<E>>() -> Read<Result<T, E>, T> {
    <Result<T, E> as Outcome<Select<true>>>::outcome::<W>
}

impl<T> Outcome<Select<false>> for T {
    type Ok = T;
    type Err = Never;
    #[inline(always)]
    fn outcome<W: Wishes<Never>>(self) -> Result<T, Box<TaskFailure>> {
        Ok(self)
    }
}

impl<T, E: TaskError> Outcome<Select<true>> for Result<T, E> {
    type Ok = T;
    type Err = E;
    #[inline(always)]
    fn outcome<W: Wishes<E>>(self) -> Result<T, Box<TaskFailure>> {
        self.map_err(|e| Box::new(TaskFailure::of(FailureKind::Error, &e).wishing(W::wish(&e))))
    }
}

/// Tells whether a concrete type is a `Result`, also behind an alias: the inherent constant wins over the trait's.
#[derive(Debug)]
pub struct Probe<T>(PhantomData<T>);

/// What [`Probe`] says of any other type.
pub trait ProbeFallback {
    /// No.
    const IS_RESULT: bool = false;
}

impl<T> ProbeFallback for Probe<T> {}

impl<T, E> Probe<Result<T, E>> {
    /// Yes.
    pub const IS_RESULT: bool = true;
}

/// `T` itself, or the `T` of a `Result<T, _>`: [`Outcome::Ok`] without a bound on the error.
pub trait OkOf<T> {
    /// That type.
    type Ok;
    /// The other one of a `Result`.
    type Err;
}

impl<T> OkOf<T> for Select<false> {
    type Ok = T;
    type Err = Never;
}

impl<T, E> OkOf<Result<T, E>> for Select<true> {
    type Ok = T;
    type Err = E;
}
