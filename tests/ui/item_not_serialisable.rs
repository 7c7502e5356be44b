use qtasks::prelude::*;
struct Row(i64);
fn id(row: Row) -> i64 {
    row.0
}
#[task(generate_handler = id -> i64)]
async fn f(n: i64) -> Row {
    yield_!(Row(n));
}
#[task(generate_handler = id -> i64, on_retry = restart)]
async fn right(n: i64) -> Row {
    yield_!(Row(n));
}
#[task(generate_handler = id -> i64)]
async fn also_right(n: i64, from: Resume<i64>) -> Row {
    yield_!(Row(n + from.count() as i64));
}
fn main() {}
