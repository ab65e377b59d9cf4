//! Talking to nodes that run, and using them.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

const PURGE_EXAMPLES: &str = "\
Examples:
  modcdn purge --token-file T example.com/m                 all of a module, on the edge of this machine
  modcdn purge --token-file T example.com/m@v1.0.0 --soft   one version: asked for anew before its next use
  modcdn purge --token-file T --admin 127.0.0.11:9080 --admin 127.0.0.12:9080 --prefix /github.com/acme
  modcdn purge --token-file T --origin 127.0.0.10:9080 example.com/m     every edge that follows this origin

A purged answer is gone at once: from RAM, from disk, and from fills that are running. --soft keeps
it, to stand in while the origin fails. FILE holds a token of the edges' purge.token_file; of
several lines the first one counts. With --origin the purge goes into the origin's purge log, and
every edge that follows it carries it out within seconds, or when it is back; FILE then holds a token
of the origin's purges.token_file.

Exit codes:
  0  every node that was asked did it
  1  some did not; each is named on stderr
  2  wrong usage";

/// Flags of `purge`.
#[derive(Clone, Debug, Args)]
#[command(after_help = PURGE_EXAMPLES)]
#[command(group(ArgGroup::new("what").required(true)))]
pub(crate) struct PurgeArgs {
    /// A module (list, @latest, every version), or one version of it
    #[arg(value_name = "MODULE[@VERSION]", group = "what")]
    pub(crate) module: Option<String>,

    /// Only in the mount with that prefix, such as /team-a/ [default: in all]
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["prefix", "key", "tag", "all"])]
    pub(crate) mount: Option<String>,

    /// Everything below a path, as it is asked for: /github.com/acme
    #[arg(long, value_name = "PATH", group = "what")]
    pub(crate) prefix: Option<String>,

    /// One path, with its query if it has one
    #[arg(long, value_name = "PATH", group = "what")]
    pub(crate) key: Option<String>,

    /// What the origin tagged so (Cache-Tag)
    #[arg(long, value_name = "TAG", group = "what")]
    pub(crate) tag: Option<String>,

    /// Everything
    #[arg(long, group = "what")]
    pub(crate) all: bool,

    /// Keep the answers, but ask the origin before each is used again
    #[arg(long)]
    pub(crate) soft: bool,

    /// Admin listener of an edge; may be given several times
    #[arg(long, value_name = "URL", default_value = DEFAULT_ADMIN)]
    pub(crate) admin: Vec<String>,

    /// Admin listener of an origin, in place of edges: through its log all of them hear of it
    #[arg(long, value_name = "URL", conflicts_with = "admin")]
    pub(crate) origin: Option<String>,

    /// File with the token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,

    /// Print one line of JSON: what every node said
    #[arg(long)]
    pub(crate) json: bool,
}

const CLIENT_EXAMPLES: &str = "\
Examples:
  modcdn client --url https://go.example.com
  modcdn client --url https://go.example.com --private corp.example/* --private github.com/corp
  modcdn client --url https://go.example.com --shell env >> .env

Exit codes:
  0  printed
  2  wrong usage";

/// Flags of `client`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CLIENT_EXAMPLES)]
pub(crate) struct ClientArgs {
    /// What is to stand in GOPROXY
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub(crate) url: String,

    /// Private modules, as GOPRIVATE has them; may be given several times
    #[arg(long, value_name = "PATTERN")]
    pub(crate) private: Vec<String>,

    /// Of which shell the environment's lines are
    #[arg(long, value_enum, default_value = "sh")]
    pub(crate) shell: Shell,
}

/// How a variable is put into the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// sh, bash, zsh
    Sh,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
    /// NAME=value, for env files and pipelines
    Env,
}

/// Where the first edge of `modcdn up` listens.
const DEFAULT_URL: &str = "http://127.0.0.11:8080";

const WARM_EXAMPLES: &str = "\
Examples:
  modcdn warm go.sum --url https://go.example.com
  modcdn warm go.mod example.com/m@v1.0.0 --url http://127.0.0.11:8080
  modcdn warm go.sum --url https://go.example.com --state warm.state   may be cut off and begun again

Asks for .mod, .info and .zip of every version, as a build will: of a go.sum the .mod alone where it has no
line of a zip, of a go.mod all that it requires. What go.sum has a hash of is hashed; nothing is kept. What fails is asked for
again twice.

--json prints a line a failure (with --dry-run, a line a path), and one at the end:
  {\"failed\":{\"path\":PATH,\"error\":TEXT}}
  {\"summary\":{\"warmed\":N,\"verified\":N,\"skipped\":N,\"failed\":N,\"bytes\":N,\"seconds\":S}}

Exit codes:
  0  all is warm
  1  something failed, or has another hash than go.sum says
  2  wrong usage, or a file that can't be read";

/// Flags of `warm`.
#[derive(Clone, Debug, Args)]
#[command(after_help = WARM_EXAMPLES)]
pub(crate) struct WarmArgs {
    /// Files named go.sum or go.mod, and versions
    #[arg(value_name = "go.sum|go.mod|MODULE@VERSION", required = true)]
    pub(crate) what: Vec<String>,

    /// The edge, or the origin, with the mount's path: what GOPROXY would be
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,

    /// Asked for at once [default: 16]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZero<usize>>,

    /// A file that remembers what is done
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,

    /// PEM certificates trusted beside the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Only show what would be asked for
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where an edge with its defaults can be purged.
const DEFAULT_ADMIN: &str = "http://127.0.0.1:9080";
