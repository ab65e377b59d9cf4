//! `modcdn origin|edge|dns --config FILE`: one node in this process.

use std::fmt;
use std::path::Path;

use clap::ValueEnum;
use modcdn_core::config;
use modcdn_core::telemetry;
use modcdn_edge::Start;

use crate::failure::Failure;

/// What is logged where `MODCDN_LOG` says nothing. Pingora tells every step of its start at info, the client of
/// S3 every try.
const DEFAULT_LOG: &str = "info,pingora_core=warn,object_store=warn";

/// What a node can be. The name is also the subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Origin,
    Edge,
    Dns,
}

impl Role {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Origin, Self::Edge, Self::Dns];

    /// The name in configurations, logs and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Edge => "edge",
            Self::Dns => "dns",
        }
    }
}

/// Runs a node until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration is wrong, or the node fails.
pub(crate) fn run(role: Role, file: &Path) -> Result<(), Failure> {
    match role {
        Role::Origin => {
            refuse_huge_pages();
            serve(role, file, |config| {
                modcdn_origin::run(config, &|| config::load(file))
            })
        }
        Role::Edge => run_edge(file, Start::Fresh),
        Role::Dns => serve(role, file, |config| {
            modcdn_dns::run(config, &|| config::load(file))
        }),
    }
}

/// Runs an edge, as [`run`], in place of the one that is running if `start` says so.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_edge(file: &Path, start: Start) -> Result<(), Failure> {
    refuse_huge_pages();
    serve(Role::Edge, file, |config| {
        modcdn_edge::run(&config, start, &|| config::load(file))
    })
}

fn serve<C: config::Config, E: fmt::Display>(
    role: Role,
    file: &Path,
    run: impl FnOnce(C) -> Result<(), E>,
) -> Result<(), Failure> {
    let config = config::load(file)?;
    telemetry::init(DEFAULT_LOG);
    raise_open_files();
    run(config).map_err(|error| Failure::doing(role.name(), error))
}

/// An origin's many threads each hold little, and an edge's bodies are mostly small: in pages of
/// 2 MiB they take far more memory, and each page is cleared before its first byte is written.
fn refuse_huge_pages() {
    let (no_huge_pages, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: prctl(2) takes numbers here, and touches no memory of ours.
    unsafe {
        libc::prctl(
            libc::PR_SET_THP_DISABLE,
            no_huge_pages,
            unused,
            unused,
            unused,
        );
    }
}

/// Allows as many open files as the system lets us: the usual 1024 are fewer than the connections
/// a node is allowed.
fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a pointer to a valid `rlimit` on this stack, for their duration only.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if !raised {
        tracing::warn!("the limit of open files can't be raised");
    }
}
