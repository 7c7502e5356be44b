use qtasks::prelude::*;
#[task(time_limit = "soon")]
async fn f() {}
#[task(time_limit = 30)]
async fn g() {}
#[task(time_limit = 1.5)]
async fn h() {}
#[task(time_limit = 3 * 60)]
async fn i() {}
#[task(time_limit = std::time::Duration::from_secs(90))]
async fn right() {}
#[task(retry = "three")]
async fn j() {}
#[task(retry = -1)]
async fn k() {}
fn main() {}
