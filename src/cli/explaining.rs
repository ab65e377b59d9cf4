//! Asking where clients are led, and where they would be.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  modcdn explain 203.0.113.9                                   asks the DNS node of this machine
  modcdn explain 203.0.113.9 --url http://ns1:9053 --json
  modcdn explain 203.0.113.9 --resolver 198.51.100.53          as asked through a resolver that sends the subnet
  modcdn explain 203.0.113.9 --resolver 198.51.100.53 --no-subnet     through one that doesn't
  modcdn explain 203.0.113.9 --config dns.yaml                 from a file: every PoP up, nothing measured

Shown are the answer, for whom and how long it holds, what decided, and of every PoP the score with what it
is made of: milliseconds by distance, what is known of the client's network, what was measured from its own
prefix. The PoPs answered have a star. TXT why.NAME says the same to whoever asks it.

--json prints one line: {\"name\":NAME,\"addresses\":[…],\"ttl\":SECONDS,\"map\":VERSION,\"answer\":…,\"source\":…,
\"scope\":BITS,\"candidates\":[{\"pop\":…,\"state\":…,\"load\":…,\"score\":{…}}, …], …}

Exit codes:
  0  explained
  1  the node can't be asked, or has no answer
  2  wrong usage or configuration";

/// Flags of `explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
#[command(group(ArgGroup::new("from")))]
pub(crate) struct ExplainArgs {
    /// The client's address
    #[arg(value_name = "IP")]
    pub(crate) client: IpAddr,

    /// The resolver that asks for it [default: the client itself]
    #[arg(long, value_name = "IP")]
    pub(crate) resolver: Option<IpAddr>,

    /// The resolver doesn't send the client's subnet
    #[arg(long)]
    pub(crate) no_subnet: bool,

    /// The steered name [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Admin listener of a DNS node
    #[arg(long, value_name = "URL", default_value = super::steering::DEFAULT_ADMIN, group = "from")]
    pub(crate) url: String,

    /// A DNS node's configuration, in place of a node that runs
    #[arg(long, value_name = "FILE", group = "from")]
    pub(crate) config: Option<PathBuf>,

    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  modcdn dns replay access.log --config dns.yaml --map new.yaml
  zcat access.log.*.gz | modcdn dns replay - --config dns.yaml --map new.yaml --json
  modcdn dns replay access.log --config dns.yaml --map new.yaml --most 5     a check before a reload

LOG is a DNS node's access log (access_log; a line of a sample stands for several queries). Every client in
it is led by both configurations, with every PoP up and nothing measured; nobody is asked. Shown is who would
be led elsewhere: from where to where, by country, the most asked first, and the change of the estimated round
trip, where below zero is nearer.

--json prints one line: {\"lines\":N,\"queries\":N,\"askers\":N,\"moved\":{\"queries\":N,\"askers\":N,\"change_ms\":MS},
\"by_pop\":[{\"from\":POP,\"to\":POP,…}],\"by_country\":[…],\"top\":[…],…}

Exit codes:
  0  replayed
  1  the log can't be read
  2  wrong usage, or a wrong configuration file (FILE:line:column on stderr)
  3  more than --most percent of the queries would move";

/// Flags of `dns replay`.
#[derive(Clone, Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// An access log, or - for stdin
    #[arg(value_name = "LOG")]
    pub(crate) log: PathBuf,

    /// The configuration in use
    #[arg(long, value_name = "OLD")]
    pub(crate) config: PathBuf,

    /// The configuration to come
    #[arg(long, value_name = "NEW")]
    pub(crate) map: PathBuf,

    /// Askers that are listed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) top: usize,

    /// The part of the queries that may move, in percent
    #[arg(long, value_name = "PERCENT")]
    pub(crate) most: Option<f64>,

    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}
