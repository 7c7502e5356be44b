//! [`Signals`]: what tells a process to end.

use crate::error::{Error, ErrorKind, Result};

/// SIGTERM and Ctrl-C, from when this is made.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let none = |e: std::io::Error| Error::new(ErrorKind::Unavailable, format!("no signals: {e}"));
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Signals {
                terminate: signal(SignalKind::terminate()).map_err(none)?,
                interrupt: signal(SignalKind::interrupt()).map_err(none)?,
            })
        }
        #[cfg(windows)]
        Ok(Signals { interrupt: tokio::signal::windows::ctrl_c().map_err(none)? })
    }

    /// The next of them.
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(windows)]
        let _ = self.interrupt.recv().await;
    }
}
