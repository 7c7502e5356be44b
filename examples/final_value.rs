//! A task that yields, and returns something else at its end.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::num::ParseFloatError;
use std::time::Duration;

use qtasks::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Summary {
    count: usize,
    mean: f64,
}

/// Reads numbers, yields each, and sums up.
#[task(yield = f64)]
async fn numbers(text: String) -> Result<Summary, ParseFloatError> {
    let (mut count, mut sum) = (0_u32, 0.0);
    for word in text.split_whitespace() {
        let number: f64 = word.parse()?;
        yield_!(number);
        count += 1;
        sum += number;
    }
    Ok(Summary { count: count as usize, mean: sum / f64::from(count.max(1)) })
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let app = qtasks::init("memory:").await?;

    let task = numbers::add_task("1 2 6".to_owned()).timeout(Duration::from_secs(50)).await?;
    println!("yielded {:?}, returned {:?}", task.returning, task.final_value);
    assert_eq!(task.returning, [1.0, 2.0, 6.0]);
    assert_eq!(task.final_value, Summary { count: 3, mean: 3.0 });

    // A body that fails has no final value; what it yielded is kept.
    let failed = numbers::add_task("1 two 6".to_owned()).timeout(Duration::from_secs(50)).await;
    match failed.expect_err("`two` is no number") {
        qtasks::WaitError::Ended(ended) => {
            println!("{}; yielded {:?}", ended.failure(), ended.yields());
            assert_eq!(ended.returning::<f64>()?, [1.0]);
        }
        other => return Err(other.into()),
    }
    app.shutdown().await
}
