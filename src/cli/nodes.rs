//! Running nodes: a whole network, or one role with its configuration.

use std::path::PathBuf;

use clap::Args;

use crate::roles::Role;
use crate::up::plan::BASE_PORT;

const UP_EXAMPLES: &str = "\
Examples:
  modcdn up
  modcdn up --upstream 'https://goproxy.cn,off' --regions eu,us
  modcdn up --upstream \"file://$(go env GOMODCACHE)/cache/download\"
  modcdn up --tls                    then: SSL_CERT_FILE=… GOPROXY=https://… go build
  modcdn up --json > network.json    one line when all is ready, for scripts

The upstream list is read as the go command reads GOPROXY: http(s):// and file:// URLs separated by
',' (goes on after a 404 or 410) or '|' (after any error), and the words off and direct (Git
repositories). Where `go env GOPROXY` ends in direct, it is left out: it would look for a repository
behind every module that a proxy doesn't have. With XDG_DATA_HOME set, data goes to
$XDG_DATA_HOME/modcdn.

Addresses (PORT is --port, default 8080; the others keep their distance from it):
  edges    127.0.0.11, .12, .13 …   http PORT, https PORT+363 (--tls), admin PORT+1000
  origin   127.0.0.10               http PORT, admin PORT+1000
  dns      127.0.0.10               udp and tcp PORT-27 (or --dns-port), admin PORT+973

Clients in 192.0.2.0/24, 198.51.100.0/24 and 203.0.113.0/24 are pinned to the first three regions:
  dig @127.0.0.10 -p 8053 go.test +subnet=198.51.100.0/24

The --json line:
  {\"goproxy\":URL,\"zone\":\"go.test.\",\"ca\":FILE or null,\"nodes\":[
    {\"role\":\"edge\",\"name\":\"eu\",\"pid\":N,\"urls\":[URL, …],\"admin\":\"ADDRESS:PORT\"}, …,
    {\"role\":\"origin\",\"name\":\"origin\",\"pid\":N,\"urls\":[URL],\"admin\":\"ADDRESS:PORT\"},
    {\"role\":\"dns\",\"name\":\"dns\",\"pid\":N,\"dns\":\"ADDRESS:PORT\",\"admin\":\"ADDRESS:PORT\"}]}

Exit codes:
  0  stopped by Ctrl-C or SIGTERM
  1  a port is taken, a node did not come up, or no node is left (--no-restart)
  2  wrong usage";

/// Flags of `up`.
#[derive(Clone, Debug, Args)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct UpArgs {
    /// Where modules come from: a GOPROXY list [default: what `go env GOPROXY` says]
    #[arg(long, value_name = "LIST")]
    pub(crate) upstream: Option<String>,

    /// The checksum database that vouches for modules, as in GOSUMDB, or off [default: that of `go env
    /// GOSUMDB`; off where all upstreams are folders]
    #[arg(long, value_name = "GOSUMDB")]
    pub(crate) sumdb: Option<String>,

    /// Regions, an edge each
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "eu,us,ap"
    )]
    pub(crate) regions: Vec<String>,

    /// Folder for caches, certificates and logs [default: ~/.local/share/modcdn]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Port of the edges; all other ports move with it
    #[arg(long, default_value_t = BASE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,

    /// Port of the DNS server, where it must be another one (53, say) [default: PORT-27]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) dns_port: Option<u16>,

    /// Serve https too, with certificates of a CA made for it
    #[arg(long)]
    pub(crate) tls: bool,

    /// Leave a node that died dead
    #[arg(long)]
    pub(crate) no_restart: bool,

    /// Print one line of JSON when all is ready, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

pub(super) const ROLE_NOTES: &str = "\
Every key has a default; config/ of the repository holds an example a role that names them all.
Logs go to stderr as JSON lines. SIGTERM and SIGINT stop the node gracefully: exit code 0.

Exit codes:
  0  stopped gracefully
  1  failed while running
  2  the configuration is wrong (FILE:line:column on stderr)";

/// Flags of a role.
#[derive(Clone, Debug, Args)]
#[command(after_help = ROLE_NOTES)]
pub(crate) struct RoleArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Flags of `edge`.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// Take over from the edge that runs with this file: no request fails, the old process ends
    #[arg(long)]
    pub(crate) upgrade: bool,
}

const CHECK_NOTES: &str = "\
The role is taken from --role, else from the file's name (edge.yaml, eu.edge.yaml, dns-2.yml),
else from the keys that the file uses.

Exit codes:
  0  the file is right
  2  it isn't: a line a problem on stderr, FILE:line:column: what is wrong";

/// Flags of `check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_NOTES)]
pub(crate) struct CheckArgs {
    /// Configuration file (YAML)
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// The role that it is for [default: found out]
    #[arg(long, value_enum)]
    pub(crate) role: Option<Role>,
}
