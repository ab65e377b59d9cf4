//! What the end-to-end tests share, in the order a test meets it: [`modules`] brings real modules,
//! [`upstream`] plays a proxy with faults, [`sumdb`] a checksum database, [`forge`] a site with Git repositories ([`repository`]), [`certificate`] an authority, [`cluster`] runs `modcdn up`, [`node`] a single role, [`faulty_disk`] gives it a disk that fails,
//! [`go`], [`dig`], [`validators`], [`http`] and [`raw`] are the clients, [`command`] runs what ends by itself, [`observe`] reads metrics and access logs.
//!
//! Nothing here sleeps for a fixed time: a test waits for a fact with [`until`], under a deadline.

#![allow(
    dead_code,
    reason = "every test file compiles the harness and uses its own part of it"
)]
#![allow(
    unreachable_pub,
    reason = "`pub` marks what tests call, each test being a crate"
)]

pub mod certificate;
pub mod cluster;
pub mod command;
pub mod dig;
pub mod faulty_disk;
pub mod forge;
pub mod go;
pub mod http;
pub mod modules;
pub mod namespaces;
pub mod node;
pub mod observe;
pub mod ports;
pub mod process;
pub mod raw;
pub mod repository;
pub mod s3;
pub mod scratch;
pub mod sumdb;
pub mod upstream;
pub mod validators;
pub mod zip;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a test waits for something that should happen soon: far above what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test.
pub const MODCDN: &str = env!("CARGO_BIN_EXE_modcdn");

/// The root package's folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Asks again and again until there is an answer; fails the test with `what` after [`PATIENCE`].
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for: {what}"
        );
        std::thread::sleep(Duration::from_millis(25));
    }
}

/// As [`until`], for a plain condition.
pub fn until_true(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}

/// A missing tool fails the test: none is skipped silently.
pub fn require_tool(name: &str, probe: &[&str]) {
    let found = Command::new(name)
        .args(probe)
        .output()
        .is_ok_and(|ran| ran.status.success());
    assert!(
        found,
        "`{name}` is missing or doesn't work here: run script/setup --test"
    );
}
