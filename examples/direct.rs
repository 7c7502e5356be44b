//! A task function is still a function: call it, and unit-test it, without any queue.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use qtasks::prelude::*;

async fn add_two(x: i64) -> i64 {
    x + 2
}

/// Yields n + 1 to n + n.
#[task(generate_handler = add_two)]
async fn test_yield(n: i64) -> i64 {
    for i in 1..=n {
        yield_!(n + i);
    }
}

/// Not `async`: a direct call gives an iterator.
#[task]
fn words(text: String) -> String {
    for word in text.split_whitespace() {
        yield_!(word.to_owned());
    }
}

/// With a final value: the stream has it after its last item.
#[task(yield = u32)]
async fn count(ctx: Context, to: u32) -> String {
    for i in 1..=to {
        yield_!(i);
    }
    format!("attempt {}", ctx.attempt())
}

/// Does not yield: a direct call gives the future.
#[task]
async fn square(x: i64) -> i64 {
    x * x
}

#[tokio::main]
async fn main() {
    // The handler belongs to the queue: a direct call gives what the body yields.
    let values: Vec<i64> = test_yield(5).collect().await;
    println!("{values:?}");
    assert_eq!(values, [6, 7, 8, 9, 10]);

    let words: Vec<String> = words("a task can yield".to_owned()).collect();
    println!("{words:?}");
    assert_eq!(words.len(), 4);

    let mut counting = std::pin::pin!(count(Context::detached(), 3));
    let counted: Vec<u32> = counting.as_mut().collect().await;
    let last = counting.take_return();
    println!("{counted:?}, then {last:?}");
    assert_eq!((counted, last), (vec![1, 2, 3], Some("attempt 1".to_owned())));

    println!("{}", square(7).await);
    assert_eq!(square(7).await, 49);
}
