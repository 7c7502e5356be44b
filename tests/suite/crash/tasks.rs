//! The task functions that are killed. Each says what it does before it does it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use qtasks::RetryPolicy;
use qtasks::prelude::*;
use serde::Serialize;

use super::values::{Item, NOTE_EVERY, mixed, payload};
use super::witness::{self, Said, Witness, now};

/// Of this process.
static WITNESS: OnceLock<Witness> = OnceLock::new();
/// How often handlers were called in this process.
static HANDLED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn testify(witness: Witness) {
    WITNESS.set(witness).expect("once");
}

pub(crate) fn say(said: Said) {
    WITNESS.get().expect("set before anything else").say(said);
}

pub(crate) fn handled() -> u64 {
    HANDLED.load(Ordering::SeqCst)
}

/// An item, and where it comes from, which is not part of it: another attempt yields the same.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(transparent)]
struct Yielded {
    item: Item,
    #[serde(skip)]
    at: witness::Item,
}

/// What the body of a task yields at an index, where items are compared with those of earlier attempts, or not.
fn one(ctx: &Context, task: u32, compared: bool, seed: u64, index: u64) -> Yielded {
    let item = Item { index, payload: payload(seed, index) };
    let at = witness::Item { task, attempt: ctx.attempt(), index, hash: item.hash(compared) };
    say(Said::Yielded(at));
    Yielded { item, at }
}

fn keep_sync(yielded: Yielded) -> u64 {
    say(Said::Handled(yielded.at));
    HANDLED.fetch_add(1, Ordering::SeqCst);
    yielded.item.kept()
}

async fn keep(yielded: Yielded) -> u64 {
    keep_sync(yielded)
}

#[task(generate_handler = keep -> u64, yields_max = 1_000_000)]
async fn steady(ctx: Context, task: u32, n: u64, seed: u64) -> Yielded {
    for index in 0..n {
        yield_!(one(&ctx, task, true, seed, index));
    }
}

#[task(generate_handler = keep_sync -> u64, yields_max = 1_000_000)]
fn steady_sync(ctx: Context, task: u32, n: u64, seed: u64) -> Yielded {
    for index in 0..n {
        yield_!(one(&ctx, task, true, seed, index));
    }
}

/// From some early place on, each attempt yields what no other does.
#[task(generate_handler = keep -> u64, yields_max = 1_000_000)]
async fn erratic(ctx: Context, task: u32, n: u64, seed: u64) -> Yielded {
    let from = mixed(seed ^ u64::from(ctx.attempt())) % (n / 16).max(1);
    let own = mixed(now() ^ u64::from(std::process::id()));
    for index in 0..n {
        let seed = if index < from { seed } else { own };
        yield_!(one(&ctx, task, true, seed, index));
    }
}

#[task(generate_handler = keep -> u64, yields_max = 1_000_000)]
async fn resumed(ctx: Context, from: Resume<u64>, task: u32, n: u64, seed: u64) -> Yielded {
    // What was kept with the last yield, neither more nor less.
    assert_eq!(from.checkpoint::<u64>(), from.count().checked_sub(1));
    for index in from.count()..n {
        ctx.checkpoint(&index);
        yield_!(one(&ctx, task, false, seed, index));
    }
}

#[task(generate_handler = keep_sync -> u64, on_retry = restart, yields_max = 1_000_000)]
async fn restarted(ctx: Context, task: u32, n: u64, seed: u64) -> Yielded {
    for index in 0..n {
        yield_!(one(&ctx, task, false, seed, index));
    }
}

/// With events of its own between values.
#[task(generate_handler = keep -> u64, yields_max = 1_000_000)]
async fn noted(ctx: Context, task: u32, n: u64, seed: u64) -> Yielded {
    for index in 0..n {
        if index.is_multiple_of(NOTE_EVERY) {
            ctx.send_event("note", index);
        }
        yield_!(one(&ctx, task, true, seed, index));
    }
}

/// Errors now and then, always at the same place.
#[task(generate_handler = keep -> u64, retry = RetryPolicy::times(1_000).constant(Duration::from_millis(250)))]
async fn failing(ctx: Context, task: u32, n: u64, seed: u64) -> Result<Yielded, String> {
    for index in 0..n {
        if index == n / 2 && ctx.attempt() < 6 && !ctx.attempt().is_multiple_of(2) {
            Err("again")?;
        }
        yield_!(one(&ctx, task, true, seed, index));
    }
}

#[task(generate_handler = keep -> u64)]
async fn slow(ctx: Context, task: u32, n: u64, seed: u64) -> Yielded {
    for index in 0..n {
        ctx.sleep(Duration::from_millis(10)).await;
        yield_!(one(&ctx, task, true, seed, index));
    }
}

/// Takes its process with it.
#[task(generate_handler = keep -> u64)]
async fn poison(ctx: Context, task: u32, n: u64, seed: u64) -> qtasks::Result<Yielded> {
    for index in 0..n {
        yield_!(one(&ctx, task, true, seed, index));
    }
    ctx.flush().await?;
    ctx.sleep(Duration::from_millis(50)).await;
    std::process::abort();
}

#[task]
async fn plain(ctx: Context, task: u32, n: u64, seed: u64) -> u64 {
    ctx.sleep(Duration::from_millis(n)).await;
    payload(seed, u64::from(task))
}
