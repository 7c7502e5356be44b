//! The command line, as processes see each other: a program with task functions, and the binary without any.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::{soon, until};

#[cfg(unix)]
mod files;
mod keep;
mod terminal;
#[cfg(unix)]
mod tokens;
mod visible;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cli-program");
const ALONE: &str = env!("CARGO_BIN_EXE_qtasks-alone");

/// A folder in which nothing is yet, with a store of its own.
struct Home(PathBuf);

/// What became of a command.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Home {
    fn new() -> Self {
        Home(crate::scratch())
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.0.join("q.db").display())
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        for name in ["NO_COLOR", "CLICOLOR_FORCE", "CI", "QTASKS_TOKEN", "XDG_RUNTIME_DIR"] {
            command.env_remove(name);
        }
        command.args(args).current_dir(&self.0).env("QTASKS_URL", self.url()).env("XDG_STATE_HOME", &self.0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn run_as(&self, program: &str, args: &[&str]) -> Ran {
        over(self.command(program, args).spawn().unwrap()).await
    }

    /// Of the program with task functions.
    async fn run(&self, args: &[&str]) -> Ran {
        self.run_as(PROGRAM, args).await
    }

    /// A worker that has begun.
    async fn worker(&self) -> Child {
        self.worker_of(PROGRAM, 7).await
    }

    async fn worker_of(&self, program: &str, functions: u32) -> Child {
        let mut worker = self.command(program, &["worker"]).spawn().unwrap();
        let said = first_line(worker.stderr.as_mut().unwrap()).await;
        assert!(said.starts_with(&format!("a worker for {functions} task functions runs on `sqlite:")), "{said}");
        worker
    }

    /// A task that yields once, and again when the file is there.
    async fn gated(&self) -> (String, PathBuf) {
        let until = self.0.join("go");
        let until_is = format!("until={}", until.display());
        let id = self.run(&["run", "gated", &until_is, "before=1", "--no-wait"]).await.ends(0).out.trim().to_owned();
        (id, until)
    }
}

/// Waits for the end of a process.
async fn over(child: Child) -> Ran {
    let done = tokio::time::timeout(soon(), child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: done.status.code(), out: text(done.stdout), err: text(done.stderr) }
}

async fn first_line(from: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(1, from);
    tokio::time::timeout(soon(), reader.read_line(&mut line)).await.expect("it says something").unwrap();
    line.trim().to_owned()
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[tokio::test]
async fn a_task_runs_in_another_process_and_its_values_are_lines() {
    let home = Home::new();
    let _worker = home.worker().await;
    let run = home.run(&["run", "count", "n=3"]).await.ends(0);
    assert_eq!(run.out, "1\n2\n3\n");
    assert!(run.err.starts_with("task 0"), "{run:?}");
    assert_eq!(home.run(&["-q", "run", "count", "--args", "[2]"]).await.ends(0).err, "");
    // A `String` is text, whatever it looks like.
    assert_eq!(home.run(&["run", "say", "text=5", "times=2"]).await.ends(0).out, "\"55\"\n");
    assert_eq!(home.run(&["run", "say", "text=5", "--raw"]).await.ends(0).out, "5\n");
    // What a generator returns is none of its values.
    let sum = home.run(&["run", "sum", "n=2"]).await.ends(0);
    assert_eq!(sum.out, "1\n2\n");
    assert!(sum.err.ends_with("\nfinal value: \"3 in all\"\n"), "{sum:?}");
    // An isolated one runs in a process that came out of the same `main`.
    home.run(&["run", "apart"]).await.ends(0).out.trim().parse::<u32>().unwrap();

    let failed = home.run(&["run", "fails", "n=2"]).await.ends(1);
    assert_eq!(failed.out, "1\n2\n");
    let error = failed.err.lines().last().unwrap();
    assert!(error.starts_with("error: task 0") && error.ends_with("out of paper"), "{error}");

    let log = home.run(&["run", "count", "n=2", "--events"]).await.ends(0).out;
    let kinds = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone());
    assert_eq!(kinds.collect::<Vec<_>>(), ["started", "yield", "yield", "completed"]);
    assert_eq!(home.run(&["--json", "tail", "@last"]).await.ends(0).out, log);
    assert_eq!(home.run(&["tail", "@last", "--from", "3"]).await.ends(0).out, "2\n");
    assert_eq!(home.run(&["tail", "@last", "--no-follow"]).await.ends(0).out, "1\n2\n");
}

