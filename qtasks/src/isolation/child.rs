//! The process of an isolated body: it makes a value for each that the worker asks for.
//!
//! Invariant: the process does not outlive its worker: one thread does nothing but hear it, whatever the body does.

use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context as Cx, Poll, Waker};

use futures::future::BoxFuture;
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::{oneshot, watch};

use super::frame::{self, Failed, Function, Limits, Order, Report, Start};
use super::{GRACE, VARIABLE, is_shortage};
use crate::context::{Attempt, Context};
use crate::erased::{Item, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::panics::{caught, dropped};
use crate::registry::Registration;
use crate::task::{self, FailureKind, TaskFailure, TaskId, TaskSpec};

/// The status of a process that could not begin.
const CONFUSED: i32 = 70;

/// The socket to the worker, if this process is a child. One that a child starts in its turn has another stdin.
pub(super) fn socket() -> Option<UnixStream> {
    let inode: u64 = std::env::var(VARIABLE).ok()?.parse().ok()?;
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let file = File::from(stdin);
    let about = file.metadata().ok()?;
    (about.file_type().is_socket() && about.ino() == inode).then(|| UnixStream::from(OwnedFd::from(file)))
}

/// Does what the worker asks, to the end of the process.
pub(super) fn live(socket: UnixStream) -> ! {
    if let Ok(null) = File::open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
    }
    // Not on this thread: it may be inside of a runtime.
    let said = socket.try_clone();
    let body = std::thread::Builder::new().name("qtasks-child".to_owned()).spawn(|| serve(socket));
    if let (Err(error), Ok(said)) = (&body, &said) {
        starved(said, error);
    }
    drop(said);
    match body.map(|body| body.join()) {
        Ok(Ok(Ok(()))) => std::process::exit(0),
        // Its worker has no use for it any more.
        Ok(Ok(Err(error))) if error.kind() == io::ErrorKind::UnexpectedEof => {}
        Ok(Ok(Err(error))) | Err(error) => {
            // There is no other place to say it.
            let _ = writeln!(std::io::stderr(), "the process of an isolated task could not begin: {error}");
        }
        // It has said why.
        Ok(Err(_)) => {}
    }
    std::process::exit(CONFUSED)
}

/// Hears the worker, which may say whatever it has to.
fn heard(socket: &UnixStream) -> io::Result<frame::Frame<Order>> {
    frame::read(socket, usize::MAX, |_| usize::MAX)
}

/// Tells the worker why this process can't begin, if that is for want of a thread or a descriptor.
fn starved(mut socket: &UnixStream, error: &io::Error) {
    if is_shortage(error) {
        let _ = frame::write(&mut socket, &Report::Starved(format!("the process of an isolated task: {error}")), &[]);
    }
}

fn serve(socket: UnixStream) -> io::Result<()> {
    let frame::Frame { head: Order::Start(start), body: Ok(args) } = heard(&socket)? else {
        return Err(io::Error::other("its worker is of another version"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (runtime, ears, said) = match runtime.and_then(|made| Ok((made, socket.try_clone()?, socket.try_clone()?))) {
        Ok(made) => made,
        Err(error) => {
            starved(&socket, &error);
            return Err(error);
        }
    };
    let worker = Arc::new(Worker {
        limits: start.limits,
        socket: Mutex::new(socket),
        flushes: Mutex::default(),
        stopped: watch::Sender::new(false),
        ended: AtomicBool::new(false),
        runtime: runtime.handle().clone(),
    });
    let (orders, next) = mpsc::channel();
    let hearing = Arc::clone(&worker);
    let hears =
        std::thread::Builder::new().name("qtasks-worker".to_owned()).spawn(move || hearing.hear(&ears, &orders));
    hears.inspect_err(|error| starved(&said, error))?;
    drop(said);
    worker.say(&Report::Ready, &[]);
    let Start { function, name, id, attempt, resume, trace, .. } = *start;
    let attempting = Arc::clone(&worker) as Arc<dyn Attempt>;
    let ctx = Context::new(id, name, attempt, Arc::default(), resume, attempting, trace);
    let failure = match find(&function) {
        Some(spec) => {
            let start = spec.start;
            match start {
                task::Start::Async(start) => {
                    let made = {
                        let _runtime = runtime.enter();
                        begun(|| start(&ctx, &args))
                    };
                    made.map(|run| Body { run, worker: &worker, inside: true }.serve(&next))
                }
                task::Start::Sync(start) => {
                    begun(|| start(&ctx, &args)).map(|run| Body { run, worker: &worker, inside: false }.serve(&next))
                }
            }
        }
        None => {
            let message = format!("the program has no task function `{}::{}`", function.module, function.function);
            Err(TaskFailure::new(FailureKind::Process, message))
        }
    };
    if let Err(failure) = failure {
        worker.end(&Report::Failed(Failed::new(failure)), &[]);
    }
    // What the body left behind is not waited for.
    runtime.shutdown_background();
    Ok(())
}

fn find(function: &Function) -> Option<&'static TaskSpec> {
    let linked = inventory::iter::<Registration>.into_iter().map(|registration| (registration.0)());
    linked
        .into_iter()
        .find(|spec| (spec.module, spec.function, spec.line) == (&function.module, &function.function, function.line))
}

fn begun<T>(start: impl FnOnce() -> Result<T, TaskFailure>) -> Result<T, TaskFailure> {
    caught(start).unwrap_or_else(Err)
}

// ---- the body

/// A body, and whether it is polled inside of the runtime.
struct Body<'a, R: Run + ?Sized> {
    run: Pin<Box<R>>,
    worker: &'a Worker,
    inside: bool,
}

impl<R: Run + ?Sized> Body<'_, R> {
    /// Does one thing after the other, until the body is over.
    fn serve(mut self, orders: &mpsc::Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            let mut out = Vec::new();
            let done = match order {
                Order::Next => self.next(&mut out),
                Order::Handle => self.handle(&mut out),
                Order::Skip => match caught(|| self.run.as_mut().skip()) {
                    Ok(()) => continue,
                    // The worker hears it when it asks for the next value.
                    Err(failure) => Err(failure),
                },
                Order::Start(_) | Order::Flushed(_) | Order::Stop => continue,
            };
            let done = done.and_then(|report| self.worker.check(report, &out));
            let report = done.unwrap_or_else(|failure| {
                out = Vec::new();
                Report::Failed(Failed::new(failure))
            });
            if matches!(report, Report::Returned | Report::Failed(_)) {
                // What its destructors do, they do before it is over.
                dropped(self.run, "a body");
                return self.worker.end(&report, &out);
            }
            self.worker.say(&report, &out);
        }
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Result<Report, TaskFailure> {
        let run = &mut self.run;
        Ok(match wait(self.worker, self.inside, |cx| run.as_mut().poll_item(cx, out))? {
            Item::Yield { hash, stored } => Report::Item { hash, stored },
            Item::Return => Report::Returned,
            Item::Error(failure) => return Err(*failure),
        })
    }

    fn handle(&mut self, out: &mut Vec<u8>) -> Result<Report, TaskFailure> {
        let inside = self.inside || self.run.handler_waits();
        let run = &mut self.run;
        let hash = wait(self.worker, inside, |cx| run.as_mut().poll_handle(cx, out))?;
        hash.map(|hash| Report::Handled { hash }).map_err(|failure| *failure)
    }
}

