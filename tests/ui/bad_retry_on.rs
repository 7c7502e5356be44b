use qtasks::prelude::*;
fn of_another(error: &std::fmt::Error) -> bool {
    error.to_string().is_empty()
}
#[task(retry = 3, retry_on = of_another)]
async fn f() -> Result<(), String> {
    Ok(())
}
fn main() {}
