//! Where modules come from and who vouches for them: `--upstream` and `--sumdb`, or else what the go
//! command uses.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use modcdn_origin::UpstreamChain;
use modcdn_origin::config::SumDb;
use modcdn_origin::upstream::chain::Upstream;
use tokio::process::Command;

use crate::failure::Failure;
use crate::terminal::notice;
use crate::up::plan::EDGE_NAMES;

/// `go env` answers within this time, or isn't working.
const GO_ENV_BOUND: Duration = Duration::from_secs(10);

const HINT: &str = "name an upstream, for example: --upstream https://goproxy.cn";

/// What was chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) upstream: UpstreamChain,
    pub(crate) sumdb: SumDb,
}

/// What the machine's go command says of itself.
struct OfGo {
    proxy: String,
    /// Empty if it is too old to say.
    sumdb: String,
}

/// The chain that was asked for, or else the one that the machine's own go command uses; with its
/// checksum database.
///
/// Folders pass no database on, and hold what their owner put there: nobody vouches for it unless
/// asked for. Of the go command's own chain, a final `direct` is left out. Every go command has it in its list, and every
/// `go get` of a package below its module's root asks for modules that don't exist: for each of them
/// a repository would be fetched, and where none can be reached, that would be a failure (never a 404)
/// and with it the whole command. Who writes `direct` into `--upstream` gets it.
///
/// # Errors
/// It is no GOPROXY list, or none was asked for and there is no `go` to ask: the text names the
/// flag.
pub(crate) async fn choose(upstream: Option<&str>, sumdb: Option<&str>) -> Result<Chosen, Failure> {
    let (upstream, of_go) = match upstream {
        Some(list) => {
            let chain = list.parse();
            let chain = chain.map_err(|error| Failure::Usage(format!("--upstream: {error}")))?;
            (chain, None)
        }
        None => {
            let of_go = of_go().await?;
            (chain_of(&of_go.proxy)?, Some(of_go.sumdb))
        }
    };
    let sumdb = database(&upstream, sumdb, of_go.as_deref())?;
    Ok(Chosen { upstream, sumdb })
}

/// The go command's own chain.
fn chain_of(list: &str) -> Result<UpstreamChain, Failure> {
    let chain: UpstreamChain = list
        .parse()
        .map_err(|error| Failure::Usage(format!("`go env GOPROXY`: {error}; {HINT}")))?;
    let Some(without_direct) = chain.without_direct() else {
        return Ok(chain);
    };
    notice(format_args!(
        "`go env GOPROXY` ends in direct, which is left out: for Git repositories, write it into --upstream"
    ));
    Ok(without_direct)
}

/// Who vouches for what the chain gives.
fn database(
    upstream: &UpstreamChain,
    flag: Option<&str>,
    of_go: Option<&str>,
) -> Result<SumDb, Failure> {
    let usage = |what: &str, error: &str| Failure::Usage(format!("{what}: {error}"));
    if let Some(text) = flag {
        return SumDb::of_gosumdb(text).map_err(|error| usage("--sumdb", &error));
    }
    let is_remote = |upstream: &Upstream| matches!(upstream, Upstream::Http(_) | Upstream::Direct);
    if !upstream
        .links()
        .iter()
        .any(|link| is_remote(&link.upstream))
    {
        return Ok(SumDb::off());
    }
    match of_go {
        Some(text) if !text.is_empty() => {
            let read = SumDb::of_gosumdb(text);
            read.map_err(|error| usage("`go env GOSUMDB`", &format!("{error}; give --sumdb")))
        }
        _ => Ok(SumDb::default()),
    }
}

