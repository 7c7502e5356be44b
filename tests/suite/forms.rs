//! Every form a task function may have, each run through the queue and called directly.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;

use futures::stream::BoxStream;
use qtasks::prelude::*;
use qtasks::{AddTask, FailureKind, Json, Stream, TaskKind, TaskSpec, WaitError};
use serde::{Deserialize, Serialize};

use crate::{app_of, failure, soon};

mod arguments;
mod handlers;
mod names;
mod parameters;
mod places;
mod shadowed;

/// Runs a task on an app of its own.
async fn run<F: TaskFn>(task: AddTask<F>) -> Result<Task<F>, WaitError<F>> {
    let app = app_of([F::spec()]).await;
    task.on(&app).timeout(soon()).await
}

async fn returning<F: TaskFn>(task: AddTask<F>) -> F::Returning {
    run(task).await.expect("it succeeds").returning
}

/// How a task failed: of which kind, and the message.
async fn failing<F: TaskFn>(task: AddTask<F>) -> (FailureKind, String) {
    let error = run(task).await.expect_err("it fails");
    let failure = failure(&error);
    (failure.kind, failure.message.clone())
}

fn error(message: &str) -> (FailureKind, String) {
    (FailureKind::Error, message.to_owned())
}

// ---- plain

/// Adds.
///
/// At length.
#[task]
async fn plain(a: i64, b: i64) -> i64 {
    tokio::task::yield_now().await;
    a + b
}

#[task]
fn plain_sync(a: i64, b: i64) -> i64 {
    a + b
}

#[task]
async fn plain_fallible(text: String) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

#[task]
fn plain_sync_fallible(text: String) -> anyhow::Result<i64> {
    use anyhow::Context as _;
    text.parse().context("no number")
}

type Alias<T> = Result<T, String>;

#[task]
async fn plain_aliased(x: i64) -> Alias<i64> {
    if x > 0 { Ok(x) } else { Err("not positive".to_owned()) }
}

#[task]
async fn plain_nothing() {}

#[tokio::test]
async fn a_plain_task_returns_once() {
    assert_eq!(returning(plain::add_task(1, 2)).await, 3);
    assert_eq!(plain(1, 2).await, 3);
    assert_eq!(returning(plain_sync::add_task(1, 2)).await, 3);
    assert_eq!(plain_sync(1, 2), 3);
    let () = returning(plain_nothing::add_task()).await;
    let () = run(plain::add_task(1, 2)).await.unwrap().final_value;
}

#[tokio::test]
async fn the_error_of_a_plain_task_fails_it() {
    assert_eq!(returning(plain_fallible::add_task("12".into())).await, 12);
    assert_eq!(failing(plain_fallible::add_task("1x".into())).await, error("invalid digit found in string"));
    let causes = error("no number: invalid digit found in string");
    assert_eq!(failing(plain_sync_fallible::add_task("x".into())).await, causes);
    let value: i64 = returning(plain_aliased::add_task(4)).await;
    assert_eq!(value, 4);
    assert_eq!(failing(plain_aliased::add_task(0)).await, error("not positive"));
}

// ---- bodies that yield

