//! The yielder: a slot for one value between a body that yields and whatever polls it.
//!
//! A body is an `async fn` that takes a [`Co`]; `yield x` is `co.put(x).await`. The value goes through a slot on the
//! heap which the generator owns, so it is never copied through the future, and there is a value at the end too.
//! A body that never waits is the same thing polled by an iterator.
//!
//! Invariant: the slot outlives the body, and is touched only while the body is being polled or right after.
#![expect(unsafe_code, reason = "the slot is shared by the body and by what polls it, and the body is pinned in place")]

use std::cell::UnsafeCell;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use futures::Stream;
use futures::stream::FusedStream;

/// Where a body puts the value it yields: memory of its own, so that its address does not depend on where the
/// generator is moved before it is pinned.
struct Slot<T>(UnsafeCell<Option<T>>);

/// The body's end of the slot.
///
/// A raw pointer: it must stay inside the future that the generator it came with owns. Generated code sees to that.
#[doc(hidden)]
pub struct Co<T> {
    slot: NonNull<Slot<T>>,
    // Invariant in `T`: what is put is of the very type that is taken, lifetimes included.
    _t: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Co<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Co<T> {}

// SAFETY: body and consumer are polled as one, through one `Pin<&mut Gen>`; all that crosses threads through a `Co` is
// a `T`, from the body to the consumer, when the whole generator moved between two polls.
unsafe impl<T: Send> Send for Co<T> {}
// SAFETY: a shared `Co` is used only by the one body, and only while that is polled.
unsafe impl<T: Send> Sync for Co<T> {}

impl<T> Co<T> {
    /// Hands a value to the consumer; await what it returns to let the consumer have it.
    #[inline(always)]
    pub fn put(self, value: T) -> Pend {
        // SAFETY: the slot lives as long as the generator, which owns the body that runs this, and nothing else looks
        // at it while the body is polled.
        unsafe { *self.slot.as_ref().0.get() = Some(value) };
        Pend(false)
    }
}

impl<T> fmt::Debug for Co<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Co")
    }
}

/// Pending once, then ready. Nobody is woken: the consumer has a value to take, and polls again for the next.
#[doc(hidden)]
#[derive(Debug)]
#[must_use = "a value is only yielded when this is awaited"]
pub struct Pend(bool);

impl Future for Pend {
    type Output = ();
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        Poll::Pending
    }
}

/// What one step of a generator brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<T, R> {
    /// A value; there may be more.
    Yield(T),
    /// What the body returned: the last step.
    Return(R),
}

/// The generator's end of the slot; frees it.
struct OwnedSlot<T>(NonNull<Slot<T>>);

impl<T> OwnedSlot<T> {
    fn new() -> Self {
        OwnedSlot(NonNull::from(Box::leak(Box::new(Slot(UnsafeCell::new(None))))))
    }

    fn co(&self) -> Co<T> {
        Co { slot: self.0, _t: PhantomData }
    }

    #[inline(always)]
    fn take(&mut self) -> Option<T> {
        // SAFETY: the body, which alone puts, is not being polled: its owner has us by `&mut`.
        unsafe { (*self.0.as_ref().0.get()).take() }
    }
}

impl<T> Drop for OwnedSlot<T> {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak` in `new`, and freed once, here. The body was dropped before: see `Gen`.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: an owned box of an `Option<T>`.
unsafe impl<T: Send> Send for OwnedSlot<T> {}
// SAFETY: nothing reaches the slot through `&OwnedSlot` but `co`, which only copies its address.
unsafe impl<T: Send> Sync for OwnedSlot<T> {}

/// A body that yields values of type `T` and then returns: a [`Stream`] of `T`, with
/// [`take_return`](Gen::take_return) for what came last.
///
/// A direct call of a function marked `#[task(yield = T)]` returns one.
#[must_use = "a generator does nothing until it is polled"]
pub struct Gen<T, F: Future> {
    // Fields are dropped in order: the body before the slot that it points to.
    state: State<F>,
    slot: OwnedSlot<T>,
}

enum State<F: Future> {
    Running(F),
    Returned(F::Output),
    Taken,
}

/// Makes a generator of a body.
///
/// # Safety
///
/// The [`Co`] must stay in the future that `body` returns.
#[doc(hidden)]
#[inline]
pub unsafe fn generator<T, F: Future>(body: impl FnOnce(Co<T>) -> F) -> Gen<T, F> {
    let slot = OwnedSlot::new();
    Gen { state: State::Running(body(slot.co())), slot }
}

impl<T, F: Future> Gen<T, F> {
    /// The next yielded value or, once, what the body returned. Unlike the stream it does not keep that.
    ///
    /// # Panics
    /// If polled after the end.
    #[inline(always)]
    pub fn poll_step(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Step<T, F::Output>> {
        // SAFETY: the body is pinned with us: it is only polled and dropped where it is. The rest is not pinned.
        let me = unsafe { self.get_unchecked_mut() };
        let State::Running(body) = &mut me.state else { polled_after_end() };
        // SAFETY: as above.
        match unsafe { Pin::new_unchecked(body) }.poll(cx) {
            Poll::Pending => me.slot.take().map_or(Poll::Pending, |v| Poll::Ready(Step::Yield(v))),
            Poll::Ready(r) => {
                me.state = State::Taken;
                Poll::Ready(Step::Return(r))
            }
        }
    }

    /// What the body returned, once the stream has ended; `None` before that, and when it was taken.
    pub fn take_return(self: Pin<&mut Self>) -> Option<F::Output> {
        // SAFETY: a running body is not moved.
        let me = unsafe { self.get_unchecked_mut() };
        if matches!(me.state, State::Running(_)) {
            return None;
        }
        match std::mem::replace(&mut me.state, State::Taken) {
            State::Returned(r) => Some(r),
            State::Running(_) | State::Taken => None,
        }
    }
}

#[cold]
fn polled_after_end() -> ! {
    panic!("a generator was polled after its end")
}

impl<T, F: Future> Stream for Gen<T, F> {
    type Item = T;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.is_terminated() {
            return Poll::Ready(None);
        }
        match self.as_mut().poll_step(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Step::Yield(v)) => Poll::Ready(Some(v)),
            Poll::Ready(Step::Return(r)) => {
                // SAFETY: `poll_step` has dropped the body, which alone was pinned.
                unsafe { self.get_unchecked_mut() }.state = State::Returned(r);
                Poll::Ready(None)
            }
        }
    }
}

