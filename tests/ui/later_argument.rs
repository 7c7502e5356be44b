use qtasks::prelude::*;
#[task(middleware = log, concurrency = 3)]
async fn f(n: i64) -> i64 {
    yield_!(n);
}
fn main() {
    let _ = f::add_task(1);
}
