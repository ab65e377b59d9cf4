//! Where an archive's bytes are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that can be read at any position: a file, or bytes in memory.
pub trait Source: Sync {
    /// Reads some bytes from a position; none only at the end.
    ///
    /// # Errors
    /// If they can't be read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }
}

impl Source for [u8] {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let position = usize::try_from(position).map_or(self.len(), |at| at.min(self.len()));
        let len = buffer.len().min(self.len() - position);
        buffer[..len].copy_from_slice(&self[position..position + len]);
        Ok(len)
    }
}

impl Source for &[u8] {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        <[u8] as Source>::read_at(self, buffer, position)
    }
}

/// Fills a buffer from a position, at least the first `least` bytes of it; how many it became.
pub(super) fn fill(
    source: &dyn Source,
    buffer: &mut [u8],
    position: u64,
    least: usize,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < least {
        match source.read_at(&mut buffer[filled..], position + filled as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Just so many bytes from a position.
pub(super) fn read_exactly(source: &dyn Source, position: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    fill(source, &mut bytes, position, len)?;
    Ok(bytes)
}
