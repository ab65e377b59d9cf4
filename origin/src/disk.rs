//! Files, read and written off the async threads.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

/// How much is read at once: the memory a reader of a body costs.
pub(crate) const CHUNK: u64 = 128 << 10;

/// Runs something that may wait for a disk.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

/// Up to `wanted` bytes (at least one) from a position.
///
/// # Errors
/// `UnexpectedEof` if the file ends there.
pub(crate) async fn read_at(file: Arc<File>, position: u64, wanted: u64) -> io::Result<Bytes> {
    let buffer = buffer(wanted)?;
    blocking(move || read_into(&file, position, buffer)).await
}

/// As [`read_at`], on this thread.
pub(crate) fn read_at_now(file: &File, position: u64, wanted: u64) -> io::Result<Bytes> {
    read_into(file, position, buffer(wanted)?)
}

/// Room for what is read at once. Made by the thread that will let go of it: memory that wanders
/// from the many threads of the blocking pool to others is given back late, and there is a lot.
pub(crate) fn buffer(wanted: u64) -> io::Result<Vec<u8>> {
    let wanted = usize::try_from(wanted.min(CHUNK)).map_err(io::Error::other)?;
    Ok(vec![0; wanted])
}

/// Fills a buffer as far as one read does.
pub(crate) fn read_into(file: &File, position: u64, mut buffer: Vec<u8>) -> io::Result<Bytes> {
    let read = loop {
        match file.read_at(&mut buffer, position) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.truncate(read);
    Ok(buffer.into())
}
