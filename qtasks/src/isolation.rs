//! Isolation: an attempt whose body runs in a child process of its own, so that whatever ends the process ends that
//! attempt and nothing else.
//!
//! Invariant: the lease, the log and all that is promised of them stay with the worker. The child makes values, one
//! for each that it is asked for, and knows neither store nor app. `parent` is the worker's side, `child` the other,
//! `frame` what they say to each other.

#[cfg(unix)]
mod child;
#[cfg(unix)]
mod frame;
#[cfg(unix)]
mod parent;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::registry::Registry;
use crate::task::{Isolation, TaskSpec};

/// The variable by which a process knows that it is a child: its value is the inode of the socket on its stdin.
#[cfg(unix)]
const VARIABLE: &str = "QTASKS_CHILD";

/// How long a child that was asked to end may take before it is killed.
#[cfg(unix)]
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether an error says that the host has no thread, process, descriptor or memory left, which it may have later.
pub(crate) fn is_shortage(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let known = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS];
        if error.raw_os_error().is_some_and(|code| known.iter().any(|known| known.raw_os_error() == code)) {
            return true;
        }
    }
    matches!(error.kind(), std::io::ErrorKind::OutOfMemory | std::io::ErrorKind::WouldBlock)
}

/// This process would do a child's work if it were started as one.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// This process is a child.
static CHILD: AtomicBool = AtomicBool::new(false);

/// Runs the body of an isolated task if this process was started for that, and does not return then; else returns at
/// once.
///
/// A program with a task that is `#[task(isolation = "process")]` calls it in the first line of `main`, before it
/// opens files, starts threads or reads its arguments: each attempt at such a task starts the program again, with
/// the same arguments, and in there `main` is to come no further than this line. A worker whose program did not call
/// it refuses to start.
///
/// Inside of the child there is no app and no `State<T>`, stdin is empty, and `tracing` has no subscriber.
///
/// # Examples
/// ```standalone_crate,no_run
/// use qtasks::prelude::*;
///
/// #[task(isolation = "process", time_limit = "1min")]
/// fn thumbnail(path: String) -> Vec<u8> {
///     std::fs::read(path).unwrap_or_default() // by a library that is known to crash
/// }
///
/// # #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     qtasks::child_entry();
///     let app = qtasks::init("sqlite:tasks.db").await?;
///     thumbnail::add_task("a.jpg".to_owned()).await?;
/// #   app.shutdown().await?;
///     Ok(())
/// }
/// ```
pub fn child_entry() {
    ENTERED.store(true, Ordering::SeqCst);
    #[cfg(unix)]
    if let Some(socket) = child::socket() {
        CHILD.store(true, Ordering::SeqCst);
        child::live(socket);
    }
}

/// Whether this is the process of an isolated body.
pub(crate) fn is_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}

/// Whether a worker of this process can run the isolated ones among its tasks.
pub(crate) fn check(registry: &Registry) -> Result<()> {
    let isolated = || registry.iter().filter(|(_, spec)| spec.isolation == Isolation::Process);
    let mut named = String::new();
    for (name, spec) in isolated() {
        let _ = write!(named, " `{name}` ({}),", spec.place());
        if let Some(problem) = problem(spec) {
            return Err(Error::invalid(format!("`{name}` ({}) {problem}", spec.place())));
        }
    }
    if named.is_empty() {
        return Ok(());
    }
    let named = named.trim_matches([' ', ',']);
    if !cfg!(unix) {
        let message = format!("isolated tasks need Unix: leave out `isolation = \"process\"` of {named}");
        return Err(Error::invalid(message));
    }
    if !ENTERED.load(Ordering::SeqCst) {
        return Err(Error::invalid(format!(
            "isolated tasks run in children of this program, which would not know what to do: write \
             `qtasks::child_entry();` as the first line of `main`; isolated are {named}"
        )));
    }
    Ok(())
}

/// Why the body of a task can't be run in a child.
fn problem(spec: &TaskSpec) -> Option<String> {
    if let Some(state) = spec.state.first() {
        return Some(format!(
            "is isolated and takes `State<{}>`, which its process does not have: make what it needs in the body, or \
             leave out `isolation = \"process\"`",
            state.ty
        ));
    }
    spec.is_dynamic().then(|| {
        "is isolated and was made when the program ran, so that its process does not have it: write it as a function \
         under `#[task]`"
            .to_owned()
    })
}

#[cfg(unix)]
pub(crate) use parent::start;

/// No worker comes here: [`check`] has refused.
#[cfg(not(unix))]
pub(crate) fn start(
    _: &TaskSpec,
    _: &crate::context::Context,
    _: &[u8],
    _: usize,
) -> Result<crate::erased::BoxRun, crate::task::TaskFailure> {
    Err(crate::task::TaskFailure::new(crate::task::FailureKind::Process, "isolated tasks need Unix"))
}
