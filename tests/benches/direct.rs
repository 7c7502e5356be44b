//! A yield of a task function that is called directly, without any queue.

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use futures::Stream;
use qtasks::prelude::*;

use crate::table::{Aim, Table, rounds};

const N: u64 = 10_000_000;
const FACTOR: u64 = 6_364_136_223_846_793_005;

#[task]
async fn numbers(n: u64) -> u64 {
    let mut x = n;
    for i in 0..n {
        x = x.wrapping_mul(FACTOR).wrapping_add(i);
        yield_!(x);
    }
}

fn by_async_stream(n: u64) -> impl Stream<Item = u64> {
    async_stream::stream! {
        let mut x = n;
        for i in 0..n {
            x = x.wrapping_mul(FACTOR).wrapping_add(i);
            yield x;
        }
    }
}

struct ByHand {
    n: u64,
    i: u64,
    x: u64,
}

impl Stream for ByHand {
    type Item = u64;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        if self.i == self.n {
            return Poll::Ready(None);
        }
        self.x = self.x.wrapping_mul(FACTOR).wrapping_add(self.i);
        self.i += 1;
        Poll::Ready(Some(self.x))
    }
}

/// Polls to the end where the whole stream is known, and can be made one loop.
#[inline(never)]
fn in_place(stream: impl Stream<Item = u64>) {
    let mut stream = pin!(stream);
    let mut cx = Context::from_waker(Waker::noop());
    let (mut n, mut sum) = (0, 0_u64);
    while let Poll::Ready(Some(x)) = stream.as_mut().poll_next(&mut cx) {
        sum = sum.wrapping_add(black_box(x));
        n += 1;
    }
    black_box(sum);
    assert_eq!(n, N);
}

/// Polls to the end where nothing is known but that it is a stream.
#[inline(never)]
fn boxed<'a>(stream: impl Stream<Item = u64> + 'a) {
    let stream: Pin<Box<dyn Stream<Item = u64> + 'a>> = black_box(Box::pin(stream));
    in_place(stream);
}

/// Nanoseconds per item.
fn time(drive: impl FnOnce()) -> f64 {
    let start = Instant::now();
    drive();
    start.elapsed().as_nanos() as f64 / N as f64
}

pub(crate) fn run(table: &mut Table) {
    let by_hand = || ByHand { n: black_box(N), i: 0, x: N };
    let what = "a yield, called directly: / async_stream";
    let both =
        rounds(what, || time(|| in_place(numbers(black_box(N)))), || time(|| in_place(by_async_stream(black_box(N)))));
    table.ratio(what, "ns", &both, Aim::AtMost(0.6), "");
    let what = "a yield, called directly: / hand-written";
    let both = rounds(what, || time(|| in_place(numbers(black_box(N)))), || time(|| in_place(by_hand())));
    table.ratio(what, "ns", &both, Aim::AtMost(1.3), "");
    // The same behind a `Box<dyn Stream>`, where most of it is the call and the state in memory.
    let what = "- boxed: / async_stream";
    let both = rounds(what, || time(|| boxed(numbers(black_box(N)))), || time(|| boxed(by_async_stream(black_box(N)))));
    table.ratio(what, "ns", &both, Aim::None, "");
    let what = "- boxed: / hand-written";
    let both = rounds(what, || time(|| boxed(numbers(black_box(N)))), || time(|| boxed(by_hand())));
    table.ratio(what, "ns", &both, Aim::None, "");
}
