use qtasks::prelude::*;
#[task(on_retry = restart)]
async fn f(from: Resume<u64>) -> u64 {
    yield_!(from.count());
}
fn main() {
    let _ = f::add_task();
}
