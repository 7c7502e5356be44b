//! [`Server`]: a listener of our own, which gives no client more time or room than it needs.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Access;
use super::auth::Tokens;
use super::connection::Wire;
use super::kept::{Kept, of_this_user};
use super::metrics::Recorded;
use super::{Inner, Service};
use crate::app::Qtasks;
use crate::error::{Error, ErrorKind, Result};

/// So many bytes wait in the system to be sent to a client. Without a limit these are megabytes for each that does not
/// read.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// How [`Qtasks::serve`] listens, and to whom.
#[derive(Debug, Clone)]
pub struct Config {
    listen: Listen,
    access: Option<Access>,
    hosts: Vec<String>,
    recorded: Option<Recorded>,
    connections_max: usize,
    header_time: Duration,
    body_time: Duration,
    #[cfg(feature = "http2")]
    http2: bool,
    grace: Duration,
}

#[derive(Debug, Clone)]
enum Listen {
    Tcp(String),
    #[cfg(unix)]
    Socket(PathBuf),
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: Listen::Tcp("127.0.0.1:7717".to_owned()),
            access: None,
            hosts: Vec::new(),
            recorded: None,
            connections_max: 20_000,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            #[cfg(feature = "http2")]
            http2: false,
            grace: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The address and port to listen at. Defaults to `127.0.0.1:7717`; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = Listen::Tcp(address.into());
        self
    }

    /// Listens at a Unix socket instead. It is made with mode 0600, in a folder that must be the user's own; a socket
    /// that is there and that nobody answers at is taken away.
    #[cfg(unix)]
    #[must_use]
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.listen = Listen::Socket(path.into());
        self
    }

    /// Who may use it. Defaults to what the environment variable `QTASKS_TOKEN` says, else to the lines of the file
    /// `qtasks/tokens` in the user's folder for state (`$XDG_STATE_HOME`, or `~/.local/state`), which is made with a new
    /// token, mode 0600, where it is missing. A file without a token is refused, and so is one that other users can
    /// read, write or replace. They can replace it if a folder above it is writable by others and has no sticky bit.
    #[must_use]
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.access = Some(Access::Tokens(tokens));
        self
    }

    /// Whoever can reach it may do everything: refused where that is not this machine only.
    #[must_use]
    pub fn no_auth(mut self) -> Self {
        self.access = Some(Access::Open);
        self
    }

    /// One more name, without port, that requests may give as their `Host`. The address and, on loopback, `localhost`
    /// are always among them.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into());
        self
    }

    /// What `GET /metrics` tells besides: see [`Service::metrics`].
    #[must_use]
    pub fn metrics(mut self, text: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.recorded = Some(Recorded::new(text));
        self
    }

    /// How many connections there may be at once; more wait to be accepted. Defaults to 20,000.
    #[must_use]
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// How long the headers of a request may take, and a connection may be idle. Defaults to 10 s.
    #[must_use]
    pub fn header_time(mut self, time: Duration) -> Self {
        self.header_time = time;
        self
    }

    /// How long a body may take. Defaults to 30 s.
    #[must_use]
    pub fn body_time(mut self, time: Duration) -> Self {
        self.body_time = time;
        self
    }

    /// Speaks HTTP/2 as well, with clients that begin with it (`curl --http2-prior-knowledge`, a proxy in front): up to
    /// 250 requests share a connection. Without TLS browsers do not. Defaults to HTTP/1.1 only.
    #[cfg(feature = "http2")]
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }
}

/// A server that listens. It goes on when this is dropped, and ends with its app.
pub struct Server {
    address: Address,
    /// The file that its tokens are kept in.
    tokens_file: Option<PathBuf>,
    /// The token that was made for it.
    new_token: Option<String>,
    closing: CancellationToken,
    connections: TaskTracker,
    grace: Duration,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Socket(PathBuf),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Its address: `http://127.0.0.1:7717`, or `unix:` and the path of its socket.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            #[cfg(unix)]
            Address::Socket(path) => format!("unix:{}", path.display()),
        }
    }

    /// The address and port, unless it listens at a socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::Tcp(address) => Some(*address),
            #[cfg(unix)]
            Address::Socket(_) => None,
        }
    }

    /// The token that was made because there was none yet, and the file that it is kept in.
    pub fn new_token(&self) -> Option<(&Path, &str)> {
        Some((self.tokens_file()?, self.new_token.as_deref()?))
    }

    /// The file that its tokens are kept in, unless it was given them.
    pub fn tokens_file(&self) -> Option<&Path> {
        self.tokens_file.as_deref()
    }

    /// Takes no more connections, ends the streams with a hint to come back, and waits for what is being answered, at
    /// most 5 s.
    pub async fn shutdown(&self) {
        self.closing.cancel();
        let _ = tokio::time::timeout(self.grace, self.connections.wait()).await;
    }
}

