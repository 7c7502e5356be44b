//! Runs driven by hand, without a runtime: under Miri as well.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Waker;

use super::*;
use crate::generator::{Co, generator};

type Plain = Select<false>;
type Fallible = Select<true>;

/// Polls until something is there.
fn ready<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(v) = poll(&mut cx) {
            return v;
        }
    }
}

/// Each value, whether it was stored at once, and the hash that counts; then the end.
type All = (Vec<(String, bool, u64)>, Result<String, TaskFailure>);

fn drive<R: Run + ?Sized>(run: &mut Pin<Box<R>>) -> All {
    let mut values = Vec::new();
    loop {
        let mut out = b"before".to_vec();
        let text = |out: &[u8]| String::from_utf8(out.strip_prefix(b"before").unwrap().to_vec()).unwrap();
        match ready(|cx| run.as_mut().poll_item(cx, &mut out)) {
            Item::Yield { hash, stored: true } => values.push((text(&out), true, hash)),
            Item::Yield { hash, stored: false } => match ready(|cx| run.as_mut().poll_handle(cx, &mut out)) {
                Ok(other) => values.push((text(&out), false, other.unwrap_or(hash))),
                Err(e) => return (values, Err(*e)),
            },
            Item::Return => return (values, Ok(text(&out))),
            Item::Error(e) => {
                assert_eq!(out, b"before");
                return (values, Err(*e));
            }
        }
    }
}

fn count(n: i64) -> Gen<i64, impl Future<Output = ()> + Send> {
    let body = move |co: Co<i64>| async move {
        for i in 0..n {
            co.put(i).await;
        }
    };
    generate(body)
}

fn generate<T, F: Future>(body: impl FnOnce(Co<T>) -> F) -> Gen<T, F> {
    #[expect(unsafe_code, reason = "as generated code does")]
    // SAFETY: the bodies of these tests keep their `Co`.
    unsafe {
        generator(body)
    }
}

async fn wait_once() {
    let mut first = true;
    poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
}

async fn label(x: i64) -> Result<String, String> {
    wait_once().await;
    if x == 3 { Err("three".to_owned()) } else { Ok(format!("<{x}>")) }
}

