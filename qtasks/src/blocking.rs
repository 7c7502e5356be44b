//! For programs without a runtime: [`init`] owns one on a thread of its own.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::app::Qtasks;
use crate::error::{Error, ErrorKind, Result};

/// An app with a runtime of its own: from [`blocking::init`](init). It derefs to [`Qtasks`].
pub struct App {
    app: Option<Qtasks>,
    runtime: Handle,
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
    let handle = runtime.handle().clone();
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
    Ok(App { app: Some(app), runtime: handle, over: Some(over), thread: Some(thread) })
}

impl App {
    /// [`Qtasks::shutdown`], and the end of the runtime.
    ///
    /// # Errors
    /// As there.
    pub fn shutdown(mut self) -> Result<()> {
        let app = self.app.take().expect("shut down once");
        let done = wait(&self.runtime, async move { app.shutdown().await });
        drop(self.over.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        done?
    }
}

/// Waits on this thread for what a runtime does on its own.
pub(crate) fn wait<T: Send + 'static>(runtime: &Handle, future: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let here = Handle::try_current().ok();
    let same = here.is_some_and(|h| h.id() == runtime.id() && h.runtime_flavor() == RuntimeFlavor::CurrentThread);
    if same {
        let message = "this would block the only thread of the runtime that it waits for: use `.await`";
        return Err(Error::invalid(message));
    }
    let (send, receive) = mpsc::channel();
    runtime.spawn(async move {
        // Whoever waits can't be gone: it is blocked.
        let _ = send.send(future.await);
    });
    receive.recv().map_err(|_| Error::new(ErrorKind::Unavailable, "the runtime of the app ended"))
}
