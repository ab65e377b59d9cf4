//! Tokens by which nodes know each other and their operator: made once, kept.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use modcdn_core::bearer::Tokens;

use crate::failure::Failure;

/// Makes the file if it isn't there, or holds no token.
///
/// # Errors
/// It can't be written, or the system gives no random bytes.
pub(crate) fn ensure(path: &Path) -> Result<(), Failure> {
    if fs::read_to_string(path).is_ok_and(|text| Tokens::parse(&text).is_ok()) {
        return Ok(());
    }
    write_new(path)
        .map_err(|error| Failure::doing(format_args!("writing {}", path.display()), error))
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut random = [0_u8; 32];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{token}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("purge.token");
        ensure(&path).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert!(Tokens::parse(&first).is_ok());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        ensure(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        fs::write(&path, "torn").unwrap();
        ensure(&path).unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), first);
    }
}
