use qtasks::prelude::*;
#[task(limit = "often")]
async fn f() {}
#[task(limit = "0/s")]
async fn g() {}
#[task(limit = 10)]
async fn h() {}
#[task(limit = 3 * 60)]
async fn i() {}
#[task(limit = qtasks::Rate::per_second(10).burst(2))]
async fn right() {}
#[task(concurrency = "four")]
async fn j() {}
#[task(concurrency = 0)]
async fn k() {}
#[task(rate_limit = "10/s", debounce = "5s")]
async fn l() {}
fn main() {}
