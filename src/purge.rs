//! `modcdn purge`: asks the admin listeners of edges, all at once, or the one of an origin, whose log
//! edges follow, and says what each answered.

use modcdn_core::purge::log::{PURGES_PATH, Position};
use modcdn_core::purge::{Mode, Purge, PurgeError, Selector};
use modcdn_edge::engine::purge::Purged;
use serde::Serialize;

use crate::admin::{self, Said};
use crate::cli::PurgeArgs;
use crate::failure::Failure;

/// Whom a purge is for.
#[derive(Clone, Copy)]
enum Node {
    Edge,
    Origin,
}

/// A node's good answer.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
enum Done {
    /// An edge has forgotten.
    Purged(Purged),
    /// An origin has written it down for the edges.
    Logged(Position),
}

/// All that was said, under the name of who said it.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line<'a> {
    Edges(&'a [Said<'a, Done>]),
    Origins(&'a [Said<'a, Done>]),
}

/// Purges, and prints a line for each node.
///
/// # Errors
/// The purge makes no sense, there is no token, or some node did not do it.
pub(crate) fn run(args: &PurgeArgs) -> Result<(), Failure> {
    let purge = purge(args).map_err(|error| Failure::Usage(error.to_string()))?;
    let body = serde_json::to_vec(&purge).map_err(|error| Failure::doing("purging", error))?;
    let (node, admins) = match &args.origin {
        Some(origin) => (Node::Origin, std::slice::from_ref(origin)),
        None => (Node::Edge, args.admin.as_slice()),
    };
    let admins = admins.iter().map(String::as_str);
    let said = admin::post_all(
        admins,
        node.path(),
        &args.token_file,
        &body.into(),
        |body| node.done(body),
    )?;
    let line = match node {
        Node::Edge => Line::Edges(&said),
        Node::Origin => Line::Origins(&said),
    };
    let failed = admin::report(&said, args.json.then_some(&line), |done| words(*done))?;
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{failed} of {} nodes did not purge",
        said.len()
    )))
}

fn purge(args: &PurgeArgs) -> Result<Purge, PurgeError> {
    let selector = if let Some(module) = &args.module {
        match module.split_once('@') {
            Some((module, version)) => Selector::version(module, version),
            None => Selector::module(module),
        }
    } else if let Some(prefix) = &args.prefix {
        Selector::prefix(prefix)
    } else if let Some(key) = &args.key {
        Selector::key(key)
    } else if let Some(tag) = &args.tag {
        Selector::tag(tag)
    } else {
        Ok(Selector::All)
    }?;
    let selector = match &args.mount {
        Some(mount) => selector.in_mount(mount)?,
        None => selector,
    };
    let mode = if args.soft { Mode::Soft } else { Mode::Hard };
    Ok(Purge { selector, mode })
}

impl Node {
    fn path(self) -> &'static str {
        match self {
            Self::Edge => "/purge",
            Self::Origin => PURGES_PATH,
        }
    }

    fn done(self, body: &[u8]) -> Result<Done, String> {
        match self {
            Self::Edge => serde_json::from_slice(body)
                .map(Done::Purged)
                .map_err(|error| format!("not an edge's answer: {error}")),
            Self::Origin => serde_json::from_slice(body)
                .map(Done::Logged)
                .map_err(|error| format!("not an origin's answer: {error}")),
        }
    }
}

fn words(done: Done) -> String {
    let purged = match done {
        Done::Purged(purged) => purged,
        Done::Logged(Position { seq, .. }) => {
            return format!("told to every edge that follows this origin (number {seq})");
        }
    };
    let mut words = format!("purged (number {}", purged.epoch);
    if purged.fills > 0 {
        words += &format!(", {} running fills left to their readers", purged.fills);
    }
    if !purged.durable {
        words += ", but its disk has not taken it yet: say it again if it restarts before";
    }
    words + ")"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_that_a_crash_would_undo_says_so() {
        let purged = Purged {
            epoch: 3,
            fills: 0,
            durable: true,
        };
        assert_eq!(words(Done::Purged(purged)), "purged (number 3)");
        let lost = Purged {
            durable: false,
            ..purged
        };
        assert!(words(Done::Purged(lost)).contains("say it again"));
    }
}
