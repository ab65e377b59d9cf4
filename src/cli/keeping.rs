//! An origin's store and policy, looked at and mended where they lie: no origin need run.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use modcdn_core::goproxy::Prefix;
use modcdn_core::units::{ByteSize, Period};

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
