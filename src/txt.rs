//! `modcdn dns txt set|clear`: asks the admin listeners of all DNS servers of a name, at once, and says
//! what each answered.

use bytes::Bytes;
use futures::future::join_all;
use modcdn_core::bearer;
use modcdn_dns::dynamic::{Change, Changed, TXT_PATH};
use serde::Serialize;

use crate::admin;
use crate::cli::{TxtCommand, TxtNodes};
use crate::failure::Failure;
use crate::terminal::{error_lines, print};

/// What one server said.
#[derive(Serialize)]
struct Said<'a> {
    admin: &'a str,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    changed: Option<Changed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// All that was said.
#[derive(Serialize)]
struct Line<'a> {
    servers: &'a [Said<'a>],
}

/// Changes a record, and prints a line for each server.
///
/// # Errors
/// There is no token, or some server did not do it.
pub(crate) fn run(command: &TxtCommand) -> Result<(), Failure> {
    let (change, nodes) = change(command);
    let token = bearer::own(&nodes.token_file)
        .map_err(|error| Failure::Usage(format!("--token-file {error}")))?;
    let body = serde_json::to_vec(&change).map_err(|error| Failure::doing("dns txt", error))?;
    let body = Bytes::from(body);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::doing("starting", error))?;
    let asking = nodes
        .admin
        .iter()
        .map(|admin| said(admin, &token, body.clone()));
    let said = runtime.block_on(join_all(asking));
    report(&said, nodes.json)
}

fn change(command: &TxtCommand) -> (Change, &TxtNodes) {
    match command {
        TxtCommand::Set(args) => {
            let change = Change::Set {
                name: args.name.clone(),
                value: args.value.clone(),
                seconds: args.lifetime.map(|lifetime| lifetime.as_secs()),
            };
            (change, &args.nodes)
        }
        TxtCommand::Clear(args) => {
            let change = Change::Clear {
                name: args.name.clone(),
                value: args.value.clone(),
            };
            (change, &args.nodes)
        }
    }
}

async fn said<'a>(admin: &'a str, token: &str, body: Bytes) -> Said<'a> {
    let answer = admin::post(admin, TXT_PATH, token, body).await;
    let changed = answer.and_then(|body| {
        serde_json::from_slice(&body).map_err(|error| format!("not a DNS server's answer: {error}"))
    });
    let (changed, error) = match changed {
        Ok(changed) => (Some(changed), None),
        Err(error) => (None, Some(error)),
    };
    Said {
        admin,
        changed,
        error,
    }
}

fn report(said: &[Said<'_>], json: bool) -> Result<(), Failure> {
    if json {
        let line = serde_json::to_string(&Line { servers: said });
        print(&line.map_err(|error| Failure::doing("writing JSON", error))?);
    }
    for said in said {
        match (&said.changed, &said.error) {
            (Some(changed), _) if !json => print(&format!("{}: {}", said.admin, words(*changed))),
            (_, Some(error)) => error_lines(&format!("{}: {error}", said.admin)),
            _ => {}
        }
    }
    let failed = said.iter().filter(|said| said.error.is_some()).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{failed} of {} servers did not: until all do, a challenge may fail",
        said.len()
    )))
}

fn words(changed: Changed) -> String {
    match changed {
        Changed::Set { ends } => format!("set, until {}", until(ends)),
        Changed::Cleared { values: 0 } => "there was nothing to clear".to_owned(),
        Changed::Cleared { values: 1 } => "cleared".to_owned(),
        Changed::Cleared { values } => format!("cleared {values} values"),
    }
}

fn until(ends: u64) -> String {
    let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(ends);
    humantime::format_rfc3339_seconds(end).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_in_words() {
        assert_eq!(
            words(Changed::Set {
                ends: 1_700_000_000
            }),
            "set, until 2023-11-14T22:13:20Z"
        );
        assert!(words(Changed::Cleared { values: 0 }).contains("nothing"));
        assert_eq!(words(Changed::Cleared { values: 1 }), "cleared");
        assert!(words(Changed::Cleared { values: 2 }).contains("2 values"));
    }

    #[test]
    fn one_server_that_did_not_fails_the_command_and_is_in_the_json() {
        let good = Said {
            admin: "http://a:1",
            changed: Some(Changed::Cleared { values: 1 }),
            error: None,
        };
        let bad = Said {
            admin: "http://b:1",
            changed: None,
            error: Some("no".to_owned()),
        };
        let line = serde_json::to_string(&Line {
            servers: &[good, bad],
        });
        assert_eq!(
            line.unwrap(),
            r#"{"servers":[{"admin":"http://a:1","cleared":{"values":1}},{"admin":"http://b:1","error":"no"}]}"#
        );
    }
}
