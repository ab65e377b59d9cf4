//! A TCP connection that is closed without losing its last bytes.
//!
//! Closing a socket that has unread data makes the kernel send a reset, and a reset makes the
//! client's kernel throw away what it had not read yet: the end of our last answer. HTTP/2 clients
//! send window updates and acknowledgements to the very end, so this does happen. Therefore the
//! socket outlives its HTTP connection: our side is shut, and what still comes is read and
//! dropped until the client closes, for [`LINGER`] at most.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a client may take to close its side after we closed ours.
const LINGER: Duration = Duration::from_secs(2);

/// How much of what nobody wants is read for it.
const LINGER_BYTES: usize = 1 << 20;

/// The HTTP connection's handle; its owner keeps another one to close the socket in order.
#[derive(Clone, Debug)]
pub(crate) struct Socket(Arc<TcpStream>);

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(Arc::new(stream))
    }

    /// Closes in order, once the HTTP connection is over.
    pub(crate) async fn linger(self) {
        if self.shut().is_ok() {
            // Whoever takes longer loses nothing that he would have waited for.
            let _ = timeout(LINGER, self.drain()).await;
        }
    }

    fn shut(&self) -> io::Result<()> {
        SockRef::from(&*self.0).shutdown(Shutdown::Write)
    }

    async fn drain(&self) -> io::Result<()> {
        let mut drained = 0;
        let mut buffer = [0; 4096];
        while drained < LINGER_BYTES {
            self.0.readable().await?;
            match self.0.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => drained += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Socket {
    fn poll_try_write(
        &self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try_write(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shut())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn unread_input_does_not_cost_the_client_our_last_bytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = Socket::new(stream);
        client.write_all(&[0; 10_000]).await.unwrap();
        let mut writer = socket.clone();
        writer.write_all(&[1; 10_000]).await.unwrap();
        writer.shutdown().await.unwrap();
        drop(writer);
        let linger = tokio::spawn(socket.linger());
        client.write_all(&[0; 10_000]).await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [1; 10_000]);
        drop(client);
        linger.await.unwrap();
    }
}