fn hash(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

fn handled_run(n: i64, items: Option<Value<i64>>) -> BoxRun {
    let pipe = handled(outcome::<Plain, i64>(), handler::<i64, String, _, _, _>(label), items);
    boxed(from_gen(count(n)), pipe, value(), outcome::<Plain, ()>(), nothing())
}

#[test]
fn without_a_handler_a_value_is_written_once_and_hashed() {
    let mut run =
        boxed(from_gen(count(2)), direct(outcome::<Plain, i64>()), value(), outcome::<Plain, ()>(), nothing());
    assert!(!run.handler_waits());
    let (values, end) = drive(&mut run);
    assert_eq!(values, [("0".to_owned(), true, hash("0")), ("1".to_owned(), true, hash("1"))]);
    assert_eq!(end, Ok(String::new()));
}

#[test]
fn with_a_handler_the_hash_is_of_the_item() {
    let mut run = handled_run(2, Some(item()));
    assert!(run.handler_waits());
    let (values, _) = drive(&mut run);
    assert_eq!(values, [("\"<0>\"".to_owned(), false, hash("0")), ("\"<1>\"".to_owned(), false, hash("1"))]);
}

#[test]
fn where_items_are_not_compared_the_hash_is_of_the_output() {
    let (values, _) = drive(&mut handled_run(1, None));
    assert_eq!(values, [("\"<0>\"".to_owned(), false, hash("\"<0>\""))]);
}

#[test]
fn a_skipped_item_never_reaches_the_handler() {
    let mut run = handled_run(5, Some(item()));
    let mut out = Vec::new();
    for i in 0..4 {
        let got = ready(|cx| run.as_mut().poll_item(cx, &mut out));
        assert!(matches!(got, Item::Yield { hash: h, stored: false } if h == hash(&i.to_string())), "{got:?}");
        run.as_mut().skip();
    }
    let (values, end) = drive(&mut run);
    assert_eq!((values.len(), end), (1, Ok(String::new())));
}

#[test]
fn failures_say_where_they_come_from() {
    let (values, end) = drive(&mut handled_run(9, Some(item())));
    assert_eq!(values.len(), 3);
    assert_eq!(end.unwrap_err(), TaskFailure::new(FailureKind::Handler, "three"));

    let own = futures::stream::iter([Ok(1), Err("two"), Ok(3)]);
    let read = outcome::<Fallible, Result<i64, &str>>();
    let mut run = boxed(from_stream(own), direct(read), value(), outcome::<Plain, ()>(), nothing());
    let (values, end) = drive(&mut run);
    assert_eq!((values.len(), end.unwrap_err()), (1, TaskFailure::new(FailureKind::Error, "two")));

    let floats = from_iter([1.0, f64::NAN]);
    let mut run = boxed(floats, direct(outcome::<Plain, f64>()), value(), outcome::<Plain, ()>(), nothing());
    let (values, end) = drive(&mut run);
    let e = end.unwrap_err();
    assert_eq!((values.len(), e.kind), (1, FailureKind::Codec));
    assert!(e.message.starts_with("the value could not be written: "), "{e}");
}

#[test]
fn a_sync_body_may_hold_what_is_not_send() {
    let shared = Rc::new("x".to_owned());
    let generator = generate(|co: Co<String>| async move {
        co.put(shared.as_str().to_owned()).await;
        co.put(format!("{shared}y")).await;
        if shared.is_empty() { Err("empty") } else { Ok(shared.len()) }
    });
    let end = outcome::<Fallible, Result<usize, &str>>();
    let mut run = boxed_local(from_gen(generator), direct(outcome::<Plain, String>()), value(), end, value());
    let (values, end) = drive(&mut run);
    assert_eq!(values.iter().map(|v| v.0.as_str()).collect::<Vec<_>>(), ["\"x\"", "\"xy\""]);
    assert_eq!(end, Ok("1".to_owned()));
}

#[test]
fn a_plain_task_yields_nothing() {
    let read = outcome::<Plain, Never>();
    let mut run = boxed(from_future(async { 3 }), direct(read), never(), outcome::<Plain, i32>(), value());
    assert_eq!(drive(&mut run), (vec![], Ok("3".to_owned())));
    let local = Rc::new(4);
    let mut run = boxed_local(from_call(move || *local), direct(read), never(), outcome::<Plain, i32>(), value());
    assert_eq!(drive(&mut run), (vec![], Ok("4".to_owned())));
}

#[test]
fn streams_and_iterators_may_come_late() {
    let later = async {
        wait_once().await;
        futures::stream::iter([1, 2])
    };
    let read = outcome::<Plain, i32>();
    let mut run = boxed(from_later_stream(later), direct(read), value(), outcome::<Plain, ()>(), nothing());
    assert_eq!(drive(&mut run).0.len(), 2);
    let later = async {
        wait_once().await;
        vec![1, 2, 3]
    };
    let mut run = boxed(from_later_iter(later), direct(read), value(), outcome::<Plain, ()>(), nothing());
    assert_eq!(drive(&mut run).0.len(), 3);
}

#[test]
fn a_run_dropped_midway_drops_body_item_and_handler() {
    let mut run = handled_run(5, Some(item()));
    let mut out = Vec::new();
    ready(|cx| run.as_mut().poll_item(cx, &mut out));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(run.as_mut().poll_handle(&mut cx, &mut out).is_pending());
    drop(run);
}

#[test]
fn every_shape_of_handler_is_understood() {
    fn one<O, M>(h: impl Fn(i64) -> O + Send + 'static) -> (Result<i64, String>, bool)
    where
        O: HandlerOutput<i64, M, Fut: Send + 'static>,
        M: 'static,
    {
        let mut handler = handler::<i64, i64, _, _, _>(h);
        let mut given = Some(1);
        let answer = ready(|cx| handler.poll(cx, given.take()));
        (answer.map_err(|e| e.message), handler.waits())
    }
    assert_eq!(one(|x| x + 1), (Ok(2), false));
    assert_eq!(one(|_| Err::<i64, _>("no")), (Err("no".to_owned()), false));
    assert_eq!(one(|x| async move { x + 1 }), (Ok(2), true));
    assert_eq!(one(|_| async { Err::<i64, _>("no") }), (Err("no".to_owned()), true));
}
