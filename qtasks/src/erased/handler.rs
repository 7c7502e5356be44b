//! What is done to each yielded item: nothing, or a `generate_handler`.

use std::fmt;
use std::future::{Future, Pending};
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::outcome::{Read, TaskError};
use crate::task::{FailureKind, Never, TaskFailure, Value};

/// What is done to each yielded item of type `I`, to make a value of type `U` of it.
pub enum Pipe<I, T, U> {
    /// Nothing but to read it.
    Direct(Read<I, U>),
    /// A handler takes what is read of it.
    Handler {
        /// How the item is read.
        read: Read<I, T>,
        /// The handler.
        handler: Handler<T, U>,
        /// How items are written to be hashed; `None` where they are not compared with those of another attempt.
        items: Option<Value<T>>,
    },
}

impl<I, T, U> fmt::Debug for Pipe<I, T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Pipe::Direct(_)) { "Direct" } else { "Handler" })
    }
}

/// No handler.
#[inline]
pub fn direct<I, U>(read: Read<I, U>) -> Pipe<I, U, U> {
    Pipe::Direct(read)
}

/// Items go through a handler.
#[inline]
pub fn handled<I, T, U>(read: Read<I, T>, handler: Handler<T, U>, items: Option<Value<T>>) -> Pipe<I, T, U> {
    Pipe::Handler { read, handler, items }
}

/// A handler with its types erased but for what goes in and what comes out: one allocation for a run, or two, and none
/// for a value.
pub struct Handler<T, U>(Box<dyn Handle<T, U> + Send>);

impl<T, U> Handler<T, U> {
    /// Gives it an item, then polls it with `None` until it answers.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, item: Option<T>) -> Poll<Result<U, Box<TaskFailure>>> {
        self.0.poll(cx, item)
    }

    pub(super) fn waits(&self) -> bool {
        self.0.waits()
    }
}

impl<T, U> fmt::Debug for Handler<T, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handler")
    }
}

/// Erases a handler: `T` is what it takes, `U` what it is declared to make of it.
pub fn handler<T, U, O, M, H>(handler: H) -> Handler<T, U>
where
    H: Fn(T) -> O + Send + 'static,
    O: HandlerOutput<U, M, Fut: Send + 'static>,
    U: 'static,
    M: 'static,
{
    Handler(Box::new(WithFuture::<H, O::Fut, (U, M)> { handler, pending: None, _marker: PhantomData }))
}

trait Handle<T, U> {
    fn poll(&mut self, cx: &mut Context<'_>, item: Option<T>) -> Poll<Result<U, Box<TaskFailure>>>;
    fn waits(&self) -> bool;
}

struct WithFuture<H, F, M> {
    handler: H,
    /// The answer to come. The box is kept from item to item.
    pending: Option<Pin<Box<Option<F>>>>,
    _marker: PhantomData<fn() -> M>,
}

impl<T, U, O, M, H> Handle<T, U> for WithFuture<H, O::Fut, (U, M)>
where
    H: Fn(T) -> O,
    O: HandlerOutput<U, M>,
{
    fn poll(&mut self, cx: &mut Context<'_>, item: Option<T>) -> Poll<Result<U, Box<TaskFailure>>> {
        if let Some(item) = item {
            match ((self.handler)(item).handled(), &mut self.pending) {
                (Handled::Now(answer), _) => return Poll::Ready(answer),
                (Handled::Later(future), Some(pending)) => pending.set(Some(future)),
                (Handled::Later(future), none) => *none = Some(Box::pin(Some(future))),
            }
        }
        let pending = self.pending.as_mut().expect("an item was given");
        let future = pending.as_mut().as_pin_mut().expect("a handler is not polled after it answered");
        let answer = ready!(future.poll(cx));
        pending.set(None);
        Poll::Ready(O::answer(answer))
    }

    fn waits(&self) -> bool {
        O::WAITS
    }
}

/// What a handler's output becomes: an answer at once, or a future of one.
#[derive(Debug)]
pub enum Handled<U, F> {
    /// At once.
    Now(Result<U, Box<TaskFailure>>),
    /// After this.
    Later(F),
}

/// The ways in which a handler may answer with a `U`; `M` tells them apart.
#[diagnostic::on_unimplemented(
    message = "`generate_handler` returns `{Self}`, but the declared type of its values is `{U}`",
    label = "does not return `{U}`",
    note = "a handler may be sync or async, and return its value or a `Result` of it whose error implements `Display`",
    note = "declare another type with `generate_handler = path -> Type`"
)]
pub trait HandlerOutput<U, M>: Sized {
    /// What it waits for.
    type Fut: Future;
    /// Whether there is anything to wait for.
    const WAITS: bool;
    /// What the output becomes.
    fn handled(self) -> Handled<U, Self::Fut>;
    /// What becomes of what it waited for.
    ///
    /// # Errors
    /// The handler's own.
    fn answer(output: <Self::Fut as Future>::Output) -> Result<U, Box<TaskFailure>>;
}

/// Answers with a value.
#[derive(Debug)]
pub struct Plain;
/// Answers with a `Result`.
#[derive(Debug)]
pub struct Fallible;
/// Answers later, with a value.
#[derive(Debug)]
pub struct Async;
/// Answers later, with a `Result`.
#[derive(Debug)]
pub struct AsyncFallible;

#[cold]
fn failed(e: &dyn fmt::Display) -> Box<TaskFailure> {
    Box::new(TaskFailure::of(FailureKind::Handler, e))
}

#[diagnostic::do_not_recommend]
impl<U> HandlerOutput<U, Plain> for U {
    type Fut = Pending<Never>;
    const WAITS: bool = false;
    #[inline(always)]
    fn handled(self) -> Handled<U, Self::Fut> {
        Handled::Now(Ok(self))
    }
    fn answer(output: Never) -> Result<U, Box<TaskFailure>> {
        match output {}
    }
}

#[diagnostic::do_not_recommend]
impl<U, E: TaskError> HandlerOutput<U, Fallible> for Result<U, E> {
    type Fut = Pending<Never>;
    const WAITS: bool = false;
    #[inline(always)]
    fn handled(self) -> Handled<U, Self::Fut> {
        Handled::Now(self.map_err(|e| failed(&e)))
    }
    fn answer(output: Never) -> Result<U, Box<TaskFailure>> {
        match output {}
    }
}

#[diagnostic::do_not_recommend]
impl<U, F: Future<Output = U>> HandlerOutput<U, Async> for F {
    type Fut = F;
    const WAITS: bool = true;
    #[inline(always)]
    fn handled(self) -> Handled<U, F> {
        Handled::Later(self)
    }
    fn answer(output: U) -> Result<U, Box<TaskFailure>> {
        Ok(output)
    }
}

#[diagnostic::do_not_recommend]
impl<U, E: TaskError, F: Future<Output = Result<U, E>>> HandlerOutput<U, AsyncFallible> for F {
    type Fut = F;
    const WAITS: bool = true;
    #[inline(always)]
    fn handled(self) -> Handled<U, F> {
        Handled::Later(self)
    }
    fn answer(output: Result<U, E>) -> Result<U, Box<TaskFailure>> {
        output.map_err(|e| failed(&e))
    }
}
