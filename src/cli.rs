//! What can be typed, and the help text.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use modcdn_core::goproxy::Prefix;
use modcdn_core::units::{ByteSize, Period};

use crate::roles::Role;
use crate::up::plan::BASE_PORT;

const ABOUT: &str = "A content delivery network for Go modules that you run yourself";

const EXAMPLES: &str = "\
Examples:
  modcdn up                                    a whole network on this machine
  modcdn up --upstream https://goproxy.cn      the same, with modules from there
  modcdn check /etc/modcdn/edge.yaml           is this file right?
  modcdn edge --config /etc/modcdn/edge.yaml   run one node
  modcdn purge example.com/m@v1.0.0            an edge forgets it
  modcdn client --url https://go.example.com   what developers set

Exit codes:
  0  all went well; also after Ctrl-C or SIGTERM
  1  something failed while running; the reason is on stderr
  2  wrong usage, or a wrong configuration file (FILE:line:column on stderr)

Environment:
  MODCDN_LOG   log filter of a node: error, warn, info (default), debug, or per module";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "modcdn", version, about = ABOUT, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole network on this machine: one origin, an edge a region, and DNS
    Up(UpArgs),
    /// Run an origin: the only role that talks to the outside
    Origin(RoleArgs),
    /// Run an edge: the cache that `go` talks to
    Edge(EdgeArgs),
    /// Run a DNS server: leads every client to its nearest healthy edge
    Dns(RoleArgs),
    /// Check a configuration file without running anything
    Check(CheckArgs),
    /// Take modules out of edges' caches, or have edges ask for them anew
    Purge(PurgeArgs),
    /// Ask what an origin's policy makes of a module
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print what a developer or a CI job sets to get modules from here
    Client(ClientArgs),
    /// Prove again what is in an origin's store, and set aside what is wrong
    Verify(VerifyArgs),
    /// Take a module cache of `go`, or an Athens' disk store, into an origin's store
    Import(ImportArgs),
    /// Remove from an origin's store what its bounds make go, or show it
    Retention(RetentionArgs),
    /// Ask an edge or an origin for all that a build will ask for
    Warm(WarmArgs),
}

/// What can be asked of a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Explain which rule decides about a version, from which facts
    Test(PolicyTestArgs),
}

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

const ROLE_NOTES: &str = "\
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

const POLICY_TEST_EXAMPLES: &str = "\
Examples:
  modcdn policy test --config /etc/modcdn/origin.yaml example.com/m@v1.2.3
  modcdn policy test --config new.yaml --age 3days example.com/m@v1.2.3     as if it were so old

Nobody is asked: what the origin stored and saw is read from its folder. An age that isn't known there
counts as none, which an origin that can ask the checksum database may know better.

Exit codes:
  0  the version is allowed
  1  something failed while looking
  2  wrong usage, or a wrong configuration file (FILE:line:column on stderr)
  3  the version is blocked";

/// Flags of `policy test`.
#[derive(Clone, Debug, Args)]
#[command(after_help = POLICY_TEST_EXAMPLES)]
pub(crate) struct PolicyTestArgs {
    /// A version of a module
    #[arg(value_name = "MODULE@VERSION")]
    pub(crate) version: String,

    /// The origin's configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// The mount whose policy is asked
    #[arg(long, value_name = "PREFIX", default_value = "/")]
    pub(crate) mount: String,

