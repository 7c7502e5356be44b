//! The worker's side of an isolated body: a [`Run`] that asks a child for each value.
//!
//! Invariant: every child is waited for, by the thread that started it; no signal goes to one that was waited for.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Cx, Poll, ready};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::mpsc;

use super::frame::{self, Function, Order, Report, Start};
use super::{GRACE, VARIABLE};
use crate::context::Context;
use crate::erased::{BoxRun, Item, Run};
use crate::error::Result;
use crate::json::Json;
use crate::task::{FailureKind, TaskFailure, TaskSpec};
use crate::worker::threads;

/// So many reports wait for the attempt before the child waits for it.
const AHEAD: usize = 16;

/// What comes of a child.
enum Heard {
    /// It is there, and has its arguments.
    Begun,
    Said(Report, Vec<u8>),
    /// Nothing more.
    Gone(TaskFailure),
}

/// Starts a child for an attempt.
pub(crate) fn start(spec: &TaskSpec, ctx: &Context, args: &[u8]) -> Result<BoxRun, TaskFailure> {
    let failed = |e: io::Error| gone(format!("it could not be started: {e}"));
    let function = Function { module: spec.module.to_owned(), function: spec.function.to_owned(), line: spec.line };
    let resume = ctx.resume().clone();
    let (name, trace) = (ctx.name().to_owned(), ctx.trace().cloned());
    let start = Start { function, name, id: ctx.id(), attempt: ctx.attempt(), resume, trace };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let (heard, reports) = mpsc::channel(AHEAD);
    let dropped = Arc::new(AtomicBool::new(false));
    let minder = Minder { socket: ours.try_clone().map_err(failed)?, heard, dropped: Arc::clone(&dropped) };
    let args = args.to_vec();
    threads::run(Box::new(move || minder.mind(theirs, start, &args))).map_err(failed)?;
    let ctx = ctx.clone();
    Ok(Box::pin(Isolated {
        ctx,
        socket: ours,
        reports,
        dropped,
        flushing: None,
        flushes: 0,
        begun: false,
        asked: false,
        over: false,
    }))
}

fn gone(message: String) -> TaskFailure {
    TaskFailure::new(FailureKind::Process, message)
}

// ---- the thread of a child

/// What starts a child, hears it, and waits for its end.
struct Minder {
    socket: UnixStream,
    heard: mpsc::Sender<Heard>,
    /// Nobody wants to hear it any more.
    dropped: Arc<AtomicBool>,
}

impl Minder {
    fn mind(self, theirs: UnixStream, start: Start, args: &[u8]) {
        let said = match spawn(theirs) {
            Ok(mut child) => {
                self.listen(start, args);
                ended(self.wait(&mut child))
            }
            Err(error) => format!("it could not be started: {error}"),
        };
        let _ = self.heard.blocking_send(Heard::Gone(gone(said)));
    }

    /// Hands on what the child says, until there is nothing more to hear.
    fn listen(&self, start: Start, args: &[u8]) {
        let started = frame::write(&self.socket, &Order::Start(Box::new(start)), args);
        if started.is_err() || self.heard.blocking_send(Heard::Begun).is_err() {
            return;
        }
        while let Ok((report, body)) = frame::read::<Report>(&self.socket) {
            let last = matches!(report, Report::Returned | Report::Failed(_));
            if self.heard.blocking_send(Heard::Said(report, body)).is_err() || last {
                return;
            }
        }
    }