async fn of_go() -> Result<OfGo, Failure> {
    let output = Command::new("go")
        .args(["env", "GOPROXY", "GOSUMDB"])
        // Neither a go.mod of the working folder nor its toolchain line has a say.
        .current_dir("/")
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(GO_ENV_BOUND, output).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Err(Failure::Usage(format!(
                "no --upstream, and no go command to ask for its GOPROXY ({error}); {HINT}"
            )));
        }
        Err(_) => {
            return Err(Failure::Usage(format!(
                "no --upstream, and `go env GOPROXY` did not answer within {} s; {HINT}",
                GO_ENV_BOUND.as_secs()
            )));
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = said.lines().map(|line| line.trim().to_owned());
    let proxy = lines.next().unwrap_or_default();
    if !output.status.success() || proxy.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::Usage(format!(
            "no --upstream, and `go env GOPROXY` failed ({}) {said}; {HINT}",
            output.status
        )));
    }
    Ok(OfGo {
        proxy,
        sumdb: lines.next().unwrap_or_default(),
    })
}

/// Refuses an upstream list that leads back to this network: the origin would ask its own edges.
/// That happens to whoever runs `up` in the shell in which GOPROXY was exported already.
///
/// # Errors
/// A text that names the upstream.
pub(crate) fn refuse_loop(chain: &UpstreamChain, ours: &[SocketAddr]) -> Result<(), Failure> {
    let mut labels = chain.links().iter().map(|link| link.upstream.label());
    match labels.find(|label| is_ours(label, ours)) {
        Some(label) => Err(Failure::Usage(format!(
            "the upstream {label} is this network itself; {HINT}"
        ))),
        None => Ok(()),
    }
}

/// Whether `host` or `host:port` is one of our addresses or names.
fn is_ours(label: &str, ours: &[SocketAddr]) -> bool {
    let host = label.split(':').next().unwrap_or_default();
    if EDGE_NAMES.contains(&host) {
        return true;
    }
    ours.iter().any(|address| {
        // A label leaves out a scheme's own port.
        let bare = matches!(address.port(), 80 | 443) && label == address.ip().to_string();
        bare || label == address.to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_vouched_for_unless_they_come_from_folders() {
        let database = |chain: &str, flag, of_go| {
            let chosen = database(&chain.parse().unwrap(), flag, of_go);
            chosen.ok()
        };
        let (proxy, folder) = ("https://goproxy.cn,off", "file:///srv/tree");
        let pinned = Some(SumDb::default());
        let off = Some(SumDb::off());
        assert_eq!(database(proxy, None, None), pinned);
        assert_eq!(database(proxy, None, Some("")), pinned);
        assert_eq!(database(proxy, None, Some("off")), off);
        assert_eq!(database(proxy, Some("off"), None), off);
        assert_eq!(database(proxy, Some("sum.golang.org"), Some("off")), pinned);
        assert_eq!(database(folder, None, Some("sum.golang.org")), off);
        assert_eq!(database(folder, Some("sum.golang.org"), None), pinned);
        assert_eq!(database("direct", None, None), pinned);
        assert_eq!(database(proxy, Some("junk"), None), None);
        assert_eq!(database(proxy, None, Some("junk")), None);
    }

    #[test]
    fn an_upstream_that_leads_back_is_refused() {
        let ours = ["127.0.0.11:8080", "127.0.0.12:80"].map(|text| text.parse().unwrap());
        for list in [
            "http://127.0.0.11:8080",
            "https://goproxy.cn|https://u:p@127.0.0.11:8080/,off",
            "http://127.0.0.12/",
            "http://go.test:8080",
            "https://goproxy.cn,http://all.go.test",
        ] {
            let error = refuse_loop(&list.parse().unwrap(), &ours).unwrap_err();
            assert!(
                matches!(&error, Failure::Usage(text) if text.contains("--upstream")),
                "{list}"
            );
        }
        for list in [
            "https://goproxy.cn,direct",
            "http://127.0.0.11:9999",
            "http://127.0.0.11",
            "file:///127.0.0.11:8080",
            "https://cargo.test/",
            "off",
        ] {
            refuse_loop(&list.parse().unwrap(), &ours).unwrap();
        }
    }
}
