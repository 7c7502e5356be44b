//! Run under Miri as well: moved before the first poll, dropped midway, panicking, on two threads.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;

use super::*;

async fn body(co: Co<String>, n: usize) -> usize {
    let local = [1, 2, 3];
    let borrowed = &local;
    for i in 0..n {
        let item: String = format!("{i}-{}", borrowed.len());
        co.put(item).await;
    }
    n
}

fn make(n: usize) -> Gen<String, impl Future<Output = usize>> {
    generate(move |co| body(co, n))
}

fn generate<T, F: Future>(body: impl FnOnce(Co<T>) -> F) -> Gen<T, F> {
    // SAFETY: the bodies of these tests keep their `Co`.
    unsafe { generator(body) }
}

fn block<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(r) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return r;
        }
    }
}

fn next<S: Stream>(mut stream: Pin<&mut S>) -> Option<S::Item> {
    block(poll_fn(|cx| stream.as_mut().poll_next(cx)))
}

fn collect<S: Stream>(stream: S) -> Vec<S::Item> {
    let mut stream = pin!(stream);
    std::iter::from_fn(|| next(stream.as_mut())).collect()
}

#[test]
fn values_come_in_order_then_what_the_body_returned() {
    let moved = vec![make(3)].into_iter().next().unwrap();
    let mut boxed = Box::pin(moved);
    let mut all = Vec::new();
    while let Some(item) = next(boxed.as_mut()) {
        assert_eq!(boxed.as_mut().take_return(), None);
        all.push(item);
        boxed = std::convert::identity(boxed);
    }
    assert_eq!(all, ["0-3", "1-3", "2-3"]);
    assert!(boxed.is_terminated());
    assert_eq!(boxed.as_mut().take_return(), Some(3));
    assert_eq!(boxed.as_mut().take_return(), None);
    assert_eq!(next(boxed.as_mut()), None);
}

#[test]
fn dropping_it_midway_drops_the_body_and_the_value() {
    let seen = Rc::new(());
    let owned = Rc::clone(&seen);
    let mut g = Box::pin(generate(|co: Co<Rc<()>>| async move {
        co.put(Rc::clone(&owned)).await;
        co.put(owned).await;
    }));
    assert!(next(g.as_mut()).is_some());
    assert_eq!(Rc::strong_count(&seen), 2);
    drop(g);
    assert_eq!(Rc::strong_count(&seen), 1);
    drop(make(3));
    let mut items = IterGen::new(make(2));
    assert!(items.next().is_some());
    drop(items);
}

#[test]
fn a_value_put_but_never_taken_is_dropped() {
    let g = generate(|co: Co<String>| async move {
        drop(co.put("x".to_owned()));
    });
    assert_eq!(collect(g), Vec::<String>::new());
}

#[test]
fn it_goes_from_thread_to_thread() {
    let mut g = Box::pin(make(4));
    assert!(next(g.as_mut()).is_some());
    let other = std::thread::spawn(move || {
        assert!(next(g.as_mut()).is_some());
        g
    });
    assert_eq!(collect(other.join().unwrap()), ["2-3", "3-3"]);
}

#[test]
fn a_panic_passes_through() {
    let g = generate(|co: Co<String>| async move {
        co.put("x".to_owned()).await;
        panic!("on purpose")
    });
    let mut g = Box::pin(g);
    assert!(next(g.as_mut()).is_some());
    assert!(catch_unwind(AssertUnwindSafe(|| next(g.as_mut()))).is_err());
}

#[test]
fn polling_on_after_the_end_is_a_bug_of_the_caller() {
    let mut g = Box::pin(make(0));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(g.as_mut().poll_step(&mut cx), Poll::Ready(Step::Return(0)));
    assert_eq!(g.as_mut().take_return(), None);
    assert!(catch_unwind(AssertUnwindSafe(|| g.as_mut().poll_step(&mut cx))).is_err());
}

#[test]
fn the_error_of_a_generator_that_can_fail_comes_last() {
    let fails = |fail: bool| {
        generate(move |co: Co<u8>| async move {
            co.put(1).await;
            if fail { Err("no") } else { Ok(()) }
        })
    };
    assert_eq!(collect(TryGen::new(fails(true))), [Ok(1), Err("no")]);
    assert_eq!(collect(TryGen::new(fails(false))), [Ok(1)]);
    assert_eq!(TryIterGen::new(fails(true)).collect::<Vec<_>>(), [Ok(1), Err("no")]);
    let mut items = TryIterGen::new(fails(false));
    assert_eq!(items.by_ref().count(), 1);
    assert_eq!(items.next(), None);
}

#[test]
fn an_iterator_keeps_what_the_body_returned() {
    let mut items = IterGen::new(make(2));
    assert_eq!(items.take_return(), None);
    assert_eq!(items.by_ref().collect::<Vec<_>>(), ["0-3", "1-3"]);
    assert_eq!(items.next(), None);
    assert_eq!(items.take_return(), Some(2));
}

#[test]
fn one_can_poll_another() {
    let outer = generate(|co: Co<String>| async move {
        let mut inner = Box::pin(make(2));
        while let Some(item) = poll_fn(|cx| inner.as_mut().poll_next(cx)).await {
            co.put(item).await;
        }
    });
    assert_eq!(collect(outer), ["0-3", "1-3"]);
}

#[test]
fn a_body_that_waits_is_pending_without_a_value() {
    let mut g = Box::pin(generate(|co: Co<u8>| async move {
        let mut first = true;
        poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
        co.put(1).await;
    }));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(g.as_mut().poll_next(&mut cx), Poll::Pending);
    assert_eq!(g.as_mut().poll_next(&mut cx), Poll::Ready(Some(1)));
    assert_eq!(g.as_mut().poll_next(&mut cx), Poll::Ready(None));
}
