//! What git's complaints mean. Pure.
//!
//! Git says what went wrong in English (it runs with `LC_ALL=C`) on its standard error. What isn't
//! recognized is told as it is.

use modcdn_core::refusal::Reason;

use super::fault::Fault;

/// How much of a complaint is told.
const TOLD_LINES: usize = 3;

/// What a complaint says, and what to make of it.
struct Sign {
    /// Any of these, in lower case.
    says: &'static [&'static str],
    reason: Reason,
    hint: &'static str,
}

const NOT_READABLE: &str = "check git.credentials of the origin for this repository";

const SIGNS: &[Sign] = &[
    Sign {
        says: &["out of memory", "cannot allocate memory"],
        reason: Reason::GitFailed,
        hint: "git.limits.memory of the origin says how much memory git may take",
    },
    Sign {
        says: &["remote host identification has changed"],
        reason: Reason::GitUnreadable,
        hint: "the server shows another key than git.known_hosts of the origin has: find out why, then put the right one there",
    },
    Sign {
        says: &["unprotected private key file"],
        reason: Reason::GitUnreadable,
        hint: "nobody but the origin's user may read the key file that git.credentials names: chmod 600",
    },
    Sign {
        says: &["host key verification failed"],
        reason: Reason::GitUnreadable,
        hint: "add the server's key to the file named by git.known_hosts of the origin",
    },
    Sign {
        says: &[
            "could not read username",
            "could not read password",
            "authentication failed",
            "permission denied",
            "access denied",
            "error: 401",
            "error: 403",
            "invalid credentials",
        ],
        reason: Reason::GitUnreadable,
        hint: NOT_READABLE,
    },
    Sign {
        says: &["not allowed", "unsupported url protocol", "protocol \""],
        reason: Reason::GitFailed,
        hint: "git.protocols of the origin names the protocols that may be used",
    },
    Sign {
        says: &["operation too slow", "timed out", "timeout"],
        reason: Reason::UpstreamTimeout,
        hint: "try again",
    },
    Sign {
        says: &[
            "could not resolve host",
            "failed to connect",
            "connection refused",
            "connection reset",
            "connection closed",
            "no route to host",
            "network is unreachable",
            "empty reply from server",
            "unable to access",
            "the remote end hung up",
            "early eof",
            "ssl",
            "certificate",
        ],
        reason: Reason::UpstreamUnreachable,
        hint: "try again, or see whether the repository's server is up",
    },
];

/// Complaints of a server that knows no such repository.
const MISSING: &[&str] = &[
    "' not found",
    "error: 404",
    "error: 410",
    "repository not found",
    // A bare sshd.
    "does not appear to be a git repository",
];

/// How ssh's lines about our own files begin: where keys lie is not told.
const OWN_FILES: &[&str] = &[
    "Load key ",
    "identity_sign: ",
    "Permissions 0",
    "Bad permissions",
];

/// What a failed conversation with a repository's server means. `url` is told.
pub(crate) fn remote(url: &str, complaint: &str) -> Fault {
    let said = complaint.to_ascii_lowercase();
    let told = told(complaint);
    let failed = format!("git can't read {url}:\n{told}");
    if MISSING.iter().any(|sign| said.contains(sign)) {
        return Fault::NoRepository(failed);
    }
    let sign = SIGNS
        .iter()
        .find(|sign| sign.says.iter().any(|says| said.contains(says)));
    match sign {
        Some(sign) => Fault::failed(sign.reason, failed).hint(sign.hint),
        None => Fault::failed(Reason::GitFailed, failed),
    }
}

/// The first lines of a complaint that say something, without who is logged in where.
pub(crate) fn told(complaint: &str) -> String {
    // Ssh frames what it finds alarming.
    let frame = |c: char| c == '@' || c.is_whitespace();
    let lines = complaint.lines().map(|line| line.trim_matches(frame));
    let says_something = |line: &&str| {
        let is_ours = OWN_FILES.iter().any(|start| line.starts_with(start));
        !line.is_empty() && !line.starts_with("hint:") && !is_ours
    };
    let kept: Vec<String> = lines
        .filter(says_something)
        .take(TOLD_LINES)
        .map(without_users)
        .collect();
    if kept.is_empty() {
        return "it said nothing".to_owned();
    }
    kept.join("\n")
}