    /// Take the version to be so old: 3days, 12h
    #[arg(long, value_name = "TIME")]
    pub(crate) age: Option<Period>,

    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const VERIFY_EXAMPLES: &str = "\
Examples:
  modcdn verify --config /etc/modcdn/origin.yaml         every mount's part, on disk or in a bucket
  modcdn verify \"$(go env GOMODCACHE)/cache/download\"   any tree, nothing is written
  modcdn verify --config origin.yaml --fix --rate 50MiB  set aside what is wrong; at most 50 MiB a second

Of every body: its sum, and whether it is what its name says; of a zip the rules of modules' zips, its
h1 against its .ziphash, and its go.mod against the one beside it; of zips and go.mods the hash that the
checksum database proved to the origin. Nobody is asked without --sumdb. --fix moves what is wrong to
.quarantine/ in the store, with its reason; an origin fetches it anew. It may run beside an origin.

--json prints a line a wrong body, and one at the end:
  {\"bad\":{\"mount\":\"/\",\"place\":PLACE,\"wrong\":KIND,\"text\":TEXT,\"quarantined\":false}}
  {\"summary\":{\"checked\":N,\"bytes\":N,\"unsummed\":N,\"proven\":N,\"unproven\":N,
              \"bad\":N,\"quarantined\":N,\"unreadable\":N}}

Exit codes:
  0  all is right
  1  something is wrong
  2  wrong usage, or the store can't be opened or listed";

/// Flags of `verify`.
#[derive(Clone, Debug, Args)]
#[command(after_help = VERIFY_EXAMPLES)]
#[command(group(ArgGroup::new("store").required(true)))]
pub(crate) struct VerifyArgs {
    /// A GOPROXY tree
    #[arg(value_name = "DIR", group = "store")]
    pub(crate) dir: Option<PathBuf>,

    /// An origin's configuration: its store, every mount
    #[arg(long, value_name = "FILE", group = "store")]
    pub(crate) config: Option<PathBuf>,

    /// Move what is wrong to .quarantine/
    #[arg(long)]
    pub(crate) fix: bool,

    /// Ask the checksum database for what it hasn't proven to the origin so far
    #[arg(long, requires = "config")]
    pub(crate) sumdb: bool,

    /// Bodies checked at once [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZero<usize>>,

    /// Most bytes read in a second, such as 50MiB [default: no bound]
    #[arg(long, value_name = "SIZE")]
    pub(crate) rate: Option<ByteSize>,

    /// Print lines of JSON
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

const IMPORT_EXAMPLES: &str = "\
Examples:
  modcdn import \"$(go env GOMODCACHE)\" --config /etc/modcdn/origin.yaml
  modcdn import /var/lib/athens --config origin.yaml --mount /team-a/
  modcdn import /mnt/old/cache/download --store /var/lib/modcdn/origin --link

Every file is judged before it is taken, as an origin judges what it fetches; a zip of a module cache
must hash to its .ziphash. A file that is stored already is passed over, so an import that was cut off
can be begun again; where another one is stored, that stays. It may run beside an origin.

--json prints a line a file that isn't taken, and one at the end:
  {\"refused\":{\"file\":PATH,\"text\":TEXT}}
  {\"summary\":{\"taken\":N,\"taken_bytes\":N,\"present\":N,\"refused\":N}}

Exit codes:
  0  all of it is in the store
  1  some files were not taken
  2  wrong usage, or nothing can be taken at all";

/// Flags of `import`.
#[derive(Clone, Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
#[command(group(ArgGroup::new("into").required(true)))]
pub(crate) struct ImportArgs {
    /// GOMODCACHE, its cache/download, any GOPROXY tree, or an Athens' disk store
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,

    /// An origin's configuration: into its store
    #[arg(long, value_name = "FILE", group = "into")]
    pub(crate) config: Option<PathBuf>,

    /// Into a GOPROXY tree; made if need be
    #[arg(long, value_name = "DIR", group = "into")]
    pub(crate) store: Option<PathBuf>,

    /// The mount that gets it
    #[arg(long, value_name = "PREFIX", default_value = "/")]
    pub(crate) mount: Prefix,

    /// Hard links instead of copies, where that can be
    #[arg(long)]
    pub(crate) link: bool,

    /// Files taken at once [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZero<usize>>,

    /// Print lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const RETENTION_NOTES: &str = "\
The bounds are those of mounts[].retention in the configuration; an origin that runs does this by
itself now and then. It may run beside one. --dry-run removes nothing.

--json prints a line a version that goes, and one a mount at the end:
  {\"removed\":{\"mount\":\"/\",\"module\":M,\"version\":V,\"why\":\"age|idle|size\",\"bytes\":N,
              \"stored\":SECONDS AGO,\"used\":SECONDS AGO}}
  {\"summary\":{\"mount\":\"/\",\"versions\":N,\"bytes\":N,\"removed\":N,\"removed_bytes\":N, …}}

Exit codes:
  0  done
  1  some versions can't be removed
  2  wrong usage or configuration, or the store can't be listed";

/// Flags of `retention`.
#[derive(Clone, Debug, Args)]
#[command(after_help = RETENTION_NOTES)]
pub(crate) struct RetentionArgs {
    /// An origin's configuration
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,

    /// Only show what would go
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print lines of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn help(subcommand: &str) -> String {
        let mut cli = Cli::command();
        cli.find_subcommand_mut(subcommand)
            .unwrap()
            .render_long_help()
            .to_string()
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_every_command_and_exit_code() {
        let help = Cli::command().render_help().to_string();
        for line in [
            "Start a whole network on this machine",
            "Run an origin",
            "Run an edge",
            "Run a DNS server",
            "Check a configuration file",
            "Take modules out of edges' caches",
            "Ask what an origin's policy",
            "Print what a developer",
            "Prove again what is in an origin's store",
            "Take a module cache of `go`, or an Athens' disk store",
            "Remove from an origin's store what its bounds make go",
            "Ask an edge or an origin for all that a build will ask for",
            "  0  all went well",
            "  1  something failed",
            "  2  wrong usage",
        ] {
            assert!(help.contains(line), "no {line:?} in:\n{help}");
        }
    }

    #[test]
    fn help_of_up_names_every_flag_with_its_default() {
        let help = help("up");
        for text in [
            "--upstream <LIST>",
            "[default: what `go env GOPROXY` says]",
            "--sumdb <GOSUMDB>",
            "--regions <NAMES>",
            "[default: eu,us,ap]",
            "--data <DIR>",
            "~/.local/share/modcdn",
            "--port <PORT>",
            "[default: 8080]",
            "--dns-port <PORT>",
            "--tls",
            "--no-restart",
            "--json",
            "{\"goproxy\":URL,\"zone\":\"go.test.\"",
        ] {
            assert!(help.contains(text), "no {text:?} in:\n{help}");
        }
    }

    #[test]
    fn up_without_flags_means_three_regions_on_8080() {
        let cli = Cli::try_parse_from(["modcdn", "up"]).unwrap();
        let Command::Up(args) = cli.command else {
            panic!("not up")
        };
        assert_eq!(args.regions, ["eu", "us", "ap"]);
        assert_eq!(args.port, 8080);
        assert!(!args.tls && !args.json && !args.no_restart);
    }

    #[test]
    fn a_purge_selects_in_exactly_one_way() {
        let parse = |flags: &[&str]| {
            let fixed = ["modcdn", "purge", "--token-file", "t"];
            Cli::try_parse_from(fixed.iter().chain(flags)).is_ok()
        };
        assert!(parse(&["a.b/m@v1.0.0"]) && parse(&["--all", "--soft", "--json"]));
        assert!(!parse(&[]) && !parse(&["--soft"]));
        assert!(parse(&["--all", "--origin", "o:1"]));
        assert!(!parse(&["--all", "--origin", "o:1", "--admin", "e:1"]));
        assert!(parse(&["a.b/m", "--mount", "/team-a/"]) && !parse(&["--all", "--mount", "/a/"]));
        assert!(!parse(&["a.b/m", "--all"]) && !parse(&["--tag", "x", "--key", "/y"]));
    }

    #[test]
    fn port_0_is_refused() {
        assert!(Cli::try_parse_from(["modcdn", "up", "--port", "0"]).is_err());
    }
}
