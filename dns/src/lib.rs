//! The steering DNS server of modcdn: an authoritative server that answers one name with the best
//! PoP for each client.
//!
//! The modules, in the order data flows through them:
//!
//! - [`config`]: the role's YAML; [`server`]: binding, starting and stopping; [`reload`]: SIGHUP.
//! - `udp` and `tcp`: sockets and connections, with their limits; `answer`: what both share, with
//!   metrics and the access log. [`snapshot`]: all that an answer is made of, taken as one.
//! - [`fast`]: the short way from a plain query to its answer, byte for byte the one that [`respond`]
//!   would give.
//! - [`respond`]: bytes of a query to bytes of its answer, a pure function. Within it [`query`]
//!   (reading), [`ecs`] (the client subnet), [`cookie`] and [`rates`] (who gets how much), [`zone`]
//!   (which names exist). [`dynamic`]: TXT records that come and go, and the zones' serials.
//! - [`dnssec`]: signatures and signed denials, for zones that have keys.
//! - [`steer`]: which PoP, and why: an immutable map, pins, a geo database, distances.
//! - What feeds the map: `probe` (HTTP checks), [`reports`] (what PoPs and other DNS nodes say), and
//!   [`health`] (what it amounts to). [`steering`] makes maps of it, and holds the one in use;
//!   `durable` is what outlives the process.
//! - [`explain`] says to people why a client is led where it is; [`replay`] who would be led elsewhere
//!   by another configuration; `querylog` is the access log as a sample.
//!
//! # Why not hickory-server
//!
//! The codec is hickory-proto's; the loops around it are ours. hickory-server 0.26 decodes a
//! query before a handler sees it, and its decoder loses what must be judged: a malformed client
//! subnet is dropped or normalised, host bits are echoed, and options of an unfinished OPT record
//! vanish. It also mirrors the asker's UDP size, spawns a task for every datagram and puts no cap
//! on TCP connections. A handler that is a pure function of bytes can be tested and fuzzed whole,
//! answers in place without a task or a lock, and leaves the way open to signed-ahead answers,
//! cookies and rate limits, which need the same control.

pub mod config;
pub mod cookie;
pub mod dnssec;
pub mod dynamic;
pub mod ecs;
pub mod explain;
pub mod fast;
pub mod health;
pub mod metrics;
pub mod query;
pub mod rates;
pub mod reload;
pub mod replay;
pub mod reports;
pub mod respond;
pub mod server;
pub mod snapshot;
pub mod steer;
pub mod steering;
pub mod zone;

mod answer;
mod durable;
mod probe;
mod querylog;
mod sockets;
mod tcp;
mod udp;

pub use config::Config;
pub use server::{Dns, Error, Offline, offline, run};
pub use sockets::BindError;
