use qtasks::prelude::*;
#[task]
async fn f(n: i64) -> impl serde::Serialize {
    n
}
#[task]
fn g(n: i64) -> impl Future<Output = i64> {
    async move { n }
}
#[task]
async fn h(n: i64) -> Vec<impl Clone> {
    yield_!(vec![n]);
}
#[task]
async fn i(#[cfg(any())] n: i64, m: i64) -> i64 {
    m
}
fn main() {}
