//! Asking where clients are led, and where they would be.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use modcdn_dns::steering::known::Sources;

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  modcdn explain 203.0.113.9                                   asks the DNS node of this machine
  modcdn explain 203.0.113.9 --url http://ns1:9053 --json
  modcdn explain 203.0.113.9 --resolver 198.51.100.53          as asked through a resolver that sends the subnet
  modcdn explain 203.0.113.9 --resolver 198.51.100.53 --no-subnet     through one that doesn't
  modcdn explain 203.0.113.9 --config dns.yaml                 from a file, and what its node kept in state.dir
  modcdn explain 203.0.113.9 --config dns.yaml --samples rtt.jsonl    with round trips from another file
  modcdn explain 203.0.113.9 --config dns.yaml --without-state        every PoP up, nothing measured

Shown are the answer, for whom and how long it holds, what decided, and of every PoP the score with what it
is made of: milliseconds by distance, what is known of the client's network, what was measured from its own
prefix. The PoPs answered have a star. TXT why.NAME says the same to whoever asks it.

With --config a map is made of the file and of what a node of this file kept (state.dir, which is only read):
the states of PoPs, the round trips, and where clients belong, unless --samples is given. What was used, and how
old it is, is shown; what can't be read is left out and said. Loads aren't kept: a node that sheds may answer
otherwise.

--json prints one line: {\"name\":NAME,\"addresses\":[…],\"ttl\":SECONDS,\"map\":VERSION,\"answer\":…,\"source\":…,
\"scope\":BITS,\"candidates\":[{\"pop\":…,\"state\":…,\"load\":…,\"score\":{…}}, …], …}; with --config also
\"known\":{\"states\":FROM,\"not_up\":{POP:STATE},\"samples\":FROM,\"measured\":N,\"newest_seconds\":SECONDS,
\"homes\":FROM}, where FROM is {\"file\":{\"path\":FILE,\"age_seconds\":SECONDS}} or {\"none\":WHY}, and \"map\" is 0

Exit codes:
  0  explained
  1  the node can't be asked, or has no answer; FILE of --samples can't be used
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

    #[command(flatten)]
    pub(crate) known: KnownArgs,

    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What counts besides a configuration.
#[derive(Clone, Debug, Args)]
pub(crate) struct KnownArgs {
    /// Round trips, in place of those in state.dir: reports, one a line (docs/dns-reports.md), or a
    /// node's file `samples`; aged until the newest of them
    #[arg(long, value_name = "FILE", requires = "config")]
    samples: Option<PathBuf>,

    /// Leave out what the node kept in state.dir: every PoP is up unless the configuration drains it
    #[arg(long, requires = "config")]
    without_state: bool,
}

impl KnownArgs {
    /// What is to be read; `homes`: where clients belong, too.
    pub(crate) fn sources(&self, homes: bool) -> Sources<'_> {
        Sources {
            state: !self.without_state,
            samples: self.samples.as_deref(),
            homes,
        }
    }
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  modcdn dns replay access.log --config dns.yaml --map new.yaml
  zcat access.log.*.gz | modcdn dns replay - --config dns.yaml --map new.yaml --json
  modcdn dns replay access.log --config dns.yaml --map new.yaml --most 5     a check before a reload
  modcdn dns replay access.log --config dns.yaml --map new.yaml --samples rtt.jsonl

LOG is a DNS node's access log (access_log; a line of a sample stands for several queries). Every client in
it is led by both configurations; nobody is asked. Shown is who would be led elsewhere: from where to where, by
country, the most asked first, and the change of the expected round trip, where below zero is nearer.

Both maps are made of what the node in use kept in the state.dir of OLD, which is only read: the states of PoPs
and the round trips; what was used, and how old it is, stands at the top. Each leads every client to its best: a
node moves clients step by step (steering.windows, moves_per_minute) to where this says. Loads aren't kept.

--json prints one line: {\"known\":{\"old\":…,\"new\":…},\"lines\":N,\"queries\":N,\"askers\":N,
\"moved\":{\"queries\":N,\"askers\":N,\"estimated\":N,\"measured\":N,\"change_ms\":MS},
\"by_pop\":[{\"from\":POP,\"to\":POP,…}],\"by_country\":[…],\"top\":[…],…}; \"known\" as `modcdn explain` has it

Exit codes:
  0  replayed
  1  the log or FILE can't be read, or the log has no query that both configurations steer
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

    #[command(flatten)]
    pub(crate) known: KnownArgs,

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
