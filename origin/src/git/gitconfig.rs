//! The only configuration that our git reads, and the ssh command it runs. Pure.
//!
//! Neither the machine's nor the user's configuration counts: a hook, a filter, a helper or an
//! `insteadOf` from there would make our zips differ from machine to machine. `transfer.fsckObjects`
//! stays off, as for the go command: old repositories have harmless faults that it would refuse, and
//! nothing is ever checked out here.

use std::fmt::Write as _;
use std::path::Path;

use reqwest::Url;

use crate::config::{Git, GitCredential, HttpProxy, Upstreams};

/// What is the same for every repository.
const FIXED: &str = "\
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tattributesFile = /dev/null
\tfsmonitor = false
\taskPass =
\tautocrlf = input
\teol = lf
[init]
\ttemplateDir =
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
\trecurseSubmodules = false
\twriteCommitGraph = false
[protocol]
\tversion = 2
[color]
\tui = false
[credential]
\tuseHttpPath = true
";

/// The text of the configuration file. `credentials` is empty where none may be used; `bundle`
/// is a file of trusted authorities.
pub(crate) fn text(
    git: &Git,
    upstreams: &Upstreams,
    credentials: &[GitCredential],
    bundle: Option<&Path>,
) -> String {
    let mut text = FIXED.to_owned();
    let stall = git.timeouts.stall.get().as_secs();
    let _ = write!(
        text,
        "[http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = {stall}\n"
    );
    if let Some(bundle) = bundle {
        let bundle = quoted(&bundle.display().to_string());
        let _ = writeln!(text, "\tsslCAInfo = {bundle}");
    }
    if let HttpProxy::Url(proxy) = &upstreams.proxy {
        let _ = writeln!(text, "\tproxy = {}", quoted(proxy.as_str()));
    }
    for credential in longest_first(credentials) {
        if let Some(helper) = helper(credential) {
            let (url, helper) = (quoted(credential.url.as_str()), quoted(&helper));
            let _ = write!(text, "[credential {url}]\n\thelper = {helper}\n");
        }
    }
    text
}

/// The command that git runs for `ssh://`: asks nobody, and trusts and shows only what it was given.
pub(crate) fn ssh(git: &Git, identity: Option<&Path>) -> String {
    let known_hosts = git.known_hosts.as_deref();
    let stall = git.timeouts.stall.get().as_secs();
    let mut command = "ssh -F /dev/null".to_owned();
    let mut option = |name: &str, value: &str| {
        let _ = write!(command, " -o {}", shell_quoted(&format!("{name}={value}")));
    };
    for name in ["BatchMode", "StrictHostKeyChecking", "IdentitiesOnly"] {
        option(name, "yes");
    }
    for name in [
        "PasswordAuthentication",
        "ForwardAgent",
        "PermitLocalCommand",
        "ControlMaster",
    ] {
        option(name, "no");
    }
    option("IdentityAgent", "none");
    option("ConnectTimeout", &stall.to_string());
    option("ServerAliveInterval", &stall.div_ceil(2).to_string());
    option("ServerAliveCountMax", "2");
    option("UserKnownHostsFile", &ssh_path(known_hosts, "/dev/null"));
    option("IdentityFile", &ssh_path(identity, "none"));
    command
}

/// The entry for an address: the longest that covers it.
pub(crate) fn credential<'a>(all: &'a [GitCredential], url: &Url) -> Option<&'a GitCredential> {
    longest_first(all)
        .into_iter()
        .find(|credential| credential.url.covers(url))
}

fn longest_first(credentials: &[GitCredential]) -> Vec<&GitCredential> {
    let mut sorted: Vec<&GitCredential> = credentials.iter().collect();
    sorted.sort_by_key(|credential| std::cmp::Reverse(credential.url.as_str().len()));
    sorted
}

