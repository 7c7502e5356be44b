use qtasks::prelude::*;
#[task(on_retry = restrat)]
async fn f() -> u64 {
    yield_!(1);
}
#[task(on_retry = "resume")]
async fn g() -> u64 {
    yield_!(1);
}
#[task(on_retry)]
async fn h() -> u64 {
    yield_!(1);
}
fn main() {}
