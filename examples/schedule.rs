//! Schedules: a task that runs by itself, every second, until it is enough.
//!
//! `#[task(cron = "0 9 * * Mon-Fri", timezone = "Europe/Berlin")]` would have it run on weekday mornings.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use qtasks::CatchUp;
use qtasks::prelude::*;
use qtasks::signals::OnSuccess;

struct Employee {
    email: &'static str,
}

fn get_employees() -> Vec<Employee> {
    vec![Employee { email: "ada@example.org" }, Employee { email: "grace@example.org" }]
}

async fn log_notification(msg: String) -> String {
    println!("sent: {msg}");
    msg
}

/// Runs every second wherever a worker has it: whatever the number of workers, once a second.
#[task(every = "1s", generate_handler = log_notification)]
fn send_notifications() -> String {
    for employee in get_employees() {
        yield_!(format!("notified {}", employee.email));
    }
}

/// Runs when a schedule of the store says so.
#[task]
async fn greet(name: String) -> String {
    format!("good morning, {name}")
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let app = Qtasks::builder().store("memory:").on_success(move |signal: OnSuccess| {
        let _ = ended.send(signal.task.name().to_owned());
    });
    let app = app.start().await?;

    // Any task can be scheduled while the program runs, with all that its builder takes.
    let task = greet::add_task("Ada".to_owned()).priority(-1).retry(2);
    let greeting = app.schedule("greet-ada", task).every(Duration::from_millis(500)).repeats(2);
    greeting.catch_up(CatchUp::Skip).await?;

    let (mut notified, mut greeted) = (0, 0);
    while notified < 2 || greeted < 2 {
        match ends.recv().await.as_deref() {
            Some("send_notifications") => notified += 1,
            Some("greet") => greeted += 1,
            other => anyhow::bail!("{other:?} was not scheduled"),
        }
    }
    app.schedule_handle("send_notifications").pause().await?;
    for schedule in app.schedules().await? {
        println!("{}: {}, {} runs, paused: {}", schedule.name, schedule.when, schedule.runs, schedule.paused);
        assert!(schedule.runs >= 2 && schedule.next.is_none());
    }
    app.shutdown().await?;
    Ok(())
}
