//! The section `git`: how repositories are found and fetched. One for all mounts, because they
//! share the mirrors.

use std::path::PathBuf;

use modcdn_core::goproxy::Patterns;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

use crate::git::remote::{Protocol, RemoteUrl};
use crate::git::repositories::Repository;

/// How repositories are found and fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Git {
    /// The program.
    pub program: PathBuf,
    /// Where mirrors of repositories are kept; `.git-mirrors` in the store's folder if not said.
    pub dir: Option<PathBuf>,
    /// How repositories may be reached.
    pub protocols: Vec<Protocol>,
    /// Modules whose repository may be looked up by plain HTTP where https fails.
    pub insecure: Patterns,
    /// Where repositories are, for modules that don't say so themselves.
    pub repositories: Vec<Repository>,
    /// What repositories of private modules are fetched with.
    pub credentials: Vec<GitCredential>,
    /// The host keys that ssh accepts, an OpenSSH `known_hosts` file.
    pub known_hosts: Option<PathBuf>,
    /// How long what was learned is used.
    pub freshness: GitFreshness,
    /// How long anything may take.
    pub timeouts: GitTimeouts,
    /// How much of anything there may be.
    pub limits: GitLimits,
}

/// What repositories below an address are fetched with: a password from a file, whatever a
/// credential helper says, or an ssh key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitCredential {
    /// The address, or the beginning of some: the longest that fits counts.
    pub url: RemoteUrl,
    /// The user that goes with the password.
    #[serde(default = "default_user")]
    pub user: String,
    /// The file that holds the password or token, read at each use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// A git credential helper, as `credential.helper` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// The file that holds a private key for ssh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
}

/// Most servers that take tokens as passwords look at no user.
fn default_user() -> String {
    "git".to_owned()
}

/// How long what was learned is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GitFreshness {
    /// What branches and tags a repository has, for files of versions. Lists, `@latest` and
    /// queries ask the repository each time (`freshness.mutable` says how often that is).
    pub refs: Period,
    /// Which repository a module is in.
    pub discovery: Period,
}

/// How long anything may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GitTimeouts {
    /// One page that says where a repository is, redirects included.
    pub page: Period,
    /// Asking a repository for its branches and tags.
    pub refs: Period,
    /// Fetching from a repository.
    pub fetch: Period,
    /// A transfer that comes to a halt.
    pub stall: Period,
    /// Reading a mirror: a file, a commit, an archive.
    pub local: Period,
    /// Waiting for a place among `limits.programs`.
    pub queue: Period,
}

/// How much of anything there may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GitLimits {
    /// Runs of git at once.
    pub programs: usize,
    /// A run's memory.
    pub memory: ByteSize,
    /// One mirror on disk.
    pub mirror: ByteSize,
    /// All mirrors on disk; those not used for longest go first.
    pub mirrors: ByteSize,
    /// The files of one version, unpacked, before what isn't the module's is left out.
    pub tree: ByteSize,
    /// Zips being made at once, each with a tree on disk.
    pub zips: usize,
    /// What a repository says of its branches and tags.
    pub refs: ByteSize,
    /// A page that says where a repository is.
    pub page: ByteSize,
    /// Remembered places of repositories, by number.
    pub discoveries: usize,
}

impl Git {
    /// See [`Git::program`].
    pub const PROGRAM: &str = "git";
    /// See [`Git::protocols`].
    pub const PROTOCOLS: &[Protocol] = &[Protocol::Https, Protocol::Ssh];
}

impl Default for Git {
    fn default() -> Self {
        Self {
            program: Self::PROGRAM.into(),
            dir: None,
            protocols: Self::PROTOCOLS.to_vec(),
            insecure: Patterns::default(),
            repositories: Vec::new(),
            credentials: Vec::new(),
            known_hosts: None,
            freshness: GitFreshness::default(),
            timeouts: GitTimeouts::default(),
            limits: GitLimits::default(),
        }
    }
}

