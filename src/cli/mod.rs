//! What can be typed, and the help text: [`nodes`] runs, [`serving`] talks to what runs, [`keeping`]
//! works on an origin's files, [`steering`] is DNS.

mod explaining;
mod keeping;
mod nodes;
mod serving;
mod steering;

use clap::{Parser, Subcommand};

pub(crate) use self::explaining::{ExplainArgs, ReplayArgs};
pub(crate) use self::keeping::{ImportArgs, PolicyTestArgs, RetentionArgs, VerifyArgs};
pub(crate) use self::nodes::{CheckArgs, EdgeArgs, RoleArgs, UpArgs};
pub(crate) use self::serving::{ClientArgs, PurgeArgs, Shell, WarmArgs};
pub(crate) use self::steering::{DnsArgs, DnsCommand, KeygenArgs, TxtCommand, TxtNodes};

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
    Dns(DnsArgs),
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
    /// Explain which PoP a client is led to, and why
    Explain(ExplainArgs),
}

/// What can be asked of a policy.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Explain which rule decides about a version, from which facts
    Test(PolicyTestArgs),
}

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
            "Explain which PoP a client is led to",
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
    fn dns_takes_a_configuration_or_a_command() {
        let parse = |flags: &[&str]| {
            let fixed = ["modcdn", "dns"];
            Cli::try_parse_from(fixed.iter().chain(flags)).is_ok()
        };
        assert!(parse(&["--config", "dns.yaml"]));
        assert!(parse(&["keygen", "--zone", "go.test."]));
        assert!(!parse(&[]) && !parse(&["keygen", "--zone", "go.test"]));
        assert!(!parse(&[
            "--config", "dns.yaml", "keygen", "--zone", "go.test."
        ]));
        assert!(!parse(&["keygen", "--zone", "go.test.", "--ksk", "--zsk"]));
        let name = "_acme-challenge.go.test.";
        assert!(parse(&[
            "txt",
            "set",
            name,
            "v",
            "--token-file",
            "t",
            "--lifetime",
            "5m"
        ]));
        assert!(parse(&["txt", "clear", name, "--token-file", "t"]));
        assert!(!parse(&["txt", "set", name, "--token-file", "t"]));
        assert!(!parse(&[
            "txt",
            "clear",
            "_acme-challenge",
            "--token-file",
            "t"
        ]));
        assert!(!parse(&["txt", "clear", name]));
    }

    #[test]
    fn port_0_is_refused() {
        assert!(Cli::try_parse_from(["modcdn", "up", "--port", "0"]).is_err());
    }
}
