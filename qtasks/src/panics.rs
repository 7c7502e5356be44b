//! Calls of user code: a panic becomes a [`TaskFailure`], and nothing that a panic leaves behind panics again.
//!
//! Invariant: no payload of a panic, and no future of user code, is dropped outside of `catch_unwind`.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::task::{FailureKind, TaskFailure};

/// Maximum number of panics that dropping one payload may cause before the last one is leaked.
const DROPS_MAX: usize = 8;

/// Calls user code.
///
/// # Errors
/// A failure of kind `panic`, with the message of the panic.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, TaskFailure> {
    catch_unwind(AssertUnwindSafe(call)).map_err(panicked)
}

/// Turns the payload of a panic into a failure.
#[cold]
pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> TaskFailure {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    discard(payload);
    TaskFailure::new(FailureKind::Panic, text.unwrap_or_else(|| "a panic without a message".to_owned()))
}

/// Drops the payload of a panic, whose own `Drop` may panic with another one.
fn discard(mut payload: Box<dyn Any + Send>) {
    for _ in 0..DROPS_MAX {
        match catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            Ok(()) => return,
            Err(next) => payload = next,
        }
    }
    std::mem::forget(payload);
}

/// Drops a value of user code, and logs the panic of its `Drop`.
pub(crate) fn dropped<T>(value: T, what: &'static str) {
    if let Err(failure) = caught(|| drop(value)) {
        tracing::warn!(%failure, "{what} panicked while it was dropped");
    }
}

/// A future of user code: neither a poll nor a drop of it panics.
pub(crate) struct Contained<F: Future + ?Sized> {
    /// `None` once it is over.
    future: Option<Pin<Box<F>>>,
    what: &'static str,
}

impl<F: Future + ?Sized> Contained<F> {
    /// Contains a future; `what` names it in the log.
    pub(crate) fn new(what: &'static str, future: Pin<Box<F>>) -> Self {
        Contained { future: Some(future), what }
    }
}

impl<F: Future + ?Sized> Future for Contained<F> {
    type Output = Result<F::Output, TaskFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.future.as_mut().expect("a future is not polled after its end");
        let ended = match caught(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(failure) => Err(failure),
        };
        dropped(self.future.take(), self.what);
        Poll::Ready(ended)
    }
}

impl<F: Future + ?Sized> Drop for Contained<F> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            dropped(future, self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// A payload whose `Drop` panics with another one, so many times.
    struct Bomb(usize);

    impl Drop for Bomb {
        fn drop(&mut self) {
            match self.0 {
                0 => {}
                more => panic_any(Bomb(more - 1)),
            }
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_a_failure_like_any_other() {
        for more in [0, 1, 3, 100] {
            let failure = caught(|| panic_any(Bomb(more))).unwrap_err();
            assert_eq!((failure.kind, &*failure.message), (FailureKind::Panic, "a panic without a message"));
        }
        assert_eq!(caught(|| panic!("no {}", 3)).unwrap_err().message, "no 3");
        assert_eq!(caught(|| 3).unwrap(), 3);
    }

    #[test]
    fn a_contained_future_panics_neither_when_polled_nor_when_dropped() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let broken = Box::pin(async { panic_any(Bomb(2)) });
        let polled = Pin::new(&mut Contained::new("a future", broken)).poll(&mut cx);
        assert!(matches!(polled, Poll::Ready(Err::<(), _>(_))));
        let bomb = Bomb(5);
        let mut waits = Contained::new(
            "a future",
            Box::pin(async move {
                std::future::pending::<()>().await;
                drop(bomb);
            }),
        );
        assert!(Pin::new(&mut waits).poll(&mut cx).is_pending());
        drop(waits);
    }
}
