//! The DNS role: running it, and what it needs before it runs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use modcdn_dns::config::Domain;
use modcdn_dns::dnssec::{Algorithm, Role};

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
}

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