impl Qtasks {
    /// Answers requests over HTTP, in the background, until the app is shut down: see [`http`](crate::http).
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for an address or a path that is none, tokens that can't be read, and for no
    /// tokens where others than this machine could come; [`Unavailable`](ErrorKind::Unavailable) if it can't listen
    /// there.
    pub async fn serve(&self, config: Config) -> Result<Server> {
        let Kept { access, file: tokens_file, new: new_token } = match config.access.clone() {
            Some(access) => Kept { access, file: None, new: None },
            None => of_this_user()?,
        };
        let listener = Listener::bind(&config.listen).await?;
        let address = listener.address()?;
        if matches!(access, Access::Open) && !address.is_private() {
            let message = format!("{address} can be reached from elsewhere: it needs tokens, so leave `no_auth` out");
            return Err(Error::invalid(message));
        }
        let closing = self.core().closed().child_token();
        let service = Service::of(Inner {
            app: self.clone(),
            access,
            hosts: address.hosts(config.hosts),
            recorded: config.recorded,
            body_time: config.body_time,
            ready: super::ready::Readiness::default(),
            closing: closing.clone(),
        });
        let connections = TaskTracker::new();
        let wire = Wire {
            service,
            header_time: config.header_time,
            #[cfg(feature = "http2")]
            http2: config.http2,
            closing: closing.clone(),
        };
        let accept = Accept {
            wire,
            slots: Arc::new(Semaphore::new(config.connections_max.clamp(1, Semaphore::MAX_PERMITS))),
            connections: connections.clone(),
        };
        tokio::spawn(accept.run(listener));
        tracing::info!(address = %address, "the server listens");
        Ok(Server { address, tokens_file, new_token, closing, connections, grace: config.grace })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            #[cfg(unix)]
            Address::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// Whether nobody but this machine can reach it.
    fn is_private(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().is_loopback(),
            #[cfg(unix)]
            Address::Socket(_) => true,
        }
    }

    /// The hosts that requests may name. At a socket any: no browser gets there.
    fn hosts(&self, mut more: Vec<String>) -> Option<Vec<String>> {
        let Address::Tcp(address) = self else { return None };
        match address {
            SocketAddr::V4(v4) => more.push(v4.ip().to_string()),
            SocketAddr::V6(v6) => more.push(format!("[{}]", v6.ip())),
        }
        if address.ip().is_loopback() {
            more.push("localhost".to_owned());
        }
        Some(more)
    }
}

// ---- listening

enum Listener {
    Tcp(tokio::net::TcpListener),
    #[cfg(unix)]
    Socket(tokio::net::UnixListener, PathBuf),
}

fn unavailable(at: &dyn fmt::Display, error: &std::io::Error) -> Error {
    let way_out = match error.kind() {
        std::io::ErrorKind::AddrInUse => "; another program does: choose another port, or 0 for one that is free",
        _ => "",
    };
    Error::new(ErrorKind::Unavailable, format!("can't listen at {at}: {error}{way_out}"))
}

impl Listener {
    async fn bind(listen: &Listen) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let bound = tokio::net::TcpListener::bind(address).await;
                bound.map(Listener::Tcp).map_err(|error| unavailable(address, &error))
            }
            #[cfg(unix)]
            Listen::Socket(path) => bind_socket(path).await,
        }
    }

    fn address(&self) -> Result<Address> {
        match self {
            Listener::Tcp(tcp) => tcp.local_addr().map(Address::Tcp).map_err(|e| unavailable(&"the address", &e)),
            #[cfg(unix)]
            Listener::Socket(_, path) => Ok(Address::Socket(path.clone())),
        }
    }
}

#[cfg(unix)]
async fn bind_socket(path: &Path) -> Result<Listener> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
    let at = path.display();
    let wrong = |error: std::io::Error| unavailable(&at, &error);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let of_folder = std::fs::metadata(folder).map_err(wrong)?;
    let mine = of_folder.uid() == rustix::process::geteuid().as_raw();
    if !mine || of_folder.mode() & 0o022 != 0 {
        let folder = folder.display();
        return Err(Error::invalid(format!("others may write in {folder}: a socket needs a folder of your own")));
    }
    if let Ok(there) = std::fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(Error::invalid(format!("{at} is there, and is no socket: choose another path")));
        }
        if tokio::net::UnixStream::connect(path).await.is_ok() {
            return Err(Error::invalid(format!("a server listens at {at} already")));
        }
        std::fs::remove_file(path).map_err(wrong)?;
    }
    let listener = tokio::net::UnixListener::bind(path).map_err(wrong)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(wrong)?;
    Ok(Listener::Socket(listener, path.to_owned()))
}

/// What accepts connections.
struct Accept {
    wire: Wire,
    slots: Arc<Semaphore>,
    connections: TaskTracker,
}

impl Accept {
    async fn run(self, listener: Listener) {
        let closing = self.wire.closing.clone();
        closing.run_until_cancelled(self.accept(&listener)).await;
        self.connections.close();
        #[cfg(unix)]
        if let Listener::Socket(_, path) = &listener {
            let _ = std::fs::remove_file(path);
        }
    }

    async fn accept(&self, listener: &Listener) {
        loop {
            let slot = Arc::clone(&self.slots).acquire_owned().await.expect("it is never closed");
            let accepted = match listener {
                Listener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| {
                    // A frame is not to wait for the next one.
                    let _ = stream.set_nodelay(true);
                    #[cfg(any(target_os = "linux", target_os = "android"))]
                    let _ = socket2::SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX);
                    self.connection(stream, slot);
                }),
                #[cfg(unix)]
                Listener::Socket(socket, _) => socket.accept().await.map(|(stream, _)| self.connection(stream, slot)),
            };
            if let Err(error) = accepted {
                // As long as there are no more file descriptors, say.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    fn connection<S>(&self, stream: S, slot: tokio::sync::OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = self.wire.clone().serve(stream);
        self.connections.spawn(async move {
            connection.await;
            drop(slot);
        });
    }
}