/// Every `//user:password@` of a text becomes `//`.
pub(crate) fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("//") {
        let (before, after) = rest.split_at(at + 2);
        out.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c == '\'' || c == '"' || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        out.push_str(
            authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host),
        );
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fault::Failure;
    use super::*;

    #[test]
    fn complaints_are_understood() {
        let reason = |complaint: &str| match remote("https://a.example/x", complaint) {
            Fault::Failed(Failure { reason, .. }) => Some(reason),
            Fault::NoRepository(_) => None,
            other => panic!("{other:?}"),
        };
        for (complaint, means) in [
            (
                "fatal: could not read Username for 'https://a.example': terminal prompts disabled",
                Some(Reason::GitUnreadable),
            ),
            (
                "remote: HTTP Basic: Access denied\nfatal: Authentication failed for 'https://a.example/x/'",
                Some(Reason::GitUnreadable),
            ),
            (
                "git@a.example: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                Some(Reason::GitUnreadable),
            ),
            ("Host key verification failed.", Some(Reason::GitUnreadable)),
            ("fatal: repository 'https://a.example/x/' not found", None),
            (
                "ERROR: Repository not found.\nfatal: Could not read from remote repository.",
                None,
            ),
            (
                "fatal: transport 'ext' not allowed",
                Some(Reason::GitFailed),
            ),
            (
                "fatal: unable to access 'https://a.example/x/': Could not resolve host: a.example",
                Some(Reason::UpstreamUnreachable),
            ),
            (
                "fatal: unable to access 'https://a.example/x/': Operation too slow. Less than 1 bytes/sec",
                Some(Reason::UpstreamTimeout),
            ),
            (
                "fatal: protocol error: bad line length",
                Some(Reason::GitFailed),
            ),
            (
                "fatal: '/srv/x.git' does not appear to be a git repository\nfatal: Could not read from remote repository.",
                None,
            ),
            ("", Some(Reason::GitFailed)),
        ] {
            assert_eq!(reason(complaint), means, "{complaint}");
        }
    }

    /// As OpenSSH 9 says it.
    #[test]
    fn what_ssh_frames_is_told_without_the_frame_and_without_our_paths() {
        let framed = |title: &str, rest: &str| {
            let line = "@".repeat(59);
            format!("{line}\n@    {title}     @\n{line}\n{rest}")
        };
        let of = |complaint: &str| match remote("ssh://a.example/x", complaint) {
            Fault::Failed(Failure {
                reason,
                failed,
                hint,
            }) => (reason, failed, hint),
            other => panic!("{other:?}"),
        };
        let changed = framed(
            "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!",
            "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\nHost key verification failed.",
        );
        let (reason, failed, hint) = of(&changed);
        assert_eq!(reason, Reason::GitUnreadable);
        let told = "git can't read ssh://a.example/x:\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\n\
                    IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\nHost key verification failed.";
        assert_eq!(failed, told);
        assert!(hint.contains("find out why"), "{hint}");

        let open = framed(
            "WARNING: UNPROTECTED PRIVATE KEY FILE!",
            "Permissions 0644 for '/etc/modcdn/id' are too open.\nThis private key will be ignored.\n\
             Load key \"/etc/modcdn/id\": bad permissions\nme@a.example: Permission denied (publickey).",
        );
        let (reason, failed, hint) = of(&open);
        assert_eq!(reason, Reason::GitUnreadable);
        assert!(failed.contains("UNPROTECTED PRIVATE KEY FILE!"), "{failed}");
        assert!(!failed.contains("/etc/modcdn"), "{failed}");
        assert!(hint.contains("chmod 600"), "{hint}");
    }

    #[test]
    fn who_is_logged_in_is_told_to_nobody() {
        for (text, told) in [
            ("https://me:pw@a.example/x", "https://a.example/x"),
            (
                "see 'ssh://tok@a.example/x' and http://b:c@d",
                "see 'ssh://a.example/x' and http://d",
            ),
            ("no URL, me@home", "no URL, me@home"),
            ("//a@b@c", "//c"),
        ] {
            assert_eq!(without_users(text), told);
        }
    }

    proptest! {
        #[test]
        fn no_user_gets_through(text in "\\PC{0,40}", user in "[a-z]{8}") {
            let told = without_users(&format!("{text} https://{user}:{user}@a.example/ {text}"));
            prop_assert!(text.contains(&user) || !told.contains(&user));
        }
    }
}
