use qtasks::prelude::*;
#[task(nmae = "x", retry = "often", time_limit = "long", timeout = "3s", tags = "a", echo, queue = "io")]
async fn f(a: &str, b: impl Into<String>, #[default = 3] ctx: Context) -> i64 {
    1
}
#[task(keep = last(3), yields_max = 3, on_retry = restart, generate_handler = h)]
async fn g(from: Resume<i64>) -> i64 {
    1
}
#[task(prority = 3)]
async fn used(n: i64) -> i64 {
    yield_!(n);
}
async fn user(app: &Qtasks) -> qtasks::Result<()> {
    let task = used::add_task(3).on(app).await?;
    let values: Vec<i64> = used(3).collect().await;
    task.cancel("no more").await?;
    f::add_task("a", "b");
    drop(values);
    Ok(())
}
fn main() {}
