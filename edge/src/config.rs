//! What an edge can be told, and what it does when it isn't told.
//!
//! One struct a section, every default a named constant. The longer sections have files of their
//! own; `store`, `freshness`, `fill`, `purge` and `http` are the engine's. `config/edge.yaml` names
//! every key; a test holds the two together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use modcdn_core::config::{self, Problem};
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::Period;

pub use crate::engine::config::{
    FillConfig, FreshnessConfig, HttpConfig, PurgeConfig, StoreConfig,
};

mod exchange;
mod limits;
pub mod mounts;
mod origin;
mod timeouts;

pub(crate) use self::exchange::Exchange;
pub use self::limits::*;
use self::mounts::{MountConfig, default_mounts};
pub use self::origin::*;
pub use self::timeouts::*;

/// The node's name in logs and in `Cache-Status`.
pub const DEFAULT_NAME: &str = "edge";
/// Clear-text HTTP/1.1 and HTTP/2 (prior knowledge), on every address.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
/// Metrics and health: on this machine only, never on the public listener.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9080);
/// One front thread a core.
pub const DEFAULT_THREADS: usize = 0;
/// Threads for fills and connections to the origin.
pub const DEFAULT_FILL_THREADS: usize = 1;
/// Threads that wait for the disk. More of them serve a disk no better, and each keeps memory.
pub const DEFAULT_DISK_THREADS: usize = 16;

/// An edge's whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's name: access log, `Cache-Status`.
    pub name: String,
    /// Addresses for clear text.
    pub listen: Vec<SocketAddr>,
    /// TLS listeners.
    pub tls: TlsConfig,
    /// Address of `/metrics`, `/healthz`, `/readyz`.
    pub admin: SocketAddr,
    /// Where the access log goes: `off`, `stdout`, `stderr` or a file.
    pub access_log: AccessTarget,
    /// Balancers in front of this edge.
    pub proxy_protocol: ProxyProtocolConfig,
    /// Names served here, without ports; any other is answered 421. Empty: any name.
    pub hosts: Vec<String>,
    /// Front threads for each address; 0 means one a core.
    pub threads: usize,
    /// Threads for fills and connections to the origin.
    pub fill_threads: usize,
    /// Most threads that wait for the disk at once; they are made when needed.
    pub disk_threads: usize,
    /// What lies below which prefix.
    pub mounts: Vec<MountConfig>,
    /// The origin of the modules, and how it is spoken to.
    pub origin: OriginConfig,
    /// Plain HTTP mounts.
    pub http: HttpConfig,
    /// The cache's two tiers.
    pub store: StoreConfig,
    /// Bounds on how long mutable answers live.
    pub freshness: FreshnessConfig,
    /// Limits of fills.
    pub fill: FillConfig,
    /// Who may purge, and how many purges are held.
    pub purge: PurgeConfig,
    /// How long a client may take for what.
    pub timeouts: TimeoutConfig,
    /// How much a client may ask for.
    pub limits: LimitConfig,
    /// How a new process takes over.
    pub upgrade: UpgradeConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: DEFAULT_NAME.to_owned(),
            listen: vec![DEFAULT_LISTEN],
            tls: TlsConfig::default(),
            admin: DEFAULT_ADMIN,
            access_log: AccessTarget::default(),
            proxy_protocol: ProxyProtocolConfig::default(),
            hosts: Vec::new(),
            threads: DEFAULT_THREADS,
            fill_threads: DEFAULT_FILL_THREADS,
            disk_threads: DEFAULT_DISK_THREADS,
            mounts: default_mounts(),
            origin: OriginConfig::default(),
            http: HttpConfig::default(),
            store: StoreConfig::default(),
            freshness: FreshnessConfig::default(),
            fill: FillConfig::default(),
            purge: PurgeConfig::default(),
            timeouts: TimeoutConfig::default(),
            limits: LimitConfig::default(),
            upgrade: UpgradeConfig::default(),
        }
    }
}

/// Pause between two looks at the certificate's files.
pub const DEFAULT_TLS_RELOAD: Period = Period::secs(60);

/// TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Addresses for TLS; none by default.
    pub listen: Vec<SocketAddr>,
    /// PEM file with the certificate chain, the leaf first. Needed if there is an address.
    pub certificate: Option<PathBuf>,
    /// PEM file with the leaf's private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: Option<PathBuf>,
    /// How often both files are looked at; changed ones are taken up without a restart.
    pub reload: Period,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            certificate: None,
            key: None,
            reload: DEFAULT_TLS_RELOAD,
        }
    }
}

/// Who may say on whose behalf a connection comes (the PROXY protocol, versions 1 and 2). Nobody, by
/// default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyProtocolConfig {
    /// Addresses of balancers. A connection from one of them must begin with a header; one from
    /// elsewhere must not.
    pub trusted: Vec<IpNet>,
}

impl ProxyProtocolConfig {
    /// Whether a connection from there begins with a header.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted
            .iter()
            .any(|range| range.contains(&address.to_canonical()))
    }
}