/// Polls until it is ready; what need not be polled inside of the runtime goes there only to wait.
fn wait<T>(worker: &Worker, inside: bool, mut poll: impl FnMut(&mut Cx<'_>) -> Poll<T>) -> Result<T, TaskFailure> {
    caught(|| {
        if !inside && let Poll::Ready(ready) = poll(&mut Cx::from_waker(Waker::noop())) {
            return ready;
        }
        worker.runtime.block_on(poll_fn(poll))
    })
}

// ---- the worker, as seen from here

struct Worker {
    socket: Mutex<UnixStream>,
    limits: Limits,
    /// Who waits until all is stored, the first to ask first.
    flushes: Mutex<VecDeque<oneshot::Sender<bool>>>,
    stopped: watch::Sender<bool>,
    /// The body is over.
    ended: AtomicBool,
    runtime: tokio::runtime::Handle,
}

impl Worker {
    /// Says something. That nobody hears it, the other thread learns.
    fn say(&self, report: &Report, body: &[u8]) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = frame::write(&*socket, report, body);
    }

    /// What is too large for the worker is not sent to it.
    fn check(&self, report: Report, value: &[u8]) -> Result<Report, TaskFailure> {
        match value.len() <= self.limits.value_bytes {
            true => Ok(report),
            false => Err(frame::too_large(&report, value.len() as u64, self.limits)),
        }
    }

    fn end(&self, report: &Report, body: &[u8]) {
        self.ended.store(true, Ordering::SeqCst);
        self.say(report, body);
    }

    fn hear(&self, socket: &UnixStream, orders: &mpsc::Sender<Order>) {
        while let Ok(frame::Frame { head: order, .. }) = heard(socket) {
            match order {
                Order::Stop => drop(self.stopped.send_replace(true)),
                Order::Flushed(stored) => {
                    let asked = self.flushes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    asked.map(|asked| asked.send(stored));
                }
                order => drop(orders.send(order)),
            }
        }
        // The worker is done with this process, or dead.
        if *self.stopped.borrow() || self.ended.load(Ordering::SeqCst) {
            std::thread::sleep(GRACE);
        }
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

impl Attempt for Worker {
    fn send_event(&self, name: &str, data: Json) -> Result<()> {
        let (bytes, max) = (name.len() + data.as_bytes().len(), self.limits.value_bytes);
        if bytes > max {
            let message = format!("the event `{name}` has {bytes} bytes, of at most {max}");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.say(&Report::Event(name.len()), &[name.as_bytes(), data.as_bytes()].concat());
        Ok(())
    }

    fn checkpoint(&self, data: Json) -> Result<()> {
        self.say(&Report::Checkpoint, data.as_bytes());
        Ok(())
    }

    /// Only tasks of our own ask for it, and those are not isolated.
    fn removes(&self, _: TaskId) {}

    fn flushed(&self) -> BoxFuture<'static, Result<()>> {
        let (sender, flushed) = oneshot::channel();
        // Said in the order in which they wait.
        let mut flushes = self.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        flushes.push_back(sender);
        self.say(&Report::Flush, &[]);
        drop(flushes);
        Box::pin(async move {
            let lost = || Error::new(ErrorKind::Fenced, "the attempt at the task is over");
            flushed.await.ok().filter(|stored| *stored).map(drop).ok_or_else(lost)
        })
    }

    fn cancel(&self, reason: String) {
        self.say(&Report::Cancel(frame::short(reason)), &[]);
    }

    fn is_cancelled(&self) -> bool {
        *self.stopped.borrow()
    }

    fn stopped(&self) -> BoxFuture<'static, ()> {
        let mut stopped = self.stopped.subscribe();
        Box::pin(async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        })
    }

    fn fail(&self, failure: TaskFailure) {
        self.say(&Report::Fail(Failed::new(failure)), &[]);
    }

    fn starved(&self, why: String) {
        self.say(&Report::Starved(frame::short(why)), &[]);
    }

    fn runtime(&self) -> tokio::runtime::Handle {
        self.runtime.clone()
    }
}
