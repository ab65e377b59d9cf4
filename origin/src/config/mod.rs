//! What an origin can be configured with. `config/origin.yaml` names every key.
//!
//! One struct a section; the longer ones have files of their own.

use std::net::SocketAddr;
use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::telemetry::AccessTarget;
use serde::{Deserialize, Serialize};

mod archive;
mod credentials;
mod freshness;
mod git;
mod hooks;
mod limits;
mod mount;
pub mod policy;
mod purges;
mod retention;
mod s3;
mod sight;
mod sumdb;
mod timeouts;
mod upstreams;

pub use self::archive::Archive;
pub use self::credentials::{Credential, UrlPrefix, UrlPrefixError};
pub use self::freshness::Freshness;
pub use self::git::{Git, GitCredential, GitFreshness, GitLimits, GitTimeouts};
pub use self::hooks::{Hooks, ModuleText, Repository};
pub use self::limits::Limits;
pub use self::mount::{Lists, Mount};
pub use self::policy::Policy;
pub use self::purges::Purges;
pub use self::retention::{Irreplaceable, Keep, Retention};
pub use self::s3::S3;
pub use self::sight::Sight;
pub use self::sumdb::{
    DatabaseKey, DatabaseKeyError, DatabaseUrl, DatabaseUrlError, SumDb, Unreachable, Verify,
};
pub use self::timeouts::Timeouts;
pub use self::upstreams::{Backoff, HttpProxy, HttpProxyError, Upstreams};

/// The node's name where none is given.
pub const DEFAULT_NAME: &str = "origin";
/// Where the origin listens in clear text.
pub const DEFAULT_LISTEN: &str = "127.0.0.10:8080";
/// Where metrics and health are shown.
pub const DEFAULT_ADMIN: &str = "127.0.0.10:9080";
/// Where the store is.
pub const DEFAULT_STORE: &str = "/var/lib/modcdn/origin";

/// The configuration of one origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's name, in logs.
    pub name: String,
    /// Clear-text listeners: HTTP/1.1, and HTTP/2 by prior knowledge. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// TLS listeners.
    pub tls: Option<Tls>,
    /// The listener for metrics and health; never public.
    pub admin: SocketAddr,
    /// Where one JSON line a request goes.
    pub access_log: AccessTarget,
    /// What is served below which prefix, and where it comes from.
    pub mounts: Vec<Mount>,
    /// How upstreams are asked over HTTP.
    pub upstreams: Upstreams,
    /// What is shown to which upstream.
    pub credentials: Vec<Credential>,
    /// Who may say that a module has changed.
    pub hooks: Hooks,
    /// What is kept, and where.
    pub store: Store,
    /// What edges are told to forget.
    pub purges: Purges,
    /// How repositories are found and fetched.
    pub git: Git,
    /// How old versions are.
    pub sight: Sight,
    /// How long answers that may change are used.
    pub freshness: Freshness,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How much of anything there may be.
    pub limits: Limits,
    /// What module zips may be, and what becomes of bad ones.
    pub archive: Archive,
}

/// TLS listeners: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// The certificate chain, PEM, the node's own first.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// What is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The folder: a GOPROXY tree, the mount's at `/`; the others' are below it, as their prefixes say.
    /// An existing `GOMODCACHE/cache/download` can be used as it is. With `s3`, it holds what is under
    /// way and answers that may change.
    pub dir: PathBuf,
    /// Whether what is put in the folder is synced, so that it outlives a power cut. Nobody waits for it.
    pub durable: bool,
    /// Where bodies lie instead.
    pub s3: Option<S3>,
}