/// Name of the upgrade's socket in the store's folder.
pub const UPGRADE_SOCKET: &str = "upgrade.sock";
/// A large index may have to be read in between.
pub const DEFAULT_UPGRADE_WAIT: Period = Period::secs(120);

/// How a new process (`--upgrade`) takes over from a running one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpgradeConfig {
    /// Whether a new process may take over. Not where a supervisor would take the old one's end
    /// for the edge's.
    pub enabled: bool,
    /// Unix socket at which the running process is asked; none means `upgrade.sock` in the store's
    /// folder.
    pub socket: Option<PathBuf>,
    /// How long either may keep the other waiting.
    pub wait: Period,
}

impl Default for UpgradeConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: None,
            wait: DEFAULT_UPGRADE_WAIT,
        }
    }
}

impl config::Config for Config {
    fn check(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        self.check_listeners(&mut problems);
        self.origin.check(&mut problems);
        self.timeouts.check(&mut problems);
        self.limits.check(&mut problems);
        problems.extend(mounts::problems(&self.mounts));
        nest("http", self.http.problems(), &mut problems);
        nest("store", self.store.problems(), &mut problems);
        nest("freshness", self.freshness.problems(), &mut problems);
        nest("purge", self.purge.problems(), &mut problems);
        nest("fill", self.fill.problems(), &mut problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl Config {
    /// Where a running edge is asked to hand over.
    #[must_use]
    pub fn upgrade_socket(&self) -> PathBuf {
        let in_store = || self.store.dir.join(UPGRADE_SOCKET);
        self.upgrade.socket.clone().unwrap_or_else(in_store)
    }

    fn check_listeners(&self, problems: &mut Vec<Problem>) {
        let mut claim = claims(problems);
        claim(!self.name.is_empty(), "name", "must not be empty");
        claim(
            !self.listen.is_empty() || !self.tls.listen.is_empty(),
            "listen",
            "an edge needs an address here or under tls.listen",
        );
        let files = self.tls.certificate.is_some() && self.tls.key.is_some();
        claim(
            files || self.tls.listen.is_empty(),
            "tls.listen",
            "TLS needs tls.certificate and tls.key",
        );
        claim(
            !self.tls.reload.is_zero(),
            "tls.reload",
            "must be above zero",
        );
        claim(
            !self.upgrade.wait.is_zero(),
            "upgrade.wait",
            "must be above zero",
        );
        claim(self.fill_threads > 0, "fill_threads", "must be at least 1");
        // The index may be read, and the store be walked through, while requests are answered.
        claim(self.disk_threads > 3, "disk_threads", "must be at least 4");
        for host in &self.hosts {
            let fits = !host.is_empty() && !host.contains([':', '/', ' ', '@']);
            claim(fits, "hosts", "a host is a name without scheme or port");
        }
    }
}

/// A rule, its key, and what to say where it doesn't hold.
fn claims(problems: &mut Vec<Problem>) -> impl FnMut(bool, &str, &str) {
    |holds, key, message| {
        if !holds {
            problems.push(Problem::new(key, message));
        }
    }
}

fn nest(section: &str, found: Vec<Problem>, problems: &mut Vec<Problem>) {
    problems.extend(
        found
            .into_iter()
            .map(|p| Problem::new(format!("{section}.{}", p.key), p.message)),
    );
}

#[cfg(test)]
mod tests {
    use modcdn_core::config::parse;

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/edge.yaml");

    #[test]
    fn the_example_is_the_default() {
        assert_eq!(
            parse::<Config>("edge.yaml", EXAMPLE).unwrap(),
            Config::default()
        );
    }

    #[test]
    fn the_example_names_every_key() {
        let example: serde_yaml::Value = serde_yaml::from_str(EXAMPLE).unwrap();
        let all = serde_yaml::to_value(Config::default()).unwrap();
        assert_eq!(keys(&example), keys(&all));
    }

    fn keys(value: &serde_yaml::Value) -> Vec<String> {
        let mut found = Vec::new();
        collect(value, "", &mut found);
        found.sort();
        found
    }

    fn collect(value: &serde_yaml::Value, prefix: &str, found: &mut Vec<String>) {
        let Some(mapping) = value.as_mapping() else {
            return;
        };
        for (key, value) in mapping {
            let key = format!("{prefix}{}", key.as_str().unwrap());
            collect(value, &format!("{key}."), found);
            found.push(key);
        }
    }

    #[test]
    fn contradictions_are_named_with_their_keys() {
        let text = "listen: []\nfill_threads: 0\norigin: {url: 'ftp://x', connections: 0}\n\
                    limits: {header_fields: 300}\ntimeouts: {header: 0s}\n";
        let error = parse::<Config>("e.yaml", text).unwrap_err().to_string();
        for key in [
            "listen",
            "fill_threads",
            "origin.url",
            "origin.connections",
            "limits.header_fields",
            "timeouts.header",
        ] {
            assert!(error.contains(key), "{key} in {error}");
        }
    }

    #[test]
    fn tls_without_a_certificate_is_refused() {
        let error = parse::<Config>("e.yaml", "tls: {listen: ['0.0.0.0:8443']}").unwrap_err();
        assert!(error.to_string().contains("tls.certificate"), "{error}");
    }
}
