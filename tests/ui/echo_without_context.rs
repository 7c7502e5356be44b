use qtasks::prelude::*;
#[task(echo)]
async fn test_yield(n: i64, (a, b): (i64, Vec<u8>)) -> i64 {
    yield_!(n + a + b.len() as i64);
}
#[task(echo, retry = 3)]
fn plain() -> i64 {
    1
}
#[task(echo)]
async fn right(ctx: &Context) -> i64 {
    i64::from(ctx.attempt())
}
fn main() {
    let _ = test_yield::add_task(1, (2, vec![]));
    let _ = right::add_task();
}
