use qtasks::{Context, task, yield_};
#[task]
async fn f(ctx: &Context) -> &str { yield_!(ctx.name()); }
#[task]
async fn g(ctx: &Context) -> std::borrow::Cow<'_, str> { ctx.name().into() }
#[task]
async fn h(x: i64) -> &'static str { yield_!("x"); }
fn main() {}
