//! What an origin can be configured with. `config/origin.yaml` names every key.

mod s3;

use std::net::SocketAddr;
use std::path::PathBuf;

use modcdn_core::config::Problem;
use modcdn_core::telemetry::AccessTarget;
use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

pub use self::s3::S3;
use crate::upstream::chain::{Upstream, UpstreamChain};

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
    /// Whom to ask for what isn't stored.
    pub upstream: UpstreamChain,
    /// What is kept, and where.
    pub store: Store,
    /// How long answers that may change are used.
    pub freshness: Freshness,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How much of anything there may be.
    pub limits: Limits,
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
    /// The folder: a GOPROXY tree. An existing `GOMODCACHE/cache/download` can be used as it is.
    /// With `s3`, it holds what is under way and answers that may change.
    pub dir: PathBuf,
    /// Whether a stored body is synced to disk, or in the bucket, before anyone gets its last bytes.
    pub durable: bool,
    /// Where bodies lie instead.
    pub s3: Option<S3>,
}

/// How long answers that may change (lists, `@latest`, queries, tree heads) are used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Freshness {
    /// An answer that may change is used this long without asking again.
    pub mutable: Period,
    /// A record of the checksum database is used this long. It never changes; the tree head
    /// beside it only grows old, which clients accept.
    pub lookup: Period,
    /// For this long after that, it is used while a newer one is fetched in the background.
    pub stale_while_revalidate: Period,
    /// For this long after it was fresh, it is used if upstream fails.
    pub stale_if_error: Period,
    /// A true "not found" is remembered this long.
    pub not_found: Period,
}

/// How long anything may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Connecting to an upstream, TLS included.
    pub connect: Period,
    /// From the request to an upstream's first answer byte.
    pub first_byte: Period,
    /// Between two pieces of an upstream's body.
    pub stall: Period,
    /// One whole fetch: all upstreams tried, and the body.
    pub request: Period,
    /// How long someone waits for a newer answer while there is a stale one for him.
    pub refresh: Period,
    /// Waiting for a free place among the fetches.
    pub queue: Period,
    /// A client's TLS handshake.
    pub handshake: Period,
    /// A client's request header. Between two requests an HTTP/1.1 connection lasts this long too.
    pub header: Period,
    /// A client's HTTP/2 connection without a request.
    pub idle: Period,
    /// A client that takes nothing of what it asked for.
    pub client_stall: Period,
    /// Finishing what is under way when the origin is told to stop.
    pub shutdown: Period,
}

/// How much of anything there may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A request's header fields, by number.
    pub max_headers: usize,
    /// A request's header fields, together.
    pub max_header_bytes: ByteSize,
    /// An `.info`, `@latest` or answer to a query.
    pub max_info: ByteSize,
    /// A list of versions.
    pub max_list: ByteSize,
    /// A `.mod`.
    pub max_mod: ByteSize,
    /// A `.zip`.
    pub max_zip: ByteSize,
    /// An answer of a checksum database.
    pub max_sumdb: ByteSize,
    /// Connections of clients.
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// Fetches from upstreams at once.
    pub fetches: usize,
    /// Idle HTTP/1.1 connections kept to each upstream.
    pub upstream_connections: usize,
    /// Bodies being fetched, together, on disk.
    pub spool: ByteSize,
    /// Answers that may change, in memory.
    pub mutable_memory: ByteSize,
    /// Remembered "not found", by number.
    pub not_found_entries: usize,
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
            upstream: UpstreamChain::off(),
            store: Store::default(),
            freshness: Freshness::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
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

impl Freshness {
    /// See [`Freshness::mutable`].
    pub const MUTABLE: Period = Period::secs(60);
    /// See [`Freshness::lookup`].
    pub const LOOKUP: Period = Period::secs(24 * 3600);
    /// See [`Freshness::stale_while_revalidate`].
    pub const STALE_WHILE_REVALIDATE: Period = Period::secs(5 * 60);
    /// See [`Freshness::stale_if_error`].
    pub const STALE_IF_ERROR: Period = Period::secs(24 * 3600);
    /// See [`Freshness::not_found`].
    pub const NOT_FOUND: Period = Period::secs(60);
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            mutable: Self::MUTABLE,
            lookup: Self::LOOKUP,
            stale_while_revalidate: Self::STALE_WHILE_REVALIDATE,
            stale_if_error: Self::STALE_IF_ERROR,
            not_found: Self::NOT_FOUND,
        }
    }
}

impl Timeouts {
    /// See [`Timeouts::connect`].
    pub const CONNECT: Period = Period::secs(5);
    /// See [`Timeouts::first_byte`]. A proxy may have to fetch a whole repository first.
    pub const FIRST_BYTE: Period = Period::secs(30);
    /// See [`Timeouts::stall`].
    pub const STALL: Period = Period::secs(15);
    /// See [`Timeouts::request`].
    pub const REQUEST: Period = Period::secs(10 * 60);
    /// See [`Timeouts::refresh`].
    pub const REFRESH: Period = Period::secs(3);
    /// See [`Timeouts::queue`].
    pub const QUEUE: Period = Period::secs(10);
    /// See [`Timeouts::handshake`].
    pub const HANDSHAKE: Period = Period::secs(5);
    /// See [`Timeouts::header`].
    pub const HEADER: Period = Period::secs(10);
    /// See [`Timeouts::idle`]. Edges keep their connections warm: longer than most servers do.
    pub const IDLE: Period = Period::secs(5 * 60);
    /// See [`Timeouts::client_stall`].
    pub const CLIENT_STALL: Period = Period::secs(60);
    /// See [`Timeouts::shutdown`].
    pub const SHUTDOWN: Period = Period::secs(10);
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Self::CONNECT,
            first_byte: Self::FIRST_BYTE,
            stall: Self::STALL,
            request: Self::REQUEST,
            refresh: Self::REFRESH,
            queue: Self::QUEUE,
            handshake: Self::HANDSHAKE,
            header: Self::HEADER,
            idle: Self::IDLE,
            client_stall: Self::CLIENT_STALL,
            shutdown: Self::SHUTDOWN,
        }
    }
}

