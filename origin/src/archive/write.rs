//! A module zip is made.
//!
//! The same files in the same order give the same bytes: entries have no time and no mode. Content
//! passes through in pieces; only the directory is held.

use std::io::{self, Read, Write};

use modcdn_core::digest::{Hasher, Sha256};
use modcdn_core::goproxy::{ModulePath, Version};
use modcdn_core::h1::H1;
use zlib_rs::{Deflate, DeflateFlush, Status};

use super::Limits;
use super::fault::{Fault, shown};
use super::frame::{self, Put};
use super::record::Found;
use super::rules::prefix;
use super::select::{Input, select};

/// How much is read and deflated at once.
const STEP: usize = 64 << 10;

/// How hard deflate tries.
const LEVEL: i32 = 6;

/// Writes the zip of a module's version, with those of the files that belong to it; returns its
/// h1. Slow: for the blocking pool.
///
/// # Errors
/// What keeps the files from being a module; that one can't be read, or isn't as long as it said;
/// that `out` takes no more. What was written is worth nothing then.
pub fn write<I: Input>(
    out: &mut dyn Write,
    module: &ModulePath,
    version: &Version,
    files: &[I],
    limits: &Limits,
) -> Result<H1, Fault> {
    if !module.allows(version) {
        return Err(Fault::Version);
    }
    let prefix = prefix(module, version);
    let mut zip = Zip::new(out, limits);
    let mut names = Vec::new();
    for file in select(files, limits)? {
        let name = format!("{prefix}{}", file.path());
        let digest = zip.add(&name, file)?;
        names.push((name, digest));
    }
    zip.finish(names.len())?;
    Ok(H1::of_files(
        names.iter().map(|(name, digest)| (name.as_str(), *digest)),
    ))
}

/// An archive under way.
struct Zip<'o> {
    out: &'o mut dyn Write,
    position: u64,
    limits: &'o Limits,
    directory: Vec<u8>,
    deflate: Deflate,
    plain: Box<[u8]>,
    packed: Box<[u8]>,
}

impl<'o> Zip<'o> {
    fn new(out: &'o mut dyn Write, limits: &'o Limits) -> Self {
        Self {
            out,
            position: 0,
            limits,
            directory: Vec::new(),
            deflate: Deflate::new(LEVEL, false, 15),
            plain: vec![0; STEP].into(),
            packed: vec![0; STEP].into(),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.position += bytes.len() as u64;
        if self.position > self.limits.packed.min(u32::MAX.into()) {
            return Err(Fault::TooLarge(self.limits.packed));
        }
        Ok(self.out.write_all(bytes)?)
    }

    fn add(&mut self, name: &str, file: &impl Input) -> Result<Sha256, Fault> {
        let bad = |error: &dyn ToString| Fault::Source(shown(name.as_bytes()), error.to_string());
        let start = self.position;
        let header = frame::local(name).ok_or_else(|| bad(&"its name is too long"))?;
        self.put(&header)?;
        let data = self.position;
        let content = file.open().map_err(|error| bad(&error))?;
        let (mut found, digest) = self.deflate_all(content, &bad)?;
        if found.size != file.size() {
            return Err(bad(&"it isn't as long as it was said to be"));
        }
        found.packed = self.position - data;
        self.put(&frame::descriptor(found))?;
        let put = Put {
            name,
            found,
            offset: start,
        };
        frame::push_entry(&mut self.directory, &put);
        if self.directory.len() as u64 > self.limits.directory {
            return Err(Fault::DirectoryTooLarge(self.limits.directory));
        }
        Ok(digest)
    }

    /// Deflates all of a content; how long it becomes is left open.
    fn deflate_all(
        &mut self,
        mut content: Box<dyn Read + '_>,
        bad: &dyn Fn(&dyn ToString) -> Fault,
    ) -> Result<(Found, Sha256), Fault> {
        self.deflate.reset();
        let mut hasher = Hasher::new();
        let mut found = Found {
            crc: 0,
            packed: 0,
            size: 0,
        };
        loop {
            let mut plain = std::mem::take(&mut self.plain);
            let read = read_some(&mut *content, &mut plain).map_err(|error| bad(&error))?;
            let piece = &plain[..read];
            hasher.update(piece);
            found.crc = zlib_rs::crc32::crc32(found.crc, piece);
            found.size += read as u64;
            if found.size > self.limits.unpacked {
                return Err(Fault::UnpackedTooLarge(self.limits.unpacked));
            }
            self.deflate_piece(piece)?;
            self.plain = plain;
            if read == 0 {
                return Ok((found, hasher.finish()));
            }
        }
    }

    /// Deflates a piece; an empty one ends the stream.
    fn deflate_piece(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let flush = if piece.is_empty() {
            DeflateFlush::Finish
        } else {
            DeflateFlush::NoFlush
        };
        let mut packed = std::mem::take(&mut self.packed);
        let mut used = 0;
        loop {
            let (taken, made) = (self.deflate.total_in(), self.deflate.total_out());
            let status = self
                .deflate
                .compress(&piece[used..], &mut packed, flush)
                .map_err(|error| io::Error::other(error.as_str()))?;
            // Both are at most the lengths of slices.
            used += (self.deflate.total_in() - taken) as usize;
            let made = (self.deflate.total_out() - made) as usize;
            self.put(&packed[..made])?;
            let is_done = match flush {
                DeflateFlush::Finish => status == Status::StreamEnd,
                _ => used == piece.len() && made < packed.len(),
            };
            if is_done {
                self.packed = packed;
                return Ok(());
            }
        }
    }

    fn finish(mut self, entries: usize) -> Result<(), Fault> {
        let start = self.position;
        let directory = std::mem::take(&mut self.directory);
        self.put(&directory)?;
        self.put(&frame::end(entries as u64, start, directory.len() as u64))?;
        Ok(self.out.flush()?)
    }
}

/// Reads until a buffer is full or nothing is left.
fn read_some(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
