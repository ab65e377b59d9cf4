//! What more than one role of modcdn speaks.
//!
//! The modules, in the order a request meets them:
//!
//! - [`goproxy`]: the grammar of the GOPROXY protocol as types. Bytes of a client are parsed once,
//!   here; only parsed values go on into cache keys and upstream URLs.
//! - [`goenv`]: what a go command must be told to come to us.
//! - [`gomod`]: what a go.mod says about retracted versions, deprecated modules and its language.
//! - [`purge`]: which answers are to be forgotten.
//! - [`range`]: byte ranges (RFC 9110 §14).
//! - [`digest`]: SHA-256 and the ways HTTP writes it down (`ETag`, `Repr-Digest`).
//! - [`h1`]: the hash of a module's content that `go.sum` holds.
//! - [`refusal`]: every "no", with one name for log, metric and header, and its text for a person.
//! - [`sumdb`]: a client of the checksum database, which proves what it says.
//! - [`headers`]: names of header fields the roles share.
//! - [`prefer`]: how long an edge waits before it wants to hear that its answer is being worked on.
//! - [`durable`]: the one way a file is put in place.
//! - [`config`] and [`units`]: YAML files, sizes and durations.
//! - [`telemetry`]: logs, the access log and metric helpers.
//! - [`admin`]: what an admin listener answers: metrics, health, readiness, a role's endpoints.
//! - [`bearer`]: tokens from a file, for those endpoints.
//!
//! Nothing here opens a socket: roles bind their listeners and hand them in.

pub mod admin;
pub mod bearer;
pub mod config;
pub mod digest;
pub mod durable;
pub mod goenv;
pub mod gomod;
pub mod goproxy;
pub mod h1;
pub mod headers;
pub mod prefer;
pub mod purge;
pub mod range;
pub mod refusal;
pub mod sumdb;
pub mod telemetry;
pub mod units;
