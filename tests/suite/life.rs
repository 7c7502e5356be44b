//! The life of a task, from adding it to its end.

use std::time::Duration;

use qtasks::prelude::*;

async fn add_two(x: i64) -> i64 {
    x + 2
}

/// Test task with a generator.
#[task(generate_handler = add_two)]
async fn test_yield(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(n + i);
    }
}

#[tokio::test]
async fn quick() {
    let app = Qtasks::builder().store("memory:").tasks([test_yield::spec()]).start().await.unwrap();
    let task = test_yield::add_task(5).on(&app).timeout(Duration::from_secs(50)).await.unwrap();
    assert_eq!(task.returning, [8, 9, 10, 11, 12]);
    let mut values = test_yield::add_task(5).on(&app).await.unwrap().stream();
    let mut all = Vec::new();
    while let Some(value) = values.try_next().await.unwrap() {
        all.push(value);
    }
    assert_eq!(all, [8, 9, 10, 11, 12]);
    app.shutdown().await.unwrap();
}