#[tokio::test]
async fn what_no_longer_holds_is_told_to_who_has_it_and_not_shown_to_others() {
    let home = Home::new();
    let _worker = home.worker().await;
    let run = home.run(&["run", "anew"]).await.ends(0);
    assert_eq!(run.out, "11\n12\n21\n22\n");
    assert!(run.err.contains("attempt 1: the task failed: out of luck; the next one is due in 0s\n"), "{run:?}");
    assert!(run.err.contains("the values from number 1 on no longer hold; they come again\n"), "{run:?}");
    let late = home.run(&["tail", "@last"]).await.ends(0);
    assert_eq!(late.out, "21\n22\n");
    assert!(!late.err.contains("no longer hold"), "{late:?}");
    assert_eq!(home.run(&["tail", "@last", "--events"]).await.ends(0).out.lines().count(), 9, "the log has all of it");
}

#[tokio::test]
async fn who_waits_for_a_worker_is_told_so() {
    let home = Home::new();
    let mut run = home.command(PROGRAM, &["run", "count", "n=1"]).spawn().unwrap();
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines();
    let mut next = async || tokio::time::timeout(soon(), said.next_line()).await.expect("it speaks").unwrap().unwrap();
    assert!(next().await.starts_with("task 0"));
    let note = next().await;
    assert!(note.starts_with("no worker has it yet: is one that knows `count` running on `sqlite:"), "{note}");
    let _worker = home.worker().await;
    assert_eq!(over(run).await.ends(0).out, "1\n");
}

#[tokio::test]
async fn what_is_stored_is_listed_and_shown() {
    let home = Home::new();
    let add = async |task: &str, more: &[&str]| {
        let args: Vec<&str> = ["run", task, "n=1", "--no-wait"].into_iter().chain(more.iter().copied()).collect();
        home.run(&args).await.ends(0).out.trim().to_owned()
    };
    let first = add("count", &["--tag", "red", "--queue", "slow", "--priority", "-3"]).await;
    let held = add("sum", &["--held"]).await;

    let list = home.run(&["list"]).await.ends(0);
    let lines: Vec<&str> = list.out.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[0].contains("  STATUS  TASK   QUEUE    ATTEMPT"), "{list:?}");
    assert!(lines[1].starts_with(&format!("{held}  held    sum ")), "{list:?}");
    assert!(lines[2].starts_with(&format!("{first}  queued  count  slow ")), "{list:?}");
    assert_eq!(lines.len(), 3);
    for (filter, id) in [
        (["--status", "queued,running"], &first),
        (["--tag", "red"], &first),
        (["--queue", "slow"], &first),
        (["--task", "sum"], &held),
        (["--limit", "1"], &held),
    ] {
        let found = home.run(&["list", "--json", filter[0], filter[1]]).await.ends(0).json();
        assert_eq!((found["tasks"].as_array().unwrap().len(), &found["tasks"][0]["id"]), (1, &Value::from(&**id)));
    }

    let shown = home.run(&["show", &first, "--json"]).await.ends(0).json();
    assert_eq!((&shown["name"], &shown["priority"], &shown["args"]["n"]), (&"count".into(), &(-3).into(), &1.into()));
    let text = home.run(&["show", &first[first.len() - 8..]]).await.ends(0).out;
    assert!(text.contains(&format!("{:11}  {first}\n", "id")) && text.contains("status       queued\n"), "{text}");

    assert_eq!(home.run(&["start", &held]).await.ends(0).out, "queued\n");
    assert_eq!(home.run(&["cancel", &held, "--reason", "enough"]).await.ends(0).out, "cancelled\n");
    assert_eq!(home.run(&["cancel", &held]).await.ends(0).out, "cancelled\n");
    let ended = home.run(&["tail", &held]).await.ends(3);
    assert_eq!(ended.err, format!("error: task {held} (`sum`) was cancelled: enough\n"));
    let again = home.run(&["retry", &held]).await.ends(0).out.trim().to_owned();
    assert_eq!(home.run(&["--json", "show", &again]).await.ends(0).json()["retry_of"], *held);
    home.run(&["retry", &again]).await.ends(2);
}

