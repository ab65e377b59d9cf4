//! Whether bytes of a file are in the page cache.
//!
//! Linux 6.5 and later say so in one call (`cachestat`). Before that the file is mapped and `mincore`
//! looks at each page, which takes four times as long: a third of what sending the bytes takes.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::ptr::null_mut;

use crate::exchange::FileSpan;

/// The call's number: the same on every architecture that we build for. `libc` doesn't name it.
const CACHESTAT: libc::c_long = 451;

/// Whether all of a span is in the page cache now. "No" also where that can't be told.
pub(super) fn is_resident(span: &FileSpan) -> bool {
    // Of another user's file the kernel says that all of it is in memory.
    let ours = span.file.metadata().is_ok_and(|data| data.uid() == user());
    ours && counted(span).or_else(|| looked_at(span)).unwrap_or(false)
}

/// As `cachestat` counts. `None`: this kernel has no such call, or doesn't want to say.
fn counted(span: &FileSpan) -> Option<bool> {
    #[repr(C)]
    struct Range {
        offset: u64,
        length: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Counts {
        cached: u64,
        dirty: u64,
        writeback: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    let page = page_size()? as u64;
    let begin = span.offset / page * page;
    let length = span.offset.checked_add(span.length)? - begin;
    let range = Range {
        offset: begin,
        length,
    };
    let mut counts = Counts::default();
    let fd = span.file.as_raw_fd();
    let (range, counted) = (&raw const range, &raw mut counts);
    // SAFETY: the descriptor is open; `range` is only read and `counts` only written, both have the
    // layout that the kernel's ABI names, and both outlive the call.
    let told = unsafe { libc::syscall(CACHESTAT, fd, range, counted, 0) };
    (told == 0).then(|| counts.cached >= length.div_ceil(page))
}

fn user() -> u32 {
    // SAFETY: takes nothing, returns a number, can't fail.
    unsafe { libc::geteuid() }
}

fn looked_at(span: &FileSpan) -> Option<bool> {
    let page = page_size()?;
    let offset = usize::try_from(span.offset).ok()?;
    let begin = offset / page * page;
    let len = offset.checked_add(usize::try_from(span.length).ok()?)? - begin;
    let at = libc::off_t::try_from(begin).ok()?;
    let mut pages = vec![0_u8; len.div_ceil(page)];
    let fd = span.file.as_raw_fd();
    // SAFETY: a new mapping that nobody else knows, of an open file, which can be neither read nor
    // written through it; it is gone before this function returns.
    let mapped = unsafe { libc::mmap(null_mut(), len, libc::PROT_NONE, libc::MAP_SHARED, fd, at) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: `mapped` and `len` are those of the mapping, and `pages` has a byte for each page of it.
    let told = unsafe { libc::mincore(mapped, len, pages.as_mut_ptr()) };
    // SAFETY: the mapping was made above and there is no reference into it.
    unsafe { libc::munmap(mapped, len) };
    (told == 0).then(|| pages.iter().all(|page| page & 1 != 0))
}

fn page_size() -> Option<usize> {
    // SAFETY: takes a number and reads no memory of ours.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use super::*;

    fn span(file: &Arc<File>, offset: u64, length: u64) -> FileSpan {
        FileSpan {
            file: file.clone(),
            offset,
            length,
        }
    }

    #[test]
    fn what_was_written_just_now_is_in_memory_and_what_is_behind_the_end_is_not() {
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[7; 100_000], 0).unwrap();
        let file = Arc::new(file);
        for (offset, length, resident) in
            [(5000, 95_000, true), (0, 1, true), (5000, 500_000, false)]
        {
            let span = span(&file, offset, length);
            assert_eq!(is_resident(&span), resident, "{offset} {length}");
            assert_eq!(looked_at(&span), Some(resident), "{offset} {length}");
            // Where the kernel has both ways they say the same.
            assert_eq!(
                counted(&span).unwrap_or(resident),
                resident,
                "{offset} {length}"
            );
        }
    }
}
