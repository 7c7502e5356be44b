//! A server of one's own, with the tasks at `/jobs` and a page that watches them live.
//!
//! ```sh
//! cargo run --example sse_server            # then open http://127.0.0.1:3000 and reload it while a count is on
//! cargo run --example sse_server -- check   # plays the browser itself, and ends
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use qtasks::http::service;
use qtasks::prelude::*;

#[task]
async fn count(n: u32) -> u32 {
    for i in 1..=n {
        tokio::time::sleep(Duration::from_millis(100)).await;
        yield_!(i);
    }
}

const PAGE: &str = r#"<!doctype html><title>qtasks</title><button>count to 50</button> <output></output><script>
const out = document.querySelector('output');
function watch(id) {
  const log = new EventSource(`/jobs/v1/tasks/${id}/events`);
  log.onmessage = event => { out.textContent = JSON.parse(event.data); };
  for (const end of ['completed', 'failed', 'cancelled'])
    log.addEventListener(end, () => { log.close(); out.textContent += ` ${end}`; });
}
document.querySelector('button').onclick = async () => {
  const added = await fetch('/jobs/v1/tasks', {
    method: 'POST', headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ task: 'count', args: { n: 50 } }),
  });
  location.hash = (await added.json()).id;
  watch(location.hash.slice(1));
};
if (location.hash) watch(location.hash.slice(1));
</script>"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = qtasks::init("memory:").await?;
    // Only this machine gets here, and only to these tasks: otherwise there would be `.tokens(…)`.
    let jobs = service(&app).no_auth().hosts(["127.0.0.1", "localhost"]);
    let router = Router::new().route("/", get(async || Html(PAGE))).nest_service("/jobs", jobs);
    let check = std::env::args().nth(1).as_deref() == Some("check");
    let listener = tokio::net::TcpListener::bind(if check { "127.0.0.1:0" } else { "127.0.0.1:3000" }).await?;
    let address = listener.local_addr()?;
    println!("http://{address}");
    let served = axum::serve(listener, router);
    if check {
        tokio::spawn(async move { served.await });
        return watch(&format!("http://{address}")).await;
    }
    Ok(served.await?)
}

/// What the page does.
async fn watch(url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    assert!(client.get(url).send().await?.text().await?.contains("EventSource"));
    let add = client.post(format!("{url}/jobs/v1/tasks")).header("content-type", "application/json");
    let added = add.body(r#"{"task":"count","args":{"n":3}}"#).send().await?;
    let task = added.headers()["location"].to_str()?.to_owned();
    let log = client.get(format!("{url}{task}/events")).send().await?.text().await?;
    println!("{log}");
    let values: Vec<_> =
        log.split("\n\n").filter(|e| e.starts_with("id")).filter_map(|e| e.split("data: ").nth(1)).collect();
    assert_eq!(values, ["1", "2", "3"]);
    assert!(log.contains("event: completed"));
    Ok(())
}