impl GitFreshness {
    /// See [`GitFreshness::refs`].
    pub const REFS: Period = Period::secs(60);
    /// See [`GitFreshness::discovery`].
    pub const DISCOVERY: Period = Period::secs(10 * 60);
}

impl Default for GitFreshness {
    fn default() -> Self {
        Self {
            refs: Self::REFS,
            discovery: Self::DISCOVERY,
        }
    }
}

impl GitTimeouts {
    /// See [`GitTimeouts::page`].
    pub const PAGE: Period = Period::secs(15);
    /// See [`GitTimeouts::refs`].
    pub const REFS: Period = Period::secs(30);
    /// See [`GitTimeouts::fetch`]. Under `timeouts.request`, which holds over all of it.
    pub const FETCH: Period = Period::secs(5 * 60);
    /// See [`GitTimeouts::stall`].
    pub const STALL: Period = Period::secs(20);
    /// See [`GitTimeouts::local`].
    pub const LOCAL: Period = Period::secs(2 * 60);
    /// See [`GitTimeouts::queue`].
    pub const QUEUE: Period = Period::secs(30);
}

impl Default for GitTimeouts {
    fn default() -> Self {
        Self {
            page: Self::PAGE,
            refs: Self::REFS,
            fetch: Self::FETCH,
            stall: Self::STALL,
            local: Self::LOCAL,
            queue: Self::QUEUE,
        }
    }
}

impl GitLimits {
    /// See [`GitLimits::programs`].
    pub const PROGRAMS: usize = 16;
    /// See [`GitLimits::memory`].
    pub const MEMORY: ByteSize = ByteSize::gib(2);
    /// See [`GitLimits::mirror`].
    pub const MIRROR: ByteSize = ByteSize::gib(4);
    /// See [`GitLimits::mirrors`].
    pub const MIRRORS: ByteSize = ByteSize::gib(32);
    /// See [`GitLimits::tree`].
    pub const TREE: ByteSize = ByteSize::gib(2);
    /// See [`GitLimits::zips`].
    pub const ZIPS: usize = 8;
    /// See [`GitLimits::refs`].
    pub const REFS: ByteSize = ByteSize::mib(64);
    /// See [`GitLimits::page`].
    pub const PAGE: ByteSize = ByteSize::mib(1);
    /// See [`GitLimits::discoveries`].
    pub const DISCOVERIES: usize = 10_000;
}

impl Default for GitLimits {
    fn default() -> Self {
        Self {
            programs: Self::PROGRAMS,
            memory: Self::MEMORY,
            mirror: Self::MIRROR,
            mirrors: Self::MIRRORS,
            tree: Self::TREE,
            zips: Self::ZIPS,
            refs: Self::REFS,
            page: Self::PAGE,
            discoveries: Self::DISCOVERIES,
        }
    }
}

impl Git {
    /// What must hold of the keys together.
    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        require(
            !self.program.as_os_str().is_empty(),
            "git.program",
            "needs a name or a path",
        );
        for (at, credential) in self.credentials.iter().enumerate() {
            credential.check(&format!("git.credentials[{at}]"), require);
        }
        self.timeouts.check(require);
        self.limits.check(require);
    }
}

impl GitCredential {
    fn check(&self, key: &str, require: &mut impl FnMut(bool, &str, &str)) {
        let kinds = [
            self.password_file.is_some(),
            self.helper.is_some(),
            self.identity.is_some(),
        ];
        require(
            kinds.into_iter().filter(|is_there| *is_there).count() == 1,
            key,
            "needs one of password_file, helper and identity",
        );
        let protocol = self.url.protocol();
        require(
            self.identity.is_none() || protocol == Protocol::Ssh,
            &format!("{key}.identity"),
            "keys are for ssh:// only",
        );
        require(
            self.identity.is_some() || matches!(protocol, Protocol::Https | Protocol::Http),
            &format!("{key}.url"),
            "passwords and helpers are for https:// (or http://) only; ssh:// takes an identity",
        );
        let is_line = |text: &str| !text.bytes().any(|b| b.is_ascii_control());
        require(
            is_line(&self.user) && self.helper.as_deref().is_none_or(is_line),
            key,
            "user and helper are one line each",
        );
    }
}

