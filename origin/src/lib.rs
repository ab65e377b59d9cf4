//! The origin: the only one of modcdn who talks to the outside.
//!
//! The modules, in the order a request meets them:
//!
//! - `server`: listeners and connections (HTTP/1.1, HTTP/2, TLS), deadlines, the access log; one
//!   request is parsed by the grammar of `modcdn_core::goproxy`, and only its parsed value goes on;
//! - `mounts`: which prefix a path lies below; each mount has an engine and a tree of its own, and
//!   all share the bounds;
//! - `fetch`: finds what answers it: the store, else one fetch for all who ask;
//! - `sumdb`: what the checksum database proves of it, before it is kept or served whole;
//! - `store`: the GOPROXY tree on disk, growing bodies, answers that may change;
//! - [`upstream`]: the GOPROXY list that is asked, and what counts as an answer (`content`);
//! - [`archive`]: what a module zip must be, its h1, and how one is made;
//! - `answer`: the one place that writes status and headers;
//! - `hooks`: somebody says that a module has changed (`changes`), so what is known of it is doubted.
//!
//! Three rules hold everywhere. A body is nobody's until it is whole: its last bytes wait for the
//! commit, and one that breaks is cut off visibly. Only an upstream's own 404 or 410 becomes one
//! of ours. A fetch belongs to nobody: whoever asked first may leave.
//!
//! ```no_run
//! let config = modcdn_origin::Config {
//!     mounts: vec![modcdn_origin::config::Mount::at_root("https://goproxy.cn".parse()?)],
//!     ..Default::default()
//! };
//! modcdn_origin::run(config.clone(), &|| Ok(config.clone()))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
pub mod archive;
mod changes;
pub mod config;
mod content;
mod credentials;
mod disk;
mod fetch;
pub mod git;
mod hooks;
mod lines;
mod metrics;
mod mounts;
pub mod policy;
pub mod purges;
mod reload;
pub mod retention;
mod secret;
mod server;
mod store;
mod sumdb;
pub mod upkeep;
pub mod upstream;

pub use config::Config;
pub use reload::{Loader, ReloadError};
pub use server::{Error, Origin, run};
pub use upstream::chain::{ChainError, UpstreamChain};
