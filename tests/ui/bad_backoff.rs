use qtasks::prelude::*;
#[task(backoff = fixed("1s"))]
async fn alone() {}
#[task(retry = 3, backoff = linear("1s"))]
async fn unknown() {}
#[task(retry = 3, backoff = fixed(3))]
async fn number() {}
#[task(retry = 3, backoff = exponential)]
async fn bare() {}
#[task(retry = 3, backoff = exponential("1s", most = "5m"))]
async fn option() {}
#[task(retry = 3, backoff = exponential("1h", max = "5m"))]
async fn shorter() {}
#[task(retry = 3, backoff = fixed("soon"))]
async fn soon() {}
fn main() {}
