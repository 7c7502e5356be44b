//! A crate of public tasks under every lint there is: generated code must not set off any.
//!
//! Both are linked here: the function [`test_yield()`] and the type [`struct@test_yield`].
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, missing_debug_implementations, unreachable_pub, unused, rustdoc::all)]
#![deny(clippy::all, clippy::pedantic, clippy::nursery, clippy::cargo)]
#![deny(
    rust_2018_idioms,
    rust_2021_compatibility,
    rust_2024_compatibility,
    let_underscore_drop,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unnameable_types,
    unused_import_braces,
    unused_lifetimes,
    unused_qualifications,
    unused_results,
    variant_size_differences
)]
#![deny(
    clippy::absolute_paths,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::default_numeric_fallback,
    clippy::exhaustive_structs,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_docs_in_private_items,
    clippy::multiple_inherent_impl,
    clippy::multiple_unsafe_ops_per_block,
    clippy::panic,
    clippy::print_stdout,
    clippy::str_to_string,
    clippy::undocumented_unsafe_blocks,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![expect(
    clippy::cargo_common_metadata,
    clippy::multiple_crate_versions,
    reason = "of the package, not of the code: this one is not published"
)]

use core::future::ready;
use core::num::ParseIntError;
use core::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use qtasks::{Context, Resume, State, task, tasks, yield_};

/// Counts up from `n`.
///
/// As many times as `n` says.
#[task(generate_handler = add_two, retry = 3, time_limit = "1h", tags("a"), queue = "q", priority = -1)]
pub async fn test_yield(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(n + i);
    }
}

/// Adds two.
async fn add_two(x: i64) -> i64 {
    ready(x).await + 2
}

/// Adds two numbers.
#[task]
pub async fn add(a: i64, b: i64) -> i64 {
    ready(a).await + b
}

/// Takes what it needs to own.
#[task]
#[must_use]
pub fn length(text: String, words: Vec<String>) -> usize {
    text.len() + words.len()
}

/// Many arguments: seven are the most clippy takes.
#[task]
pub async fn many(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) -> u8 {
    for x in [a, b, c, d, e, f, g] {
        yield_!(x);
    }
}

/// Calls itself.
#[task]
pub async fn walk(depth: u32) -> u32 {
    yield_!(depth);
    if depth > 0 {
        let mut below: Pin<Box<dyn Stream<Item = u32> + Send>> = Box::pin(walk(depth - 1));
        while let Some(v) = below.next().await {
            yield_!(v);
        }
    }
}

/// Traced.
#[task]
#[tracing::instrument(skip_all, fields(n))]
pub async fn traced(ctx: &Context, n: i64) -> i64 {
    let _ = ctx;
    yield_!(n);
    tracing::info!("between");
    yield_!(n + 1);
}

/// No longer used.
#[task]
#[deprecated = "use another"]
#[must_use]
pub async fn old(n: i64) -> i64 {
    yield_!(n);
}

/// Yields and returns.
///
/// # Errors
/// None.
#[task(yield = String)]
pub async fn both(ctx: Context, config: State<String>, n: usize) -> Result<usize, String> {
    yield_!(config.repeat(n));
    ctx.flush().await.map_err(|e| e.to_string())?;
    Ok(n)
}

/// Says less than it could.
#[doc(hidden)]
#[task]
pub async fn quiet(#[expect(unused_variables, reason = "an attribute of a parameter")] n: i64, m: i64) -> i64 {
    yield_!(m);
}

/// Goes on where it was.
#[task(keep = last(10))]
pub fn resuming(from: Resume<u64>) -> u64 {
    for i in from.count()..3 {
        yield_!(i);
    }
}

/// Can fail.
///
/// # Errors
/// If a part is no number.
#[task]
pub fn parse(text: String) -> Result<i64, ParseIntError> {
    for part in text.split(',') {
        yield_!(part.trim().parse()?);
    }
}

/// A stream of its own.
#[task]
pub fn own(n: i64) -> impl Stream<Item = i64> {
    stream::iter(0..n)
}

/// An iterator of its own.
#[task(iterator)]
#[must_use]
pub fn own_items(n: i64) -> Vec<i64> {
    (0..n).collect()
}

tasks!(
    /// Squares.
    #[task]
    pub async gen fn squares(n: i64) -> i64 {
        for i in 0..n {
            yield i * i;
        }
    }

    /// Words.
    #[task]
    pub gen fn words(text: String) -> String {
        for word in text.split_whitespace() {
            yield word.to_owned();
        }
    }
);

/// Makes tasks: what comes out of a macro of this crate counts as written here.
macro_rules! make {
    ($name:ident, $sync:ident, $plain:ident, $t:ty, $e:expr) => {
        /// Made by a macro.
        #[task(retry = $e, crate = ::qtasks)]
        pub async fn $name(x: $t, odd: Result<$t, String>) -> Result<$t, String> {
            drop(odd);
            yield_!($e);
            yield_!(x);
        }

        /// Made by a macro.
        #[task]
        pub fn $sync(ctx: &Context, mut x: $t) -> $t {
            x += $e;
            yield_!(x);
            drop(ctx.clone());
        }

        #[task(generate_handler = |x| x)]
        async fn $plain(x: $t) -> $t {
            yield_!(ready(x).await);
        }
    };
}
make!(made, made_sync, made_private, u8, 7);

/// Not public, and not used.
#[task]
async fn private(n: i64) -> i64 {
    yield_!(n);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn strict_code_runs() {
        let app = qtasks::Qtasks::open("memory:").await;
        assert!(app.is_ok());
        assert_eq!(test_yield(2).collect::<Vec<_>>().await, [3, 4]);
        assert_eq!(test_yield::spec().description, Some("Counts up from `n`."));
        assert_eq!(traced(&Context::detached(), 1).collect::<Vec<_>>().await, [1, 2]);
        assert_eq!(walk(2).collect::<Vec<_>>().await, [2, 1, 0]);
        assert_eq!(words("a b".to_owned()).count(), 2);
    }
}
