//! Names of the header fields that roles share and that the `http` crate doesn't have.

use http::HeaderName;

/// Digest of the whole representation (RFC 9530); a header, or a trailer of a body that was still
/// growing when its head was sent.
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");

/// How each cache on the way handled the request (RFC 9211).
pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The module's `h1:` hash, as `go.sum` has it.
pub const MODCDN_SUM: HeaderName = HeaderName::from_static("modcdn-sum");

/// Why the origin serves a body that the checksum database has not vouched for.
pub const MODCDN_UNVERIFIED: HeaderName = HeaderName::from_static("modcdn-unverified");

/// By which names the origin's answer can be purged, separated by commas. It stays between the
/// origin and an edge.
pub const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// Why a request was refused: the name of a [`crate::refusal::Reason`].
pub const MODCDN_REASON: HeaderName = HeaderName::from_static("modcdn-reason");

/// What the author says of a version that is given out all the same: `retracted`, `deprecated`.
pub const MODCDN_NOTICE: HeaderName = HeaderName::from_static("modcdn-notice");

/// Sent by a client that wants only what is stored already: `true`.
pub const DISABLE_MODULE_FETCH: HeaderName = HeaderName::from_static("disable-module-fetch");
