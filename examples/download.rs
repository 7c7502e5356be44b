//! A download over HTTP that says how far it is: pieces of 8,192 bytes, a line for each where the server tells the length, and
//! a summary. It is a sync generator, so a blocking client and files are at home in it.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use qtasks::prelude::*;

const CHUNK_BYTES: u64 = 8192;

#[task(time_limit = "10min", idle_limit = "30s")]
fn download_large_file(url: String, destination: PathBuf) -> anyhow::Result<String> {
    let mut response = reqwest::blocking::get(&url)?.error_for_status()?;
    let total_bytes = response.content_length().unwrap_or(0);

    let mut file = File::create(&destination)?;
    let (mut downloaded, mut chunk) = (0, Vec::new());
    // The client reads as much as there is: pieces are cut here.
    while response.by_ref().take(CHUNK_BYTES).read_to_end(&mut chunk)? > 0 {
        file.write_all(&chunk)?;
        downloaded += u64::try_from(chunk.len())?;
        chunk.clear();

        if let Some(percent) = (downloaded * 100).checked_div(total_bytes) {
            yield_!(format!("Downloaded {downloaded}/{total_bytes} bytes ({percent}%)\n"));
        }
    }

    yield_!(format!("Download complete: {}", destination.display()));
    Ok(())
}

/// Serves these bytes on a port of its own: at `/file` with their length, at `/unknown` without, and nothing else.
async fn serve(bytes: Vec<u8>) -> std::io::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let pieces: Vec<Vec<u8>> = bytes.chunks(5_000).map(<[u8]>::to_vec).collect();
    let unknown = async || Body::from_stream(futures::stream::iter(pieces.into_iter().map(std::io::Result::Ok)));
    let routes = Router::new().route("/file", get(async || bytes)).route("/unknown", get(unknown));
    tokio::spawn(axum::serve(listener, routes).into_future());
    Ok(server)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = qtasks::init("memory:").await?;
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let server = serve(bytes.clone()).await?;
    let destination = std::env::temp_dir().join(format!("qtasks-download-{}", std::process::id()));

    let download = download_large_file::add_task(format!("{server}/file"), destination.clone()).await?;
    let mut output = download.output_stream();
    while let Some(piece) = output.grown().await? {
        print!("{}", piece.text);
    }
    println!();
    assert_eq!(output.text().lines().nth(1), Some("Downloaded 16384/400000 bytes (4%)"));
    assert_eq!(output.text().lines().count(), 400_000_usize.div_ceil(8192) + 1);
    assert!(std::fs::read(&destination)? == bytes);

    // A server that does not tell the length: the summary alone.
    let download = download_large_file::add_task(format!("{server}/unknown"), destination.clone()).await?;
    download.wait().await?;
    assert_eq!(download.output().await?, format!("Download complete: {}", destination.display()));
    assert!(std::fs::read(&destination)? == bytes);

    assert!(download_large_file::add_task(format!("{server}/gone"), destination.clone()).await?.wait().await.is_err());
    std::fs::remove_file(destination)?;
    app.shutdown().await?;
    Ok(())
}
