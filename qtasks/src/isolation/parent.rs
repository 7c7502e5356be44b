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

use super::frame::{self, Frame, Function, HEAD_BYTES_MAX, Limits, Order, Report, Start};
use super::{GRACE, VARIABLE, is_shortage};
use crate::context::{CHECKPOINT_BYTES_MAX, Context};
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
    /// The host has no room for it.
    Starved(String),
    /// Nothing more.
    Gone(TaskFailure),
}

/// Starts a child for an attempt.
pub(crate) fn start(
    spec: &TaskSpec,
    ctx: &Context,
    args: &[u8],
    value_bytes_max: usize,
) -> Result<BoxRun, TaskFailure> {
    let failed = |e: io::Error| {
        let message = format!("it could not be started: {e}");
        if let (true, Some(run)) = (is_shortage(&e), ctx.run()) {
            run.starved(format!("the process of an isolated task: {message}"));
        }
        gone(message)
    };
    let function = Function { module: spec.module.to_owned(), function: spec.function.to_owned(), line: spec.line };
    let resume = ctx.resume().clone();
    let (name, trace) = (ctx.name().to_owned(), ctx.trace().cloned());
    let limits = Limits { value_bytes: value_bytes_max };
    let start = Start { function, name, id: ctx.id(), attempt: ctx.attempt(), resume, trace, limits };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let (heard, reports) = mpsc::channel(AHEAD);
    let dropped = Arc::new(AtomicBool::new(false));
    let minder = Minder { socket: ours.try_clone().map_err(failed)?, heard, dropped: Arc::clone(&dropped), limits };
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
        spoke: false,
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
    limits: Limits,
}

impl Minder {
    fn mind(self, theirs: UnixStream, start: Start, args: &[u8]) {
        let heard = match spawn(theirs) {
            Ok(mut child) => match self.listen(start, args) {
                Ok(()) => Heard::Gone(gone(ended(self.wait(&mut child)))),
                Err(failure) => {
                    // Nothing that it says is of use any more.
                    self.kill(&mut child);
                    Heard::Gone(failure)
                }
            },
            Err(error) if is_shortage(&error) => Heard::Starved(format!("the process of an isolated task: {error}")),
            Err(error) => Heard::Gone(gone(format!("it could not be started: {error}"))),
        };
        let _ = self.heard.blocking_send(heard);
    }

    /// Hands on what the child says, until there is nothing more to hear.
    ///
    /// # Errors
    /// If the child says what is not a report, or more than it may.
    fn listen(&self, start: Start, args: &[u8]) -> Result<(), TaskFailure> {
        let started = frame::write(&self.socket, &Order::Start(Box::new(start)), args);
        if started.is_err() || self.heard.blocking_send(Heard::Begun).is_err() {
            return Ok(());
        }
        loop {
            let (report, body) = match frame::read(&self.socket, HEAD_BYTES_MAX, |report| self.body_max(report)) {
                Ok(Frame { head, body: Ok(body) }) => (head, body),
                Ok(Frame { head, body: Err(bytes) }) if head.has_value() => {
                    return Err(frame::too_large(&head, bytes, self.limits));
                }
                Ok(Frame { head, body: Err(bytes) }) => {
                    return Err(gone(format!("it sent {bytes} bytes with {head:?}, which is more than it may")));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(gone(format!("it sent what is not a report: {error}")));
                }
                Err(_) => return Ok(()),
            };
            check(&report, &body)?;
            let last = matches!(report, Report::Returned | Report::Failed(_));
            if self.heard.blocking_send(Heard::Said(report, body)).is_err() || last {
                return Ok(());
            }
        }
    }

    /// How many bytes may follow a report.
    fn body_max(&self, report: &Report) -> usize {
        match report {
            Report::Item { stored: true, .. } | Report::Handled { .. } | Report::Returned => self.limits.value_bytes,
            Report::Event(_) => self.limits.value_bytes,
            Report::Checkpoint => CHECKPOINT_BYTES_MAX,
            _ => 0,
        }
    }

    /// Ends the child without asking.
    fn kill(&self, child: &mut Child) {
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        if let Ok(None) = child.try_wait() {
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        }
        let _ = child.wait();
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

/// Whether what follows a report is what belongs to it: nobody else looks at it before it is stored.
fn check(report: &Report, body: &[u8]) -> Result<(), TaskFailure> {
    let json = match report {
        Report::Item { stored: true, .. } | Report::Handled { .. } | Report::Checkpoint => body,
        Report::Returned if !body.is_empty() => body,
        Report::Event(name) => match body.split_at_checked(*name) {
            Some((name, data)) if std::str::from_utf8(name).is_ok() => data,
            _ => return Err(gone("it sent an event without a name".to_owned())),
        },
        _ => return Ok(()),
    };
    let json = serde_json::from_slice::<&serde_json::value::RawValue>(json);
    json.map(drop).map_err(|e| gone(format!("it sent what is not JSON: {e}")))
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
    /// The child has said something: it has all that it needs.
    spoke: bool,
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
                Some(Heard::Starved(why)) => return Poll::Ready(Err(self.starved(why))),
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
                Heard::Starved(why) => return Poll::Ready(Err(self.starved(why))),
                Heard::Begun => continue,
            };
            self.spoke |= !matches!(report, Report::Starved(_));
            match (report, self.ctx.run()) {
                (Report::Event(name), _) => {
                    let (name, data) = body.split_at(name);
                    self.ctx.send_event(&String::from_utf8_lossy(name), Json::trusted(data.to_vec().into()));
                }
                (Report::Checkpoint, _) => self.ctx.checkpoint(&Json::trusted(body.into())),
                (Report::Cancel(reason), _) => drop(self.ctx.cancel(reason)),
                (Report::Fail(failed), Some(run)) => run.fail(failed.failure()),
                (Report::Flush, Some(run)) => {
                    self.flushing = Some(run.flushed());
                    self.flushes += 1;
                }
                (Report::Ready, _) => {}
                (Report::Starved(why), Some(run)) => {
                    run.starved(why);
                    // The attempt looks whether it is to stop.
                    return Poll::Ready(Err(gone("the host has no thread for it".to_owned())));
                }
                (Report::Fail(_) | Report::Flush | Report::Starved(_), None) => unreachable!("an attempt has a run"),
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
            other => {
                let mut failure = me.failed(other);
                // The attempt knows it.
                failure.index = None;
                Err(Box::new(failure))
            }
        })
    }

    fn skip(self: Pin<&mut Self>) {
        self.order(&Order::Skip);
    }

    fn handler_waits(&self) -> bool {
        // The child waits for it.
        true
    }

    fn has_begun(&self) -> bool {
        self.spoke
    }
}

impl Isolated {
    /// The host has no room for the child: the attempt is given back, which is looked at before this.
    fn starved(&self, why: String) -> TaskFailure {
        if let Some(run) = self.ctx.run() {
            run.starved(why.clone());
        }
        gone(why)
    }

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