#[tokio::test]
async fn exit_codes_and_errors_say_what_to_do() {
    let home = Home::new();
    let error = async |args: &[&str], code: i32| {
        let ran = home.run(args).await.ends(code);
        assert!(ran.err.starts_with("error: ") && ran.out.is_empty(), "{ran:?}");
        ran.err
    };
    assert!(error(&["list"], 69).await.contains("q.db` is not there: give another by `--store`"));
    assert!(!home.0.join("q.db").exists(), "to look for a store does not make one");
    home.run(&["migrate"]).await.ends(0);

    let unknown = error(&["run", "cuont", "n=1"], 4).await;
    assert_eq!(unknown, "error: no task named \"cuont\"; did you mean \"count\"?\n");
    assert!(error(&["run", "count", "m=1"], 2).await.contains("`count`: "));
    assert!(error(&["run", "count", "5"], 2).await.contains("`5` is not KEY=VALUE: `count` takes n=…"));
    assert!(error(&["show", "@last"], 4).await.contains("there is no task in `sqlite:"));
    assert!(error(&["show", "00000000-0000-7000-8000-000000000000"], 4).await.contains("there is no task 00000000-"));
    assert!(error(&["tail", "abcd1234"], 4).await.contains("has an id that ends in `abcd1234`: give all of it"));
    assert!(error(&["run", "count", "n=five"], 2).await.contains("argument `n`: invalid type: string"));
    assert!(error(&["tail", "abc"], 2).await.contains("at least its last 4 digits"));
    assert!(error(&["lits"], 2).await.contains("list"));
    assert!(error(&["--store", "http://127.0.0.1:7717", "worker"], 2).await.contains("`worker` needs a store"));
    assert!(
        error(&["--store", "http://127.0.0.1:7717", "prune", "--older-than", "1h"], 2).await.contains("needs a store")
    );
    assert!(error(&["--store", "http://127.0.0.1:1", "list"], 69).await.contains("127.0.0.1:1"));
    assert!(error(&["--store", "memory:", "list"], 2).await.contains("`dev` and `run` take `memory:`"));
    assert!(error(&["--store", "ftp:x", "list"], 2).await.contains("URL of no store"));
    assert!(error(&["prune", "--older-than", "soon"], 2).await.contains("`1h 30m`"));
    assert!(home.run(&["--help"]).await.ends(0).out.contains("Exit codes: 0 done"));
    let version = home.run(&["--version"]).await.ends(0).out;
    assert!(version.starts_with("cli-program with qtasks "), "{version}");

    // Nobody runs it: it is not over in time, and goes on.
    let late = error(&["-q", "run", "count", "n=1", "--timeout", "10ms"], 124).await;
    assert!(late.contains("was not over in 10ms: it goes on"), "{late}");
    let status = home.run(&["show", "@last", "--json"]).await.ends(0).json()["status"].clone();
    assert_eq!(status, "queued");
}

/// A worker waits for its tasks when it is told to end, says so, and is not waited for when it is told again.
#[tokio::test]
async fn a_second_signal_ends_a_worker_at_once() {
    let home = Home::new();
    let mut worker = home.worker().await;
    let (id, _) = home.gated().await;
    let mut tail = home.command(PROGRAM, &["tail", &id]).spawn().unwrap();
    first_line(tail.stdout.as_mut().unwrap()).await;
    signal(&worker, "-INT");
    let said = first_line(worker.stderr.as_mut().unwrap()).await;
    assert!(said.contains("tasks are running: waiting for them, at most 25s; Ctrl-C again"), "{said}");
    let begin = std::time::Instant::now();
    signal(&worker, "-TERM");
    over(worker).await.ends(0);
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "it did not wait");
    assert_eq!(home.run(&["--json", "show", &id]).await.ends(0).json()["status"], "running", "another will go on");
}

