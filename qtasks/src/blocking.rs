//! For programs without a runtime: [`init`] owns one on a thread of its own.

use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::mpsc;
use std::thread::JoinHandle;

use futures::FutureExt as _;
use tokio::runtime::{Handle, RuntimeFlavor};
use tracing::Instrument as _;

use crate::app::{Core, Qtasks, current, gone};
use crate::error::{Error, ErrorKind, Result};

/// An app with a runtime of its own: from [`blocking::init`](init). It derefs to [`Qtasks`].
pub struct App {
    app: Option<Qtasks>,
    over: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("app", &self.app).finish_non_exhaustive()
    }
}

impl Deref for App {
    type Target = Qtasks;
    fn deref(&self) -> &Qtasks {
        self.app.as_ref().expect("until it is shut down, which takes it")
    }
}

/// [`qtasks::init`](crate::init) for a program without a runtime: one is started on a thread of its own.
///
/// # Errors
/// As [`Builder::start`](crate::Builder::start); [`Unavailable`](ErrorKind::Unavailable) if there is no thread.
pub fn init(url: impl Into<String>) -> Result<App> {
    start(Qtasks::builder().store(url).install())
}

/// [`Builder::start`](crate::Builder::start) for a program without a runtime.
///
/// # Errors
/// As [`init`].
pub fn start(builder: crate::Builder) -> Result<App> {
    let none = |e: std::io::Error| Error::new(ErrorKind::Unavailable, format!("no runtime: {e}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(none)?;
    let (over, end) = tokio::sync::oneshot::channel();
    let (send, started) = mpsc::channel();
    let thread = move || {
        runtime.block_on(async move {
            let _ = send.send(builder.start().await);
            let _ = end.await;
        });
        runtime.shutdown_background();
    };
    let thread = std::thread::Builder::new().name("qtasks-blocking".to_owned()).spawn(thread).map_err(none)?;
    let app =
        started.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "the runtime's thread ended")))?;
    Ok(App { app: Some(app), over: Some(over), thread: Some(thread) })
}

impl App {
    /// [`Qtasks::shutdown`], and the end of the runtime.
    ///
    /// # Errors
    /// As there.
    pub fn shutdown(mut self) -> Result<()> {
        let app = self.app.take().expect("shut down once");
        let core = std::sync::Arc::clone(app.core());
        let done = wait(&core, async move { app.shutdown().await });
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        done?
    }
}

/// Waits on this thread for what a runtime does on its own.
pub(crate) fn wait<T: Send + 'static>(core: &Core, future: impl Future<Output = T> + Send + 'static) -> Result<T> {
    core.life.check()?;
    let runtime = &core.runtime;
    let inside = Handle::try_current().is_ok_and(|here| here.id() == runtime.id());
    let only = runtime.runtime_flavor() == RuntimeFlavor::CurrentThread && core.thread == std::thread::current().id();
    if inside && only {
        let message = "this would block the only thread of the runtime that it waits for: use `.await`";
        return Err(Error::invalid(message));
    }
    wait_for(runtime, future)
}

/// The same, where nobody is blocked for ever by that.
pub(crate) fn wait_for<T: Send + 'static>(
    runtime: &Handle,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T> {
    let _lent = current::lend();
    let (send, receive) = mpsc::channel();
    // What a body does so is its own doing wherever it is polled: the tasks that it adds are its children.
    let scope = current::here();
    let future = async move {
        let mut future = pin!(future);
        let done = poll_fn(|cx| {
            let _scope = scope.as_ref().map(current::enter);
            future.as_mut().poll(cx)
        });
        // Whoever waits can't be gone: it is blocked.
        let _ = send.send(AssertUnwindSafe(done).catch_unwind().await);
    };
    runtime.spawn(future.in_current_span());
    match receive.recv() {
        Ok(Ok(done)) => Ok(done),
        // As if it had been polled here.
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(gone()),
    }
}
