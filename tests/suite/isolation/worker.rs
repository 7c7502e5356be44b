//! A process with a worker that runs isolated tasks: the suite's own has no `main` to call `child_entry` in.
#![expect(clippy::unwrap_used, reason = "a process whose panics fail a test")]

mod tasks;

use std::time::Duration;

use qtasks::Qtasks;

#[tokio::main]
async fn main() {
    qtasks::child_entry();
    let url = std::env::args().nth(1).expect("the URL of a store");
    std::thread::spawn(|| {
        // Nothing comes; when it ends, nobody is there any more who could end this process.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    let app = Qtasks::builder().store(url).scan(Duration::from_millis(100)).grace(Duration::from_millis(100));
    app.start().await.unwrap().run().await.unwrap();
}