impl<T, F: Future> FusedStream for Gen<T, F> {
    fn is_terminated(&self) -> bool {
        !matches!(self.state, State::Running(_))
    }
}

/// A generator that can fail: a [`Stream`] of `Result<T, E>` whose error, if any, comes last.
#[must_use = "a generator does nothing until it is polled"]
pub struct TryGen<T, F: Future>(Gen<T, F>);

impl<T, E, F: Future<Output = Result<(), E>>> TryGen<T, F> {
    #[doc(hidden)]
    #[inline]
    pub fn new(generator: Gen<T, F>) -> Self {
        TryGen(generator)
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> Stream for TryGen<T, F> {
    type Item = Result<T, E>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // SAFETY: the only field is pinned with us.
        let inner = unsafe { self.map_unchecked_mut(|s| &mut s.0) };
        poll_try(inner, cx)
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> FusedStream for TryGen<T, F> {
    fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }
}

#[inline]
fn poll_try<T, E, F>(generator: Pin<&mut Gen<T, F>>, cx: &mut Context<'_>) -> Poll<Option<Result<T, E>>>
where
    F: Future<Output = Result<(), E>>,
{
    if generator.is_terminated() {
        return Poll::Ready(None);
    }
    generator.poll_step(cx).map(|step| match step {
        Step::Yield(v) => Some(Ok(v)),
        Step::Return(Ok(())) => None,
        Step::Return(Err(e)) => Some(Err(e)),
    })
}

/// A generator whose body never waits: an [`Iterator`], with [`take_return`](IterGen::take_return) for what came last.
///
/// A direct call of a sync function marked `#[task(yield = T)]` returns one.
#[must_use = "a generator does nothing until it is iterated"]
pub struct IterGen<T, F: Future>(Pin<Box<Gen<T, F>>>);

impl<T, F: Future> IterGen<T, F> {
    #[doc(hidden)]
    #[inline]
    pub fn new(generator: Gen<T, F>) -> Self {
        IterGen(Box::pin(generator))
    }

    /// What the body returned, once the iterator has ended; `None` before that, and when it was taken.
    pub fn take_return(&mut self) -> Option<F::Output> {
        self.0.as_mut().take_return()
    }
}

impl<T, F: Future> Iterator for IterGen<T, F> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        at_once(self.0.as_mut().poll_next(&mut Context::from_waker(Waker::noop())))
    }
}

/// [`TryGen`] for a body that never waits: an [`Iterator`] of `Result<T, E>`.
#[must_use = "a generator does nothing until it is iterated"]
pub struct TryIterGen<T, F: Future>(Pin<Box<Gen<T, F>>>);

impl<T, E, F: Future<Output = Result<(), E>>> TryIterGen<T, F> {
    #[doc(hidden)]
    #[inline]
    pub fn new(generator: Gen<T, F>) -> Self {
        TryIterGen(Box::pin(generator))
    }
}

impl<T, E, F: Future<Output = Result<(), E>>> Iterator for TryIterGen<T, F> {
    type Item = Result<T, E>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        at_once(poll_try(self.0.as_mut(), &mut Context::from_waker(Waker::noop())))
    }
}

#[inline]
fn at_once<T>(poll: Poll<T>) -> T {
    match poll {
        Poll::Ready(v) => v,
        Poll::Pending => unreachable!("the macro refuses `.await` in a sync generator"),
    }
}

macro_rules! debug {
    ($($name:ident),*) => {$(
        impl<T, F: Future> fmt::Debug for $name<T, F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
debug!(Gen, TryGen, IterGen, TryIterGen);

#[cfg(test)]
mod tests;
