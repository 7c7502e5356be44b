use qtasks::prelude::*;
#[task(executor = 3)]
async fn f() {}
#[task(priority = "high")]
async fn g() {}
#[task(priority = 100_000)]
async fn h() {}
#[task(yields_max = "many")]
async fn i() -> i64 {
    yield_!(1);
}
#[task(description = 3)]
async fn j() {}
#[task(retry = 3u64.into())]
async fn k() {}
fn main() {}
