//! The data folder of `up`, and who may use it.
//!
//! ```text
//! DATA/lock                   held while an `up` runs; holds its pid
//! DATA/conf/NAME.yaml         configurations, written anew at every start (0700: may hold secrets)
//! DATA/conf/purge.token        allows purges, at the edges and at the origin; made once
//! DATA/conf/edge.token         with it edges follow the origin's purge log; made once
//! DATA/log/NAME.log           what a node says on stderr (JSON lines), with its predecessor NAME.log.1
//! DATA/log/NAME.access.log    its access log (JSON lines)
//! DATA/ca/                    with --tls: see `ca`
//! DATA/edge/NAME/             an edge's store
//! DATA/origin/                the origin's store
//! DATA/dns/dynamic.json       records of the DNS server that come and go, and its zones' serials
//! DATA/dns/state/             what it last knew of the PoPs
//! ```
//!
//! Failure rule: everything but `ca/` can be deleted while no `up` runs; it is made again.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The data folder, locked: no other `up` uses it while this lives.
#[derive(Debug)]
pub(crate) struct Folders {
    data: PathBuf,
    /// The lock goes with the file.
    _lock: File,
}

impl Folders {
    /// Makes the folder and locks it.
    ///
    /// # Errors
    /// The folder can't be made, or another `up` uses it.
    pub(crate) fn open(data: &Path) -> Result<Self, Failure> {
        let failed =
            |error: io::Error| Failure::doing(format_args!("--data {}", data.display()), error);
        let data = std::path::absolute(data).map_err(failed)?;
        fs::create_dir_all(&data).map_err(failed)?;
        let lock = lock(&data)?;
        let folders = Self { data, _lock: lock };
        fs::create_dir_all(folders.logs()).map_err(failed)?;
        private_folder(&folders.configs()).map_err(failed)?;
        Ok(folders)
    }

    /// The folder of logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.data.join("log")
    }

    /// What a node says on stderr.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// A node's access log.
    pub(crate) fn access_log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.access.log"))
    }

    /// A node's configuration.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.configs().join(format!("{name}.yaml"))
    }

    /// The token that allows purges.
    pub(crate) fn purge_token(&self) -> PathBuf {
        self.configs().join("purge.token")
    }

    /// The token that edges show to the origin.
    pub(crate) fn edge_token(&self) -> PathBuf {
        self.configs().join("edge.token")
    }

    /// The certificate authority's folder.
    pub(crate) fn ca(&self) -> PathBuf {
        self.data.join("ca")
    }

    /// An edge's store.
    pub(crate) fn edge(&self, name: &str) -> PathBuf {
        self.data.join("edge").join(name)
    }

    /// The origin's store.
    pub(crate) fn origin(&self) -> PathBuf {
        self.data.join("origin")
    }

    /// The records of the DNS server that come and go.
    pub(crate) fn dns_records(&self) -> PathBuf {
        self.data.join("dns").join("dynamic.json")
    }

    /// What outlives the DNS server.
    pub(crate) fn dns_state(&self) -> PathBuf {
        self.data.join("dns").join("state")
    }

    fn configs(&self) -> PathBuf {
        self.data.join("conf")
    }
}

/// Makes a folder that only its owner may look into.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    // It may have been there, with other rights.
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Where data goes if nobody says: under the XDG data folder.
///
/// # Errors
/// Neither `XDG_DATA_HOME` nor `HOME` is set.
pub(crate) fn default_data() -> Result<PathBuf, Failure> {
    default_data_from(env::var_os("XDG_DATA_HOME"), env::var_os("HOME")).ok_or_else(|| {
        Failure::Usage(
            "neither XDG_DATA_HOME nor HOME is set; name a folder with --data".to_owned(),
        )
    })
}

fn default_data_from(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // The XDG specification: a relative path there is invalid and to be ignored.
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    xdg.and_then(absolute)
        .or_else(|| {
            home.and_then(absolute)
                .map(|home| home.join(".local/share"))
        })
        .map(|base| base.join("modcdn"))
}

fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join("lock");
    let failed = |error: io::Error| Failure::doing(path.display(), error);
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(in_use(data, &file)),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // Only for the message of the next one: of no use if it fails, and of no harm.
    let _ = file
        .set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

fn in_use(data: &Path, file: &File) -> Failure {
    let mut pid = String::new();
    let _ = file.take(20).read_to_string(&mut pid);
    Failure::Failed(format!(
        "another `modcdn up` (pid {}) uses {}; give this one a folder of its own with --data, and \
         ports of its own with --port",
        if pid.is_empty() { "unknown" } else { &pid },
        data.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_goes_under_the_xdg_folder_or_home() {
        let from = |xdg: &str, home: &str| {
            let some = |text: &str| Some(OsString::from(text)).filter(|text| !text.is_empty());
            default_data_from(some(xdg), some(home))
        };
        assert_eq!(from("/x", "/h"), Some("/x/modcdn".into()));
        assert_eq!(from("", "/h"), Some("/h/.local/share/modcdn".into()));
        assert_eq!(
            from("relative", "/h"),
            Some("/h/.local/share/modcdn".into())
        );
        assert_eq!(from("", ""), None);
    }

    #[test]
    fn a_data_folder_has_one_user_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Folders::open(dir.path()).unwrap();
        let Err(Failure::Failed(text)) = Folders::open(dir.path()) else {
            panic!("locked twice")
        };
        assert!(
            text.contains(&format!("pid {}", std::process::id())),
            "{text}"
        );
        drop(first);
        Folders::open(dir.path()).unwrap();
    }

    #[test]
    fn configurations_are_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::open(dir.path()).unwrap();
        let mode = fs::metadata(folders.configs())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
