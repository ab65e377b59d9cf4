//! `modcdn`: one binary for every role.
//!
//! Arguments come in here and an exit code goes out; the roles themselves are libraries
//! (`modcdn-origin`, `modcdn-edge`, `modcdn-dns`). The modules, in the order they are met:
//!
//! - [`cli`]: what can be typed, and the help text.
//! - [`failure`]: every way to end other than well, with its exit code.
//! - [`terminal`]: what is said on stdout and stderr.
//! - [`roles`]: `modcdn origin|edge|dns --config FILE`.
//! - [`check`]: `modcdn check FILE`.
//! - [`policy`]: `modcdn policy test`.
//! - [`client`]: `modcdn client`.
//! - [`explain`], [`replay`]: `modcdn explain` and `modcdn dns replay`: where clients are led, and would be.
//! - [`purge`]: `modcdn purge`, for the admin listeners of edges.
//! - [`verify`], [`import`], [`retention`]: `modcdn verify|import|retention`, for an origin's store.
//! - [`warm`]: `modcdn warm`, for edges and origins before a build.
//! - [`keygen`]: `modcdn dns keygen`, a key that signs a zone; [`txt`]: `modcdn dns txt`, records that
//!   come and go.
//! - [`admin`]: what they and [`purge`] talk to admin listeners with.
//! - [`bar`]: how far these have come.
//! - [`up`]: `modcdn up`, a whole network on one machine.

mod admin;
mod bar;
mod check;
mod cli;
mod client;
mod explain;
mod failure;
mod import;
mod keygen;
mod policy;
mod purge;
mod replay;
mod retention;
mod roles;
mod terminal;
mod txt;
mod up;
mod verify;
mod warm;

use std::process::ExitCode;

use clap::Parser;
use modcdn_edge::Start;

use crate::cli::{Cli, Command, DnsArgs, DnsCommand, PolicyCommand};
use crate::failure::Failure;

/// A hit allocates a dozen small blocks and frees them on the same thread: glibc's allocator took
/// an eighth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First of all: a library that finds no provider installed would choose one of its own.
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        return Failure::Failed("another TLS provider was installed first".to_owned()).report();
    }
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(&args),
        Command::Origin(args) => roles::run(roles::Role::Origin, &args.config),
        Command::Edge(args) => {
            let start = if args.upgrade {
                Start::Upgrade
            } else {
                Start::Fresh
            };
            roles::run_edge(&args.config, start)
        }
        Command::Dns(args) => dns(&args),
        Command::Check(args) => check::run(&args.file, args.role),
        Command::Purge(args) => purge::run(&args),
        Command::Policy(PolicyCommand::Test(args)) => policy::test(&args),
        Command::Client(args) => client::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Retention(args) => retention::run(&args),
        Command::Warm(args) => warm::run(&args),
        Command::Explain(args) => explain::run(&args),
    }
}

fn dns(args: &DnsArgs) -> Result<(), Failure> {
    match (&args.command, &args.config) {
        (Some(DnsCommand::Keygen(args)), _) => keygen::run(args),
        (Some(DnsCommand::Txt(command)), _) => txt::run(command),
        (Some(DnsCommand::Replay(args)), _) => replay::run(args),
        (None, Some(config)) => roles::run(roles::Role::Dns, config),
        (None, None) => Err(Failure::Usage("--config FILE is needed to run".to_owned())),
    }
}
