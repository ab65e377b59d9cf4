//! Resolvers' validation by programs that aren't ours: `delv` (of BIND) and `unbound-host`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::require_tool;
use super::scratch::Scratch;

/// What a validator made of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signed, and the signatures hold.
    Secure,
    /// Something signed should be there that isn't, or doesn't hold.
    Bogus,
    /// Not signed at all.
    Insecure,
}

/// Asks one server, and trusts a zone by one DS record.
pub struct Validators {
    server: String,
    port: String,
    zone: String,
    ds: String,
    scratch: Scratch,
}

impl Validators {
    /// `server` is `ADDRESS:PORT`, `ds` a DS record as zone files have it.
    pub fn new(server: &str, ds: &str) -> Validators {
        require_tool("delv", &["-v"]);
        let (server, port) = server.rsplit_once(':').expect("address:port");
        let zone = ds.split(' ').next().expect("a name");
        Validators {
            server: server.to_owned(),
            port: port.to_owned(),
            zone: zone.to_owned(),
            ds: ds.to_owned(),
            scratch: Scratch::new("validators"),
        }
    }

    /// What `delv` makes of it, with all that it said.
    pub fn delv(&self, name: &str, kind: &str) -> (Verdict, String) {
        let fields: Vec<&str> = self.ds.split(' ').skip(3).collect();
        let [tag, algorithm, digest_type, digest] = fields[..] else {
            panic!("not a DS record: {}", self.ds)
        };
        let anchors = format!(
            "trust-anchors {{ \"{}\" static-ds {tag} {algorithm} {digest_type} \"{digest}\"; }};\n",
            self.zone
        );
        let anchors = self.file("anchors", &anchors);
        let ran = Command::new("delv")
            .args(["-4", &format!("@{}", self.server), "-p", &self.port])
            .arg("-a")
            .arg(anchors)
            .arg(format!("+root={}", self.zone))
            .args(["-t", kind, "-q", name])
            .output()
            .expect("delv runs");
        let text = said(&ran);
        let verdict = if text.contains("fully validated") {
            Verdict::Secure
        } else if text.contains("unsigned answer") {
            Verdict::Insecure
        } else {
            Verdict::Bogus
        };
        (verdict, text)
    }

    /// What `unbound-host` makes of it, asking from a loopback address, at a time (seconds since
    /// 1970; none: now).
    pub fn unbound(
        &self,
        name: &str,
        kind: &str,
        from: &str,
        at: Option<u64>,
    ) -> (Verdict, String) {
        let date = at.map_or_else(String::new, |at| {
            format!("    val-override-date: \"{at}\"\n")
        });
        let config = format!(
            "server:\n    do-not-query-localhost: no\n    local-zone: \"test.\" nodefault\n    \
             module-config: \"validator iterator\"\n    outgoing-interface: {from}\n    \
             trust-anchor: \"{}\"\n{date}stub-zone:\n    name: \"{}\"\n    \
             stub-addr: {}@{}\n    stub-no-cache: yes\n",
            self.ds, self.zone, self.server, self.port
        );
        let config = self.file("unbound.conf", &config);
        let ran = Command::new("unbound-host")
            .args(["-v", "-4", "-t", kind, "-C"])
            .arg(config)
            .arg(name)
            .output()
            .unwrap_or_else(|error| panic!("unbound-host is needed: {error}"));
        let text = said(&ran);
        let verdict = if text.contains("(secure)") {
            Verdict::Secure
        } else if text.contains("(insecure)") {
            Verdict::Insecure
        } else {
            Verdict::Bogus
        };
        (verdict, text)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }
}

fn said(ran: &std::process::Output) -> String {
    let [out, err] = [&ran.stdout, &ran.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}
