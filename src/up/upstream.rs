//! Where modules come from: `--upstream`, or else what the go command uses.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use modcdn_origin::UpstreamChain;
use tokio::process::Command;

use crate::failure::Failure;
use crate::terminal::notice;
use crate::up::plan::EDGE_NAMES;

/// `go env` answers within this time, or isn't working.
const GO_ENV_BOUND: Duration = Duration::from_secs(10);

const HINT: &str = "name an upstream, for example: --upstream https://goproxy.cn";

/// The chain that was asked for, or else the one that the machine's own go command uses.
///
/// Of the latter, a final `direct` is left out. Every go command has it in its list, and every
/// `go get` of a package below its module's root asks for modules that don't exist: `direct` can't
/// be asked yet, so each of these would be a failure (never a 404) and with it the whole command.
/// Who writes `direct` into `--upstream` gets it.
///
/// # Errors
/// It is no GOPROXY list, or none was asked for and there is no `go` to ask: the text names the
/// flag.
pub(crate) async fn choose(flag: Option<&str>) -> Result<UpstreamChain, Failure> {
    if let Some(list) = flag {
        return (list.parse()).map_err(|error| Failure::Usage(format!("--upstream: {error}")));
    }
    let list = of_go().await?;
    let chain: UpstreamChain = list
        .parse()
        .map_err(|error| Failure::Usage(format!("`go env GOPROXY`: {error}; {HINT}")))?;
    let Some(without_direct) = chain.without_direct() else {
        return Ok(chain);
    };
    notice(format_args!(
        "`go env GOPROXY` ends in direct, which comes with Git support: left out for now"
    ));
    Ok(without_direct)
}

async fn of_go() -> Result<String, Failure> {
    let output = Command::new("go")
        .args(["env", "GOPROXY"])
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
    let list = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || list.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::Usage(format!(
            "no --upstream, and `go env GOPROXY` failed ({}) {said}; {HINT}",
            output.status
        )));
    }
    Ok(list)
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
