use qtasks::prelude::*;

struct Nothing;

#[task(executor = Nothing)]
async fn a(n: i64) -> i64 {
    yield_!(n);
}

#[task(middleware = [Nothing])]
async fn b(n: i64) -> i64 {
    n
}

fn main() {}
