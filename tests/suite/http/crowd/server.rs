//! A server in a process of its own, so that its memory is nobody else's. It ends when its input does.

use std::time::Duration;

use qtasks::http::Config;
use qtasks::prelude::*;

/// So many values of so many bytes, one every so many milliseconds.
#[task]
async fn ticks(values: u64, bytes: usize, every_ms: u64) -> String {
    let mut ticks = tokio::time::interval(Duration::from_millis(every_ms));
    for i in 0..values {
        ticks.tick().await;
        yield_!(format!("{i:0bytes$}"));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = Qtasks::builder().store("memory:").tasks([ticks::spec()]).start().await?;
    let server = app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await?;
    eprintln!("{}", server.address().ok_or("it has no address")?);
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    app.shutdown().await?;
    Ok(())
}
