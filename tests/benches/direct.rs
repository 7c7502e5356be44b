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

/// Nanoseconds per item.
#[inline(never)]
fn drive(stream: impl Stream<Item = u64>) -> f64 {
    let mut stream = pin!(stream);
    let mut cx = Context::from_waker(Waker::noop());
    let start = Instant::now();
    let mut n = 0;
    while let Poll::Ready(Some(x)) = stream.as_mut().poll_next(&mut cx) {
        black_box(x);
        n += 1;
    }
    let took = start.elapsed();
    assert_eq!(n, N);
    took.as_nanos() as f64 / N as f64
}

pub(crate) fn run(table: &mut Table) {
    let ours = || drive(numbers(black_box(N)));
    let what = "a yield, called directly: / async_stream";
    let both = rounds(what, ours, || drive(by_async_stream(black_box(N))));
    table.ratio(what, "ns", &both, Aim::AtMost(0.6), "");
    let what = "a yield, called directly: / hand-written";
    let both = rounds(what, ours, || drive(ByHand { n: black_box(N), i: 0, x: N }));
    table.ratio(what, "ns", &both, Aim::AtMost(1.3), "");
}
