//! `modcdn explain`: which PoP a client is led to, and why, from a DNS node or a configuration.

use std::path::Path;
use std::time::{Instant, SystemTime};

use modcdn_core::config;
use modcdn_dns::Offline;
use modcdn_dns::explain::{Asked, Explained, PATH, explain, table};
use modcdn_dns::steering::known::{Known, Sources};

use crate::admin;
use crate::cli::ExplainArgs;
use crate::failure::Failure;
use crate::terminal::print;

/// Explains on stdout.
///
/// # Errors
/// The node can't be asked, the configuration is wrong, or the name isn't steered.
pub(crate) fn run(args: &ExplainArgs) -> Result<(), Failure> {
    let asked = Asked {
        client: args.client,
        resolver: args.resolver,
        sends_subnet: !args.no_subnet,
        name: args.name.clone(),
    };
    let text = match &args.config {
        Some(file) => offline(file, args.known.sources(true), &asked, args.json)?,
        None => from_node(&args.url, &asked, args.json)?,
    };
    print(text.trim_end());
    Ok(())
}

fn from_node(url: &str, asked: &Asked, json: bool) -> Result<String, Failure> {
    let format = if json { "json" } else { "text" };
    let path = format!("{PATH}?{}&format={format}", asked.query());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::doing("starting", error))?;
    let body = runtime
        .block_on(admin::get(url, &path))
        .map_err(|error| Failure::doing(url, error))?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn offline(
    file: &Path,
    sources: Sources<'_>,
    asked: &Asked,
    json: bool,
) -> Result<String, Failure> {
    let config: modcdn_dns::Config = config::load(file)?;
    let known = known(&config, sources)?;
    let made = made(file, &config, &known)?;
    let explained = explain(&made.zones, &made.map, asked, Instant::now())
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let explained = Explained {
        known: Some(made.account),
        ..explained
    };
    if json {
        serde_json::to_string(&explained).map_err(|error| Failure::doing("writing JSON", error))
    } else {
        Ok(table(&explained))
    }
}

/// What a node of this configuration knew.
///
/// # Errors
/// The file of samples that was named can't be used.
pub(crate) fn known(config: &modcdn_dns::Config, sources: Sources<'_>) -> Result<Known, Failure> {
    Known::read(config, sources, SystemTime::now())
        .map_err(|error| Failure::doing("--samples", error))
}

/// What a configuration comes to.
///
/// # Errors
/// It makes no sense, or a file that it names can't be used.
pub(crate) fn made(
    file: &Path,
    config: &modcdn_dns::Config,
    known: &Known,
) -> Result<Offline, Failure> {
    modcdn_dns::offline(config, known)
        .map_err(|error| Failure::Config(format!("{}: {error}", file.display())))
}
