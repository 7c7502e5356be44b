//! A module in which nothing has its usual name.

use ::std::result::Result as R;

use qtasks::StreamExt;
use qtasks::{task, tasks, yield_};

mod core {}
mod std {}
mod alloc {}
mod qtasks_macros {}
#[expect(non_camel_case_types, dead_code, reason = "shadows a primitive type")]
struct str;
#[expect(dead_code, reason = "shadows the prelude")]
mod names {
    pub(super) struct Option;
    pub(super) struct Result;
    pub(super) struct Vec;
    pub(super) struct Box;
    pub(super) struct String;
    pub(super) struct Default;
    pub(super) struct Clone;
    pub(super) struct Send;
    pub(super) struct Iterator;
    pub(super) struct Future;
    pub(super) struct Fn;
}
#[expect(unused_imports, reason = "shadows the prelude")]
use names::{Box, Clone, Default, Fn, Future, Iterator, Option, Result, Send, String, Vec};

#[expect(non_snake_case, dead_code, reason = "shadows the prelude")]
fn Ok() {}
#[expect(non_snake_case, dead_code, reason = "shadows the prelude")]
fn Err() {}
#[expect(non_snake_case, dead_code, reason = "shadows the prelude")]
fn Some() {}
#[expect(non_upper_case_globals, dead_code, reason = "shadows the prelude")]
const None: u8 = 1;

fn add_two(x: i64) -> i64 {
    x + 2
}

/// Everything at once.
#[task(generate_handler = add_two, retry = 1, time_limit = "1s", tags("a"), yields_max = 3)]
async fn shadowed(ctx: &qtasks::Context, n: i64, #[default] m: i64) -> i64 {
    let _ = ctx;
    yield_!(n + m);
}

#[task(yield = i64)]
fn shadowed_sync(n: i64) -> i64 {
    yield_!(n);
    n
}

#[task]
async fn shadowed_fallible(n: i64) -> R<i64, i64> {
    if n > 0 { R::Ok(n) } else { R::Err(n) }
}

tasks!(
    #[task]
    async gen fn shadowed_gen(n: i64) -> i64 {
        yield n;
    }
    #[task]
    async fn shadowed_plain(n: i64) -> i64 {
        n
    }
    #[task(iterator)]
    async fn shadowed_items(n: i64) -> [i64; 1] {
        [n]
    }
);

#[tokio::test]
async fn generated_code_needs_no_name_of_the_prelude() {
    assert_eq!(super::returning(shadowed::add_task(1, 2)).await, [5]);
    assert_eq!(super::returning(shadowed_sync::add_task(1)).await, [1]);
    assert_eq!(super::returning(shadowed_fallible::add_task(1)).await.to_string(), "1");
    assert_eq!(super::failing(shadowed_fallible::add_task(0)).await, super::error("0"));
    assert_eq!(super::returning(shadowed_gen::add_task(1)).await, [1]);
    assert_eq!(shadowed_gen(1).count().await, 1);
    assert_eq!(super::returning(shadowed_plain::add_task(1)).await, 1);
    assert_eq!(super::returning(shadowed_items::add_task(1)).await, [1]);
}
