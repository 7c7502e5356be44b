use qtasks::prelude::*;
#[task(keep = last(100))]
async fn ticks() -> u64 {
    yield_!(1);
}
#[task(keep = last(100), on_retry = restart)]
async fn restarted() -> u64 {
    yield_!(1);
}
#[task(keep = last(100))]
async fn resumed(from: Resume<u64>) -> u64 {
    yield_!(from.count());
}
#[task(keep = first(3))]
async fn no_such() -> u64 {
    yield_!(1);
}
#[task(keep = last)]
async fn how_many() -> u64 {
    yield_!(1);
}
fn main() {}
