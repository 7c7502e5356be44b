#![allow(unused)]
use qtasks::{task, tasks, yield_};
use qtasks::{State, Context};
struct Db;
#[task]
async fn f(#[context] db: Db) -> i64 { 1 }
#[task]
async fn g(db: &State<Db>) -> i64 { 1 }
#[task]
async fn h(#[default] ctx: Context) -> i64 { 1 }
fn main() {}
