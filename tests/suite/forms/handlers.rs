//! `generate_handler`, in every shape.

use super::*;

async fn add_two(x: i64) -> i64 {
    x + 2
}
fn add_two_sync(x: i64) -> i64 {
    x + 2
}
async fn add_two_checked(x: i64) -> Result<i64, String> {
    if x > 1 { Err(format!("{x} is too much")) } else { Ok(x + 2) }
}
fn label(x: i64) -> anyhow::Result<String> {
    anyhow::ensure!(x < 100, "too big");
    Ok(format!("<{x}>"))
}
fn boxed_error(x: u8) -> Result<u8, Box<dyn std::error::Error>> {
    Ok(x + "1".parse::<u8>()?)
}

mod elsewhere {
    pub(super) async fn log(_: u8) {}
}

/// Test task with a generator.
#[task(generate_handler = add_two)]
async fn test_yield(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(n + i);
    }
}

#[task(generate_handler = add_two_sync)]
async fn synced(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(generate_handler = add_two_checked)]
async fn checked(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(generate_handler = label -> String)]
pub(super) async fn labelled(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(generate_handler = async |x: i64| -> String { format!("[{x}]") })]
async fn closure(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(generate_handler = async |x: i64| -> Result<String, String> { label(x).map_err(|e| e.to_string()) })]
async fn fallible_closure(n: i64) -> i64 {
    yield_!(n);
}

#[task(generate_handler = |x| x + 1)]
async fn bare_closure(n: i64) -> i64 {
    yield_!(n);
}

#[task(generate_handler = add_two)]
fn of_a_sync_body(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

#[task(generate_handler = label -> String)]
async fn of_a_fallible_body(n: i64) -> Result<i64, String> {
    yield_!(n);
    if n > 0 { Err("after the first".to_owned()) } else { Ok(()) }
}

#[task(generate_handler = label -> String)]
fn of_an_own_stream(n: i64) -> impl Stream<Item = Result<i64, String>> {
    futures::stream::iter([Ok(n)])
}

#[task(yield = i64, generate_handler = label -> String)]
fn with_a_final_value(n: i64) -> i64 {
    yield_!(n);
    n + 1
}

#[task(generate_handler = i64::abs)]
async fn method() -> i64 {
    yield_!(-1);
}
#[task(generate_handler = std::convert::identity)]
async fn generic() -> i64 {
    yield_!(-1);
}
#[task(generate_handler = <String as From<char>>::from -> String)]
async fn of_a_trait() -> char {
    yield_!('x');
}
#[task(generate_handler = boxed_error)]
async fn boxed() -> u8 {
    yield_!(1);
}
#[task(generate_handler = self::elsewhere::log -> ())]
async fn nothing() -> u8 {
    yield_!(1);
}

/// Its items can't be written, and need not be.
struct Opaque(i64);

#[task(generate_handler = |o: Opaque| -> i64 { o.0 }, on_retry = restart)]
async fn of_what_is_no_json(n: i64) -> Opaque {
    yield_!(Opaque(n));
}

/// Written, but never read: `&'static str` could not be.
#[derive(Serialize)]
struct Written(&'static str);

#[task(generate_handler = |w: Written| -> String { w.0.to_owned() })]
async fn of_what_is_only_written() -> Written {
    yield_!(Written("x"));
}

#[tokio::test]
async fn each_value_goes_through_the_handler() {
    assert_eq!(returning(test_yield::add_task(5)).await, [8, 9, 10, 11, 12]);
    assert_eq!(test_yield(5).collect::<Vec<_>>().await, [6, 7, 8, 9, 10]);
    assert_eq!(returning(synced::add_task(2)).await, [2, 3]);
    assert_eq!(returning(checked::add_task(2)).await, [2, 3]);
    assert_eq!(returning(labelled::add_task(2)).await, ["<0>", "<1>"]);
    assert_eq!(returning(closure::add_task(2)).await, ["[0]", "[1]"]);
    assert_eq!(returning(bare_closure::add_task(2)).await, [3]);
    assert_eq!(returning(fallible_closure::add_task(2)).await, ["<2>"]);
    assert_eq!(returning(of_a_sync_body::add_task(3)).await, [2, 3, 4]);
    assert_eq!(returning(of_an_own_stream::add_task(3)).await, ["<3>"]);
    assert_eq!(returning(method::add_task()).await, [1]);
    assert_eq!(returning(generic::add_task()).await, [-1]);
    assert_eq!(returning(of_a_trait::add_task()).await, ["x"]);
    assert_eq!(returning(boxed::add_task()).await, [2]);
    assert_eq!(returning(nothing::add_task()).await, [()]);
    assert_eq!(returning(of_what_is_no_json::add_task(3)).await, [3]);
    assert_eq!(returning(of_what_is_only_written::add_task()).await, ["x"]);
    let task = run(with_a_final_value::add_task(3)).await.unwrap();
    assert_eq!((task.returning, task.final_value), (vec!["<3>".to_owned()], 4));
    assert!(test_yield::spec().has_handler);
    assert!(!super::yields::spec().has_handler);
}

#[tokio::test]
async fn the_error_of_a_handler_names_its_value() {
    let app = app_of([checked::spec()]).await;
    let error = checked::add_task(9).on(&app).timeout(soon()).await.unwrap_err();
    let failure = failure(&error);
    assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Handler, "2 is too much"));
    assert_eq!(failure.index, Some(2));
    let error = super::error("after the first");
    assert_eq!(failing(of_a_fallible_body::add_task(1)).await, error);
    assert_eq!(failing(of_a_fallible_body::add_task(100)).await, (FailureKind::Handler, "too big".to_owned()));
    assert_eq!(failing(fallible_closure::add_task(100)).await, (FailureKind::Handler, "too big".to_owned()));
}
