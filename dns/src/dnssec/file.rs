//! Keys as files: `K<zone>+<algorithm>+<tag>.pem` holds the private key (PKCS#8, mode 0600), and
//! `.key` beside it the DNSKEY record.
//!
//! Failure rule: no file is ever overwritten, and a private key that others can read is refused.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::Name;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::key::{Algorithm, Key, KeyError, Role};

/// A PEM file with one of our keys has some 240 bytes.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// Permission bits that let others than the owner in.
const OTHERS: u32 = 0o077;

/// Why a key's file can't be written or used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The key itself.
    #[error("{}: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: KeyError,
    },
    /// The file can't be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Others can read the private key.
    #[error("{}: others can read this private key (mode {mode:03o}): chmod 600 it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// No private key is in it.
    #[error("{}: no private key in PEM form (PKCS#8, BEGIN PRIVATE KEY)", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

/// Makes a key and its two files in `folder`; the private key's file is handed back.
///
/// # Errors
/// If a file can't be written, or is there already.
pub fn create(
    folder: &Path,
    zone: &Name,
    algorithm: Algorithm,
    role: Role,
) -> Result<(PathBuf, Key), FileError> {
    let at = |error| FileError::Key {
        path: folder.to_owned(),
        error,
    };
    let der = Key::generate(algorithm).map_err(at)?;
    let key = Key::from_pkcs8(&der, role).map_err(at)?;
    let path = folder.join(format!("{}.pem", stem(zone, &key)));
    write_new(&path, 0o600, &pem(&der))?;
    let public = format!("{}\n", key.dnskey_line(zone));
    write_new(&path.with_extension("key"), 0o644, &public)?;
    Ok((path, key))
}

/// Reads a private key from its file.
///
/// # Errors
/// If the file can't be read, can be read by others, or holds no key of ours.
pub fn read(path: &Path, role: Role) -> Result<Key, FileError> {
    let at = |error| FileError::Io {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(at)?;
    let mode = file.metadata().map_err(at)?.mode() & 0o777;
    if mode & OTHERS != 0 {
        let path = path.to_owned();
        return Err(FileError::Exposed { path, mode });
    }
    let mut text = Vec::new();
    file.take(MAX_KEY_FILE).read_to_end(&mut text).map_err(at)?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|_| FileError::NoKey {
        path: path.to_owned(),
    })?;
    Key::from_pkcs8(&der, role).map_err(|error| FileError::Key {
        path: path.to_owned(),
        error,
    })
}

/// The files' name: the tools of other name servers know keys by the same one.
fn stem(zone: &Name, key: &Key) -> String {
    let zone = zone.to_lowercase().to_ascii().replace('/', "_");
    let algorithm = key.algorithm().number();
    format!("K{zone}+{algorithm:03}+{:05}", key.tag())
}

/// PEM as RFC 7468 has it: lines of 64 characters.
fn pem(der: &PrivatePkcs8KeyDer<'_>) -> String {
    let mut text = String::from("-----BEGIN PRIVATE KEY-----\n");
    let encoded = STANDARD.encode(der.secret_pkcs8_der());
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    text
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), FileError> {
    let written = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    written().map_err(|error| FileError::Io {
        path: path.to_owned(),
        error,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_read_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let zone = Name::from_ascii("Go.Test.").unwrap();
        for (algorithm, role) in [
            (Algorithm::EcdsaP256, Role::Csk),
            (Algorithm::Ed25519, Role::Zsk),
        ] {
            let (path, made) = create(folder.path(), &zone, algorithm, role).unwrap();
            let read = read(&path, role).unwrap();
            assert_eq!(read.dnskey_line(&zone), made.dnskey_line(&zone));
            assert_eq!(read.algorithm(), algorithm);
            let name = path.file_name().unwrap().to_str().unwrap();
            let start = format!("Kgo.test.+{:03}+", algorithm.number());
            assert!(name.starts_with(&start), "{name}");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            let public = fs::read_to_string(path.with_extension("key")).unwrap();
            assert_eq!(public.trim_end(), made.dnskey_line(&zone));
            assert!(!format!("{made:?}").contains("secret"), "{made:?}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let zone = Name::from_ascii("go.test.").unwrap();
        let (path, _) = create(folder.path(), &zone, Algorithm::Ed25519, Role::Csk).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read(&path, Role::Csk).unwrap_err().to_string();
        assert!(error.ends_with("(mode 640): chmod 600 it"), "{error}");
    }

    #[test]
    fn what_is_no_key_is_refused_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        write_new(&path, 0o600, "nothing\n").unwrap();
        assert!(matches!(
            read(&path, Role::Csk),
            Err(FileError::NoKey { .. })
        ));
        assert!(matches!(
            write_new(&path, 0o600, "other"),
            Err(FileError::Io { .. })
        ));
        let missing = read(&folder.path().join("none.pem"), Role::Csk);
        assert!(matches!(missing, Err(FileError::Io { .. })));
        fs::write(
            &path,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(matches!(read(&path, Role::Csk), Err(FileError::Key { .. })));
    }
}
