//! A program whose tasks say what they are told to, in every way that there is.

use std::process::ExitCode;

use qtasks::prelude::*;
use tracing_subscriber::layer::SubscriberExt as _;

#[task]
async fn yields(text: String) -> serde_json::Value {
    yield_!(serde_json::json!(text));
    yield_!(serde_json::json!({ "message": format!("3/10 {text}") }));
}

#[task]
async fn returns(text: String) -> String {
    text
}

#[task(yield = u32)]
async fn sums_up(text: String) -> String {
    yield_!(1);
    text
}

#[task(retry = 1, backoff = none)]
async fn fails(text: String) -> Result<(), String> {
    Err(text)
}

#[task]
async fn panics(text: String) {
    panic!("{text}");
}

#[task(isolation = "process")]
fn panics_apart(text: String) {
    panic!("{text}");
}

#[task]
async fn tells(ctx: Context, text: String) -> u32 {
    ctx.send_event("told", &text);
    tracing::warn!(field = text, "{text}");
    yield_!(1);
}

#[tokio::main]
async fn main() -> ExitCode {
    // Else the log of the command line takes what is said.
    if std::env::var_os("TELLING_LOG").is_some() {
        let subscriber = tracing_subscriber::registry().with(qtasks::TaskLog::new());
        tracing::subscriber::set_global_default(subscriber).expect("nobody else sets one");
    }
    qtasks::cli::main().await
}
