use qtasks::prelude::*;
#[task(cron = "0 3 * *")]
async fn four() {}
#[task(cron = 3)]
async fn number() {}
#[task(every = "soon")]
async fn soon() {}
#[task(every = 30)]
async fn unit() {}
#[task(every = "1ms")]
async fn often() {}
#[task(every = "30s", cron = "0 3 * * *")]
async fn both() {}
#[task(every = "30s", timezone = "Europe/Berlin")]
async fn zone() {}
#[task(cron = "0 9 * * Mon-Fri")]
async fn report(ctx: Context, days: u32, to: Option<String>, #[default = 3] n: u32) {
    let _ = (ctx, days, to, n);
}
fn main() {}