#[tokio::test]
async fn ctrl_c_leaves_the_task_alone() {
    let home = Home::new();
    let _worker = home.worker().await;
    let until = format!("until={}", home.0.join("go").display());
    let mut run = home.command(PROGRAM, &["run", "gated", &until, "before=1"]).spawn().unwrap();
    assert_eq!(first_line(run.stdout.as_mut().unwrap()).await, r#"{"current":1,"total":2}"#);
    signal(&run, "-INT");
    let left = over(run).await.ends(130);
    let id = left.err.lines().next().unwrap().strip_prefix("task ").unwrap().to_owned();
    assert!(left.err.contains(&format!("task {id} goes on: `cli-program tail {id}` comes back")), "{left:?}");
    assert_eq!(home.run(&["--json", "show", &id]).await.ends(0).json()["status"], "running");
    assert_eq!(home.run(&["tail", &id, "--no-follow"]).await.ends(0).out, "{\"current\":1,\"total\":2}\n");
    assert_eq!(home.run(&["tail", &id, "--no-follow", "--from", "99"]).await.ends(0).out, "");

    let tail = home.command(PROGRAM, &["tail", &id]).spawn().unwrap();
    std::fs::write(home.0.join("go"), "").unwrap();
    assert_eq!(over(tail).await.ends(0).out, "{\"current\":1,\"total\":2}\n{\"current\":2,\"total\":2}\n");
}

#[tokio::test]
async fn a_running_task_is_cancelled_from_another_process() {
    let home = Home::new();
    let worker = home.worker().await;
    let (id, _) = home.gated().await;
    let mut tail = home.command(PROGRAM, &["tail", &id]).spawn().unwrap();
    assert_eq!(first_line(tail.stdout.as_mut().unwrap()).await, r#"{"current":1,"total":2}"#);
    assert_eq!(home.run(&["cancel", &id]).await.ends(0).out, "asked\n");
    let ended = over(tail).await.ends(3);
    assert!(ended.err.ends_with("was cancelled: cancelled from the command line\n"), "{ended:?}");
    signal(&worker, "-TERM");
    over(worker).await.ends(0);
}

#[tokio::test]
async fn in_memory_a_task_runs_where_it_is_added() {
    let home = Home::new();
    let run = home.run(&["--store", "memory:", "run", "count", "n=3"]).await.ends(0);
    assert_eq!(run.out, "1\n2\n3\n");
    assert!(!home.0.join("q.db").exists());
    let refused = home.run(&["--store", "memory:", "worker"]).await.ends(2);
    assert!(refused.err.contains("no other process can reach `memory:`"), "{refused:?}");
}

#[tokio::test]
async fn the_binary_alone_does_all_but_run_bodies() {
    let home = Home::new();
    let alone = async |args: &[&str]| home.run_as(ALONE, args).await;
    home.run(&["migrate"]).await.ends(0);
    for command in ["worker", "dev"] {
        let refused = alone(&[command]).await.ends(2);
        assert!(refused.err.contains("has no task functions to run: call `qtasks::cli::main()`"), "{refused:?}");
    }
    let none = alone(&["run", "count", "n=3"]).await.ends(4);
    assert!(none.err.contains("no worker has made any known in `sqlite:"), "{none:?}");
    assert!(alone(&["tasks"]).await.ends(0).err.starts_with("no task functions: "));

    let _worker = home.worker().await;
    assert_eq!(alone(&["run", "count", "n=3"]).await.ends(0).out, "1\n2\n3\n");
    assert_eq!(alone(&["run", "say", "text=5"]).await.ends(0).out, "\"5\"\n", "types are published");
    assert!(alone(&["run", "cuont"]).await.ends(4).err.contains("did you mean \"count\"?"));
    assert!(alone(&["run", "count"]).await.ends(2).err.contains("argument `n` (`u64`) is missing"));
    let tasks = alone(&["tasks"]).await.ends(0).out;
    assert!(tasks.contains("say(text: String, times: usize = …)\n"), "{tasks}");
    let own = home.run(&["tasks"]).await.ends(0).out;
    assert!(own.contains("\nsay(text: String, times: usize = 1)  Says it again.\n"), "{own}");
    let json = home.run(&["tasks", "--json"]).await.ends(0).json();
    assert_eq!((json["tasks"].as_array().unwrap().len(), &json["tasks"][2]["name"]), (7, &"count".into()));
}

/// An answer to `GET /health`, over whatever it is.
async fn health(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(soon(), stream.read_to_string(&mut answer)).await.expect("it answers").unwrap();
    answer
}

#[tokio::test]
async fn a_server_listens_and_prints_where() {
    let home = Home::new();
    home.run(&["migrate"]).await.ends(0);
    let mut server = home.command(ALONE, &["serve", "--port", "0"]).spawn().unwrap();
    let url = first_line(server.stdout.as_mut().unwrap()).await;
    let address = url.strip_prefix("http://").unwrap();
    assert!(health(tokio::net::TcpStream::connect(address).await.unwrap()).await.starts_with("HTTP/1.1 200 OK"));
    let list = format!("{url}/v1/tasks");
    let ask = reqwest::Client::new();
    assert_eq!(ask.get(&list).send().await.unwrap().status(), 401);
    signal(&server, "-TERM");
    let told = over(server).await.ends(0).err;
    let token = told.split_once("Authorization: Bearer ").unwrap().1.split('`').next().unwrap();

    // The next one knows the same token, and prints none. It has another name, too.
    let mut server = home.command(PROGRAM, &["runserver_stream", "--port", "0"]).spawn().unwrap();
    let list = format!("{}/v1/tasks", first_line(server.stdout.as_mut().unwrap()).await);
    let listed = ask.get(&list).header("authorization", format!("Bearer {token}")).send().await.unwrap();
    assert_eq!(listed.status(), 200);
    drop(listed);
    signal(&server, "-TERM");
    assert!(!over(server).await.ends(0).err.contains(token));

    for (given, path) in [(Some("own.sock"), "own.sock"), (None, "qtasks/http.sock")] {
        let args: Vec<&str> = ["serve", "--no-auth", "--socket"].into_iter().chain(given).collect();
        let mut server = home.command(ALONE, &args).spawn().unwrap();
        let url = first_line(server.stdout.as_mut().unwrap()).await;
        assert!(url.starts_with("unix:") && url.ends_with(path), "{url}");
        assert!(health(tokio::net::UnixStream::connect(home.0.join(path)).await.unwrap()).await.contains("\r\n\r\nOK"));
        signal(&server, "-INT");
        over(server).await.ends(0);
    }
    let open = home.run(&["serve", "--host", "0.0.0.0", "--port", "0", "--no-auth"]).await.ends(2);
    assert!(open.err.contains("can be reached from elsewhere"), "{open:?}");
}

/// All that watches and adds does so through a server as well, with the token of this user.
#[tokio::test]
async fn a_server_does_as_well_as_a_store() {
    let home = Home::new();
    let mut dev = home.command(PROGRAM, &["dev", "--port", "0"]).env_remove("QTASKS_URL").spawn().unwrap();
    let url = first_line(dev.stdout.as_mut().unwrap()).await;
    let at = |args: &[&str]| {
        let args: Vec<&str> = ["--store", &*url].iter().chain(args).copied().collect();
        let mut command = home.command(ALONE, &args);
        async move { over(command.spawn().unwrap()).await }
    };
    assert_eq!(at(&["run", "count", "n=3"]).await.ends(0).out, "1\n2\n3\n");
    assert!(at(&["tasks"]).await.ends(0).out.contains("count(n: "));
    assert_eq!(at(&["tail", "@last", "--from", "3"]).await.ends(0).out, "2\n3\n");
    assert_eq!(at(&["show", "@last", "--json"]).await.ends(0).json()["status"], "completed");
    assert!(at(&["list"]).await.ends(0).out.contains("completed"));
    assert!(at(&["run", "cuont", "n=3"]).await.ends(4).err.contains("did you mean \"count\"?"));
    let held = at(&["run", "count", "n=1", "--held", "--no-wait"]).await.ends(0).out;
    assert_eq!(at(&["start", held.trim()]).await.ends(0).out.trim(), "queued");
    at(&["tail", held.trim()]).await.ends(0);
    at(&["retry", held.trim()]).await.ends(0);
    assert_eq!(at(&["cancel", held.trim()]).await.ends(0).out.trim(), "completed");
    signal(&dev, "-TERM");
    over(dev).await.ends(0);
}

/// Nobody runs the task yet, and the server goes before that is said: who watches stays, and sees it when it is back.
#[tokio::test]
async fn who_watches_stays_when_the_server_goes() {
    let home = Home::new();
    home.run(&["migrate"]).await.ends(0);
    let serve = |port: &str| home.command(PROGRAM, &["serve", "--port", port]).spawn().unwrap();
    let mut server = serve("0");
    let url = first_line(server.stdout.as_mut().unwrap()).await;
    home.run(&["run", "count", "n=3", "--no-wait"]).await.ends(0);
    let tail = home.command(PROGRAM, &["--store", &url, "tail", "@last"]).stderr(Stdio::null()).spawn().unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    signal(&server, "-KILL");
    over(server).await;
    // It would ask by now whether there is a worker.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let _server = serve(url.rsplit(':').next().unwrap());
    let _worker = home.worker().await;
    assert_eq!(over(tail).await.ends(0).out, "1\n2\n3\n");
}

#[tokio::test]
async fn dev_is_a_worker_and_a_server_in_one() {
    let home = Home::new();
    let mut command = home.command(PROGRAM, &["dev", "--port", "0", "--no-auth"]);
    let mut dev = command.env_remove("QTASKS_URL").spawn().unwrap();
    let url = format!("{}/v1/tasks", first_line(dev.stdout.as_mut().unwrap()).await);
    let task = reqwest::Client::new().post(url).header("prefer", "wait=60").header("content-type", "application/json");
    let done = task.body(r#"{"task":"count","args":{"n":3}}"#).send().await.unwrap().text().await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&done).unwrap()["returning"], serde_json::json!([1, 2, 3]), "{done}");
    signal(&dev, "-TERM");
    assert!(over(dev).await.ends(0).err.starts_with("a worker for 7 task functions runs on `memory:`"));
    assert!(std::fs::read_dir(&home.0).unwrap().next().is_none(), "it leaves nothing");
}

/// Lines of a session in a block of the README: what is typed, and what comes.
fn session(block: &str) -> Vec<(String, Vec<String>)> {
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(typed), _) => steps.push((typed.split(" #").next().unwrap().trim().to_owned(), Vec::new())),
            (None, Some((_, comes))) => comes.push(line.to_owned()),
            (None, None) => panic!("{line}: nothing was typed"),
        }
    }
    steps
}

