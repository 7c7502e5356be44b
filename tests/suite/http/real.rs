//! Clients that others wrote, each as its users have it: browsers, Python, node, and a fuzzer of documents.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use qtasks::http::{Config, Server, Tokens};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::*;

mod browser;
mod dashboard;
mod driver;
mod fuzz;
mod seeds;
mod streams;

const TOKEN: &str = "real-0123456789abcdef";

/// What is at a path from the root.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file that `tests/run` has put below the target folder, for what a list of ours asks for.
fn installed(list: &str, folder: &str, file: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../clients").join(folder);
    let asked = std::fs::read_to_string(root("tests/clients").join(list)).unwrap();
    let has = std::fs::read_to_string(folder.join("stamp")).unwrap_or_default();
    let there = folder.join(file);
    let is = there.exists() && has == asked;
    assert!(is, "{} is not there, or not as tests/clients/{list} asks for it: `./tests/run` installs it", file);
    there
}

fn python(script: &Path) -> Command {
    let mut command = Command::new(installed("requirements.txt", "venv", "bin/python"));
    command.arg(script);
    own(command)
}

/// Runs a script of ours beside what npm has installed: node looks for that in the folders above.
fn node(script: &Path) -> Command {
    let modules = installed("package-lock.json", "node", "node_modules");
    let folder = modules.parent().unwrap().join("scripts");
    std::fs::create_dir_all(&folder).unwrap();
    let name = script.file_name().unwrap().to_str().unwrap();
    let (copy, half) = (folder.join(name), folder.join(format!("{name}.{}", std::process::id())));
    // In one step: another run may read it.
    std::fs::copy(script, &half).unwrap();
    std::fs::rename(half, &copy).unwrap();
    let mut command = Command::new("node");
    command.arg(copy);
    own(command)
}

fn own(mut command: Command) -> Command {
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).env("QTASKS_TOKEN", TOKEN);
    command
}

/// A client that runs, and what it prints.
struct Client {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}; `./tests/run` installs it"));
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Client { child, lines }
    }

    async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(soon(), self.lines.next_line()).await.expect("it goes on").unwrap()
    }

    /// The next lines, each of which is JSON.
    async fn json(&mut self, lines: usize) -> Vec<Value> {
        let mut said = Vec::new();
        while said.len() < lines {
            let line = self.line().await.unwrap_or_else(|| panic!("it ended after {said:?}"));
            said.push(serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}")));
        }
        said
    }

    /// What it has left to say, up to its end.
    async fn rest(mut self) -> String {
        let mut said = String::new();
        let rest = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                said += &line;
                said.push('\n');
            }
            self.child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(soon(), rest).await.expect("it ends");
        assert!(status.success(), "{status}: {said}");
        said
    }
}

/// A listener of its own, with [`TOKEN`].
async fn served(site: &Site) -> Server {
    let config = Config::default().listen("127.0.0.1:0").tokens(Tokens::parse(TOKEN).unwrap());
    site.app.serve(config).await.unwrap()
}
