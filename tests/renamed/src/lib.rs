//! Tasks of a crate that knows `qtasks` by another name.
#![deny(warnings)]
#![forbid(unsafe_code)]

use queue::{State, task, tasks, yield_};

/// Counts.
#[task(crate = queue, generate_handler = |x: i64| -> String { x.to_string() })]
pub async fn count(n: i64) -> i64 {
    for i in 0..n {
        yield_!(i);
    }
}

/// Adds.
#[queue::task(crate = ::queue)]
pub fn add(state: State<i64>, a: i64) -> i64 {
    a + *state
}

tasks!(
    /// Counts.
    #[task(crate = queue)]
    pub async gen fn modern(n: i64) -> i64 {
        for i in 0..n {
            yield i
        }
    }
);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use queue::Qtasks;

    use super::*;

    #[tokio::test]
    async fn tasks_of_a_renamed_crate_run() {
        let specs = [count::spec(), add::spec(), modern::spec()];
        let app = Qtasks::builder().store("memory:").tasks(specs).state(40i64).start().await.expect("it starts");
        let soon = Duration::from_secs(60);
        assert_eq!(count::add_task(2).on(&app).timeout(soon).await.expect("it succeeds").returning, ["0", "1"]);
        assert_eq!(add::add_task(2).on(&app).timeout(soon).await.expect("it succeeds").returning, 42);
        assert_eq!(modern::add_task(2).on(&app).timeout(soon).await.expect("it succeeds").returning, [0, 1]);
    }
}
