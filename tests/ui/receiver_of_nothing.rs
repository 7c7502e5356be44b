use qtasks::prelude::*;
use qtasks::signals::{AfterLoop, BeforeJob};
#[receiver]
fn a(_: BeforeJob) {}
#[receiver(after_lop)]
fn b(_: AfterLoop) {}
#[receiver(before_job, when = always)]
fn c(_: BeforeJob) {}
#[receiver(before_job)]
fn d() {}
#[receiver(before_job)]
struct E;
fn main() {}
