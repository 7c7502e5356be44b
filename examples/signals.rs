//! Signals: who asked is told what happens to a task, and changes nothing by that.
//!
//! Progress of one task function goes to two listeners, from outside of its code.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use qtasks::prelude::*;
use qtasks::signals::{AfterLoop, OnFailure, OnSuccess};

#[task]
async fn import(rows: u32) -> String {
    for row in 1..=rows {
        yield_!(format!("{}%", row * 100 / rows));
    }
}

/// Of another kind: nobody listens to its values.
#[task]
async fn other() -> u32 {
    yield_!(1);
}

/// Those who want to hear of progress.
static LISTENERS: LazyLock<Mutex<Vec<Listener>>> =
    LazyLock::new(|| Mutex::new(vec![("dashboard", Vec::new()), ("log", Vec::new())]));

/// A name, and what was heard.
type Listener = (&'static str, Vec<String>);

/// Called after each value of `import`, once it is stored; a handler of one task function, anywhere in the program.
#[receiver(after_loop, task = import)]
fn on_progress(signal: AfterLoop, progress: String) {
    let mut listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, heard) in listeners.iter_mut() {
        println!("{name}: step {} of {} is {progress}", signal.iteration, signal.task.name());
        heard.push(progress.clone());
    }
}

/// Called for every task that fails, of whatever function.
#[receiver(on_failure)]
async fn complain(signal: OnFailure) {
    println!("{} failed: {}", signal.task.id(), signal.error.message);
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let app = Qtasks::builder().store("memory:").install();
    // One more, at the app: a closure, which may hold what it likes. That it panics changes nothing.
    let app = app.on_success(move |signal: OnSuccess| {
        let _ = ended.send(signal.task.name().to_owned());
        assert_ne!(signal.task.name(), "other", "a receiver may panic: that is logged, and the task is completed");
    });
    let app = app.start().await?;

    let task = import::add_task(4).timeout(Duration::from_secs(10)).await?;
    assert_eq!(task.returning, ["25%", "50%", "75%", "100%"]);
    assert_eq!(other::add_task().timeout(Duration::from_secs(10)).await?.returning, [1]);
    assert_eq!((ends.recv().await.as_deref(), ends.recv().await.as_deref()), (Some("import"), Some("other")));

    let listeners = LISTENERS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (_, heard) in listeners {
        assert_eq!(heard, ["25%", "50%", "75%", "100%"]);
    }
    app.shutdown().await?;
    Ok(())
}
