use qtasks::prelude::*;
#[task(name = "mail send")]
async fn f() {}
#[task(name = "", queue = "a/b", tags("ok", "not ok"))]
async fn g() {}
#[task]
async fn größe() {}
#[task(name = 3)]
async fn h() {}
const CONSTANT: &str = "näme";
#[task(name = CONSTANT)]
async fn i() {}
#[task(name = concat!("mail", ".", "send"))]
async fn right() {}
fn main() {
    let _ = (f::add_task(), g::add_task(), größe::add_task(), right::add_task());
}
