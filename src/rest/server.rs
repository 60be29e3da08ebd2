//! The accept loop: sockets, timeouts and the bound on connections. warp's own server sets none of them.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

use super::{Limits, RestState, routes};

/// How long requests in flight may take to end after the shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Pause after a failed accept, which is mostly a lack of file descriptors: without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a request head, and the size of the read buffer (Jetty takes heads of 8 KiB).
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Serves the API on a bound socket until `shutdown` completes, then lets requests in flight end for up to 5 s. May be
/// called for several sockets. Never fails: errors of a connection end that connection, errors of accept are logged and
/// survived.
pub async fn serve(listener: TcpListener, state: RestState, shutdown: impl Future<Output = ()>) {
    let limits = state.limits;
    let permits = Arc::new(Semaphore::new(limits.connections));
    let api = TowerToHyperService::new(warp::service(routes::api(state)));
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move {
            // warp panics on a target without a path, such as that of CONNECT
            match request.uri().path_and_query() {
                Some(_) => api.call(request).await,
                None => Ok(routes::no_path(&request)),
            }
        }
    });
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (service, stopped) = (service.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(stream, service, limits, stopped).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let ended = tokio::time::timeout(SHUTDOWN_GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(connections = connections.len(), "connections were dropped with requests in flight");
    }
}

/// A free place first, then a connection: who finds no place waits in the backlog of the socket.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // answers are small and written at once; waiting for more would only delay them
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection<S>(stream: TcpStream, service: S, limits: Limits, mut stopped: watch::Receiver<bool>)
where
    S: hyper::service::HttpService<Incoming, ResBody: Send + 'static>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    <S::ResBody as hyper::body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = TokioIo::new(WriteDeadline { stream, limit: limits.write, stalled: None });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(HEAD_BYTES_MAX)
        // who shuts down its sending side after the request still gets the answer
        .half_close(true)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // a closed channel means that the loop is gone: the same
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // the client's business: it went away, was too slow or sent no HTTP
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A socket whose peer must take what is written within a limit. Without it, a client that never reads would hold its
/// connection, and its place among [`Limits::connections`], for ever.
struct WriteDeadline {
    stream: TcpStream,
    limit: Duration,
    /// Runs while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl WriteDeadline {
    fn bound<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl AsyncRead for WriteDeadline {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteDeadline {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bound(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.bound(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.bound(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
