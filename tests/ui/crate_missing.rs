#[qtasks::task(crate = nowhere)]
async fn f() {}
fn main() {}
