//! `modcdn dns txt set|clear`: asks the admin listeners of all DNS servers of a name, at once, and says
//! what each answered.

use modcdn_dns::dynamic::{Change, Changed, TXT_PATH};
use serde::Serialize;

use crate::admin::{self, Said};
use crate::cli::{TxtCommand, TxtNodes};
use crate::failure::Failure;

/// All that was said.
#[derive(Serialize)]
struct Line<'a> {
    servers: &'a [Said<'a, Changed>],
}

/// Changes a record, and prints a line for each server.
///
/// # Errors
/// There is no token, or some server did not do it.
pub(crate) fn run(command: &TxtCommand) -> Result<(), Failure> {
    let (change, nodes) = change(command);
    let body = serde_json::to_vec(&change).map_err(|error| Failure::doing("dns txt", error))?;
    let admins = nodes.admin.iter().map(String::as_str);
    let said = admin::post_all(admins, TXT_PATH, &nodes.token_file, &body.into(), |body| {
        serde_json::from_slice(body).map_err(|error| format!("not a DNS server's answer: {error}"))
    })?;
    let line = Line { servers: &said };
    let failed = admin::report(&said, nodes.json.then_some(&line), |changed| {
        words(*changed)
    })?;
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{failed} of {} servers did not: until all do, a challenge may fail",
        said.len()
    )))
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
        let good = Said::new("http://a:1", Ok(Changed::Cleared { values: 1 }));
        let bad = Said::new("http://b:1", Err("no".to_owned()));
        let line = serde_json::to_string(&Line {
            servers: &[good, bad],
        });
        assert_eq!(
            line.unwrap(),
            r#"{"servers":[{"admin":"http://a:1","cleared":{"values":1}},{"admin":"http://b:1","error":"no"}]}"#
        );
    }
}
