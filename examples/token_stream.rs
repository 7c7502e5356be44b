//! The tokens of a language model, as they come, for several who watch over HTTP: one from the first token on, one who
//! comes late, and one who leaves and comes back. All read the same text. The model is played by a file.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Context as _;
use qtasks::EventKind;
use qtasks::client::Client;
use qtasks::http::Config;
use qtasks::prelude::*;

const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/answers.txt");

/// Answers a prompt, token by token.
#[task]
async fn answer(prompt: String) -> anyhow::Result<String> {
    let answers = std::fs::read_to_string(ANSWERS)?;
    let answer =
        answers.split("\n\n").find(|text| text.contains(&prompt)).context("the model has no answer to that")?;
    for token in answer.trim_end().split_inclusive(' ') {
        tokio::time::sleep(Duration::from_millis(20)).await;
        yield_!(token.to_owned());
    }
    Ok(())
}

/// Reads all tokens, those that came before it as well.
async fn late(client: Client, id: qtasks::TaskId) -> anyhow::Result<String> {
    let missed = client.record(id).await?.yields;
    let text: Vec<String> = client.stream(id).try_collect().await?;
    println!("\n[one who came after {missed} tokens has all {}]", text.len());
    Ok(text.concat())
}

/// Reads some tokens, loses its connection, and goes on behind the last one that it has.
async fn restless(task: TaskHandle<answer>) -> anyhow::Result<String> {
    let (mut text, mut seq) = (String::new(), 0);
    loop {
        let mut events = task.events_from(seq + 1).take(9);
        while let Some(event) = events.try_next().await? {
            seq = event.seq;
            match event.kind {
                EventKind::Yield { value, .. } => text += &value.get::<String>()?,
                EventKind::Completed { .. } => return Ok(text),
                _ => {}
            }
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = qtasks::init("memory:").await?;
    let server = app.serve(Config::default().listen("127.0.0.1:0").no_auth()).await?;
    let client = Client::new(server.url())?;

    let task = answer::add_task("lighthouse".to_owned()).on(&client).await?;
    let restless = tokio::spawn(restless(task.clone()));
    let (mut text, mut tokens, mut second) = (String::new(), task.stream(), None);
    while let Some(token) = tokens.try_next().await? {
        print!("{token}");
        std::io::Write::flush(&mut std::io::stdout())?;
        text += &token;
        if second.is_none() && text.contains("midnight") {
            second = Some(tokio::spawn(late(client.clone(), task.id())));
        }
    }
    assert!(text.ends_with("to those who come late."));
    assert_eq!(second.context("it has joined")?.await??, text);
    assert_eq!(restless.await??, text);
    println!("[one who came and went every few tokens has the same]");
    app.shutdown().await?;
    Ok(())
}