#[task]
async fn yields(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

/// Holds what is not `Send` across its yields.
#[task]
fn yields_sync(n: u32) -> u32 {
    let left = Rc::new(Cell::new(n));
    while left.get() > 0 {
        yield_!(left.get());
        left.set(left.get() - 1);
    }
}

#[task]
async fn yields_fallible(n: i64) -> Result<i64, String> {
    for i in 0..n {
        if i == 3 {
            Err("three")?;
        }
        if i == 2 && n == 3 {
            return;
        }
        yield_!(i);
    }
}

#[task]
fn yields_sync_fallible(text: String) -> anyhow::Result<i64> {
    for part in text.split(',') {
        yield_!(part.trim().parse()?);
    }
    Ok(())
}

#[tokio::test]
async fn a_generator_yields_its_values_in_order() {
    assert_eq!(returning(yields::add_task(3)).await, [0, 1, 2]);
    assert_eq!(yields(3).collect::<Vec<_>>().await, [0, 1, 2]);
    assert_eq!(returning(yields_sync::add_task(3)).await, [3, 2, 1]);
    assert_eq!(yields_sync(3).collect::<Vec<_>>(), [3, 2, 1]);
    let () = run(yields::add_task(1)).await.unwrap().final_value;
}

#[tokio::test]
async fn a_generator_that_can_fail_yields_until_it_does() {
    assert_eq!(returning(yields_fallible::add_task(2)).await, [0, 1]);
    assert_eq!(yields_fallible(3).collect::<Vec<_>>().await, [Ok(0), Ok(1)]);
    let direct = yields_fallible(5).collect::<Vec<_>>().await;
    assert_eq!(direct, [Ok(0), Ok(1), Ok(2), Err("three".to_owned())]);
    let app = app_of([yields_fallible::spec()]).await;
    let failed = yields_fallible::add_task(5).on(&app).timeout(soon()).await.unwrap_err();
    let WaitError::Ended(ended) = failed else { panic!("{failed:?}") };
    assert_eq!(ended.failure().message, "three");
    assert_eq!(ended.record.yields, 3);

    assert_eq!(returning(yields_sync_fallible::add_task("1, 2".into())).await, [1, 2]);
    let failed = failing(yields_sync_fallible::add_task("1, x".into())).await;
    assert_eq!(failed, error("invalid digit found in string"));
    assert_eq!(yields_sync_fallible("1,x,2".into()).map(|r| r.is_ok()).collect::<Vec<_>>(), [true, false]);
}

// ---- with a final value

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Summary {
    count: usize,
}

#[task(yield = i64)]
async fn both(n: i64) -> Summary {
    let mut count = 0;
    for i in 0..n {
        yield_!(i);
        count += 1;
    }
    Summary { count }
}

#[task(yield = i64)]
async fn both_fallible(n: i64) -> Result<Summary, String> {
    for i in 0..n {
        if i == 3 {
            Err("three")?;
        }
        yield_!(i);
    }
    Ok(Summary { count: usize::try_from(n).map_err(|e| e.to_string())? })
}

#[task(yield = i64)]
fn both_sync(n: i64) -> usize {
    for i in 0..n {
        yield_!(i);
    }
    usize::try_from(n).unwrap_or(0)
}

#[task(yield = u8)]
async fn both_without_a_yield() -> u16 {
    3
}

#[task(yield = u8)]
async fn both_nothing() -> Result<(), String> {
    yield_!(1);
    Ok(())
}

#[tokio::test]
async fn a_generator_may_return_a_value_at_the_end() {
    let task = run(both::add_task(2)).await.unwrap();
    assert_eq!((task.returning, task.final_value), (vec![0, 1], Summary { count: 2 }));
    let mut direct = std::pin::pin!(both(2));
    assert_eq!(direct.as_mut().collect::<Vec<_>>().await, [0, 1]);
    assert_eq!(direct.take_return(), Some(Summary { count: 2 }));

    let task = run(both_fallible::add_task(1)).await.unwrap();
    assert_eq!((task.returning, task.final_value), (vec![0], Summary { count: 1 }));
    assert_eq!(failing(both_fallible::add_task(5)).await, error("three"));

    let task = run(both_sync::add_task(2)).await.unwrap();
    assert_eq!((task.returning, task.final_value), (vec![0, 1], 2));
    let mut direct = both_sync(2);
    assert_eq!(direct.by_ref().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(direct.take_return(), Some(2));

    let task = run(both_without_a_yield::add_task()).await.unwrap();
    assert_eq!((task.returning, task.final_value), (vec![], 3));
    let task = run(both_nothing::add_task()).await.unwrap();
    assert_eq!((task.returning, task.final_value), (vec![1], ()));
    assert_eq!(task.record.final_value, None);
}

// ---- in a block

tasks!(
    #[task(description = "in a block")]
    async fn block_yield(n: i64) -> i64 {
        for i in 0..n {
            yield i;
        }
    }

    /// Declared as Rust will have it.
    #[task]
    async gen fn block_async_gen(n: i64) -> i64 {
        let mut i = 0;
        while i < n {
            yield i * i;
            i += 1;
        }
    }

    #[task]
    gen fn block_gen(n: i64) -> String {
        for i in 0..n {
            yield format!("{i}");
        }
    }

    #[task]
    pub(crate) async gen fn block_silent() -> i64 {}

    #[task]
    async fn block_plain(x: i64) -> i64 {
        x + TEN
    }

    const TEN: i64 = 10;
    fn helper(x: i64) -> i64 {
        x + TEN
    }

    pub mod within {
        #![allow(clippy::allow_attributes, dead_code, reason = "an inner attribute of a module in a block")]
        fn unused() {}
        #[task]
        pub async fn block_module(x: i64) -> i64 {
            #![expect(unused_variables, reason = "an inner attribute of a body")]
            let y = 3;
            yield x;
        }
    }

    #[task]
    async fn block_helper(x: i64) -> i64 {
        yield helper(x);
        yield 1
    }
);

#[tokio::test]
async fn in_a_block_yield_and_gen_work_on_stable() {
    assert_eq!(returning(block_yield::add_task(3)).await, [0, 1, 2]);
    assert_eq!(returning(block_async_gen::add_task(3)).await, [0, 1, 4]);
    assert_eq!(returning(block_gen::add_task(3)).await, ["0", "1", "2"]);
    assert_eq!(block_gen(2).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(returning(block_silent::add_task()).await, [0i64; 0]);
    assert_eq!(returning(block_plain::add_task(1)).await, 11);
    assert_eq!(returning(within::block_module::add_task(3)).await, [3]);
    assert_eq!(returning(block_helper::add_task(3)).await, [13, 1]);
}

// ---- streams and iterators of one's own

#[task]
fn own_stream(n: i64) -> impl Stream<Item = i64> {
    stream! { for i in 0..n { yield i; } }
}

#[task]
async fn own_later_stream(n: i64) -> impl Stream<Item = i64> {
    tokio::task::yield_now().await;
    futures::stream::iter(0..n)
}

#[task]
fn own_box_stream(n: i64) -> BoxStream<'static, Result<i64, String>> {
    futures::stream::iter((0..n).map(|x| if x < 2 { Ok(x) } else { Err("two".to_owned()) })).boxed()
}

#[task]
fn own_pinned_stream(n: i64) -> Pin<Box<dyn Stream<Item = Alias<i64>> + Send>> {
    Box::pin(try_stream! { for i in 0..n { yield if i < 2 { i } else { Err("two")? }; } })
}

#[task(stream)]
fn own_named_stream(n: i64) -> futures::stream::Iter<std::ops::Range<i64>> {
    futures::stream::iter(0..n)
}

#[task]
fn own_iterator(n: i64) -> impl Iterator<Item = i64> {
    (0..n).map(|x| x * 10)
}

/// Its iterator is not `Send`.
#[task]
fn own_boxed_iterator(n: i64) -> Box<dyn Iterator<Item = i64>> {
    let one = Rc::new(1);
    Box::new((0..n).map(move |x| x + *one))
}

#[task(iterator)]
fn own_vec(n: i64) -> Vec<Result<i64, String>> {
    (0..n).map(|x| if x < 2 { Ok(x) } else { Err("two".to_owned()) }).collect()
}

#[task(iterator)]
async fn own_later_vec(n: i64) -> Vec<i64> {
    tokio::task::yield_now().await;
    (0..n).collect()
}

#[task(iterator)]
fn own_named_iterator(n: i64) -> std::iter::RepeatN<i64> {
    std::iter::repeat_n(n, 2)
}

#[tokio::test]
async fn a_function_may_hand_out_its_own_stream() {
    assert_eq!(returning(own_stream::add_task(3)).await, [0, 1, 2]);
    assert_eq!(returning(own_later_stream::add_task(3)).await, [0, 1, 2]);
    assert_eq!(returning(own_box_stream::add_task(2)).await, [0, 1]);
    assert_eq!(failing(own_box_stream::add_task(3)).await, error("two"));
    assert_eq!(returning(own_pinned_stream::add_task(2)).await, [0, 1]);
    assert_eq!(failing(own_pinned_stream::add_task(3)).await, error("two"));
    assert_eq!(returning(own_named_stream::add_task(3)).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_function_may_hand_out_its_own_iterator() {
    assert_eq!(returning(own_iterator::add_task(3)).await, [0, 10, 20]);
    assert_eq!(returning(own_boxed_iterator::add_task(2)).await, [1, 2]);
    assert_eq!(returning(own_vec::add_task(2)).await, [0, 1]);
    assert_eq!(failing(own_vec::add_task(3)).await, error("two"));
    assert_eq!(returning(own_later_vec::add_task(2)).await, [0, 1]);
    assert_eq!(returning(own_named_iterator::add_task(7)).await, [7, 7]);
}

// ---- what is registered of each

#[test]
fn every_form_is_registered_as_what_it_is() {
    use TaskKind::{Async, AsyncGen, Sync, SyncGen};
    let forms: [(&TaskSpec, TaskKind, Option<&str>, &str); 32 + 1] = [
        (plain::spec(), Async, None, "i64"),
        (plain_sync::spec(), Sync, None, "i64"),
        (plain_fallible::spec(), Async, None, "i64"),
        (plain_sync_fallible::spec(), Sync, None, "i64"),
        (plain_aliased::spec(), Async, None, "Alias<i64>"),
        (plain_nothing::spec(), Async, None, "()"),
        (yields::spec(), AsyncGen, Some("i64"), "()"),
        (yields_sync::spec(), SyncGen, Some("u32"), "()"),
        (yields_fallible::spec(), AsyncGen, Some("i64"), "()"),
        (yields_sync_fallible::spec(), SyncGen, Some("i64"), "()"),
        (both::spec(), AsyncGen, Some("i64"), "Summary"),
        (both_fallible::spec(), AsyncGen, Some("i64"), "Summary"),
        (both_sync::spec(), SyncGen, Some("i64"), "usize"),
        (both_without_a_yield::spec(), AsyncGen, Some("u8"), "u16"),
        (both_nothing::spec(), AsyncGen, Some("u8"), "()"),
        (block_yield::spec(), AsyncGen, Some("i64"), "()"),
        (block_async_gen::spec(), AsyncGen, Some("i64"), "()"),
        (block_gen::spec(), SyncGen, Some("String"), "()"),
        (block_silent::spec(), AsyncGen, Some("i64"), "()"),
        (block_plain::spec(), Async, None, "i64"),
        (within::block_module::spec(), AsyncGen, Some("i64"), "()"),
        (block_helper::spec(), AsyncGen, Some("i64"), "()"),
        (own_stream::spec(), AsyncGen, Some("i64"), "()"),
        (own_later_stream::spec(), AsyncGen, Some("i64"), "()"),
        (own_box_stream::spec(), AsyncGen, Some("i64"), "()"),
        (own_pinned_stream::spec(), AsyncGen, Some("Alias<i64>"), "()"),
        (own_named_stream::spec(), AsyncGen, Some("futures::stream::Iter<std::ops::Range<i64>>::Item"), "()"),
        (own_iterator::spec(), SyncGen, Some("i64"), "()"),
        (own_boxed_iterator::spec(), SyncGen, Some("i64"), "()"),
        (own_vec::spec(), SyncGen, Some("i64"), "()"),
        (own_later_vec::spec(), AsyncGen, Some("i64"), "()"),
        (own_named_iterator::spec(), SyncGen, Some("std::iter::RepeatN<i64>::Item"), "()"),
        (handlers::labelled::spec(), AsyncGen, Some("String"), "()"),
    ];
    for (spec, kind, yields, returns) in forms {
        let generating = matches!(kind, SyncGen | AsyncGen);
        let found = (spec.kind, spec.generating, spec.yields, spec.returns);
        assert_eq!(found, (kind, generating, yields, returns), "{}", spec.name);
        assert_eq!(spec.kind.is_sync(), matches!(kind, Sync | SyncGen), "{}", spec.name);
    }
}

#[tokio::test]
async fn values_are_stored_as_they_are_written() {
    let app = app_of([both::spec()]).await;
    let task = both::add_task(1).on(&app).timeout(soon()).await.unwrap();
    assert_eq!(task.record.final_value, Some(Json::of(&Summary { count: 1 }).unwrap()));
}
