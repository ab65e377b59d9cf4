//! The DNS role: running it, and what it needs before it runs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use modcdn_core::units::Period;
use modcdn_dns::config::Domain;
use modcdn_dns::dnssec::{Algorithm, Role};

use super::explaining::ReplayArgs;
use super::nodes::ROLE_NOTES;

/// Flags of `dns`: a configuration to run with, or one of its commands.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = ROLE_NOTES
)]
pub(crate) struct DnsArgs {
    /// Configuration file (YAML)
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) config: Option<PathBuf>,

    /// What to do instead of running.
    #[command(subcommand)]
    pub(crate) command: Option<DnsCommand>,
}

/// What can be done around a DNS server.
#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Make a key that signs a zone (DNSSEC), and print what its parent zone needs
    Keygen(KeygenArgs),
    /// Set or clear a TXT record on running servers, for certificates by DNS challenge (ACME DNS-01)
    #[command(subcommand)]
    Txt(TxtCommand),
    /// Show who would be led elsewhere by another configuration, from a query log
    Replay(ReplayArgs),
}

/// The admin listener of a DNS server with a default configuration.
pub(super) const DEFAULT_ADMIN: &str = "http://127.0.0.1:9053";

const KEYGEN_NOTES: &str = "\
Two files are made, and none is ever overwritten:
  K<zone>+<algorithm>+<tag>.pem   the private key (PKCS#8), readable by its owner alone
  K<zone>+<algorithm>+<tag>.key   the DNSKEY record

Name the first in the configuration (dnssec.keys), start the server, ask it for the zone's DNSKEY
records, and only then give the DS record to the parent zone: docs/dnssec.md.

The --json line:
  {\"zone\":NAME,\"algorithm\":N,\"tag\":N,\"flags\":N,\"file\":FILE,\"dnskey\":RECORD,\"ds\":RECORD or null}

Exit codes:
  0  the key is there
  1  a file can't be written, or is there already
  2  wrong usage";

/// Flags of `dns keygen`.
#[derive(Debug, Args)]
#[command(after_help = KEYGEN_NOTES)]
pub(crate) struct KeygenArgs {
    /// The zone that the key will sign
    #[arg(long, value_name = "NAME")]
    pub(crate) zone: Domain,

    /// The signature algorithm
    #[arg(long, value_enum, default_value = "ecdsa-p256")]
    pub(crate) algorithm: AlgorithmArg,

    /// The folder for the key's files
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,

    /// A key that signs only the zone's keys: its DS is what the parent holds
    #[arg(long, conflicts_with = "zsk")]
    pub(crate) ksk: bool,

    /// A key that signs everything but the zone's keys [default: one key for both]
    #[arg(long)]
    pub(crate) zsk: bool,

    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl KeygenArgs {
    /// What the key is for.
    pub(crate) fn role(&self) -> Role {
        match (self.ksk, self.zsk) {
            (true, _) => Role::Ksk,
            (_, true) => Role::Zsk,
            _ => Role::Csk,
        }
    }
}

/// Signature algorithms by the names typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AlgorithmArg {
    /// ECDSA with P-256 and SHA-256 (13): what every resolver validates
    EcdsaP256,
    /// Ed25519 (15): signatures are the same each time they are made
    Ed25519,
}

impl From<AlgorithmArg> for Algorithm {
    fn from(arg: AlgorithmArg) -> Self {
        match arg {
            AlgorithmArg::EcdsaP256 => Self::EcdsaP256,
            AlgorithmArg::Ed25519 => Self::Ed25519,
        }
    }
}

const TXT_NOTES: &str = "\
Examples:
  modcdn dns txt set _acme-challenge.go.example.com. VALUE --token-file t \\
    --admin http://ns1:9053 --admin http://ns2:9053
  modcdn dns txt clear _acme-challenge.go.example.com. --token-file t --admin http://ns1:9053

Every DNS server of the zone must be told: whoever issues the certificate may ask any of them. Several
values may stand at a name at once. The server's configuration says who may: dynamic.token_file.

The --json line:
  {\"servers\":[{\"admin\":URL,\"set\":{\"ends\":SECONDS SINCE 1970}}
               or {\"admin\":URL,\"cleared\":{\"values\":N}} or {\"admin\":URL,\"error\":TEXT}, ...]}

Exit codes:
  0  every server did it
  1  some server did not
  2  wrong usage";

/// What can be done to a TXT record.
#[derive(Debug, Subcommand)]
pub(crate) enum TxtCommand {
    /// Set a value at a name, beside those that are there
    Set(TxtSetArgs),
    /// Clear a value at a name, or all of them
    Clear(TxtClearArgs),
}

/// Flags of `dns txt set`.
#[derive(Debug, Args)]
#[command(after_help = TXT_NOTES)]
pub(crate) struct TxtSetArgs {
    /// The name, with a dot at its end
    pub(crate) name: Domain,

    /// The value
    pub(crate) value: String,

    /// How long it stays, such as 10m [default: as long as the server allows]
    #[arg(long, value_name = "DURATION")]
    pub(crate) lifetime: Option<Period>,

    #[command(flatten)]
    pub(crate) nodes: TxtNodes,
}

/// Flags of `dns txt clear`.
#[derive(Debug, Args)]
#[command(after_help = TXT_NOTES)]
pub(crate) struct TxtClearArgs {
    /// The name, with a dot at its end
    pub(crate) name: Domain,

    /// The value [default: every value that was set at the name]
    pub(crate) value: Option<String>,

    #[command(flatten)]
    pub(crate) nodes: TxtNodes,
}

/// Whom a change is for.
#[derive(Debug, Args)]
pub(crate) struct TxtNodes {
    /// Admin listener of a DNS server; may be given several times
    #[arg(long, value_name = "URL", default_value = DEFAULT_ADMIN)]
    pub(crate) admin: Vec<String>,

    /// File with the token
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,

    /// Print one line of JSON: what every server said
    #[arg(long)]
    pub(crate) json: bool,
}
