//! `EventSource` as Chromium has it, over a server process that is killed again and again.

use std::path::PathBuf;

use super::driver::Browser;
use super::*;

const VALUES: u64 = 6_000;

/// A server process, and the place that it is started at again.
struct Process {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Process {
    async fn new() -> Self {
        let mut process = Process { folder: crate::scratch(), port: 0, child: None };
        process.start().await;
        process
    }

    async fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watched-server"));
        command.arg(&self.folder).arg(self.port.to_string()).env("QTASKS_TOKEN", TOKEN);
        // Where its input ends, this process is gone, and it goes too.
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(soon(), lines.next_line()).await.expect("it listens").unwrap();
        self.port = line.expect("it says its port").parse().unwrap();
        self.child = Some(child);
    }

    /// SIGKILL.
    async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.post(self.url(path)).bearer_auth(TOKEN).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }

    /// Lets the task go on behind a gate.
    fn open(&self, gate: u64) {
        std::fs::write(self.folder.join(gate.to_string()), "").unwrap();
    }
}

/// The page watches a task on both wires. Its server is killed twice; each time EventSource comes back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_comes_back_to_a_server_that_was_killed() {
    let mut server = Process::new().await;
    let added = server.post("/jobs/v1/tasks", &serde_json::json!({ "task": "ticks", "args": [VALUES] })).await;
    let id = added["id"].as_str().unwrap();
    let ticket = server.post(&format!("/jobs/v1/tasks/{id}/ticket"), &serde_json::json!({})).await;
    let browser = Browser::start().await;
    let page = format!("/?id={id}&ticket={}", ticket["ticket"].as_str().unwrap());
    browser.open(&server.url(&page)).await;
    for round in 0..2 {
        // A third of the values is behind each gate: the task is in the middle, and the page has some of them.
        let (some, opens) = (round * VALUES / 3 + 10, round + 1);
        browser.until(&format!("seen.values.length >= {some} && seen.theirs.length >= {some}")).await;
        server.kill().await;
        browser.until(&format!("seen.breaks >= {opens} && seen.theirBreaks >= {opens}")).await;
        server.start().await;
        browser.until(&format!("seen.opens > {opens} && seen.theirOpens > {opens}")).await;
        server.open(round + 1);
    }
    browser.until("seen.ends.length && seen.theirs.at(-1)[0] === 'complete'").await;
    let mut seen = browser.run("return seen").await;
    let values: Vec<u64> = serde_json::from_value(seen["values"].take()).unwrap();
    assert_eq!(values, (1..=VALUES).collect::<Vec<_>>(), "no gap, no double");
    let seqs: Vec<u64> = serde_json::from_value(seen["seqs"].take()).unwrap();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
    assert_eq!((&seen["ends"], &seen["odd"]), (&serde_json::json!(["completed"]), &serde_json::json!([])));

    let theirs: Vec<(String, Value)> = serde_json::from_value(seen["theirs"].take()).unwrap();
    let (first, last) = (&theirs[0], &theirs[theirs.len() - 1]);
    assert_eq!((&*first.0, &*last.0), ("start", "complete"));
    let values: Vec<u64> = theirs.iter().filter_map(|(_, data)| data["value"].as_u64()).collect();
    assert_eq!((values, theirs.len() as u64), ((1..=VALUES).collect(), VALUES + 2), "on the seeds' wire as well");
    let app = &last.1["_app"];
    assert_eq!((app, &last.1["_task_id"]), (&"watched_server".into(), &id.into()));
    println!("the browser opened its streams {} and {} times", seen["opens"], seen["theirOpens"]);
}