#[tokio::test]
async fn the_session_of_the_readme_goes_as_it_stands_there() {
    let readme = include_str!("../../README.md");
    let section = readme.split_once("\n## From the command line\n").unwrap().1.split_once("\n## ").unwrap().0;
    let blocks: Vec<&str> =
        section.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 1);
    let home = Home::new();
    let _worker = home.worker().await;
    let steps = session(blocks[0]);
    assert!(steps.len() > 3, "{steps:?}");
    for (typed, comes) in steps {
        let args: Vec<&str> = typed.strip_prefix("mybin ").unwrap().split_whitespace().collect();
        let ran = home.run(&args).await;
        let lines: Vec<&str> =
            ran.out.lines().chain(ran.err.lines().filter(|line| line.starts_with("error"))).collect();
        assert_eq!(lines.len(), comes.len(), "$ {typed}: {ran:?}");
        for (line, expected) in lines.iter().zip(&comes) {
            // What is another each time stands there as `…`.
            let [line, expected] =
                [line, &**expected].map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            let mut rest = &*line;
            for part in expected.split('…') {
                let at = rest.find(part.trim()).unwrap_or_else(|| panic!("$ {typed}: {line:?}, not {expected:?}"));
                rest = &rest[at + part.trim().len()..];
            }
        }
    }
}
