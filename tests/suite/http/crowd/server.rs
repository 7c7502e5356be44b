//! A server in a process of its own, so that its memory is nobody else's. Its argument is the URL of its store. It ends
//! when its input does.

use std::time::Duration;

use qtasks::http::Config;
use qtasks::prelude::*;

/// So many values of so many bytes, one every so many milliseconds.
#[task]
async fn ticks(values: u64, bytes: usize, every_ms: u64) -> String {
    let mut ticks = tokio::time::interval(Duration::from_millis(every_ms.max(1)));
    for i in 0..values {
        if every_ms > 0 {
            ticks.tick().await;
        }
        let digits = i.to_string();
        yield_!("0".repeat(bytes.saturating_sub(digits.len())) + &digits);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = std::env::args().nth(1).unwrap_or_else(|| "memory:".to_owned());
    let app = Qtasks::builder().store(store).tasks([ticks::spec()]).start().await?;
    let server = app.serve(Config::default().listen("127.0.0.1:0").http2().no_auth()).await?;
    eprintln!("{}", server.address().ok_or("it has no address")?);
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    app.shutdown().await?;
    Ok(())
}
