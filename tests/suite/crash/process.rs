//! [`Process`]: a worker in a process of its own, and what it tells by what it prints.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

use super::orders::{Held, Orders};
use super::witness::{Line, Said};

/// A process that was asked to end does so by then.
const LEAVE: Duration = Duration::from_secs(30);

/// What it has told so far.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    claims: bool,
    reached: bool,
    dead: bool,
}

pub(crate) struct Process {
    pub(crate) name: String,
    child: Child,
    /// Never written to: where it is closed, the suite is gone, and the process goes too.
    _alive: ChildStdin,
    state: watch::Receiver<State>,
    claimed: Arc<Mutex<Vec<Held>>>,
}

impl Process {
    pub(crate) fn start(orders: &Orders) -> Self {
        Process::start_in(orders, &[])
    }

    /// Starts it with more in its environment.
    pub(crate) fn start_in(orders: &Orders, environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crash-worker"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.arg(serde_json::to_string(orders).unwrap()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let errors = std::fs::File::create(orders.dir.join(format!("{}.stderr", orders.name))).unwrap();
        let mut child = command.stderr(errors).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let _alive = child.stdin.take().expect("piped");
        let (sender, state) = watch::channel(State::default());
        let claimed = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(listen(lines, sender, Arc::clone(&claimed)));
        Process { name: orders.name.clone(), child, _alive, state, claimed }
    }

    /// Waits until it has something to do. `false` if it dies before.
    pub(crate) async fn claims(&mut self) -> bool {
        self.until(|state| state.claims).await
    }

    /// Waits until it stands at its point. `false` if it dies before.
    pub(crate) async fn reaches(&mut self) -> bool {
        self.until(|state| state.reached).await
    }

    /// Waits until it is dead, without anything done to it.
    pub(crate) async fn died(&mut self) {
        self.until(|state| state.dead).await;
    }

    async fn until(&mut self, is_so: impl Fn(&State) -> bool) -> bool {
        let state = self.state.wait_for(|state| is_so(state) || state.dead).await;
        state.is_ok_and(|state| is_so(&state))
    }

    pub(crate) fn is_dead(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// What it was given, all in all.
    pub(crate) fn claimed(&self) -> Vec<Held> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal by its name.
    pub(crate) async fn signal(&self, name: &str) {
        let Some(pid) = self.child.id() else { return };
        // A shell has this built in; a program of its own would have to be there.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await.unwrap();
        assert!(sent.success(), "{}: SIG{name}", self.name);
    }

    /// Waits until it has ended well, as it was asked to.
    pub(crate) async fn leaves(&mut self) {
        let status = tokio::time::timeout(LEAVE, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{} does not end when it is asked to", self.name)).unwrap();
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(mut self, limit: Duration) {
        let status = tokio::time::timeout(limit, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{} does not come to its end", self.name)).unwrap();
        assert!(status.success(), "{} ended with {status}", self.name);
    }
}

async fn listen(
    mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    state: watch::Sender<State>,
    claimed: Arc<Mutex<Vec<Held>>>,
) {
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str::<Line>(&line) {
            Ok(Line(_, Said::Claimed { held, .. })) => {
                claimed.lock().unwrap_or_else(PoisonError::into_inner).push(held);
                state.send_modify(|state| state.claims = true);
            }
            Ok(Line(_, Said::Reached(_))) => state.send_modify(|state| state.reached = true),
            // The end of a line may not have come.
            _ => {}
        }
    }
    state.send_modify(|state| state.dead = true);
}
