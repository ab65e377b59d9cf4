//! The section `limits`.

use std::ops::RangeInclusive;

use modcdn_core::units::ByteSize;
use serde::{Deserialize, Serialize};

/// HTTP/1.1 parsing needs this much room for a header.
const LEAST_HEADER_BYTES: u64 = 8192;

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
    /// Of these, fetches of a version's `.info` and `.mod` beside what is asked of it. 0: none.
    pub ahead: usize,
    /// Answers being refreshed in the background at once.
    pub refreshes: usize,
    /// Idle HTTP/1.1 connections kept to each upstream.
    pub upstream_connections: usize,
    /// What an upstream may send ahead of us on one HTTP/2 connection: it waits in memory. One body
    /// may take half of it.
    pub upstream_window: ByteSize,
    /// Bodies being fetched, together, on disk.
    pub spool: ByteSize,
    /// Answers that may change, in memory.
    pub mutable_memory: ByteSize,
    /// Remembered "not found", by number.
    pub not_found_entries: usize,
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
    /// See [`Limits::ahead`].
    pub const AHEAD: usize = 32;
    /// See [`Limits::refreshes`].
    pub const REFRESHES: usize = 16;
    /// See [`Limits::upstream_connections`].
    pub const UPSTREAM_CONNECTIONS: usize = 100;
    /// See [`Limits::upstream_window`]. On a line of 100 ms one body comes with 330 Mbit/s.
    pub const UPSTREAM_WINDOW: ByteSize = ByteSize::mib(8);
    /// The smallest that HTTP/2 has, for one body and for a connection (RFC 9113, section 6.9.2),
    /// and the largest.
    const UPSTREAM_WINDOWS: RangeInclusive<u64> = 128 << 10..=(1 << 31) - 1;
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
            ahead: Self::AHEAD,
            refreshes: Self::REFRESHES,
            upstream_connections: Self::UPSTREAM_CONNECTIONS,
            upstream_window: Self::UPSTREAM_WINDOW,
            spool: Self::SPOOL,
            mutable_memory: Self::MUTABLE_MEMORY,
            not_found_entries: Self::NOT_FOUND_ENTRIES,
        }
    }
}

impl Limits {
    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
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
            ("refreshes", self.refreshes),
        ] {
            require(limit > 0, &format!("limits.{key}"), "must be above zero");
        }
        require(
            (LEAST_HEADER_BYTES..=1 << 20).contains(&self.max_header_bytes.as_u64()),
            "limits.max_header_bytes",
            "must be between 8KiB and 1MiB",
        );
        require(
            Self::UPSTREAM_WINDOWS.contains(&self.upstream_window.as_u64()),
            "limits.upstream_window",
            "must be between 128KiB and 2GiB",
        );
        require(
            self.spool >= self.max_zip,
            "limits.spool",
            "must hold at least one zip of limits.max_zip",
        );
    }
}
