//! A pipeline within one task, which says where it is: each step uses the data of the one before. Written with bare
//! `yield`, which works in `tasks!( … )`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use qtasks::prelude::*;
use tokio::sync::Mutex;

static SAVED: Mutex<Vec<String>> = Mutex::const_new(Vec::new());

async fn fetch_data(job_id: u64) -> Vec<String> {
    (0..job_id).map(|i| format!(" {} ", i * 7)).collect()
}

fn validate_data(data: &[String]) -> Result<Vec<u64>, std::num::ParseIntError> {
    data.iter().map(|text| text.trim().parse()).collect()
}

fn transform_data(data: &[u64]) -> Vec<String> {
    data.iter().filter(|n| *n % 2 == 0).map(|n| format!("item {n}")).collect()
}

async fn save_results(job_id: u64, items: &[String]) {
    SAVED.lock().await.extend(items.iter().map(|item| format!("{item} of job {job_id}")));
}

tasks!(
    /// Runs a pipeline of several steps with status updates.
    #[task]
    async fn run_pipeline(job_id: u64) -> Result<String, std::num::ParseIntError> {
        yield "Step 1: Fetching data...\n".to_owned();
        let data = fetch_data(job_id).await;

        yield "Step 2: Validating...\n".to_owned();
        let validated = validate_data(&data)?;

        yield "Step 3: Transforming...\n".to_owned();
        let transformed = transform_data(&validated);

        yield "Step 4: Saving results...\n".to_owned();
        save_results(job_id, &transformed).await;

        yield format!("Pipeline complete: processed {} items\n", transformed.len());
    }
);

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = qtasks::init("memory:").await?;
    let mut steps = run_pipeline::add_task(9).await?.stream();
    let mut output = String::new();
    while let Some(step) = steps.try_next().await? {
        print!("{step}");
        output += &step;
    }
    assert_eq!(output.lines().count(), 5);
    assert!(output.ends_with("Pipeline complete: processed 5 items\n"));
    assert_eq!(SAVED.lock().await.last().map(String::as_str), Some("item 56 of job 9"));
    app.shutdown().await
}
