//! Real modules: those of `tests/project`, fetched once by `go mod download` through the machine's
//! own GOPROXY and kept under the target folder, then served to our origin as `file://` upstream.
//!
//! The folder is named by the project's pinned content and marked when it is whole; a file lock
//! keeps test processes that run at once from fetching twice.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use modcdn_core::digest::Sha256;

use super::go::{go_binary, pinned_env};
use super::repository;
use super::scratch::Scratch;

/// A module of the project, as its request path stands in the tree (escaped).
pub const UPPER_CASE: &str = "/github.com/!burnt!sushi/toml/@v/v1.3.2";
/// A version that ends in `+incompatible`.
pub const INCOMPATIBLE: &str = "/github.com/gofrs/uuid/@v/v4.4.0+incompatible";
/// A pseudo-version.
pub const PSEUDO: &str = "/github.com/mohae/deepcopy/@v/v0.0.0-20170929034955-c48cc78d4826";
/// The largest zip, 1.9 MB.
pub const LARGE: &str = "/golang.org/x/sys/@v/v0.14.0";
/// What the built project prints.
pub const PROJECT_PRINTS: &str = "built modcdn 83 MB 1.22.3 github.com/!burnt!sushi/toml \
     05b4eabfea629975 07460707-d400-5da8-b86d-4838e994528a\n";

/// A tree as GOMODCACHE/cache/download.
pub struct Modules {
    tree: PathBuf,
}

impl Modules {
    /// The project's modules; the first call on a machine fetches them.
    pub fn fetch() -> &'static Modules {
        static FETCHED: OnceLock<Modules> = OnceLock::new();
        FETCHED.get_or_init(|| {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("modules");
            fs::create_dir_all(&kept).expect("cannot make the folder for modules");
            let lock = File::create(kept.join("lock")).expect("cannot make a lock file");
            lock.lock().expect("cannot lock");
            let cache = kept.join(pin());
            if !cache.join("whole").exists() {
                let _ = fs::remove_dir_all(&cache);
                download(&cache);
                fs::write(cache.join("whole"), "").expect("cannot mark the modules");
            }
            Modules {
                tree: cache.join("cache/download"),
            }
        })
    }

    /// The upstream to give to our origin, or to a `go` that does without us.
    pub fn url(&self) -> String {
        format!("file://{}", self.tree.display())
    }

    /// The bytes of an object, named by its request path.
    pub fn read(&self, path: &str) -> Vec<u8> {
        let file = self.tree.join(path.trim_start_matches('/'));
        fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// The request paths of all zips in the tree, sorted.
    pub fn zips(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect_zips(&self.tree, &mut found);
        let root = format!("{}", self.tree.display());
        let mut paths: Vec<String> = found
            .iter()
            .map(|path| path.display().to_string().replacen(&root, "", 1))
            .collect();
        paths.sort();
        paths
    }
}

/// The folder of the pinned project.
pub fn project() -> PathBuf {
    repository().join("tests/project")
}

/// Names the project's pinned versions.
fn pin() -> String {
    let mut text = fs::read(project().join("go.mod")).expect("tests/project/go.mod");
    text.extend(fs::read(project().join("go.sum")).expect("tests/project/go.sum"));
    Sha256::of(&text).to_string()[..16].to_owned()
}

/// Everything that `go build` and `go mod tidy` of the project will ask for.
fn download(cache: &Path) {
    let scratch = Scratch::new("fetch");
    for name in ["go.mod", "go.sum", "main.go"] {
        fs::copy(project().join(name), scratch.path().join(name)).expect("cannot copy the project");
    }
    for arguments in [["mod", "download"], ["mod", "tidy"]] {
        let ran = Command::new(go_binary())
            .args(arguments)
            .current_dir(scratch.path())
            .envs(pinned_env())
            .env("GOMODCACHE", cache)
            .output()
            .expect("cannot run go");
        let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(
            ran.status.success(),
            "cannot fetch the modules of tests/project through this machine's GOPROXY:\n{stderr}"
        );
    }
}

fn collect_zips(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("a readable module tree")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            collect_zips(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "zip") {
            found.push(path);
        }
    }
}
