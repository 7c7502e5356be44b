//! [`On`]: where a task lives: in the store of an app, or behind a server.

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::app::{Core, Qtasks};
use crate::blocking;
#[cfg(feature = "client")]
use crate::client::Client;
use crate::error::Result;

/// What tasks can be added to and found in by `.on(&…)`: an app ([`Qtasks`]), whatever derefs to one, and with the
/// feature `client` a [`Client`](crate::client::Client).
#[diagnostic::on_unimplemented(
    message = "tasks can't be added to a `{Self}`",
    label = "neither an app nor a client",
    note = "name an app (`Qtasks`), or a `qtasks::client::Client`"
)]
pub trait On {
    #[doc(hidden)]
    fn __place(&self) -> Place;
}

/// What only qtasks makes and reads.
#[doc(hidden)]
#[derive(Clone)]
pub struct Place(pub(crate) At);

/// Where a task lives.
#[derive(Clone)]
pub(crate) enum At {
    App(Arc<Core>),
    #[cfg(feature = "client")]
    Server(Client),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

impl On for Qtasks {
    fn __place(&self) -> Place {
        Place(At::App(Arc::clone(self.core())))
    }
}

impl<T: Deref<Target = Qtasks>> On for T {
    fn __place(&self) -> Place {
        (**self).__place()
    }
}

#[cfg(feature = "client")]
impl On for Client {
    fn __place(&self) -> Place {
        Place(At::Server(self.clone()))
    }
}

impl At {
    /// The app; `what` is what only an app can do.
    #[cfg_attr(
        not(feature = "client"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "there is nothing else without the client")
    )]
    pub(crate) fn app(self, what: &str) -> Result<Arc<Core>> {
        match self {
            At::App(core) => Ok(core),
            #[cfg(feature = "client")]
            At::Server(client) => {
                let message = format!("{what} is an app's own affair: do it where `{}` is served", client.base());
                Err(crate::Error::invalid(message))
            }
        }
    }

    /// Waits for a future at most so long; `None` if it takes longer. Whoever waits may have no runtime.
    pub(crate) async fn timed<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Result<Option<T>> {
        match self {
            At::App(core) => core.timed(limit, future).await,
            #[cfg(feature = "client")]
            At::Server(client) => {
                let timed = {
                    let _entered = client.runtime().enter();
                    tokio::time::timeout(limit, future)
                };
                Ok(timed.await.ok())
            }
        }
    }

    /// Waits on this thread for what a runtime does on its own.
    pub(crate) fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Result<T> {
        match self {
            At::App(core) => blocking::wait(core, future),
            // It has threads of its own, which no user's code runs on.
            #[cfg(feature = "client")]
            At::Server(client) => blocking::wait_for(client.runtime(), future),
        }
    }
}
