//! Tasks of a crate of edition 2021, in which `gen` is a name like any other.
#![deny(warnings)]
#![forbid(unsafe_code)]

use qtasks::{task, tasks, yield_, Context, State, Stream};

/// Borrows the context across its yields.
#[task]
pub async fn with_ctx(ctx: &Context, gen: i64) -> i64 {
    yield_!(gen);
    yield_!(i64::from(ctx.attempt()));
}

/// The same in a sync body.
#[task]
pub fn sync_ctx(ctx: &Context, n: i64) -> i64 {
    yield_!(n);
    yield_!(i64::from(ctx.attempt()));
}

/// Borrows the context across an await.
#[task]
pub async fn plain_ctx(ctx: &Context, n: i64) -> i64 {
    n + i64::from(ctx.attempt())
}

/// Borrows the context.
#[task]
pub fn plain_sync_ctx(ctx: &Context, n: i64) -> i64 {
    n + i64::from(ctx.attempt())
}

/// Yields and returns.
#[task(yield = i64)]
pub async fn both(ctx: &Context, n: i64) -> Result<i64, String> {
    yield_!(n);
    Ok(i64::from(ctx.attempt()))
}

/// Can fail, and takes a state.
#[task]
pub fn fallible(state: State<String>) -> Result<i64, std::num::ParseIntError> {
    loop {
        yield_!(state.parse()?);
    }
}

/// A stream of its own.
#[task]
pub fn own(n: i64) -> impl Stream<Item = i64> {
    futures::stream::iter(0..n)
}

tasks!(
    /// A generator.
    #[task]
    pub async gen fn modern(n: i64) -> i64 {
        for i in 0..n {
            yield i
        }
    }

    /// A sync one.
    #[task]
    pub gen fn modern_sync(n: i64) -> i64 {
        for i in 0..n {
            yield i
        }
    }
);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt;
    use qtasks::{AddTask, Qtasks, TaskFn};

    use super::*;

    async fn returning<F: TaskFn>(task: AddTask<F>) -> F::Returning {
        let app = Qtasks::builder().store("memory:").tasks([F::spec()]).start().await.expect("it starts");
        task.on(&app).timeout(Duration::from_secs(60)).await.expect("it succeeds").returning
    }

    #[tokio::test]
    async fn tasks_of_edition_2021_run() {
        assert_eq!(returning(with_ctx::add_task(2)).await, [2, 1]);
        assert_eq!(returning(sync_ctx::add_task(2)).await, [2, 1]);
        assert_eq!(returning(plain_ctx::add_task(2)).await, 3);
        assert_eq!(returning(plain_sync_ctx::add_task(2)).await, 3);
        assert_eq!(returning(both::add_task(2)).await, [2]);
        assert_eq!(returning(own::add_task(2)).await, [0, 1]);
        assert_eq!(returning(modern::add_task(2)).await, [0, 1]);
        assert_eq!(returning(modern_sync::add_task(2)).await, [0, 1]);
        let ctx = Context::detached();
        assert_eq!(with_ctx(&ctx, 1).collect::<Vec<_>>().await, [1, 1]);
        assert_eq!(sync_ctx(&ctx, 1).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(fallible(State::new("7".to_owned())).next(), Some(Ok(7)));
    }
}
