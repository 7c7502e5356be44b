//! Many arguments, one result: `Iter`, a chain, a pipe and a group. Each is a task of its own that workers run.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::prelude::*;
use qtasks::{Iter, chain};

#[task]
async fn floor(x: f64) -> f64 {
    x.floor()
}

#[task]
fn copysign(x: f64, y: f64) -> f64 {
    x.copysign(y)
}

#[task]
async fn upto(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(i);
    }
}

#[task]
async fn sum(values: Vec<i64>) -> i64 {
    values.iter().sum()
}

#[task]
async fn double(n: i64) -> i64 {
    2 * n
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = qtasks::init("memory:").await?;
    let soon = Duration::from_secs(10);

    // One task a number, one list: in the order of the arguments, each by itself a `Result`.
    let mut floors = floor::iter((0..100).map(f64::from));
    floors.run().await?;
    let list = floors.result(soon).await?.expect("in time");
    let list: Vec<f64> = list.into_iter().collect::<qtasks::Result<_>>()?;
    assert_eq!(list, (0..100).map(f64::from).collect::<Vec<_>>());

    // Arguments one by one, and what all of them have in common by its name.
    let mut pairs = Iter::<copysign>::new().with("y", -1);
    assert_eq!([1, 2, 3].map(|x| pairs.append(x)), [1, 2, 3]);
    let id = pairs.run().await?;
    let list: Vec<f64> = app.result(id, soon).await?.expect("in time").into_iter().collect::<qtasks::Result<_>>()?;
    println!("{list:?}");
    assert_eq!(list, [-1.0, -2.0, -3.0]);

    // Arguments are read while results come, here as they finish.
    let mut live = double::iter((0..2_000).filter(|n| n % 3 == 0)).unordered().stream().await?;
    let (mut count, mut total) = (0, 0);
    while let Some(doubled) = live.try_next().await? {
        (count, total) = (count + 1, total + doubled?);
    }
    assert_eq!((count, total), (667, 2 * 666_333));

    // One after the other, each with what the one before it returned.
    let chained = chain(upto::add_task(4)).then::<sum>().then::<double>().timeout(soon).await?;
    assert_eq!(chained.final_value, 20);

    // Each value of one task is the argument of another.
    let piped = upto::add_task(4).pipe::<double>().timeout(soon).await?;
    assert_eq!(piped.returning.into_iter().collect::<qtasks::Result<Vec<_>>>()?, [2, 4, 6, 8]);

    // Under one name, wherever and by whomever they are added.
    app.add_all((1..=3).map(|n| double::add_task(n).group("doubles"))).await?;
    let group = app.group("doubles");
    group.wait().await?;
    assert_eq!(group.results::<i64>().await?, [2, 4, 6]);
    println!("a group of {:?}, of which {} were deleted", group.count().await?, group.delete().await?);
    Ok(app.shutdown().await?)
}
