//! A server that the suite kills: a page, the script that it imports, and the tasks at `/jobs`.
//!
//! `watched-server FOLDER PORT`: the store and the gates are in the folder; it prints its port.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a process whose panics fail a test")]

use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use qtasks::http::{Tokens, service};
use qtasks::prelude::*;

/// Yields 1 to `n`, and waits in the middle for two files.
#[task]
async fn ticks(n: u64, folder: State<PathBuf>) -> u64 {
    for i in 1..=n {
        if i % (n / 3) == 0 && i < n {
            let gate = folder.join((i / (n / 3)).to_string());
            while !gate.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        yield_!(i);
    }
}

#[tokio::main]
async fn main() {
    let [folder, port] = std::env::args().skip(1).collect::<Vec<_>>().try_into().expect("FOLDER PORT");
    std::thread::spawn(|| {
        // Nothing comes; when it ends, nobody is there any more who could end this process.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let folder = PathBuf::from(folder);
    let app = Qtasks::builder().store(format!("sqlite:{}", folder.join("q.db").display())).state(folder);
    let app = app.lease(Duration::from_secs(2)).scan(Duration::from_millis(300)).crashes(20).start().await.unwrap();
    let tokens = Tokens::parse(&std::env::var("QTASKS_TOKEN").unwrap()).unwrap();
    let script = ([("content-type", "text/javascript")], include_str!("../../../../examples/clients/watch.mjs"));
    let router = Router::new()
        .route("/", get(async || Html(include_str!("../../../clients/page.html"))))
        .route("/watch.mjs", get(async move || script))
        .nest_service("/jobs", service(&app).tokens(tokens).hosts(["127.0.0.1"]));
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    axum::serve(listener, router).await.unwrap();
}
