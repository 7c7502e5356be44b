//! A stream task: a value with fields, which says what it does in events and yields through its context. It is
//! stored first and started later; two watchers see the same.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{EventKind, StreamTask};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Report {
    title: String,
    #[serde(default = "five")]
    pages: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Page {
    page: u32,
    percentage: u32,
}

fn five() -> u32 {
    5
}

#[task(description = "writes a report, page by page")]
impl StreamTask for Report {
    type Item = Page;

    async fn process(&self, ctx: Context) -> Result<Page, String> {
        ctx.send_event("start", format!("Starting: {}", self.title));
        let total = self.pages;
        let last = ctx.process_generator(stream! {
            for page in 1..=total {
                yield Page { page, percentage: 100 * page / total };
            }
        });
        let last = last.await.ok_or_else(|| "a report of no pages".to_owned())?;
        ctx.send_event("complete", "done");
        Ok(last)
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = qtasks::init("memory:").await?;
    let report = Report { title: "Year".to_owned(), pages: 5 }.add_task().held().await?;
    assert!(!app.is_running(report.id()).await?);

    let values = report.stream();
    app.start_task(report.id()).await?;
    // A second start changes nothing.
    app.start_task(report.id()).await?;

    let seen: Vec<Page> = values.try_collect().await?;
    println!("{} pages, the last {:?}", seen.len(), seen[4]);
    assert_eq!(seen[4], Page { page: 5, percentage: 100 });

    // Whoever comes late reads the same, and the events between the values.
    let mut stages = Vec::new();
    let mut log = report.events_from(0);
    while let Some(event) = log.try_next().await? {
        if let EventKind::Event { name, data, .. } = event.kind {
            println!("{name}: {data}");
            stages.push(name);
        }
    }
    assert_eq!(stages, ["start", "complete"]);

    let task = report.wait_timeout(Duration::from_secs(50)).await.map_err(qtasks::Error::from)?;
    assert_eq!(task.final_value, seen[4]);
    app.shutdown().await
}
