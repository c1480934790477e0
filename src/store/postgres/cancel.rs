//! Telling a server that nobody waits for an answer any more.
//!
//! The request goes over a connection of its own, which the server closes when it has seen to it. Who
//! closes it first, as the library does, makes PgBouncer up to 1.18 free the request twice and end, for
//! everybody: libpq waits, too (<https://github.com/pgbouncer/pgbouncer/pull/846>).

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

/// Asks for the end of what the server does on the token's connection, and waits until it was seen to.
pub(super) async fn cancel(token: CancelToken, host: &Config, tls: MakeRustlsConnect) -> anyhow::Result<()> {
    let port = host.get_ports().first().copied().unwrap_or(5432);
    match (host.get_hosts().first(), host.get_hostaddrs().first()) {
        (Some(Host::Unix(folder)), _) => {
            let socket = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?;
            tell(token, socket, tls, "localhost").await
        }
        (Some(Host::Tcp(name)), Some(address)) => {
            tell(token, TcpStream::connect((*address, port)).await?, tls, name).await
        }
        _ => bail!("the server's address is not known"),
    }
}

async fn tell<S>(token: CancelToken, stream: S, mut tls: MakeRustlsConnect, name: &str) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tls = MakeTlsConnect::<Lingering<S>>::make_tls_connect(&mut tls, name)?;
    Ok(token.cancel_query_raw(Lingering(stream), tls).await?)
}

/// A stream that is shut down when the other side has closed it.
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
