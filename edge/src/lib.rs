//! The PoP of modcdn.
//!
//! The modules, in the order a request flows through them:
//!
//! - [`config`]: what an edge can be told.
//! - `server`: everything put together, started, and ended; `reload`: changed while it
//!   runs; `upgrade`: taken over by a new process.
//! - `front`: listeners, TLS, the coalescing stream, HTTP sessions, the border, writing answers.
//! - [`exchange`]: what passes between the front door and the engine.
//! - [`engine`]: the store, fills, freshness: it knows the answers and nothing of connections.
//! - [`origin`]: the origin, over few HTTP/2 connections shared by many requests.
//! - `purge`: `POST /purge` on the admin listener; `follow`: the purges that the origin says.
//! - `access` and [`metrics`]: what is logged and counted of it all.
//! - `backoff`: pauses between tries.
//!
//! Threads: `threads` for each listening address, each with its own socket and runtime, sharing
//! nothing but the engine; `fill_threads` for fills and the connections to the origin; one for the
//! admin listener and signals.

mod access;
mod backoff;
pub mod config;
mod descriptors;
pub mod engine;
pub mod exchange;
mod follow;
mod front;
pub mod metrics;
pub mod origin;
mod purge;
mod reload;
mod server;
mod systemd;
mod threads;
mod upgrade;

/// What must hold for any bytes: for the fuzzer (`edge/fuzz`).
#[cfg(any(test, feature = "fuzzing"))]
pub mod invariants {
    pub use crate::engine::store::record::invariants::journal;
    pub use crate::front::h2::hpack::invariants::hpack;
    pub use crate::front::h2::protocol::invariants::h2;
    pub use crate::front::head::invariants::request;
}

pub use config::Config;
pub use front::certificate::TlsError;
pub use front::listen::ListenError;
pub use front::proxy;
pub use reload::Loader;
pub use server::{Error, Start, run};
pub use upgrade::UpgradeError;