/// Git reads the password through a helper, so that it stands in no argument and no environment.
fn helper(credential: &GitCredential) -> Option<String> {
    if let Some(helper) = &credential.helper {
        return Some(helper.clone());
    }
    let file = credential.password_file.as_ref()?;
    let user = shell_quoted(&credential.user);
    let file = shell_quoted(&file.display().to_string());
    Some(format!(
        "!f() {{ test \"$1\" = get || exit 0; printf 'username=%s\\npassword=' {user}; \
         head -n 1 {file} 2>/dev/null; }}; f"
    ))
}

/// ssh expands `%` and splits at blanks in paths.
fn ssh_path(path: Option<&Path>, none: &str) -> String {
    match path {
        None => none.to_owned(),
        Some(path) => format!("\"{}\"", path.display().to_string().replace('%', "%%")),
    }
}

/// A value or a subsection in git's configuration.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn credentials(yaml: &str) -> Vec<GitCredential> {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn the_longest_address_counts() {
        let all = credentials(
            "[{url: 'https://a.example', helper: x}, {url: 'https://a.example/team', helper: y}]",
        );
        let helper = |url: &str| {
            credential(&all, &url.parse().unwrap()).and_then(|found| found.helper.as_deref())
        };
        assert_eq!(helper("https://a.example/team/x"), Some("y"));
        assert_eq!(helper("https://a.example/other"), Some("x"));
        assert_eq!(helper("https://b.example/team/x"), None);
    }

    #[test]
    fn git_reads_what_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("it's \"the\" \\token");
        std::fs::write(&password, "s3cr et\nnot this\n").unwrap();
        let all = [GitCredential {
            url: "https://a.example/team".parse().unwrap(),
            user: "o'neil".to_owned(),
            password_file: Some(password),
            helper: None,
            identity: None,
        }];
        let file = dir.path().join("config");
        let upstreams = Upstreams {
            proxy: "http://me:pw@proxy.example:3128".parse().unwrap(),
            ..Upstreams::default()
        };
        let text = text(
            &Git::default(),
            &upstreams,
            &all,
            Some(Path::new("/x \"y\"")),
        );
        std::fs::write(&file, text).unwrap();
        let git = |args: &[&str], input: &str| {
            std::fs::write(dir.path().join("input"), input).unwrap();
            let ran = Command::new("git")
                .args(args)
                .env("GIT_CONFIG_GLOBAL", &file)
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_TERMINAL_PROMPT", "0")
                .env("GIT_ASKPASS", "")
                .stdin(std::fs::File::open(dir.path().join("input")).unwrap())
                .output()
                .expect("this test needs git on PATH");
            String::from_utf8(ran.stdout).unwrap()
        };
        assert_eq!(git(&["config", "http.sslCAInfo"], ""), "/x \"y\"\n");
        assert_eq!(git(&["config", "core.hooksPath"], ""), "/dev/null\n");
        let proxy = git(&["config", "http.proxy"], "");
        assert_eq!(proxy, "http://me:pw@proxy.example:3128/\n");
        let filled = git(
            &["credential", "fill"],
            "url=https://a.example/team/x.git\n\n",
        );
        assert!(
            filled.contains("username=o'neil\npassword=s3cr et\n"),
            "{filled}"
        );
        let other = git(&["credential", "fill"], "url=https://a.example/other\n\n");
        assert!(!other.contains("s3cr"), "{other}");
    }

    #[test]
    fn ssh_asks_nobody_and_trusts_nothing_else() {
        let git = Git {
            known_hosts: Some("/etc/modcdn/known hosts".into()),
            ..Git::default()
        };
        let command = ssh(&git, Some(Path::new("/k%y's")));
        for part in [
            "ssh -F /dev/null ",
            " -o 'BatchMode=yes'",
            " -o 'StrictHostKeyChecking=yes'",
            " -o 'UserKnownHostsFile=\"/etc/modcdn/known hosts\"'",
            " -o 'IdentityFile=\"/k%%y'\\''s\"'",
        ] {
            assert!(command.contains(part), "{command}");
        }
        assert!(ssh(&Git::default(), None).contains("'UserKnownHostsFile=/dev/null'"));
    }
}