impl GitTimeouts {
    fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (key, period) in [
            ("page", self.page),
            ("refs", self.refs),
            ("fetch", self.fetch),
            ("local", self.local),
            ("queue", self.queue),
        ] {
            let key = format!("git.timeouts.{key}");
            require(
                !period.is_zero(),
                &key,
                "must be above zero: every wait has an end",
            );
        }
        require(
            self.stall.get().as_secs() > 0,
            "git.timeouts.stall",
            "must be at least 1s: git counts whole seconds",
        );
    }
}

impl GitLimits {
    fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (key, size) in [
            ("mirror", self.mirror),
            ("tree", self.tree),
            ("refs", self.refs),
            ("page", self.page),
        ] {
            let key = format!("git.limits.{key}");
            require(size.as_u64() > 0, &key, "must be above zero");
        }
        for (key, number) in [("programs", self.programs), ("zips", self.zips)] {
            let key = format!("git.limits.{key}");
            require(number > 0, &key, "must be above zero");
        }
        require(
            self.memory >= ByteSize::mib(64),
            "git.limits.memory",
            "must be at least 64MiB: git itself needs some",
        );
        require(
            self.mirrors >= self.mirror,
            "git.limits.mirrors",
            "must hold at least one mirror of git.limits.mirror",
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn parse(git: &str) -> Result<Config, modcdn_core::config::ConfigError> {
        modcdn_core::config::parse("origin.yaml", &format!("git: {git}\n"))
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_key() {
        for (git, key) in [
            ("{program: ''}", "git.program"),
            ("{protocols: [ext]}", "ext"),
            ("{insecure: ['[']}", "["),
            ("{timeouts: {fetch: 0s}}", "git.timeouts.fetch"),
            ("{timeouts: {stall: 10ms}}", "git.timeouts.stall"),
            ("{limits: {programs: 0}}", "git.limits.programs"),
            ("{limits: {memory: 1MiB}}", "git.limits.memory"),
            ("{limits: {mirrors: 1MiB}}", "git.limits.mirrors"),
            ("{limits: {page: 0B}}", "git.limits.page"),
            (
                "{repositories: [{prefix: corp, url: 'https://a.example'}]}",
                "corp",
            ),
            (
                "{credentials: [{url: 'https://me:s3cret@a.example', helper: x}]}",
                "password",
            ),
            (
                "{credentials: [{url: 'https://a.example'}]}",
                "git.credentials[0]",
            ),
            (
                "{credentials: [{url: 'https://a.example', helper: x, password_file: /y}]}",
                "git.credentials[0]",
            ),
            (
                "{credentials: [{url: 'https://a.example', identity: /y}]}",
                "git.credentials[0].identity",
            ),
            (
                "{credentials: [{url: 'ssh://a.example', password_file: /y}]}",
                "git.credentials[0].url",
            ),
            (
                "{credentials: [{url: 'https://a.example', helper: \"x\\ny\"}]}",
                "git.credentials[0]",
            ),
        ] {
            let error = parse(git).unwrap_err().to_string();
            assert!(
                error.contains(key) && !error.contains("s3cret"),
                "{git}: {error}"
            );
        }
    }

    #[test]
    fn a_configuration_survives_a_round_trip_through_yaml() {
        let config = parse(
            "{protocols: [https, ssh, http, file], insecure: [a.example],
              repositories: [{prefix: 'a.example/*', url: 'ssh://git@b.example/*'}],
              credentials: [{url: 'https://a.example', user: me, password_file: /p},
                            {url: 'https://b.example', helper: '!x'},
                            {url: 'ssh://git@b.example', identity: /i}]}",
        );
        let config = config.unwrap();
        let text = serde_yaml::to_string(&config).unwrap();
        assert_eq!(
            modcdn_core::config::parse::<Config>("x", &text).unwrap(),
            config
        );
    }
}
