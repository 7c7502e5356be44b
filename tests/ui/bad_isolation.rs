use qtasks::prelude::*;
#[task(isolation = "thread")]
async fn f() {}
#[task(isolation = true)]
async fn g() {}
#[task(isolation)]
async fn h() {}
#[task(isolation = process)]
async fn i() {}
#[task(idle_limit = 5)]
async fn j() {}
#[task(idle_limit = 1.5)]
async fn k() {}
#[task(isolation = "process", idle_limit = "5s")]
async fn right() {}
fn main() {}
