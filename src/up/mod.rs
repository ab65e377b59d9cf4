//! `modcdn up`: a whole network on this machine, one child process a node.
//!
//! The modules, in the order things happen:
//!
//! - [`upstream`]: where modules come from.
//! - [`regions`], [`plan`]: flags → nodes and addresses. Pure.
//! - [`ports`]: are the addresses free?
//! - [`folders`]: the data folder, and its lock.
//! - [`ca`]: certificates for `--tls`.
//! - [`token`]: who may purge.
//! - [`configs`]: plan → configuration files.
//! - [`child`], [`logs`]: a node's process and its log.
//! - [`ready`], [`backoff`], [`supervise`], [`stop`]: up, watched, and down again.
//! - [`report`]: what is printed once all is ready.

mod backoff;
mod ca;
mod child;
mod configs;
mod folders;
mod logs;
pub(crate) mod plan;
mod ports;
mod ready;
mod regions;
mod report;
mod stop;
mod supervise;
mod token;
mod upstream;

use std::env;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::cli::UpArgs;
use crate::failure::Failure;
use crate::terminal::{notice, print};
use crate::up::ca::Authority;
use crate::up::child::Program;
use crate::up::configs::Source;
use crate::up::folders::Folders;
use crate::up::plan::{Duty, EDGE_NAMES, Plan, Wish};
use crate::up::report::Report;
use crate::up::stop::{Stop, Stopper};
use crate::up::supervise::Started;
use crate::up::upstream::Chosen;

/// Ports tried for the hint after a taken one: `--port` + 100, + 200 …
const HINT_STEP: u16 = 100;
const HINT_TRIES: u16 = 20;

/// Runs a network until Ctrl-C or SIGTERM.
///
/// # Errors
/// The flags make no sense, something can't be started, or no node is left.
pub(crate) fn run(args: &UpArgs) -> Result<(), Failure> {
    // One thread, the main one: children die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::doing("starting", error))?;
    runtime.block_on(async {
        let (stopper, stop) =
            Stopper::install().map_err(|error| Failure::doing("listening for signals", error))?;
        tokio::select! {
            outcome = network(args, stop) => outcome,
            never = stopper.listen() => match never {},
        }
    })
}

async fn network(args: &UpArgs, mut stop: Stop) -> Result<(), Failure> {
    let wish = wish(args)?;
    let plan = Plan::new(&wish).map_err(Failure::Usage)?;
    let Chosen { upstream, sumdb } =
        upstream::choose(args.upstream.as_deref(), args.sumdb.as_deref()).await?;
    let listeners: Vec<_> = plan.nodes.iter().flat_map(plan::Node::listeners).collect();
    let ours: Vec<_> = listeners.iter().map(|(_, address)| *address).collect();
    upstream::refuse_loop(&upstream, &ours)?;

    let folders = Folders::open(&data(args)?)?;
    ports::wait_free(&plan)
        .await
        .map_err(|taken| Failure::Failed(with_hint(&taken, &wish)))?;
    let authority = authority(args.tls, &folders)?;
    token::ensure(&folders.purge_token())?;
    token::ensure(&folders.edge_token())?;
    let source = Source {
        plan: &plan,
        folders: &folders,
        upstream: &upstream,
        sumdb: &sumdb,
    };
    prepare(&source, authority.as_ref())?;

    let program = Program {
        binary: env::current_exe()
            .map_err(|error| Failure::doing("finding this program", error))?,
        folders: &folders,
    };
    let running = match supervise::start(&plan.nodes, &program, &mut stop).await? {
        Started::Ready(running) => running,
        Started::Stopped => return Ok(()),
    };
    let pids: Vec<_> = running.iter().map(|running| running.pid).collect();
    let report = Report {
        plan: &plan,
        pids: &pids,
        ca: authority.as_ref().map(Authority::certificate_file),
        upstream: &upstream.to_string(),
        logs: &folders.logs(),
        purge_token: &folders.purge_token(),
    };
    print(&if args.json {
        report.json()
    } else {
        report.table()
    });
    supervise::watch(running, &program, &stop, !args.no_restart).await
}

fn wish(args: &UpArgs) -> Result<Wish, Failure> {
    Ok(Wish {
        regions: regions::find(&args.regions).map_err(Failure::Usage)?,
        port: args.port,
        dns_port: args.dns_port,
        tls: args.tls,
    })
}

fn data(args: &UpArgs) -> Result<PathBuf, Failure> {
    match &args.data {
        Some(data) => Ok(data.clone()),
        None => folders::default_data(),
    }
}

/// Names a way out of a taken port: another `--port` with which all would be free.
fn with_hint(taken: &ports::Unavailable, wish: &Wish) -> String {
    if wish.dns_port == Some(taken.address.port()) {
        return format!("{taken}; choose another --dns-port");
    }
    let free = (1..=HINT_TRIES).find_map(|n| {
        let port = wish.port.checked_add(n * HINT_STEP)?;
        let plan = Plan::new(&Wish {
            port,
            ..wish.clone()
        })
        .ok()?;
        ports::check(&plan).is_ok().then_some(port)
    });
    match free {
        Some(port) => format!("{taken}; free it, or move all ports: --port {port}"),
        None => format!("{taken}; free it, or move all ports with --port"),
    }
}

fn authority(tls: bool, folders: &Folders) -> Result<Option<Authority>, Failure> {
    if !tls {
        return Ok(None);
    }
    Authority::open(&folders.ca(), now())
        .map(Some)
        .map_err(|error| Failure::Failed(error.to_string()))
}

fn now() -> ca::UnixTime {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Writes certificates and configurations, and sets large logs aside.
fn prepare(source: &Source<'_>, authority: Option<&Authority>) -> Result<(), Failure> {
    let folders = source.folders;
    for node in &source.plan.nodes {
        let leaf = match (&node.duty, authority) {
            (Duty::Edge { http, .. }, Some(authority)) => Some(
                authority
                    .leaf(http.ip(), &EDGE_NAMES, now())
                    .map_err(|error| Failure::Failed(error.to_string()))?,
            ),
            _ => None,
        };
        source.write(node, leaf.as_ref())?;
        for log in [folders.log(node.name), folders.access_log(node.name)] {
            if let Err(error) = logs::rotate(&log) {
                notice(format_args!("{}: {error}", log.display()));
            }
        }
    }
    Ok(())
}