    /// Waits for the end of the child, which is near: one that nobody wants, or that does not go by itself, is asked
    /// to, and then killed.
    fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let over = Instant::now();
        let (mut asked, mut pause) = (None::<Instant>, Duration::from_millis(1));
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            match asked {
                None if self.dropped.load(Ordering::SeqCst) || over.elapsed() > GRACE => {
                    asked = Some(Instant::now());
                    let _ = group.map(|group| kill_process_group(group, Signal::TERM));
                }
                Some(asked) if asked.elapsed() > GRACE => {
                    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
                    return child.wait();
                }
                _ => {}
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Starts this program again, with a socket for its stdin.
fn spawn(theirs: UnixStream) -> io::Result<Child> {
    let inode = File::from(OwnedFd::from(theirs.try_clone()?)).metadata()?.ino();
    // The same program even when its file has been replaced.
    let same = Path::new("/proc/self/exe");
    let program = if same.exists() { same.to_owned() } else { std::env::current_exe()? };
    let mut args = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    // A group of its own: what a terminal sends to the worker is for the worker to pass on.
    command.args(args).env(VARIABLE, inode.to_string()).stdin(OwnedFd::from(theirs)).process_group(0).spawn()
}

/// How a process ended, in words.
fn ended(status: io::Result<ExitStatus>) -> String {
    let status = match status {
        Ok(status) => status,
        Err(error) => return format!("how it ended is not known: {error}"),
    };
    let Some(signal) = status.signal() else {
        return match status.code() {
            Some(code) => format!("it exited with status {code}"),
            None => format!("it ended: {status}"),
        };
    };
    let names = [
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::KILL, "SIGKILL, as one that takes too much memory is"),
        (Signal::TERM, "SIGTERM"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
    ];
    match names.iter().find(|(known, _)| known.as_raw() == signal) {
        Some((_, name)) => format!("it was killed by signal {signal} ({name})"),
        None => format!("it was killed by signal {signal}"),
    }
}

// ---- the run

/// A body in a child. Dropping it ends the child.
struct Isolated {
    ctx: Context,
    socket: UnixStream,
    reports: mpsc::Receiver<Heard>,
    dropped: Arc<AtomicBool>,
    /// The child waits until all is stored.
    flushing: Option<BoxFuture<'static, Result<()>>>,
    /// In so many places: the last to ask waits for no less than the others.
    flushes: usize,
    /// The child may be spoken to: before that its own thread does.
    begun: bool,
    /// The child is at what it was asked for.
    asked: bool,
    /// The body has come to its end.
    over: bool,
}

impl Isolated {
    /// Says something. Where nobody hears it, the reports tell why.
    fn order(&self, order: &Order) {
        let _ = frame::write(&self.socket, order, &[]);
    }

    /// Says what it wants, once, and hears what comes of it.
    fn poll_asked(&mut self, order: &Order, cx: &mut Cx<'_>) -> Poll<Result<(Report, Vec<u8>), TaskFailure>> {
        if !self.begun {
            match ready!(self.reports.poll_recv(cx)) {
                Some(Heard::Gone(failure)) => return Poll::Ready(Err(failure)),
                _ => self.begun = true,
            }
        }
        if !std::mem::replace(&mut self.asked, true) {
            self.order(order);
        }
        let report = ready!(self.poll_report(cx));
        self.asked = false;
        Poll::Ready(report)
    }

    /// What the child says that is for the attempt's loop; what is for its context is done on the way.
    fn poll_report(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(Report, Vec<u8>), TaskFailure>> {
        loop {
            if let Some(flushing) = &mut self.flushing
                && let Poll::Ready(flushed) = flushing.as_mut().poll(cx)
            {
                self.flushing = None;
                (0..std::mem::take(&mut self.flushes)).for_each(|_| self.order(&Order::Flushed(flushed.is_ok())));
            }
            let heard = ready!(self.reports.poll_recv(cx)).unwrap_or_else(|| Heard::Gone(gone("unheard".to_owned())));
            let (report, body) = match heard {
                Heard::Said(report, body) => (report, body),
                Heard::Gone(failure) => return Poll::Ready(Err(failure)),
                Heard::Begun => continue,
            };
            match (report, self.ctx.run()) {
                (Report::Event(name), _) => self.ctx.send_event(&name, Json::trusted(body.into())),
                (Report::Checkpoint, _) => self.ctx.checkpoint(&Json::trusted(body.into())),
                (Report::Cancel(reason), _) => drop(self.ctx.cancel(reason)),
                (Report::Fail(failed), Some(run)) => run.fail(failed.failure()),
                (Report::Flush, Some(run)) => {
                    self.flushing = Some(run.flushed());
                    self.flushes += 1;
                }
                (Report::Fail(_) | Report::Flush, None) => unreachable!("an attempt has a run"),
                (report, _) => return Poll::Ready(Ok((report, body))),
            }
        }
    }
}

impl Run for Isolated {
    fn poll_item(self: Pin<&mut Self>, cx: &mut Cx<'_>, out: &mut Vec<u8>) -> Poll<Item> {
        let me = self.get_mut();
        Poll::Ready(match ready!(me.poll_asked(&Order::Next, cx)) {
            Ok((Report::Item { hash, stored }, body)) => {
                out.extend_from_slice(&body);
                Item::Yield { hash, stored }
            }
            Ok((Report::Returned, body)) => {
                me.over = true;
                out.extend_from_slice(&body);
                Item::Return
            }
            other => Item::Error(Box::new(me.failed(other))),
        })
    }

    fn poll_handle(
        self: Pin<&mut Self>,
        cx: &mut Cx<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<Option<u64>, Box<TaskFailure>>> {
        let me = self.get_mut();
        Poll::Ready(match ready!(me.poll_asked(&Order::Handle, cx)) {
            Ok((Report::Handled { hash }, body)) => {
                out.extend_from_slice(&body);
                Ok(hash)
            }
            other => Err(Box::new(me.failed(other))),
        })
    }

    fn skip(self: Pin<&mut Self>) {
        self.order(&Order::Skip);
    }

    fn handler_waits(&self) -> bool {
        // The child waits for it.
        true
    }
}

impl Isolated {
    /// The end of a body that has failed.
    fn failed(&mut self, report: Result<(Report, Vec<u8>), TaskFailure>) -> TaskFailure {
        match report {
            Ok((Report::Failed(failed), _)) => {
                self.over = true;
                failed.failure()
            }
            Ok((other, _)) => gone(format!("it said what was not asked: {other:?}")),
            Err(failure) => failure,
        }
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.dropped.store(true, Ordering::SeqCst);
        if self.begun {
            self.order(&Order::Stop);
        }
        // Wakes its thread, which does the rest.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}
