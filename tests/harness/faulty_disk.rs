//! A folder whose disk fails on command: `faulty_disk.c` is compiled once and preloaded into the
//! node that has its store there.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::repository;
use super::scratch::Scratch;

/// What fails there.
#[derive(Clone, Copy)]
pub enum Call {
    /// Opening a file to read it.
    Open,
    /// Reading, `sendfile` included.
    Read,
    /// Writing, syncing, making, renaming and removing files.
    Write,
}

/// A folder on such a disk.
pub struct FaultyDisk {
    scratch: Scratch,
    control: fs::File,
}

impl FaultyDisk {
    /// A new folder, and nothing fails.
    pub fn new() -> FaultyDisk {
        let scratch = Scratch::new("disk");
        scratch.folder("store");
        let control = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(scratch.path().join("control"))
            .expect("a new file");
        control.set_len(16).expect("a file can grow");
        FaultyDisk { scratch, control }
    }

    /// From now on these calls fail with this `errno`; with 0 they don't.
    pub fn fail(&self, call: Call, errno: i32) {
        self.set(call as u64, errno);
    }

    /// From now on reads fail that cover this byte of a file, and no others; with 0 none.
    pub fn bad_place(&self, at: i32) {
        self.set(3, at);
        self.fail(Call::Read, if at == 0 { 0 } else { libc::EIO });
    }

    fn set(&self, number: u64, value: i32) {
        let written = self.control.write_all_at(&value.to_ne_bytes(), 4 * number);
        written.expect("the control file can be written");
    }

    /// The folder.
    pub fn folder(&self) -> PathBuf {
        self.scratch.path().join("store")
    }

    /// What a process needs in its environment for its calls to fail.
    pub fn environment(&self) -> Vec<(String, String)> {
        let control = self.scratch.path().join("control");
        let shown = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD".into(), shown(library())),
            ("FAULTY_DISK_FOLDER".into(), shown(&self.folder())),
            ("FAULTY_DISK_CONTROL".into(), shown(&control)),
        ]
    }
}

/// What the disk says in words.
pub fn said(errno: i32) -> String {
    io::Error::from_raw_os_error(errno).to_string()
}

fn library() -> &'static Path {
    static LIBRARY: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let scratch = Scratch::new("faulty_disk");
        let library = scratch.path().join("faulty_disk.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"])
            .arg(&library)
            .arg(repository().join("tests/harness/faulty_disk.c"))
            .output()
            .expect("`cc` is missing: run script/setup");
        let said = String::from_utf8_lossy(&compiled.stderr);
        assert!(compiled.status.success(), "{said}");
        (scratch, library)
    });
    library
}
