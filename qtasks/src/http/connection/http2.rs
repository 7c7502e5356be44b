//! HTTP/2 without TLS, for clients that begin with it: what proxies and some libraries speak to a server behind them.
//!
//! Invariant: such a connection has no more time or room than one of HTTP/1.1: it begins within the time for headers,
//! ends when it has been idle for so long, and is asked for a sign of life while it is not.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tower_service::Service as _;

use super::{HEADER_BYTES_MAX, Wire};

/// What a client sends first that speaks HTTP/2 without having asked (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// So many requests of one connection are answered at once; more wait.
const REQUESTS_MAX: u32 = 250;

/// So much of an answer is held for a client that does not read.
const SEND_BYTES_MAX: usize = 64 << 10;

/// So often a client is asked for a sign of life.
const PING: Duration = Duration::from_secs(15);

/// A connection of which the first bytes have been read.
struct Begun<S> {
    first: [u8; PREFACE.len()],
    /// Of these, so many there are, and so many have been read again.
    len: usize,
    again: usize,
    stream: S,
}

impl<S: AsyncRead + Unpin> Begun<S> {
    /// Reads until it is clear how the client begins.
    async fn read(mut stream: S) -> io::Result<Self> {
        let (mut first, mut len) = ([0; PREFACE.len()], 0);
        while len < first.len() && PREFACE.starts_with(&first[..len]) {
            match stream.read(&mut first[len..]).await? {
                0 => break,
                n => len += n,
            }
        }
        Ok(Begun { first, len, again: 0, stream })
    }

    fn is_http2(&self) -> bool {
        self.first[..self.len] == PREFACE[..]
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.again == self.len {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let some = (self.len - self.again).min(into.remaining());
        into.put_slice(&self.first[self.again..self.again + some]);
        self.again += some;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// A request that is being answered, until the last byte.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(requests: &watch::Sender<usize>) -> Self {
        requests.send_modify(|open| *open += 1);
        Open(requests.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Waits until nothing has been asked for so long.
async fn idle(requests: &watch::Sender<usize>, time: Duration) {
    let mut requests = requests.subscribe();
    while requests.wait_for(|open| *open == 0).await.is_ok() {
        if tokio::time::timeout(time, requests.wait_for(|open| *open > 0)).await.is_err() {
            return;
        }
    }
}

impl Wire {
    /// HTTP/1.1 or HTTP/2, as the client begins.
    pub(super) async fn serve_either<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let begun = tokio::time::timeout(self.header_time, Begun::read(stream));
        match self.closing.run_until_cancelled(begun).await {
            Some(Ok(Ok(begun))) if begun.is_http2() => Box::pin(self.serve_http2(begun)).await,
            Some(Ok(Ok(begun))) => self.serve_http1(begun).await,
            // It began with nothing in time, or the server goes.
            _ => {}
        }
    }

    async fn serve_http2<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let requests = watch::Sender::new(0);
        let service = self.service;
        let asked = requests.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (open, answer) = (Open::new(&asked), service.clone().call(request));
            async move {
                let response = answer.await?;
                let until_sent = |body: Body| {
                    Body::new(body.map_frame(move |frame| {
                        let _held = &open;
                        frame
                    }))
                };
                Ok::<_, Infallible>(response.map(until_sent))
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(self.header_time)
            .max_concurrent_streams(REQUESTS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buf_size(SEND_BYTES_MAX);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let goes = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.closing.cancelled() => None,
            () = idle(&requests, self.header_time) => None,
        };
        let ended = match goes {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                // What is being answered comes to its end; a client that does not go is left.
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = idle(&requests, self.header_time) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}
