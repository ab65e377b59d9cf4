//! A test in user, network and mount namespaces of its own: the test binary runs itself again
//! inside them, for that one test, with a loopback device and a resolv.conf that nobody else sees.

use std::path::Path;
use std::process::Command;

use super::require_tool;
use super::scratch::Scratch;

const INSIDE: &str = "MODCDN_TEST_INSIDE";

/// Whether this process is the one inside.
pub fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test `name` of this binary inside; fails if it fails there.
pub fn run_inside(name: &str, resolv_conf: &str) {
    require_tool("unshare", &["--version"]);
    require_tool("ip", &["-V"]);
    let works = Command::new("unshare").args(["-Urnm", "true"]).output();
    assert!(
        works.is_ok_and(|ran| ran.status.success()),
        "this machine allows no user namespaces (unshare -Urnm): run script/setup --test"
    );
    let scratch = Scratch::new("namespaces");
    let resolv_conf = scratch.file("resolv.conf", resolv_conf);
    let script = r#"ip link set lo up && mount --bind "$0" /etc/resolv.conf && exec "$@""#;
    let ran = Command::new("unshare")
        .args(["-Urnm", "--kill-child", "--fork", "sh", "-c", script])
        .arg(&resolv_conf)
        .arg(std::env::current_exe().expect("a test binary"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&ran.stdout), said(&ran.stderr));
    assert!(ran.status.success(), "inside the namespaces:\n{out}\n{err}");
    assert!(
        out.contains("1 passed"),
        "the test {name} didn't run inside:\n{out}\n{err}"
    );
}

/// Says which resolver this process has.
pub fn resolver() -> String {
    std::fs::read_to_string(Path::new("/etc/resolv.conf")).unwrap_or_default()
}