impl Limits {
    /// See [`Limits::max_headers`].
    pub const MAX_HEADERS: usize = 100;
    /// See [`Limits::max_header_bytes`].
    pub const MAX_HEADER_BYTES: ByteSize = ByteSize::kib(16);
    /// See [`Limits::max_info`].
    pub const MAX_INFO: ByteSize = ByteSize::mib(1);
    /// See [`Limits::max_list`].
    pub const MAX_LIST: ByteSize = ByteSize::mib(8);
    /// See [`Limits::max_mod`]. The go command's own limit.
    pub const MAX_MOD: ByteSize = ByteSize::mib(16);
    /// See [`Limits::max_zip`]. The go command's own limit.
    pub const MAX_ZIP: ByteSize = ByteSize::mib(500);
    /// See [`Limits::max_sumdb`].
    pub const MAX_SUMDB: ByteSize = ByteSize::mib(1);
    /// See [`Limits::connections`].
    pub const CONNECTIONS: usize = 4096;
    /// See [`Limits::streams`].
    pub const STREAMS: u32 = 256;
    /// See [`Limits::fetches`].
    pub const FETCHES: usize = 128;
    /// See [`Limits::upstream_connections`].
    pub const UPSTREAM_CONNECTIONS: usize = 100;
    /// See [`Limits::spool`].
    pub const SPOOL: ByteSize = ByteSize::gib(16);
    /// See [`Limits::mutable_memory`].
    pub const MUTABLE_MEMORY: ByteSize = ByteSize::mib(64);
    /// See [`Limits::not_found_entries`].
    pub const NOT_FOUND_ENTRIES: usize = 100_000;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_headers: Self::MAX_HEADERS,
            max_header_bytes: Self::MAX_HEADER_BYTES,
            max_info: Self::MAX_INFO,
            max_list: Self::MAX_LIST,
            max_mod: Self::MAX_MOD,
            max_zip: Self::MAX_ZIP,
            max_sumdb: Self::MAX_SUMDB,
            connections: Self::CONNECTIONS,
            streams: Self::STREAMS,
            fetches: Self::FETCHES,
            upstream_connections: Self::UPSTREAM_CONNECTIONS,
            spool: Self::SPOOL,
            mutable_memory: Self::MUTABLE_MEMORY,
            not_found_entries: Self::NOT_FOUND_ENTRIES,
        }
    }
}

/// HTTP/1.1 parsing needs this much room for a header.
const LEAST_HEADER_BYTES: u64 = 8192;

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
        self.check_store_is_not_upstream(&mut require);
        self.timeouts.check(&mut require);
        self.limits.check(&mut require);
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems)
    }
}

impl Config {
    /// A store that is its own upstream would take its own gaps for upstream's word.
    fn check_store_is_not_upstream(&self, require: &mut impl FnMut(bool, &str, &str)) {
        let same = self.upstream.links().iter().any(
            |link| matches!(&link.upstream, Upstream::File(folder) if *folder == self.store.dir),
        );
        require(
            !same,
            "store.dir",
            "is an upstream too: use another folder, or \"off\" as upstream",
        );
    }
}

impl Timeouts {
    fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (key, period) in [
            ("connect", self.connect),
            ("first_byte", self.first_byte),
            ("stall", self.stall),
            ("request", self.request),
            ("refresh", self.refresh),
            ("queue", self.queue),
            ("handshake", self.handshake),
            ("header", self.header),
            ("idle", self.idle),
            ("client_stall", self.client_stall),
        ] {
            require(
                !period.is_zero(),
                &format!("timeouts.{key}"),
                "must be above zero: every wait has an end",
            );
        }
    }
}

impl Limits {
    fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        for (key, limit) in [
            ("max_info", self.max_info),
            ("max_list", self.max_list),
            ("max_mod", self.max_mod),
            ("max_zip", self.max_zip),
            ("max_sumdb", self.max_sumdb),
            ("spool", self.spool),
        ] {
            let key = format!("limits.{key}");
            require(limit.as_u64() > 0, &key, "must be above zero");
        }
        for (key, limit) in [
            ("max_headers", self.max_headers),
            ("connections", self.connections),
            ("streams", self.streams as usize),
            ("fetches", self.fetches),
        ] {
            require(limit > 0, &format!("limits.{key}"), "must be above zero");
        }
        require(
            (LEAST_HEADER_BYTES..=1 << 20).contains(&self.max_header_bytes.as_u64()),
            "limits.max_header_bytes",
            "must be between 8KiB and 1MiB",
        );
        require(
            self.spool >= self.max_zip,
            "limits.spool",
            "must hold at least one zip of limits.max_zip",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../config/origin.yaml");

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
            upstream: "https://me:pw@a.example/|direct".parse().unwrap(),
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
            (
                "{store: {dir: /srv/tree}, upstream: 'file:///srv/tree'}",
                "store.dir",
            ),
            ("upstream: 'ftp://a.example'", "ftp"),
            ("store: {dri: /srv}", "dri"),
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
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