impl Default for Config {
    fn default() -> Self {
        let address = |text: &str| text.parse().expect("default addresses are well-formed");
        Self {
            name: DEFAULT_NAME.to_owned(),
            listen: vec![address(DEFAULT_LISTEN)],
            tls: None,
            admin: address(DEFAULT_ADMIN),
            access_log: AccessTarget::default(),
            mounts: vec![Mount::default()],
            upstreams: Upstreams::default(),
            credentials: Vec::new(),
            hooks: Hooks::default(),
            store: Store::default(),
            purges: Purges::default(),
            git: Git::default(),
            sight: Sight::default(),
            freshness: Freshness::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            archive: Archive::default(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            dir: DEFAULT_STORE.into(),
            durable: true,
            s3: None,
        }
    }
}

impl modcdn_core::config::Config for Config {
    fn check(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, key: &str, message: &str| {
            if !holds {
                problems.push(Problem::new(key, message));
            }
        };
        let tls_listens = self.tls.as_ref().is_some_and(|tls| !tls.listen.is_empty());
        require(
            !self.listen.is_empty() || tls_listens,
            "listen",
            "needs at least one address, here or under tls",
        );
        require(
            self.tls.is_none() || tls_listens,
            "tls.listen",
            "needs at least one address",
        );
        require(
            !self.store.dir.as_os_str().is_empty(),
            "store.dir",
            "needs a folder",
        );
        if let Some(s3) = &self.store.s3 {
            s3.check(&mut require);
        }
        mount::check(&self.mounts, &self.store.dir, &mut require);
        self.purges.check(&mut require);
        self.sight.check(&mut require);
        self.upstreams.check(&mut require);
        credentials::check(&self.credentials, &mut require);
        self.git.check(&mut require);
        self.hooks.check(&mut require);
        self.timeouts.check(&mut require);
        self.limits.check(&mut require);
        self.archive.check(&mut require);
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../config/origin.yaml");

    fn parse(text: &str) -> Result<Config, modcdn_core::config::ConfigError> {
        modcdn_core::config::parse("origin.yaml", text)
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
        let defaults = serde_yaml::to_value(Config::default()).unwrap();
        let example: serde_yaml::Value = serde_yaml::from_str(EXAMPLE).unwrap();
        assert_eq!(keys(&example), keys(&defaults));
    }

    fn keys(value: &serde_yaml::Value) -> Vec<String> {
        if let Some(list) = value.as_sequence() {
            return list.iter().flat_map(keys).collect();
        }
        let Some(map) = value.as_mapping() else {
            return Vec::new();
        };
        let mut all: Vec<String> = map
            .iter()
            .flat_map(|(key, value)| {
                let key = key.as_str().unwrap().to_owned();
                let below = keys(value).into_iter().map(|k| format!("{key}.{k}"));
                below.chain([key.clone()]).collect::<Vec<_>>()
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn a_configuration_survives_a_round_trip_through_yaml() {
        let mut config = Config {
            mounts: vec![
                Mount::at_root("https://me:pw@a.example/|direct".parse().unwrap()),
                Mount {
                    prefix: "/team-a/".parse().unwrap(),
                    ..Mount::default()
                },
            ],
            ..Config::default()
        };
        config.tls = Some(Tls {
            listen: vec!["127.0.0.1:8443".parse().unwrap()],
            certificate: "/c.pem".into(),
            key: "/k.pem".into(),
        });
        assert_eq!(
            parse(&serde_yaml::to_string(&config).unwrap()).unwrap(),
            config
        );
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_key() {
        for (text, key) in [
            ("listen: []", "listen"),
            ("timeouts: {stall: 0s}", "timeouts.stall"),
            ("limits: {max_zip: 0B}", "limits.max_zip"),
            (
                "limits: {max_header_bytes: 1KiB}",
                "limits.max_header_bytes",
            ),
            ("limits: {spool: 1MiB}", "limits.spool"),
            ("archive: {max_files: 0}", "archive.max_files"),
            ("archive: {checks: 0}", "checks"),
            (
                "{store: {dir: /srv/tree}, mounts: [{upstream: 'file:///srv/tree'}]}",
                "mounts[0].upstream",
            ),
            (
                "{store: {dir: /srv}, mounts: [{prefix: /a/, upstream: 'file:///srv/a'}]}",
                "mounts[0].upstream",
            ),
            ("mounts: []", "mounts"),
            ("mounts: [{prefix: /a/}, {prefix: /a/}]", "mounts[1].prefix"),
            ("mounts: [{prefix: /a.example/}]", "/a.example/"),
            ("mounts: [{upstream: 'ftp://a.example'}]", "ftp"),
            ("upstream: 'https://a.example'", "mounts"),
            ("upstreams: {proxy: none}", "env, off"),
            ("upstreams: {no_proxy: [x]}", "upstreams.no_proxy"),
            (
                "upstreams: {backoff: {failures: 0}}",
                "upstreams.backoff.failures",
            ),
            (
                "upstreams: {backoff: {first: 0s}}",
                "upstreams.backoff.first",
            ),
            (
                "upstreams: {backoff: {first: 2s, longest: 1s}}",
                "upstreams.backoff.longest",
            ),
            ("limits: {refreshes: 0}", "limits.refreshes"),
            ("hooks: {at_once: 0}", "hooks.at_once"),
            (
                "hooks: {repositories: [{url: 'https://a.example', module: UPPER}]}",
                "UPPER",
            ),
            (
                "credentials: [{url: 'https://a.example'}]",
                "credentials[0]",
            ),
            (
                "credentials: [{url: 'https://a.example', user: me, token_file: /t}]",
                "credentials[0]",
            ),
            (
                "credentials: [{url: 'https://a.example', user: 'm:e', password_file: /p}]",
                "credentials[0].user",
            ),
            (
                "credentials: [{url: 'https://me:pw@a.example', token_file: /t}]",
                "without a name",
            ),
            ("store: {dri: /srv}", "dri"),
            (
                "mounts: [{retention: {max_idle: 0s}}]",
                "mounts[0].retention.max_idle",
            ),
            ("store: {s3: {}}", "store.s3.bucket"),
            (
                "store: {s3: {bucket: b, part_size: 1MiB}}",
                "store.s3.part_size",
            ),
            ("store: {s3: {bucket: b, prefix: /x}}", "store.s3.prefix"),
            (
                "store: {s3: {bucket: b, endpoint: 'http://s3'}}",
                "store.s3.endpoint",
            ),
            ("mounts: [{private: ['corp.example/[']}]", "corp.example/["),
            (
                "mounts: [{sumdb: {timeout: 0s}}]",
                "mounts[0].sumdb.timeout",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
