//! What a service manager is told: sd_notify(3), where `NOTIFY_SOCKET` is set.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that this process serves, and that it is the one to watch from now on: after an upgrade it
/// isn't the one that was started.
pub(crate) fn ready() {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let text = format!("READY=1\nMAINPID={}\n", std::process::id());
    if let Err(error) = notify(place.as_bytes(), &text) {
        tracing::warn!(%error, "service manager not told");
    }
}

fn notify(place: &[u8], text: &str) -> io::Result<()> {
    let address = match place.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(place))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_names_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("@modcdn-test-{}", std::process::id());
        let named = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        for (socket, place) in [
            (UnixDatagram::bind(&path), path.as_os_str().as_bytes()),
            (UnixDatagram::bind_addr(&named), name.as_bytes()),
        ] {
            notify(place, "READY=1\n").unwrap();
            let mut buffer = [0; 64];
            let n = socket.unwrap().recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"READY=1\n");
        }
    }
}
