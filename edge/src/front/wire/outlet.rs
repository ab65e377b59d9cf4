//! Files sent to a socket by the kernel: no byte of them passes through this process.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::exchange::FileSpan;

/// A second descriptor of a connection's socket, with a readiness of its own: the stream that owns the
/// first one hands neither out.
pub(super) struct Outlet(AsyncFd<OwnedFd>);

impl Outlet {
    /// For a connected socket that doesn't block.
    ///
    /// # Errors
    /// No descriptor is left, or the socket can't be waited for.
    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<Outlet> {
        let socket = socket.try_clone_to_owned()?;
        // SAFETY: the value owns its descriptor, always the same one, and closes it only when dropped.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::WRITABLE) };
        registered.map(Outlet).map_err(io::Error::from)
    }

    /// Once the socket has room, sends what it takes of the span that `ask` answers then.
    ///
    /// # Errors
    /// The socket's or the file's.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        ask: &mut impl FnMut() -> Option<FileSpan>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            let Some(span) = ask() else {
                return Poll::Ready(Ok(0));
            };
            let sent = ready.try_io(|socket| send(&span, socket.get_ref()));
            if let Ok(sent) = sent {
                return Poll::Ready(sent);
            }
        }
    }
}

fn send(span: &FileSpan, socket: &OwnedFd) -> io::Result<usize> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut offset = libc::off_t::try_from(span.offset).map_err(out_of_range)?;
    let length = usize::try_from(span.length).map_err(out_of_range)?;
    // SAFETY: both descriptors are open while they are borrowed; `offset` is a number of ours that
    // lives through the call.
    let sent = unsafe {
        libc::sendfile(
            socket.as_raw_fd(),
            span.file.as_raw_fd(),
            &raw mut offset,
            length,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
