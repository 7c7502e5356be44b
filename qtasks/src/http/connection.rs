//! [`Wire`]: one connection, from its first byte to its last. HTTP/1.1; HTTP/2 only where it was asked for.

use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::Service;

#[cfg(feature = "http2")]
mod http2;

/// The most bytes of headers. The buffer for them may grow to twice what it is told.
const HEADER_BYTES_MAX: u32 = 64 << 10;

/// How connections are served.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) service: Service,
    /// Headers come within so long, and nobody is idle for longer.
    pub(super) header_time: Duration,
    /// Whether a client may begin with HTTP/2.
    #[cfg(feature = "http2")]
    pub(super) http2: bool,
    pub(super) closing: CancellationToken,
}

impl Wire {
    /// Answers what comes by a connection, until it ends.
    pub(super) async fn serve<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        #[cfg(feature = "http2")]
        if self.http2 {
            // Apart, so that others do not hold room for it.
            return Box::pin(self.serve_either(stream)).await;
        }
        self.serve_http1(stream).await;
    }

    async fn serve_http1<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = http1::Builder::new();
        let buffer = HEADER_BYTES_MAX as usize / 2;
        builder.timer(TokioTimer::new()).header_read_timeout(self.header_time).max_buf_size(buffer);
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(self.service));
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.closing.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}
