//! Bare `yield`, `gen fn` and `async gen fn` under the attribute, where the language has them.
#![feature(yield_expr, gen_blocks)]
#![deny(warnings, missing_docs)]
#![forbid(unsafe_code)]

use qtasks::task;

async fn add_two(x: i64) -> i64 {
    x + 2
}

/// With a bare `yield`.
#[task(generate_handler = add_two)]
pub async fn test_yield(n: i64) -> i64 {
    for i in 0..n {
        yield i;
    }
}

/// As the language has it.
#[task]
pub async gen fn modern(n: i64) -> i64 {
    for i in 0..n {
        yield i
    }
}

/// The same, sync.
#[task]
pub gen fn modern_sync(n: i64) -> i64 {
    for i in 0..n {
        match i {
            0 => yield 10,
            _ => yield i,
        }
    }
}

/// A `gen` block of the language's own inside of a task is not the macro's business.
#[task]
pub async fn own_block(n: i64) -> i64 {
    let inner = gen move {
        for i in 0..n {
            yield i
        }
    };
    let mut sum = 0;
    for i in inner {
        sum += i;
    }
    sum
}

/// Nor is one beside a yield.
#[task]
pub fn own_block_and_yield(n: i64) -> i64 {
    let inner = gen move {
        for i in 0..n {
            yield i
        }
    };
    for i in inner {
        yield i + 1;
    }
}

/// Nor one that is handed out.
#[task]
pub fn returns_gen(n: i64) -> impl Iterator<Item = i64> {
    gen move {
        for i in 0..n {
            yield i
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use qtasks::{AddTask, Qtasks, TaskFn};

    use super::*;

    async fn returning<F: TaskFn>(task: AddTask<F>) -> F::Returning {
        let app = Qtasks::builder().store("memory:").tasks([F::spec()]).start().await.unwrap();
        task.on(&app).timeout(Duration::from_secs(60)).await.unwrap().returning
    }

    #[tokio::test]
    async fn bare_yields_work_under_the_attribute() {
        assert_eq!(returning(test_yield::add_task(2)).await, [2, 3]);
        assert_eq!(returning(modern::add_task(2)).await, [0, 1]);
        assert_eq!(modern(2).collect::<Vec<_>>().await, [0, 1]);
        assert_eq!(returning(modern_sync::add_task(3)).await, [10, 1, 2]);
        assert_eq!(returning(own_block::add_task(4)).await, 6);
        assert_eq!(returning(own_block_and_yield::add_task(2)).await, [1, 2]);
        assert_eq!(returning(returns_gen::add_task(2)).await, [0, 1]);
    }
}
