//! This file asks a server to cancel a query whose answer nobody waits for any more.
//!
//! The request goes over a connection of its own, which the server closes once it has acted on the request.
//! If the client closes this connection first, as the library does, PgBouncer up to 1.18 frees the request
//! twice and crashes, which ends the sessions of everybody. So we wait for the server to close it, as libpq
//! does (<https://github.com/pgbouncer/pgbouncer/pull/846>).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::bail;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Cancels the query that runs on the token's connection, and waits until the server has acted on the request.
pub(super) async fn cancel(token: CancelToken, host: &Config, tls: MakeRustlsConnect) -> anyhow::Result<()> {
    let port = host.get_ports().first().copied().unwrap_or(5432);
    match (host.get_hosts().first(), host.get_hostaddrs().first()) {
        (Some(Host::Unix(folder)), _) => {
            let socket = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?;
            send(token, socket, tls, "localhost").await
        }
        (Some(Host::Tcp(name)), Some(address)) => {
            send(token, TcpStream::connect((*address, port)).await?, tls, name).await
        }
        _ => bail!("the server's address is not known"),
    }
}

/// Sends the request over this stream.
async fn send<S>(token: CancelToken, stream: S, mut tls: MakeRustlsConnect, name: &str) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tls = MakeTlsConnect::<Lingering<S>>::make_tls_connect(&mut tls, name)?;
    Ok(token.cancel_query_raw(Lingering(stream), tls).await?)
}

/// A stream whose shutdown waits until the other side has closed it.
struct Lingering<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut bytes = [0; 64];
            let mut into = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.0).poll_read(context, &mut into));
            if read.is_err() || into.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
